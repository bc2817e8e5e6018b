"""From many channels to one, and from a layer's resolution to the input's: each convention exists once, here."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from attrib import checks

Channels = Literal["max", "mean", "sum", "l2", "none"]
_MODES = {1: "linear", 2: "bilinear", 3: "trilinear"}
CHANNELS: tuple[Channels, ...] = ("max", "mean", "sum", "l2", "none")


def reduce_channels(grad: Tensor, channels: Channels, absolute: bool = False) -> Tensor:
    """Reduce ``(N, C, ...)`` to ``(N, 1, ...)``; ``"none"`` keeps all channels, and 2-D inputs have none to reduce.

    ``absolute`` takes absolute values first. Without it ``"max"`` is the signed value of largest magnitude, not the
    largest signed value, which would hide every negative channel.
    """
    value = grad.abs() if absolute else grad
    if channels == "none" or grad.ndim < 3:
        return value
    if channels == "max":
        return value.amax(1, keepdim=True) if absolute else value.gather(1, value.abs().argmax(1, keepdim=True))
    if channels == "l2":
        return value.square().sum(1, keepdim=True).sqrt()
    return value.mean(1, keepdim=True) if channels == "mean" else value.sum(1, keepdim=True)


def check_channels(channels: Channels) -> Channels:
    """``channels`` must be a known reduction."""
    return checks.choice("channels", channels, CHANNELS)


def widened(values: Tensor) -> Tensor:
    """The values in float32 or better, to be added up: in bfloat16, 256 + 1 is 256."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def upsample(maps: Tensor, size: tuple[int, ...]) -> Tensor:
    """Resize maps bilinearly with ``align_corners=False`` and no antialiasing: the one resizing of the package.

    Maps of 1-D inputs are resized linearly, those of 3-D inputs trilinearly.
    """
    return F.interpolate(maps, size, mode=_MODES[len(size)], align_corners=False)
