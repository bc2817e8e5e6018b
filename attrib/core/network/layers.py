"""Find and name layers.

A layer address is a dotted module name, optionally with the number of the call (``"layer4.1.relu#0"``; a module
that runs several times must be addressed so) and with ``@input`` for what goes in instead of what comes out.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from attrib.core.network.geometry import Layout, find_layout, main_input, patch_of
from attrib.core.network.passes import forward
from attrib.errors import LayerError, did_you_mean

log = logging.getLogger("attrib")
_ATTENTION = ("Attention", "Attn", "MHSA")  # what classes of attention modules are called


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
    return {name: module for name, module in model.named_modules(remove_duplicate=False) if name}


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
        raise LayerError(f"layer must be a dotted name or an nn.Module; got {layer!r}.")
    if (name := Address.parse(layer).name) not in known:
        raise LayerError(
            f"{type(model).__name__} has no layer {name!r}.{did_you_mean(name, known)} "
            f"`attrib layers` or attrib.layer_table(model, x) lists all {len(known)}."
        )
    return layer


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


def layer_table(
    model: Callable[..., Any], inputs: Tensor | tuple[Tensor, ...], extra: Sequence[object] = ()
) -> list[LayerInfo]:
    """List every module call of one forward pass, in the order in which they finish.

    Cost: one forward pass. The model is used as it is: put it in evaluation mode first, or use `frozen`.
    """
    model = unwrap(model)
    calls: list[tuple[str, nn.Module, object]] = []
    names: dict[nn.Module, str] = {}
    for name, module in modules_of(model).items():
        names.setdefault(module, name)

    def record(module: nn.Module, _: object, out: object) -> None:
        calls.append((names[module], module, out))

    inputs = inputs if isinstance(inputs, tuple) else (inputs,)
    handles = [module.register_forward_hook(record) for module in names]
    try:
        with torch.no_grad():
            forward(model, [x.clone() for x in inputs], extra)
    finally:
        for handle in handles:
            handle.remove()
    image, patch = main_input(inputs).shape, patch_of(model)
    return _describe(calls, lambda shape: find_layout(shape, image, patch))


def _describe(
    calls: list[tuple[str, nn.Module, object]], layout: Callable[[Sequence[int]], Layout | None]
) -> list[LayerInfo]:
    totals: dict[str, int] = {}
    for name, _, _ in calls:
        totals[name] = totals.get(name, 0) + 1
    seen: dict[str, int] = {}
    pooled: set[int] = set()  # id() is safe: `calls` keeps every output alive
    rows = []
    for name, module, out in calls:
        number = seen[name] = seen.get(name, -1) + 1
        if "Pool" in type(module).__name__:
            pooled.add(id(out))
        shape = tuple(out.shape[1:]) if isinstance(out, Tensor) else None
        found = layout(out.shape) if isinstance(out, Tensor) and out.ndim else None
        address = f"{name}#{number}" if totals[name] > 1 else name
        rows.append(LayerInfo(address, type(module).__name__, shape, id(out) in pooled, found))
    return rows


def auto_layer(model: Callable[..., Any], inputs: tuple[Tensor, ...], extra: Sequence[object] = ()) -> str:
    """Pick the last spatial layer: the last module whose output still has locations and is not a pooling.

    Deeper maps are the most class-specific ones that still say where (Selvaraju et al. 2017, section 3). Of modules
    that return the same tensor the outermost is named. Of transformers whose score is read from a class token it is
    the last layer before the last attention, after which the other tokens have no way to the score. The choice is
    logged at level INFO.
    """
    rows = layer_table(model, inputs, extra)
    attention = [i for i, row in enumerate(rows) if any(kind in row.kind for kind in _ATTENTION)]
    inside = tuple(f"{rows[i].address.partition('#')[0]}." for i in attention)  # queries, keys and weights are no maps
    spatial = [row for row in rows if _usable(row, inside)]
    if attention and spatial and spatial[-1].layout and spatial[-1].layout.prefix:
        spatial = [row for row in rows[: attention[-1]] if _usable(row, inside)]
    if not spatial:
        raise LayerError(
            f"{type(model).__name__} has no module with a spatial output (N, K, h, w), so no layer can be picked. "
            "Name one with layer=..., or use a method at the input such as Saliency."
        )
    log.info("layer='auto': picked %r, the last spatial layer of %s", spatial[-1].address, type(model).__name__)
    return spatial[-1].address


def _usable(row: LayerInfo, inside: tuple[str, ...]) -> bool:
    return row.spatial and not row.pooled and not row.address.startswith(inside)
