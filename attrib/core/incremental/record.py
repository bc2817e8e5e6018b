"""Write down what a model computes: one clean forward pass, as a list of ATen calls with concrete shapes.

Recording at the level of ATen sees modules and functional spellings alike, whatever Python the model runs, and leaves
the model alone. What cannot be replayed on other rows (values read back into Python, random numbers) is refused.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
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
_LEAVES_TORCH = frozenset({
    "numpy", "__array__", "tolist", "item", "__dlpack__", "data_ptr", "untyped_storage", "storage", "__bool__",
    "__float__",
})  # fmt: skip
_HALF = (torch.float16, torch.bfloat16)
_PLAIN = (Tensor, int, float, complex, str, bytes, type(None))


class _NoEscape(TorchFunctionMode):
    def __init__(self, recorder: Recorder) -> None:
        super().__init__()
        self.recorder = recorder

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(func, "__name__", "") in _LEAVES_TORCH:
            raise self.recorder.refuse(f"it reads values back into Python (Tensor.{func.__name__})")
        return func(*args, **(kwargs or {}))


class Recorder(TorchDispatchMode):
    """Fills a `Tape` while the block runs."""

    def __init__(self, inputs: tuple[Tensor, ...]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.tape = Tape()
        self.reasons: list[str] = []
        self._ids: Any = WeakTensorKeyDictionary()
        self.tape.inputs = tuple(self._new(x) for x in inputs)

    def refuse(self, reason: str) -> NotReplayableError:
        """The error to raise; the reason stands even if the model catches it."""
        self.reasons.append(reason)
        return NotReplayableError(reason)

    def _number(self, value: Tensor) -> int:
        number = len(self.tape.shapes)
        self.tape.shapes[number] = tuple(value.shape)
        return number

    def _new(self, value: Tensor, constant: bool = False) -> int:
        number = self._number(value)
        if constant:
            self.tape.constants[number] = value
        self._ids[value] = number
        return number

    def ref(self, value: Tensor) -> Ref:
        """The recorded value of a Tensor; one that nothing recorded has made is a constant."""
        number = self._ids.get(value)
        if number == _STALE:
            raise self.refuse("it changes a tensor in place that another one looks into")
        return Ref(self._new(value, constant=True) if number is None else number)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is torch.ops.aten._local_scalar_dense.default:
            raise self.refuse("what it does depends on values of its input")
        with torch._C.DisableTorchFunction():  # what is done here, the model does not do
            noted_args, noted_kwargs = tree_map_only(Tensor, self.ref, (args, kwargs))
            out = func(*args, **kwargs)
            self._note(func, noted_args, noted_kwargs, out, args)
        return out

    def _note(self, func: Any, args: Any, kwargs: Any, out: Any, given: Any) -> None:
        leaves = tree_flatten(out)[0]
        made = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
        call = Call(str(func).removeprefix("aten."), tuple(args), kwargs, ())
        fixed = all(number in self.tape.constants for number in call.refs())
        if fixed and torch.Tag.nondeterministic_seeded in func.tags:
            raise self.refuse(f"it draws random numbers ({call.op})")
        if not fixed:
            self._refuse_values(leaves)
        if func._schema.is_mutable:
            self._changed_in_place(func, given[0], made, fixed)
            call = call if fixed else self._keeping_dtype(call, given)
        outs = tuple(self._new(one, constant=fixed) for one in made)
        if not fixed:
            self.tape.calls.append(replace(call, outs=outs))

    def _refuse_values(self, made: list[Any]) -> None:
        """Numbers and truth values of activations (`torch.equal`), and precisions in which folding is not exact."""
        for value in made:
            if not isinstance(value, Tensor) and value is not None:
                raise self.refuse("what it does depends on values of its input")
            if isinstance(value, Tensor) and value.dtype in _HALF:
                raise self.refuse(f"it computes in {str(value.dtype).removeprefix('torch.')}")

    def _keeping_dtype(self, call: Call, given: Any) -> Call:
        """What is done in place keeps the dtype of its target; done anew, it may need a conversion."""
        target = given[0]
        if all(one.dtype == target.dtype for one in given if isinstance(one, Tensor)):
            return call
        number = self._number(target)
        self.tape.calls.append(replace(call, outs=(number,)))
        return Call("_to_copy.default", (Ref(number),), {"dtype": target.dtype}, ())

    def _changed_in_place(self, func: Any, target: Any, made: list[Tensor], fixed: bool) -> None:
        if not (len(made) == 1 and made[0] is target) or any(one.is_out for one in func._schema.arguments):
            raise self.refuse("it writes into a tensor that was given to it")
        if not fixed and self._ids.get(target) in self.tape.constants:
            raise self.refuse("it writes into a tensor that outlives the forward pass")
        where = target.untyped_storage()._cdata
        if fixed:
            read = {number for call in self.tape.calls for number in call.refs()} & set(self.tape.constants)
            if any(self.tape.constants[number].untyped_storage()._cdata == where for number in read):
                raise self.refuse("it changes a constant that it has used before")
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
        with torch.no_grad(), _NoEscape(recorder), recorder:
            output = run(*inputs)
    except Exception as exc:
        reason = recorder.reasons[0] if recorder.reasons else _of_recording(exc)
        if reason is not None:
            raise NotReplayableError(reason) from exc
        raise
    if recorder.reasons:  # the model has caught the error and gone on
        raise NotReplayableError(recorder.reasons[0])
    for leaf in tree_flatten(output)[0]:
        if not isinstance(leaf, _PLAIN):
            raise NotReplayableError(f"it returns a {type(leaf).__name__}, whose tensors cannot be seen")
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
