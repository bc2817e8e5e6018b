"""What is explained: one number per example, larger is more. Immutable, with algebra.

``bind`` settles on the clean run what must not be decided again on every occluded copy (the predicted class, the
strongest location); ``rows`` gives the same question for a repeated or reordered batch.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, Protocol

import torch
from torch import Tensor

from attrib import checks
from attrib.core.objectives.indices import Index, as_index, check_range
from attrib.errors import ModelError, TargetError

Space = Literal["logit", "probability", "log_probability", "log_odds"]
SPACES: tuple[Space, ...] = ("logit", "probability", "log_probability", "log_odds")


class Acts(Protocol):
    """Named activations of one forward pass."""

    def __getitem__(self, layer: str, /) -> Tensor:
        """Return the activation at ``layer``."""


class Objective(ABC):
    """A number per example to explain, computed from the model's output and named activations.

    ``discrete`` says that the number may jump where the output changes by rounding only, as a label does. Sweeps do not
    compare such numbers with the model's own.
    """

    discrete: ClassVar[bool] = False

    @property
    def layers(self) -> tuple[str, ...]:
        """Addresses of the activations that `__call__` reads."""
        return ()

    @property
    def reads_output(self) -> bool:
        """Whether `__call__` and `bind` read the model's output; without, a forward pass may end at the layers."""
        return True

    @property
    def entries(self) -> int:
        """How many examples this speaks of; 1 where it asks the same of all."""
        return 1

    @abstractmethod
    def __call__(self, output: Any, acts: Acts) -> Tensor:
        """Return the score ``(N,)``."""

    def bind(self, output: Any, acts: Acts) -> Objective:
        """Settle what depends on the clean run."""
        return self

    def rows(self, index: Tensor) -> Objective:
        """Return the same question for the examples ``index`` of the batch."""
        return self

    def in_space(self, space: Space) -> Objective:
        """Return the same question in another score space; only class scores have one."""
        if checks.choice("score space", space, SPACES) == "logit":
            return self
        raise TargetError(f"score space {space!r} must be asked of a class; got {self!r}. Use 'logit' for this target.")

    def __add__(self, other: object) -> Objective:
        return Sum((self, other), (1.0, 1.0)) if isinstance(other, Objective) else NotImplemented

    def __sub__(self, other: object) -> Objective:
        return Sum((self, other), (1.0, -1.0)) if isinstance(other, Objective) else NotImplemented

    def __mul__(self, factor: float) -> Objective:
        return Sum((self,), (checks.number("objective factor", factor),))

    __rmul__ = __mul__

    def __neg__(self) -> Objective:
        return self * -1.0


class OfLayer(Objective):
    """An objective that reads the activation at ``layer``, and not the output."""

    layer: str

    @property
    def layers(self) -> tuple[str, ...]:
        return (self.layer,)

    @property
    def reads_output(self) -> bool:
        return False


@dataclass(frozen=True, eq=False)
class Sum(Objective):
    """Weighted sum of objectives, such as the contrast ``ClassScore(281) - ClassScore(207)``."""

    parts: tuple[Objective, ...]
    weights: tuple[float, ...]

    @property
    def layers(self) -> tuple[str, ...]:
        return tuple(layer for part in self.parts for layer in part.layers)

    @property
    def reads_output(self) -> bool:
        return any(part.reads_output for part in self.parts)

    def __call__(self, output: Any, acts: Acts) -> Tensor:
        scores = [w * part(output, acts) for w, part in zip(self.weights, self.parts, strict=True)]
        return torch.stack(scores).sum(0)

    def bind(self, output: Any, acts: Acts) -> Objective:
        return replace(self, parts=tuple(part.bind(output, acts) for part in self.parts))

    def rows(self, index: Tensor) -> Objective:
        return replace(self, parts=tuple(part.rows(index) for part in self.parts))

    def in_space(self, space: Space) -> Objective:
        return replace(self, parts=tuple(part.in_space(space) for part in self.parts))


def _tensor(output: Any) -> Tensor:
    if isinstance(output, Tensor):
        return output
    kind = type(output).__name__
    keys = f" with keys {sorted(map(str, output))}" if isinstance(output, Mapping) else ""
    keys = f" of {len(output)}" if isinstance(output, (tuple, list)) else keys
    raise ModelError(
        f"the model must return one Tensor for a class target; it returned a {kind}{keys}. {_remedy(output)}, pass a "
        "callable target that picks one number per example, or wrap the model."
    )


def _remedy(output: Any) -> str:
    """The objective for such an output."""
    if isinstance(output, Mapping) and (dense := _entries(output, 4)) and not _entries(output, 2):
        return f"For a segmentation use Region(class, key={dense[0]!r})"
    if output and isinstance(output, (tuple, list)) and all(isinstance(one, Mapping) for one in output):
        return "For a detector use Box(box, label)"
    named = output if isinstance(output, Mapping) else getattr(output, "__dict__", {})
    first = next(iter([*_entries(named, 2), *named]), "scores")
    entry = "[0]" if hasattr(output, "__getitem__") else f".{first}"
    return f"Name the entry, as in lambda out: out{f'[{first!r}]' if named is output else entry}[:, 3]"


def _entries(named: Mapping[Any, Any], axes: int) -> list[Any]:
    """Keys of the Tensors with so many axes: 2 for scores of classes, 4 for maps of them."""
    return [key for key, value in named.items() if isinstance(value, Tensor) and value.ndim == axes]


