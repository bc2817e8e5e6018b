"""Run a program on windows only: gather what surrounds them from the clean maps, paste them in, go on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from attrib.core.incremental.plan import Group
from attrib.core.incremental.program import Program, Weights
from attrib.core.incremental.steps import Form, Kind, Site, Step


class Region(NamedTuple):
    """A rectangle of a padded map along one axis, for each mask: start, size; and the padding on both sides."""

    start: Tensor
    size: int
    before: int = 0
    after: int = 0


def to_rows(value: Tensor, form: Form) -> Tensor:
    """A map as ``(N, h, w, the rest)`` in contiguous memory."""
    if form.axes is None:
        return value.reshape(-1, form.h, form.w, value.shape[-1])
    rows = value.movedim(form.axes, (1, 2))
    return (rows.flatten(3) if rows.ndim > 3 else rows[..., None]).contiguous()


def from_rows(rows: Tensor, like: Sequence[int], form: Form) -> Tensor:
    """The map whose rows these are; ``like`` gives the sizes of the other axes."""
    if form.axes is None:
        return rows.reshape(-1, rows.shape[-1])
    rest = [size for axis, size in enumerate(like) if axis and axis not in form.axes]
    return rows.reshape(*rows.shape[:3], *rest).movedim((1, 2), form.axes)


@dataclass
class Tiles:
    """One clean pass, and the windows that masks change in it.

    Attributes:
        program: what runs.
        weights: its constants.
        clean: values of the clean pass of ``images`` examples: all that windows are cut from.
        images: number of examples.
    """

    program: Program
    weights: Weights
    clean: Mapping[int, Tensor]
    images: int
    padded: dict[tuple[int, tuple[int, ...], float], Tensor] = field(default_factory=dict)

    def run(self, group: Group, source: Tensor, stop: int) -> dict[int, Tensor]:
        """Run the steps before ``stop`` for the masks of a group; return what later steps or the caller need.

        Args:
            group: windows of every map.
            source: the masked window of the source, rows ordered by mask, then example.
            stop: position of the first step that does not run.
        """
        program, env = self.program, {self.program.source: source}
        rows = len(group.positions) * self.images
        for i, step in enumerate(program.steps[:stop]):
            if step.out in program.changed:
                env[step.out] = self._step(step, group, env, rows, i in program.overwrites)
            for number in step.inputs:
                if program.last_use[number] == i:
                    env.pop(number, None)
        return env

    def _step(self, step: Step, group: Group, env: dict[int, Tensor], rows: int, free: bool) -> Tensor:
        if step.kind is Kind.MEAN:
            return self._mean(step, group, env[step.inputs[0]], rows)
        if step.kind is Kind.LOCAL:
            return self._local(step, group, env[step.inputs[0]], rows)
        if step.kind is Kind.WHOLE:
            xs = [self.whole(number, group, env, rows) for number in step.inputs]
            form = step.form or Form(1, 1)
            free = free and xs[0] is env.get(step.inputs[0])
            return (step.inplace if free and step.inplace else step.run)(xs, self.weights, Site(rows, form.h, form.w))
        y, x = group.y[step.out], group.x[step.out]
        xs = [self._joined(number, step, group, env) for number in step.inputs]
        made = step.inputs[0] in self.program.changed and xs[0] is not env[step.inputs[0]]
        run = step.inplace if step.inplace and (free or made) else step.run
        return run(xs, self.weights, Site(rows, y.size, x.size))

    def _joined(self, number: int, step: Step, group: Group, env: Mapping[int, Tensor]) -> Tensor:
        """An operand in the window of the result."""
        y, x = group.y[step.out], group.x[step.out]
        if number in env and step.kind is Kind.POINT:
            return env[number]
        return self.cut(number, group, env.get(number), Region(y.start, y.size), Region(x.start, x.size))

    def _local(self, step: Step, group: Group, tile: Tensor, rows: int) -> Tensor:
        number = step.inputs[0]
        y, x = group.y[step.out], group.x[step.out]
        if self._is_whole(number, group) and self._is_whole(step.out, group):
            return step.run([tile], self.weights, Site(rows, y.size, x.size))
        regions = [
            Region(at.start * local.stride, (at.size - 1) * local.stride + local.span, local.before, local.after)
            for at, local in ((y, step.local[0]), (x, step.local[1]))
        ]
        gathered = self.cut(number, group, tile, regions[0], regions[1], step.fill)
        return step.run([gathered], self.weights, Site(rows, y.size, x.size, gathered=True))

    def _is_whole(self, number: int, group: Group) -> bool:
        form = self.program.forms[number]
        return form is None or (group.y[number].size, group.x[number].size) == (form.h, form.w)

    def _mean(self, step: Step, group: Group, tile: Tensor, rows: int) -> Tensor:
        """The clean mean, and what the window changes in it."""
        number = step.inputs[0]
        if self._is_whole(number, group):
            return step.run([tile], self.weights, Site(rows, 1, 1))
        form = self.program.form(number)
        y, x = group.y[number], group.x[number]
        before = self.cut(number, group, None, Region(y.start, y.size), Region(x.start, x.size))
        change = (tile - before).sum(form.axes or (2, 3)) / (form.h * form.w)
        clean = self.repeated(step.out, rows)
        return clean + change.reshape(clean.shape)

    def repeated(self, number: int, rows: int) -> Tensor:
        """A clean value, once for every mask."""
        value = self._value(number)
        if number not in self.clean:
            return value
        return value.repeat(rows // self.images, *(1,) * (value.ndim - 1))

    def whole(self, number: int, group: Group, env: Mapping[int, Tensor], rows: int) -> Tensor:
        """A value with nothing cut off, changed where the masks change it."""
        if number not in env:
            return self.repeated(number, rows)
        if self._is_whole(number, group):
            return env[number]
        form = self.program.form(number)
        start = torch.zeros(len(group.positions), dtype=torch.int64)
        return self.cut(number, group, env[number], Region(start, form.h), Region(start, form.w))

    def cut(self, number: int, group: Group, tile: Tensor | None, y: Region, x: Region, fill: float = 0.0) -> Tensor:
        """Cut regions out of the clean map with ``tile`` pasted in."""
        form = self._form(number)
        if tile is not None:
            at = group.y[number], group.x[number]
            if _same(at[0].start, at[0].size, y) and _same(at[1].start, at[1].size, x):
                return tile
        source = self._rows(number, form, y, x, fill)
        width = form.w + x.before + x.after
        index = _cells(y.start, y.size, x.start, x.size, width)
        shared = number not in self.clean
        images = 1 if shared else self.images
        place = (form.h + y.before + y.after) * width
        index = index[:, None] + (torch.arange(images) * place)[:, None]
        index = index.expand(-1, self.images, -1).reshape(-1)
        rows = source.index_select(0, index.to(source.device))
        if tile is not None:
            self._paste(rows, tile, form, group, number, y, x)
        rows = rows.view(-1, y.size, x.size, source.shape[-1])
        like = self._value(number).shape
        return from_rows(rows, like, form)

    def _paste(self, rows: Tensor, tile: Tensor, form: Form, group: Group, number: int, y: Region, x: Region) -> None:
        at = group.y[number], group.x[number]
        where_y, inside_y = _into(at[0].start, at[0].size, y)
        where_x, inside_x = _into(at[1].start, at[1].size, x)
        index = where_y[:, :, None] * x.size + where_x[:, None, :]
        offset = torch.arange(len(rows) // (y.size * x.size)).reshape(-1, self.images, 1) * (y.size * x.size)
        index = (index.flatten(1)[:, None] + offset).reshape(-1)
        part = to_rows(tile, form._replace(h=at[0].size, w=at[1].size)).flatten(0, 2)
        if not (inside_y.all() and inside_x.all()):
            inside = (inside_y[:, :, None] & inside_x[:, None, :]).flatten(1)[:, None].expand(-1, self.images, -1)
            chosen = inside.reshape(-1).nonzero()[:, 0]
            index, part = index[chosen], part.index_select(0, chosen.to(part.device))
        rows.index_copy_(0, index.to(rows.device), part)

    def _form(self, number: int) -> Form:
        if (form := self.program.forms.get(number)) is not None:
            return form
        value = self._value(number)
        return Form(value.shape[2], value.shape[3])

    def _value(self, number: int) -> Tensor:
        """A clean value or a constant map."""
        return self.clean[number] if number in self.clean else self.weights[number]

    def _rows(self, number: int, form: Form, y: Region, x: Region, fill: float) -> Tensor:
        """Padded rows of a clean map ``(N * cells, channels)``, made once."""
        pads = (x.before, x.after, y.before, y.after)
        key = (number, pads, fill if any(pads) else 0.0)
        if key not in self.padded:
            rows = to_rows(self._value(number), form)
            if any(pads):
                rows = F.pad(rows, (0, 0, *pads), value=fill)
            self.padded[key] = rows.flatten(0, 2)
        return self.padded[key]


def _same(start: Tensor, size: int, region: Region) -> bool:
    return size == region.size and torch.equal(start + region.before, region.start)


def _cells(y: Tensor, h: int, x: Tensor, w: int, width: int) -> Tensor:
    """Numbers ``(k, h * w)`` of the cells of rectangles in a map of this width."""
    rows = (y[:, None] + torch.arange(h)) * width
    return (rows[:, :, None] + (x[:, None] + torch.arange(w))[:, None, :]).flatten(1)


def _into(start: Tensor, size: int, region: Region) -> tuple[Tensor, Tensor]:
    """Where the cells of a tile lie in a region ``(k, size)``, and which of them lie inside."""
    where = (start + region.before - region.start)[:, None] + torch.arange(size)
    return where, (where >= 0) & (where < region.size)
