"""The public contracts: does a method, or a metric, keep its promises? Authors of plug-ins run them on theirs."""

from attrib.testing.contract import Check, assert_attribution, check_attribution
from attrib.testing.metric import assert_metric, check_metric

__all__ = ["Check", "assert_attribution", "assert_metric", "check_attribution", "check_metric"]
