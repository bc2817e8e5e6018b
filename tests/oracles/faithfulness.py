"""Faithfulness of one map, slow and literal: one picture, one pixel, one forward pass at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from math import floor, sqrt

import numpy as np
import torch
from torch import Tensor

Score = Callable[[Tensor], float]
Pixels = list[tuple[int, int]]


def correlation(a: Sequence[float], b: Sequence[float]) -> float:
    mean_a, mean_b = sum(a) / len(a), sum(b) / len(b)
    together = sum((p - mean_a) * (q - mean_b) for p, q in zip(a, b, strict=True))
    return together / sqrt(sum((p - mean_a) ** 2 for p in a) * sum((q - mean_b) ** 2 for q in b))


def places(values: Sequence[float]) -> list[float]:
    """Place of each value among all, from 1; equal ones share their mean place."""
    return [sum(other < one for other in values) + (sum(other == one for other in values) + 1) / 2 for one in values]


def hide(image: Tensor, pixels: Pixels, baseline: Tensor) -> Tensor:
    """``image (C, H, W)`` with some pixels of the baseline."""
    picture = image.clone()
    for i, j in pixels:
        for channel in range(len(image)):
            picture[channel, i, j] = baseline[channel, i, j]
    return picture


def held_and_lost(
    score: Score, image: Tensor, values: Tensor, sets: Sequence[Pixels], baseline: Tensor
) -> tuple[list[float], list[float]]:
    """What the map ``(H, W)`` holds in each set of pixels, and what the score loses without it."""
    clean = score(image[None])
    held = [sum(float(values[i, j]) for i, j in pixels) for pixels in sets]
    return held, [clean - score(hide(image, pixels, baseline)[None]) for pixels in sets]


def infidelity(predicted: Sequence[float], lost: Sequence[float], *, normalise: bool) -> float:
    beta = 1.0
    if normalise:
        beta = sum(p * q for p, q in zip(predicted, lost, strict=True)) / sum(p * p for p in predicted)
    return sum((beta * p - q) ** 2 for p, q in zip(predicted, lost, strict=True)) / len(lost)


def through_map(score: Score, image: Tensor, values: Tensor) -> tuple[float, float]:
    """Scores of the image, and of the image times its map stretched to [0, 1]."""
    low, high = float(values.min()), float(values.max())
    picture = image.clone()
    for i in range(values.shape[0]):
        for j in range(values.shape[1]):
            picture[:, i, j] *= (float(values[i, j]) - low) / (high - low)
    return score(image[None]), score(picture[None])


def irof(score: Score, image: Tensor, values: Tensor, segments: Sequence[Pixels], baseline: Tensor) -> float:
    """Area over the curve of relative scores; equal segments in the order given."""
    means = [sum(float(values[i, j]) for i, j in pixels) / len(pixels) for pixels in segments]
    order = sorted(range(len(segments)), key=lambda k: (-means[k], k))
    clean = score(image[None])
    relative, gone = [1.0], []
    for k in order:
        gone += segments[k]
        relative.append(score(hide(image, gone, baseline)[None]) / clean)
    under = sum((a + b) / 2 for a, b in pairwise(relative)) / len(segments)
    return 1 - under


def imputed(image: Tensor, pixels: Pixels) -> Tensor:
    """Fill in pixels: one equation for each, in a full matrix, solved by elimination."""
    height, width = image.shape[1:]
    number = {pixel: k for k, pixel in enumerate(pixels)}
    matrix, known = np.zeros((len(pixels), len(pixels))), np.zeros((len(pixels), len(image)))
    for (i, j), k in number.items():
        for di, dj in [(a, b) for a in (-1, 0, 1) for b in (-1, 0, 1) if (a, b) != (0, 0)]:
            weight = 1 / 6 if di == 0 or dj == 0 else 1 / 12
            beside = (i + di, j + dj)
            if not (0 <= beside[0] < height and 0 <= beside[1] < width):
                continue
            matrix[k, k] += weight
            if beside in number:
                matrix[k, number[beside]] -= weight
            else:
                known[k] += weight * image[:, beside[0], beside[1]].double().numpy()
    found = np.linalg.solve(matrix, known)
    picture = image.clone()
    for (i, j), k in number.items():
        picture[:, i, j] = torch.from_numpy(found[k]).to(picture)
    return picture


def road(
    score: Score, image: Tensor, values: Tensor, percentiles: Sequence[float], noise: Sequence[Tensor]
) -> tuple[float, float]:
    """Mean scores with the most, and the least, relevant pixels filled in; equal ones in raster order, or backwards."""
    height, width = values.shape
    pixels = [(i, j) for i in range(height) for j in range(width)]
    order = sorted(pixels, key=lambda pixel: (-float(values[pixel]), pixel))
    means = []
    for line in (order, order[::-1]):
        scores = []
        for percent, field in zip(percentiles, noise, strict=True):
            gone = line[: floor(len(line) * percent / 100 + 0.5)]
            picture = imputed(image, gone)
            for i, j in gone:
                picture[:, i, j] += field[:, i, j]
            scores.append(score(picture[None]))
        means.append(sum(scores) / len(scores))
    return means[0], means[1]
