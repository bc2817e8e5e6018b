"""Looking at a network and its pictures beyond one map: what occlusion changes, objects against their context."""

from attrib.analysis.agreement import Agreement, agreement
from attrib.analysis.context import ObjectContext, object_context
from attrib.analysis.correspondence import correspondence, sign_distances
from attrib.analysis.correspondence_result import Correspondence
from attrib.analysis.occlusion import CleanValues, OcclusionMaps, PixelMaps, occlusion_maps
from attrib.analysis.pooling import LayerFeatures, Pooling, layer_features
from attrib.analysis.probe_fits import LeastSquares, LinearProbe, Probe, Softmax
from attrib.analysis.probe_splits import Fold, Shots, Split, Stratified
from attrib.analysis.probe_table import LayerProbes, ProbeScore
from attrib.analysis.probes import probe_features, probe_layers
from attrib.analysis.segment import Segmentation, segment
from attrib.analysis.training import TrainingWatch, evolution
from attrib.analysis.training_result import Evolution, Jump

__all__ = [
    "Agreement",
    "CleanValues",
    "Correspondence",
    "Evolution",
    "Fold",
    "Jump",
    "LayerFeatures",
    "LayerProbes",
    "LeastSquares",
    "LinearProbe",
    "ObjectContext",
    "OcclusionMaps",
    "PixelMaps",
    "Pooling",
    "Probe",
    "ProbeScore",
    "Segmentation",
    "Shots",
    "Softmax",
    "Split",
    "Stratified",
    "TrainingWatch",
    "agreement",
    "correspondence",
    "evolution",
    "layer_features",
    "object_context",
    "occlusion_maps",
    "probe_features",
    "probe_layers",
    "segment",
    "sign_distances",
]
