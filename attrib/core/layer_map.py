"""From activations and gradients at a layer, whatever their layout, to one map at the layer or at the input."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from attrib import checks
from attrib.core.network.geometry import Layout, Reshape
from attrib.core.query import Query
from attrib.core.reduce import Channels, reduce_channels, upsample
from attrib.errors import InputError, LayerError, ShapeError


@dataclass(frozen=True)
class LayerMap:
    """How a method at a layer reads it, and what becomes of its maps.

    Attributes:
        relu: keep positive evidence only.
        upsample: resize to the input.
        reshape: makes ``(N, K, h, w)`` of an activation at the layer, and of its gradient; None finds the layout.
    """

    relu: bool = True
    upsample: bool = False
    reshape: Reshape | None = None

    def __post_init__(self) -> None:
        checks.boolean("relu", self.relu)
        checks.boolean("upsample", self.upsample)
        if self.reshape is not None and not callable(self.reshape):
            raise InputError(f"reshape must be a function of the activation, or None; got {self.reshape!r}.")

    def evidence(self, query: Query) -> tuple[Tensor, Tensor]:
        """Activation and gradient at the layer, both ``(N, K, h, w)``."""
        found = query.gradient(at=query.layer)
        act, grad = found.act[0], found.grad[0]
        layout = None if self.reshape else query.layout(act)
        maps = self.maps(query, layout, act), self.maps(query, layout, grad)
        _check_patches(query, layout, grad, maps[1])
        return maps

    def activation(self, query: Query) -> Tensor:
        """Activation of the clean run at the layer, ``(N, K, h, w)``."""
        act = query.clean.acts[str(query.layer)]
        return self.maps(query, None if self.reshape else query.layout(act), act)

    def maps(self, query: Query, layout: Layout | None, act: Tensor) -> Tensor:
        """An activation, or one value for each of its locations, as ``(N, K, h, w)``."""
        if layout is not None:
            return layout.maps(act)
        maps: object = self.reshape(act) if self.reshape else None
        if not isinstance(maps, Tensor) or maps.ndim < 3 or len(maps) != len(act):
            got = tuple(maps.shape) if isinstance(maps, Tensor) else type(maps).__name__
            raise ShapeError(f"reshape must make (N, K, h, w) of {tuple(act.shape)} at {query.layer!r}; got {got}.")
        return maps

    def finish(self, query: Query, maps: Tensor) -> Tensor:
        """Rectify and resize, as asked for."""
        maps = maps.relu() if self.relu else maps
        return upsample(maps, query.size) if self.upsample else maps


def reduced(query: Query, values: Sequence[Tensor], channels: Channels, absolute: bool) -> tuple[Tensor, ...]:
    """Values at the inputs, or at the layer wherever it has its channels, with these reduced: ``(N, 1, *locations)``.

    Tokens without a location are left out. ``channels="none"`` keeps values as they are, also those of tokens.

    Raises:
        LayerError: it is not known where the layer has its channels.
    """
    located = values if query.layer is None or channels == "none" else [_located(query, value) for value in values]
    return tuple(reduce_channels(value, channels, absolute) for value in located)


def _located(query: Query, value: Tensor) -> Tensor:
    """A value at the layer as ``(N, K, *locations)``."""
    if value.ndim < 3:
        return value
    layout = query.layout_of(value)
    if layout is None:
        raise LayerError(
            f"layer {query.layer!r} must have channels and locations that are known; it gives {tuple(value.shape)}. "
            "Pass channels='none' for the values as they are, or choose another layer."
        )
    maps = layout.maps(value)
    _check_patches(query, layout, value, maps)
    return maps


def _check_patches(query: Query, layout: Layout | None, value: Tensor, maps: Tensor) -> None:
    """A gradient of which only that at tokens without a location is left makes no map."""
    if layout and layout.prefix and not maps.any() and value.any():
        raise LayerError(
            f"the score must depend on the patches at layer {query.layer!r}; behind it only the class token is "
            "read. Choose a layer before the last attention, or layer='auto'."
        )
