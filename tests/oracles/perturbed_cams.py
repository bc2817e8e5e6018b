"""Score-CAM, Ablation-CAM and Eigen-CAM of one example, channel by channel and pixel by pixel."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from tests.oracles.differences import Array, Score
from tests.oracles.gradcam import bilinear


def combine(weights: Sequence[float], act: Array) -> Array:
    """The weighted sum of the channels of ``act (K, h, w)``."""
    _, height, width = act.shape
    cam = np.zeros((height, width))
    for weight, channel in zip(weights, act, strict=True):
        for i in range(height):
            for j in range(width):
                cam[i, j] += weight * channel[i, j]
    return cam


def stretched(channel: Array) -> Array:
    """Between 0 and 1; nothing where there is nothing to stretch."""
    low, high = channel.min(), channel.max()
    return np.zeros_like(channel) if low == high else (channel - low) / (high - low)


def increases(score: Score, x: Array, act: Array, baseline: float = 0.0) -> list[float]:
    """What each channel, used as a mask of ``x (C, H, W)``, adds to the score of the baseline."""
    empty = score(np.full_like(x, baseline))
    found = []
    for channel in act:
        mask = stretched(bilinear(channel, *x.shape[1:]))
        seen = np.zeros_like(x)
        for place in np.ndindex(*x.shape):
            keep = mask[place[1:]]
            seen[place] = keep * x[place] + (1 - keep) * baseline
        found.append(score(seen) - empty)
    return found


def score_cam(score: Score, x: Array, act: Array, weights: str = "softmax", baseline: float = 0.0) -> Array:
    """Wang et al., algorithm 1; channels that are constant do not take part."""
    found = increases(score, x, act, baseline)
    if weights == "softmax":
        live = [channel.min() < channel.max() for channel in act]
        powers = [math.exp(value) if alive else 0.0 for value, alive in zip(found, live, strict=True)]
        found = [power / sum(powers) for power in powers]
    return np.maximum(combine(found, act), 0)


def ablation_cam(tail: Score, act: Array, baseline: float = 0.0) -> Array:
    """Desai and Ramaswamy, without the division; ``tail`` is the network behind ``act (K, h, w)``."""
    clean, drops = tail(act), []
    for k in range(len(act)):
        without = act.copy()
        without[k] = baseline
        drops.append(clean - tail(without))
    return np.maximum(combine(drops, act), 0)


def eigen_cam(act: Array) -> Array:
    """Muhammad and Yeasin, by power iteration from (1, ..., 1), which stays among the leading vectors nearest to it."""
    channels, height, width = act.shape
    rows = np.zeros((height * width, channels))
    for k in range(channels):
        for i in range(height):
            for j in range(width):
                rows[i * width + j, k] = act[k, i, j]
    power = rows.T @ rows
    for _ in range(40):  # the matrix to the power of 2**40
        power = power / np.abs(power).max()
        power = power @ power
    weight = power @ np.ones(channels)
    weight = weight / math.sqrt(float(weight @ weight))
    return combine(weight.tolist(), act)
