"""Which layers of a model hold weights, in the order in which it uses them; and copies whose weights are new."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Iterator
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from attrib.core.network.frozen import frozen, random_state_kept
from attrib.core.network.passes import forward
from attrib.errors import ModelError

How = Literal["reset", "permute"]


class _Uses(TorchFunctionMode):
    """Notes which parameters functions are given, each when it is first seen."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: dict[int, None] = {}

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        for one in _flat((args, kwargs or {})):
            if isinstance(one, nn.Parameter):
                self.seen.setdefault(id(one))
        return func(*args, **(kwargs or {}))


def _flat(value: object) -> Iterator[object]:
    if isinstance(value, (list, tuple, dict)):
        for one in value.values() if isinstance(value, dict) else value:
            yield from _flat(one)
    else:
        yield value


def weighted_layers(model: Callable[..., Any], x: Tensor, extra: tuple[Any, ...]) -> tuple[str, ...]:
    """Names of the modules with weights of their own, in the order in which one forward pass first uses these.

    What does not take part, such as an auxiliary head, is left out. A weight that several modules share counts for
    the first of them. The model's own weights have the name ``""``.
    """
    if not isinstance(model, nn.Module):
        raise ModelError(f"the model must be an nn.Module to have weights; got {type(model).__name__}.")
    owner: dict[int, str] = {}
    for name, part in model.named_modules():
        for weight in part._parameters.values():
            owner.setdefault(id(weight), name)
    with frozen(model), torch.no_grad(), _Uses() as uses:
        forward(model, (x.clone(),), extra)
    names = tuple(dict.fromkeys(owner[found] for found in uses.seen if found in owner))
    if not names:
        raise ModelError(
            f"the model must use weights; none was seen in a forward pass of {type(model).__name__}. Scripted and "
            "traced models hide them: pass the module that they were made of."
        )
    return names


def copy_of(model: nn.Module) -> nn.Module:
    """A copy that shares nothing with ``model``."""
    try:
        return copy.deepcopy(model)
    except Exception as exc:  # modules may hold anything
        raise ModelError(f"the model must be one that copy.deepcopy can copy; it raised {exc!r}.") from exc


def renew(part: nn.Module, how: How, *words: object) -> None:
    """Give a module's own weights new values, drawn from ``words``, the same ones on every device.

    Args:
        part: the module; its children are left alone.
        how: ``"reset"`` calls its own ``reset_parameters``, which puts running statistics back too; ``"permute"``
            shuffles the values of each weight, and so do modules that have no ``reset_parameters``.
        words: what the draw depends on.
    """
    seed = int.from_bytes(hashlib.blake2b(f"{words}".encode(), digest_size=7).digest(), "little")
    if how == "reset" and callable(getattr(part, "reset_parameters", None)):
        fresh: Any = copy.deepcopy(part).cpu()
        with random_state_kept(), torch.no_grad():
            torch.default_generator.manual_seed(seed)
            fresh.reset_parameters()
        put(part, fresh)
        return
    source = torch.Generator().manual_seed(seed)
    for weight in part._parameters.values():
        if weight is not None:
            order = torch.randperm(weight.numel(), generator=source).to(weight.device)
            weight.data.copy_(weight.detach().flatten()[order].reshape(weight.shape))


def put(part: nn.Module, source: nn.Module) -> None:
    """Copy the own weights and buffers of ``source``, a module of the same kind, into ``part``."""
    for mine, other in ((part._parameters, source._parameters), (part._buffers, source._buffers)):
        for name, value in mine.items():
            new = other[name]
            if value is not None and new is not None:
                value.data.copy_(new.data)
