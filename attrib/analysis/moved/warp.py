"""Pictures shifted, scaled and turned: the same for everyone, and the way back."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import cos, radians, sin
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from attrib import checks
from attrib.errors import InputError

Kind = Literal["vertical", "horizontal", "scale", "rotation"]
Padding = Literal["zeros", "border", "reflection"]
KINDS: tuple[Kind, ...] = ("vertical", "horizontal", "scale", "rotation")
PADDINGS: tuple[Padding, ...] = ("zeros", "border", "reflection")
UNITS: dict[Kind, str] = {"vertical": "pixels", "horizontal": "pixels", "scale": "factor", "rotation": "degrees"}
IDENTITY: dict[Kind, float] = {"vertical": 0.0, "horizontal": 0.0, "scale": 1.0, "rotation": 0.0}
EDGE = 1e-4  # pixels: a quarter turn must not lose its border to rounding


def warp(x: Tensor, kind: Kind, amount: float, padding: Padding = "zeros") -> Tensor:
    """Move what is in the pictures.

    Convention:
        - ``"vertical"`` moves down, ``"horizontal"`` to the right, by whole pixels, without interpolation; ``"scale"``
          makes things larger by this factor; ``"rotation"`` turns counter-clockwise, in degrees. Both keep the centre
          of the picture where it is, and interpolate bilinearly, without antialiasing.
        - what comes in from outside is 0, the nearest pixel of the border, or the picture mirrored at its border.
        - an amount that moves nothing gives the picture itself, to the bit.

    Args:
        x: ``(N, C, H, W)``.
        kind: what is done.
        amount: how much, see `UNITS`.
        padding: what comes in from outside.

    Example:
        >>> warp(torch.tensor([[[[1.0, 2, 3]]]]), "horizontal", 1, "border").tolist()
        [[[[1.0, 1.0, 2.0]]]]
    """
    checks.shape(x, "n c h w", "inputs")
    checks.choice("padding", padding, PADDINGS)
    size = (x.shape[2], x.shape[3])
    if still(kind, checked_amount(kind, amount)):
        return x.clone()
    if kind in ("vertical", "horizontal"):
        axis = 2 if kind == "vertical" else 3
        return _shifted(x, int(amount), axis, padding)
    exact = x.double() if x.dtype is torch.float64 else x.float()  # bfloat16 cannot tell one pixel from the next
    across, down = (one.to(exact) for one in _source(size, kind, amount))
    grid = torch.stack([across * 2 / size[1], down * 2 / size[0]], -1)
    moved = F.grid_sample(exact, grid.expand(len(x), -1, -1, -1), padding_mode=padding, align_corners=False)
    return moved.to(x.dtype)


def inverse(kind: Kind, amount: float) -> float:
    """The amount that takes ``amount`` back."""
    return 1 / amount if kind == "scale" else -amount


def still(kind: Kind, amount: float) -> bool:
    """Whether this amount moves nothing."""
    return (amount % 360 if kind == "rotation" else amount) == IDENTITY[kind]


def inside(size: tuple[int, int], kind: Kind, amount: float) -> Tensor:
    """Where the warped picture shows pixels of the picture only, nothing from outside, ``(H, W)`` bool."""
    across, down = _source(size, kind, checked_amount(kind, amount))
    return (across.abs() <= (size[1] - 1) / 2 + EDGE) & (down.abs() <= (size[0] - 1) / 2 + EDGE)


def usual_sweeps(size: tuple[int, int]) -> dict[Kind, tuple[float, ...]]:
    """Shifts to a quarter of the side either way, scales 0.6 to 1.8, a full turn: about what Zeiler and Fergus show."""
    shifts = {
        kind: tuple(sorted({float(round(side / 4 * step / 4)) for step in range(-4, 5)}))
        for kind, side in zip(("vertical", "horizontal"), size, strict=True)
    }
    scales = tuple(step / 10 for step in range(6, 19, 2))
    return {**shifts, "scale": scales, "rotation": tuple(range(0, 360, 30))}  # type: ignore[dict-item]


def checked_sweeps(
    sweeps: Mapping[Kind, Sequence[float]] | None, size: tuple[int, int]
) -> dict[Kind, tuple[float, ...]]:
    """Sweeps that can be made on pictures of this size; the usual ones if None."""
    if sweeps is None:
        return usual_sweeps(size)
    found = {
        checks.choice("sweep", kind, KINDS): tuple(checked_amount(kind, one) for one in amounts)
        for kind, amounts in sweeps.items()
    }
    if not found or not all(found.values()):
        raise InputError(f"sweeps must hold at least one amount each; got {dict(sweeps)!r}.")
    for kind, side in zip(("vertical", "horizontal"), size, strict=True):
        far = max(map(abs, found.get(kind, (0,))))  # type: ignore[call-overload]
        if far >= side:
            raise InputError(f"{kind} shifts must be smaller than the picture, {side} pixels; got {far:g}.")
    return found


def checked_amount(kind: Kind, amount: float) -> float:
    """``amount`` must fit the kind: shifts are whole pixels, factors positive."""
    checks.choice("kind", kind, KINDS)
    value = checks.number(f"{kind} amount", amount)
    if kind in ("vertical", "horizontal") and value != int(value):
        raise InputError(f"{kind} amount must be whole pixels, so that nothing is interpolated; got {amount!r}.")
    if kind == "scale" and value <= 0:
        raise InputError(f"scale amount must be a factor above 0; got {amount!r}.")
    return value


def _source(size: tuple[int, int], kind: Kind, amount: float) -> tuple[Tensor, Tensor]:
    """Where each pixel of the warped picture comes from: pixels to the right of the centre, and below it."""
    down, across = torch.meshgrid(
        *(torch.arange(side, dtype=torch.float64) - (side - 1) / 2 for side in size), indexing="ij"
    )
    turn = radians(amount)
    sources: dict[Kind, Callable[[], tuple[Tensor, Tensor]]] = {
        "vertical": lambda: (across, down - amount),
        "horizontal": lambda: (across - amount, down),
        "scale": lambda: (across / amount, down / amount),
        "rotation": lambda: (across * cos(turn) - down * sin(turn), across * sin(turn) + down * cos(turn)),
    }
    return sources[kind]()


def _shifted(x: Tensor, by: int, axis: int, padding: Padding) -> Tensor:
    side = x.shape[axis]
    source = torch.arange(side, device=x.device) - by
    if padding == "reflection":
        source = source % (2 * side)
        source = torch.minimum(source, 2 * side - 1 - source)
    moved = x.index_select(axis, source.clamp(0, side - 1))
    if padding != "zeros":
        return moved
    there = ((source >= 0) & (source < side)).reshape([-1 if i == axis else 1 for i in range(4)])
    return torch.where(there, moved, moved.new_zeros(()))
