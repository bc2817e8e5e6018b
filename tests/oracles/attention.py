"""A vision transformer in loops, attention rollout and gradient-weighted attention: matrix products written out."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from tests.oracles.differences import Array, gradient

Weights = Mapping[str, Array]


def softmax(scores: Array) -> Array:
    """Along one row."""
    powers = np.array([math.exp(s - max(scores)) for s in scores])
    return np.asarray(powers / sum(powers))


def attention_weights(q: Array, k: Array) -> Array:
    """Vaswani et al. 2017, eq. 1, for queries ``(T, d)`` and keys ``(S, d)`` of one head."""
    result = np.zeros((len(q), len(k)))
    for i in range(len(q)):
        result[i] = softmax(np.array([sum(q[i] * k[j]) / math.sqrt(q.shape[1]) for j in range(len(k))]))
    return result


def _norm(x: Array, p: Weights, name: str) -> Array:
    centred = x - x.mean(1, keepdims=True)
    scaled = centred / np.sqrt((centred**2).mean(1, keepdims=True) + 1e-5)
    return np.asarray(scaled * p[f"{name}.weight"] + p[f"{name}.bias"])


def _linear(x: Array, p: Weights, name: str) -> Array:
    return np.asarray(x @ p[f"{name}.weight"].T + p[f"{name}.bias"])


def _tokens(p: Weights, image: Array) -> Array:
    """Patches row by row, behind the other tokens."""
    kernel, bias = p["embed.weight"], p["embed.bias"]
    side = kernel.shape[2]
    rows = [
        [float((kernel[k] * image[:, y : y + side, x : x + side]).sum() + bias[k]) for k in range(len(kernel))]
        for y in range(0, image.shape[1] - side + 1, side)
        for x in range(0, image.shape[2] - side + 1, side)
    ]
    return np.concatenate([p["prefix"][0], np.array(rows)]) + np.asarray(p["place"][0])


def transformer(
    p: Weights, image: Array, read: slice, heads: int, given: Mapping[int, Array] | None = None
) -> tuple[Array, list[Array]]:
    """Logits of the tiny ViT for one image, and the weights ``(heads, T, T)`` of each layer; some may be ``given``."""
    tokens, layers = _tokens(p, image), []
    while f"blocks.{len(layers)}.norm1.weight" in p:
        at = f"blocks.{len(layers)}"
        q, k, v = np.split(_linear(_norm(tokens, p, f"{at}.norm1"), p, f"{at}.attn.qkv"), 3, 1)
        parts = [np.split(one, heads, 1) for one in (q, k, v)]
        weights = np.stack([attention_weights(parts[0][h], parts[1][h]) for h in range(heads)])
        weights = (given or {}).get(len(layers), weights)
        met = np.concatenate([weights[h] @ parts[2][h] for h in range(heads)], 1)
        tokens = tokens + _linear(met, p, f"{at}.attn.proj")
        inner = _linear(_norm(tokens, p, f"{at}.norm2"), p, f"{at}.mlp.0")
        inner = np.vectorize(lambda t: t * (1 + math.erf(t / math.sqrt(2))) / 2)(inner)
        tokens = tokens + _linear(inner, p, f"{at}.mlp.3")
        layers.append(weights)
    return _linear(_norm(tokens, p, "norm")[read].mean(0, keepdims=True), p, "head")[0], layers


def _product(a: Array, b: Array) -> Array:
    result = np.zeros((len(a), b.shape[1]))
    for i in range(len(a)):
        for j in range(b.shape[1]):
            result[i, j] = sum(a[i, k] * b[k, j] for k in range(len(b)))
    return result


FUSE: dict[str, Callable[[Sequence[float]], float]] = {"mean": lambda v: sum(v) / len(v), "max": max, "min": min}


def rollout(layers: Sequence[Array], heads: str = "mean", start: int = 0) -> Array:
    """Abnar and Zuidema 2020, section 3: all pairs of tokens, ``(T, T)``."""
    result = None
    for weights in layers[start:]:
        size = weights.shape[1]
        step = np.zeros((size, size))
        for i in range(size):
            for j in range(size):
                step[i, j] = 0.5 * FUSE[heads](list(weights[:, i, j])) + 0.5 * (i == j)
            step[i] /= sum(step[i])
        result = step if result is None else _product(step, result)
    assert result is not None
    return result


def relevance(p: Weights, image: Array, read: slice, heads: int, target: int) -> Array:
    """Chefer et al. 2021, eq. 5 and 6, with gradients by differences: all pairs of tokens, ``(T, T)``."""
    _, layers = transformer(p, image, read, heads)
    result = np.eye(layers[0].shape[1])
    for number, weights in enumerate(layers):
        grad = gradient(lambda w, n=number: float(transformer(p, image, read, heads, {n: w})[0][target]), weights)  # type: ignore[misc]
        raised = np.maximum(grad * weights, 0)
        result = result + _product(sum(raised[h] for h in range(heads)) / heads, result)
    return result
