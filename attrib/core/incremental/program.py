"""A model as a list of steps that can be run on any number of rows, with BatchNorm folded into the convolutions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_map_only

from attrib.core.incremental import layers, shapes
from attrib.core.incremental.compiler import Compiler
from attrib.core.incremental.record import Ref, Tape
from attrib.core.incremental.steps import Form, Kind, Layout, Site, Step


@dataclass(frozen=True)
class Program:
    """What the model computes from the source on, and beside it.

    Attributes:
        steps: in order.
        source: the value that masks hide parts of.
        inputs: values of the model's inputs.
        output: what the model returns, with `Ref` for values.
        kept: layer address to value.
        forms: map or no map, for every value.
        shapes: of every value, in the recorded pass.
        constants: the model's own tensors.
        rows: examples of the recorded pass.
    """

    steps: tuple[Step, ...]
    source: int
    inputs: tuple[int, ...]
    output: Any
    kept: Mapping[str, int]
    forms: Mapping[int, Form | None]
    shapes: Mapping[int, tuple[int, ...]]
    constants: Mapping[int, Tensor]
    rows: int

    @cached_property
    def changed(self) -> frozenset[int]:
        """Values that depend on the source."""
        found = {self.source}
        for step in self.steps:
            if found & set(step.inputs):
                found.add(step.out)
        return frozenset(found)

    def form(self, number: int) -> Form:
        """The form of a map."""
        return self.forms[number] or Form(1, 1)

    @cached_property
    def geometry(self) -> Hashable:
        """All that decides which windows change, and no weights."""
        steps = tuple((s.kind, s.inputs, s.out, s.local, s.form, s.macs) for s in self.steps)
        return self.source, self.forms.get(self.source), steps, self.results

    @cached_property
    def results(self) -> tuple[int, ...]:
        """Values that must be there in the end."""
        refs = [leaf.id for leaf in tree_flatten(self.output)[0] if isinstance(leaf, Ref)]
        return tuple(dict.fromkeys([*refs, *self.kept.values()]))

    @cached_property
    def overwrites(self) -> frozenset[int]:
        """Positions of steps that may overwrite their first operand: nothing else ever looks at it."""
        uses = Counter(number for step in self.steps for number in step.inputs) + Counter(self.results)
        fresh = {step.out for step in self.steps if step.fresh}
        free = {number for number in fresh if uses[number] == 1}
        return frozenset(i for i, step in enumerate(self.steps) if step.inplace and step.inputs[0] in free)

    @cached_property
    def sources(self) -> frozenset[int]:
        """Values of the clean pass that windows are cut from, or that are needed as they are."""
        found = {self.source, *(set(self.results) - self.changed)}
        for step in self.steps:
            if step.out in self.changed:
                found |= {n for n in step.inputs if step.kind is not Kind.POINT and self.forms.get(n) is not None}
                found |= {n for n in step.inputs if n not in self.changed and n not in self.constants}
                found |= {step.out} if step.kind is Kind.MEAN else set()
        return frozenset(found | {n for n in self.results if self.forms.get(n) is not None})

    def live_at(self, stop: int) -> list[int]:
        """Changed values made before step ``stop`` that are needed from there on."""
        made = {self.source} | {step.out for step in self.steps[:stop]}
        needed = {n for step in self.steps[stop:] for n in step.inputs} | set(self.results)
        return sorted(made & needed & self.changed)

    @cached_property
    def tail(self) -> int:
        """The first step from which on one vector per row is all that is left; the number of steps if there is none."""
        best = len(self.steps)
        for stop in range(len(self.steps), 0, -1):
            live = self.live_at(stop)
            later = self.steps[stop:]
            clean = any(n not in self.changed and n not in self.constants for step in later for n in step.inputs)
            if clean or set(self.results) - self.changed or any(step.form is not None for step in later):
                break
            if len(live) == 1 and self.forms.get(live[0]) is None:
                best = stop
        return best

    @cached_property
    def last_use(self) -> dict[int, int]:
        """Position of the step after which a value is not needed any more."""
        last = {number: i for i, step in enumerate(self.steps) for number in step.inputs}
        return last | dict.fromkeys(self.results, len(self.steps))


_RULES = layers.RULES | shapes.RULES


def compile_tape(tape: Tape, kept: Mapping[str, int], source: int, names: Mapping[int, str]) -> Program:
    """Compile a recorded pass.

    Raises:
        NotReplayableError: a call has no rule, or mixes the examples of the batch.
    """
    compiler = Compiler(tape, tuple(kept.values()), source, names)
    compiler.run(_RULES)
    return Program(
        tuple(compiler.steps),
        source,
        tape.inputs,
        tree_map_only(Ref, lambda ref: Ref(compiler.value(ref.id)), tape.output),
        {layer: compiler.value(number) for layer, number in kept.items()},
        dict(compiler.forms),
        dict(tape.shapes),
        dict(tape.constants),
        compiler.rows,
    )


class Weights(dict[int, Tensor]):
    """The constants of a program, ready to run: BatchNorm folded, convolutions in channels-last layout.

    At most one copy of the convolution weights is made, and it lives as long as this object; all other tensors are the
    model's own.
    """

    def __init__(self, program: Program, layout: Layout) -> None:
        super().__init__(program.constants)
        for step in program.steps:
            if step.prepare is not None:
                step.prepare(self, layout)
        if layout.dtype is not None:
            for number, value in self.items():
                self[number] = value.to(layout.dtype) if value.is_floating_point() else value


def finish(program: Program, env: Mapping[int, Tensor]) -> tuple[Any, dict[str, Tensor]]:
    """The model's output and the kept activations, as the model itself gives them."""

    def value(number: int) -> Tensor:
        return env[number] if number in env else program.constants[number]

    output = tree_map_only(Ref, lambda ref: value(ref.id), program.output)
    return output, {layer: value(number) for layer, number in program.kept.items()}


def run_dense(
    program: Program,
    weights: Mapping[int, Tensor],
    given: Mapping[int, Tensor],
    rows: int,
    keep: Callable[[int], bool] = lambda _: False,
    start: int = 0,
) -> dict[int, Tensor]:
    """Run the steps from ``start`` on, on whole maps; values are dropped after their last use unless kept."""
    env = dict(given)
    for i, step in enumerate(program.steps[start:], start):
        form = step.form or Form(1, 1)
        xs = [env[number] if number in env else weights[number] for number in step.inputs]
        free = i in program.overwrites and step.inputs[0] not in given and not keep(step.inputs[0])
        run = step.inplace if free and step.inplace is not None else step.run
        env[step.out] = run(xs, weights, Site(rows, form.h, form.w))
        for number in step.inputs:
            if program.last_use.get(number) == i and not keep(number):
                env.pop(number, None)
    return env
