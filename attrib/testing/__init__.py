"""The public contract: does a method keep the promises of `Attribution`? Authors of plug-ins run it on theirs."""

from attrib.testing.contract import Check, assert_attribution, check_attribution

__all__ = ["Check", "assert_attribution", "check_attribution"]
