"""Attacks written out: one example at a time, cross-entropy on pixels, a loop over values for every projection."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor


def attacked(  # noqa: PLR0913  everything is an argument: nothing is shared with what is tested
    model: Any,
    pixels: Tensor,
    label: int,
    *,
    eps: float,
    steps: int,
    step: float,
    norm: str,
    mean: float,
    std: float,
    towards: bool = False,
) -> Tensor:
    """The pixels ``(C, H, W)`` after ``steps`` steps of length ``step``, pixels, away from or towards a class."""
    values = pixels.flatten().tolist()
    now = list(values)
    for _ in range(steps):
        point = torch.tensor(now, dtype=pixels.dtype, requires_grad=True)
        output = model((point.reshape(1, *pixels.shape) - mean) / std)
        loss = torch.nn.functional.cross_entropy(output, torch.tensor([label]))
        (slope,) = torch.autograd.grad(-loss if towards else loss, point)
        now = moved(now, slope.tolist(), step, norm)
        now = back(values, now, eps, norm)
    return torch.tensor(now, dtype=pixels.dtype).reshape(pixels.shape)


def moved(now: list[float], slope: list[float], step: float, norm: str) -> list[float]:
    length = math.sqrt(sum(one * one for one in slope))
    found = []
    for value, one in zip(now, slope, strict=True):
        sign = 0.0 if one == 0 else math.copysign(1.0, one)
        found.append(value + step * (sign if norm == "linf" else one / length))
    return found


def back(values: list[float], now: list[float], eps: float, norm: str) -> list[float]:
    """Into the ball around ``values``, then between black and white."""
    length = math.sqrt(sum((one - value) ** 2 for one, value in zip(now, values, strict=True)))
    found = []
    for value, one in zip(values, now, strict=True):
        change = one - value
        change = max(-eps, min(eps, change)) if norm == "linf" else change * min(1.0, eps / length)
        found.append(max(0.0, min(1.0, value + change)))
    return found


def rank_correlation(a: list[float], b: list[float]) -> float:
    """Spearman's, with mean ranks for equal values."""

    def ranks(values: list[float]) -> list[float]:
        return [
            sum(other < value for other in values) + (sum(other == value for other in values) + 1) / 2
            for value in values
        ]

    return correlation(ranks(a), ranks(b))


def correlation(a: list[float], b: list[float]) -> float:
    mean_a, mean_b = sum(a) / len(a), sum(b) / len(b)
    both = sum((x - mean_a) * (y - mean_b) for x, y in zip(a, b, strict=True))
    alone = (sum((one - mean) ** 2 for one in values) for values, mean in ((a, mean_a), (b, mean_b)))
    return both / math.sqrt(math.prod(alone))
