"""Literal loops for the statistics of a benchmark; nothing is shared with the package."""

from __future__ import annotations

from itertools import combinations
from math import isnan


def rank_biserial(a: list[float], b: list[float]) -> float:
    """Kerby's simple difference: favourable minus unfavourable rank sums, over all."""
    gaps = [x - y for x, y in zip(a, b, strict=True) if not (isnan(x) or isnan(y)) and x != y]
    if not gaps:
        return 0.0
    up = down = 0.0
    for gap in gaps:
        smaller = sum(abs(other) < abs(gap) for other in gaps)
        equal = sum(abs(other) == abs(gap) for other in gaps)
        rank = smaller + (equal + 1) / 2
        up, down = up + rank * (gap > 0), down + rank * (gap < 0)
    return (up - down) / (up + down)


def holm(p: list[float], alpha: float) -> list[bool]:
    """Holm's procedure as he wrote it: go up from the smallest, stop at the first that is not small enough."""
    rejected, left = [False] * len(p), len(p)
    for i in sorted(range(len(p)), key=lambda i: p[i]):
        if p[i] * left > alpha:
            break
        rejected[i], left = True, left - 1
    return rejected


def ranks(row: list[float], *, higher_is_better: bool) -> list[float]:
    """1 plus how many are better, plus half of how many others are equal."""
    sign = -1 if higher_is_better else 1
    return [
        1 + sum(sign * other < sign * mine for other in row) + (sum(other == mine for other in row) - 1) / 2
        for mine in row
    ]


def friedman(rows: list[list[float]], *, higher_is_better: bool) -> float:
    """Chi-square with the correction for ties (Conover, Practical Nonparametric Statistics, section 5.8)."""
    ranked = [ranks(row, higher_is_better=higher_is_better) for row in rows]
    n, k = len(rows), len(rows[0])
    squares = sum(rank**2 for row in ranked for rank in row)
    sums = [sum(row[j] for row in ranked) for j in range(k)]
    expected = n * k * (k + 1) ** 2 / 4
    return (k - 1) * sum((total - n * (k + 1) / 2) ** 2 for total in sums) / (squares - expected)


def tau_b(a: list[float], b: list[float]) -> float:
    """Concordant minus discordant pairs, over the geometric mean of the pairs that are not tied."""
    good = bad = untied_a = untied_b = 0
    for i, j in combinations(range(len(a)), 2):
        first, second = a[i] - a[j], b[i] - b[j]
        good, bad = good + (first * second > 0), bad + (first * second < 0)
        untied_a, untied_b = untied_a + (first != 0), untied_b + (second != 0)
    return (good - bad) / (untied_a * untied_b) ** 0.5
