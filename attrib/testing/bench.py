"""What the promises are tried with: a method, a model, inputs; and how a broken promise is told."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from attrib.core import Attribution, auto_layer, capture, frozen
from attrib.core.network.geometry import layout_of, patch_of
from attrib.errors import AttribError

Factory = Callable[[nn.Module], Attribution]
# Batches of another size go through other kernels; two correct results differ by rounding only.
_TOLERANCE = 1e-4


class Broken(Exception):
    """A promise that does not hold; the message says how it showed."""


def demand(holds: bool, message: str) -> None:
    """Raise `Broken` unless the promise holds."""
    if not holds:
        raise Broken(message)


def agree(a: Tensor, b: Tensor) -> bool:
    """Tell whether two maps are the same but for rounding; infinity equals infinity, NaN nothing."""
    a, b = a.detach(), b.detach()
    if a.shape != b.shape:
        return False
    near = _TOLERANCE * float(b.nan_to_num(0, 0, 0).abs().max())
    return bool(((a == b) | ((a - b).abs() <= near)).all())


def causes(exc: BaseException | None) -> Iterator[BaseException]:
    """The exception, and those that it was raised from."""
    while exc is not None:
        yield exc
        exc = exc.__cause__ or exc.__context__


def listed(changes: list[str]) -> str:
    """The first of what changed, in one line."""
    more = f" and {len(changes) - 4} more" if len(changes) > 4 else ""
    return "; ".join(changes[:4]) + more


def refused(run: Callable[[], Any], what: str, word: str, built_in: type[Exception] = ValueError) -> None:
    """Demand an error made for users, with a message that contains ``word``."""
    try:
        run()
    except Exception as exc:  # its kind is judged here
        demand(
            isinstance(exc, (AttribError, built_in)), f"{what} raised {type(exc).__name__} ({exc}), not a clear error"
        )
        demand(word in str(exc), f"the message for {what} does not speak of {word!r}: {exc}")
    else:
        demand(False, f"{what} was accepted")


@dataclass(frozen=True)
class Bench:
    """A method, and what it is tried on. Every check starts from a fresh copy of the model."""

    method: Factory
    layer: str | None
    model: nn.Module
    x: Tensor
    targets: tuple[int, ...]

    @property
    def call(self) -> dict[str, Any]:
        """Keyword arguments of every call of ``attribute``."""
        return {} if self.layer is None else {"layer": self.layer}

    @property
    def uses_target(self) -> bool:
        """Whether the method says that its maps depend on the target; that a target is checked is promised anyway."""
        return bool(getattr(self.method(self.fresh()), "uses_target", True))

    def fresh(self) -> nn.Module:
        """Return a copy of the model, in evaluation mode."""
        return copy.deepcopy(self.model).eval()

    def explain(self, x: Tensor | None = None, target: object = None, model: nn.Module | None = None) -> Tensor:
        """Return the maps; by default of every example, each for a class of its own."""
        x = self.x.clone() if x is None else x  # a method that changes its input spoils one check only
        target = list(self.targets) if target is None else target
        method = self.method(self.fresh() if model is None else model)
        maps: Tensor = method.attribute(x, target=target, **self.call)
        return maps

    def shapes(self, x: Tensor) -> set[tuple[int, ...]]:
        """Shapes ``(C, H, W)`` that a map may have: of the input, the layer and the patches, with channels or one."""
        model = self.fresh()
        found = [tuple(x.shape[1:])]
        patch = patch_of(model)
        if patch is not None and len(patch) == x.ndim - 2:
            found.append((1, *(side // cell for side, cell in zip(x.shape[2:], patch, strict=True))))
        with frozen(model):
            needs_layer = getattr(self.method(model), "needs_layer", False)
            layer = self.layer or (auto_layer(model, (x,)) if needs_layer else None)
            if layer is not None:
                with capture(model, layer) as acts:
                    model(x)
                layout = layout_of(model, layer, acts[layer].shape, x.shape)
                found.append(tuple((layout.maps(acts[layer]) if layout else acts[layer]).shape[1:]))
        return {(channels, *shape[1:]) for shape in found for channels in (1, shape[0])}
