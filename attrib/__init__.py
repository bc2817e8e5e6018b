"""attrib: explain what convolutional networks look at, and prove how good each explanation is.

Every public name loads when it is first used, so that importing attrib, and the command line's help, take no time.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from attrib.analysis import object_context, occlusion_maps
    from attrib.core import (
        Attribution,
        Box,
        Channel,
        ClassMaps,
        ClassScore,
        Custom,
        Label,
        Neuron,
        Objective,
        Predicted,
        Region,
        Similarity,
        Token,
        attribute_all,
        class_maps,
        coverage,
        explain_plan,
        frozen,
        layer_table,
    )
    from attrib.io import load_image, load_model
    from attrib.methods import (
        CAM,
        RISE,
        AblationCAM,
        AttentionRollout,
        Deconvnet,
        EigenCAM,
        ExcitationBackprop,
        ExtremalPerturbation,
        FullGrad,
        Fused,
        GradCAM,
        GradCAMPlusPlus,
        GradientAttention,
        GuidedBackprop,
        GuidedGradCAM,
        HiResCAM,
        InputXGradient,
        LayerCAM,
        MeaningfulPerturbation,
        Occlusion,
        Saliency,
        ScoreCAM,
        XGradCAM,
    )
    from attrib.metrics import Protocol
    from attrib.registry import METHODS, METRICS
    from attrib.study import Study, StudyResult, load_study
    from attrib.tasks import compare, estimate, explain

__version__ = "0.1.0"

__all__ = [
    "CAM",
    "METHODS",
    "METRICS",
    "RISE",
    "AblationCAM",
    "AttentionRollout",
    "Attribution",
    "Box",
    "Channel",
    "ClassMaps",
    "ClassScore",
    "Custom",
    "Deconvnet",
    "EigenCAM",
    "ExcitationBackprop",
    "ExtremalPerturbation",
    "FullGrad",
    "Fused",
    "GradCAM",
    "GradCAMPlusPlus",
    "GradientAttention",
    "GuidedBackprop",
    "GuidedGradCAM",
    "HiResCAM",
    "InputXGradient",
    "Label",
    "LayerCAM",
    "MeaningfulPerturbation",
    "Neuron",
    "Objective",
    "Occlusion",
    "Predicted",
    "Protocol",
    "Region",
    "Saliency",
    "ScoreCAM",
    "Similarity",
    "Study",
    "StudyResult",
    "Token",
    "XGradCAM",
    "attribute_all",
    "class_maps",
    "compare",
    "coverage",
    "estimate",
    "explain",
    "explain_plan",
    "frozen",
    "layer_table",
    "load_image",
    "load_model",
    "load_study",
    "object_context",
    "occlusion_maps",
]

_HOMES = {
    "attrib.analysis": ("object_context", "occlusion_maps"),
    "attrib.core": (
        "Attribution",
        "Box",
        "Channel",
        "ClassMaps",
        "ClassScore",
        "Custom",
        "Label",
        "Neuron",
        "Objective",
        "Predicted",
        "Region",
        "Similarity",
        "Token",
        "attribute_all",
        "class_maps",
        "coverage",
        "explain_plan",
        "frozen",
        "layer_table",
    ),
    "attrib.io": ("load_image", "load_model"),
    "attrib.methods": (
        "CAM",
        "RISE",
        "AblationCAM",
        "AttentionRollout",
        "Deconvnet",
        "EigenCAM",
        "ExcitationBackprop",
        "ExtremalPerturbation",
        "FullGrad",
        "Fused",
        "GradCAM",
        "GradCAMPlusPlus",
        "GradientAttention",
        "GuidedBackprop",
        "GuidedGradCAM",
        "HiResCAM",
        "InputXGradient",
        "LayerCAM",
        "MeaningfulPerturbation",
        "Occlusion",
        "Saliency",
        "ScoreCAM",
        "XGradCAM",
    ),
    "attrib.metrics": ("Protocol",),
    "attrib.registry": ("METHODS", "METRICS"),
    "attrib.study": ("Study", "StudyResult", "load_study"),
    "attrib.tasks": ("compare", "estimate", "explain"),
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}
_PARTS = frozenset(
    {
        "analysis",
        "benchmark",
        "core",
        "errors",
        "interop",
        "io",
        "methods",
        "metrics",
        "models",
        "plot",
        "registry",
        "report",
        "study",
    }
)


def __getattr__(name: str) -> object:
    if name in _PARTS:
        return import_module(f"attrib.{name}")
    if name not in _HOME:
        raise AttributeError(f"module 'attrib' has no attribute {name!r}")
    value: object = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_PARTS})
