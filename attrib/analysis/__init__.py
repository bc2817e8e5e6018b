"""Looking at a network and its pictures beyond one map: what occlusion changes, objects against their context."""

from attrib.analysis.ablation import AblationTable, fit, train_and_tabulate
from attrib.analysis.agreement import Agreement, agreement
from attrib.analysis.bank import Bank, feature_bank, load_bank
from attrib.analysis.context import ObjectContext, object_context
from attrib.analysis.correspondence import correspondence, sign_distances
from attrib.analysis.correspondence_result import Correspondence
from attrib.analysis.diagnosis import FilterDiagnosis, Thresholds, diagnose_filters
from attrib.analysis.embedding import Embedding, grid_places, pca, tsne
from attrib.analysis.filters import FilterGrid, filter_grid
from attrib.analysis.fires import Firing, firing
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
from attrib.analysis.invariance import Invariance, invariance
from attrib.analysis.kernels import Kernels, Spectrum, read_kernels
from attrib.analysis.neighbours import Neighbours, nearest
from attrib.analysis.occlusion import CleanValues, OcclusionMaps, PixelMaps, occlusion_maps
from attrib.analysis.patches import TopPatches, top_patches
from attrib.analysis.pooling import LayerFeatures, Pooling, layer_features
from attrib.analysis.probe_fits import LeastSquares, LinearProbe, Probe, Softmax
from attrib.analysis.probe_splits import Fold, Shots, Split, Stratified
from attrib.analysis.probe_table import LayerProbes, ProbeScore
from attrib.analysis.probes import probe_features, probe_layers
from attrib.analysis.segment import Segmentation, segment
from attrib.analysis.top_activations import TopActivations, top_activations
from attrib.analysis.training import TrainingWatch, evolution
from attrib.analysis.training_result import Evolution, Jump
from attrib.core.receptive import ReceptiveField, receptive_field

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
