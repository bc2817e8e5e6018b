"""Uphill inside a ball around a picture: the search of FGSM and PGD, for any slope.

It takes the steps of `attrib.core.synth.synthesize` with a `Ball` and `Bounds`, and no others (a test compares them to
the end). It does not call it, because every example has a radius of its own here, and because that loop scores the
start and the end as well, for its record: one step would cost three forward passes, and a bisection takes a dozen
searches.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypedDict

import torch
from torch import Tensor

from attrib import checks
from attrib.core.synth import Ball
from attrib.core.synth.moves import normalised
from attrib.errors import InputError, ModelError

Norm = Literal["linf", "l2"]
NORMS: tuple[Norm, ...] = ("linf", "l2")
REACH = 2.5  # Madry et al. 2018, section 5: the steps together are this many radii long


class BallOptions(TypedDict, total=False):
    """How the ball is searched.

    Attributes:
        norm: ``"linf"``: no value changes by more than ``eps``; ``"l2"``: the Euclidean norm of the change of a whole
            picture is at most ``eps``.
        steps: 1 is the fast gradient sign method (with ``"l2"``, the fast gradient method); more are projected
            gradient descent.
        step: length of a step as a share of ``eps``; None: 1 for a single step, else ``2.5 / steps`` and at most 1.
        random_start: begin at a random point of the ball, the same for all examples.
        seed: of the random start; torch's random state is not touched.
    """

    norm: Norm
    steps: int
    step: float | None
    random_start: bool
    seed: int


@dataclass(frozen=True)
class BallSearch:
    """Checked `BallOptions`."""

    norm: Norm = "linf"
    steps: int = 10
    step: float | None = None
    random_start: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        checks.choice("norm", self.norm, NORMS)
        checks.integer("steps", self.steps, 1)
        checks.integer("seed", self.seed, 0)
        if self.step is not None and not checks.number("step", self.step, 0) > 0:
            raise InputError(f"step must be above 0, a share of eps; got {self.step!r}.")

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> BallSearch:
        """Refuse options that nobody reads."""
        checks.unknown_options("an attack", dict(options), tuple(BallOptions.__annotations__))
        return cls(**options)

    @property
    def share(self) -> float:
        """Length of a step, in radii."""
        usual = 1.0 if self.steps == 1 else min(REACH / self.steps, 1.0)
        return usual if self.step is None else self.step

    def run(self, slope: Callable[[Tensor], Tensor], picture: Tensor, eps: Tensor) -> Tensor:
        """Walk uphill from ``picture (N, C, ...)`` in [0, 1], each example in its ball of radius ``eps (N,)``.

        Coordinates are such that every ball has radius 1: examples with other radii go in one batch.
        """
        radius = eps.to(picture).reshape(-1, *(1 for _ in picture.shape[1:]))
        low, high = -picture / radius, (1 - picture) / radius
        ball = Ball(torch.zeros_like(picture), 1.0, self.norm)
        move = "sign" if self.norm == "linf" else "unit"
        at = self._start(picture).clamp(low, high)
        for step in range(self.steps):
            gradient = slope(picture + radius * at)
            if step == 0 and not bool(gradient.any()):
                raise ModelError(
                    "the gradient must not be zero for every picture; it is, where the search begins. Is there a "
                    "rounding or a threshold in the model? random_start=True begins elsewhere."
                )
            # Clipping to the bounds moves towards the picture, value by value: it does not leave the ball.
            at = ball(at + self.share * normalised(gradient, move), gradient, step).clamp(low, high)
        return (picture + radius * at).clamp(0, 1)

    def _start(self, picture: Tensor) -> Tensor:
        """The centre, or one random point of the unit ball, uniform in it, for all examples."""
        if not self.random_start:
            return torch.zeros_like(picture)
        source, shape = torch.Generator().manual_seed(self.seed), picture[:1].shape
        if self.norm == "linf":
            point = 2 * torch.rand(shape, generator=source, dtype=torch.float64) - 1
        else:
            point = torch.randn(shape, generator=source, dtype=torch.float64)
            length = torch.rand((), generator=source, dtype=torch.float64) ** (1 / point.numel())
            point *= length / point.norm()
        return point.to(picture).expand_as(picture)
