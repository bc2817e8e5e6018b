"""Excitation backprop written out: for every unit, who of those below won, one pair of units at a time.

P(a_i | a_j) = a_i w_ij / Z_j where w_ij > 0, else 0, with Z_j = sum of a_k w_kj over the positive weights; where that
is 0, nobody wins. ``sign=-1`` asks for the dual unit, whose weights are the negative ones.
"""

from __future__ import annotations

import numpy as np

from tests.oracles import backprop, deconvnet
from tests.oracles.backprop import Weights
from tests.oracles.differences import Array


def dense(weight: Array, act: Array, signal: Array, sign: int = 1) -> Array:
    """A linear layer ``weight (K, M)``."""
    won = np.zeros_like(act)
    for j in range(len(weight)):
        parts = [act[i] * max(sign * weight[j, i], 0.0) for i in range(len(act))]
        if sum(parts) > 0:
            for i in range(len(act)):
                won[i] += signal[j] * parts[i] / sum(parts)
    return won


def spread(act: Array, signal: Array) -> Array:
    """A mean over locations: the places of a channel share by their activation."""
    won = np.zeros_like(act)
    for c, y, x in np.ndindex(*act.shape):
        if act[c].sum() > 0:
            won[c, y, x] = signal[c] * act[c, y, x] / act[c].sum()
    return won


def excited(layer: deconvnet.Conv, act: Array) -> Array:
    """The excitation of each unit: activations times positive weights, without bias."""
    return deconvnet.conv_up(deconvnet.Conv(np.maximum(layer.weight, 0), 0 * layer.bias, **_how(layer)), act)


def conv(layer: deconvnet.Conv, act: Array, signal: Array) -> Array:
    """A convolution."""
    total, won = excited(layer, act), np.zeros_like(act)
    for unit, weight, place in deconvnet.fields(layer, act.shape):
        w = layer.weight[(unit[0], *weight)]
        if w > 0 and total[unit] > 0:
            won[place] += signal[unit] * act[place] * w / total[unit]
    return won


def _how(layer: deconvnet.Conv) -> dict[str, int]:
    return {"stride": layer.stride, "padding": layer.padding, "groups": layer.groups}


def one(count: int, index: int) -> Array:
    """All of the signal at one unit."""
    return np.eye(count)[index]


def chain(p: Weights, x: Array, target: int, sign: int = 1) -> dict[str, Array]:
    """``nets.Chain`` with ReLU: the probability of winning at its places."""
    conv1 = deconvnet.Conv(p["conv1.weight"], p["conv1.bias"], padding=1)
    conv2 = deconvnet.Conv(p["conv2.weight"], p["conv2.bias"], padding=1)
    first = backprop.rectify(deconvnet.conv_up(conv1, x))
    pooled, switches = deconvnet.pool_up(deconvnet.Pool(2, 2), first)
    second = backprop.rectify(deconvnet.conv_up(conv2, pooled))
    means = second.mean((1, 2))
    at_mean = dense(p["fc.weight"], means, one(len(p["fc.weight"]), target), sign)
    at_second = spread(second, at_mean)
    at_pool = conv(conv2, pooled, at_second)
    at_first = np.zeros_like(first)
    for unit, place in switches.items():
        at_first[place] += at_pool[unit]
    return {"act2": at_second, "pool": at_pool, "act1": at_first}


def residual(p: Weights, x: Array, target: int) -> Array:
    """``nets.Residual`` down to its first ReLU: what excites the sum are the shortcut and the positive weights."""
    scale = p["norm.weight"] / np.sqrt(p["norm.running_var"] + 1e-5)
    shift = p["norm.bias"] - scale * p["norm.running_mean"]
    stem = deconvnet.conv_up(deconvnet.Conv(p["stem.weight"], p["stem.bias"], 2, 1), x)
    active = backprop.rectify(stem * scale[:, None, None] + shift[:, None, None])
    layer = deconvnet.Conv(p["conv.weight"], p["conv.bias"], padding=1)
    total = backprop.rectify(active + deconvnet.conv_up(layer, active))
    at_sum = spread(total, dense(p["fc.weight"], total.mean((1, 2)), one(len(p["fc.weight"]), target)))
    by_weights = excited(layer, active)
    both = active + by_weights
    share = np.divide(at_sum, both, out=np.zeros_like(both), where=both > 0)
    return share * active + conv(layer, active, share * by_weights)


def folded(p: Weights, act: Array, signal: Array) -> Array:
    """Through BatchNorm ``1`` and the convolution ``0`` before it as one layer; ``act`` goes into the convolution."""
    scale = p["1.weight"] / np.sqrt(p["1.running_var"] + 1e-5)
    return conv(deconvnet.Conv(p["0.weight"] * scale[:, None, None, None], p["1.bias"], padding=1), act, signal)
