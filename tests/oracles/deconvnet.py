"""The deconvnet of Zeiler and Fergus written out: up with switches recorded, then down through the mirrored layers.

A network is a list of layers. Up: ``up(layers, x)`` gives the maps before each layer and after the last, and the
switches of each pooling. Down: ``project`` sets all activations but one to zero, then unpools, rectifies, filters.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tests.oracles.differences import Array

Place = tuple[int, int, int]


@dataclass
class Conv:
    weight: Array  # (K, C / groups, h, w)
    bias: Array
    stride: int = 1
    padding: int = 0
    groups: int = 1


@dataclass
class Pool:
    size: int
    stride: int
    padding: int = 0
    ceil: bool = False


@dataclass
class AdaptivePool:
    size: tuple[int, int]


@dataclass
class LRN:
    size: int
    alpha: float
    beta: float
    k: float


class ReLU:
    pass


Layer = Conv | Pool | AdaptivePool | LRN | ReLU


def fields(layer: Conv, shape: tuple[int, ...]) -> list[tuple[Place, Place, Place]]:
    """For each weight of each unit: (unit, weight, input) where the input is inside the map."""
    channels, height, width = shape
    kernels, per_group, kh, kw = layer.weight.shape
    rows = (height + 2 * layer.padding - kh) // layer.stride + 1
    columns = (width + 2 * layer.padding - kw) // layer.stride + 1
    found = []
    for k, i, j in np.ndindex(kernels, rows, columns):
        first = k // (kernels // layer.groups) * per_group
        for c, a, b in np.ndindex(per_group, kh, kw):
            y, x = i * layer.stride + a - layer.padding, j * layer.stride + b - layer.padding
            if 0 <= y < height and 0 <= x < width:
                found.append(((k, i, j), (c, a, b), (first + c, y, x)))
    assert channels == per_group * layer.groups
    return found


def conv_up(layer: Conv, x: Array) -> Array:
    rows = (x.shape[1] + 2 * layer.padding - layer.weight.shape[2]) // layer.stride + 1
    columns = (x.shape[2] + 2 * layer.padding - layer.weight.shape[3]) // layer.stride + 1
    out = np.broadcast_to(layer.bias[:, None, None], (len(layer.weight), rows, columns)).copy()
    for unit, weight, place in fields(layer, x.shape):
        out[unit] += layer.weight[(unit[0], *weight)] * x[place]
    return out


def conv_down(layer: Conv, signal: Array, shape: tuple[int, ...]) -> Array:
    out = np.zeros(shape)
    for unit, weight, place in fields(layer, shape):
        out[place] += layer.weight[(unit[0], *weight)] * signal[unit]
    return out


def _spans(length: int, layer: Pool | AdaptivePool, axis: int) -> list[tuple[int, int]]:
    """First and last-but-one index of each window along an axis, cut at the edges of the map."""
    if isinstance(layer, AdaptivePool):
        n = layer.size[axis]
        return [(i * length // n, -(-(i + 1) * length // n)) for i in range(n)]
    room = length + 2 * layer.padding - layer.size
    n = (-(-room // layer.stride) if layer.ceil else room // layer.stride) + 1
    if layer.ceil and (n - 1) * layer.stride >= length + layer.padding:
        n -= 1  # a window may not start in the padding behind the map
    starts = [i * layer.stride - layer.padding for i in range(n)]
    return [(max(start, 0), min(start + layer.size, length)) for start in starts]


def pool_up(layer: Pool | AdaptivePool, x: Array) -> tuple[Array, dict[Place, Place]]:
    rows, columns = _spans(x.shape[1], layer, 0), _spans(x.shape[2], layer, 1)
    out = np.zeros((len(x), len(rows), len(columns)))
    switches: dict[Place, Place] = {}
    for c, i, j in np.ndindex(*out.shape):
        best: Place | None = None
        for y in range(*rows[i]):
            for z in range(*columns[j]):
                if best is None or x[c, y, z] > x[best]:
                    best = (c, y, z)
        assert best is not None
        out[c, i, j], switches[c, i, j] = x[best], best
    return out, switches


def lrn_up(layer: LRN, x: Array) -> Array:
    out = np.zeros_like(x)
    for c, i, j in np.ndindex(*x.shape):
        first = c - layer.size // 2
        around = range(max(first, 0), min(first + layer.size, len(x)))
        energy = sum(x[d, i, j] ** 2 for d in around) / layer.size
        out[c, i, j] = x[c, i, j] / (layer.k + layer.alpha * energy) ** layer.beta
    return out


def up(layers: list[Layer], x: Array) -> tuple[list[Array], dict[int, dict[Place, Place]]]:
    maps, switches = [x], {}
    for number, layer in enumerate(layers):
        before = maps[-1]
        if isinstance(layer, Conv):
            maps.append(conv_up(layer, before))
        elif isinstance(layer, (Pool, AdaptivePool)):
            after, switches[number] = pool_up(layer, before)
            maps.append(after)
        elif isinstance(layer, LRN):
            maps.append(lrn_up(layer, before))
        else:
            maps.append(np.where(before > 0, before, 0.0))
    return maps, switches


def down(layers: list[Layer], x: Array, signal: Array) -> Array:
    """Hand a signal at the last layer down to the input; normalisation is passed over."""
    maps, switches = up(layers, x)
    for number in range(len(layers) - 1, -1, -1):
        layer, shape = layers[number], maps[number].shape
        if isinstance(layer, Conv):
            signal = conv_down(layer, signal, shape)
        elif isinstance(layer, (Pool, AdaptivePool)):
            unpooled = np.zeros(shape)
            for unit, place in switches[number].items():
                unpooled[place] += signal[unit]  # windows that share a maximum add up
            signal = unpooled
        elif isinstance(layer, ReLU):
            signal = np.where(signal > 0, signal, 0.0)
    return signal


def project(layers: list[Layer], x: Array, unit: Place, start: float | None = None) -> Array:
    """One unit of the last layer, all others zero: with its activation, or with ``start``."""
    top = up(layers, x)[0][-1]
    signal = np.zeros_like(top)
    signal[unit] = top[unit] if start is None else start
    return down(layers, x, signal)
