"""What an attack asks of a network: which classes, in which pixels; and the passes that answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from attrib import checks
from attrib.core.indices import as_index
from attrib.core.layers import unwrap
from attrib.core.objective import ClassScore, Objective, Predicted
from attrib.core.query import Query
from attrib.core.synth import PixelSpace
from attrib.errors import InputError, ModelError, TargetError
from attrib.io.loaded import LoadedModel
from attrib.synthesis.ball import BallSearch

Network: TypeAlias = "LoadedModel | Callable[..., Any]"
Classes: TypeAlias = "int | Sequence[int] | Tensor"
ROUNDING = 1e-4  # pixels: more than float32 loses on the way to the input and back, less than a grey level of 255


@dataclass(frozen=True, eq=False)
class Subject:
    """A network, and how pictures become its inputs.

    Attributes:
        model: unwrapped.
        space: pixels and inputs.
        names: of the classes, if they are known.
        extra: further arguments of the model.
    """

    model: Callable[..., Any]
    space: PixelSpace
    names: tuple[str, ...] | None = None
    extra: tuple[Any, ...] = ()

    @classmethod
    def of(cls, model: Network, pixels: PixelSpace | None, extra: object = None) -> Subject:
        """Read what users pass as ``model``, ``pixels`` and ``additional_forward_args``."""
        names: tuple[str, ...] | None = None
        if isinstance(model, LoadedModel):
            if pixels is None and model.mean is not None and model.std is not None:
                pixels = PixelSpace(model.mean, model.std)
            names, model = model.categories, model.model
        given: tuple[object, object] = model, pixels
        if not callable(given[0]):
            raise InputError(f"model must be a LoadedModel, an nn.Module or a callable; got {type(model).__name__}.")
        if not isinstance(pixels, PixelSpace):
            raise InputError(
                f"pixels must be a PixelSpace, which says how inputs are normalised; got {pixels!r}. "
                "Pass PixelSpace(mean, std), or PixelSpace() if the inputs are pixels in [0, 1]."
            )
        return cls(unwrap(model), pixels, names, checks.arguments(extra))

    @property
    def like(self) -> Tensor:
        """A tensor of the network's dtype, on its device."""
        weights = self.model.parameters() if isinstance(self.model, nn.Module) else ()
        return next((w for w in weights if w.is_floating_point() and w.ndim), torch.zeros(0)).detach()

    def placed(self, x: Tensor) -> Tensor:
        """Inputs in the network's dtype, on its device; as they are where it has no weights to tell."""
        return x.detach().to(self.like) if len(self.like) else x.detach()

    def picture(self, x: Tensor) -> Tensor:
        """The pixels of inputs, which must lie between black and white."""
        found = self.space.to_picture(x)
        low, high = float(found.min()), float(found.max())
        if low < -ROUNDING or high > 1 + ROUNDING:
            raise InputError(
                f"inputs must be pictures, with pixels in [0, 1]; got [{low:.3g}, {high:.3g}]. "
                "Does pixels= say how they were normalised?"
            )
        return found.clamp(0, 1)

    def chances(self, x: Tensor) -> Tensor:
        """Probability of every class, ``(N, C)``."""
        with torch.no_grad():
            output, _ = self._query(x).run((x.clone(),))
        if not isinstance(output, Tensor) or output.ndim != 2 or output.shape[1] < 2:
            got = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
            raise ModelError(f"the model must give scores (N, C) of at least two classes; got {got}. Wrap it.")
        if not checks.finite(output):
            raise ModelError("the model's scores must be finite; got NaN or infinite values. Check the weights.")
        return output.softmax(1)

    def slope(self, picture: Tensor, goal: ClassScore) -> Tensor:
        """Gradient of a score with respect to the pixels."""
        (found,) = self._query(self.space.to_input(picture), goal).gradient().grad
        if not checks.finite(found):
            raise ModelError(
                "the gradient must be finite; got NaN or infinite values. Try float64, or check the model."
            )
        return replace(self.space, mean=0.0).to_input(found)  # the chain rule through (p - mean) / std

    def rows(self, x: Tensor, index: Tensor) -> Subject:
        """The same for some examples of ``x``: further arguments with one entry per example follow."""
        return replace(self, extra=self._query(x).extra_rows(index))

    def _query(self, x: Tensor, goal: Objective | None = None) -> Query:
        return Query(self.model, (x,), goal or Predicted(), None, self.extra)

    def label(self, index: int) -> str:
        """What a class is called."""
        return self.names[index] if self.names is not None and index < len(self.names) else f"class {index}"


@dataclass(frozen=True, eq=False)
class Asked:
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
    def of(cls, subject: Subject, x: Tensor, target: Classes | None, labels: Classes | None) -> Asked:
        """Run the pictures as they are, and refuse questions that have an answer already."""
        picture, before = subject.picture(x), subject.chances(x)
        said = before.argmax(1)
        right = said if labels is None else indices(labels, before)
        if not bool((right == said).any()):
            raise InputError(
                f"labels must be what the network says of at least one picture; got {right.tolist()}, and it says "
                f"{said.tolist()}. It need not be fooled; leave labels out to attack what it says."
            )
        goal = None if target is None else indices(target, before)
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

    def rows(self, index: Tensor) -> Asked:
        """The same question for some of the examples."""
        target = None if self.target is None else self.target[index]
        x, picture, before, labels = (one[index] for one in (self.x, self.picture, self.before, self.labels))
        return Asked(self.subject.rows(self.x, index), x, picture, before, labels, target)

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


def indices(classes: Classes, output: Tensor) -> Tensor:
    """Class numbers for the examples of ``output (N, C)``, ``(N,)``; one number holds for all."""
    bound = ClassScore(as_index(classes)).bind(output, {}).index
    if not isinstance(bound, Tensor):
        raise TargetError(f"target must be a class number, or one for each example; got {classes!r}.")
    return bound[:, 0].to(output.device)
