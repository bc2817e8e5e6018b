"""Attribution methods, one paper per file; importing this package registers them."""

from attrib.methods.cam import CAM
from attrib.methods.deconvnet import Deconvnet
from attrib.methods.gradcam import GradCAM
from attrib.methods.guided import GuidedBackprop
from attrib.methods.guided_gradcam import GuidedGradCAM
from attrib.methods.input_x_gradient import InputXGradient
from attrib.methods.occlusion import Occlusion
from attrib.methods.rise import RISE
from attrib.methods.saliency import Saliency

__all__ = [
    "CAM",
    "RISE",
    "Deconvnet",
    "GradCAM",
    "GuidedBackprop",
    "GuidedGradCAM",
    "InputXGradient",
    "Occlusion",
    "Saliency",
]
