"""attrib: explain what convolutional networks look at, and prove how good each explanation is."""

from attrib.core import (
    Attribution,
    Channel,
    ClassScore,
    Custom,
    Neuron,
    Objective,
    Predicted,
    frozen,
    layer_table,
)
from attrib.methods import Deconvnet, GradCAM, GuidedBackprop, GuidedGradCAM, InputXGradient, Occlusion, Saliency
from attrib.registry import METHODS, METRICS

__version__ = "0.1.0"
