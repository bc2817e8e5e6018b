"""The kin of Grad-CAM with the gradient taken by differences, place by place; and how maps are fused."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from tests.oracles.differences import Array, Score, gradient
from tests.oracles.gradcam import bilinear


def _weighted(act: Array, weights: list[float]) -> Array:
    channels, height, width = act.shape
    cam = np.zeros((height, width))
    for k in range(channels):
        for i in range(height):
            for j in range(width):
                cam[i, j] += weights[k] * act[k, i, j]
    return cam


def plus_plus(tail: Score, act: Array) -> Array:
    """Chattopadhyay et al.: weights of section 3 with the alpha of eq. 19; ``tail`` follows ``act (K, h, w)``."""
    channels, height, width = act.shape
    grad = gradient(tail, act)
    weights = []
    for k in range(channels):
        total = sum(act[k, a, b] for a in range(height) for b in range(width))
        weight = 0.0
        for i in range(height):
            for j in range(width):
                g = grad[k, i, j]
                if g > 0:
                    weight += g**2 / (2 * g**2 + total * g**3) * g
        weights.append(weight)
    return _weighted(act, weights)


def plus_plus_of_exp(tail: Score, act: Array, step: float = 1e-2) -> Array:
    """The same before eq. 19: alpha from second and third derivatives of ``exp(S)``, its slope in the weights."""
    channels, height, width = act.shape

    def along(k: int, i: int, j: int) -> list[float]:
        values = []
        for times in (-2, -1, 0, 1, 2):
            moved = act.copy()
            moved[k, i, j] += times * step
            values.append(math.exp(tail(moved)))
        return values

    weights = []
    for k in range(channels):
        total = act[k].sum()
        weight = 0.0
        for i in range(height):
            for j in range(width):
                a, b, c, d, e = along(k, i, j)
                first, second = (d - b) / (2 * step), (d - 2 * c + b) / step**2
                third = (e - 2 * d + 2 * b - a) / (2 * step**3)
                weight += second / (2 * second + total * third) * max(first, 0)
        weights.append(weight)
    return _weighted(act, weights)


def x_grad_cam(tail: Score, act: Array) -> Array:
    """Fu et al.: each channel's weight is its share of the activation times the derivative."""
    channels, height, width = act.shape
    grad = gradient(tail, act)
    weights = []
    for k in range(channels):
        total = sum(act[k, i, j] for i in range(height) for j in range(width))
        weight = 0.0
        for i in range(height):
            for j in range(width):
                weight += grad[k, i, j] * act[k, i, j] / total if total else 0.0
        weights.append(weight)
    return _weighted(act, weights)


def layer_cam(tail: Score, act: Array) -> Array:
    """Jiang et al.: activation times derivative where that is positive, summed over the channels."""
    return _place_by_place(tail, act, lambda g: max(g, 0.0))


def hires_cam(tail: Score, act: Array) -> Array:
    """Draelos and Carin: activation times derivative, summed over the channels."""
    return _place_by_place(tail, act, lambda g: g)


def _place_by_place(tail: Score, act: Array, part: Callable[[float], float]) -> Array:
    channels, height, width = act.shape
    grad = gradient(tail, act)
    cam = np.zeros((height, width))
    for i in range(height):
        for j in range(width):
            for k in range(channels):
                cam[i, j] += part(grad[k, i, j]) * act[k, i, j]
    return cam


def fused(maps: list[Array], scales: list[str], how: str, height: int, width: int) -> Array:
    """Resize, scale and join maps ``(h, w)`` of one example."""
    result = np.zeros((height, width))
    large = [bilinear(one, height, width) for one in maps]
    peaks = [max(abs(value) for value in one.flatten()) for one in large]
    for i in range(height):
        for j in range(width):
            values = []
            for one, peak, scale in zip(large, peaks, scales, strict=True):
                value = one[i, j] if scale == "none" or not peak else one[i, j] / peak
                values.append(math.tanh(2 * value) if scale == "tanh" else value)
            if how == "product":
                result[i, j] = math.prod(max(value, 0.0) for value in values)
            else:
                result[i, j] = max(values) if how == "max" else sum(values) / len(values)
    return result
