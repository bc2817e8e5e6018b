"""Metrics: one number per example, with its direction and protocol; importing this package registers them."""

from attrib.metrics.asking import AskingMetric
from attrib.metrics.average_drop import AverageDrop, AverageGain, IncreaseInConfidence, ThroughMap
from attrib.metrics.base import Metric
from attrib.metrics.complexity import Descriptor, Entropy, Sparseness
from attrib.metrics.curves import curves
from attrib.metrics.deletion import SRG, CurveMetric, Deletion, Insertion, LeRF, MoRF
from attrib.metrics.energy import Energy
from attrib.metrics.infidelity import Infidelity, RawInfidelity
from attrib.metrics.irof import IROF
from attrib.metrics.masked import MaskMetric
from attrib.metrics.mufidelity import MuFidelity
from attrib.metrics.overlap import IoU, IoUArea, iou_curve
from attrib.metrics.pointing import Pointing
from attrib.metrics.protocol import Protocol, as_protocol
from attrib.metrics.ranked import PixelAUC, RankAccuracy
from attrib.metrics.readings import Curve, Curves
from attrib.metrics.road import ROAD, RoadLerf, RoadMetric, RoadMorf
from attrib.metrics.sensitivity_n import SensitivityN

__all__ = [
    "IROF",
    "ROAD",
    "SRG",
    "AskingMetric",
    "AverageDrop",
    "AverageGain",
    "Curve",
    "CurveMetric",
    "Curves",
    "Deletion",
    "Descriptor",
    "Energy",
    "Entropy",
    "IncreaseInConfidence",
    "Infidelity",
    "Insertion",
    "IoU",
    "IoUArea",
    "LeRF",
    "MaskMetric",
    "Metric",
    "MoRF",
    "MuFidelity",
    "PixelAUC",
    "Pointing",
    "Protocol",
    "RankAccuracy",
    "RawInfidelity",
    "RoadLerf",
    "RoadMetric",
    "RoadMorf",
    "SensitivityN",
    "Sparseness",
    "ThroughMap",
    "as_protocol",
    "curves",
    "iou_curve",
]
