"""The model while it is explained: in evaluation mode, without weight gradients, and put back as it was."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from attrib.errors import ModelError


def module_of(model: Callable[..., Any]) -> nn.Module | None:
    """The module whose state a call of ``model`` depends on: itself, or the owner of a bound method."""
    if isinstance(model, nn.Module):
        return model
    owner = getattr(model, "__self__", None)
    return owner if isinstance(owner, nn.Module) else None


def random_state_kept() -> AbstractContextManager[None]:
    """Put torch's random states back after the block: the CPU's, and CUDA's once it is initialised."""
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()  # type: ignore[no-untyped-call]
    kept: AbstractContextManager[None] = torch.random.fork_rng(devices=devices)
    return kept


def run_eagerly() -> AbstractContextManager[object]:
    """Run compiled code as it was written, inside the block: hooks and rules do not reach into it.

    Whatever was compiled: a module around the model, the model itself, a part, a function that it calls.
    """
    if "torch._dynamo" not in sys.modules:  # nothing was compiled, and the import takes a second
        return nullcontext()
    stance: AbstractContextManager[object] = torch.compiler.set_stance("force_eager")
    return stance


@contextmanager
def frozen(model: Callable[..., Any]) -> Iterator[None]:
    """Run the block with the model in evaluation mode and without weight gradients, leaving no trace.

    Per-module ``training`` flags, per-parameter ``requires_grad``, buffers and torch's random state (CPU, and CUDA
    once it is initialised) are put back afterwards, also when the block raises. Autograd is switched on, and compiled
    code runs as it was written. Of a plain function, whose module cannot be seen, only the random state is kept. A
    buffer that the model registers while it runs stays: the model may remember elsewhere that it has it. Threads need
    a model each.
    """
    if torch.is_inference_mode_enabled():
        raise ModelError(
            "explanations need autograd, which torch.inference_mode() forbids. Leave that block, or use no_grad()."
        )
    module = module_of(model)
    parts = [] if module is None else list(module.modules())
    _refuse_lazy(parts)
    steps: list[_Step] = []
    with ExitStack() as undo:
        undo.enter_context(random_state_kept())
        undo.enter_context(run_eagerly())
        undo.callback(_take, steps)
        for part in parts:
            _freeze(part, steps)
        undo.enter_context(torch.enable_grad())
        yield


def _refuse_lazy(parts: Sequence[nn.Module]) -> None:
    for part in parts:
        if any(is_lazy(w) for w in (*part._parameters.values(), *part._buffers.values()) if w is not None):
            raise ModelError(
                "weights must be there before the model is explained; those of a "
                f"{type(part).__name__} are made in its first forward pass. Run the model once."
            )


_Step = tuple[Callable[..., None], tuple[Any, ...]]


def _take(steps: Sequence[_Step]) -> None:
    """All of them, also when one fails; an ExitStack would take several times as long as the steps."""
    failed: Exception | None = None
    for step, what in steps:
        try:
            step(*what)
        except Exception as exc:  # noqa: PERF203  what is left must be put back
            failed = failed or exc
    if failed:
        raise failed


def _freeze(part: nn.Module, undo: list[_Step]) -> None:
    for name, buffer in part._buffers.items():
        if buffer is not None:
            undo.append((_put_back, (part, name, buffer, buffer.detach().clone())))
    if hasattr(part, "training"):  # not in scripted modules that are frozen for good
        undo.append((_set, (part, "training", part.training)))
        _set(part, "training", False)  # not .eval(): some modules override it to merge or change weights
    for weight in part._parameters.values():
        if weight is not None and not weight.is_inference():  # those made in inference mode cannot be set
            undo.append((_set, (weight, "requires_grad", weight.requires_grad)))
            _set(weight, "requires_grad", False)


def _set(thing: nn.Module | nn.Parameter, name: str, value: bool) -> None:
    if getattr(thing, name) is not value:
        setattr(thing, name, value)


def _put_back(part: nn.Module, name: str, buffer: Tensor, before: Tensor) -> None:
    """Give ``part`` its buffer with the values ``before``; one on the meta device has none."""
    part._buffers[name] = buffer
    if not buffer.is_meta and not torch.equal(buffer, before):
        with torch.inference_mode(buffer.is_inference()), torch.no_grad():
            buffer.copy_(before)
