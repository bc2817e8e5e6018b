"""Turn a recorded forward pass into steps; a call without a rule is refused, so that nothing is guessed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor
from torch.utils._pytree import tree_flatten

from attrib.core.incremental.record import Call, NotReplayableError, Ref, Tape
from attrib.core.incremental.steps import Form, Kind, Run, Step, inplace_of, overload, replay

Rule = Callable[["Compiler", Call], None]
Rules = dict[str, Rule]


def ruler(rules: Rules) -> Callable[..., Callable[[Rule], Rule]]:
    """A decorator that notes in ``rules`` how calls of some operations compile."""

    def rule(*ops: str) -> Callable[[Rule], Rule]:
        def add(function: Rule) -> Rule:
            rules.update(dict.fromkeys(ops, function))
            return function

        return add

    return rule


@dataclass
class Compiler:
    """Compiles a tape.

    Attributes:
        tape: the recorded pass.
        keep: values that must exist, besides the output: activations that somebody reads.
        source: the value that masks hide parts of.
        names: of weights, by identity.
        steps: what has been compiled so far.
        forms: map or no map, for every value.
    """

    tape: Tape
    keep: tuple[int, ...]
    source: int
    names: Mapping[int, str]
    steps: list[Step] = field(default_factory=list)
    forms: dict[int, Form | None] = field(default_factory=dict)
    same: dict[int, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.rows = self.shape(self.tape.inputs[0])[0]
        reads = [number for call in self.tape.calls for number in call.refs()]
        reads += [leaf.id for leaf in tree_flatten(self.tape.output)[0] if isinstance(leaf, Ref)]
        self.uses = Counter([*reads, *self.keep])
        for number in (*self.tape.inputs, self.source):
            self.forms[number] = self.map_form(number)

    def shape(self, number: int) -> tuple[int, ...]:
        """Shape of a value."""
        return self.tape.shapes[number]

    def map_form(self, number: int) -> Form | None:
        """The form of ``(N, C, H, W)``; None for anything else."""
        shape = self.shape(number)
        return Form(shape[2], shape[3]) if len(shape) == 4 else None

    def value(self, number: int) -> int:
        """The value that another name stands for."""
        return self.same.get(number, number)

    def run(self, rules: Rules) -> None:
        """Compile every call that the output or a kept value needs."""
        for call in self._needed():
            seen = Call(
                call.op,
                tuple(map(self._named, call.args)),
                {name: self._named(arg) for name, arg in call.kwargs.items()},
                call.outs,
            )
            name, _, kind = call.op.partition(".")
            name = name.removesuffix("_")  # what is done in place is a new value to whoever reads it afterwards
            compile_call = rules.get(f"{name}.{kind}") or rules.get(name)
            if compile_call is None:
                raise NotReplayableError(f"there is no rule for {call.op}")
            compile_call(self, replace(seen, op=f"{name}.{kind}"))
        for number in map(self.value, self._results()):
            if self.is_constant(number) and self.rows > 1 and self.shape(number)[:1] == (self.rows,):
                raise NotReplayableError("it returns a constant that was made for this number of examples")
            if not self.is_constant(number) and number not in self.forms:
                raise NotReplayableError("it returns a side result of an operation")

    def _results(self) -> set[int]:
        return {leaf.id for leaf in tree_flatten(self.tape.output)[0] if isinstance(leaf, Ref)} | set(self.keep)

    def _needed(self) -> list[Call]:
        wanted = self._results()
        found = []
        for call in reversed(self.tape.calls):
            if wanted & set(call.outs) and self.source not in call.outs:
                found.append(call)
                wanted |= set(call.refs())
        return found[::-1]

    def _named(self, arg: Any) -> Any:
        if isinstance(arg, Ref):
            return Ref(self.value(arg.id))
        return [self._named(one) for one in arg] if isinstance(arg, (list, tuple)) else arg

    def is_constant(self, number: int) -> bool:
        """Whether a value depends on no input."""
        return number in self.tape.constants

    def operands(self, call: Call) -> tuple[int, ...]:
        """Values that the call reads and that depend on an input, each once."""
        found = tuple(dict.fromkeys(number for number in call.refs() if not self.is_constant(number)))
        for number in found:
            if number not in self.forms:
                raise NotReplayableError(f"{call.op} reads a side result of another operation")
        return found

    def only(self, call: Call) -> int:
        """The one operand of a call."""
        found = self.operands(call)
        if len(found) != 1:
            raise NotReplayableError(f"{call.op} must read one activation; it reads {len(found)}")
        return found[0]

    def emit(self, call: Call, kind: Kind, run: Run, form: Form | None, **more: Any) -> Step:
        """Add the step that makes the call's first value."""
        more.setdefault("inputs", self.operands(call))
        return self.add(call.op, kind, call.outs[0], run, form, **more)

    def add(self, op: str, kind: Kind, out: int, run: Run, form: Form | None, **more: Any) -> Step:
        """Add a step; what it makes must keep the examples apart."""
        leading = self.shape(out)[:1]
        expected = self.rows * form.h * form.w if form and form.axes is None else self.rows
        if leading != (expected,):
            raise NotReplayableError(f"{op} mixes the examples of a batch")
        step = Step(more.pop("name", op.partition(".")[0]), op, kind, run=run, out=out, form=form, **more)
        self.steps.append(step)
        self.forms[out] = form
        return step

    def swap(self, old: Step, new: Step) -> None:
        """Put a step in the place of another; it comes last, because what it makes is new."""
        self.steps.remove(old)
        self.steps.append(new)
        self.forms[new.out] = new.form

    def alias(self, call: Call, of: int) -> None:
        """The call's value is another one."""
        self.same[call.outs[0]] = of
        self.uses[of] += self.uses[call.outs[0]] - 1

    def fresh(self, shape: tuple[int, ...], constant: Tensor | None = None) -> int:
        """A new value."""
        number = len(self.tape.shapes)
        self.tape.shapes[number] = shape
        if constant is not None:
            self.tape.constants[number] = constant
        return number

    def layer(self, number: int | None) -> str:
        """Name of the layer that a weight belongs to."""
        weight = self.tape.constants.get(-1 if number is None else number)
        return self.names.get(id(weight), "").rpartition(".")[0] if weight is not None else ""

    def whole(self, call: Call, form: Form | None, run: Run | None = None, **more: Any) -> Step:
        """Compile a call that needs its operands whole."""
        run = run or replay(overload(call.op), call, self.operands(call))
        return self.emit(call, Kind.WHOLE, run, form, **more)


