"""Average ranks over images, whether they differ at all, and how far apart two must be to count."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from attrib.benchmark.scores import Numbers, Table, as_table, complete, scipy_stats
from attrib.benchmark.stats import open_unit


@dataclass(frozen=True)
class Ranking:
    """Methods by their average rank; 1 is the best.

    Attributes:
        methods: labels, in the order given.
        ranks: average rank of each over the images; NaN without any.
        images: those on which every method has a score.
        undefined: images left out because some method has none.
        statistic: Friedman's chi-square, corrected for ties; NaN with fewer than 3 methods or 2 images.
        p: its p-value: could such ranks come from methods that are all alike?
        critical: Nemenyi's critical difference: average ranks closer than this are not told apart.
        alpha: level of the critical difference.
    """

    methods: tuple[str, ...]
    ranks: tuple[float, ...]
    images: int
    undefined: int
    statistic: float
    p: float
    critical: float
    alpha: float

    @property
    def best_first(self) -> tuple[str, ...]:
        """Labels by average rank; equals in the order given."""
        return tuple(self.methods[i] for i in np.argsort(self.ranks, kind="stable"))

    @property
    def groups(self) -> tuple[tuple[str, ...], ...]:
        """The largest sets of methods within one critical difference, best first; single methods are not listed."""
        order = np.argsort(self.ranks, kind="stable")
        ranks = np.array(self.ranks)[order]
        found, reached = [], 0
        for start in range(len(order)):
            end = int((ranks <= ranks[start] + self.critical).sum())
            if end - start > 1 and end > reached:
                found.append(tuple(self.methods[i] for i in order[start:end]))
                reached = end
        return tuple(found)

    def __str__(self) -> str:
        rank = dict(zip(self.methods, self.ranks, strict=True))
        told = ", ".join(f"{label} {rank[label]:.2f}" for label in self.best_first)
        lost = f", {self.undefined} undefined" if self.undefined else ""
        return f"{told} (critical difference {self.critical:.2f}, Friedman p={self.p:.2g}, n={self.images}{lost})"


def image_ranks(values: Table, methods: Sequence[str], *, higher_is_better: bool) -> Numbers:
    """Rank the methods on each image: 1 is the best, equals share their mean rank.

    Convention:
        - images on which a method has no score have no ranks: the whole row is NaN.

    Args:
        values: scores ``(images, methods)``, NaN where undefined.
        methods: labels of the columns.
        higher_is_better: the metric's direction.

    Returns:
        ``(images, methods)``.

    Example:
        >>> image_ranks([[0.9, 0.1, 0.1], [0.3, float("nan"), 0.2]], ["a", "b", "c"], higher_is_better=False)
        array([[3. , 1.5, 1.5],
               [nan, nan, nan]])
    """
    scores = as_table(values, methods)
    signed = -scores if higher_is_better else scores
    ranks: Numbers = scipy_stats("ranking").rankdata(signed, axis=1, nan_policy="propagate")
    return ranks


def rank_methods(values: Table, methods: Sequence[str], *, higher_is_better: bool, alpha: float = 0.05) -> Ranking:
    r"""Average ranks, Friedman's test that all methods are alike, and Nemenyi's critical difference.

    .. math:: \mathrm{CD} = \frac{q_\alpha}{\sqrt 2} \sqrt{\frac{k (k + 1)}{6 n}}

    for ``k`` methods and ``n`` images, with the studentised range :math:`q_\alpha` for ``k`` groups and infinite
    degrees of freedom.

    Convention:
        - ranks only compare: by how much one method is better does not matter. `compare_pairs` looks at that.
        - only images on which every method has a score; the others are counted in ``undefined``.
        - a rank, and so the critical difference, depends on which other methods take part.
        - Friedman's p is that of the chi-square distribution, which wants more than about ten images.

    Args:
        values: scores ``(images, methods)``, NaN where undefined.
        methods: labels of the columns, two or more.
        higher_is_better: the metric's direction.
        alpha: in (0, 1).

    Example:
        >>> scores = [[0.9, 0.5, 0.1], [0.8, 0.6, 0.2], [0.7, 0.8, 0.3], [0.9, 0.4, 0.3]]
        >>> print(rank_methods(scores, ["gradcam", "saliency", "random"], higher_is_better=True))
        gradcam 1.25, saliency 1.75, random 3.00 (critical difference 1.66, Friedman p=0.039, n=4)

    References:
        Demsar, "Statistical Comparisons of Classifiers over Multiple Data Sets", JMLR 7, 2006, section 3.2.2.
    """
    scores, alpha = as_table(values, methods, at_least=2), open_unit("alpha", alpha)
    whole, k = complete(scores), len(methods)
    ranks = image_ranks(whole, methods, higher_is_better=higher_is_better).mean(0) if len(whole) else [math.nan] * k
    statistic, p = _friedman(whole)
    return Ranking(
        tuple(methods),
        tuple(float(rank) for rank in ranks),
        len(whole),
        len(scores) - len(whole),
        statistic,
        p,
        critical_difference(k, len(whole), alpha),
        alpha,
    )


def critical_difference(methods: int, images: int, alpha: float = 0.05) -> float:
    """Nemenyi's critical difference of average ranks; NaN without images.

    Example:
        >>> round(critical_difference(5, 30), 3)  # Demsar's table 5: q = 2.728
        1.114
    """
    if not images:
        return math.nan
    spread = scipy_stats("a critical difference").studentized_range.ppf(1 - alpha, methods, math.inf) / math.sqrt(2)
    return float(spread * math.sqrt(methods * (methods + 1) / (6 * images)))


def _friedman(scores: Numbers) -> tuple[float, float]:
    images, methods = scores.shape
    if methods < 3 or images < 2:
        return math.nan, math.nan
    if (scores == scores[:, :1]).all():
        return 0.0, 1.0  # every rank is shared: SciPy would divide zero by zero
    found = scipy_stats("Friedman's test").friedmanchisquare(*scores.T)
    return float(found.statistic), float(found.pvalue)
