"""Masks, penalties and fading, written out cell by cell."""

from __future__ import annotations

from math import ceil, exp, hypot

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


def smooth_maximum(values: list[float], temperature: float = 0.1) -> float:
    """Mean of the values, weighted with exp(value / temperature)."""
    weights = [exp(value / temperature) for value in values]
    return sum(w * v for w, v in zip(weights, values, strict=True)) / sum(weights)


def max_convolution(heights: Array, sigma: float) -> Array:
    """Smooth maximum over the bumps of all cells near enough; heights beyond the border are 0."""
    rows, columns = heights.shape
    reach = max(1, ceil(3 * sigma))
    mask = np.zeros_like(heights)
    for y in range(rows):
        for x in range(columns):
            values = []
            for v in range(y - reach, y + reach + 1):
                for u in range(x - reach, x + reach + 1):
                    height = heights[v, u] if 0 <= v < rows and 0 <= u < columns else 0.0
                    beyond = max(0.0, hypot(v - y, u - x) - 1)
                    values.append(height * exp(-(beyond**2) / (2 * sigma**2)))
            mask[y, x] = smooth_maximum(values)
    return mask


def area_gap(mask: Array, area: float) -> float:
    """Squared distance of the sorted cells from zeros followed by a share of ones."""
    cells = sorted(mask.flatten().tolist())
    ones = max(1, round(area * len(cells)))
    ideal = [0.0] * (len(cells) - ones) + [1.0] * ones
    return float(sum((a - b) ** 2 for a, b in zip(cells, ideal, strict=True)))


def variation(mask: Array, power: float) -> float:
    """Powers of differences between neighbours, summed and divided by the number of cells."""
    total = 0.0
    for y in range(mask.shape[0]):
        for x in range(mask.shape[1]):
            total += abs(mask[y + 1, x] - mask[y, x]) ** power if y + 1 < mask.shape[0] else 0.0
            total += abs(mask[y, x + 1] - mask[y, x]) ** power if x + 1 < mask.shape[1] else 0.0
    return total / mask.size


def hidden(weights: Array, steps: int, sparsity: float, smoothness: float, power: float, length: float) -> Array:
    """Adam's steps on how much to hide of a picture of ones, of which a cell is worth its share of the weights."""
    cells = np.full(weights.shape, 0.5)
    mean, square = np.zeros_like(cells), np.zeros_like(cells)
    for step in range(1, steps + 1):
        slope = np.full_like(cells, sparsity)
        if (weights * (1 - cells)).sum() > 0:  # something is left to lose
            slope -= weights / weights.mean()
        for axis in (0, 1):
            jump = np.diff(cells, axis=axis)
            pull = smoothness * power * np.sign(jump) * np.abs(jump) ** (power - 1)
            slope += np.diff(pull, axis=axis, prepend=0, append=0) * -1
        slope /= cells.size
        mean, square = 0.9 * mean + 0.1 * slope, 0.999 * square + 0.001 * slope**2
        cells -= length * (mean / (1 - 0.9**step)) / (np.sqrt(square / (1 - 0.999**step)) + 1e-8)
        cells = cells.clip(0, 1)
    return cells


def blurred(plane: Array, sigma: float) -> Array:
    """Gaussian mean of the neighbours up to three standard deviations away; the border is repeated."""
    reach = ceil(3 * sigma)
    rows, columns = plane.shape
    out = np.zeros_like(plane)
    for y in range(rows):
        for x in range(columns):
            total = weight = 0.0
            for dy in range(-reach, reach + 1):
                for dx in range(-reach, reach + 1):
                    share = exp(-(dy**2 + dx**2) / (2 * sigma**2)) if sigma else 1.0
                    total += share * plane[min(max(y + dy, 0), rows - 1), min(max(x + dx, 0), columns - 1)]
                    weight += share
            out[y, x] = total / weight
    return out


def faded(plane: Array, keep: Array) -> Array:
    """Eight blurs from none to 20/224 of the shorter side; between two of them a straight line."""
    levels = [blurred(plane, 20 / 224 * min(plane.shape) * level / 7) for level in range(8)]
    out = np.zeros_like(plane)
    for y in range(plane.shape[0]):
        for x in range(plane.shape[1]):
            depth = (1 - keep[y, x]) * 7
            low = min(int(depth), 6)
            out[y, x] = (low + 1 - depth) * levels[low][y, x] + (depth - low) * levels[low + 1][y, x]
    return out


def moved(plane: Array, down: int, right: int) -> Array:
    """The picture moved by whole pixels; the border is repeated."""
    rows, columns = plane.shape
    return np.array(
        [
            [plane[min(max(y - down, 0), rows - 1), min(max(x - right, 0), columns - 1)] for x in range(columns)]
            for y in range(rows)
        ]
    )
