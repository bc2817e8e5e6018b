"""Where to measure a curve, slow and literal: one curve, one interval at a time; plain lists and loops."""

from __future__ import annotations

from collections.abc import Callable
from math import floor

FIRST, LEAST, ALIKE = 29, 4, 1e-6


def error(points: list[int], scores: dict[int, float], last: int, i: int) -> float:
    """Most that the interval from point ``i`` to the next can hide; ``last`` is the last possible point."""

    def slope(j: int) -> float:
        if j < 0 or j + 1 >= len(points):
            return 0.0
        a, b = points[j], points[j + 1]
        return abs(scores[b] - scores[a]) / ((b - a) / last)

    width = (points[i + 1] - points[i]) / last
    monotone = abs(scores[points[i + 1]] - scores[points[i]]) * width / 2  # a triangle
    tent = max(slope(i - 1), slope(i + 1)) * (width / 2) * width / 2  # two triangles, as high as a side gets half-way
    return max(monotone, tent)


def measure(score: Callable[[int], float], last: int, tolerance: float) -> tuple[list[int], float]:
    """The points measured, and the error left; ``score`` takes the number of units removed, 0 to ``last``."""
    first = min(FIRST, last + 1)
    points = [floor(i * last / (first - 1) + 0.5) for i in range(first)]
    scores = {point: score(point) for point in points}
    while True:
        hidden = [
            error(points, scores, last, i) if points[i + 1] - points[i] > 1 else 0.0 for i in range(len(points) - 1)
        ]
        total = sum(hidden)
        if total <= tolerance * (max(scores.values()) - min(scores.values())):
            return points, total
        sum_so_far, lightest = 0.0, 0.0
        for place, weight in enumerate(sorted(hidden, reverse=True)):
            if sum_so_far >= total / 2 and place >= LEAST:
                break
            sum_so_far, lightest = sum_so_far + weight, weight
        for i, weight in enumerate(hidden):
            if weight > total * ALIKE and weight >= lightest * (1 - ALIKE):
                middle = (points[i] + points[i + 1]) // 2
                scores[middle] = score(middle)
        points = sorted(scores)
