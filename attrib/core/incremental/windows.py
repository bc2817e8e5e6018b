"""Which part of every map a mask can change, along one axis at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
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


def through(span: Span, local: Local, cells: int) -> Span:
    """What changes behind a sliding window: the output cells that read a changed cell."""
    low = -((local.span - 1 - span.low - local.before) // local.stride)
    return _within(low, (span.high + local.before) // local.stride, cells)


def straight_through(span: Span, local: Local, cells: int) -> Span:
    """The output cells whose window has its middle in the span: what would change if kernels had one cell."""
    shift = local.before - (local.span - 1) / 2
    low = np.floor((span.low + shift) / local.stride).astype(np.int64)
    return _within(low, np.ceil((span.high + shift) / local.stride).astype(np.int64), cells)


def _within(low: Ints, high: Ints, cells: int) -> Span:
    low, high = low.clip(0, cells - 1), high.clip(0, cells - 1)
    return Span(low, np.maximum(low, high))


def spans(program: Program, axis: int, intervals: Sequence[tuple[int, int]], reach: float = 1.0) -> dict[int, Span]:
    """The changed span of every map along ``axis`` (0: y, 1: x), for masks that hide ``intervals`` (start, stop).

    With ``reach < 1`` the growth by the halos of all kernels together is cut to that share, which is not exact.
    """
    edges = np.asarray(intervals, dtype=np.int64).reshape(-1, 2)
    source = Span(edges[:, 0], edges[:, 1] - 1)
    found = _spans(program, axis, source, through)
    if reach == 1:
        return found
    least = _spans(program, axis, source, straight_through)
    return {number: _between(least[number], found[number], reach) for number in found}


def _between(least: Span, most: Span, reach: float) -> Span:
    low = np.floor(least.low + reach * (most.low - least.low)).astype(np.int64)
    high = np.ceil(least.high + reach * (most.high - least.high)).astype(np.int64)
    return Span(np.maximum(low, most.low), np.minimum(high, most.high))


def _spans(program: Program, axis: int, source: Span, grow: Callable[[Span, Local, int], Span]) -> dict[int, Span]:
    found = {program.source: source}
    for step in program.steps:
        if step.form is not None and step.out in program.changed:
            before = [found[number] for number in step.inputs if number in found] or [source]
            found[step.out] = _after(step, before, (step.form.h, step.form.w)[axis], axis, grow)
    return found


def _after(step: Step, before: Sequence[Span], cells: int, axis: int, grow: Callable[[Span, Local, int], Span]) -> Span:
    if step.kind is Kind.WHOLE:
        everything = np.zeros_like(before[0].low)
        return Span(everything, everything + cells - 1)
    if step.kind is Kind.LOCAL:
        return grow(before[0], step.local[axis], cells)
    return Span(np.minimum.reduce([span.low for span in before]), np.maximum.reduce([span.high for span in before]))
