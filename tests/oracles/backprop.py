"""Guided backpropagation and deconvnet as backward passes written out by hand, layer by layer, for one example.

``p`` holds a network's weights by their names in the state dict. ``rule`` is ``"plain"``, ``"guided"`` or ``"deconv"``.
Each network returns the signal at its places, from the score down to ``"input"``.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from tests.oracles.differences import Array

Weights = Mapping[str, Array]
Switches = dict[tuple[int, int, int], tuple[int, int]]


def conv(x: Array, weight: Array, bias: Array, stride: int = 1) -> Array:
    """3 x 3 convolution with one pixel of zeros around; ``weight (K, C, 3, 3)``."""
    channels, height, width = x.shape
    padded = np.zeros((channels, height + 2, width + 2))
    padded[:, 1:-1, 1:-1] = x
    out = np.zeros((len(weight), (height - 1) // stride + 1, (width - 1) // stride + 1))
    for k, i, j in np.ndindex(*out.shape):
        field = padded[:, i * stride : i * stride + 3, j * stride : j * stride + 3]
        out[k, i, j] = (field * weight[k]).sum() + bias[k]
    return out


def conv_down(signal: Array, weight: Array, shape: tuple[int, ...], stride: int = 1) -> Array:
    """The transposed convolution: every unit paints its filter, scaled by the signal."""
    channels, height, width = shape
    padded = np.zeros((channels, height + 2, width + 2))
    for k, i, j in np.ndindex(*signal.shape):
        padded[:, i * stride : i * stride + 3, j * stride : j * stride + 3] += signal[k, i, j] * weight[k]
    return padded[:, 1:-1, 1:-1]


def pool(x: Array) -> tuple[Array, Switches]:
    """2 x 2 max-pooling and its switches, the place of the first maximum."""
    channels, height, width = x.shape
    out = np.zeros((channels, height // 2, width // 2))
    switches = {}
    for c, i, j in np.ndindex(*out.shape):
        best = (2 * i, 2 * j)
        for place in ((2 * i, 2 * j + 1), (2 * i + 1, 2 * j), (2 * i + 1, 2 * j + 1)):
            if x[(c, *place)] > x[(c, *best)]:
                best = place
        out[c, i, j], switches[c, i, j] = x[(c, *best)], best
    return out, switches


def unpool(signal: Array, switches: Switches, shape: tuple[int, ...]) -> Array:
    """Put each value back where its maximum was."""
    out = np.zeros(shape)
    for (c, i, j), place in switches.items():
        out[(c, *place)] = signal[c, i, j]
    return out


def gate(signal: Array, before: Array, rule: str) -> Array:
    """Pass through a ReLU downwards; ``before`` is what went into it upwards."""
    out = np.zeros_like(signal)
    for place in np.ndindex(*signal.shape):
        was_active, supports = before[place] > 0, signal[place] > 0
        passes = {"plain": was_active, "guided": was_active and supports, "deconv": supports}[rule]
        out[place] = signal[place] if passes else 0.0
    return out


def rectify(x: Array) -> Array:
    """The ReLU itself."""
    return np.where(x > 0, x, 0.0)


def spread(head: Array, like: Array) -> Array:
    """From one number per channel to the mean's gradient at each location."""
    return np.ones_like(like) * head[:, None, None] / (like.shape[1] * like.shape[2])


def chain(p: Weights, x: Array, target: int | tuple[int, int, int], rule: str) -> dict[str, Array]:
    """``nets.Chain``; ``target`` is a class, or channel, row and column of a unit of its second convolution."""
    first = conv(x, p["conv1.weight"], p["conv1.bias"])
    pooled, switches = pool(rectify(first))
    second = conv(pooled, p["conv2.weight"], p["conv2.bias"])
    if isinstance(target, tuple):
        at_second = np.zeros_like(second)
        at_second[target] = 1.0
    else:
        at_second = gate(spread(p["fc.weight"][target], second), second, rule)
    at_pool = conv_down(at_second, p["conv2.weight"], pooled.shape)
    at_first = gate(unpool(at_pool, switches, first.shape), first, rule)
    at_input = conv_down(at_first, p["conv1.weight"], x.shape)
    return {"conv2": at_second, "pool": at_pool, "conv1": at_first, "input": at_input}


def shared(p: Weights, x: Array, target: int, rule: str) -> dict[str, Array]:
    """``nets.SharedReLU``: each branch is gated by its own input to the one ReLU."""
    at_input = np.zeros_like(x)
    for branch in ("left", "right"):
        before = conv(x, p[f"{branch}.weight"], p[f"{branch}.bias"])
        signal = gate(spread(p["fc.weight"][target], before), before, rule)
        at_input += conv_down(signal, p[f"{branch}.weight"], x.shape)
    return {"input": at_input}


def pre_activation(p: Weights, x: Array, target: int, rule: str) -> dict[str, Array]:
    """``nets.PreActivation``: the rule holds on the branch through the ReLU, the other branch is untouched."""
    stem = conv(x, p["stem.weight"], p["stem.bias"])
    at_sum = spread(p["fc.weight"][target], stem)
    branch = gate(conv_down(at_sum, p["conv.weight"], stem.shape), stem, rule)
    at_stem = at_sum + branch
    return {"stem": at_stem, "input": conv_down(at_stem, p["stem.weight"], x.shape)}


def residual(p: Weights, x: Array, target: int, rule: str) -> dict[str, Array]:
    """``nets.Residual``: stride 2, BatchNorm with its own statistics, one ReLU run twice."""
    scale = p["norm.weight"] / np.sqrt(p["norm.running_var"] + 1e-5)
    shift = p["norm.bias"] - scale * p["norm.running_mean"]
    stem = conv(x, p["stem.weight"], p["stem.bias"], 2) * scale[:, None, None] + shift[:, None, None]
    active = rectify(stem)
    total = active + conv(active, p["conv.weight"], p["conv.bias"])
    at_sum = gate(spread(p["fc.weight"][target], total), total, rule)
    at_active = at_sum + conv_down(at_sum, p["conv.weight"], active.shape)
    at_stem = gate(at_active, stem, rule) * scale[:, None, None]
    return {"stem": at_stem, "input": conv_down(at_stem, p["stem.weight"], x.shape, 2)}
