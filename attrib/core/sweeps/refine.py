"""Occlusion on a coarse grid first, and on the fine one only where the coarse one says that it matters."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from attrib.core.incremental.check import drawn
from attrib.core.masking.masks import Some, Windows
from attrib.core.masking.placed import placed
from attrib.core.network import cost
from attrib.core.network.geometry import Layout
from attrib.core.query import Query
from attrib.core.sweeps.perturb import sweep

# A cell of the coarse grid is refined where its corners reach, or differ by, this share of the largest effect.
_MATTERS = 0.2
_SAMPLES = 8  # interpolated windows that are computed after all, to measure the error


def sweep_refined(query: Query, windows: Windows, factor: int, layout: Layout | None = None, **how: Any) -> Tensor:
    """Scores ``(K, N)`` under all windows; those in flat cells of the coarse grid are interpolated linearly.

    The error is measured on sampled windows and noted as a `attrib.core.Deviation`.

    Args:
        query: the question.
        windows: the fine grid.
        factor: every so many windows along each axis make the coarse grid.
        layout: where the locations of a hidden layer are.
        how: further arguments of `sweep`.
    """

    def scores(chosen: list[int]) -> dict[int, Tensor]:
        found = sweep(query, placed(Some(windows, chosen), layout), **how) if chosen else ()
        return {chosen[i]: score for at, part in found for i, score in zip(at.tolist(), part, strict=True)}

    axes = [_coarse(length, factor) for length in windows.grid]
    number = np.arange(len(windows)).reshape(windows.grid)
    coarse = number[np.ix_(*axes)]
    found = scores(coarse.ravel().tolist())
    corners = torch.stack([found[i] for i in coarse.ravel().tolist()]).reshape(*coarse.shape, -1)
    fine = _fine(number, axes, (corners - query.clean.score).cpu().double().numpy())
    found |= scores(sorted(fine - found.keys()))
    filled = _interpolated(corners, axes)
    rest = [i for i in range(len(windows)) if i not in found]
    _measure(query, scores([rest[i] for i in drawn(len(rest), _SAMPLES)]), filled)
    for i, score in found.items():
        filled[i] = score
    return filled


def _coarse(length: int, factor: int) -> list[int]:
    return sorted({*range(0, length, factor), length - 1})


def _fine(number: NDArray[np.int64], axes: list[list[int]], effect: NDArray[np.float64]) -> set[int]:
    """Windows in the cells that matter for any example; ``effect`` is ``(rows, columns, N)``."""
    scale = np.abs(effect).reshape(-1, effect.shape[-1]).max(0)
    found: set[int] = set()
    for corner in product(*(range(max(1, len(at) - 1)) for at in axes)):
        cell = effect[tuple(slice(a, a + 2) for a in corner)].reshape(-1, effect.shape[-1])
        most = np.maximum(np.abs(cell).max(0), np.ptp(cell, 0))
        if (most >= _MATTERS * scale).any():
            ends = [(at[a], at[min(a + 1, len(at) - 1)] + 1) for a, at in zip(corner, axes, strict=True)]
            found |= set(number[tuple(slice(*end) for end in ends)].ravel().tolist())
    return found


def _interpolated(corners: Tensor, axes: list[list[int]]) -> Tensor:
    """Linear interpolation along each axis between the coarse values ``(rows, columns, N)``; ``(K, N)``."""
    for axis, at in enumerate(axes):
        weights = np.stack([np.interp(np.arange(at[-1] + 1), at, one) for one in np.eye(len(at))], 1)
        line = torch.from_numpy(weights).to(corners)
        corners = torch.tensordot(line, corners, ([1], [axis])).movedim(0, axis)
    return corners.flatten(0, -2).contiguous()


def _measure(query: Query, exact: dict[int, Tensor], filled: Tensor) -> None:
    """Compare some of the interpolated windows with what they are."""
    error = max((float((score - filled[i]).abs().max()) for i, score in exact.items()), default=0.0)
    largest = float((filled - query.clean.score).abs().max())
    cost.deviates(cost.Deviation("refine", None, error / largest if largest else error, len(exact)))
