"""The model while it is explained: in evaluation mode, without weight gradients, and put back as it was."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

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


@contextmanager
def frozen(model: Callable[..., Any]) -> Iterator[None]:
    """Run the block with the model in evaluation mode and without weight gradients, leaving no trace.

    Per-module ``training`` flags, per-parameter ``requires_grad``, buffers and torch's random state (CPU, and CUDA
    once it is initialised) are put back afterwards, also when the block raises. Autograd is switched on. Of a plain
    function, whose module cannot be seen, only the random state is kept.
    """
    if torch.is_inference_mode_enabled():
        raise ModelError(
            "explanations need autograd, which torch.inference_mode() forbids. Leave that block, or use no_grad()."
        )
    module = module_of(model)
    parts = [] if module is None else list(module.modules())
    with ExitStack() as undo:
        undo.enter_context(random_state_kept())
        if any("_orig_mod" in part._modules for part in parts):  # hooks and rules do not reach into compiled code
            undo.enter_context(torch.compiler.set_stance("force_eager"))
        flags, weights, buffers = _state(parts)
        undo.callback(_restore, flags, weights, buffers)
        for part in parts:
            if part.training:
                part.training = False  # not .eval(): some modules override it to merge or change weights
        for weight, requires_grad in weights:
            if requires_grad:
                weight.requires_grad = False
        undo.enter_context(torch.enable_grad())
        yield


_Flags = list[tuple[nn.Module, bool]]
_Weights = list[tuple[nn.Parameter, bool]]
_Buffers = list[tuple[nn.Module, str, Tensor, Tensor]]


def _state(parts: list[nn.Module]) -> tuple[_Flags, _Weights, _Buffers]:
    flags = [(part, part.training) for part in parts]
    weights = [(w, w.requires_grad) for part in parts for w in part._parameters.values() if w is not None]
    buffers = [
        (part, name, b, b.detach().clone()) for part in parts for name, b in part._buffers.items() if b is not None
    ]
    return flags, weights, buffers


def _restore(flags: _Flags, weights: _Weights, buffers: _Buffers) -> None:
    for part, training in flags:
        if part.training is not training:
            part.training = training
    for weight, requires_grad in weights:
        if weight.requires_grad is not requires_grad:
            weight.requires_grad = requires_grad
    for part, name, buffer, before in buffers:
        if not torch.equal(buffer, before):
            with torch.no_grad():
                buffer.copy_(before)
        part._buffers[name] = buffer