@dataclass(frozen=True, eq=False)
class ClassScore(Objective):
    """Score of one output: a class for ``(N, C)`` outputs, ``(class, y, x)`` for ``(N, C, H, W)``.

    Args:
        index: int, tuple of ints (one position for all examples), or a LongTensor ``(N,)`` or ``(N, D)``.
        space: ``"logit"`` is the output itself; ``"probability"``, ``"log_probability"`` and ``"log_odds"`` (which is
            ``log p - log(1 - p)``) take a softmax over axis 1, or a sigmoid where the model has a single output.
    """

    index: Index
    space: Space = "logit"

    def __post_init__(self) -> None:
        checks.choice("score space", self.space, SPACES)
        given = self.index
        if not (isinstance(given, Tensor) and given.ndim == 2 and given.dtype == torch.int64):  # else it is bound
            object.__setattr__(self, "index", as_index(given))

    @property
    def entries(self) -> int:
        return len(self.index) if isinstance(self.index, Tensor) else 1

    def bind(self, output: Any, acts: Acts) -> ClassScore:
        """Check the index against the output and make it one row per example."""
        output = _tensor(output)
        index = self._expanded(output)
        check_range(index, output)
        return replace(self, index=index)

    def _expanded(self, output: Tensor) -> Tensor:
        """The index as ``(N, D)``; a single one holds for all examples."""
        index = torch.as_tensor(self.index, device=output.device)
        index = index.reshape(-1, 1) if index.ndim < 2 and not isinstance(self.index, tuple) else index
        index = index.reshape(-1, index.shape[-1])
        return index.expand(len(output), -1) if len(index) == 1 else index

    def rows(self, index: Tensor) -> Objective:
        if isinstance(self.index, Tensor) and len(self.index) > 1:
            return replace(self, index=self.index[index.to(self.index.device)])
        return self

    def in_space(self, space: Space) -> Objective:
        return replace(self, space=space)

    def __call__(self, output: Any, acts: Acts) -> Tensor:
        output = _tensor(output)
        if not isinstance(self.index, Tensor):
            return self.bind(output, acts)(output, acts)
        index = self._expanded(output)
        if len(index) != len(output):
            raise TargetError(
                f"target must have one entry per example; got {len(index)} entries for {len(output)} examples. "
                "Captum's NoiseTunnel repeats plain class indices, not objectives that hold one index per example."
            )
        where = (torch.arange(len(output), device=output.device), *index.T)
        return output[where] if self.space == "logit" else self._in_space(output, where)

    def _in_space(self, output: Tensor, where: tuple[Tensor, ...]) -> Tensor:
        """Log-odds without cancellation: own logit minus the log-sum-exp of the *other* logits."""
        logit: Tensor = output[where]
        if output.shape[1] == 1:
            log_odds = logit
        else:
            rows = output.movedim(1, -1)[(where[0], *where[2:])]  # (N, C) at each example's position
            own = torch.zeros_like(rows, dtype=torch.bool).scatter_(1, where[1][:, None], True)
            log_odds = logit - rows.masked_fill(own, float("-inf")).logsumexp(1)
        if self.space == "log_odds":
            return log_odds
        return log_odds.sigmoid() if self.space == "probability" else torch.nn.functional.logsigmoid(log_odds)


@dataclass(frozen=True)
class Predicted(Objective):
    """The class with the highest score on the clean input; ties go to the lower index.

    Args:
        space: see `ClassScore`.
        rank: 0 is the highest score, 1 that of the runner-up, and so on.
    """

    space: Space = "logit"
    rank: int = 0

    def __post_init__(self) -> None:
        checks.choice("score space", self.space, SPACES)
        checks.integer("rank", self.rank, 0)

    def bind(self, output: Any, acts: Acts) -> Objective:
        output = _tensor(output)
        if output.ndim != 2:
            raise TargetError(
                f"'predicted' needs an output of shape (N, C); the model gives {tuple(output.shape)}. "
                "Pass (class, y, x) or a callable."
            )
        if self.rank >= output.shape[1]:
            raise TargetError(
                f"rank must lie in [0, {output.shape[1] - 1}] for a model with {output.shape[1]} outputs; "
                f"got {self.rank}."
            )
        order = output.argsort(stable=True, dim=1, descending=True)
        return ClassScore(order[:, self.rank], self.space).bind(output, acts)

    def in_space(self, space: Space) -> Objective:
        return replace(self, space=space)

    def __call__(self, output: Any, acts: Acts) -> Tensor:
        return self.bind(output, acts)(output, acts)


@dataclass(frozen=True)
class Output(Objective):
    """The model's own output, which must be one number per example (``target=None``)."""

    def __call__(self, output: Any, acts: Acts) -> Tensor:
        score = _tensor(output)
        if score.ndim == 0 or score.numel() != len(score):
            raise TargetError(
                f"target is required for a model with outputs of shape {tuple(score.shape)}; got None. "
                "Pass a class index, 'predicted', 'layer:channel', an Objective or a callable."
            )
        return score.reshape(len(score))


@dataclass(frozen=True)
class Custom(Objective):
    """Any function of the model's raw output that returns one number per example."""

    function: Callable[[Any], Tensor]

    def __call__(self, output: Any, acts: Acts) -> Tensor:
        score: object = self.function(output)
        if not isinstance(score, Tensor) or score.ndim != 1:
            got = tuple(score.shape) if isinstance(score, Tensor) else type(score).__name__
            raise TargetError(
                f"a callable target must return a Tensor of shape (N,); got {got}. "
                "One that reads the output of a single example goes into a list with one for each."
            )
        return score
