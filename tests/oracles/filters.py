"""Energy of a filter by frequency, slow and literal: sums of cosines and sines at one frequency at a time."""

from __future__ import annotations

import cmath
import math
from collections.abc import Callable

Plane = list[list[float]]


def power(filter_: list[Plane], fy: float, fx: float) -> float:
    """Squared size of the Fourier transform at one frequency, in cycles per pixel, summed over the input channels."""
    total = 0.0
    for plane in filter_:
        value = 0j
        for y, row in enumerate(plane):
            for x, weight in enumerate(row):
                value += weight * cmath.exp(-2j * math.pi * (fy * y + fx * x))
        total += abs(value) ** 2
    return total


def share(filter_: list[Plane], inside: Callable[[float, float], bool], points: int = 48) -> float:
    """Part of the energy where ``inside(fy, fx)``: a sum over the middles of small squares of frequency."""
    found = total = 0.0
    middles = [(i + 0.5) / points - 0.5 for i in range(points)]
    for fy in middles:
        for fx in middles:
            energy = power(filter_, fy, fx)
            total += energy
            found += energy if inside(fy, fx) else 0.0
    return found / total


def response(filter_: list[Plane], picture: list[Plane], y: int, x: int) -> float:
    """What the filter says with its upper left corner at (y, x); the picture goes on at its other side."""
    high, wide = len(picture[0]), len(picture[0][0])
    return sum(
        weight * picture[c][(y + dy) % high][(x + dx) % wide]
        for c, plane in enumerate(filter_)
        for dy, row in enumerate(plane)
        for dx, weight in enumerate(row)
    )


def moved(values: list[float], step: float) -> list[float]:
    """An odd number of values on a circle, read ``step`` places further on, as a sum of waves."""
    many = len(values)
    found = []
    for place in range(many):
        total = 0j
        for wave in range(-(many // 2), many // 2 + 1):
            size = sum(value * cmath.exp(-2j * math.pi * wave * i / many) for i, value in enumerate(values)) / many
            total += size * cmath.exp(2j * math.pi * wave * (place + step) / many)
        found.append(total.real)
    return found


def shift_error(filter_: list[Plane], picture: list[Plane], stride: int) -> float:
    """The worse of the two axes; sides of the picture must be an odd multiple of the stride."""
    return max(_along(filter_, picture, stride, down) for down in (True, False))


def _along(filter_: list[Plane], picture: list[Plane], stride: int, down: bool) -> float:
    high, wide = len(picture[0]), len(picture[0][0])
    length, lines = (high, wide) if down else (wide, high)
    wrong = total = 0.0
    for line in range(0, lines, stride):

        def say(place: int, line: int = line) -> float:
            return response(filter_, picture, place, line) if down else response(filter_, picture, line, place)

        start = [say(i) for i in range(0, length, stride)]
        for d in range(stride):
            shifted = [say(i + d) for i in range(0, length, stride)]
            expected = moved(start, d / stride)
            wrong += sum((a - b) ** 2 for a, b in zip(shifted, expected, strict=True))
            total += sum(a**2 for a in shifted) + sum(a**2 for a in start)
    return wrong / total
