"""Objectives that are read beside the score: which class is the most probable, how strongly a channel responds."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from attrib.core.network.geometry import Layout
from attrib.core.objectives.objective import Acts, Objective, OfLayer
from attrib.core.reduce import widened
from attrib.errors import TargetError


@dataclass(frozen=True)
class MostProbable(Objective):
    """Number of the class with the highest output; ties go to the lower one. It is decided anew in every pass."""

    discrete: ClassVar[bool] = True

    def __call__(self, output: Any, acts: Acts) -> Tensor:
        if not isinstance(output, Tensor) or output.ndim != 2:
            got = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
            raise TargetError(f"the most probable class needs an output of shape (N, C); the model gives {got}.")
        if output.shape[1] == 1:
            raise TargetError(
                "the most probable class needs two outputs or more; the model gives one. If that is the log-odds z of "
                "a yes, wrap the model to return torch.cat([torch.zeros_like(z), z], 1): no is class 0, yes class 1."
            )
        return output.argmax(1)


def totals(maps: Tensor) -> Tensor:
    """Sums of ``maps (N, K, ...)`` over all places, ``(N, K)``, in float32 or better: float16 ends at 65504."""
    return widened(maps).flatten(2).sum(2)


def strongest(layer: str, maps: Tensor, channel: Tensor | None) -> Tensor:
    """The channel of ``maps (N, K, ...)`` to watch in each example, ``(N,)``: a given one, or that of largest total."""
    n, channels = maps.shape[:2]
    chosen = totals(maps).argmax(1) if channel is None else channel.to(maps.device).reshape(-1)
    if len(chosen) not in (1, n) or int(chosen.min()) < 0 or int(chosen.max()) >= channels:
        raise TargetError(
            f"channel must lie in [0, {channels - 1}] for layer {layer!r}, one for all examples or one for each "
            f"(N={n}); got {chosen.tolist()}."
        )
    return chosen.expand(n)


@dataclass(frozen=True, eq=False)
class Total(OfLayer):
    """Sum over all places of one channel of a layer, which may be another one in each example.

    Args:
        layer: address of a layer with places.
        layout: where its channels and places are.
        channel: which, ``(N,)``.
    """

    layer: str
    layout: Layout
    channel: Tensor

    @property
    def entries(self) -> int:
        return len(self.channel)

    def rows(self, index: Tensor) -> Total:
        return replace(self, channel=self.channel[index.to(self.channel.device)])

    def __call__(self, output: Any, acts: Acts) -> Tensor:
        return totals(self.layout.maps(acts[self.layer])).gather(1, self.channel[:, None])[:, 0]


@dataclass(frozen=True, eq=False)
class Unit(OfLayer):
    """Of each example another unit of a layer.

    Args:
        layer: its address.
        layout: where its channels and places are; None where it has no places.
        channel: of each example, ``(N,)``.
        y: row, ``(N,)``; 0 where the layer has no places.
        x: column likewise.
    """

    layer: str
    layout: Layout | None
    channel: Tensor
    y: Tensor
    x: Tensor

    @property
    def entries(self) -> int:
        return len(self.channel)

    def rows(self, index: Tensor) -> Unit:
        channel, y, x = (one[index.to(one.device)] for one in (self.channel, self.y, self.x))
        return replace(self, channel=channel, y=y, x=x)

    def __call__(self, output: Any, acts: Acts) -> Tensor:
        act = acts[self.layer]
        maps = act[:, :, None, None] if self.layout is None else self.layout.maps(act)
        return maps[torch.arange(len(maps), device=maps.device), self.channel, self.y, self.x]
