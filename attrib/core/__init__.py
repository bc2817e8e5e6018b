"""Mechanisms: what is asked, where, and how the model is run to answer. No paper is mentioned here."""

from attrib.core.attention import attending
from attrib.core.attribution import Attribution, coverage, frozen
from attrib.core.baseline import Baseline, gaussian_blur, resolve_baseline
from attrib.core.capture import capture
from attrib.core.classmaps import ClassMaps, class_maps
from attrib.core.cost import Cost, Deviation, count
from attrib.core.detection import Box
from attrib.core.each import Each
from attrib.core.geometry import Layout, Reshape
from attrib.core.incremental.report import LayerPlan, PlanReport, explain_plan
from attrib.core.layer_map import LayerMap
from attrib.core.layers import auto_layer, layer_table, resolve, unwrap
from attrib.core.masks import Given, LocalMasks, Masks, Ranked, Windows
from attrib.core.objective import ClassScore, Custom, Objective, Output, Predicted
from attrib.core.options import SweepOptions
from attrib.core.outputs import Label, Region, Similarity
from attrib.core.perturb import sweep
from attrib.core.query import Clean, Query
from attrib.core.rules import Coverage, Switch, deconv, guided, rules
from attrib.core.shared import Backward, Gradient, Recorded
from attrib.core.targets import as_objective
from attrib.core.together import attribute_all
from attrib.core.units import Channel, Neuron
from attrib.core.words import Token

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
