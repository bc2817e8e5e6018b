"""ROAD: remove and debias. Removed pixels are filled in from their neighbours: no edge shows what was removed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from attrib import checks
from attrib.core import Query, Ranked
from attrib.errors import InputError
from attrib.metrics.asking import AskingMetric
from attrib.metrics.follow import swept
from attrib.metrics.impute import impute
from attrib.metrics.pictures import added, unchanged
from attrib.metrics.protocol import Protocol
from attrib.metrics.ranking import Ranking, tie_orders
from attrib.registry import METRICS

Side = Literal["morf", "lerf"]


@dataclass(frozen=True, eq=False)
class Imputed:
    """Pictures of which some pixels are filled in; each batch is solved for when it is wanted.

    Attributes:
        x: ``(N, C, H, W)``.
        hidden: masks of what is filled in, ``(K, N, 1, H, W)``.
        level: number of the noise field that each mask gets.
        sigma: of the noise.
        seed: of the noise.
    """

    x: Tensor
    hidden: Ranked
    level: Sequence[int]
    sigma: float
    seed: int

    def __len__(self) -> int:
        return len(self.hidden)

    def _noise(self, position: int) -> Tensor:
        source = np.random.Generator(np.random.Philox(key=self.seed, counter=(0, 0, 0, self.level[position])))
        return self.sigma * torch.from_numpy(source.standard_normal(tuple(self.x.shape[1:])))

    def pictures(self, start: int, stop: int) -> Tensor:
        """Pictures ``start`` to ``stop``, ``(k, N, C, H, W)`` float64."""
        keep = self.hidden.batch(start, stop, self.x)
        x = self.x.expand(len(keep), *self.x.shape)
        filled = impute(x.flatten(0, 1), keep.flatten(0, 1)).reshape(x.shape)
        noise = torch.stack([self._noise(i) for i in range(start, stop)])[:, None].to(filled)
        return filled + noise * (1 - keep.double())

    def batch(self, start: int, stop: int, like: Tensor) -> Tensor:
        """What turns the inputs into pictures ``start`` to ``stop``."""
        return added(self.pictures(start, stop) - self.x.double(), like)


class RoadMetric(AskingMetric):
    r"""Scores of pictures whose most, or least, relevant pixels are filled in from their neighbours.

    Convention:
        - of the protocol's units, the share given in per cent is removed, rounded half up, but never all of them.
        - a removed pixel is the weighted mean of its neighbours inside the image (1/6 beside, 1/12 across a corner),
          removed ones too, all channels alike; then Gaussian noise of ``sigma`` is added. The protocol's baseline and
          steps are not used.
        - noise is drawn for each percentile, channel and pixel, and is the same for every example and map.
        - the mean over percentiles of the score, the probability by default; the paper has accuracy.
        - equal units are removed as the protocol's ``ties`` say: in raster order, or the mean over random orders; least
          relevant first is most relevant first backwards. A constant map is measured like any other.

    Args:
        percentiles: of the units, in (0, 100).
        sigma: of the noise, in units of the input.
        seed: same seed, same noise.
    """

    sides: ClassVar[tuple[Side, ...]]

    def __init__(
        self, *, percentiles: Sequence[float] = (10, 20, 30, 40, 50, 60, 70, 80, 90), sigma: float = 0.01, seed: int = 0
    ) -> None:
        self.percentiles = tuple(checks.number("percentiles", one, 0, 100) for one in percentiles)
        if not self.percentiles or not all(0 < one < 100 for one in self.percentiles):
            raise InputError(f"percentiles must be numbers between 0 and 100; got {percentiles!r}.")
        self.sigma = checks.number("sigma", sigma, 0)
        self.seed = checks.integer("seed", seed, 0)

    def measure(self, query: Query, maps: Tensor, protocol: Protocol, options: dict[str, Any]) -> Tensor:
        """Mean over percentiles and orders of each side's scores, joined as the metric says."""
        x = query.image
        ranking = Ranking.of(maps, x, replace(protocol, steps=2), "")
        units, levels = ranking.values.shape[1], len(self.percentiles)
        count = torch.tensor([min(max(1, int(units * one / 100 + 0.5)), units - 1) for one in self.percentiles])
        stable = protocol.ties == "stable"
        among = torch.arange(units)[None] if stable else tie_orders(units, protocol.tie_orders, protocol.seed)
        orders = [ranking.order(one[None]) for one in among]
        lines = torch.stack([ranking.rank(o if side == "morf" else o.flip(1)) for side in self.sides for o in orders])
        line = torch.arange(len(lines)).repeat_interleave(levels)[:, None].expand(-1, len(x))
        hidden = Ranked(lines.to(x.device), count.repeat(len(lines))[:, None].expand(-1, len(x)), order=line)
        pictures = Imputed(x, hidden, list(range(levels)) * len(lines), self.sigma, self.seed)
        scores = swept(query, pictures, unchanged(x), options).reshape(len(self.sides), -1, len(x)).mean(1)
        return self.join(dict(zip(self.sides, scores, strict=True)))

    def join(self, scores: dict[Side, Tensor]) -> Tensor:
        """Return ``(N,)`` from the mean scores of each side."""
        return scores[self.sides[0]]


@METRICS.add("road")
class ROAD(RoadMetric):
    r"""How much more does it cost to lose what the map calls relevant than what it calls irrelevant?

    .. math:: s = \frac{1}{2 |P|} \sum_{p \in P} \bigl( f(x^{\mathrm{LeRF}}_p) - f(x^{\mathrm{MoRF}}_p) \bigr)

    ``x^{\mathrm{MoRF}}_p`` has the most relevant ``p`` per cent filled in, ``x^{\mathrm{LeRF}}_p`` the least relevant.

    Convention:
        - what is removed, and how it is filled in, is that of `RoadMorf` and `RoadLerf`.
        - higher is better; a map that ranks by chance has 0 on average, and a constant one has 0 where ties are random.

    Cost: two forward passes per percentile, for each order of ties, and one more; and as many linear systems per
    channel: two to four tenths of a second for a picture of 224 x 224 pixels on one CPU core.

    Args:
        percentiles: of the units, in (0, 100).
        sigma: of the noise, in units of the input.
        seed: same seed, same noise.

    Example:
        >>> ROAD(percentiles=(20, 50)).score(model, x, 3, torch.rand(2, 1, 12, 12)).shape
        torch.Size([2])

    References:
        Rong, Leemann, Borisov, Kasneci, Kasneci, "A Consistent and Efficient Evaluation Strategy for Attribution
        Methods", ICML 2022.
    """

    higher_is_better = True
    range = (-0.5, 0.5)
    sides = ("morf", "lerf")

    def join(self, scores: dict[Side, Tensor]) -> Tensor:
        """Half of the difference."""
        return (scores["lerf"] - scores["morf"]) / 2


@METRICS.add("road_morf")
class RoadMorf(RoadMetric):
    """Mean score while the most relevant pixels are filled in from their neighbours; lower is better."""

    higher_is_better = False
    range = (0.0, 1.0)
    sides = ("morf",)


@METRICS.add("road_lerf")
class RoadLerf(RoadMetric):
    """Mean score while the least relevant pixels are filled in from their neighbours; higher is better."""

    higher_is_better = True
    range = (0.0, 1.0)
    sides = ("lerf",)
