"""Robustness and sanity of one map, slow and literal: plain lists and loops over values."""

from __future__ import annotations

from math import sqrt


def norm(values: list[float]) -> float:
    """Euclidean."""
    return sqrt(sum(value * value for value in values))


def apart(a: list[float], b: list[float]) -> float:
    """Euclidean distance."""
    return norm([x - y for x, y in zip(a, b, strict=True)])


def places(values: list[float]) -> list[float]:
    """Place of each value in rising order; equal ones share the mean of theirs."""
    return [
        sum(other < value for other in values) + (sum(other == value for other in values) + 1) / 2 for value in values
    ]


def spearman(a: list[float], b: list[float]) -> float:
    """Pearson's correlation of places."""
    first, second = places(a), places(b)
    mean = (len(a) + 1) / 2
    over = sum((x - mean) * (y - mean) for x, y in zip(first, second, strict=True))
    return over / sqrt(sum((x - mean) ** 2 for x in first) * sum((y - mean) ** 2 for y in second))
