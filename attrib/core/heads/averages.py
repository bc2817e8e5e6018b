"""What every layer of one forward pass gives, averaged over its places, and what linear layers read of it.

Nothing but the averages is kept, so that a whole network fits.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any, TypeAlias, TypeGuard

import torch
from torch import Tensor, nn

from attrib.core.network.geometry import layout_of, main_input
from attrib.core.network.layers import Address, hooked
from attrib.core.network.passes import forward
from attrib.core.reduce import widened

Linear: TypeAlias = nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d
# Of sums of magnitudes. TF32 rounds both factors to 11 bits; half precision also rounds what goes from layer to layer.
_TOLERANCE = {torch.float64: 1e-8, torch.float32: 1e-3}
_HALF = 2e-2


@dataclass(frozen=True)
class Averaged:
    """What goes into or comes out of a module, averaged over its places.

    Attributes:
        address: what to pass as ``layer``.
        mean: ``(N, K)``.
        positive: the mean of the positive part, ``(N, K)``.
        places: how many there are.
        dtype: of what was averaged.
    """

    address: str
    mean: Tensor
    positive: Tensor
    places: int
    dtype: torch.dtype

    @classmethod
    def of(cls, address: str, act: Tensor) -> Averaged:
        """Of an activation ``(N, K, *locations)``."""
        flat = widened(act.flatten(2))
        return cls(address, flat.mean(2), flat.relu().mean(2), flat.shape[2], act.dtype)

    def gives(self, read: Tensor) -> bool:
        """Whether ``read (N, K)`` is this mean, or the sum, of the activation or of its positive part."""
        means = ((self.mean, 2 * self.positive - self.mean), (self.positive, self.positive))
        return any(
            within(read, factor * mean, rounding(factor * size, read.dtype, self.dtype))
            for (mean, size), factor in product(means, (1, self.places))
        )

    def apart(self, read: Tensor) -> float:
        """How far ``read (N, K)`` is from the nearer of both means, at most."""
        return min(float((widened(read) - mean).abs().max()) for mean in (self.mean, self.positive))


@dataclass(frozen=True)
class Pointwise:
    """One run of a linear layer, averaged over its places.

    Attributes:
        address: of the module.
        read: what went in, ``(N, K)``.
        gave: what came out, ``(N, C)``.
        source: the module that gave what it read, in words; empty where that was no module.
    """

    address: str
    read: Tensor
    gave: Tensor
    source: str = ""


@dataclass(frozen=True)
class Averages:
    """One forward pass.

    Attributes:
        output: of the model.
        places: where there are locations: what modules give, the last first, then what they are given, the last first.
        pointwise: the linear layers, the last first.
    """

    output: Any
    places: list[Averaged]
    pointwise: list[Pointwise]


def averages(model: Callable[..., Any], inputs: tuple[Tensor, ...], extra: Sequence[object] = ()) -> Averages:
    """Run the model once and average what goes through it."""
    recorder = _Recorder(model, main_input(inputs))
    try:
        with torch.no_grad():
            output = forward(model, [x.clone() for x in inputs], extra)
    finally:
        for handle in recorder.handles:
            handle.remove()
    return recorder.found(output)


class _Recorder:
    """Hooks that average what modules are given and give."""

    def __init__(self, model: Callable[..., Any], image: Tensor) -> None:
        self.model, self.image = model, image.shape
        self.names = hooked(model)
        self.calls: Counter[str] = Counter()
        self.given: list[tuple[Address, Averaged]] = []
        self.gave: list[tuple[Address, Averaged]] = []
        self.read: dict[nn.Module, tuple[Tensor, str]] = {}
        self.last: tuple[object, str] = (None, "")
        self.pointwise: list[tuple[Address, Pointwise]] = []
        self.handles = [module.register_forward_pre_hook(self._before) for module in self.names]
        self.handles += [module.register_forward_hook(self._after) for module in self.names]

    def found(self, output: Any) -> Averages:
        """Everything under its address, the last first."""
        places = [*reversed(self.gave), *reversed(self.given)]
        linear = reversed(self.pointwise)
        return Averages(
            output,
            [replace(place, address=self._told(at)) for at, place in places],
            [replace(one, address=self._told(at)) for at, one in linear],
        )

    def _told(self, at: Address) -> str:
        """The shortest address."""
        call = f"#{at.call}" if self.calls[at.name] > 1 else ""
        return f"{at.name}{call}" + ("@input" if at.side == "input" else "")

    def _before(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        name, read = self.names[module], args[0] if args else None
        self._note(self.given, Address(name, self.calls[name], "input"), read)
        self.calls[name] += 1
        if pointwise(module) and isinstance(read, Tensor):  # before a module that changes it in place
            source = self.last[1] if self.last[0] is read else ""
            self.read[module] = (_over_places(module, read), source)

    def _after(self, module: nn.Module, _: Any, out: object) -> None:
        at = Address(self.names[module], self.calls[self.names[module]] - 1)
        if "Pool" not in type(module).__name__:
            self._note(self.gave, at, out)
        if module in self.read and isinstance(out, Tensor):
            read, source = self.read.pop(module)
            self.pointwise.append((at, Pointwise("", read, _over_places(module, out), source)))
        if out is not self.last[0]:  # else a container hands on what its last part gave
            self.last = (out, f"{at.name!r} ({type(module).__name__})")

    def _note(self, into: list[tuple[Address, Averaged]], at: Address, act: object) -> None:
        """Average an activation, if it has one row per example and more than one place."""
        if isinstance(act, Tensor) and act.is_floating_point() and act.ndim > 2 and len(act) == self.image[0]:
            layout = layout_of(self.model, f"{at.name}@{at.side}", act.shape, self.image)
            if layout is not None and layout.spatial:
                into.append((at, Averaged.of("", layout.maps(act))))


def _over_places(module: nn.Module, values: Tensor) -> Tensor:
    """``(N, K)``: the mean over all axes but the first and that of the channels."""
    first = values.movedim(-1, 1) if isinstance(module, nn.Linear) and values.ndim > 1 else values
    return widened(first).flatten(2).mean(2) if first.ndim > 2 else widened(first)


def pointwise(part: nn.Module) -> TypeGuard[Linear]:
    """Whether a module is one linear layer in each place on its own."""
    return isinstance(part, nn.Linear) or (
        isinstance(part, (nn.Conv1d, nn.Conv2d, nn.Conv3d)) and set(part.kernel_size) == {1}
    )


def rounding(size: Tensor, *kinds: torch.dtype) -> Tensor:
    """How far off sums may be whose terms have magnitudes that sum to ``size``, in the coarsest of the precisions."""
    return size.abs() * max(_TOLERANCE.get(kind, _HALF) for kind in kinds)


def within(found: Tensor, expected: Tensor, limit: Tensor) -> bool:
    """Whether every number of every example is as expected."""
    return found.shape == expected.shape and bool(((widened(found) - expected).abs() <= limit).all())
