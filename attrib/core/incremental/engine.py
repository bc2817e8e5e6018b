"""Scores under local masks from one clean pass and the windows that the masks change."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Any

import torch
from torch import Tensor

from attrib.core import cost
from attrib.core.incremental.conv import can_pack
from attrib.core.incremental.plan import Group, Plan
from attrib.core.incremental.program import Program, Weights, compile_tape, finish, run_dense
from attrib.core.incremental.record import NotReplayableError, record
from attrib.core.incremental.steps import Kind, Layout
from attrib.core.incremental.tiles import Region, Tiles
from attrib.core.masks import Cropped
from attrib.core.options import auto_rows, is_out_of_memory
from attrib.core.query import Query

_BASE = -1  # the baseline, as a clean map beside the recorded values
_TAIL_ROWS = 256  # linear layers read all their weights once per call


@dataclass
class Replay:
    """A recorded model, ready to run on other rows; it lives as long as one sweep or one query.

    Attributes:
        program: the compiled recording.
        dtype: of the arithmetic; None is the model's own.
        channels_last: memory layout of maps and convolution weights.
        rows: of the batches in which whole maps run.
        verified: it has been compared with the model itself.
    """

    program: Program
    rows: int
    dtype: torch.dtype | None = None
    channels_last: bool = True
    verified: bool = False

    @cached_property
    def weights(self) -> Weights:
        """Folded and laid out once, for maps of any size."""
        return Weights(self.program, Layout(self.dtype, self.channels_last))

    @cached_property
    def packed(self) -> Weights:
        """Laid out for whole maps."""
        convolutions = [step.conv for step in self.program.steps if step.conv is not None]
        weights = [self.program.constants[conv.weight] for conv in convolutions]
        if not self.channels_last or self.dtype is not None or not all(map(can_pack, weights)):
            return self.weights
        return Weights(self.program, Layout(rows=self.rows))

    def ready(self, value: Tensor) -> Tensor:
        """A value in the dtype and layout of the arithmetic."""
        if self.dtype is not None and value.is_floating_point():
            value = value.to(self.dtype)
        return value.contiguous(memory_format=torch.channels_last) if self._lays_out(value) else value

    def _lays_out(self, value: Tensor) -> bool:
        return self.channels_last and value.ndim == 4

    @cached_property
    def dense_bytes(self) -> int:
        """Bytes that one whole row needs at its widest step."""
        shapes = [self.program.shapes[step.out] for step in self.program.steps if step.form is not None]
        item = 8 if self.dtype == torch.float64 else 4
        return 2 * item * max([1, *(prod(shape) // self.program.rows for shape in shapes)])

    def dense(self, inputs: Sequence[Tensor], source: Tensor | None = None) -> tuple[Any, dict[str, Tensor]]:
        """Run whole rows; ``source`` replaces what the recorded source would be."""
        given = dict(zip(self.program.inputs, map(self.ready, inputs), strict=True))
        if source is not None:
            given[self.program.source] = self.ready(source)
        rows = len(inputs[0])
        cost.add(forwards=rows)
        with torch.no_grad():
            return finish(self.program, run_dense(self.program, self.packed, given, rows))


def kept_replay(
    query: Query, at: str | None, index: int, layers: tuple[str, ...], dtype: torch.dtype | None, channels_last: bool
) -> Replay:
    """The replay of a query, made once: it lives as long as the query.

    Raises:
        NotReplayableError: the model must be run itself; the message says why.
    """
    memory: dict[Any, Replay | str] = vars(query).setdefault("_replays", {})
    key = (at, index, layers, dtype, channels_last)
    if key not in memory:
        try:
            program = record_query(query, at, index, layers)
            _refuse_casts(program, dtype)
            memory[key] = Replay(program, auto_rows(query.inputs[0]), dtype, channels_last)
        except NotReplayableError as exc:
            memory[key] = str(exc)  # the error itself would keep the query alive, and so would a later one
    found = memory[key]
    if isinstance(found, str):
        raise NotReplayableError(found)
    return found


def _refuse_casts(program: Program, dtype: torch.dtype | None) -> None:
    if dtype is not None and any(step.op.startswith("_to_copy") for step in program.steps):
        raise NotReplayableError("it chooses dtypes itself, which does not go with autocast")


def record_query(query: Query, at: str | None, index: int, layers: tuple[str, ...]) -> Program:
    """Record the model of a query, with the source of the masks at layer ``at`` or at input ``index``.

    Raises:
        NotReplayableError: the model must be run itself; the message says why.
    """
    rows = len(query.inputs[0])
    _refuse_dtypes(query)
    seen = tuple(dict.fromkeys([*layers, *([at] if at else [])]))
    extra = [isinstance(value, Tensor) and value.ndim > 0 and len(value) == rows for value in query.extra]
    if any(extra):
        raise NotReplayableError("further arguments differ from example to example")
    kept: dict[str, Tensor] = {}

    # A value of its own: what a layer gives may be seen elsewhere too, where it is not hidden.
    edit = {at: torch.clone} if at else None

    def run(*inputs: Tensor) -> Any:
        output, acts = query.run(inputs, *seen, edit=edit)
        kept.update({layer: acts[layer] for layer in seen})
        return output

    tape, recorder = record(run, tuple(x.clone() for x in query.inputs))
    values = {layer: recorder.ref(value).id for layer, value in kept.items()}
    source = values[at] if at else tape.inputs[index]
    return compile_tape(tape, {layer: values[layer] for layer in layers}, source, _names(query.model))


def _names(model: Any) -> dict[int, str]:
    if not isinstance(model, torch.nn.Module):
        return {}
    return {id(value): name for name, value in [*model.named_parameters(), *model.named_buffers()]}


def _refuse_dtypes(query: Query) -> None:
    for x in query.inputs:
        if x.dtype not in (torch.float32, torch.float64):
            raise NotReplayableError(f"inputs must be float32 or float64 to be replayed; they are {x.dtype}")


@dataclass
class Local:
    """One example or a few, with their clean maps, and the windows of a set of local masks in them."""

    replay: Replay
    masks: Cropped
    tiles: Tiles
    constant: Tensor | None
    tail: int
    budget: int

    @classmethod
    def of(
        cls, replay: Replay, masks: Cropped, inputs: Sequence[Tensor], source: Tensor, base: Tensor, budget: int
    ) -> Local:
        """Run the clean pass."""
        program = replay.program
        given = dict(zip(program.inputs, map(replay.ready, inputs), strict=True))
        given[program.source] = replay.ready(source)
        needed = sources(program)
        cost.add(forwards=len(source))
        clean = run_dense(program, replay.weights, given, len(source), needed.__contains__)
        clean = {number: value for number, value in clean.items() if number in needed}
        base = base.reshape((1,) * (source.ndim - base.ndim) + base.shape)
        base = replay.ready(base.to(source))
        constant = base if base.shape[2:] == (1, 1) else None
        if constant is None:
            clean[_BASE] = base.expand(source.shape)
        return cls(
            replay, masks, Tiles(program, replay.weights, clean, len(source)), constant, tail_of(program), budget
        )

    def run(self, plan: Plan) -> Iterator[tuple[Tensor, Any, dict[str, Tensor]]]:
        """Yield ``(positions, output, acts)`` with rows ordered by mask, then example."""
        waiting: list[tuple[Tensor, Tensor]] = []
        for part, env in self._heads(plan):
            cost.add(forwards=len(part.positions) * self.tiles.images)
            if self.tail == len(self.replay.program.steps):
                yield part.positions, *self._finish(env, part)
                continue
            waiting.append((part.positions, env[self._live]))
            if sum(len(rows) for _, rows in waiting) >= _TAIL_ROWS:
                yield self._run_tail(waiting)
                waiting = []
        if waiting:
            yield self._run_tail(waiting)

    def _heads(self, plan: Plan) -> Iterator[tuple[Group, dict[int, Tensor]]]:
        """Run the steps before the tail, in parts that are halved when memory runs out."""
        left = [part for group in plan.groups for part in self._parts(group)][::-1]
        while left:
            part = left.pop()
            try:
                env = self.tiles.run(part, self._source(part), self.tail)
            except RuntimeError as exc:
                if not is_out_of_memory(exc) or len(part.positions) == 1:
                    raise
                torch.cuda.empty_cache()  # does nothing where CUDA is not in use
                middle = len(part.positions) // 2
                left += [part.part(middle, len(part.positions)), part.part(0, middle)]
                continue
            yield part, env

    def _parts(self, group: Group) -> Iterator[Group]:
        rows = max(1, self.budget // (row_bytes(self.replay.program, group, self.tiles.clean) * self.tiles.images))
        parts = -(-len(group.positions) // rows)
        size = -(-len(group.positions) // parts)
        for start in range(0, len(group.positions), size):
            yield group.part(start, start + size)

    def _source(self, group: Group) -> Tensor:
        """The masked windows of the source."""
        number = self.replay.program.source
        y, x = group.y[number], group.x[number]
        keep = self.masks.crop(group.positions, (y.start, y.size), (x.start, x.size), self.tiles.clean[number])
        regions = Region(y.start, y.size), Region(x.start, x.size)
        clean = self.tiles.cut(number, group, None, *regions)
        base = self.constant if self.constant is not None else self.tiles.cut(_BASE, group, None, *regions)
        shape = (len(group.positions), self.tiles.images, *clean.shape[1:])
        base = base.expand(shape) if self.constant is not None else base.reshape(shape)
        masked = base if keep is None else torch.lerp(base, clean.reshape(shape), keep)
        return masked.flatten(0, 1).contiguous(memory_format=torch.channels_last)

    @cached_property
    def _live(self) -> int:
        return live_at(self.replay.program, self.tail)[0]

    def _run_tail(self, waiting: Sequence[tuple[Tensor, Tensor]]) -> tuple[Tensor, Any, dict[str, Tensor]]:
        program = self.replay.program
        rows = torch.cat([value for _, value in waiting])
        env = run_dense(program, self.replay.weights, {self._live: rows}, len(rows), start=self.tail)
        return torch.cat([positions for positions, _ in waiting]), *finish(program, env)

    def _finish(self, env: Mapping[int, Tensor], group: Group) -> tuple[Any, dict[str, Tensor]]:
        rows = len(group.positions) * self.tiles.images
        program = self.replay.program
        return finish(program, {number: self.tiles.whole(number, group, env, rows) for number in program.results})


def sources(program: Program) -> frozenset[int]:
    """Values of the clean pass that windows are cut from, or that are needed as they are."""
    found = {program.source, *(set(program.results) - program.changed)}
    for step in program.steps:
        if step.out in program.changed:
            found |= {n for n in step.inputs if step.kind is not Kind.POINT and program.forms.get(n) is not None}
            found |= {n for n in step.inputs if n not in program.changed and n not in program.constants}
            found |= {step.out} if step.kind is Kind.MEAN else set()
    return frozenset(found | {n for n in program.results if program.forms.get(n) is not None})


def live_at(program: Program, stop: int) -> list[int]:
    """Changed values made before step ``stop`` that are needed from there on."""
    made = {program.source} | {step.out for step in program.steps[:stop]}
    needed = {n for step in program.steps[stop:] for n in step.inputs} | set(program.results)
    return sorted(made & needed & program.changed)


def tail_of(program: Program) -> int:
    """The first step from which on one vector per row is all that is left; the number of steps if there is none."""
    best = len(program.steps)
    for stop in range(len(program.steps), 0, -1):
        live = live_at(program, stop)
        later = program.steps[stop:]
        clean = any(n not in program.changed and n not in program.constants for step in later for n in step.inputs)
        if clean or set(program.results) - program.changed or any(step.form is not None for step in later):
            break
        if len(live) == 1 and program.forms.get(live[0]) is None:
            best = stop
    return best


def row_bytes(program: Program, group: Group, clean: Mapping[int, Tensor]) -> int:
    """Bytes that one mask of a group needs at its widest step."""
    item = clean[program.source].element_size()
    most = 1
    for step in program.steps:
        if step.form is not None and step.out in group.y:
            shape = program.shapes[step.out]
            channels = torch.Size(shape).numel() // max(1, program.rows * step.form.h * step.form.w)
            channels = channels if step.form.axes else shape[-1]
            most = max(most, 2 * channels * group.y[step.out].size * group.x[step.out].size * item)
    return most
