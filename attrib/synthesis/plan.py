"""What an attack asks of a network: pictures, the classes that are right, and those to be reached."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from attrib.core.objectives.indices import as_index
from attrib.core.objectives.objective import ClassScore
from attrib.errors import InputError, TargetError
from attrib.synthesis.ball import BallSearch
from attrib.synthesis.subject import Subject

Classes: TypeAlias = "int | Sequence[int] | Tensor"


@dataclass(frozen=True, eq=False)
class AttackPlan:
    """Pictures whose classes are to change.

    Attributes:
        subject: the network.
        x: inputs as they were given.
        picture: their pixels.
        before: probability of every class, ``(N, C)``.
        labels: the right classes, ``(N,)``.
        target: the classes to be reached, ``(N,)``; None: any other.
    """

    subject: Subject
    x: Tensor
    picture: Tensor
    before: Tensor
    labels: Tensor
    target: Tensor | None

    @classmethod
    def of(cls, subject: Subject, x: Tensor, target: Classes | None, labels: Classes | None) -> AttackPlan:
        """Run the pictures as they are, and refuse questions that have an answer already."""
        picture, before = subject.picture(x), subject.chances(x)
        said = before.argmax(1)
        right = said if labels is None else indices("labels", labels, before)
        if not bool((right == said).any()):
            raise InputError(
                f"labels must be what the network says of at least one picture; got {right.tolist()}, and it says "
                f"{said.tolist()}. It need not be fooled; leave labels out to attack what it says."
            )
        goal = None if target is None else indices("target", target, before)
        if goal is not None and bool((goal == said).any()):
            there = (goal == said).nonzero()[:, 0].tolist()
            raise InputError(
                f"target must differ from the class that is predicted; examples {there} are taken for it already. "
                "Choose another class, or leave these examples out."
            )
        return cls(subject, x, picture, before, right, goal)

    @property
    def wrong(self) -> Tensor:
        """Whom the network gets wrong as they are, ``(N,)`` bool."""
        return self.before.argmax(1) != self.labels

    def rows(self, index: Tensor) -> AttackPlan:
        """The same question for some of the examples."""
        target = None if self.target is None else self.target[index]
        x, picture, before, labels = (one[index] for one in (self.x, self.picture, self.before, self.labels))
        return AttackPlan(self.subject.rows(self.x, index), x, picture, before, labels, target)

    def searched(self, how: BallSearch, eps: Tensor) -> Tensor:
        """Pictures that were searched for within ``eps (N,)``."""
        sign, goal = (-1, self.labels) if self.target is None else (1, self.target)
        score = ClassScore(goal[:, None], "log_odds")
        return how.run(lambda picture: sign * self.subject.slope(picture, score), self.picture, eps)

    def succeeds(self, picture: Tensor) -> Tensor:
        """Whether these pixels are taken for what was asked, ``(N,)`` bool."""
        return self.reached(self.subject.chances(self.subject.space.to_input(picture)))

    def reached(self, chances: Tensor) -> Tensor:
        """The same, by the probabilities of all classes."""
        said = chances.argmax(1)
        return said != self.labels if self.target is None else said == self.target


def indices(what: str, classes: Classes, output: Tensor) -> Tensor:
    """Class numbers for the examples of ``output (N, C)``, ``(N,)``; one number holds for all."""
    given = torch.as_tensor(as_index(list(classes) if isinstance(classes, tuple) else classes))
    index = given[:, 0] if given.ndim == 2 and given.shape[1] == 1 else given
    if index.ndim > 1:
        raise TargetError(f"{what} must be a class number, or one for each example; got {classes!r:.60}.")
    n, count = output.shape
    if index.numel() not in {1, n}:
        raise TargetError(f"{what} must have one entry per example (N={n}); got {index.numel()} entries.")
    bad = index[(index < 0) | (index >= count)]
    if len(bad):
        raise TargetError(f"{what} must lie in [0, {count - 1}] for a model with {count} outputs; got {int(bad[0])}.")
    return index.to(output.device).expand(n)
