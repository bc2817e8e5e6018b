"""Every method against every other on the same images: how large the difference is, and how sure its sign."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import numpy as np
import torch

from attrib import checks
from attrib.benchmark.scores import Numbers, Table, as_table, scipy_stats
from attrib.benchmark.stats import Paired, Values, open_unit, sign_flip_tests, vector
from attrib.errors import InputError, ShapeError

Correction = Literal["holm", "bh", "none"]

CORRECTIONS: tuple[Correction, ...] = ("holm", "bh", "none")


@dataclass(frozen=True)
class Effect:
    """How large a paired difference ``a - b`` is, in three ways that do not depend on the metric's unit.

    Attributes:
        d_z: mean of the differences over their standard deviation; NaN with fewer than two pairs or where all
            differences are equal.
        rank_biserial: matched-pairs rank-biserial correlation, in [-1, 1]; NaN without pairs.
        wins: pairs in which ``a`` is larger.
        losses: pairs in which ``b`` is larger.
        ties: pairs in which they are equal.
        undefined: pairs left out because a value is NaN.
    """

    d_z: float
    rank_biserial: float
    wins: int
    losses: int
    ties: int
    undefined: int

    @property
    def pairs(self) -> int:
        """Pairs in which both values are defined."""
        return self.wins + self.losses + self.ties


@dataclass(frozen=True)
class Pair:
    """Two methods on the images where both have a score.

    Attributes:
        a: label of the one.
        b: label of the other.
        test: two-sided, with differences turned so that positive means that ``a`` is better.
        effect: of the same differences.
        p: ``test.p``, corrected for the number of pairs.
        better: the better method where ``p`` is below the level; None where no difference is shown.
        possible: whether so many images could have shown one at all.
    """

    a: str
    b: str
    test: Paired
    effect: Effect
    p: float
    better: str | None
    possible: bool

    def __str__(self) -> str:
        if self.better is None:
            how = "no difference shown" if self.possible else "too few images to tell"
            return f"{self.a} and {self.b}: {how} ({self._words(1)})"
        turn, worse = (1, self.b) if self.better == self.a else (-1, self.a)
        return f"{self.better} is better than {worse} ({self._words(turn)})"

    def _words(self, turn: int) -> str:
        found, effect = self.test, self.effect
        size = f"{turn * found.difference:+.3g}, d_z={turn * effect.d_z:+.2f}, r={turn * effect.rank_biserial:+.2f}"
        return f"{size}, p={self.p:.2g}, n={found.pairs}{f', {found.undefined} undefined' * bool(found.undefined)}"


@dataclass(frozen=True)
class Pairs:
    """All pairs of methods under one metric.

    Attributes:
        methods: labels.
        every: the pairs, in the order of the methods.
        correction: for the number of pairs.
        alpha: the level.
    """

    methods: tuple[str, ...]
    every: tuple[Pair, ...]
    correction: Correction
    alpha: float

    def find(self, a: str, b: str) -> Pair:
        """The pair of two methods, in either order."""
        for label in (a, b):
            checks.choice("method", label, self.methods)
        for pair in self.every:
            if {pair.a, pair.b} == {a, b}:
                return pair
        raise InputError(f"a pair must have two methods; got {a!r} twice.")

    def not_worse(self) -> tuple[str, ...]:
        """The methods that no other is better than."""
        beaten = {pair.b if pair.better == pair.a else pair.a for pair in self.every if pair.better is not None}
        return tuple(label for label in self.methods if label not in beaten)


def effect_size(a: Values, b: Values) -> Effect:
    r"""How large the differences between paired values are.

    .. math:: d_z = \frac{\overline{a - b}}{\mathrm{sd}(a - b)}, \qquad r = \frac{R_+ - R_-}{R_+ + R_-}

    where :math:`R_+` and :math:`R_-` are the sums of the ranks of ``|a - b|`` over pairs with positive and negative
    differences.

    Convention:
        - the standard deviation divides by ``n - 1``.
        - for r, equal pairs are left out before ranking, as Wilcoxon's test does, and equal differences share their
          mean rank; 0 if all pairs are equal.
        - multiplying both sides by a positive number changes nothing; swapping them changes the signs.
        - pairs with a NaN are left out and counted.

    Args:
        a: one number per example.
        b: of the same examples in the same order.

    Example:
        >>> effect_size([3, 4, 5, 1], [1, 1, 1, 2])
        Effect(d_z=0.9258200997725514, rank_biserial=0.8, wins=3, losses=1, ties=0, undefined=0)

    References:
        Lakens, "Calculating and reporting effect sizes to facilitate cumulative science", Frontiers in Psychology 4,
        2013, eq. 6 (d_z); Kerby, "The simple difference formula", Comprehensive Psychology 3, 2014 (r).
    """
    one, other = vector("a", a).numpy(), vector("b", b).numpy()
    if len(one) != len(other):
        raise ShapeError(f"a and b must be paired, one value per example each; got {len(one)} and {len(other)}.")
    every = one - other
    gap = every[~np.isnan(every)]
    wins, losses = int((gap > 0).sum()), int((gap < 0).sum())
    return Effect(
        _d_z(gap), _rank_biserial(gap), wins, losses, len(gap) - wins - losses, undefined=len(every) - len(gap)
    )


def _d_z(gap: Numbers) -> float:
    # Differences that are equal but for rounding have no spread to be measured against.
    if len(gap) < 2 or np.ptp(gap) <= 1e-12 * np.abs(gap).max():
        return math.nan
    return float(gap.mean() / gap.std(ddof=1))


def _rank_biserial(gap: Numbers) -> float:
    if not len(gap):
        return math.nan
    unequal = gap[gap != 0]
    if not len(unequal):
        return 0.0
    ranks = scipy_stats("effect sizes").rankdata(np.abs(unequal))
    return float((ranks * np.sign(unequal)).sum() / ranks.sum())


def adjust(p: Sequence[float], correction: Correction = "holm") -> list[float]:
    """Correct p-values for how many there are.

    Convention:
        - ``"holm"``: the chance of *any* false statement stays below the level, whatever depends on what.
        - ``"bh"`` (Benjamini and Hochberg): the expected *share* of false statements does; more is found.
        - an adjusted value is compared with the level itself, never below the raw value, and in the same order.

    Args:
        p: in [0, 1].
        correction: ``"holm"``, ``"bh"`` or ``"none"``.

    Example:
        >>> adjust([0.01, 0.04, 0.03]), adjust([0.01, 0.04, 0.03], "bh")
        ([0.03, 0.06, 0.06], [0.03, 0.04, 0.04])

    References:
        Holm, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of Statistics 6, 1979;
        Benjamini, Hochberg, "Controlling the false discovery rate", JRSS B 57, 1995.
    """
    checks.choice("correction", correction, CORRECTIONS)
    raw = vector("p", p).numpy()
    if not ((raw >= 0) & (raw <= 1)).all():
        raise InputError(f"p must lie in [0, 1]; got {list(p)!r}.")
    if correction == "bh" and len(raw):
        raw = scipy_stats("the correction 'bh'").false_discovery_control(raw)
    elif correction == "holm":
        raw = _holm(raw)
    return [float(one) for one in raw]


def _holm(raw: Numbers) -> Numbers:
    order, adjusted = np.argsort(raw, kind="stable"), np.empty(len(raw))
    adjusted[order] = np.minimum(np.maximum.accumulate(raw[order] * np.arange(len(raw), 0, -1)), 1)
    return adjusted


def compare_pairs(
    values: Table,
    methods: Sequence[str],
    *,
    higher_is_better: bool,
    correction: Correction = "holm",
    alpha: float = 0.05,
    seed: int = 0,
    n: int = 10_000,
) -> Pairs:
    """Compare every pair of methods on the images where both are defined.

    Convention:
        - `paired_permutation_test`, two-sided, on each pair; then all p-values are corrected together.
        - with so few images that no outcome could be significant after the correction, ``possible`` is False.

    Args:
        values: scores ``(images, methods)``, NaN where undefined.
        methods: labels of the columns, two or more.
        higher_is_better: the metric's direction.
        correction: see `adjust`.
        alpha: level, in (0, 1).
        seed: see `paired_permutation_test`.
        n: see `paired_permutation_test`.

    Example:
        >>> scores = [[0.1, 0.3], [0.2, 0.5], [0.1, 0.2], [0.3, 0.4], [0.2, 0.6], [0.0, 0.3]]
        >>> for pair in compare_pairs(scores, ["occlusion", "random"], higher_is_better=False).every:
        ...     print(pair)
        occlusion is better than random (+0.233, d_z=+1.93, r=+1.00, p=0.031, n=6)
    """
    scores, alpha = as_table(values, methods, at_least=2), open_unit("alpha", alpha)
    sides = (scores if higher_is_better else -scores).T
    both = [(sides[i], sides[j]) for i, j in combinations(range(len(methods)), 2)]
    tests = sign_flip_tests(torch.from_numpy(np.stack([a - b for a, b in both], 1)), seed=seed, n=n)
    p = adjust([test.p for test in tests], correction)
    least = adjust([test.smallest for test in tests], correction)
    every = tuple(
        Pair(*labels, test, effect_size(*sides), p_, _better(labels, test, p_ < alpha), low < alpha)
        for labels, test, sides, p_, low in zip(combinations(methods, 2), tests, both, p, least, strict=True)
    )
    return Pairs(tuple(methods), every, correction, alpha)


def _better(labels: tuple[str, str], test: Paired, significant: bool) -> str | None:
    if not significant or test.difference == 0:
        return None
    return labels[0] if test.difference > 0 else labels[1]
