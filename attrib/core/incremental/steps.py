"""What a recorded call means for a map of which only a window changes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, NamedTuple

import torch
from torch import Tensor

from attrib.core.incremental.record import Call, Ref


class Kind(Enum):
    """How the changed window of a step's result follows from those of its operands."""

    POINT = "the same window"
    JOIN = "the union of the windows"
    LOCAL = "the window and a halo"
    MEAN = "no map: an average over it"
    WHOLE = "everything"


class Form(NamedTuple):
    """Where a value holds its map: size, and the two axes; ``axes=None`` means ``(N * h * w, C)`` rows."""

    h: int
    w: int
    axes: tuple[int, int] | None = (2, 3)

    def size(self, shape: Sequence[int], rows: int, h: int, w: int) -> list[int]:
        """``shape`` for other examples and another window."""
        if self.axes is None:
            return [rows * h * w, *shape[1:]]
        size = [rows, *shape[1:]]
        size[self.axes[0]], size[self.axes[1]] = h, w
        return size


class Local(NamedTuple):
    """A sliding window along one axis: kernel, stride, padding before and after, dilation."""

    kernel: int = 1
    stride: int = 1
    before: int = 0
    after: int = 0
    dilation: int = 1

    @property
    def span(self) -> int:
        """Cells from the first to the last that one output cell reads."""
        return self.dilation * (self.kernel - 1) + 1


class Site(NamedTuple):
    """Where a step runs: rows, size of its result's window, and whether its operand came with padding and halo."""

    rows: int
    h: int
    w: int
    gathered: bool = False


class Layout(NamedTuple):
    """How constants are laid out: dtype (None: their own), memory layout, and the batch they are packed for, if any."""

    dtype: torch.dtype | None = None
    channels_last: bool = True
    rows: int | None = None


Run = Callable[[Sequence[Tensor], Mapping[int, Tensor], Site], Tensor]


@dataclass(frozen=True, eq=False)
class Step:
    """One operation on recorded values.

    Attributes:
        name: of the layer, or of the operation where it has no weights.
        op: of ATen.
        kind: see `Kind`.
        inputs: values it reads that depend on an input.
        out: value it makes.
        run: computes it from operands, constants and a `Site`.
        inplace: the same, overwriting the first operand; None where there is no such operation.
        local: its geometry along y and x, for ``LOCAL``.
        fill: what surrounds the map, for ``LOCAL``.
        form: of the result; None for a value that is no map.
        macs: multiply-adds per cell of the result's map, or per example.
        prepare: makes the constants that ``run`` reads, from the model's own.
        conv: the convolution that it is.
        fresh: what it makes shares no memory with its operands.
    """

    name: str
    op: str
    kind: Kind
    inputs: tuple[int, ...]
    out: int
    run: Run
    inplace: Run | None = None
    local: tuple[Local, Local] = (Local(), Local())
    fill: float = 0.0
    form: Form | None = None
    macs: int = 0
    prepare: Callable[[dict[int, Tensor], Layout], None] | None = None
    conv: Any = None
    fresh: bool = True


def overload(op: str) -> Any:
    """The ATen overload ``name.overload``."""
    name, _, kind = op.partition(".")
    return getattr(getattr(torch.ops.aten, name), kind or "default")


def inplace_of(op: str) -> Any:
    """The overload that does the same to its first operand, or None."""
    name, _, kind = op.partition(".")
    packet = getattr(torch.ops.aten, f"{name}_", None)
    return getattr(packet, kind, None)


def replay(func: Any, call: Call, inputs: tuple[int, ...], first: int | None = None) -> Run:
    """Call ``func`` with the recorded arguments, operands in their places; ``first`` picks a result."""
    slots = {number: position for position, number in enumerate(inputs)}

    def run(xs: Sequence[Tensor], weights: Mapping[int, Tensor], _site: Site) -> Tensor:
        args = [_filled(arg, slots, xs, weights) for arg in call.args]
        out = func(*args, **{name: _filled(arg, slots, xs, weights) for name, arg in call.kwargs.items()})
        result: Tensor = out if first is None else out[first]
        return result

    return run


def _filled(arg: Any, slots: Mapping[int, int], xs: Sequence[Tensor], weights: Mapping[int, Tensor]) -> Any:
    """An argument with operands and weights in place of its `Ref`s."""
    # No nested function: one that calls itself is a cycle, and would hold its tensors until cycles are collected.
    if isinstance(arg, Ref):
        return xs[slots[arg.id]] if arg.id in slots else weights[arg.id]
    return [_filled(one, slots, xs, weights) for one in arg] if isinstance(arg, (list, tuple)) else arg
