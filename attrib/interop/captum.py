"""Captum, both directions.

Away from Captum: change ``from captum.attr import Saliency`` to ``from attrib.interop.captum import Saliency``; the
classes here have Captum's names, signatures and return shapes. Towards attrib: `from_captum` makes a Captum method one
of ours. And for maps that go back to Captum's tools: `like_input` for its metrics, `to_hwc` for its figures.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from attrib.core.reduce import upsample
from attrib.errors import ShapeError
from attrib.interop.gradcam import GuidedGradCam, LayerGradCam
from attrib.interop.gradients import (
    Deconvolution,
    GuidedBackprop,
    InputXGradient,
    NeuronDeconvolution,
    NeuronGuidedBackprop,
    Saliency,
)
from attrib.interop.occlusion import Occlusion
from attrib.interop.wrapped import FromCaptum, from_captum

__all__ = [
    "Deconvolution",
    "FromCaptum",
    "GuidedBackprop",
    "GuidedGradCam",
    "InputXGradient",
    "LayerGradCam",
    "NeuronDeconvolution",
    "NeuronGuidedBackprop",
    "Occlusion",
    "Saliency",
    "from_captum",
    "like_input",
    "to_hwc",
]


def like_input(maps: Tensor, inputs: Tensor) -> Tensor:
    """Give maps ``(N, 1 or C, h, w)`` the shape of ``inputs (N, C, H, W)``, which `captum.metrics.infidelity` demands.

    They are resized bilinearly, and one channel is *repeated* for every input channel.

    Example:
        >>> from attrib import GradCAM
        >>> like_input(GradCAM(model, "conv3").attribute(x, target=3), x).shape
        torch.Size([2, 3, 12, 12])
    """
    if maps.ndim != 4 or inputs.ndim != 4 or len(maps) != len(inputs) or maps.shape[1] not in (1, inputs.shape[1]):
        raise ShapeError(
            f"maps must have shape (N, 1 or C, h, w) for inputs (N, C, H, W) of shape {tuple(inputs.shape)}; "
            f"got {tuple(maps.shape)}."
        )
    same = maps.shape[2:] == inputs.shape[2:]
    return (maps if same else upsample(maps, inputs.shape[2:])).expand(inputs.shape).contiguous()


def to_hwc(image: Tensor) -> NDArray[np.generic]:
    """Turn one map or image ``(C, H, W)`` or ``(1, C, H, W)`` into an array ``(H, W, C)`` for Captum's `visualization`.

    Example:
        >>> from attrib import Saliency
        >>> to_hwc(Saliency(model).attribute(x[:1], target=3)).shape
        (12, 12, 1)
    """
    one = image[0] if image.ndim == 4 and len(image) == 1 else image
    if one.ndim != 3:
        raise ShapeError(
            f"image must be one map or image, (C, H, W) or (1, C, H, W); got {tuple(image.shape)}. "
            "Choose an example: maps[0]."
        )
    array: NDArray[np.generic] = one.detach().cpu().permute(1, 2, 0).numpy()
    return array
