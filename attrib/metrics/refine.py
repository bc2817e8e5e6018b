"""Where a curve bends: how far off its area can be, and which points to measure next."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

FIRST = 29  # points to begin with: with 15, one curve in eighty of trained networks hid a bump between two of them
LEAST = 4  # intervals halved per round, so that a round fills a batch even when one curve alone is left
ALIKE = 1e-6  # relative difference of weights that may be rounding, which must not choose between them


def interval_errors(fraction: Tensor, score: Tensor) -> Tensor:
    r"""Most that each interval can add to the error of the trapezoid rule, ``(..., K - 1)``, for curves that behave.

    .. math:: e_i = \tfrac{1}{2} \Delta p_i^2 \max(|g_i|, \tfrac{1}{2} |g_{i-1}|, \tfrac{1}{2} |g_{i+1}|)

    ``g`` are the slopes. The first term bounds the error of a monotone stretch; the others bound a tent, whose sides go
    on as steeply as the neighbours. Nothing here jumps: rounding does not decide where a curve is measured.

    Args:
        fraction: x of the points, ``(..., K)``, not falling.
        score: y of the points, ``(..., K)``.
    """
    width = fraction.diff(dim=-1)
    slope = torch.where(width > 0, (score.diff(dim=-1) / width).abs(), 0.0)
    beside = torch.maximum(F.pad(slope[..., :-1], (1, 0)), F.pad(slope[..., 1:], (0, 1)))
    return torch.maximum(slope, beside / 2) * width.square() / 2


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
    heavy = weight.sort(dim=1, descending=True).values
    before, total = heavy.cumsum(1) - heavy, heavy.sum(1, keepdim=True)
    number = ((before < total / 2) | (torch.arange(heavy.shape[1]) < LEAST)).sum(1, keepdim=True)
    chosen = (weight > total * ALIKE) & (weight >= heavy.gather(1, number - 1) * (1 - ALIKE))
    return ((index[:, 1:] + index[:, :-1]) // 2).where(chosen, 0)
