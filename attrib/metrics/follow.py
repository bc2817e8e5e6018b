"""Scores of masked images: all that the curves of several maps want, in batches filled across maps and orders."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from attrib.core import Masks, Query, Ranked, sweep
from attrib.metrics.ranking import Ranking
from attrib.metrics.readings import Curve
from attrib.metrics.refine import FIRST, halve, interval_errors, spread

_ROWS = 128  # pictures held at once where examples want different numbers of masks


@dataclass(frozen=True, eq=False)
class Jobs:
    """Masked images to score, ``(J,)`` each: the example, which order, how many units, and whether these are kept."""

    example: Tensor
    line: Tensor
    count: Tensor
    keep: Tensor

    def __len__(self) -> int:
        return len(self.example)

    @classmethod
    def joined(cls, parts: Sequence[Jobs]) -> Jobs:
        """All of them, one part after the other."""
        return cls(
            *(torch.cat([getattr(part, name) for part in parts]) for name in ("example", "line", "count", "keep"))
        )

    def table(self, n: int) -> tuple[Tensor, Tensor]:
        """Numbers of the jobs in rows of one job for each of ``n`` examples, ``(rows, n)``, and those left over."""
        number = torch.bincount(self.example, minlength=n)
        order = self.example.argsort(stable=True)
        place = torch.arange(len(order)) - (number.cumsum(0) - number).repeat_interleave(number)
        inside = place < number.min()
        rows = order[inside].reshape(n, -1).T
        return rows, order[~inside].sort().values


@dataclass(frozen=True, eq=False)
class Follower:
    """Images under one baseline, and the orders in which their units are hidden.

    Attributes:
        query: the question; its clean pass has been made.
        baseline: what replaces hidden pixels, broadcastable to the images.
        rank: ``(L, N, H, W)``, whole numbers, on the images' device.
        options: of `attrib.core.sweep`.
    """

    query: Query
    baseline: Tensor
    rank: Tensor
    options: dict[str, Any]

    def scores(self, jobs: Jobs) -> Tensor:
        """Score of each masked image, ``(J,)``, float64 on the CPU; each is one row of one forward pass."""
        found = torch.empty(len(jobs), dtype=torch.float64)
        rows, rest = jobs.table(self.rank.shape[1])
        masks = Ranked(self.rank, jobs.count[rows], jobs.keep[rows], jobs.line[rows])
        found[rows] = swept(self.query, masks, self.baseline, self.options)
        size = self.options.get("batch_size", "auto")
        size = _ROWS if size == "auto" else size * -(-_ROWS // size)
        for some in torch.split(rest, size) if len(rest) else ():
            found[some] = self._some(jobs.example[some], jobs.line[some], jobs.count[some], jobs.keep[some])
        return found

    def _some(self, example: Tensor, line: Tensor, count: Tensor, keep: Tensor) -> Tensor:
        """As `scores`, for examples of which each is an image of its own."""
        device = self.rank.device
        masks = Ranked(self.rank[line.to(device), example.to(device)], count[None], keep[None])
        base = self.baseline
        own = base.ndim == 4 and len(base) > 1
        return swept(_rows(self.query, example), masks, base[example.to(base.device)] if own else base, self.options)[0]


def _rows(query: Query, index: Tensor) -> Query:
    """The same question about some examples, each as often as it is listed; nothing is run for it."""
    clean, inputs = query.clean, tuple(x[index.to(x.device)] for x in query.inputs)
    goal = clean.goal.rows(index)
    part = replace(query, inputs=inputs, objective=goal, extra=query.extra_rows(index))
    # What is known of all is known of some: a cached property looks here first, and would else run the model.
    vars(part).update({name: value for name, value in vars(query).items() if name not in vars(part)})
    vars(part)["clean"] = replace(clean, goal=goal, score=clean.score[index.to(clean.score.device)])
    return part


def swept(query: Query, masks: Masks, baseline: Tensor, options: dict[str, Any]) -> Tensor:
    """Scores ``(K, N)``, float64 on the CPU: they leave the device once, when all are there."""
    found = torch.empty(len(masks), len(query.inputs[0]), dtype=torch.float64)
    if len(masks):
        positions, scores = zip(*sweep(query, masks, baseline=baseline, **options), strict=True)
        found[torch.cat(positions).cpu()] = torch.cat(scores).cpu().double()
    return found


@dataclass(eq=False)
class Trace:
    """One curve of each example while it is measured: ``T`` tie orders, ``N`` examples, ``K`` possible points.

    Attributes:
        ranking: of the maps.
        fraction: share of the pixels changed at every possible point of each order, ``(T, N, K)``.
        first: which line of `Follower.rank` is the first of the orders.
        averaged: how many of them are averaged.
        keep: whether the top of the order is kept instead of hidden.
        tolerance: measure only where the curve bends, see `Protocol`; None measures every possible point.
    """

    ranking: Ranking
    fraction: Tensor
    first: int
    averaged: int
    keep: bool
    tolerance: float | None

    def __post_init__(self) -> None:
        orders, _, points = self.fraction.shape
        self.score = torch.full_like(self.fraction, float("nan"))
        start = torch.arange(points) if self.tolerance is None else spread(min(FIRST, points), points)
        self.known = torch.zeros(self.fraction.shape[1:], dtype=torch.bool)
        self.known[:, start] = True
        self.wanted = self.known.clone()
        self.wanted[:, [0, -1]] = False  # the ends are scored once, for all curves
        # Where nothing is tied, all orders are the same one; a map that is not finite has no order.
        self.defined = torch.tensor([status != "nan" for status in self.ranking.status])
        self.apart = self.defined & ((self.ranking.tied > 0) | (torch.arange(orders) == 0)[:, None])

    def jobs(self) -> Jobs:
        """What is wanted now."""
        order, example, point = (self.wanted & self.apart[..., None]).nonzero(as_tuple=True)
        keep = torch.full_like(example, self.keep, dtype=torch.bool)
        return Jobs(example, order + self.first, self.ranking.counts[point], keep)

    def take(self, scores: Tensor) -> None:
        """Note the scores of `jobs`."""
        self.score[self.wanted & self.apart[..., None]] = scores
        self.score = self.score.where(self.apart[..., None], self.score[:1])

    def end(self, clean: Tensor, floor: Tensor) -> None:
        """Note the scores of both ends, ``(N,)``."""
        first, last = (floor, clean) if self.keep else (clean, floor)
        self.score[..., 0], self.score[..., -1] = first, last
        self.score[:, ~self.defined] = float("nan")

    def refine(self, rounding: float) -> None:
        """Want more where the area may still be off by more than the tolerance."""
        self.wanted = torch.zeros_like(self.known)
        if self.tolerance is None:
            return
        index, errors = self._errors()
        low, high = self._known(index, self.score).aminmax(dim=-1)
        limit = torch.maximum(self.tolerance * (high - low), rounding * torch.maximum(low.abs(), high.abs()))
        share = (errors / limit[..., None]).nan_to_num(0.0)  # 0 / 0 where all scores are 0
        open_ = (errors.sum(-1) > limit).any(0)
        middle = halve(index, share.amax(0).where(open_[:, None], 0.0))
        self.wanted.scatter_(1, middle, value=True)
        self.wanted[:, 0] = False
        self.known |= self.wanted

    def _index(self) -> Tensor:
        """Known points of each example, ``(N, P)``; shorter rows repeat the last."""
        points = self.known.shape[1]
        every = torch.arange(points).expand(self.known.shape)
        return every.where(self.known, points - 1).sort(dim=1).values[:, : int(self.known.sum(1).max())]

    def _known(self, index: Tensor, values: Tensor) -> Tensor:
        return values.gather(2, index.expand(len(values), -1, -1))

    def _errors(self) -> tuple[Tensor, Tensor]:
        """Known points and, for intervals that hold more possible points, how far off they may be."""
        index = self._index()
        errors = interval_errors(self._known(index, self.fraction), self._known(index, self.score))
        return index, errors.where(index.diff(dim=1) > 1, 0.0)

    def curve(self) -> Curve:
        """What was measured."""
        if self.tolerance is None:
            return Curve(self.fraction, self.score, self.averaged, self.keep)
        index, errors = self._errors()
        fraction, score = self._known(index, self.fraction), self._known(index, self.score)
        return Curve(fraction, score, self.averaged, self.keep, errors.sum(-1))


def run(follower: Follower, traces: Sequence[Trace]) -> None:
    """Measure all traces to their end, round by round; a round is one sweep for all of them."""
    clean = follower.query.clean.score.cpu().double()
    rounding = torch.finfo(follower.query.image.dtype).eps
    defined = torch.stack([trace.defined for trace in traces]).any(0).nonzero()[:, 0]
    none, units = torch.zeros_like(defined), traces[0].ranking.counts[-1]
    hidden = [Jobs(defined, none, none + units, none.bool())]  # all of the image, once for all curves
    floor = torch.full_like(clean, float("nan"))
    while hidden or any(trace.wanted.any() for trace in traces):
        jobs = [*hidden, *(trace.jobs() for trace in traces)]
        scores = torch.split(follower.scores(Jobs.joined(jobs)), [len(one) for one in jobs])
        for one, score in zip(hidden, scores, strict=False):
            floor[one.example] = score
        for trace, score in zip(traces, scores[len(hidden) :], strict=True):
            trace.take(score)
            trace.end(clean, floor)
            trace.refine(rounding)
        hidden = []
