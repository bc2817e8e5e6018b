"""Looking at a network and its pictures beyond one map: what occlusion changes, objects against their context."""

from attrib.analysis.features.bank import Bank, feature_bank, load_bank
from attrib.analysis.features.embedding import Embedding, grid_places, pca, tsne
from attrib.analysis.features.neighbours import Neighbours, nearest
from attrib.analysis.filters.diagnosis import FilterDiagnosis, Thresholds, diagnose_filters
from attrib.analysis.filters.grid import FilterGrid, filter_grid
from attrib.analysis.filters.kernels import Kernels, Spectrum, read_kernels
from attrib.analysis.hog import (
    DictionaryInverter,
    Fidelity,
    HOGViews,
    Inverter,
    RidgeInverter,
    fit_dictionary,
    fit_ridge,
    see_hog,
)
from attrib.analysis.moved.invariance import Invariance, invariance
from attrib.analysis.occlusion.context import ObjectContext, object_context
from attrib.analysis.occlusion.maps import CleanValues, OcclusionMaps, PixelMaps, occlusion_maps
from attrib.analysis.parts.correspondence import correspondence, sign_distances
from attrib.analysis.parts.result import Correspondence
from attrib.analysis.patches.firing import Firing, firing
from attrib.analysis.patches.patches import TopPatches, top_patches
from attrib.analysis.patches.top_activations import TopActivations, top_activations
from attrib.analysis.probes.fits import LeastSquares, LinearProbe, Probe, Softmax
from attrib.analysis.probes.pooling import LayerFeatures, Pooling, layer_features
from attrib.analysis.probes.probes import probe_features, probe_layers
from attrib.analysis.probes.splits import Fold, Shots, Split, Stratified
from attrib.analysis.probes.table import LayerProbes, ProbeScore
from attrib.analysis.segments.agreement import Agreement, agreement
from attrib.analysis.segments.segment import Segmentation, segment
from attrib.analysis.training.ablation import AblationTable, fit, train_and_tabulate
from attrib.analysis.training.result import Evolution, Jump
from attrib.analysis.training.training import TrainingWatch, evolution
from attrib.core.receptive.field import ReceptiveField, receptive_field

__all__ = [
    "AblationTable",
    "Agreement",
    "Bank",
    "CleanValues",
    "Correspondence",
    "DictionaryInverter",
    "Embedding",
    "Evolution",
    "Fidelity",
    "FilterDiagnosis",
    "FilterGrid",
    "Firing",
    "Fold",
    "HOGViews",
    "Invariance",
    "Inverter",
    "Jump",
    "Kernels",
    "LayerFeatures",
    "LayerProbes",
    "LeastSquares",
    "LinearProbe",
    "Neighbours",
    "ObjectContext",
    "OcclusionMaps",
    "PixelMaps",
    "Pooling",
    "Probe",
    "ProbeScore",
    "ReceptiveField",
    "RidgeInverter",
    "Segmentation",
    "Shots",
    "Softmax",
    "Spectrum",
    "Split",
    "Stratified",
    "Thresholds",
    "TopActivations",
    "TopPatches",
    "TrainingWatch",
    "agreement",
    "correspondence",
    "diagnose_filters",
    "evolution",
    "feature_bank",
    "filter_grid",
    "firing",
    "fit",
    "fit_dictionary",
    "fit_ridge",
    "grid_places",
    "invariance",
    "layer_features",
    "load_bank",
    "nearest",
    "object_context",
    "occlusion_maps",
    "pca",
    "probe_features",
    "probe_layers",
    "read_kernels",
    "receptive_field",
    "see_hog",
    "segment",
    "sign_distances",
    "top_activations",
    "top_patches",
    "train_and_tabulate",
    "tsne",
]
