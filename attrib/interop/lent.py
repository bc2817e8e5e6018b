"""What the drop-in classes share: the caller's tensors and model are borrowed, and given back as they were."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from inspect import signature
from typing import Any, Concatenate, ParamSpec, TypeVar, cast

from torch import Tensor, nn

from attrib.core import resolve, unwrap
from attrib.core.network.layers import Address
from attrib.errors import LayerError

P = ParamSpec("P")
S = TypeVar("S")
Init = Callable[Concatenate[S, P], None]


def either_name(init: Init[S, P]) -> Init[S, P]:
    """Take the model as ``model`` or as ``forward_func``; Captum's classes are divided over the word."""
    names = ("model", "forward_func")
    own = next(name for name in signature(init).parameters if name in names)
    other = names[own == names[0]]

    @wraps(init)
    def wrapper(self: S, /, *args: P.args, **kwargs: P.kwargs) -> None:
        if other in kwargs and own not in kwargs:
            kwargs[own] = kwargs.pop(other)
        init(self, *args, **kwargs)

    return cast(Init[S, P], wrapper)


def module_at(model: object, layer: nn.Module | str) -> nn.Module:
    """Return ``layer`` itself, or the module of that dotted name."""
    if not isinstance(layer, str):
        return layer
    plain: Any = unwrap(model)  # type: ignore[arg-type]  # a model without modules is refused by resolve
    at = Address.parse(resolve(plain, layer))
    if at.call is not None or at.side == "input":
        raise LayerError(
            f"layer must be a module or its plain name, as Captum takes modules; got {layer!r}. For a layer's input "
            "pass attribute_to_layer_input=True; the methods of attrib itself take addresses."
        )
    found: nn.Module = plain.get_submodule(at.name)
    return found


def tensors_of(inputs: object) -> tuple[Any, ...]:
    """The inputs as a tuple."""
    return inputs if isinstance(inputs, tuple) else (inputs,)


@contextmanager
def lent(inputs: object, gradients: bool) -> Iterator[None]:
    """Give the caller's tensors back with the ``requires_grad`` that they had, also when the block raises.

    With ``gradients`` those that can are differentiable inside the block.
    """
    tensors = [x for x in tensors_of(inputs) if isinstance(x, Tensor)]
    before = [x.requires_grad for x in tensors]
    try:
        for x in tensors:
            if gradients and not x.requires_grad and (x.is_floating_point() or x.is_complex()):
                x.requires_grad_()
        yield
    finally:
        for x, flag in zip(tensors, before, strict=True):
            if x.requires_grad is not flag:
                x.requires_grad_(flag)
