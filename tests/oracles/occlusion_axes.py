"""Occlusion of signals and volumes, written as it is told: hide this box, look at the score; then the next box."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np

from tests.oracles.differences import Array, Score
from tests.oracles.occlusion import places


def occlusion(
    score: Score, x: Array, patch: Array, window: Sequence[int], stride: Sequence[int], edge: str = "full"
) -> Array:
    """Mean loss of score over the windows that cover a place; ``x (C, ...)``, ``patch`` is what the window shows."""
    size = x.shape[1:]
    total, cover = np.zeros(size), np.zeros(size)
    clean = score(x)
    for corner in product(*(places(n, w, s, edge) for n, w, s in zip(size, window, stride, strict=True))):
        hidden, under = x.copy(), []
        for place in product(*map(range, size)):
            if all(start <= at < start + side for start, at, side in zip(corner, place, window, strict=True)):
                under.append(place)
                for c in range(len(x)):
                    hidden[(c, *place)] = patch[(c, *place)]
        loss = clean - score(hidden)
        for place in under:
            total[place] += loss
            cover[place] += 1
    return total / cover
