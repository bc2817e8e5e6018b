"""Layers that a backward pass hands its signal past, whatever they computed in the forward pass."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from attrib.core.backward.activations import LAYER
from attrib.core.network.layers import Address, modules_of, resolve
from attrib.errors import LayerError


class _PassedOver(torch.autograd.Function):
    """The output of a layer, in a graph in which the layer is not."""

    @staticmethod
    def forward(ctx: Any, _x: Tensor, out: Tensor) -> Tensor:
        ctx.attrib_family = LAYER
        return out.clone()

    @staticmethod
    def backward(_ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return grads[0], None


@contextmanager
def passed_over(model: Callable[..., Any], layers: Sequence[str]) -> Iterator[None]:
    """Hand gradients from the outputs of ``layers`` to their inputs as they are, inside the block.

    Args:
        model: the unwrapped model.
        layers: names of modules with one input, whose output has its shape.
    """
    known = modules_of(model) if layers else {}
    handles = [module.register_forward_hook(_hand) for module in dict.fromkeys(known[name] for name in layers)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def whole_layers(model: Callable[..., Any], layers: Sequence[str | nn.Module]) -> tuple[str, ...]:
    """Names of ``layers``, which must be modules of the model as such: no call of them, and not their input."""
    names = tuple(resolve(model, layer) for layer in layers)
    for name in names:
        if Address.parse(name).name != name:
            raise LayerError(f"a layer that is passed over must be a module, every call of it; got {name!r}.")
    return names


def _hand(module: nn.Module, args: tuple[Any, ...], out: object) -> object:
    x = args[0] if len(args) == 1 else None
    if not isinstance(x, Tensor) or not isinstance(out, Tensor) or x.shape != out.shape:
        raise LayerError(
            f"a layer that is passed over must give one Tensor of the shape of its only input; {type(module).__name__} "
            f"makes {_shape(out)} of {', '.join(map(_shape, args)) or 'nothing'}."
        )
    return _PassedOver.apply(x, out.detach()) if torch.is_grad_enabled() and x.requires_grad else out


def _shape(value: object) -> str:
    return str(tuple(value.shape)) if isinstance(value, Tensor) else type(value).__name__
