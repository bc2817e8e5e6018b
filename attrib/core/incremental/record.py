"""Write down what a model computes: one clean forward pass, as a list of ATen calls with concrete shapes.

Recording at the level of ATen sees modules and functional spellings alike, whatever Python the model runs, and leaves
the model alone. What cannot be replayed on other rows (values read back into Python, random numbers) is refused.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map_only
from torch.utils.weak import WeakTensorKeyDictionary


class NotReplayableError(Exception):
    """Why a model cannot be replayed; the caller runs the model itself instead."""


@dataclass(frozen=True)
class Ref:
    """A recorded value."""

    id: int


@dataclass(frozen=True)
class Call:
    """One ATen call: its overload, its arguments with `Ref` for tensors, and the values it made."""

    op: str
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    outs: tuple[int, ...]

    def refs(self) -> Iterator[int]:
        """Values that the call reads."""
        return (leaf.id for leaf in tree_flatten((self.args, dict(self.kwargs)))[0] if isinstance(leaf, Ref))


@dataclass
class Tape:
    """A recorded forward pass.

    Attributes:
        calls: in the order in which they ran; those that depend on no input are left out.
        inputs: values of the inputs.
        output: what the model returned, with `Ref` for tensors.
        shapes: shape of every value.
        constants: values that depend on no input, by themselves: weights, and what is computed from them.
    """

    calls: list[Call] = field(default_factory=list)
    inputs: tuple[int, ...] = ()
    output: Any = None
    shapes: dict[int, tuple[int, ...]] = field(default_factory=dict)
    constants: dict[int, Tensor] = field(default_factory=dict)


_STALE = -1
# What hands numbers to Python, from where they may come back as something that looks like a constant.
_LEAVES_TORCH = frozenset({"numpy", "__array__", "tolist", "item", "__dlpack__", "data_ptr", "__bool__", "__float__"})


class _NoEscape(TorchFunctionMode):
    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(func, "__name__", "") in _LEAVES_TORCH:
            raise NotReplayableError(f"it reads values back into Python (Tensor.{func.__name__})")
        return func(*args, **(kwargs or {}))


class Recorder(TorchDispatchMode):
    """Fills a `Tape` while the block runs."""

    def __init__(self, inputs: tuple[Tensor, ...]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.tape = Tape()
        self._ids: Any = WeakTensorKeyDictionary()
        self.tape.inputs = tuple(self._new(x) for x in inputs)

    def _new(self, value: Tensor, constant: bool = False) -> int:
        number = len(self.tape.shapes)
        self.tape.shapes[number] = tuple(value.shape)
        if constant:
            self.tape.constants[number] = value
        self._ids[value] = number
        return number

    def ref(self, value: Tensor) -> Ref:
        """The recorded value of a Tensor; one that nothing recorded has made is a constant."""
        number = self._ids.get(value)
        if number == _STALE:
            raise NotReplayableError("it changes a tensor in place that another one looks into")
        return Ref(self._new(value, constant=True) if number is None else number)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is torch.ops.aten._local_scalar_dense.default:
            raise NotReplayableError("what it does depends on values of its input")
        noted_args, noted_kwargs = tree_map_only(Tensor, self.ref, (args, kwargs))
        out = func(*args, **kwargs)
        self._note(func, noted_args, noted_kwargs, out, args)
        return out

    def _note(self, func: Any, args: Any, kwargs: Any, out: Any, given: Any) -> None:
        made = [leaf for leaf in tree_flatten(out)[0] if isinstance(leaf, Tensor)]
        call = Call(str(func).removeprefix("aten."), tuple(args), kwargs, ())
        fixed = all(number in self.tape.constants for number in call.refs())
        if fixed and torch.Tag.nondeterministic_seeded in func.tags:
            raise NotReplayableError(f"it draws random numbers ({call.op})")
        if func._schema.is_mutable:
            self._changed_in_place(given[0], made, fixed)
        outs = tuple(self._new(one, constant=fixed) for one in made)
        if not fixed:
            self.tape.calls.append(Call(call.op, call.args, kwargs, outs))

    def _changed_in_place(self, target: Any, made: list[Tensor], fixed: bool) -> None:
        if not (len(made) == 1 and made[0] is target):
            raise NotReplayableError("it writes into a tensor that was given to it")
        if not fixed and self._ids.get(target) in self.tape.constants:
            raise NotReplayableError("it writes into a tensor that outlives the forward pass")
        where = target.untyped_storage()._cdata
        for other in list(self._ids):
            if other is not target and other.untyped_storage()._cdata == where:
                self._ids[other] = _STALE


def record(run: Callable[..., Any], inputs: tuple[Tensor, ...]) -> tuple[Tape, Recorder]:
    """Run ``run(*inputs)`` once and write it down; the recorder still knows the tensors that are alive.

    Raises:
        NotReplayableError: what was computed cannot be told from the calls.
    """
    recorder = Recorder(inputs)
    try:
        with torch.no_grad(), _NoEscape(), recorder:
            output = run(*inputs)
    except Exception as exc:
        if (reason := _of_recording(exc)) is not None:
            raise NotReplayableError(reason) from exc
        raise
    recorder.tape.output = tree_map_only(Tensor, recorder.ref, output)
    return recorder.tape, recorder


def _of_recording(exc: BaseException) -> str | None:
    """Why recording failed; None for an error that the model itself has raised, outside of any recorded call."""
    causes = [exc]
    while causes[-1].__cause__ is not None:
        causes.append(causes[-1].__cause__)
    for cause in causes:
        if isinstance(cause, NotReplayableError):
            return str(cause)
    codes = {frame.f_code for cause in causes for frame, _ in traceback.walk_tb(cause.__traceback__)}
    ours = {Recorder.__torch_dispatch__.__code__, _NoEscape.__torch_function__.__code__}
    return f"an operation failed while it was recorded: {exc}" if codes & ours else None
