"""Where a curve bends: how far off its area can be, and which points to measure next."""

from __future__ import annotations

import torch
from torch import Tensor

FIRST = 29  # points to begin with: with 15, one curve in eighty of trained networks hid a bump between two of them
LEAST = 4  # intervals halved per round, so that a round fills a batch even when one curve alone is left


def interval_errors(fraction: Tensor, score: Tensor) -> Tensor:
    r"""Most that each interval can add to the error of the trapezoid rule, ``(..., K - 1)``, for curves that behave.

    .. math:: e_i = \tfrac{1}{2} \Delta p_i \max(|\Delta s_i|, \tfrac{1}{2} \Delta p_i |g|)

    The first term bounds the error of a monotone stretch. The second counts where the curve turns at the interval:
    ``g`` is the steeper slope of its neighbours, and the term bounds a tent whose sides go on as steeply as they do.

    Args:
        fraction: x of the points, ``(..., K)``, not falling.
        score: y of the points, ``(..., K)``.
    """
    width, rise = fraction.diff(dim=-1), score.diff(dim=-1)
    slope = torch.where(width > 0, rise / width, 0.0)
    left = torch.cat([slope[..., :1], slope[..., :-1]], -1)
    right = torch.cat([slope[..., 1:], slope[..., -1:]], -1)
    turns = (left * slope < 0) | (slope * right < 0) | (left * right < 0)
    tent = torch.maximum(left.abs(), right.abs()) * width / 2
    return torch.where(turns, torch.maximum(rise.abs(), tent), rise.abs()) * width / 2


def spread(points: int, among: int) -> Tensor:
    """Choose ``points`` numbers from 0 to ``among - 1``, equally spaced and rounded half up."""
    last = points - 1
    return (2 * torch.arange(points) * (among - 1) + last) // (2 * last)


def halve(index: Tensor, weight: Tensor) -> Tensor:
    """Choose the intervals that make up half of the weight, and `LEAST` at least; mark their middles.

    Args:
        index: which of the possible points are known, ``(N, P)``, rising; shorter rows repeat their last one.
        weight: of each interval, ``(N, P - 1)``; 0 where there is nothing to halve.

    Returns:
        ``(N, P - 1)``, the possible point in the middle of each chosen interval, 0 elsewhere.
    """
    heavy, order = weight.sort(dim=1, descending=True, stable=True)
    before = heavy.cumsum(1) - heavy
    enough = (before >= heavy.sum(1, keepdim=True) / 2) & (torch.arange(heavy.shape[1]) >= LEAST)
    chosen = torch.zeros_like(weight, dtype=torch.bool).scatter_(1, order, (heavy > 0) & ~enough)
    return ((index[:, 1:] + index[:, :-1]) // 2).where(chosen, 0)
