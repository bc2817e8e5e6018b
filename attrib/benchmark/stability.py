"""Does the same method win whatever the baseline, the score space and the number of steps?"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations

import numpy as np

from attrib import checks
from attrib.benchmark.scores import Numbers, Table, as_table, scipy_stats
from attrib.errors import InputError


@dataclass(frozen=True)
class Swap:
    """Two methods whose order depends on the setting.

    Attributes:
        a: the one.
        b: the other.
        a_better: settings in which ``a`` has the better mean.
        b_better: settings in which ``b`` has.
    """

    a: str
    b: str
    a_better: tuple[str, ...]
    b_better: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.a} is better in {', '.join(self.a_better)}; {self.b} in {', '.join(self.b_better)}"


@dataclass(frozen=True, eq=False)
class Stability:
    """How much rankings of the same methods on the same images agree between settings.

    Attributes:
        settings: labels.
        methods: labels.
        means: ``(settings, methods)``, over the images below.
        tau: Kendall's tau-b between the rankings by mean, ``(settings, settings)``; NaN where all methods are equal.
        swapped: share of method pairs whose order is reversed, ``(settings, settings)``.
        swaps: the pairs of methods that are reversed between any two settings.
        images: those on which every method has a score in every setting.
        undefined: the other images.
    """

    settings: tuple[str, ...]
    methods: tuple[str, ...]
    means: Numbers = field(repr=False)
    tau: Numbers = field(repr=False)
    swapped: Numbers = field(repr=False)
    swaps: tuple[Swap, ...]
    images: int
    undefined: int

    @property
    def share(self) -> float:
        """Share of method pairs whose order depends on the setting."""
        return len(self.swaps) / math.comb(len(self.methods), 2)

    @property
    def least(self) -> tuple[str, str, float]:
        """The two settings that agree least, and their tau; the first ones where none is defined."""
        each = list(combinations(range(len(self.settings)), 2))
        i, j = min(each, key=lambda pair: (math.isnan(self.tau[pair]), self.tau[pair]))
        return self.settings[i], self.settings[j], float(self.tau[i, j])

    @property
    def mean_tau(self) -> float:
        """Mean of tau over pairs of settings; NaN where one is."""
        return float(np.mean([self.tau[pair] for pair in combinations(range(len(self.settings)), 2)]))

    def __str__(self) -> str:
        one, other, tau = self.least
        lost = f", {self.undefined} undefined" if self.undefined else ""
        return (
            f"Kendall's tau {self.mean_tau:.2f} over {len(self.settings)} settings, {tau:.2f} between {one} and "
            f"{other}; {self.share:.0%} of the pairs of methods swap (n={self.images}{lost})"
        )


def rank_stability(
    values: Mapping[str, Table], methods: Sequence[str], *, higher_is_better: bool | Mapping[str, bool]
) -> Stability:
    """Compare the rankings that several settings of a protocol give: baseline x score space x steps, say.

    Convention:
        - methods are ranked by their mean; only images on which every method has a score in every setting count.
        - tau-b: 1 for equal rankings, -1 for reversed ones; equal means are ties.
        - a pair swaps if one method has the strictly better mean here and the strictly worse one there.
        - it says nothing about chance: two methods that are equally good swap half of the time. See `compare_pairs`.

    Args:
        values: for each setting the scores ``(images, methods)`` of the same images, NaN where undefined.
        methods: labels of the columns, two or more.
        higher_is_better: the metric's direction, or one for each setting.

    Example:
        >>> zero, blur = [[0.1, 0.2, 0.4], [0.2, 0.4, 0.5]], [[0.3, 0.2, 0.4], [0.4, 0.3, 0.5]]
        >>> found = rank_stability(
        ...     {"zero": zero, "blur": blur}, ["gradcam", "rise", "random"], higher_is_better=False
        ... )
        >>> print(found)
        Kendall's tau 0.33 over 2 settings, 0.33 between zero and blur; 33% of the pairs of methods swap (n=2)
        >>> print(found.swaps[0])
        gradcam is better in zero; rise in blur
    """
    if len(values) < 2:
        raise InputError(f"values must hold two settings or more; got {len(values)}.")
    tables = {setting: as_table(table, methods, at_least=2) for setting, table in values.items()}
    sizes = {setting: len(table) for setting, table in tables.items()}
    if len(set(sizes.values())) > 1:
        raise InputError(f"settings must be of the same images; got {sizes}.")
    scores = np.stack([_sign(setting, higher_is_better) * table for setting, table in tables.items()])
    whole = scores[:, ~np.isnan(scores).any((0, 2))]
    means = whole.mean(1) if whole.shape[1] else np.full((len(tables), len(methods)), np.nan)
    signs = np.array([_sign(setting, higher_is_better) for setting in tables])[:, None]
    order = np.stack([np.sign(means[:, i] - means[:, j]) for i, j in combinations(range(len(methods)), 2)], 1)
    return Stability(
        tuple(tables),
        tuple(methods),
        signs * means,
        _tau(means),
        (order[:, None] * order[None] < 0).mean(2) if whole.shape[1] else np.full((len(tables), len(tables)), np.nan),
        _swaps(order, tuple(tables), methods),
        whole.shape[1],
        scores.shape[1] - whole.shape[1],
    )


def _sign(setting: str, higher_is_better: bool | Mapping[str, bool]) -> float:
    if isinstance(higher_is_better, bool):
        return 1.0 if higher_is_better else -1.0
    checks.choice("setting", setting, tuple(higher_is_better))
    return 1.0 if higher_is_better[setting] else -1.0


def _tau(means: Numbers) -> Numbers:
    stats, settings = scipy_stats("Kendall's tau"), len(means)
    tau = np.eye(settings)
    for i in range(settings):
        for j in range(i, settings):
            undefined = np.isnan(means[[i, j]]).any() or np.ptp(means[i]) == 0 or np.ptp(means[j]) == 0
            tau[i, j] = tau[j, i] = math.nan if undefined else stats.kendalltau(means[i], means[j]).statistic
    return tau


def _swaps(order: Numbers, settings: tuple[str, ...], methods: Sequence[str]) -> tuple[Swap, ...]:
    found = []
    for column, (a, b) in zip(order.T, combinations(methods, 2), strict=True):
        a_better = tuple(name for name, sign in zip(settings, column, strict=True) if sign > 0)
        b_better = tuple(name for name, sign in zip(settings, column, strict=True) if sign < 0)
        if a_better and b_better:
            found.append(Swap(a, b, a_better, b_better))
    return tuple(found)
