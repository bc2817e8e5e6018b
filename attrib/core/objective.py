"""What is explained: one number per example, larger is more. Immutable, with algebra.

``bind`` settles on the clean run what must not be decided again on every occluded copy (the predicted class, the
strongest location); ``rows`` gives the same question for a repeated or reordered batch.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol

import torch
from torch import Tensor

from attrib import checks
from attrib.core.targets import Index, as_index, check_range
from attrib.errors import ModelError, ShapeError, TargetError

Space = Literal["logit", "probability", "log_probability", "log_odds"]
SPACES: tuple[Space, ...] = ("logit", "probability", "log_probability", "log_odds")


class Acts(Protocol):
    """Named activations of one forward pass."""

    def __getitem__(self, layer: str, /) -> Tensor:
        """Return the activation at ``layer``."""


class Objective(ABC):
    """A number per example to explain, computed from the model's output and named activations."""

    @property
    def layers(self) -> tuple[str, ...]:
        """Addresses of the activations that `__call__` reads."""
        return ()

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

    def __add__(self, other: Objective) -> Objective:
        return Sum((self, other), (1.0, 1.0))

    def __sub__(self, other: Objective) -> Objective:
        return Sum((self, other), (1.0, -1.0))

    def __mul__(self, factor: float) -> Objective:
        return Sum((self,), (checks.number("objective factor", factor),))

    __rmul__ = __mul__

    def __neg__(self) -> Objective:
        return self * -1.0


@dataclass(frozen=True, eq=False)
class Sum(Objective):
    """Weighted sum of objectives, such as the contrast ``ClassScore(281) - ClassScore(207)``."""

    parts: tuple[Objective, ...]
    weights: tuple[float, ...]

    @property
    def layers(self) -> tuple[str, ...]:
        return tuple(layer for part in self.parts for layer in part.layers)

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
        f"the model must return one Tensor for a class target; it returned a {kind}{keys}. Pass a callable target that "
        "picks one number per example, such as lambda out: out['out'][:, 3, 8, 8], or wrap the model."
    )


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
        object.__setattr__(self, "index", as_index(self.index))

    def bind(self, output: Any, acts: Acts) -> ClassScore:
        """Check the index against the output and make it one row per example."""
        output = _tensor(output)
        index = torch.as_tensor(self.index, device=output.device)
        index = index.reshape(-1, 1) if index.ndim < 2 and not isinstance(self.index, tuple) else index
        index = index.reshape(-1, index.shape[-1])
        if len(index) == 1:
            index = index.expand(len(output), -1)
        check_range(index, output)
        return replace(self, index=index)

    def rows(self, index: Tensor) -> Objective:
        if isinstance(self.index, Tensor) and len(self.index) > 1:
            return replace(self, index=self.index[index.to(self.index.device)])
        return self

    def in_space(self, space: Space) -> Objective:
        return replace(self, space=space)

    def __call__(self, output: Any, acts: Acts) -> Tensor:
        output = _tensor(output)
        index = self.index
        if not isinstance(index, Tensor):
            return self.bind(output, acts)(output, acts)
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
    """The class with the highest score on the clean input; ties go to the lower index."""

    space: Space = "logit"

    def __post_init__(self) -> None:
        checks.choice("score space", self.space, SPACES)

    def bind(self, output: Any, acts: Acts) -> Objective:
        output = _tensor(output)
        if output.ndim != 2:
            raise TargetError(
                f"'predicted' needs an output of shape (N, C); the model gives {tuple(output.shape)}. "
                "Pass (class, y, x) or a callable."
            )
        return ClassScore(output.argmax(1), self.space).bind(output, acts)

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
            raise TargetError(f"a callable target must return a Tensor of shape (N,); got {got}.")
        return score


def _channel(acts: Acts, layer: str, channel: int) -> Tensor:
    act: Tensor = acts[layer]
    if act.ndim < 2 or not 0 <= channel < act.shape[1]:
        raise TargetError(
            f"channel must lie in [0, {act.shape[1] - 1 if act.ndim > 1 else 0}] for layer {layer!r}; got {channel}."
        )
    return act[:, channel]


