"""Grad-CAM with the gradient taken by differences, and bilinear resizing pixel by pixel."""

from __future__ import annotations

import math

import numpy as np

from tests.oracles.differences import Array, Score, gradient


def grad_cam(tail: Score, act: Array, relu: bool = True, negative: bool = False) -> Array:
    """Selvaraju et al., eq. 1 and 2; ``tail`` is the network behind ``act (K, h, w)``."""
    channels, height, width = act.shape
    grad = gradient(tail, act)
    cam = np.zeros((height, width))
    for k in range(channels):
        alpha = sum(grad[k, i, j] for i in range(height) for j in range(width)) / (height * width)
        for i in range(height):
            for j in range(width):
                cam[i, j] += (-alpha if negative else alpha) * act[k, i, j]
    return np.maximum(cam, 0) if relu else cam


def bilinear(picture: Array, height: int, width: int) -> Array:
    """Resize ``(h, w)``; pixels are squares, their centres are at half-integers, the border continues outwards."""
    h, w = picture.shape
    result = np.zeros((height, width))
    for i in range(height):
        for j in range(width):
            y = max((i + 0.5) * h / height - 0.5, 0.0)
            x = max((j + 0.5) * w / width - 0.5, 0.0)
            top, left = min(math.floor(y), h - 1), min(math.floor(x), w - 1)
            bottom, right = min(top + 1, h - 1), min(left + 1, w - 1)
            a, b = y - top, x - left
            upper = (1 - b) * picture[top, left] + b * picture[top, right]
            lower = (1 - b) * picture[bottom, left] + b * picture[bottom, right]
            result[i, j] = (1 - a) * upper + a * lower
    return result
