"""Perturbation curves, slow and literal: one pixel, one image, one forward pass at a time; plain lists and loops."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise, permutations
from math import floor

from torch import Tensor

Picture = list[list[float]]


def bilinear(picture: Picture, height: int, width: int) -> Picture:
    """Resize with pixel centres at half-integers, clamped at the border."""
    rows, columns = len(picture), len(picture[0])
    if (rows, columns) == (height, width):
        return picture
    result = []
    for i in range(height):
        y = max((i + 0.5) * rows / height - 0.5, 0.0)
        top = floor(y)
        bottom = min(top + 1, rows - 1)
        line = []
        for j in range(width):
            x = max((j + 0.5) * columns / width - 0.5, 0.0)
            left = floor(x)
            right = min(left + 1, columns - 1)
            above = picture[top][left] * (left + 1 - x) + picture[top][right] * (x - left)
            below = picture[bottom][left] * (left + 1 - x) + picture[bottom][right] * (x - left)
            line.append(above * (top + 1 - y) + below * (y - top))
        result.append(line)
    return result


def one_channel(channels: list[Picture], how: str, sign: str) -> Picture:
    """Reduce the channels of one map, then apply the sign policy."""
    result = []
    for i in range(len(channels[0])):
        line = []
        for j in range(len(channels[0][0])):
            values = [channel[i][j] for channel in channels]
            if how == "sum":
                value = sum(values)
            elif how == "mean":
                value = sum(values) / len(values)
            elif how == "max":
                value = max(values, key=abs)
            else:
                value = sum(v * v for v in values) ** 0.5
            if sign == "positive":
                value = max(value, 0.0)
            elif sign == "absolute":
                value = abs(value)
            line.append(value)
        result.append(line)
    return result


def units_of(height: int, width: int, side: int) -> list[list[tuple[int, int]]]:
    """The pixels of each square, in raster order of squares."""
    return [
        [(i, j) for i in range(y, min(y + side, height)) for j in range(x, min(x + side, width))]
        for y in range(0, height, side)
        for x in range(0, width, side)
    ]


def unit_values(picture: Picture, units: list[list[tuple[int, int]]]) -> list[float]:
    return [sum(picture[i][j] for i, j in unit) / len(unit) for unit in units]


def raster_order(values: list[float]) -> list[int]:
    """Most relevant unit first; of equal units the one that comes first in the image."""
    return sorted(range(len(values)), key=lambda unit: (-values[unit], unit))


def all_orders(values: list[float]) -> list[list[int]]:
    """Every order that sorts the values, most relevant first."""
    return [
        list(order)
        for order in permutations(range(len(values)))
        if all(values[a] >= values[b] for a, b in pairwise(order))
    ]


def hidden_counts(units: int, steps: int) -> list[int]:
    points = min(steps, units + 1)
    return [floor(i * units / (points - 1) + 0.5) for i in range(points)]


def trapezoid(fractions: list[float], scores: list[float]) -> float:
    area = 0.0
    for i in range(1, len(scores)):
        area += (fractions[i] - fractions[i - 1]) * (scores[i] + scores[i - 1]) / 2
    return area


def follow(
    score: Callable[[Tensor], float],
    start: Tensor,
    finish: Tensor,
    units: list[list[tuple[int, int]]],
    order: list[int],
    counts: list[int],
) -> tuple[list[float], list[float]]:
    """Turn ``start`` into ``finish`` unit by unit; fractions changed and scores after each of ``counts``."""
    fractions, scores = [], []
    total = sum(len(unit) for unit in units)
    for count in counts:
        picture = start.clone()
        changed = 0
        for unit in order[:count]:
            for i, j in units[unit]:
                for channel in range(picture.shape[0]):
                    picture[channel, i, j] = finish[channel, i, j]
                changed += 1
        fractions.append(changed / total)
        scores.append(score(picture[None]))
    return fractions, scores


def curves(
    score: Callable[[Tensor], float],
    image: Tensor,
    attribution: Tensor,
    *,
    baselines: tuple[Tensor, Tensor],
    side: int = 1,
    steps: int = 26,
    sign: str = "signed",
    channels: str = "sum",
) -> dict[str, tuple[list[float], list[float]]]:
    """Deletion, insertion and LeRF of one image ``(C, H, W)`` and one map ``(c, h, w)``, ties in raster order.

    ``baselines`` are what removed pixels become and what insertion starts from.
    """
    removed, inserted = baselines
    height, width = image.shape[1:]
    picture = bilinear(one_channel(attribution.tolist(), channels, sign), height, width)
    units = units_of(height, width, side)
    order = raster_order(unit_values(picture, units))
    counts = hidden_counts(len(units), steps)
    least_first = sorted(len(units) - count for count in counts)
    return {
        "deletion": follow(score, image, removed, units, order, counts),
        "insertion": follow(score, inserted, image, units, order, counts),
        "lerf": follow(score, image, removed, units, order[::-1], least_first),
    }