@dataclass(frozen=True)
class Channel(Objective):
    """One channel of a layer, reduced over its locations by ``"mean"``, ``"sum"`` or ``"max"``.

    With ``"max"`` the location may move when the input changes; `Neuron` without a location stays where the clean
    input has its maximum.
    """

    layer: str
    channel: int
    reduce: Literal["mean", "sum", "max"] = "mean"

    def __post_init__(self) -> None:
        checks.choice("reduce", self.reduce, ("mean", "sum", "max"))
        checks.integer("channel", self.channel, 0)

    @property
    def layers(self) -> tuple[str, ...]:
        return (self.layer,)

    def __call__(self, output: Any, acts: Acts) -> Tensor:
        act = _channel(acts, self.layer, self.channel)
        flat = act.reshape(len(act), -1)
        return flat.amax(1) if self.reduce == "max" else flat.mean(1) if self.reduce == "mean" else flat.sum(1)


@dataclass(frozen=True, eq=False)
class Neuron(Objective):
    """One unit of a layer: channel and location; without a location each example's strongest one.

    Args:
        layer: address of a layer with output ``(N, K, h, w)``, or ``(N, K)``, which has no location.
        channel: index along axis 1.
        y: row, or None.
        x: column, or None.
    """

    layer: str
    channel: int
    y: int | Tensor | None = None
    x: int | Tensor | None = None

    def __post_init__(self) -> None:
        checks.integer("channel", self.channel, 0)
        if (self.y is None) != (self.x is None):
            raise TargetError(f"a neuron needs both y and x, or neither; got y={self.y!r}, x={self.x!r}.")

    @property
    def layers(self) -> tuple[str, ...]:
        return (self.layer,)

    def bind(self, output: Any, acts: Acts) -> Neuron:
        act = _channel(acts, self.layer, self.channel)
        if act.ndim == 1:
            if self.y is None:
                return self
            raise ShapeError(f"layer {self.layer!r} must give (N, K, h, w) for a location; got {tuple(act.shape)}.")
        if act.ndim != 3:
            raise ShapeError(f"layer {self.layer!r} must give (N, K, h, w) or (N, K) for a neuron.")
        if self.y is None:
            best = act.flatten(1).argmax(1)
            return replace(self, y=best // act.shape[2], x=best % act.shape[2])
        place = [torch.as_tensor(v, device=act.device).expand(len(act)) for v in (self.y, self.x)]
        for name, value, size in zip("yx", place, act.shape[1:], strict=True):
            if int(value.min()) < 0 or int(value.max()) >= size:
                raise TargetError(f"{name} must lie in [0, {size - 1}] for layer {self.layer!r}; got {value.tolist()}.")
        return replace(self, y=place[0], x=place[1])

    def rows(self, index: Tensor) -> Objective:
        if isinstance(self.y, Tensor) and isinstance(self.x, Tensor):
            return replace(self, y=self.y[index.to(self.y.device)], x=self.x[index.to(self.x.device)])
        return self

    def __call__(self, output: Any, acts: Acts) -> Tensor:
        act = _channel(acts, self.layer, self.channel)
        if act.ndim == 1:
            return act
        if not isinstance(self.y, Tensor):
            return self.bind(output, acts)(output, acts)
        return act[torch.arange(len(act), device=act.device), self.y, self.x]


def as_objective(target: object) -> Objective:
    """Read what users pass as ``target``.

    ``None`` (the output is one number per example), whole numbers and their lists, tuples, tensors and arrays as in
    Captum and NumPy, ``"predicted"``, ``"layer4:7"`` (mean of channel 7), ``"layer4:7,3,5"`` (unit at row 3, column 5),
    callables ``output -> (N,)`` and `Objective`.
    """
    if target is None:
        return Output()
    if isinstance(target, Objective):
        return target
    if isinstance(target, str):
        return _from_text(target)
    if callable(target):
        return Custom(target)
    return ClassScore(as_index(target))


def _from_text(text: str) -> Objective:
    layer, colon, unit = text.rpartition(":")
    numbers = unit.split(",")
    if text == "predicted":
        return Predicted()
    if colon and layer and all(n.strip().isdigit() for n in numbers) and len(numbers) in (1, 3):
        values = [int(n) for n in numbers]
        return Channel(layer, values[0]) if len(values) == 1 else Neuron(layer, *values)
    hint = f" For class {text} pass the number {text}, not a string." if text.strip().isdigit() else ""
    raise TargetError(
        f"target as text must be 'predicted', 'layer:channel' or 'layer:channel,y,x'; got {text!r}.{hint}"
    )
