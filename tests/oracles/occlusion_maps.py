"""The three maps of Zeiler and Fergus: two loops over places, one call of the network at each."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from tests.oracles.differences import Array
from tests.oracles.occlusion import places

Run = Callable[[Array], tuple[list[float], Array]]  # one picture to its logits, and the activation (K, h, w) of a layer


@dataclass(frozen=True)
class Found:
    """What stands at each place."""

    probability: Array
    label: Array
    feature: Array
    channel: int


def softmax(logits: list[float]) -> list[float]:
    top = max(logits)
    powers = [math.exp(one - top) for one in logits]
    return [one / sum(powers) for one in powers]


def three_maps(
    run: Run, x: Array, target: int, window: tuple[int, int], stride: tuple[int, int], edge: str = "full"
) -> Found:
    """Slide a square of the picture's mean colour over ``x (C, H, W)``."""
    _, act = run(x)
    totals = [float(sum(map(sum, one))) for one in act.tolist()]
    channel = totals.index(max(totals))
    rows, columns = (places(x.shape[i + 1], window[i], stride[i], edge) for i in range(2))
    size = (len(rows), len(columns))
    probability, label, feature = np.zeros(size), np.zeros(size, dtype=int), np.zeros(size)
    for i, top in enumerate(rows):
        for j, left in enumerate(columns):
            hidden = x.copy()
            for c in range(len(x)):
                hidden[c, top : top + window[0], left : left + window[1]] = x[c].mean()
            logits, act = run(hidden)
            probability[i, j] = softmax(logits)[target]
            label[i, j] = logits.index(max(logits))
            feature[i, j] = float(sum(map(sum, act[channel].tolist())))
    return Found(probability, label, feature, channel)
