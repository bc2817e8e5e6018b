"""Follow what places of maps read, operation by operation, through a recorded forward pass."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from attrib.core.incremental.program import Program, compile_tape
from attrib.core.incremental.record import Call, record
from attrib.core.incremental.steps import Kind, Local, Step
from attrib.core.query import Query

_Floats = NDArray[np.float64]
_Ints = NDArray[np.int64]
_FAR = 1e18  # where the empty interval begins: above anything, so that a minimum passes it over


@dataclass(frozen=True, eq=False)
class Track:
    """What each row (or column) of a layer sees: first and one past the last, ``(cells, 2)``.

    Attributes:
        full: as if the picture went on where it is padded.
        seen: what exists; ``(0, 0)`` where that is nothing.
    """

    full: Tensor
    seen: Tensor


@dataclass(frozen=True)
class _Way:
    """The same on the way, along one axis; ``jump`` is how far what is seen moves from cell to cell."""

    low: _Floats
    high: _Floats
    seen_low: _Floats
    seen_high: _Floats
    jump: float

    @classmethod
    def source(cls, cells: int) -> _Way:
        """Every pixel sees itself."""
        low = np.arange(cells, dtype=np.float64)
        return cls(low, low + 1, low, low + 1, 1.0)

    def reading(self, index: _Ints, stride: float) -> _Way:
        """What cells see that read the cells ``index (cells, reads)``; those out of range are padding."""
        cells = len(self.low)
        exists = (index >= 0) & (index < cells)
        inside = index.clip(0, cells - 1)
        first, last = index.min(1), index.max(1)
        return _Way(
            self._beyond(self.low, first),
            self._beyond(self.high, last),
            np.where(exists, self.seen_low[inside], _FAR).min(1),
            np.where(exists, self.seen_high[inside], -_FAR).max(1),
            self.jump * stride,
        )

    def _beyond(self, ends: _Floats, index: _Ints) -> _Floats:
        inside = index.clip(0, len(ends) - 1)
        found: _Floats = ends[inside] + (index - inside) * self.jump
        return found

    def joined(self, other: _Way) -> _Way:
        """What is seen by either."""
        low, seen_low = np.minimum(self.low, other.low), np.minimum(self.seen_low, other.seen_low)
        high, seen_high = np.maximum(self.high, other.high), np.maximum(self.seen_high, other.seen_high)
        return _Way(low, high, seen_low, seen_high, max(self.jump, other.jump))

    def everything(self, cells: int, length: int) -> _Way:
        """What ``cells`` see that all read everything."""
        seen = np.full(cells, self.seen_low.min()), np.full(cells, self.seen_high.max())
        return _Way(np.zeros(cells), np.full(cells, float(length)), *seen, 0.0)

    @property
    def track(self) -> Track:
        """In whole pixels."""
        full = np.stack([np.floor(self.low), np.ceil(self.high)], 1)
        seen = np.stack([self.seen_low, self.seen_high], 1)
        seen[self.seen_high <= self.seen_low] = 0
        return Track(*(torch.from_numpy(one.astype(np.int64)) for one in (full, seen)))


def tracks(query: Query, layer: str, cells: tuple[int, int], gates: bool) -> tuple[Track, Track]:
    """What the rows and the columns of ``layer`` see, by arithmetic; without ``gates`` not through their factors.

    Raises:
        NotReplayableError: an operation has no rule, or the model cannot be recorded.
    """
    program, calls = _recorded(query, layer)
    found = program.kept[layer]
    form = program.forms.get(found)
    fits = form is not None and (form.h, form.w) == cells
    both = []
    for axis in (0, 1):
        length = query.image.shape[2 + axis]
        ways = _followed(program, calls, axis, length, gates)
        way = ways[found] if found in ways else _Way.source(length)
        both.append((way if fits else way.everything(cells[axis], length)).track)
    return both[0], both[1]


class _ReachedError(Exception):
    """Ends a forward pass at the layer, whatever the model would do after it."""


def until(query: Query, x: Tensor, layer: str) -> Tensor:
    """What a layer gives for ``x``; the model runs no further."""
    kept: list[Tensor] = []

    def stop(act: Tensor) -> Tensor:
        kept.append(act)
        raise _ReachedError

    with suppress(_ReachedError):
        query.run((x,), layer, edit={layer: stop})
    return kept[0]


def _recorded(query: Query, layer: str) -> tuple[Program, dict[int, Call]]:
    """The program up to the layer, and the call that made each value."""
    kept: list[Tensor] = []
    tape, recorder = record(lambda x: kept.append(until(query, x, layer)), (query.x.clone(),))
    value = recorder.ref(kept[0]).id
    calls = {out: call for call in tape.calls for out in call.outs}
    return compile_tape(tape, {layer: value}, tape.inputs[0], {}), calls


def _followed(program: Program, calls: Mapping[int, Call], axis: int, length: int, gates: bool) -> dict[int, _Way]:
    """What every value sees along one axis; one without places is a single cell."""
    found = {program.source: _Way.source(length)}
    for step in program.steps:
        if not gates and (gated := _gated(program, step)) in found:
            found[step.out] = found[gated]
            continue
        before = [found[number] for number in step.inputs if number in found]
        if before:
            cells = (step.form.h, step.form.w)[axis] if step.form else 1
            found[step.out] = _after(program, step, calls.get(step.out), before, (axis, cells, length))
    return found


def _gated(program: Program, step: Step) -> int:
    """The map that a step multiplies by one number for each channel; -1 for any other step."""
    maps = [number for number in step.inputs if program.shapes[number] == program.shapes[step.out]]
    factors = [number for number in step.inputs if tuple(program.shapes[number][2:]) == (1, 1)]
    return maps[0] if step.op.startswith("mul.") and len(maps) == len(factors) == 1 else -1


def _after(program: Program, step: Step, call: Call | None, before: list[_Way], where: tuple[int, int, int]) -> _Way:
    axis, cells, length = where
    if step.form is not None and step.kind is Kind.LOCAL:
        local = step.local[axis]
        return before[0].reading(_window(local, cells), local.stride)
    union = before[0]
    if any(len(other.low) != len(union.low) for other in before[1:]):
        before = [one.everything(cells, length) for one in before]
        union = before[0]
    for other in before[1:]:
        union = union.joined(other)
    if step.form is not None and step.kind in (Kind.POINT, Kind.JOIN) and len(union.low) == cells:
        return union
    index = None if call is None or step.form is None else _own_windows(program, call, axis, len(union.low), cells)
    if index is None:
        return union.everything(cells, length)
    return union.reading(index, (index[-1, 0] - index[0, 0]) / max(1, cells - 1))


def _window(local: Local, cells: int) -> _Ints:
    """The cells that a sliding window reads."""
    first = np.arange(cells) * local.stride - local.before
    index: _Ints = first[:, None] + local.dilation * np.arange(local.kernel)
    return index


def _adaptive(call: Call, axis: int, given: int, cells: int) -> _Ints:  # noqa: ARG001  all rules are called alike
    """Cell o averages from floor(o n / m) up to ceil((o + 1) n / m)."""
    at = np.arange(cells)
    first, stop = at * given // cells, -(-(at + 1) * given // cells)
    reads = np.arange(int((stop - first).max()))
    index: _Ints = np.minimum(first[:, None] + reads, stop[:, None] - 1)
    return index


def _resized(call: Call, axis: int, given: int, cells: int) -> _Ints:  # noqa: ARG001
    """Between which cells a resized one lies; one more on either side than some modes need."""
    at = (np.arange(cells) + 0.5) * given / cells - 0.5
    corners = np.arange(cells) * (given - 1) / max(1, cells - 1)
    ends = np.floor(np.minimum(at, corners)), np.ceil(np.maximum(at, corners))
    index: _Ints = np.stack(ends, 1).astype(np.int64).clip(0, given - 1)
    return index


def _nearest(call: Call, axis: int, given: int, cells: int) -> _Ints:
    """The cell that is repeated, or picked; between two of them where sizes are no multiples of each other."""
    if cells % given and given % cells:
        return _resized(call, axis, given, cells)
    return np.arange(cells)[:, None] * given // cells


def _sliced(call: Call, axis: int, given: int, cells: int) -> _Ints | None:
    """Every so-manieth cell of a map with channels first."""
    defaults: list[Any] = [0, 0, None, 1]
    dim, start, _, step = [*call.args[1:], *defaults[len(call.args) - 1 :]]
    if dim % 4 != 2 + axis:
        return np.arange(cells)[:, None] if given == cells else None
    first = (start or 0) + (given if (start or 0) < 0 else 0)
    index: _Ints = first + step * np.arange(cells)[:, None]
    return index


_Windows = Callable[[Call, int, int, int], "_Ints | None"]
_OWN: dict[str, _Windows] = {
    "_adaptive_avg_pool2d": _adaptive,
    "adaptive_max_pool2d": _adaptive,
    "upsample_bilinear2d": _resized,
    "upsample_nearest2d": _nearest,
    "slice": _sliced,
}


def _own_windows(program: Program, call: Call, axis: int, given: int, cells: int) -> _Ints | None:
    """What is read by operations of which masks change everything, though their windows are known."""
    own = _OWN.get(call.op.partition(".")[0])
    maps = all(len(program.shapes[number]) == 4 for number in (*call.refs(), *call.outs[:1]))
    return None if own is None or not maps else own(call, axis, given, cells)
