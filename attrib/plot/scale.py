"""From raw maps to limits: what is zero, what is full colour, what must be said in words. The only normalising."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypedDict

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from attrib import checks
from attrib.errors import InputError, ShapeError
from attrib.io.images import as_array

if TYPE_CHECKING:
    from matplotlib.colors import Colormap

Floats: TypeAlias = npt.NDArray[np.float64]
MapLike: TypeAlias = "Tensor | npt.NDArray[Any]"
Limits: TypeAlias = tuple[float, float] | Literal["range", "method", "shared"] | None


class Look(TypedDict, total=False):
    """How numbers become colours; the same words for one map and for a figure of many.

    Attributes:
        limits: None scales each map by itself, from 0; ``"range"`` from its smallest to its largest value, for maps in
            which 0 means nothing (mean scores under occlusion); a pair ``(low, high)`` is in the map's own unit. In a
            figure of many, ``"method"`` gives one scale to the maps of a method, ``"shared"`` one to all: only then may
            colours be compared between panels.
        signed: True: diverging colours, symmetric around 0. False: sequential, and values below the lower limit are
            not shown. ``"auto"``: diverging if any value, or the lower limit, is negative.
        percentile: of the non-zero magnitudes, shown in full colour; what lies above is clipped. 100 clips nothing.
        alpha: opacity of full colour over the picture, in [0, 1]; zero is transparent.
        cmap: a Matplotlib colour map or its name; by default YlOrRd, and RdBu_r (red above 0, blue below) if signed.
    """

    limits: Limits
    signed: bool | Literal["auto"]
    percentile: float
    alpha: float
    cmap: str | Colormap | None


@dataclass(frozen=True)
class Style:
    """A checked `Look`."""

    limits: Limits = None
    signed: bool | Literal["auto"] = "auto"
    percentile: float = 99.0
    alpha: float = 0.8
    cmap: str | Colormap | None = None

    def __post_init__(self) -> None:
        checks.number("percentile", self.percentile, 0, 100)
        checks.number("alpha", self.alpha, 0, 1)
        if self.signed not in (True, False, "auto"):
            raise InputError(f"signed must be True, False or 'auto'; got {self.signed!r}.")
        if isinstance(self.limits, str):
            checks.choice("limits", self.limits, ("range", "method", "shared"))
        elif self.limits is not None:
            _pair(self.limits)
        if self.limits == "range" and self.signed is True:
            raise InputError(
                "limits must keep 0 in the middle of a signed map; got 'range'. Pass (-high, high) or None."
            )

    @classmethod
    def of(cls, look: Look) -> Style:
        """Refuse options that nobody reads."""
        checks.unknown_options("the look of a map", dict(look), tuple(Look.__annotations__))
        return cls(**look)


@dataclass(frozen=True)
class Scale:
    """Where the colours begin and end, in the map's unit; ``low == high`` if there is nothing to tell apart."""

    low: float
    high: float
    signed: bool

    @property
    def ends(self) -> tuple[float, float]:
        """Where the colours begin and end: always apart, so that nothing divides by zero."""
        high = self.high if self.high > self.low else self.low + 1
        return (-high if self.signed else self.low), high

    def note(self, values: Floats) -> str:
        """What a picture of ``values`` could not say by itself; usually nothing."""
        low, high = float(values.min()), float(values.max())
        if low == high == 0 and self.signed:
            return "no evidence"
        if high <= 0 and not self.signed and self.low >= 0:
            return "no positive evidence"
        return f"constant {high:.3g}" if low == high else ""


def fit(maps: Iterable[Floats], style: Style) -> Scale:
    """One scale for all of ``maps``."""
    values = np.concatenate([values.ravel() for values in maps])
    if isinstance(style.limits, tuple):
        return _given(*_pair(style.limits), style)
    if style.limits == "range":
        return Scale(float(values.min()), float(values.max()), signed=False)
    signed = bool(values.min() < 0) if style.signed == "auto" else bool(style.signed)
    shown = np.abs(values) if signed else values
    shown = shown[shown > 0]  # the zeros of a rectified map say nothing about how large its values are
    # "higher" clips nothing of a coarse map: the 99th percentile of 7 x 7 values is their largest
    high = float(np.percentile(shown, style.percentile, method="higher")) if shown.size else 0.0
    return Scale(-high if signed else 0.0, high, signed)


