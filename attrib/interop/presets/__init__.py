"""Captum's methods under plain names, with defaults for images; importing this package registers them.

Some of the classes have Captum's own names, so they are not public names of `attrib`: use ``METHODS["lime"]``, or
``from attrib.interop.presets import Lime``. What they do not name goes to Captum as it is, see `FromCaptum`.
"""

from attrib.interop.presets.contributions import DeepLift, DeepLiftShap
from attrib.interop.presets.noise import SmoothGrad, SmoothGradSquared, VarGrad
from attrib.interop.presets.paths import GradientShap, IntegratedGradients
from attrib.interop.presets.regions import FeatureAblation, ShapleySampling
from attrib.interop.presets.regressions import KernelShap, Lime
from attrib.interop.presets.relevance import LRP

__all__ = [
    "LRP",
    "DeepLift",
    "DeepLiftShap",
    "FeatureAblation",
    "GradientShap",
    "IntegratedGradients",
    "KernelShap",
    "Lime",
    "ShapleySampling",
    "SmoothGrad",
    "SmoothGradSquared",
    "VarGrad",
]
