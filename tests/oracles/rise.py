"""RISE pixel by pixel: read every mask off the enlarged grid of cells, look at the score, add both up."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import product

import numpy as np

from tests.oracles.differences import Array, Score


def shares(length: int, cells: int, offset: int) -> list[list[float]]:
    """For each place along one axis, how much of each cell it sees in a grid enlarged linearly by (cells + 1) sides."""
    side = math.ceil(length / cells)
    whole = (cells + 1) * side
    found = []
    for place in range(length):
        at = (offset + place + 0.5) * cells / whole - 0.5  # the centre of the pixel, in cells
        at = min(max(at, 0.0), cells - 1.0)
        low = min(math.floor(at), cells - 1)
        row = [0.0] * cells
        row[low] += 1 - (at - low)
        row[min(low + 1, cells - 1)] += at - low
        found.append(row)
    return found


def mask(size: Sequence[int], kept: Array, offset: Sequence[int]) -> Array:
    """One mask of a map."""
    axes = [shares(length, cells, at) for length, cells, at in zip(size, kept.shape, offset, strict=True)]
    found = np.zeros(size)
    for place in product(*map(range, size)):
        for cell in product(*map(range, kept.shape)):
            weight = math.prod(axis[i][c] for axis, i, c in zip(axes, place, cell, strict=True))
            found[place] += weight * kept[cell]
    return found


def rise(score: Score, x: Array, base: Array, masks: Sequence[Array], p: float | None) -> Array:
    """The map of one example ``x (C, ...)``; None divides by what the masks showed of each place."""
    total, shown = np.zeros(x.shape[1:]), np.zeros(x.shape[1:])
    for keep in masks:
        value = score(x * keep + base * (1 - keep))
        for place in product(*map(range, keep.shape)):
            total[place] += value * keep[place]
            shown[place] += keep[place]
    return total / (shown if p is None else len(masks) * p)


def every_mask(size: Sequence[int], cells: Sequence[int], p: float) -> Iterator[tuple[float, Array]]:
    """All masks that there are, with their probabilities."""
    sides = [math.ceil(length / count) for length, count in zip(size, cells, strict=True)]
    for offset in product(*map(range, sides)):
        for bits in product((0.0, 1.0), repeat=math.prod(cells)):
            kept = np.array(bits).reshape(cells)
            chance = math.prod(p if bit else 1 - p for bit in bits) / math.prod(sides)
            yield chance, mask(size, kept, offset)