def is_even(compiler: Compiler, call: Call, form: Form) -> bool:
    """Whether every constant operand is the same at all places of the map."""
    ndim = len(compiler.shape(call.outs[0]))
    for number in call.refs():
        if compiler.is_constant(number):
            shape = compiler.shape(number)
            padded = (1,) * (ndim - len(shape)) + shape
            places = (0,) if form.axes is None else (0, *form.axes)
            if len(shape) > ndim or any(padded[axis] != 1 for axis in places):
                return False
    return True


def _refuse_mixing(compiler: Compiler, call: Call, out: tuple[int, ...]) -> None:
    """Broadcasting aligns axes from the last on, so examples stay apart only in operands with all axes."""
    for number in call.refs():
        shape = compiler.shape(number)
        if compiler.is_constant(number):
            if len(shape) == len(out) and shape[0] != 1:
                raise NotReplayableError(f"{call.op} reads a constant that was made for this number of examples")
        elif len(shape) < len(out):
            raise NotReplayableError(f"{call.op} mixes the examples of a batch")


def compile_pointwise(compiler: Compiler, call: Call) -> None:
    """One operand and numbers or even constants: what changes is where the operand changes."""
    operands = compiler.operands(call)
    out = compiler.shape(call.outs[0])
    _refuse_mixing(compiler, call, out)
    if len(operands) > 1:
        _compile_join(compiler, call, operands)
        return
    form = compiler.forms[compiler.only(call)]
    run = replay(overload(call.op), call, operands)
    if out != compiler.shape(operands[0]) or not (form is None or is_even(compiler, call, form)):
        compiler.whole(call, form if form and _fits(form, out) else None, run)
        return
    first = call.args[0] == Ref(operands[0]) and list(call.refs()).count(operands[0]) == 1
    func = inplace_of(call.op) if first else None
    inplace = None if func is None else replay(func, call, operands)
    compiler.emit(call, Kind.WHOLE if form is None else Kind.POINT, run, form, inplace=inplace)


def _compile_join(compiler: Compiler, call: Call, operands: tuple[int, ...]) -> None:
    forms = [compiler.forms[number] for number in operands]
    out = compiler.shape(call.outs[0])
    run = replay(overload(call.op), call, operands)
    alike = all(compiler.shape(number) == out for number in operands) and len(set(forms)) == 1
    if forms[0] is not None and alike and is_even(compiler, call, forms[0]):
        func = inplace_of(call.op) if call.args[0] == Ref(operands[0]) else None
        inplace = None if func is None else replay(func, call, operands)
        compiler.emit(call, Kind.JOIN, run, forms[0], inplace=inplace)
        return
    compiler.whole(call, next((form for form in forms if form and _fits(form, out)), None), run)


def _fits(form: Form, shape: tuple[int, ...]) -> bool:
    if form.axes is None or max(form.axes) >= len(shape):
        return False
    return (shape[form.axes[0]], shape[form.axes[1]]) == (form.h, form.w)
