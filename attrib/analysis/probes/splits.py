"""Which examples a probe learns from, and which it is measured on: drawn class by class, several times."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from attrib import checks
from attrib.benchmark.stats import open_unit
from attrib.errors import InputError


@dataclass(frozen=True, eq=False)
class Fold:
    """Numbers of examples: to learn from, and to be measured on."""

    train: Tensor
    test: Tensor


class Split(Protocol):
    """How examples are split: several times for each of some sizes of the training set."""

    @property
    def sizes(self) -> tuple[str, ...]:
        """What tables call the sizes."""

    def folds(self, labels: Tensor, *, seed: int) -> list[list[Fold]]:
        """For each size the folds, as many for each."""


@dataclass(frozen=True)
class Stratified:
    """The same share of every class to learn from, the rest to be measured on.

    Args:
        train: the share, in (0, 1); of each class at least one example is on either side.
        repeats: how often it is drawn anew, >= 1.

    Example:
        >>> folds = Stratified(train=0.75, repeats=3).folds(torch.tensor([0, 0, 0, 0, 1, 1, 1, 1]), seed=0)
        >>> [(len(fold.train), len(fold.test)) for fold in folds[0]]
        [(6, 2), (6, 2), (6, 2)]
    """

    train: float = 0.8
    repeats: int = 10

    def __post_init__(self) -> None:
        open_unit("train", self.train)
        checks.integer("repeats", self.repeats, 1)

    @property
    def sizes(self) -> tuple[str, ...]:
        """See `Split`."""
        return (f"{100 * self.train:g} % to learn",)

    def folds(self, labels: Tensor, *, seed: int) -> list[list[Fold]]:
        """See `Split`."""
        _enough(labels, 2, "to learn from one and be measured on another")
        made = []
        for classes in _shuffled(labels, self.repeats, seed):
            cuts = [min(max(round(self.train * len(one)), 1), len(one) - 1) for one in classes]
            train = torch.cat([one[:cut] for one, cut in zip(classes, cuts, strict=True)])
            made.append(Fold(train, torch.cat([one[cut:] for one, cut in zip(classes, cuts, strict=True)])))
        return [made]


@dataclass(frozen=True)
class Shots:
    """So many examples of every class to learn from, as transfer to Caltech-101 and Caltech-256 is measured.

    Convention:
        - in each repeat, the smaller training sets are part of the larger ones, and all are measured on the same
          examples, so that sizes can be compared.

    Args:
        per_class: the sizes, ascending.
        test: of each class, at most so many others are measured on; None: all others.
        repeats: how often it is drawn anew, >= 1.

    Example:
        >>> folds = Shots((1, 2), repeats=1).folds(torch.tensor([0, 0, 0, 1, 1, 1, 1]), seed=0)
        >>> [(len(fold.train), len(fold.test)) for (fold,) in folds]
        [(2, 3), (4, 3)]

    References:
        Zeiler, Fergus, "Visualizing and Understanding Convolutional Networks", ECCV 2014, section 5.
    """

    per_class: tuple[int, ...] = (15, 30, 45, 60)
    test: int | None = 50
    repeats: int = 5

    def __post_init__(self) -> None:
        object.__setattr__(self, "per_class", checks.sides("per_class", self.per_class))
        if list(self.per_class) != sorted(set(self.per_class)):
            raise InputError(f"per_class must ascend; got {self.per_class}.")
        if self.test is not None:
            checks.integer("test", self.test, 1)
        checks.integer("repeats", self.repeats, 1)

    @property
    def sizes(self) -> tuple[str, ...]:
        """See `Split`."""
        return tuple(f"{shots}/class" for shots in self.per_class)

    def folds(self, labels: Tensor, *, seed: int) -> list[list[Fold]]:
        """See `Split`."""
        most = self.per_class[-1]
        _enough(labels, most + 1, f"to learn from {most} and be measured on another")
        made: list[list[Fold]] = [[] for _ in self.per_class]
        for classes in _shuffled(labels, self.repeats, seed):
            test = torch.cat([one[most:][: self.test] for one in classes])
            for folds, shots in zip(made, self.per_class, strict=True):
                folds.append(Fold(torch.cat([one[:shots] for one in classes]), test))
        return made


def _shuffled(labels: Tensor, repeats: int, seed: int) -> Iterator[list[Tensor]]:
    """For each repeat the examples of each class in random order."""
    source = torch.Generator().manual_seed(checks.integer("seed", seed, 0))
    members = [(labels == one).nonzero()[:, 0] for one in torch.unique(labels)]
    for _ in range(repeats):
        yield [one[torch.randperm(len(one), generator=source)] for one in members]


def _enough(labels: Tensor, least: int, purpose: str) -> None:
    classes, counts = torch.unique(labels, return_counts=True)
    if len(classes) < 2:
        raise InputError(f"labels must be of at least two classes; got only {classes.tolist()}.")
    if int(counts.min()) < least:
        few = int(classes[counts.argmin()])
        raise InputError(
            f"every class must have at least {least} examples, {purpose}; got {int(counts.min())} of class {few}."
        )
