"""A table of scores, images x methods, as the statistics take it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch

from attrib import checks
from attrib.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

Numbers: TypeAlias = npt.NDArray[np.float64]
Table: TypeAlias = "Tensor | Numbers | Sequence[Sequence[float]]"


def as_table(values: Table, methods: Sequence[str], at_least: int = 1) -> Numbers:
    """Check ``(images, methods)`` scores, NaN where there is none, and give them as float64.

    Args:
        values: one row per image, one column per method.
        methods: labels of the columns.
        at_least: how many methods there must be.

    Example:
        >>> as_table([[1, 2], [3, float("nan")]], ["a", "b"])
        array([[ 1.,  2.],
               [ 3., nan]])
    """
    scores = torch.as_tensor(values, dtype=torch.float64).detach().cpu()
    checks.shape(scores, "n k", "values", k=len(methods))
    if len(set(methods)) < len(methods):
        raise InputError(f"methods must have different labels; got {', '.join(methods)}.")
    if len(methods) < at_least:
        raise InputError(f"methods must be at least {at_least} to be compared; got {len(methods)}.")
    if scores.isinf().any():
        raise InputError(f"values must be finite or NaN (undefined); got {int(scores.isinf().sum())} infinite values.")
    found: Numbers = scores.numpy()
    return found


def complete(scores: Numbers) -> Numbers:
    """The rows in which every method has a score."""
    rows: Numbers = scores[~np.isnan(scores).any(1)]
    return rows


def scipy_stats(purpose: str) -> Any:
    """SciPy's statistics, which only some of the numbers need, or a word on how to get it."""
    return checks.require("scipy.stats", purpose, "analysis")
