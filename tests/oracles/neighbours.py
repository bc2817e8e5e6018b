"""Nearest neighbours one distance at a time, in Python's own numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence

Row = Sequence[float]


def distance(a: Row, b: Row, metric: str) -> float:
    """Euclidean, or one minus the cosine."""
    if metric == "l2":
        return math.sqrt(math.fsum((p - q) ** 2 for p, q in zip(a, b, strict=True)))
    dot = math.fsum(p * q for p, q in zip(a, b, strict=True))
    return 1 - dot / math.hypot(*a) / math.hypot(*b)


def nearest(query: Row, rows: Sequence[Row], k: int, metric: str, own: int | None) -> list[tuple[int, float]]:
    """The k nearest, with their distances; of equals the first."""
    far = []
    for i, row in enumerate(rows):
        if i == own or (metric == "cosine" and not any(row)):
            continue
        far.append((distance(query, row, metric), i))
    far.sort()
    return [(i, value) for value, i in far[:k]]
