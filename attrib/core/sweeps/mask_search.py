"""Scores of masked inputs that can be differentiated to the mask, one example after the other."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from attrib import checks
from attrib.core.backward.graph import gradients, unreached
from attrib.core.masking.fade import Fade, Hidden, shifted
from attrib.core.network import cost
from attrib.core.objectives.objective import Objective
from attrib.core.query import Query
from attrib.core.shared import checked_score
from attrib.errors import ModelError


@dataclass(frozen=True)
class Masked:
    """Some examples of a question, seen through masks.

    Attributes:
        query: the question about the whole batch.
        index: the examples ``(n,)``.
        which: the input that is masked; the others are seen as they are.
        fade: what it looks like where it is hidden.
        goal: what is asked of the examples, bound on the clean output.
    """

    query: Query
    index: Tensor
    which: int
    fade: Fade
    goal: Objective

    def score(self, keep: Tensor, shift: tuple[int, int] = (0, 0)) -> Tensor:
        """Score ``(n,)`` under ``keep (n, 1, H, W)``, with the graph to ``keep``; the picture may be moved."""
        inputs = [x[self.index] for x in self.query.inputs]
        inputs[self.which] = shifted(self.fade(keep), shift).clone()  # the model may change its input in place
        output, acts = self.query.run(tuple(inputs), *self.goal.layers, extra=self.query.extra_rows(self.index))
        score = checked_score(self.goal(output, acts), len(self.index))
        if not checks.finite(score):
            raise ModelError(
                "the score became NaN or infinite under a mask, so that the search for the best one had to stop. "
                "Try float64, or another baseline."
            )
        return score

    def slope(self, worth: Tensor, mask: Tensor, keep: Tensor, passes: int = 1) -> Tensor:
        """The gradient of every example's ``worth`` for its ``mask``; scores under ``keep``, of so many passes, count.

        What else counts may depend on the mask, too; that scores do must be seen apart from it.
        """
        found: tuple[Tensor | None, ...] = (None, None)
        if worth.requires_grad:
            cost.add(backwards=passes * len(self.index))
            found = gradients(worth.sum(), [mask, keep])
        if found[0] is None or found[1] is None:
            raise unreached("the inputs")
        return found[0].to(mask)

    @cached_property
    def clean(self) -> Tensor:
        """Score ``(n,)`` of the clean examples, in a pass of their own: in a larger batch it is rounded otherwise."""
        with torch.no_grad():
            return self.score(torch.ones_like(self.fade.levels[0][:, :1]))

    @cached_property
    def loss(self) -> Tensor:
        """How much of the score is lost where all is hidden, ``(n,)``, its sign aside: the unit of `left`."""
        with torch.no_grad():
            nothing = torch.zeros_like(self.fade.levels[0][:, :1])
            return (self.clean - self.score(nothing)).abs().clamp(min=torch.finfo(self.clean.dtype).eps)

    def left(self, score: Tensor) -> Tensor:
        """Which share of the score is left: 1 is the clean score, 0 that of a wholly hidden input.

        Where hiding everything *raises* the score, 0 is as far below the clean score as that is above it.
        """
        return 1 + (score - self.clean) / self.loss


def masked(query: Query, which: int, baseline: Hidden, batch_size: int) -> Iterator[Masked]:
    """The examples of ``query``, ``batch_size`` at a time, with one input hidden by ``baseline``."""
    x = checks.shape(query.inputs[which], "n c h w", "inputs")
    goal = query.clean.goal
    given = None if isinstance(baseline, str) else Fade.of(x, baseline)  # it may hold, or look at, the whole batch
    for index in torch.split(torch.arange(len(x), device=x.device), batch_size):
        fade = Fade.of(x[index], baseline) if given is None else given.rows(index)
        yield Masked(query, index, which, fade, goal.rows(index))


def grid_of(size: tuple[int, ...], cells: int) -> tuple[int, int]:
    """Rows and columns of square cells, ``cells`` along the shorter side, at most one per pixel."""
    side = max(1.0, min(size) / cells)
    return round(size[0] / side), round(size[1] / side)


def start(size: tuple[int, int], value: float, like: Tensor) -> Tensor:
    """A constant mask ``(n, 1, *size)`` per example of ``like``, in single precision at least."""
    dtype = torch.promote_types(like.dtype, torch.float32)
    return torch.full((len(like), 1, *size), value, dtype=dtype, device=like.device)
