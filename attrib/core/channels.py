"""Which channels of a layer are looked at, and the weighted sum of them."""

from __future__ import annotations

import torch
from torch import Tensor


def most_varied(act: Tensor, count: int | None) -> Tensor:
    """Numbers ``(N, count)`` of each example's channels of largest variance; None is all of them, in their order."""
    if count is None:
        return torch.arange(act.shape[1], device=act.device).expand(len(act), -1)
    spread = act.flatten(2).var(2, correction=0)
    return spread.argsort(dim=1, descending=True, stable=True)[:, :count]


def picked(act: Tensor, channels: Tensor) -> Tensor:
    """The channels ``(N, k)`` of ``act (N, K, ...)``, each example its own: ``(N, k, ...)``."""
    return act[torch.arange(len(act), device=act.device)[:, None], channels]


def weighted(act: Tensor, weights: Tensor) -> Tensor:
    """Sum the channels of ``act (N, K, ...)`` with ``weights (N, K)``: ``(N, 1, ...)``."""
    return torch.einsum("nk,nk...->n...", weights.to(act), act)[:, None]
