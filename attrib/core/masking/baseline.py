"""What hidden parts are replaced by."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from attrib import checks
from attrib.errors import InputError, ShapeError

Baseline = float | Literal["zero", "mean", "blur"] | Tensor | Callable[[Tensor], Tensor]


def gaussian_blur(x: Tensor, size: int = 11, sigma: float = 5.0) -> Tensor:
    """Blur ``(N, C, H, W)`` with a ``size x size`` Gaussian, zero-padded."""
    line = torch.arange(size, dtype=x.dtype, device=x.device) - (size - 1) / 2
    kernel = torch.exp(-(line**2) / (2 * sigma**2))
    kernel = (kernel / kernel.sum()).expand(x.shape[1], 1, -1)
    x = torch.nn.functional.conv2d(x, kernel[..., None], padding=(size // 2, 0), groups=x.shape[1])
    return torch.nn.functional.conv2d(x, kernel[:, :, None], padding=(0, size // 2), groups=x.shape[1])


def resolve_baseline(baseline: Baseline, x: Tensor, channels: int = 1) -> Tensor:
    """Return what replaces hidden parts of ``x``, an input or an activation, broadcastable to it.

    A number fills every channel; ``"zero"`` is 0 in the *model's* space (the mean colour of normalised inputs, black
    of unnormalised ones); ``"mean"`` is each example's own mean of every channel, over all locations; ``"blur"`` is
    `gaussian_blur`, for two axes of locations only; a Tensor broadcasts; a callable maps ``x`` to a Tensor.

    Args:
        baseline: see above.
        x: ``(N, C, ...)`` of any number of axes.
        channels: the axis of the channels, which has no locations.
    """
    if isinstance(baseline, str):
        return _named(checks.choice("baseline", baseline, ("zero", "mean", "blur")), x, channels)
    value = baseline(x) if callable(baseline) else baseline
    if not isinstance(value, Tensor):
        return x.new_full((), checks.number("baseline", value))
    padded = (1,) * (x.ndim - value.ndim) + tuple(value.shape)
    if any(size not in (1, full) for size, full in zip(padded, x.shape, strict=False)) or value.ndim > x.ndim:
        raise ShapeError(f"baseline must broadcast to the input {tuple(x.shape)}; got {tuple(value.shape)}.")
    if not torch.isfinite(value).all():
        raise InputError("baseline must be finite; got NaN or infinite values.")
    return value.detach().to(x)


def _named(name: str, x: Tensor, channels: int) -> Tensor:
    if name == "zero":
        return x.new_zeros(())
    places = [axis for axis in range(1, x.ndim) if axis != channels]
    if not places or (name == "blur" and len(places) != 2):
        needs = "locations" if name == "mean" else "two axes of locations, (N, C, H, W)"
        raise InputError(
            f"baseline {name!r} needs {needs}; what is hidden has shape {tuple(x.shape)}. Pass 'zero', a number, a "
            "Tensor or a callable."
        )
    if name == "mean":
        return x.mean(places, keepdim=True)
    return gaussian_blur(x.movedim(channels, 1)).movedim(1, channels)
