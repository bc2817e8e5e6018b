"""Captum's wrappers and metrics with the sampling written out: one example, one noisy copy at a time.

``explain(x, i)`` is the map of ``x (C, H, W)`` for the target of example ``i``. The noise is drawn as Captum draws it,
so that the same seed gives the same copies.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Explain = Callable[[Tensor, int], Tensor]


def smooth(explain: Explain, x: Tensor, kind: str, samples: int, deviation: float, seed: int) -> Tensor:
    """NoiseTunnel: mean, mean square or variance of the maps of noisy copies."""
    torch.manual_seed(seed)
    copies = x.repeat_interleave(samples, dim=0)
    copies = copies + torch.normal(0, torch.full(copies.shape, deviation))
    rows = []
    for i in range(len(x)):
        maps = torch.stack([explain(copies[i * samples + j], i) for j in range(samples)])
        mean, square = maps.mean(0), (maps * maps).mean(0)
        rows.append({"smoothgrad": mean, "smoothgrad_sq": square, "vargrad": square - mean * mean}[kind])
    return torch.stack(rows)


def sensitivity(explain: Explain, x: Tensor, seed: int, samples: int = 10, radius: float = 0.02) -> Tensor:
    """sensitivity_max: the largest change of the map, relative to its norm, among copies with uniform noise."""
    torch.manual_seed(seed)
    copies = x.repeat_interleave(samples, dim=0)
    copies = copies + torch.FloatTensor(copies.shape).uniform_(-radius, radius)
    worst = []
    for i, example in enumerate(x):
        clean = explain(example, i)
        moved = [explain(copies[i * samples + j], i) - clean for j in range(samples)]
        worst.append(max(float(m.norm() / clean.norm()) for m in moved))
    return torch.tensor(worst)


def infidelity(score: Explain, maps: Tensor, x: Tensor, change: Tensor) -> Tensor:
    """(change . map - (score(x) - score(x - change)))^2 for each example and one change of the input."""
    rows = []
    for i, example in enumerate(x):
        predicted = sum(float(a) * float(b) for a, b in zip(change.flatten(), maps[i].flatten(), strict=True))
        rows.append((predicted - float(score(example, i) - score(example - change, i))) ** 2)
    return torch.tensor(rows)
