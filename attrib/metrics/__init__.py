"""Metrics: one number per example, with its direction and protocol; importing this package registers them."""

from attrib.metrics.base import Metric
from attrib.metrics.curves import curves
from attrib.metrics.deletion import SRG, CurveMetric, Deletion, Insertion, LeRF, MoRF
from attrib.metrics.protocol import Protocol, as_protocol
from attrib.metrics.readings import Curve, Curves

__all__ = [
    "SRG",
    "Curve",
    "CurveMetric",
    "Curves",
    "Deletion",
    "Insertion",
    "LeRF",
    "Metric",
    "MoRF",
    "Protocol",
    "as_protocol",
    "curves",
]
