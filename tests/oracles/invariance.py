"""Moving a picture pixel by pixel: where does each one come from, and what is there."""

from __future__ import annotations

import math

from torch import Tensor


def warp(x: Tensor, kind: str, amount: float, padding: str) -> Tensor:
    """One pixel at a time, in double precision."""
    high, wide = x.shape[2:]
    out = x.clone().double()
    for i in range(high):
        for j in range(wide):
            row, column = source(i - (high - 1) / 2, j - (wide - 1) / 2, kind, amount)
            out[:, :, i, j] = sample(x.double(), row + (high - 1) / 2, column + (wide - 1) / 2, padding)
    return out


def source(down: float, across: float, kind: str, amount: float) -> tuple[float, float]:
    """From where, seen from the centre, the pixel at (down, across) comes."""
    if kind == "vertical":
        return down - amount, across
    if kind == "horizontal":
        return down, across - amount
    if kind == "scale":
        return down / amount, across / amount
    far, angle = math.hypot(across, down), math.atan2(-down, across)  # as drawn on paper: up is positive
    before = angle - math.radians(amount)
    return -far * math.sin(before), far * math.cos(before)


def sample(x: Tensor, row: float, column: float, padding: str) -> Tensor:
    """Bilinear: four neighbours, each with the area opposite to it."""
    top, left = math.floor(row), math.floor(column)
    total = x[:, :, 0, 0] * 0
    for i in (top, top + 1):
        for j in (left, left + 1):
            weight = (1 - abs(row - i)) * (1 - abs(column - j))
            total = total + weight * pixel(x, i, j, padding)
    return total


def pixel(x: Tensor, i: int, j: int, padding: str) -> Tensor:
    """A pixel of the picture, or of what is said to be around it."""
    high, wide = x.shape[2:]
    if padding == "zeros" and not (0 <= i < high and 0 <= j < wide):
        return x[:, :, 0, 0] * 0
    if padding == "reflection":
        while not 0 <= i < high:
            i = -1 - i if i < 0 else 2 * high - 1 - i
        while not 0 <= j < wide:
            j = -1 - j if j < 0 else 2 * wide - 1 - j
    return x[:, :, min(max(i, 0), high - 1), min(max(j, 0), wide - 1)]
