"""Attribution methods, one paper per file; importing this package registers them."""

from attrib.methods.ablationcam import AblationCAM
from attrib.methods.attention_rollout import AttentionRollout
from attrib.methods.cam import CAM
from attrib.methods.deconvnet import Deconvnet
from attrib.methods.eigencam import EigenCAM
from attrib.methods.excitation_backprop import ExcitationBackprop
from attrib.methods.extremal_perturbation import ExtremalPerturbation
from attrib.methods.fullgrad import FullGrad
from attrib.methods.fused import Fused
from attrib.methods.gradcam import GradCAM
from attrib.methods.gradcam_plusplus import GradCAMPlusPlus
from attrib.methods.gradient_attention import GradientAttention
from attrib.methods.guided import GuidedBackprop
from attrib.methods.guided_gradcam import GuidedGradCAM
from attrib.methods.hirescam import HiResCAM
from attrib.methods.input_x_gradient import InputXGradient
from attrib.methods.layercam import LayerCAM
from attrib.methods.meaningful_perturbation import MeaningfulPerturbation
from attrib.methods.occlusion import Occlusion
from attrib.methods.rise import RISE
from attrib.methods.saliency import Saliency
from attrib.methods.scorecam import ScoreCAM
from attrib.methods.xgradcam import XGradCAM

__all__ = [
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
]
