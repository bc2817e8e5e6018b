"""attrib: explain what convolutional networks look at, and prove how good each explanation is.

The mechanisms and methods load at once; what needs more (images, metrics, figures) loads when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from attrib.core import (
    Attribution,
    Channel,
    ClassScore,
    Custom,
    Neuron,
    Objective,
    Predicted,
    coverage,
    frozen,
    layer_table,
)
from attrib.methods import Deconvnet, GradCAM, GuidedBackprop, GuidedGradCAM, InputXGradient, Occlusion, Saliency
from attrib.registry import METHODS, METRICS

if TYPE_CHECKING:
    from attrib.io import load_image, load_model
    from attrib.metrics import Protocol
    from attrib.tasks import compare, explain

__version__ = "0.1.0"

__all__ = [
    "METHODS",
    "METRICS",
    "Attribution",
    "Channel",
    "ClassScore",
    "Custom",
    "Deconvnet",
    "GradCAM",
    "GuidedBackprop",
    "GuidedGradCAM",
    "InputXGradient",
    "Neuron",
    "Objective",
    "Occlusion",
    "Predicted",
    "Protocol",
    "Saliency",
    "compare",
    "coverage",
    "explain",
    "frozen",
    "layer_table",
    "load_image",
    "load_model",
]

_LAZY = {
    "Protocol": "attrib.metrics",
    "compare": "attrib.tasks",
    "explain": "attrib.tasks",
    "load_image": "attrib.io",
    "load_model": "attrib.io",
}


def __getattr__(name: str) -> object:
    if name not in _LAZY:
        raise AttributeError(f"module 'attrib' has no attribute {name!r}")
    value: object = getattr(import_module(_LAZY[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
