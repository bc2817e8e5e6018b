"""Sweeps of pictures that are no masked copies, through the same engine.

A mask mixes the input and a baseline, ``b + keep (x - b)``. With the baseline ``x - 1`` that is ``x - 1 + keep``: a
mask of ``1 + d`` adds ``d`` to the input, whatever ``d`` is.
"""

from __future__ import annotations

from torch import Tensor


def unchanged(x: Tensor) -> Tensor:
    """The baseline under which masks are what is added to ``x``."""
    return x - 1


def added(difference: Tensor, like: Tensor) -> Tensor:
    """The mask that adds ``difference (k, 1 or N, C, H, W)`` to the input, under the baseline `unchanged`."""
    return (1 + difference).to(like)
