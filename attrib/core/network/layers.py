"""Find and name layers.

A layer address is a dotted module name, optionally with the number of the call (``"layer4.1.relu#0"``; a module
that runs several times must be addressed so) and with ``@input`` for what goes in instead of what comes out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from attrib.core.network.frozen import run_eagerly
from attrib.core.network.geometry import Layout, layout_of, main_input
from attrib.core.network.passes import forward
from attrib.errors import LayerError, did_you_mean


@dataclass(frozen=True)
class Address:
    """A parsed layer address: module name, number of the call (None: the only one), input or output."""

    name: str
    call: int | None = None
    side: str = "output"

    @classmethod
    def parse(cls, text: str) -> Address:
        """Read ``"name"``, ``"name#1"``, ``"name@input"`` or ``"name#1@input"``."""
        rest, at, side = text.partition("@")
        name, hash_, call = rest.partition("#")
        if (at and side not in ("input", "output")) or (hash_ and not call.isdigit()):
            raise LayerError(
                f"layer address must be 'name', 'name#CALL', 'name@input' or 'name#CALL@input'; got {text!r}."
            )
        return cls(name, int(call) if hash_ else None, side or "output")


def unwrap(model: Callable[..., Any]) -> Callable[..., Any]:
    """Return the plain module inside `torch.compile`, `DataParallel` and `DistributedDataParallel` wrappers.

    Hooks and backward overrides do not reach into compiled code or replicas, so the wrapped module, which shares
    every parameter with its wrapper, is what gets explained.
    """
    while isinstance(model, nn.Module):
        if "_orig_mod" in model._modules:  # torch.compile
            model = model.get_submodule("_orig_mod")
        elif isinstance(model, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
            model = model.module
        else:
            break
    return model


def modules_of(model: Callable[..., Any]) -> dict[str, nn.Module]:
    """Every named sub-module of ``model``; a shared module appears under each of its names."""
    if not isinstance(model, nn.Module):
        raise LayerError(
            f"layers can be named only in an nn.Module; the model is a {type(model).__name__}. Pass the module itself."
        )
    if isinstance(model, torch.jit.ScriptModule):
        raise LayerError(
            f"layers can be read only in a module that runs in Python; the model is a {type(model).__name__}: scripted "
            "and traced ones take no hooks. Pass the module that it was made of."
        )
    return {name: module for name, module in model.named_modules(remove_duplicate=False) if name}


def hooked(model: Callable[..., Any]) -> dict[nn.Module, str]:
    """The sub-modules that take hooks, each with its first name; scripted ones, and what is in them, do not."""
    names: dict[nn.Module, str] = {}
    for name, module in modules_of(model).items():
        if not isinstance(module, torch.jit.ScriptModule):
            names.setdefault(module, name)
    return names


def resolve(model: Callable[..., Any], layer: str | nn.Module) -> str:
    """Return the address of ``layer`` in ``model``, which must exist; a module is translated to its name."""
    known = modules_of(model)
    if isinstance(layer, nn.Module):
        for name, module in known.items():
            if module is layer or module is unwrap(layer):
                return name
        raise LayerError(
            f"layer must be a module inside the model; got a {type(layer).__name__} that is not part of "
            f"{type(model).__name__}. A copy of the model has other modules: pass the dotted name, which survives it."
        )
    if not isinstance(layer, str):
        raise LayerError(
            f"layer must be a dotted name or an nn.Module; got {type(layer).__name__}. For several layers use Fused."
        )
    if (name := Address.parse(layer).name) not in known:
        raise LayerError(
            f"{type(model).__name__} has no layer {name!r}.{did_you_mean(name, known) or _parts(model)} "
            f"`attrib layers` or attrib.layer_table(model, x) lists all {len(known)}."
        )
    return layer


def _parts(model: Callable[..., Any]) -> str:
    """What there is instead of a name that is like no other."""
    names = list(model._modules) if isinstance(model, nn.Module) else []
    return f" Its parts are {', '.join(map(repr, names[:8]))}{', ...' if len(names) > 8 else ''}."


@dataclass(frozen=True)
class LayerInfo:
    """One call of one module in a forward pass.

    Attributes:
        address: what to pass as ``layer``.
        kind: class name of the module.
        shape: shape of the output without the batch axis, None where it is not one tensor.
        pooled: the output comes straight out of a pooling module.
        layout: where its channels and locations are; None where it has no locations, or unknown ones.
    """

    address: str
    kind: str
    shape: tuple[int, ...] | None
    pooled: bool
    layout: Layout | None

    @property
    def spatial(self) -> bool:
        """Whether the output has channels at more than one location."""
        return self.layout is not None and self.layout.spatial


@dataclass(frozen=True)
class Call:
    """One call of a module: its name, itself, what it gave, and that one's place in the graph (None: in none)."""

    name: str
    module: nn.Module
    out: object
    node: object


def layer_table(
    model: Callable[..., Any], inputs: Tensor | tuple[Tensor, ...], extra: Sequence[object] = ()
) -> list[LayerInfo]:
    """List every module call of one forward pass, in the order in which they finish.

    Cost: one forward pass. The model is used as it is: put it in evaluation mode first, or use `frozen`.
    """
    model = unwrap(model)
    inputs = inputs if isinstance(inputs, tuple) else (inputs,)
    with torch.no_grad(), recorded(model) as calls:
        forward(model, [x.clone() for x in inputs], extra)
    return describe(model, calls, main_input(inputs).shape)


@contextmanager
def recorded(model: Callable[..., Any]) -> Iterator[list[Call]]:
    """Record every call of a module inside the block, in the order in which they finish."""
    calls: list[Call] = []
    names = hooked(model)

    def record(module: nn.Module, _: object, out: object) -> None:
        nodes = [leaf.grad_fn for leaf in tree_leaves(out) if isinstance(leaf, Tensor) and leaf.grad_fn]
        calls.append(Call(names[module], module, out, nodes[0] if nodes else None))

    handles = [module.register_forward_hook(record) for module in names]
    try:
        with run_eagerly():
            yield calls
    finally:
        for handle in handles:
            handle.remove()


def describe(model: Callable[..., Any], calls: Sequence[Call], image: Sequence[int]) -> list[LayerInfo]:
    """What `layer_table` says of each call, for inputs of shape ``image``."""
    totals = Counter(call.name for call in calls)
    seen: Counter[str] = Counter()
    pooled: set[int] = set()  # id() is safe: `calls` keeps every output alive
    rows = []
    for call in calls:
        out, kind = call.out, type(call.module).__name__
        if "Pool" in kind:
            pooled.add(id(out))
        address = f"{call.name}#{seen[call.name]}" if totals[call.name] > 1 else call.name
        seen[call.name] += 1
        shape = tuple(out.shape[1:]) if isinstance(out, Tensor) else None
        found = layout_of(model, address, out.shape, image) if isinstance(out, Tensor) else None
        rows.append(LayerInfo(address, kind, shape, id(out) in pooled, found))
    return rows
