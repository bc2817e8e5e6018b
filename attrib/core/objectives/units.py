"""Objectives inside the network: one channel, or one neuron; and units that count with their value."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import InitVar, dataclass, field, replace
from typing import Any, Literal

import torch
from torch import Tensor
from torch.utils._pytree import tree_map_only

from attrib import checks
from attrib.core.network.geometry import Layout
from attrib.core.objectives.objective import Acts, Objective, OfLayer, Space
from attrib.core.objectives.outputs import Whole, chosen, each, whole
from attrib.core.objectives.places import layout_in
from attrib.errors import LayerError, ShapeError, TargetError


@dataclass(frozen=True, eq=False)
class _OfChannel(OfLayer):
    """An objective that reads one channel of a layer, wherever the layer has its channels."""

    layer: str
    channel: int
    layout: Layout | None = field(default=None, kw_only=True, repr=False)

    def __post_init__(self) -> None:
        if not isinstance(self.layer, str):
            raise LayerError(f"layer of a unit must be a dotted name; got {self.layer!r}. See attrib.core.resolve.")
        checks.integer("channel", self.channel, 0)

    def _maps(self, acts: Acts) -> Tensor:
        """The channel, ``(N, *places)``."""
        maps = (self.layout or layout_in(acts, self.layer)).maps(acts[self.layer])
        if not self.channel < maps.shape[1]:
            raise TargetError(
                f"channel must lie in [0, {maps.shape[1] - 1}] for layer {self.layer!r}; got {self.channel}."
            )
        return maps[:, self.channel]


@dataclass(frozen=True)
class Channel(_OfChannel):
    """One channel of a layer, reduced over its locations by ``"mean"``, ``"sum"`` or ``"max"``.

    With ``"max"`` the location may move when the input changes; `Neuron` without a location stays where the clean
    input has its maximum. Of several places that share the maximum both take the first.

    Args:
        layer: its address.
        channel: which, counted along the axis of the channels: the second, or the last of tokens and channels last.
        reduce: over its locations; tokens without one, such as the class token, do not count.
        layout: where channels and locations are; None: found from the clean run.
    """

    reduce: Literal["mean", "sum", "max"] = "mean"

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.choice("reduce", self.reduce, ("mean", "sum", "max"))

    def bind(self, output: Any, acts: Acts) -> Channel:
        self._maps(acts)
        return replace(self, layout=self.layout or layout_in(acts, self.layer))

    def __call__(self, output: Any, acts: Acts) -> Tensor:
        maps = self._maps(acts)
        flat = maps.reshape(len(maps), -1)
        if self.reduce == "max":  # not amax, whose gradient is shared by all places with the maximum
            return flat.gather(1, flat.argmax(1, keepdim=True))[:, 0]
        return flat.mean(1) if self.reduce == "mean" else flat.sum(1)


@dataclass(frozen=True, eq=False)
class Neuron(_OfChannel):
    """One unit of a layer: channel and location; without a location each example's strongest one, the first of equals.

    Args:
        layer: its address; a layer ``(N, K)`` has no location.
        channel: which, counted along the axis of the channels: the second, or the last of tokens and channels last.
        y: row: a number, or one per example; together with ``x`` the same as ``place=(y, x)``.
        x: column likewise.
        place: the location: a number for each axis, such as ``(x,)`` of a signal or ``(z, y, x)`` of a volume, for all
            examples, or ``(N, axes)``.
        layout: where channels and locations are; None: found from the clean run.
    """

    y: InitVar[Whole | None] = None
    x: InitVar[Whole | None] = None
    place: Sequence[int] | Tensor | None = field(default=None, kw_only=True)

    def __post_init__(self, y: Whole | None, x: Whole | None) -> None:
        super().__post_init__()
        place = self.place if self.place is None else whole("place", self.place, 1, 2)
        if (y is None) != (x is None) or (y is not None and place is not None):
            raise TargetError(
                f"a neuron needs both y and x, or neither; got y={y!r}, x={x!r}, place={self.place!r}. "
                "Elsewhere than in a plane pass place=, a number for each axis."
            )
        if y is not None and x is not None:
            place = _paired(y, x)
        if place is not None and bool((place < 0).any()):
            raise TargetError(f"the place of a neuron must be at least 0; got {place.tolist()}.")
        object.__setattr__(self, "place", place if place is None else place.reshape(-1, place.shape[-1]))

    @property
    def entries(self) -> int:
        return 1 if self.place is None else len(self.place)

    def bind(self, output: Any, acts: Acts) -> Neuron:
        maps = self._maps(acts)
        layout, sizes = self.layout or layout_in(acts, self.layer), tuple(maps.shape[1:])
        if self.place is not None and not sizes:
            raise ShapeError(f"layer {self.layer!r} must have locations for a place; it gives {(len(maps), 'K')}.")
        if not sizes:
            return replace(self, layout=layout)
        given = _strongest(maps) if self.place is None else torch.as_tensor(self.place, device=maps.device)
        return replace(self, place=self._fitting(given, len(maps), sizes), layout=layout)

    def _fitting(self, place: Tensor, n: int, sizes: tuple[int, ...]) -> Tensor:
        place = each("place", place, n).expand(n, -1)
        if place.shape[1] != len(sizes):
            raise ShapeError(
                f"place must have a number for each of {len(sizes)} axes of layer {self.layer!r}, {sizes}; "
                f"got {place.shape[1]}."
            )
        for name, values, size in zip(_names(len(sizes)), place.T, sizes, strict=True):
            if int(values.max()) >= size:
                raise TargetError(
                    f"{name} must lie in [0, {size - 1}] for layer {self.layer!r}; got {values.tolist()}."
                )
        return place

    def rows(self, index: Tensor) -> Objective:
        return self if self.place is None else replace(self, place=chosen(torch.as_tensor(self.place), index))

    def __call__(self, output: Any, acts: Acts) -> Tensor:
        maps = self._maps(acts)
        if maps.ndim == 1:
            return maps
        place = self.place
        if self.layout is None or not isinstance(place, Tensor) or len(place) not in (1, len(maps)):
            return self.bind(output, acts)(output, acts)
        return maps[(torch.arange(len(maps), device=maps.device), *place.T)]


def _paired(y: Whole, x: Whole) -> Tensor:
    """Rows and columns as places ``(1 or N, 2)``."""
    rows, columns = whole("y", y, 0, 1).reshape(-1), whole("x", x, 0, 1).reshape(-1)
    n = max(len(rows), len(columns))
    return torch.stack([each(name, values, n).expand(n) for name, values in (("y", rows), ("x", columns))], 1)


def _strongest(maps: Tensor) -> Tensor:
    """The place of the largest value of each of ``maps (N, *places)``, ``(N, axes)``; the first of several."""
    return torch.stack(torch.unravel_index(maps.flatten(1).argmax(1), maps.shape[1:]), 1)


def _names(axes: int) -> tuple[str, ...]:
    return ("z", "y", "x")[-axes:] if axes <= 3 else tuple(f"place[{axis}]" for axis in range(axes))


def _valued(value: Tensor) -> Tensor:
    """The same number; its derivative is the number itself instead of 1."""
    if not value.is_floating_point():
        return value
    kept = value.detach()
    return kept + kept * (value - kept)


@dataclass(frozen=True)
class _ValuedActs:
    acts: Acts

    def __getitem__(self, layer: str) -> Tensor:
        return _valued(self.acts[layer])

    def layout(self, layer: str) -> Layout:
        return layout_in(self.acts, layer)


@dataclass(frozen=True, eq=False)
class Valued(Objective):
    """The same score; a backward pass starts with its gradient times the activations that it is read from.

    For one unit that is its activation, with all others at zero; without this it is 1.
    """

    objective: Objective

    @property
    def layers(self) -> tuple[str, ...]:
        return self.objective.layers

    @property
    def reads_output(self) -> bool:
        return self.objective.reads_output

    @property
    def entries(self) -> int:
        return self.objective.entries

    def bind(self, output: Any, acts: Acts) -> Objective:
        return replace(self, objective=self.objective.bind(output, acts))

    def rows(self, index: Tensor) -> Objective:
        return replace(self, objective=self.objective.rows(index))

    def in_space(self, space: Space) -> Objective:
        return replace(self, objective=self.objective.in_space(space))

    def __call__(self, output: Any, acts: Acts) -> Tensor:
        return self.objective(tree_map_only(Tensor, _valued, output), _ValuedActs(acts))
