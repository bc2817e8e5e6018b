"""From activations and gradients at a layer, whatever their layout, to one map at the layer or at the input."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from attrib import checks
from attrib.core.network.geometry import Layout, Reshape
from attrib.core.query import Query
from attrib.core.reduce import upsample
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
        if layout and layout.prefix and not maps[1].any() and grad.any():
            raise LayerError(
                f"the score must depend on the patches at layer {query.layer!r}; behind it only the class token is "
                "read. Choose a layer before the last attention, or layer='auto'."
            )
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
