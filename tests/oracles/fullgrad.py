"""FullGrad with every derivative taken by differences: what the score does when a constant is added somewhere."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from tests.oracles import backprop
from tests.oracles.backprop import Weights
from tests.oracles.differences import Array, gradient
from tests.oracles.gradcam import bilinear


def chain(p: Weights, x: Array, target: int) -> dict[str, Array]:
    """``nets.Chain`` with ReLU: contributions of the input and of its three biases; they add up to the score."""

    def score(x: Array, first: Array, second: Array, last: Array) -> float:
        pooled, _ = backprop.pool(backprop.rectify(backprop.conv(x, p["conv1.weight"], p["conv1.bias"]) + first))
        active = backprop.rectify(backprop.conv(pooled, p["conv2.weight"], p["conv2.bias"]) + second)
        scores = p["fc.weight"] @ active.mean((1, 2)) + p["fc.bias"] + last
        return float(scores[target])

    height, width = x.shape[1:]
    zeros = [
        np.zeros((len(p["conv1.bias"]), height, width)),
        np.zeros((len(p["conv2.bias"]), height // 2, width // 2)),
        np.zeros(len(p["fc.bias"])),
    ]
    terms = {"input": x * gradient(lambda v: score(v, *zeros), x)}
    for number, (name, zero) in enumerate(zip(("conv1", "conv2", "fc"), zeros, strict=True)):
        slope = gradient(lambda v, at=number: score(x, *zeros[:at], v, *zeros[at + 1 :]), zero)  # type: ignore[misc]
        terms[name] = slope * p[f"{name}.bias"].reshape(-1, *(1,) * (zero.ndim - 1))
    return terms


def one_map(part: Array) -> Array:
    """To [0, 1], one map of one channel."""
    low, high = part.min(), part.max()
    return (part - low) / (high - low) if high > low else 0 * part


def psi(part: Array, normalise: str) -> Array:
    """Absolute values; each channel, or all of them together, between 0 and 1."""
    part = np.abs(part)
    rescaled: dict[str, Callable[[], Array]] = {
        "channel": lambda: np.stack([one_map(channel) for channel in part]),
        "layer": lambda: one_map(part),
        "none": lambda: part,
    }
    return rescaled[normalise]()


def saliency(terms: dict[str, Array], normalise: str) -> Array:
    """Add up the input's channels and those of the convolutions, each resized."""
    height, width = terms["input"].shape[1:]
    total = psi(terms["input"], normalise).sum(0)
    for name in ("conv1", "conv2"):
        for channel in psi(terms[name], normalise):
            total = total + bilinear(channel, height, width)
    return total
