"""What a search for an image leaves: the image, its best state, every number of every step, and how to go on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from attrib.errors import ModelError

Stopped = Literal["done", "asked", "interrupted"]


@dataclass(frozen=True, eq=False)
class Step:
    """One step, as ``on_step`` is told of it, before the image moves.

    Attributes:
        number: counted from 0.
        image: ``(N, C, H, W)``, as it is now.
        score: the objective at what the network saw of it, ``(N,)``.
        penalties: by name, with their weights, ``(N,)``.
    """

    number: int
    image: Tensor
    score: Tensor
    penalties: Mapping[str, Tensor]

    @property
    def total(self) -> Tensor:
        """What is climbed: the score less all penalties, ``(N,)``."""
        return self.score - sum(self.penalties.values(), torch.zeros_like(self.score))


@dataclass(frozen=True, eq=False)
class Unfinished:
    """Everything that the next step depends on.

    Attributes:
        parameters: what is searched over.
        moves: what the optimiser remembers.
        random: state of the generator that the views draw from.
        steps: how many were made.
    """

    parameters: Tensor = field(repr=False)
    moves: Mapping[str, Tensor] = field(repr=False)
    random: Tensor = field(repr=False)
    steps: int


@dataclass(frozen=True, eq=False)
class Synthesis:
    """Images that a network made.

    Attributes:
        image: after the last step, ``(N, C, H, W)``, as the network takes it.
        best: where score less penalties was highest, image by image.
        best_step: which step that was, ``(N,)``; 0 is the start.
        score: the objective, ``(steps + 1, N)``: at the start, and after each step.
        penalties: by name, with their weights, ``(steps + 1, N)`` each.
        dead: the score did not change with the image at the start, ``(N,)``.
        stopped: ``"done"``, ``"asked"`` by ``on_step``, or ``"interrupted"`` from the keyboard.
        unfinished: what ``resume`` takes to go on.
    """

    image: Tensor
    best: Tensor
    best_step: Tensor
    score: Tensor
    penalties: Mapping[str, Tensor]
    dead: Tensor
    stopped: Stopped
    unfinished: Unfinished = field(repr=False)

    @property
    def total(self) -> Tensor:
        """Score less penalties, ``(steps + 1, N)``."""
        return self.score - sum(self.penalties.values(), torch.zeros_like(self.score))


class NotFiniteError(ModelError):
    """The objective, a penalty or the image became NaN or infinite.

    Attributes:
        step: the number of the step that went wrong.
        found: everything up to the step before.
    """

    def __init__(self, message: str, step: int, found: Synthesis) -> None:
        super().__init__(message)
        self.step = step
        self.found = found


class Recorder:
    """Collects steps and keeps the best image; goes on from what was found ``before``."""

    def __init__(self, image: Tensor, before: Synthesis | None) -> None:
        n = len(image)
        self.image = image
        self.score: list[Tensor] = []
        self.penalties: dict[str, list[Tensor]] = {}
        self.best, self.best_step = image.clone(), torch.zeros(n, dtype=torch.long)
        self.best_total = torch.full((n,), -torch.inf, dtype=image.dtype, device=image.device)
        if before is not None:  # its last entry comes again, as the first of what follows
            self.score = list(before.score[:-1])
            self.penalties = {name: list(values[:-1]) for name, values in before.penalties.items()}
            self.best, self.best_step = before.best.clone(), before.best_step.clone()
            self.best_total = before.total.amax(0)

    def add(self, step: Step) -> None:
        """Keep the numbers of a step, and its image where it is the best so far."""
        self.image, total = step.image, step.total
        self.score.append(step.score)
        for name, value in step.penalties.items():
            self.penalties.setdefault(name, []).append(value)
        better = total > self.best_total
        self.best[better], self.best_total[better] = step.image[better], total[better]
        self.best_step[better.cpu()] = step.number

    def found(self, dead: Tensor, stopped: Stopped, unfinished: Unfinished) -> Synthesis:
        """All of it."""
        score = torch.stack(self.score) if self.score else torch.zeros(0, len(self.image))
        penalties = {name: torch.stack(values) for name, values in self.penalties.items()}
        return Synthesis(self.image, self.best, self.best_step, score, penalties, dead, stopped, unfinished)
