"""Correlation along the first axis, with nothing made of numbers that do not vary."""

from __future__ import annotations

import torch
from torch import Tensor


def varies(values: Tensor, epsilon: float) -> Tensor:
    """Whether ``values (K, N)`` vary along ``K`` by more than rounding, ``(N,)``."""
    low, high = values.aminmax(dim=0)
    return high - low > 16 * epsilon * values.abs().amax(0)


def pearson(a: Tensor, b: Tensor) -> Tensor:
    """Correlation of ``a`` and ``b``, ``(K, N)`` each, along ``K``: ``(N,)`` in [-1, 1]."""
    a, b = a - a.mean(0), b - b.mean(0)
    return ((a * b).sum(0) / (a.square().sum(0) * b.square().sum(0)).sqrt()).clamp(-1, 1)


def ranks(values: Tensor) -> Tensor:
    """Places of ``values (K, N)`` in rising order along ``K``, from 1; equal ones share their mean place."""
    lines = values.T.contiguous()
    ordered = lines.sort(dim=1).values
    below, up_to = torch.searchsorted(ordered, lines), torch.searchsorted(ordered, lines, right=True)
    return (below + up_to + 1).T.double() / 2


def correlated(held: Tensor, score: Tensor, epsilon: float, *, ranked: bool = False) -> Tensor:
    """Correlation of what a map holds in each set with what the score loses, ``(K, N)`` each; NaN where one is flat.

    ``epsilon`` is the relative rounding error of scores. With ``ranked`` it is Spearman's correlation.
    """
    moves = varies(held, torch.finfo(held.dtype).eps * 16) & varies(score, epsilon)
    # Summed in float64 and compared in float32, equal sums stay equal: else rounding would put plateaus in order.
    found = pearson(ranks(held.float()), ranks(-score)) if ranked else pearson(held, -score)
    return found.where(moves, float("nan"))
