"""Another question for each example: a list of objectives, or of functions of one example's output."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import torch
from torch import Tensor

from attrib.core.network.geometry import Layout
from attrib.core.objectives.objective import Acts, Objective, Space
from attrib.core.objectives.places import layout_in
from attrib.errors import TargetError

Question: TypeAlias = Objective | Callable[[Any], Tensor]


@dataclass(frozen=True)
class Each(Objective):
    """One question per example.

    Captum's NoiseTunnel repeats lists along with the examples, so that a list of objectives is the way to ask each
    noisy copy what its example was asked.

    Args:
        questions: for each example an objective, or a function of what the model gives for that example alone, without
            the batch axis, that returns one number: the convention of pytorch-grad-cam's targets.
    """

    questions: tuple[Question, ...]

    def __post_init__(self) -> None:
        for one in self.questions:
            if not callable(one):
                raise TargetError(
                    f"a list of targets must hold objectives or callables only; got {one!r} among them. "
                    "Write ClassScore(3) for class 3."
                )

    @property
    def layers(self) -> tuple[str, ...]:
        return tuple(layer for one in self.questions if isinstance(one, Objective) for layer in one.layers)

    @property
    def reads_output(self) -> bool:
        return not all(isinstance(one, Objective) and not one.reads_output for one in self.questions)

    @property
    def entries(self) -> int:
        return len(self.questions)

    def bind(self, output: Any, acts: Acts) -> Each:
        self._check(output, acts)
        bound = [
            one.bind(_part(output, slice(n, n + 1)), _Rows(acts, n)) if isinstance(one, Objective) else one
            for n, one in enumerate(self.questions)
        ]
        return replace(self, questions=tuple(bound))

    def rows(self, index: Tensor) -> Each:
        return replace(self, questions=tuple(self.questions[n] for n in index.tolist()))

    def in_space(self, space: Space) -> Each:
        return replace(self, questions=tuple(_in_space(one, space) for one in self.questions))

    def __call__(self, output: Any, acts: Acts) -> Tensor:
        self._check(output, acts)
        return torch.stack([self._one(one, n, output, acts) for n, one in enumerate(self.questions)])

    def _check(self, output: Any, acts: Acts) -> None:
        if output is None:  # the forward pass ended before
            output = acts[self.layers[0]]
        n = len(next(iter(output.values())) if isinstance(output, Mapping) else output)
        if n != len(self.questions):
            raise TargetError(
                f"a list of targets must have one entry per example; got {len(self.questions)} for {n} examples. "
                "For the same question everywhere pass an objective, or a callable of the whole output."
            )

    @staticmethod
    def _one(question: Question, n: int, output: Any, acts: Acts) -> Tensor:
        if isinstance(question, Objective):
            return question(_part(output, slice(n, n + 1)), _Rows(acts, n))[0]
        score: object = question(_part(output, n))
        if not isinstance(score, Tensor) or score.numel() != 1:
            got = tuple(score.shape) if isinstance(score, Tensor) else type(score).__name__
            raise TargetError(f"a callable in a list of targets must return one number; got {got} for example {n}.")
        return score.reshape(())


def _in_space(question: Question, space: Space) -> Question:
    if isinstance(question, Objective):
        return question.in_space(space)
    if space == "logit":
        return question
    raise TargetError(
        f"score space {space!r} must be asked of a class; got the callable {question!r}. Use 'logit' for this target."
    )


def _part(output: Any, n: int | slice) -> Any:
    """The output for example ``n``, or for a slice of the batch; in dictionaries each entry has the batch axis."""
    if output is None:
        return None
    return {key: value[n] for key, value in output.items()} if isinstance(output, Mapping) else output[n]


@dataclass(frozen=True)
class _Rows:
    """Activations of one example."""

    acts: Acts
    n: int

    def __getitem__(self, layer: str) -> Tensor:
        return self.acts[layer][self.n : self.n + 1]

    def layout(self, layer: str) -> Layout:
        return layout_in(self.acts, layer)
