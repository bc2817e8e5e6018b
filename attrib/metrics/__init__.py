"""Metrics: one number per example, with its direction and protocol; importing this package registers them."""

from attrib.metrics.base import Metric
from attrib.metrics.complexity import Descriptor, Entropy, Sparseness
from attrib.metrics.curves import curves
from attrib.metrics.deletion import SRG, CurveMetric, Deletion, Insertion, LeRF, MoRF
from attrib.metrics.energy import Energy
from attrib.metrics.masked import MaskMetric
from attrib.metrics.overlap import IoU, IoUArea, iou_curve
from attrib.metrics.pointing import Pointing
from attrib.metrics.protocol import Protocol, as_protocol
from attrib.metrics.ranked import PixelAUC, RankAccuracy
from attrib.metrics.readings import Curve, Curves

__all__ = [
    "SRG",
    "Curve",
    "CurveMetric",
    "Curves",
    "Deletion",
    "Descriptor",
    "Energy",
    "Entropy",
    "Insertion",
    "IoU",
    "IoUArea",
    "LeRF",
    "MaskMetric",
    "Metric",
    "MoRF",
    "PixelAUC",
    "Pointing",
    "Protocol",
    "RankAccuracy",
    "Sparseness",
    "as_protocol",
    "curves",
    "iou_curve",
]
