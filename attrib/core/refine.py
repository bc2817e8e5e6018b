"""Occlusion on a coarse grid first, and on the fine one only where the coarse one says that it matters."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from attrib.core import cost
from attrib.core.incremental.check import drawn
from attrib.core.masks import Some, Windows
from attrib.core.perturb import sweep
from attrib.core.query import Query

# A cell of the coarse grid is refined where its corners reach, or differ by, this share of the largest effect.
_MATTERS = 0.2
_SAMPLES = 8  # interpolated windows that are computed after all, to measure the error


def sweep_refined(query: Query, windows: Windows, factor: int, **how: Any) -> Tensor:
    """Scores ``(K, N)`` under all windows; those in flat cells of the coarse grid are interpolated bilinearly.

    The error is measured on sampled windows and noted as a `attrib.core.Deviation`.

    Args:
        query: the question.
        windows: the fine grid.
        factor: every so many windows along each axis make the coarse grid.
        how: further arguments of `sweep`.
    """
    rows, columns = (_coarse(length, factor) for length in windows.grid)
    number = np.arange(len(windows)).reshape(windows.grid)
    coarse = number[np.ix_(rows, columns)]
    found: dict[int, Tensor] = dict(_scores(query, windows, coarse.ravel().tolist(), how))
    corners = torch.stack([found[i] for i in coarse.ravel().tolist()]).reshape(*coarse.shape, -1)
    fine = _fine(number, rows, columns, (corners - query.clean.score).cpu().double().numpy())
    found |= _scores(query, windows, sorted(fine - found.keys()), how)
    filled = torch.einsum("ya,abn,xb->yxn", *_weights(corners, rows, columns)).flatten(0, 1).to(corners)
    rest = [i for i in range(len(windows)) if i not in found]
    _measure(query, windows, rest, filled, how)
    for i, score in found.items():
        filled[i] = score
    return filled


def _coarse(length: int, factor: int) -> list[int]:
    return sorted({*range(0, length, factor), length - 1})


def _scores(query: Query, windows: Windows, chosen: list[int], how: dict[str, Any]) -> dict[int, Tensor]:
    if not chosen:
        return {}
    some = Some(windows, chosen)
    return {
        chosen[i]: score
        for at, scores in sweep(query, some, **how)
        for i, score in zip(at.tolist(), scores, strict=True)
    }


def _fine(number: NDArray[np.int64], rows: list[int], columns: list[int], effect: NDArray[np.float64]) -> set[int]:
    """Windows in the cells that matter for any example; ``effect`` is ``(rows, columns, N)``."""
    scale = np.abs(effect).max((0, 1), keepdims=True)
    found: set[int] = set()
    for a in range(max(1, len(rows) - 1)):
        for b in range(max(1, len(columns) - 1)):
            cell = effect[a : a + 2, b : b + 2].reshape(-1, effect.shape[2])
            most = np.maximum(np.abs(cell).max(0), np.ptp(cell, 0))
            if (most >= _MATTERS * scale[0, 0]).any():
                last = (rows[min(a + 1, len(rows) - 1)], columns[min(b + 1, len(columns) - 1)])
                found |= set(number[rows[a] : last[0] + 1, columns[b] : last[1] + 1].ravel().tolist())
    return found


def _weights(corners: Tensor, rows: list[int], columns: list[int]) -> tuple[Tensor, Tensor, Tensor]:
    """Linear interpolation along each axis, as matrices around the coarse values."""
    down, across = (
        torch.from_numpy(np.stack([np.interp(np.arange(at[-1] + 1), at, one) for one in np.eye(len(at))], 1)).to(
            corners
        )
        for at in (rows, columns)
    )
    return down, corners, across


def _measure(query: Query, windows: Windows, rest: list[int], filled: Tensor, how: dict[str, Any]) -> None:
    """Compute some of the interpolated windows after all."""
    chosen = [rest[i] for i in drawn(len(rest), _SAMPLES)]
    exact = _scores(query, windows, chosen, how)
    error = max((float((score - filled[i]).abs().max()) for i, score in exact.items()), default=0.0)
    largest = float((filled - query.clean.score).abs().max())
    cost.deviates(cost.Deviation("refine", None, error / largest if largest else error, len(exact)))
