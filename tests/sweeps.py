"""Helpers for tests of sweeps."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor


def in_order(found: Iterable[tuple[Tensor, Tensor]]) -> Tensor:
    """Scores ``(K, N)`` by number of the mask, whatever order the sweep took."""
    positions, scores = zip(*found, strict=True)
    return torch.cat(scores)[torch.cat(positions).argsort()]
