"""The question behind both ways to hide parts of a picture."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from attrib import checks
from attrib.core.objectives.objective import Space
from attrib.core.objectives.targets import as_objective
from attrib.core.query import Query
from attrib.errors import ShapeError


def ask(model: Callable[..., Any], inputs: object, target: object, space: Space, arguments: object) -> Query:
    """The question about the one input of a model."""
    (x, *more) = checks.batch(inputs)
    if more:
        raise ShapeError(f"inputs must be one Tensor; got {1 + len(more)}. Pass the rest as additional_forward_args.")
    return Query(model, (x.detach(),), as_objective(target).in_space(space), None, checks.arguments(arguments))


def warn_of_shares(query: Query, space: Space) -> None:
    """Say so where a score space squashes outputs that are probabilities already, which makes all scores alike."""
    if space != "logit" and _are_shares(query.clean.output):
        warnings.warn(
            f"score={space!r} takes a softmax of the outputs, but they are probabilities already: none is negative "
            "and each row sums to 1. Pass score='logit', which takes them as they are.",
            stacklevel=3,
        )


def _are_shares(output: object) -> bool:
    if not isinstance(output, Tensor) or output.ndim != 2 or output.shape[1] == 1:
        return False
    off = (output.double().sum(1) - 1).abs().max()
    return bool((output >= 0).all()) and float(off) < torch.finfo(output.dtype).eps ** 0.5
