"""Mechanisms: what is asked, where, and how the model is run to answer. No paper is mentioned here."""

from attrib.core.attribution import Attribution, coverage
from attrib.core.backward.rules import Coverage, Switch, deconv, guided, rules
from attrib.core.classmaps import ClassMaps, class_maps
from attrib.core.incremental.report import LayerPlan, PlanReport, explain_plan
from attrib.core.layer_map import LayerMap
from attrib.core.masking.baseline import Baseline, gaussian_blur, resolve_baseline
from attrib.core.masking.masks import Given, LocalMasks, Masks, Ranked, Windows
from attrib.core.masking.options import SweepOptions
from attrib.core.network.auto import auto_layer
from attrib.core.network.capture import capture
from attrib.core.network.cost import Cost, Deviation, count
from attrib.core.network.frozen import frozen
from attrib.core.network.geometry import Layout, Reshape
from attrib.core.network.layers import layer_table, resolve, unwrap
from attrib.core.objectives.detection import Box
from attrib.core.objectives.each import Each
from attrib.core.objectives.objective import ClassScore, Custom, Objective, Output, Predicted
from attrib.core.objectives.outputs import Label, Region, Similarity
from attrib.core.objectives.targets import as_objective
from attrib.core.objectives.units import Channel, Neuron
from attrib.core.objectives.words import Token
from attrib.core.query import Clean, Query
from attrib.core.relevance.attention import attending
from attrib.core.shared import Backward, Gradient, Recorded
from attrib.core.sweeps.perturb import sweep
from attrib.core.together import attribute_all

__all__ = [
    "Attribution",
    "Backward",
    "Baseline",
    "Box",
    "Channel",
    "ClassMaps",
    "ClassScore",
    "Clean",
    "Cost",
    "Coverage",
    "Custom",
    "Deviation",
    "Each",
    "Given",
    "Gradient",
    "Label",
    "LayerMap",
    "LayerPlan",
    "Layout",
    "LocalMasks",
    "Masks",
    "Neuron",
    "Objective",
    "Output",
    "PlanReport",
    "Predicted",
    "Query",
    "Ranked",
    "Recorded",
    "Region",
    "Reshape",
    "Similarity",
    "SweepOptions",
    "Switch",
    "Token",
    "Windows",
    "as_objective",
    "attending",
    "attribute_all",
    "auto_layer",
    "capture",
    "class_maps",
    "count",
    "coverage",
    "deconv",
    "explain_plan",
    "frozen",
    "gaussian_blur",
    "guided",
    "layer_table",
    "resolve",
    "resolve_baseline",
    "rules",
    "sweep",
    "unwrap",
]
