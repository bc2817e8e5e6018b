"""Helpers for tests of sweeps."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

# Every mask is a pass of the model itself, and there are no others: for tests that count passes and rows.
DENSE: dict[str, Any] = {"exact_dense": True}


def in_order(found: Iterable[tuple[Tensor, Tensor]]) -> Tensor:
    """Scores ``(K, N)`` by number of the mask, whatever order the sweep took."""
    positions, scores = zip(*found, strict=True)
    return torch.cat(scores)[torch.cat(positions).argsort()]
