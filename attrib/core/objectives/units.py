"""Objectives inside the network: one channel, or one neuron; and units that count with their value."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor
from torch.utils._pytree import tree_map_only

from attrib import checks
from attrib.core.objectives.objective import Acts, Objective, OfLayer, Space
from attrib.errors import ShapeError, TargetError


def _channel(acts: Acts, layer: str, channel: int) -> Tensor:
    act: Tensor = acts[layer]
    if act.ndim < 2 or not 0 <= channel < act.shape[1]:
        raise TargetError(
            f"channel must lie in [0, {act.shape[1] - 1 if act.ndim > 1 else 0}] for layer {layer!r}; got {channel}."
        )
    return act[:, channel]


@dataclass(frozen=True)
class Channel(OfLayer):
    """One channel of a layer, reduced over its locations by ``"mean"``, ``"sum"`` or ``"max"``.

    With ``"max"`` the location may move when the input changes; `Neuron` without a location stays where the clean
    input has its maximum.
    """

    layer: str
    channel: int
    reduce: Literal["mean", "sum", "max"] = "mean"

    def __post_init__(self) -> None:
        checks.choice("reduce", self.reduce, ("mean", "sum", "max"))
        checks.integer("channel", self.channel, 0)

    def __call__(self, output: Any, acts: Acts) -> Tensor:
        act = _channel(acts, self.layer, self.channel)
        flat = act.reshape(len(act), -1)
        return flat.amax(1) if self.reduce == "max" else flat.mean(1) if self.reduce == "mean" else flat.sum(1)


@dataclass(frozen=True, eq=False)
class Neuron(OfLayer):
    """One unit of a layer: channel and location; without a location each example's strongest one.

    Args:
        layer: address of a layer with output ``(N, K, h, w)``, or ``(N, K)``, which has no location.
        channel: index along axis 1.
        y: row, or None.
        x: column, or None.
    """

    layer: str
    channel: int
    y: int | Tensor | None = None
    x: int | Tensor | None = None

    def __post_init__(self) -> None:
        checks.integer("channel", self.channel, 0)
        if (self.y is None) != (self.x is None):
            raise TargetError(f"a neuron needs both y and x, or neither; got y={self.y!r}, x={self.x!r}.")
        for name, place in (("y", self.y), ("x", self.x)):
            if place is not None and not isinstance(place, Tensor):
                checks.integer(name, place, 0)

    @property
    def entries(self) -> int:
        return max(v.numel() if isinstance(v, Tensor) else 1 for v in (self.y, self.x))

    def bind(self, output: Any, acts: Acts) -> Neuron:
        act = _channel(acts, self.layer, self.channel)
        if act.ndim == 1:
            if self.y is None:
                return self
            raise ShapeError(f"layer {self.layer!r} must give (N, K, h, w) for a location; got {tuple(act.shape)}.")
        if act.ndim != 3:
            raise ShapeError(f"layer {self.layer!r} must give (N, K, h, w) or (N, K) for a neuron.")
        if self.y is None:
            best = act.flatten(1).argmax(1)
            return replace(self, y=best // act.shape[2], x=best % act.shape[2])
        place = [torch.as_tensor(v, device=act.device).reshape(-1) for v in (self.y, self.x)]
        if any(len(v) not in (1, len(act)) for v in place):
            raise TargetError(f"y and x must have one entry per example (N={len(act)}); got {[len(v) for v in place]}.")
        place = [v.expand(len(act)) for v in place]
        for name, value, size in zip("yx", place, act.shape[1:], strict=True):
            if int(value.min()) < 0 or int(value.max()) >= size:
                raise TargetError(f"{name} must lie in [0, {size - 1}] for layer {self.layer!r}; got {value.tolist()}.")
        return replace(self, y=place[0], x=place[1])

    def rows(self, index: Tensor) -> Objective:
        if isinstance(self.y, Tensor) and isinstance(self.x, Tensor):
            return replace(self, y=self.y[index.to(self.y.device)], x=self.x[index.to(self.x.device)])
        return self

    def __call__(self, output: Any, acts: Acts) -> Tensor:
        act = _channel(acts, self.layer, self.channel)
        if act.ndim == 1:
            return act
        if not isinstance(self.y, Tensor):
            return self.bind(output, acts)(output, acts)
        return act[torch.arange(len(act), device=act.device), self.y, self.x]


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
