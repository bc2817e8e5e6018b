"""Record what the model of a query computes, and run it on other rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Any

import torch
from torch import Tensor

from attrib.core.incremental.conv import can_pack
from attrib.core.incremental.program import Program, Weights, compile_tape, finish, run_dense
from attrib.core.incremental.record import NotReplayableError, record
from attrib.core.incremental.steps import Layout
from attrib.core.masking.options import auto_rows
from attrib.core.network import cost
from attrib.core.query import Query


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
