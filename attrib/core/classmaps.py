"""Maps of several classes: one forward pass for all of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from attrib import checks
from attrib.core.attribution import Attribution
from attrib.core.objectives.indices import Index, as_index, by_name
from attrib.core.objectives.objective import Acts, ClassScore, Objective, Predicted
from attrib.core.query import Clean, Query
from attrib.core.together import Together
from attrib.errors import InputError, ShapeError, TargetError

_SHOWN = 5


@dataclass(frozen=True, eq=False)
class ClassMaps:
    """Maps of several classes of each example.

    Attributes:
        maps: ``(N, K, h, w)``, signed and raw.
        classes: which class each map explains, ``(N, K)``.
        score: the class's score on the clean input, ``(N, K)``.
    """

    maps: Tensor
    classes: Tensor
    score: Tensor

    def of(self, index: int) -> Tensor:
        """The map of one class, ``(N, 1, h, w)``; every example must have it."""
        found = self.classes == checks.integer("class index", index, 0)
        if not found.any(1).all():
            raise InputError(f"class {index} must be among those of every example; got {self.classes.tolist()}.")
        return self.maps[torch.arange(len(found)), found.long().argmax(1)][:, None]

    def contrast(self, index: int, other: int) -> Tensor:
        """What speaks for one class more than for another, ``(N, 1, h, w)``: the difference of their maps.

        With ``relu=False`` (the default of CAM, not of Grad-CAM) it is the map of the difference of the scores.
        """
        return self.of(index) - self.of(other)


@dataclass(frozen=True)
class _Ranked(Predicted):
    """One of the ``count`` classes with the highest scores; the first to be asked knows whether there are so many."""

    count: int = 1

    def bind(self, output: Any, acts: Acts) -> Objective:
        if isinstance(output, Tensor) and output.ndim == 2 and self.count > output.shape[1]:
            raise TargetError(f"classes must be at most the {output.shape[1]} that the model has; got {self.count}.")
        return super().bind(output, acts)


def class_maps(
    method: Attribution,
    inputs: Tensor,
    classes: int | str | Sequence[int] | Sequence[Sequence[int]] | np.ndarray[Any, Any] | Tensor | None = None,
    layer: str | None = None,
    *,
    additional_forward_args: object = None,
) -> ClassMaps:
    """Explain several classes of each example with one method.

    Convention:
        - the maps are, bit for bit, those of ``method.attribute`` with each class as the target.

    Cost: methods that say what they read (`Attribution.passes`) take one forward pass for all classes, and those that
    use gradients one backward pass per class and rule; ``CAM`` takes none. Others run once per class. ``"all"``, None
    and a layer to be found take one more forward pass each.

    Args:
        method: an instance that makes maps ``(N, 1, h, w)``.
        inputs: ``(N, C, H, W)``.
        classes: how many, those with the highest scores of each example, the highest five if None; or which: K numbers
            for all examples, or ``(N, K)``, a row for each, as lists, array or Tensor; or ``"all"``.
        layer: see `Attribution.attribute`.
        additional_forward_args: see `Attribution.attribute`.

    Example:
        >>> from attrib.methods import GradCAM
        >>> found = class_maps(GradCAM(model, "conv", relu=False), x, [3, 1])
        >>> found.maps.shape, found.classes.tolist()
        (torch.Size([2, 2, 12, 12]), [[3, 1], [3, 1]])
        >>> torch.equal(found.contrast(3, 1), found.maps[:, :1] - found.maps[:, 1:])
        True
    """
    if not isinstance(method, Attribution):
        raise InputError(f"method must be an Attribution; got {method!r}. Make it with the model.")
    with method.opened(inputs, additional_forward_args) as (tensors, extra):
        at = method.settle(layer, tensors, extra)
        query = Query(method.model, tensors, Predicted(), at, extra)
        answers = list(_answers(method, query, _objectives(classes, query)))
    shapes = {tuple(maps.shape) for maps, _ in answers}
    if len(shapes) > 1 or any(len(shape) < 3 or shape[1] != 1 for shape in shapes):
        raise ShapeError(f"{type(method).__name__} must make maps (N, 1, h, w) to be stacked; got {sorted(shapes)}.")
    return ClassMaps(
        torch.cat([maps for maps, _ in answers], 1),
        torch.stack([_index(clean.goal) for _, clean in answers], 1),
        torch.stack([clean.score for _, clean in answers], 1),
    )


def _answers(method: Attribution, query: Query, objectives: Sequence[Objective]) -> Iterator[tuple[Tensor, Clean]]:
    if method.passes(query.layer):
        together = Together({"": (method, query.layer)}, query, objectives)
        for objective in objectives:
            yield _one(together.answer("", objective)), together.clean(objective)
            together.shared.forget(objective)
    else:
        for objective in objectives:
            asked = Query(query.model, query.inputs, objective, query.layer, query.extra)
            yield _one(method.answer(asked)), asked.clean


def _one(maps: Tensor | tuple[Tensor, ...]) -> Tensor:
    if not isinstance(maps, Tensor):
        raise ShapeError(f"class maps need a model of one input; got maps of {len(maps)}.")
    return maps


def _objectives(classes: object, query: Query) -> list[Objective]:
    """One question for each map."""
    if classes is None:
        return [Predicted(rank=rank) for rank in range(min(_SHOWN, _outputs(query)))]
    if isinstance(classes, str):
        if classes != "all":
            raise TargetError(f"classes must be a count, numbers or 'all'; got {classes!r}.{by_name(classes)}")
        return [ClassScore(index) for index in range(_outputs(query))]
    rows: object = classes.tolist() if isinstance(classes, (Tensor, np.ndarray)) else classes
    if isinstance(rows, Sequence):
        return [ClassScore(column) for column in _columns(list(rows))]
    count = checks.integer("classes", rows, 1)
    return [_Ranked(rank=rank, count=count) for rank in range(count)]


def _outputs(query: Query) -> int:
    """How many classes the model has."""
    Predicted().bind(query.clean.output, query.clean.acts)  # which refuses what is not (N, C)
    return int(query.clean.output.shape[1])


def _columns(rows: list[Any]) -> list[Index]:
    """For each map its class: one for all examples, or ``(N,)`` where each example has a row of its own."""
    if not rows:
        raise TargetError("classes must hold at least one class index; got none.")
    if not any(isinstance(row, (list, tuple)) for row in rows):
        return [as_index(index) for index in rows]
    found = as_index(rows)  # which refuses rows of different lengths
    return [as_index(column) for column in found.T] if isinstance(found, Tensor) else []


def _index(goal: Objective) -> Tensor:
    index = goal.index if isinstance(goal, ClassScore) else None
    if not isinstance(index, Tensor):
        raise TargetError(f"classes must be classes; got {goal!r}.")
    return index[:, 0].cpu()
