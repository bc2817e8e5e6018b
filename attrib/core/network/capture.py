"""Named activations, kept or edited while the model runs inside a with-block."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only
from torch.utils.hooks import RemovableHandle

from attrib.core.network.frozen import run_eagerly
from attrib.core.network.geometry import Layout, layout_of, main_input
from attrib.core.network.layers import Address, modules_of, resolve
from attrib.errors import LayerError

Edit = Callable[[Tensor], Tensor]


class Activations:
    """What `capture` saw: ``acts["layer4"]`` is the Tensor that layer produced in the one forward pass."""

    def __init__(self, model: Callable[..., Any] | None = None) -> None:
        self._seen: dict[tuple[str, str], list[object]] = {}
        self._order: list[Address] = []
        self._model = model
        self._image: tuple[int, ...] | None = None

    def _fed(self, _model: object, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Note what the model is run on, see `layout`."""
        inputs = [value for value in (*args, *kwargs.values()) if isinstance(value, Tensor)]
        self._image = tuple(main_input(inputs).shape) if inputs else None

    def _keep(self, name: str, side: str, value: object) -> None:
        self._order.append(Address(name, self._next(name, side), side))
        self._seen.setdefault((name, side), []).append(value)

    def place(self, layer: str) -> int:
        """Position of ``layer`` in the order in which the captured activations came up."""
        at = Address.parse(layer)
        return self._order.index(Address(at.name, pick(at, layer, self.calls(layer)), at.side))

    def _next(self, name: str, side: str) -> int:
        return len(self._seen.get((name, side), ()))

    def calls(self, layer: str) -> int:
        """How often the module at ``layer`` ran, whichever call the address names."""
        at = Address.parse(layer)
        return self._next(at.name, at.side)

    def detached(self) -> Activations:
        """The same activations without the graph behind them."""
        found = Activations(self._model)
        found._image = self._image
        found._seen = {key: [detached(value) for value in values] for key, values in self._seen.items()}
        found._order = [*self._order]
        return found

    def __getitem__(self, layer: str) -> Tensor:
        at = Address.parse(layer)
        values = self._seen.get((at.name, at.side), [])
        value = values[pick(at, layer, len(values))]
        if not isinstance(value, Tensor):
            raise LayerError(
                f"layer {layer!r} must give one Tensor; its {at.side} is a {type(value).__name__}. "
                "Choose a module inside or after it."
            )
        return value

    def layout(self, layer: str) -> Layout | None:
        """Where the channels and locations of ``layer`` are; None where it has none, or unknown ones."""
        if self._model is None or self._image is None:
            return None
        return layout_of(self._model, layer, self[layer].shape, self._image)


def detached(value: Any) -> Any:
    """``value`` with its tensors detached, also inside tuples, lists and dictionaries."""
    return tree_map_only(Tensor, Tensor.detach, value)


def pick(at: Address, layer: str, calls: int) -> int:
    """Return which of ``calls`` runs the address means, or say how to choose."""
    if calls == 0:
        raise LayerError(
            f"layer {layer!r} did not run in the forward pass, so there is nothing to explain there. "
            "Modules inside scripted code and unused branches do not run as modules."
        )
    if at.call is None and calls > 1:
        suffix = "@input" if at.side == "input" else ""
        names = ", ".join(repr(f"{at.name}#{i}{suffix}") for i in range(calls))
        raise LayerError(f"layer {layer!r} ran {calls} times in one forward pass. Choose one: {names}.")
    if at.call is not None and at.call >= calls:
        raise LayerError(f"layer {at.name!r} ran {calls} times, so calls are 0 to {calls - 1}; got {layer!r}.")
    return at.call or 0


@contextmanager
def capture(
    model: Callable[..., Any], *layers: str, edit: Mapping[str, Edit] | None = None, leaf: bool = False
) -> Iterator[Activations]:
    """Record outputs (or inputs) of layers during **one** forward pass inside the block.

    The kept tensor stays in the autograd graph and the network goes on with a clone, so that a later in-place
    operation cannot change what was kept. ``edit`` maps addresses to functions that replace the activation. With
    ``leaf=True`` an activation that needs no gradient yet starts the graph, so that nothing before it is recorded.

    Example:
        >>> with capture(model, "conv") as acts:
        ...     _ = model(x)
        >>> acts["conv"].shape
        torch.Size([2, 4, 12, 12])
    """
    edits = dict(edit or {})
    acts = Activations(model)
    if not layers and not edits:
        yield acts
        return
    known = modules_of(model)
    sides = {(Address.parse(a).name, Address.parse(a).side) for a in (*layers, *edits)}
    handles: list[RemovableHandle] = []
    try:
        if isinstance(model, nn.Module):
            handles.append(model.register_forward_pre_hook(acts._fed, with_kwargs=True))
        for name, side in sides:
            if name not in known:  # it stands in a target; other layers were resolved before
                resolve(model, name)
            hook = _Hook(acts, name, side, edits, leaf)
            handles.append(hook.register(known[name]))
        with run_eagerly():
            yield acts
    finally:
        for handle in handles:
            handle.remove()
    for address in edits:  # an edit that never happened would silently be the clean run
        at = Address.parse(address)
        pick(at, address, acts._next(at.name, at.side))


class _Hook:
    def __init__(self, acts: Activations, name: str, side: str, edits: Mapping[str, Edit], leaf: bool) -> None:
        self.acts, self.name, self.side, self.leaf = acts, name, side, leaf
        self.edits = {Address.parse(a).call: f for a, f in edits.items() if self._same(Address.parse(a))}

    def _same(self, at: Address) -> bool:
        return (at.name, at.side) == (self.name, self.side)

    def register(self, module: nn.Module) -> Any:
        if isinstance(module, torch.jit.ScriptModule):
            raise LayerError(
                f"layer {self.name!r} must run in Python; it is scripted or traced, and takes no hooks. Choose a "
                "module around it, or put the module that it was made of into the model."
            )
        if self.side == "input":
            return module.register_forward_pre_hook(lambda _, args: (self(args[0]), *args[1:]) if args else None)
        return module.register_forward_hook(lambda _, _args, out: self(out))

    def __call__(self, value: object) -> object:
        if not isinstance(value, Tensor):
            self.acts._keep(self.name, self.side, value)
            return value
        call = self.acts._next(self.name, self.side)
        edit = self.edits.get(call, self.edits.get(None))
        value = edit(value) if edit else value
        if self.leaf and torch.is_grad_enabled() and not value.requires_grad and value.is_floating_point():
            value = value.detach().requires_grad_(True)
        self.acts._keep(self.name, self.side, value)
        return value.clone()
