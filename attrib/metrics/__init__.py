"""Metrics: one number per example, with its direction and protocol; importing this package registers them."""

from attrib.metrics.again import Again, MethodMetric
from attrib.metrics.asking import AskingMetric
from attrib.metrics.average_drop import AverageDrop, AverageGain, IncreaseInConfidence, ThroughMap
from attrib.metrics.base import Metric
from attrib.metrics.completeness import Completeness
from attrib.metrics.complexity import Descriptor, Entropy, Sparseness
from attrib.metrics.curves import curves
from attrib.metrics.deletion import SRG, CurveMetric, Deletion, Insertion, LeRF, MoRF
from attrib.metrics.energy import Energy
from attrib.metrics.infidelity import Infidelity, RawInfidelity
from attrib.metrics.input_shift import InputShift
from attrib.metrics.irof import IROF
from attrib.metrics.masked import MaskMetric
from attrib.metrics.mufidelity import MuFidelity
from attrib.metrics.overlap import IoU, IoUArea, iou_curve
from attrib.metrics.pointing import Pointing
from attrib.metrics.protocol import Protocol, as_protocol
from attrib.metrics.random_logit import RandomLogit
from attrib.metrics.randomisation import ModelRandomisation, RandomisationCurve, randomisation_curve
from attrib.metrics.ranked import PixelAUC, RankAccuracy
from attrib.metrics.readings import Curve, Curves
from attrib.metrics.reproducibility import Reproducibility
from attrib.metrics.road import ROAD, RoadLerf, RoadMetric, RoadMorf
from attrib.metrics.sensitivity import AverageSensitivity, LocalLipschitz, MaxSensitivity, NeighbourMetric
from attrib.metrics.sensitivity_n import SensitivityN

__all__ = [
    "IROF",
    "ROAD",
    "SRG",
    "Again",
    "AskingMetric",
    "AverageDrop",
    "AverageGain",
    "AverageSensitivity",
    "Completeness",
    "Curve",
    "CurveMetric",
    "Curves",
    "Deletion",
    "Descriptor",
    "Energy",
    "Entropy",
    "IncreaseInConfidence",
    "Infidelity",
    "InputShift",
    "Insertion",
    "IoU",
    "IoUArea",
    "LeRF",
    "LocalLipschitz",
    "MaskMetric",
    "MaxSensitivity",
    "MethodMetric",
    "Metric",
    "MoRF",
    "ModelRandomisation",
    "MuFidelity",
    "NeighbourMetric",
    "PixelAUC",
    "Pointing",
    "Protocol",
    "RandomLogit",
    "RandomisationCurve",
    "RankAccuracy",
    "RawInfidelity",
    "Reproducibility",
    "RoadLerf",
    "RoadMetric",
    "RoadMorf",
    "SensitivityN",
    "Sparseness",
    "ThroughMap",
    "as_protocol",
    "curves",
    "iou_curve",
    "randomisation_curve",
]
