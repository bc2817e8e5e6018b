"""Which masks run together: groups whose windows have nearly the same size in every map."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from attrib.core.incremental.program import Program
from attrib.core.incremental.windows import Ints, Span, spans
from attrib.core.masking.masks import Box

# What a step costs beyond its arithmetic, in multiply-adds: starting kernels, small batches, gathering, pasting. From
# timing AlexNet, ResNet-18 and VGG16 with 1 to 36 groups on two cores.
OVERHEAD = 25_000_000
_MOST_CLASSES = 6


class Tile(NamedTuple):
    """The window of one map along one axis: one size for all masks of a group, a start for each."""

    size: int
    start: Tensor


@dataclass(frozen=True)
class Group:
    """Masks that run together.

    Attributes:
        positions: numbers of the masks, ``(k,)``.
        y, x: the `Tile` of every map along each axis.
    """

    positions: Tensor
    y: Mapping[int, Tile]
    x: Mapping[int, Tile]

    def part(self, start: int, stop: int) -> Group:
        """Some of the masks."""
        y, x = (
            {number: Tile(tile.size, tile.start[start:stop]) for number, tile in axis.items()}
            for axis in (self.y, self.x)
        )
        return Group(self.positions[start:stop], y, x)


@dataclass(frozen=True)
class Plan:
    """How a set of local masks runs through a program.

    Attributes:
        groups: masks that run together.
        macs: multiply-adds for all masks of one example.
        dense_macs: multiply-adds of as many whole passes.
    """

    groups: tuple[Group, ...]
    macs: int
    dense_macs: int

    @property
    def share(self) -> float:
        """Arithmetic that is left."""
        return self.macs / max(1, self.dense_macs)


def dense_macs(program: Program) -> int:
    """Multiply-adds of one example."""
    return sum(step.macs * (step.form.h * step.form.w if step.form else 1) for step in program.steps)


_plans: OrderedDict[Hashable, Plan] = OrderedDict()
_MOST_PLANS = 32


def make_plan(program: Program, boxes: Sequence[Box], reach: float = 1.0) -> Plan:
    """Group the masks that hide ``boxes`` (top, bottom, left, right).

    A plan depends on the geometry of the program only, so it is remembered for the next image and the next model of the
    same kind.
    """
    key = (program.geometry, tuple(boxes), reach)
    if key not in _plans:
        _plans[key] = _make_plan(program, boxes, reach)
        if len(_plans) > _MOST_PLANS:
            _plans.popitem(last=False)
    _plans.move_to_end(key)
    return _plans[key]


@dataclass(frozen=True)
class _Axis:
    """Windows along one axis: which of the distinct intervals each mask hides, and what it changes in every map."""

    index: Ints
    found: dict[int, Span]

    @property
    def count(self) -> int:
        """Distinct intervals."""
        return int(self.index.max()) + 1


def _make_plan(program: Program, boxes: Sequence[Box], reach: float) -> Plan:
    axes = []
    for axis in (0, 1):
        intervals = [(box[2 * axis], box[2 * axis + 1]) for box in boxes]
        kinds = sorted(set(intervals))
        number = {interval: i for i, interval in enumerate(kinds)}
        axes.append(_Axis(np.array([number[one] for one in intervals]), spans(program, axis, kinds, reach)))
    weights = _weights(program, *axes)
    tried = [
        [_classes(axis, weight, classes)[axis.index] for axis, weight in zip(axes, weights, strict=True)]
        for classes in range(1, _MOST_CLASSES + 1)
    ]
    counted = [_macs(program, axes, labels) for labels in tried]
    costs = [macs + groups * len(program.steps) * OVERHEAD for macs, groups in counted]
    best = costs.index(min(costs))
    groups = tuple(_groups(program, axes, tried[best]))
    return Plan(groups, int(counted[best][0]), len(boxes) * dense_macs(program))


def _macs(program: Program, axes: Sequence[_Axis], labels: Sequence[Ints]) -> tuple[float, int]:
    """Multiply-adds for all masks of one example if classes run together, and the number of groups."""
    classes = [int(one.max()) + 1 for one in labels]
    counts = np.zeros(classes, np.int64)
    np.add.at(counts, (labels[0], labels[1]), 1)
    total = 0.0
    for step in program.steps:
        if step.macs and step.out in program.changed:
            if step.form is None:
                total += step.macs * len(labels[0])
                continue
            y, x = (
                _largest(axis.found[step.out].size[axis.index], one) for axis, one in zip(axes, labels, strict=True)
            )
            total += step.macs * float((counts * np.outer(y, x)).sum())
    return total, int((counts > 0).sum())


def _largest(sizes: Ints, labels: Ints) -> Ints:
    found = np.zeros(int(labels.max()) + 1, np.int64)
    np.maximum.at(found, labels, sizes)
    return found


def _weights(program: Program, y: _Axis, x: _Axis) -> tuple[dict[int, float], dict[int, float]]:
    """What one more cell along an axis costs in each map: the work of its rows or columns."""
    macs = {step.out: step.macs for step in program.steps if step.macs and step.form and step.out in program.changed}
    down, across = ({n: macs[n] * float(axis.found[n].size.mean()) for n in macs} for axis in (x, y))
    return down, across


def _classes(axis: _Axis, weights: Mapping[int, float], classes: int) -> Ints:
    """A class for each interval: those of similar cost together, so that the largest of a class wastes little."""
    cost = np.zeros(axis.count)
    for number, weight in weights.items():
        cost += weight * axis.found[number].size
    order = np.argsort(cost, kind="stable")
    count = np.bincount(axis.index, minlength=len(cost))[order]
    cuts = _segments(cost[order], count, min(classes, len(cost)))
    labels = np.zeros(len(cost), dtype=np.int64)
    labels[order] = np.searchsorted(cuts, np.arange(len(cost)), side="right")
    return labels


def _segments(cost: NDArray[np.float64], count: Ints, classes: int) -> list[int]:
    """Where to cut sorted costs so that the sum of count x largest cost of the segment is least."""
    n = len(cost)
    total = np.concatenate([[0], np.cumsum(count)])
    best = np.full((classes + 1, n + 1), np.inf)
    best[0, 0] = 0
    came = np.zeros((classes + 1, n + 1), dtype=np.int64)
    for k in range(1, classes + 1):
        for stop in range(1, n + 1):
            tried = best[k - 1, :stop] + (total[stop] - total[:stop]) * cost[stop - 1]
            came[k, stop] = int(tried.argmin())
            best[k, stop] = tried[came[k, stop]]
    cuts, stop = [], n
    for k in range(classes, 0, -1):
        stop = int(came[k, stop])
        cuts.append(stop)
    return sorted(cut for cut in cuts if cut > 0)


def _groups(program: Program, axes: Sequence[_Axis], labels: Sequence[Ints]) -> Iterator[Group]:
    pairs = labels[0] * (int(labels[1].max()) + 1) + labels[1]
    for pair in np.unique(pairs):
        members = np.flatnonzero(pairs == pair)
        tiles: list[dict[int, Tile]] = [{}, {}]
        for tile, axis, side in zip(tiles, axes, ("h", "w"), strict=True):
            for number, span in axis.found.items():
                tile[number] = _tile(span, getattr(program.forms[number], side), axis.index[members])
        yield Group(torch.from_numpy(members), tiles[0], tiles[1])


def _tile(span: Span, cells: int, members: Ints) -> Tile:
    size = int(span.size[members].max())
    return Tile(size, torch.from_numpy(np.minimum(span.low[members], cells - size)))