def as_map(map: MapLike) -> Floats:
    """One channel as a new float64 array ``(h, w)``; leading axes of size 1 are dropped."""
    values = as_channels(map)
    if len(values) == 3:
        raise ShapeError("map must have one channel to be a heatmap; got 3. Reduce them, or use gradient_image.")
    first: Floats = values[0]
    return first


def as_channels(map: MapLike) -> Floats:
    """Three channels, or one, as a new float64 array ``(c, h, w)``."""
    values = _finite(map, "map")
    values = values[None] if values.ndim == 2 else values
    if values.ndim != 3 or values.shape[0] not in {1, 3}:
        raise ShapeError(
            f"map must have shape (h, w), (1, h, w) or (3, h, w); got {tuple(map.shape)}. Choose one example: maps[0]."
        )
    return values


def as_picture(image: object) -> Floats:
    """A picture as a new float64 array ``(H, W, 3)`` in [0, 1]."""
    values = _last_channels(image)
    if values.ndim != 3 or values.shape[2] not in {1, 3} or 0 in values.shape:
        raise ShapeError(
            "image must be a PIL image, an array (H, W, 3) or (H, W), or a tensor (3, H, W) or (1, H, W); got shape "
            f"{tuple(getattr(image, 'shape', values.shape))}."
        )
    unit = values / 255.0 if values.dtype == np.uint8 else _finite(values, "image")
    if unit.min() < 0 or unit.max() > 1:
        raise InputError(
            f"image must be uint8, or floats in [0, 1]; got [{unit.min():.3g}, {unit.max():.3g}]. "
            "Give the picture itself, not the model's normalised input."
        )
    return np.repeat(unit, 3 // unit.shape[2], 2).astype(np.float64)


def _last_channels(image: object) -> npt.NDArray[Any]:
    if isinstance(image, Tensor):
        values: npt.NDArray[Any] = image.detach().cpu().numpy()
        values = values[0] if values.ndim == 4 and len(values) == 1 else values
        values = np.moveaxis(values, 0, -1) if values.ndim == 3 else values
    elif isinstance(image, np.ndarray):
        values = image
    elif isinstance(image, Image.Image):
        values = as_array(image)
    else:
        raise InputError(f"image must be a PIL image, an array or a tensor; got {type(image).__name__}.")
    return values[..., None] if values.ndim == 2 else values


def _finite(map: MapLike, what: str) -> Floats:
    numbers = map.detach().cpu().to(torch.float64).numpy() if isinstance(map, Tensor) else np.asarray(map)
    if numbers.dtype.kind not in "fiub" or numbers.size == 0:
        raise InputError(f"{what} must be a non-empty tensor or array of numbers; got {numbers.dtype} {numbers.shape}.")
    values: Floats = np.array(numbers, dtype=np.float64)
    if not np.isfinite(values).all():
        bad = int((~np.isfinite(values)).sum())
        raise InputError(f"{what} must be finite; got {bad} NaN or infinite values of {values.size}.")
    while values.ndim > 3 and values.shape[0] == 1:
        values = values[0]
    return values


def _pair(limits: object) -> tuple[float, float]:
    pair = tuple(limits) if isinstance(limits, (tuple, list)) else ()
    if len(pair) != 2:
        raise InputError(f"limits must be None, 'range', 'method', 'shared' or a pair (low, high); got {limits!r}.")
    low, high = checks.number("lower limit", pair[0]), checks.number("upper limit", pair[1])
    if low >= high:
        raise InputError(f"limits must be (low, high) with low < high; got {limits!r}.")
    return low, high


def _given(low: float, high: float, style: Style) -> Scale:
    signed = low < 0 if style.signed == "auto" else bool(style.signed)
    if signed and low != -high:
        raise InputError(
            f"limits of a signed map must be symmetric around 0, such as {(-high, high)}; got {(low, high)}. "
            "Pass signed=False for sequential colours."
        )
    return Scale(low, high, signed)
