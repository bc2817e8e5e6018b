"""Occlusion, written as it is told: put a patch here, look at the score; then the next place."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from tests.oracles.differences import Array, Score


def places(length: int, window: int, stride: int, edge: str) -> list[int]:
    """Where the window starts along one axis."""
    found, place = [], 0
    while place + window < length:
        found.append(place)
        place += stride
    # the last window reaches the border: pushed back onto the picture, or hanging over it
    found.append(max(0, length - window) if edge == "full" else place)
    return found


def occlusion(
    score: Score,
    x: Array,
    patch: Array,
    window: tuple[int, int],
    stride: tuple[int, int],
    edge: str = "full",
    sign: str = "drop",
) -> Array:
    """Mean over the windows that cover a pixel; ``x (C, H, W)``, ``patch`` is what the window shows, like ``x``."""
    channels, height, width = x.shape
    total, cover = np.zeros((height, width)), np.zeros((height, width))
    clean = score(x)
    for top in places(height, window[0], stride[0], edge):
        for left in places(width, window[1], stride[1], edge):
            under = [
                (i, j)
                for i in range(top, min(top + window[0], height))
                for j in range(left, min(left + window[1], width))
            ]
            hidden = x.copy()
            for c in range(channels):
                for i, j in under:
                    hidden[c, i, j] = patch[c, i, j]
            value = score(hidden)
            for i, j in under:
                total[i, j] += clean - value if sign == "drop" else value
                cover[i, j] += 1
    return total / cover


def in_space(logits: Sequence[float], target: int, space: str) -> float:
    """One class score in a score space, straight from the definitions."""
    if space == "logit":
        return logits[target]
    top = max(logits)
    p = math.exp(logits[target] - top) / sum(math.exp(v - top) for v in logits)
    return {"probability": p, "log_probability": math.log(p), "log_odds": math.log(p / (1 - p))}[space]


def blurred(x: Array, size: int = 11, sigma: float = 5.0) -> Array:
    """Gaussian blur with zeros around the picture."""
    channels, height, width = x.shape
    reach = size // 2
    weight = {
        (a, b): math.exp(-(a * a + b * b) / (2 * sigma * sigma))
        for a in range(-reach, reach + 1)
        for b in range(-reach, reach + 1)
    }
    norm = sum(weight.values())
    result = np.zeros_like(x)
    for c in range(channels):
        for i in range(height):
            for j in range(width):
                for (a, b), w in weight.items():
                    if 0 <= i + a < height and 0 <= j + b < width:
                        result[c, i, j] += w / norm * x[c, i + a, j + b]
    return result
