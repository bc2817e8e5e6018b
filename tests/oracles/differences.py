"""Gradients by central differences: what a gradient is, without autograd."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Score = Callable[[Array], float]


def gradient(score: Score, x: Array, step: float = 1e-5) -> Array:
    """``d score / d x``, entry by entry."""
    grad = np.zeros_like(x)
    for place in np.ndindex(*x.shape):
        up, down = x.copy(), x.copy()
        up[place] += step
        down[place] -= step
        grad[place] = (score(up) - score(down)) / (2 * step)
    return grad


def saliency(score: Score, x: Array) -> Array:
    """Largest absolute derivative over the channels of ``x (C, H, W)``: Simonyan et al., section 3.1."""
    grad = gradient(score, x)
    channels, height, width = x.shape
    result = np.zeros((height, width))
    for i in range(height):
        for j in range(width):
            result[i, j] = max(abs(grad[c, i, j]) for c in range(channels))
    return result


def input_x_gradient(score: Score, x: Array) -> Array:
    """Sum over channels of value times derivative."""
    grad = gradient(score, x)
    channels, height, width = x.shape
    result = np.zeros((height, width))
    for i in range(height):
        for j in range(width):
            result[i, j] = sum(x[c, i, j] * grad[c, i, j] for c in range(channels))
    return result
