"""One clean pass, and the parts of other passes that local masks make different from it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from attrib.core.incremental.engine import Replay
from attrib.core.incremental.plan import Group, Plan
from attrib.core.incremental.program import Program, finish, run_dense
from attrib.core.incremental.tiles import Region, Tiles
from attrib.core.masking.masks import Cropped
from attrib.core.masking.options import is_out_of_memory
from attrib.core.network import cost

_BASE = -1  # the baseline, as a clean map beside the recorded values
_TAIL_ROWS = 256  # linear layers read all their weights once per call


@dataclass
class Partial:
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
    ) -> Partial:
        """Run the clean pass."""
        program = replay.program
        given = dict(zip(program.inputs, map(replay.ready, inputs), strict=True))
        given[program.source] = replay.ready(source)
        needed = program.sources
        cost.add(forwards=len(source))
        clean = run_dense(program, replay.weights, given, len(source), needed.__contains__)
        clean = {number: value for number, value in clean.items() if number in needed}
        base = base.reshape((1,) * (source.ndim - base.ndim) + base.shape)
        base = replay.ready(base.to(source))
        constant = base if base.shape[2:] == (1, 1) else None
        if constant is None:
            clean[_BASE] = base.expand(source.shape)
        return cls(replay, masks, Tiles(program, replay.weights, clean, len(source)), constant, program.tail, budget)

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
        return self.replay.program.live_at(self.tail)[0]

    def _run_tail(self, waiting: Sequence[tuple[Tensor, Tensor]]) -> tuple[Tensor, Any, dict[str, Tensor]]:
        program = self.replay.program
        rows = torch.cat([value for _, value in waiting])
        env = run_dense(program, self.replay.weights, {self._live: rows}, len(rows), start=self.tail)
        return torch.cat([positions for positions, _ in waiting]), *finish(program, env)

    def _finish(self, env: Mapping[int, Tensor], group: Group) -> tuple[Any, dict[str, Tensor]]:
        rows = len(group.positions) * self.tiles.images
        program = self.replay.program
        return finish(program, {number: self.tiles.whole(number, group, env, rows) for number in program.results})


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
