"""What excites the units of a tensor, and how they share a signal among what excites them."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from attrib.errors import RuleError

Op = Callable[[Tensor], Tensor]
_KEY = "_attrib_drive"
# Nodes that no call made in sight can have left: their weights would be used as a gradient uses them.
_ESCAPED = re.compile(r".*(Convolution|Addmm|MmBackward|Bmm|MvBackward|BatchNorm|Checkpoint|Compiled)")


@dataclass
class Source:
    """Activations that excite, as they were when they did; later in-place changes are noticed."""

    tensor: Tensor
    version: int = field(init=False)

    def __post_init__(self) -> None:
        self.tensor = self.tensor.detach()  # shares the version counter
        self.version = self.tensor._version

    def get(self) -> Tensor:
        """The activations."""
        if self.tensor._version != self.version:
            raise RuleError(
                "activations must stay what they were until the signal comes down; an operation of the model changed "
                "them in place. Use operations that are not in place, such as nn.ReLU(inplace=False)."
            )
        return self.tensor


class Drive(ABC):
    """How an operation hands a signal down; ``dual`` asks for the same with the signs of the weights exchanged."""

    @abstractmethod
    def shares(self, signal: Tensor, dual: bool) -> tuple[Tensor, ...]:
        """Share the signal of each unit among the inputs, one Tensor for each."""


class Sum(Drive):
    """A drive whose outputs are sums that no activation has seen yet: what excites them lies below."""

    @property
    @abstractmethod
    def weighted(self) -> bool:
        """Whether weights decide, with nothing but sums above them."""

    @abstractmethod
    def excitation(self, dual: bool) -> Tensor:
        """How much each unit is excited, never negative."""


def share(op: Op, source: Tensor, signal: Tensor) -> Tensor:
    """Share ``signal`` among ``source >= 0`` by their parts in ``op(source)``, a sum with weights that are >= 0."""
    with torch.enable_grad():
        inner = source.detach().requires_grad_(True)
        total = op(inner)
        # Below this the quotient may overflow. A unit that nothing excites hands nothing down.
        least = torch.finfo(total.dtype).tiny * 1e8
        portion = torch.where(total > least, signal / total.detach().clamp(min=least), 0)
        (slope,) = torch.autograd.grad(total, inner, portion)
    return source * slope


@dataclass
class Weighted(Sum):
    """A convolution or linear layer: ``call(x, weight)``, of which only the weights above 0 excite."""

    x: Tensor  # with its graph, so that a layer behind can be folded in
    weight: Tensor
    call: Callable[[Tensor, Tensor], Tensor]
    folds: bool = True  # whether a layer behind may be folded in, and hand its signal to ``x`` directly
    source: Source = field(init=False)

    def __post_init__(self) -> None:
        self.source = Source(self.x)

    @property
    def weighted(self) -> bool:
        """See `Sum`."""
        return True

    def _excited(self) -> Tensor:
        x = self.source.get()
        if bool((x < 0).any()):
            raise RuleError(
                "what excites a convolution or linear layer must be activations that are never negative; got values "
                f"down to {float(x.min()):.3g}. Shares of excitation are defined behind rectifiers only: choose a "
                "later layer, or use Grad-CAM."
            )
        return x

    def _op(self, dual: bool) -> Op:
        weight = (-self.weight if dual else self.weight).clamp(min=0)
        return lambda x: self.call(x, weight)

    def excitation(self, dual: bool) -> Tensor:
        """See `Sum`."""
        return self._op(dual)(self._excited())

    def shares(self, signal: Tensor, dual: bool) -> tuple[Tensor, ...]:
        """See `Drive`."""
        return (share(self._op(dual), self._excited(), signal),)

    def scaled(self, scale: Tensor) -> Weighted:
        """The same layer with each output, or all of them, multiplied; the sign of a scale turns weights around."""
        axes = (-1,) + (1,) * (self.weight.ndim - 1)
        return replace(self, weight=self.weight * scale.detach().reshape(axes))


@dataclass
class Pooled(Sum):
    """A weighted sum, whose weights are never negative, of units that are excited themselves."""

    source: Source
    below: Sum | None
    op: Op

    def _excited(self, dual: bool) -> Tensor:
        return self.below.excitation(dual) if self.below else self.source.get().clamp(min=0)

    @property
    def weighted(self) -> bool:
        """Whether what is summed is the output of weights, with nothing between."""
        return self.below is not None and self.below.weighted

    def excitation(self, dual: bool) -> Tensor:
        """See `Sum`."""
        return self.op(self._excited(dual))

    def shares(self, signal: Tensor, dual: bool) -> tuple[Tensor, ...]:
        """See `Drive`."""
        return (share(self.op, self._excited(dual), signal),)


@dataclass
class Summed(Sum):
    """A sum of two tensors, such as a residual connection: each gets its part in the excitation."""

    sources: tuple[Source, ...]
    below: tuple[Sum | None, ...]

    @property
    def weighted(self) -> bool:
        """Whether one of the two is the output of weights, with nothing between."""
        return any(one is not None and one.weighted for one in self.below)

    def _excited(self, dual: bool) -> list[Tensor]:
        found = []
        for source, below in zip(self.sources, self.below, strict=True):
            if below is not None:
                found.append(below.excitation(dual))
            else:  # its weight is 1, which the dual has as -1
                found.append(source.tensor.new_zeros(()) if dual else source.get().clamp(min=0))
        return found

    def excitation(self, dual: bool) -> Tensor:
        """See `Sum`."""
        one, other = self._excited(dual)
        return one + other

    def shares(self, signal: Tensor, dual: bool) -> tuple[Tensor, ...]:
        """See `Drive`."""
        excited = self._excited(dual)
        total = excited[0] + excited[1]
        least = torch.finfo(total.dtype).tiny * 1e8
        portion = torch.where(total > least, signal / total.clamp(min=least), 0)
        return tuple(
            (part * portion).sum_to_size(source.tensor.shape)
            for part, source in zip(excited, self.sources, strict=True)
        )


@dataclass
class Same(Drive):
    """One input for each output: it gets all of the signal, unless its ``weight`` is negative."""

    weight: Tensor | None = None

    def shares(self, signal: Tensor, dual: bool) -> tuple[Tensor, ...]:  # noqa: ARG002  the dual's only input, too
        """See `Drive`."""
        return (signal if self.weight is None else torch.where(self.weight > 0, signal, 0),)


class Handed(torch.autograd.Function):
    """A value whose signal is handed down as its drive says."""

    @staticmethod
    def forward(ctx: Any, value: tuple[Tensor], drive: Drive, *_inputs: Tensor) -> Tensor:
        """Return the value, which was computed without a graph."""
        ctx.drive, ctx.dual = drive, False
        return value[0].detach()

    @staticmethod
    def backward(ctx: Any, *signals: Tensor) -> tuple[Tensor | None, ...]:
        """Share the signal out."""
        return (None, None, *ctx.drive.shares(signals[0], ctx.dual))


def sum_behind(tensor: Tensor) -> Sum | None:
    """What excites ``tensor`` where it is a sum that no activation has seen yet; else it excites by itself."""
    found: Sum | None = getattr(tensor, _KEY, None)
    return found


def note(tensor: Tensor, drive: Drive | None) -> Tensor:
    """Remember what excites ``tensor``."""
    setattr(tensor, _KEY, drive if isinstance(drive, Sum) else None)
    return tensor


def handed(value: Tensor, drive: Drive, *inputs: Tensor) -> Tensor:
    """``value``, which was computed from ``inputs``, with this way down."""
    out: Tensor = Handed.apply((value,), drive, *inputs)
    return note(out, drive)


def refused(out: Any, reason: str) -> Any:
    """``out``, which no signal may come down from, for this reason; only a signal that would is refused."""
    for value in tree_leaves(out):
        if isinstance(value, Tensor) and value.grad_fn is not None:
            metadata: Any = value.grad_fn.metadata  # the stubs take it for a method
            metadata[_KEY] = reason
    return out


def refusal(nodes: Sequence[Any]) -> str | None:
    """Why no signal may pass these nodes of a graph; None if it may."""
    told = next((node.metadata[_KEY] for node in nodes if _KEY in node.metadata), None)
    if told is not None:
        return str(told)
    escaped = next((node.name() for node in nodes if _ESCAPED.match(node.name())), None)
    if escaped is None:
        return None
    return (
        f"every operation must be seen to share signals; {escaped!r} was not. It runs in scripted, compiled or "
        "checkpointed code: pass the plain eager module."
    )
