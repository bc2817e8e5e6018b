"""A batch of pictures and the same batch moved: features, probability and maps of both."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from attrib.analysis.moved.warp import Kind, Padding, inside, inverse, warp
from attrib.core.attribution import Attribution
from attrib.core.objectives.objective import Objective
from attrib.core.query import Query
from attrib.core.reduce import upsample


@dataclass(frozen=True)
class Watched:
    """What is measured of a batch."""

    model: Callable[..., Any]
    layers: tuple[str, ...]
    methods: dict[str, Attribution]
    padding: Padding
    control: bool

    def measure(self, x: Tensor, objective: Objective, sweeps: Mapping[Kind, Sequence[float]]) -> dict[str, Any]:
        """Everything that `Invariance` holds, of this batch."""
        output, acts = Query(self.model, (x,), objective).run((x.clone(),), *self.layers, *objective.layers)
        goal = objective.bind(output, acts)
        features = {layer: acts[layer].detach().clone() for layer in self.layers}
        clean = goal.in_space("probability")(output, acts)
        still_ = Still(self, x, goal, features)
        found: dict[str, Any] = {
            "norm": {layer: _length(act) for layer, act in features.items()},
            "clean": clean.cpu(),
            "amounts": {kind: torch.tensor(amounts, dtype=torch.float64) for kind, amounts in sweeps.items()},
            "outside": {kind: torch.stack([_outside(x, kind, by) for by in all_]) for kind, all_ in sweeps.items()},
            **{name: {} for name in ("distance", "probability", "artefact", "equivariance")},
        }
        for kind, amounts in sweeps.items():
            steps = [dict(still_.at(kind, by)) for by in amounts]
            found["probability"][kind] = torch.stack([step["probability"] for step in steps])
            for name in ("distance", "artefact", "equivariance"):
                if name in steps[0]:
                    found[name][kind] = {
                        key: torch.stack([step[name][key] for step in steps]) for key in steps[0][name]
                    }
        return found


@dataclass(frozen=True)
class Still:
    """A batch as it is, with which the moved one is compared."""

    watched: Watched
    x: Tensor
    goal: Objective
    features: dict[str, Tensor]

    @cached_property
    def maps(self) -> dict[str, Tensor]:
        """The maps of the batch as it is."""
        return self._maps(self.x)

    def at(self, kind: Kind, by: float) -> Iterator[tuple[str, Any]]:
        """What is measured of the batch that is moved by this amount."""
        moved = warp(self.x, kind, by, self.watched.padding)
        distance, probability = self._run(moved)
        yield "probability", probability
        yield "distance", distance
        if self.watched.control:
            yield "artefact", self._run(warp(moved, kind, inverse(kind, by), self.watched.padding))[0]
        if self.watched.methods:
            there = inside((self.x.shape[2], self.x.shape[3]), kind, inverse(kind, by)).to(self.x.device)
            maps = self._maps(moved)
            yield "equivariance", {name: self._error(maps[name], name, kind, by, there) for name in maps}

    def _run(self, x: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        needed = (*self.features, *self.goal.layers)
        output, acts = Query(self.watched.model, (x,), self.goal).run((x.clone(),), *needed)
        distance = {layer: _length(acts[layer] - act) for layer, act in self.features.items()}
        return distance, self.goal.in_space("probability")(output, acts).cpu()

    def _maps(self, x: Tensor) -> dict[str, Tensor]:
        size = tuple(self.x.shape[2:])
        found = {name: method.attribute(x, self.goal) for name, method in self.watched.methods.items()}
        return {name: one if tuple(one.shape[2:]) == size else upsample(one, size) for name, one in found.items()}

    def _error(self, maps: Tensor, name: str, kind: Kind, by: float, there: Tensor) -> Tensor:
        back = warp(maps, kind, inverse(kind, by))
        return share(_length((back - self.maps[name]) * there), _length(self.maps[name] * there))


def share(distance: Tensor, length: Tensor) -> Tensor:
    """The distance as a share of the length; NaN where that is zero.

    Example:
        >>> share(torch.tensor([1.0, 1.0, 0.0]), torch.tensor([2.0, 0.0, 0.0])).tolist()
        [0.5, nan, nan]
    """
    return torch.where(length > 0, distance / length, torch.nan)


def _length(values: Tensor) -> Tensor:
    length: Tensor = values.detach().flatten(1).double().norm(dim=1).cpu()
    return length


def _outside(x: Tensor, kind: Kind, by: float) -> Tensor:
    return 1 - inside((x.shape[2], x.shape[3]), kind, by).double().mean()
