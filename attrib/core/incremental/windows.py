"""Which part of every map a mask can change, along one axis at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from attrib.core.incremental.program import Program
from attrib.core.incremental.steps import Kind, Local, Step

Ints = NDArray[np.int64]


class Span(NamedTuple):
    """First and last changed cell, for each of several masks."""

    low: Ints
    high: Ints

    @property
    def size(self) -> Ints:
        """Number of cells."""
        return self.high - self.low + 1


def through(span: Span, local: Local, cells: int, reach: float = 1.0) -> Span:
    """What changes behind a sliding window: the output cells that read a changed cell.

    With ``reach < 1`` the growth by the kernel's halo is cut to that share, which is not exact any more.
    """
    low = _ceil(span.low + local.before - (local.span - 1), local.stride)
    high = (span.high + local.before) // local.stride
    if reach < 1:
        halo = (local.span - 1) / 2
        core_low = np.floor((span.low + local.before - halo) / local.stride)
        core_high = np.ceil((span.high + local.before - halo) / local.stride)
        low = np.maximum(low, np.floor(core_low - reach * (core_low - low))).astype(np.int64)
        high = np.minimum(high, np.ceil(core_high + reach * (high - core_high))).astype(np.int64)
    low, high = low.clip(0, cells - 1), high.clip(0, cells - 1)
    return Span(low, np.maximum(low, high))


def _ceil(value: Ints, divisor: int) -> Ints:
    return -(-value // divisor)


def spans(program: Program, axis: int, intervals: Sequence[tuple[int, int]], reach: float = 1.0) -> dict[int, Span]:
    """The changed span of every map along ``axis`` (0: y, 1: x), for masks that hide ``intervals`` (start, stop)."""
    edges = np.asarray(intervals, dtype=np.int64).reshape(-1, 2)
    found = {program.source: Span(edges[:, 0], edges[:, 1] - 1)}
    for step in program.steps:
        if step.form is None or step.out not in program.changed:
            continue
        before = [found[number] for number in step.inputs if number in found]
        found[step.out] = _after(step, before, (step.form.h, step.form.w)[axis], axis, len(edges), reach)
    return found


def _after(step: Step, before: Sequence[Span], cells: int, axis: int, count: int, reach: float) -> Span:
    if step.kind is Kind.WHOLE or not before:
        return Span(np.zeros(count, np.int64), np.full(count, cells - 1, np.int64))
    if step.kind is Kind.LOCAL:
        return through(before[0], step.local[axis], cells, reach)
    low, high = before[0]
    for span in before[1:]:
        low, high = np.minimum(low, span.low), np.maximum(high, span.high)
    return Span(low, high)
