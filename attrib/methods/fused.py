"""Fused maps: what several layers or methods say, joined into one map, from one forward pass."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, cast, get_args

import torch
from torch import Tensor, nn

from attrib import checks
from attrib.core import Attribution, Backward, Query, Recorded
from attrib.core.reduce import upsample
from attrib.errors import InputError, LayerError

if TYPE_CHECKING:
    from typing_extensions import Self

How = Literal["max", "mean", "product"]
Scaling = Literal["max", "tanh", "none"]
_GAMMA = 2.0  # of LayerCAM's eq. 9


class Fused(Attribution):
    r"""What several layers, or several methods, say together.

    .. math:: M_{hw} = \max_i F_i(M_i)_{hw}, \qquad F(M) = \frac{\mathrm{up}(M)}{\max |\mathrm{up}(M)|}

    Convention:
        - map: ``(N, 1, H, W)`` of the input, or of ``size``; each map is resized bilinearly, then scaled, then fused.
        - ``scale="max"`` divides the map of each example by its own largest magnitude; a map of zeros stays zero.
        - ``scale="tanh"`` is ``tanh(2 * F(M))``, which lifts the weak maps of shallow layers (LayerCAM, eq. 9).
        - ``scale="none"`` keeps the unit of the maps, which must be the same to make sense.
        - ``how="product"`` takes positive evidence only, and keeps what all maps share.
        - the numbers are those of each method alone; with scaling, examples cannot be compared any more.

    Cost: one forward pass; one backward pass for each set of rules, to the shallowest layer. Methods without
        `Attribution.passes`, such as occlusion, add their own. ``layer="auto"`` one more forward.

    Args:
        methods: instances made with one model, each with its layer.
        how: ``"max"`` (LayerCAM), ``"mean"`` or ``"product"`` of the scaled maps.
        scale: ``"max"``, ``"tanh"`` or ``"none"``; or one for each method.
        size: of the fused map, one length for every axis or one per axis; the input's if None.

    Example:
        >>> from attrib.methods import LayerCAM
        >>> layers = [LayerCAM(model, "relu"), LayerCAM(model, "relu2"), LayerCAM(model)]
        >>> Fused(layers, scale=["tanh", "tanh", "max"]).attribute(x, target=3).shape
        torch.Size([2, 1, 12, 12])

    References:
        Jiang et al., "LayerCAM", IEEE Transactions on Image Processing 2021, eq. 9 and the element-wise maximum.
    """

    def __init__(
        self,
        methods: Sequence[Attribution],
        *,
        how: How = "max",
        scale: Scaling | Sequence[Scaling] = "max",
        size: int | Sequence[int] | None = None,
    ) -> None:
        self.methods = _parts(methods)
        super().__init__(self.methods[0].model)
        self.layer = "auto" if any(map(_open, self.methods)) else None
        self.how = checks.choice("how", how, get_args(How))
        scales = [scale] * len(self.methods) if isinstance(scale, str) else list(scale)
        if len(scales) != len(self.methods):
            raise InputError(f"scale must be one, or one for each of {len(self.methods)} methods; got {scale!r}.")
        self.scale = tuple(checks.choice("scale", one, get_args(Scaling)) for one in scales)
        self.size = None if size is None else checks.sides("size", size)

    def on(self, model: Callable[..., Any]) -> Self:
        """See `Attribution.on`: every part goes with it."""
        twin = super().on(model)
        twin.methods = tuple(part.on(model) for part in self.methods)
        return twin

    def reseeded(self, seed: int) -> Self | None:
        """See `Attribution.reseeded`: every part that has a seed gets this one."""
        parts = [part.reseeded(seed) for part in self.methods]
        if not any(parts):
            return None
        twin = copy(self)
        twin.methods = tuple(new or old for new, old in zip(parts, self.methods, strict=True))
        return twin

    def passes(self, layer: str | None) -> tuple[Backward | Recorded, ...]:
        """See `Attribution.passes`: those of all methods."""
        return tuple(one for part in self.methods for one in part.passes(_at(part, layer)))

    def _address(self, layer: str | nn.Module | None) -> str | None:
        if layer is not None and self.layer is None:
            raise LayerError(f"each method of Fused has its layer already; got layer {layer!r}. Make them with others.")
        return super()._address(layer)

    def _attribute(self, query: Query) -> Tensor:
        maps = [self._scaled(part, one, query) for part, one in zip(self.methods, self.scale, strict=True)]
        stacked = torch.stack(maps)
        if self.how == "product":
            return stacked.relu().prod(0)
        return stacked.amax(0) if self.how == "max" else stacked.mean(0)

    def _scaled(self, part: Attribution, scale: Scaling, query: Query) -> Tensor:
        size = query.size if self.size is None else checks.sides("size", self.size, axes=len(query.size))
        maps = cast(Tensor, part.answer(replace(query, layer=_at(part, query.layer))))  # one input: see query.size
        checks.shape(maps, " ".join(["n", "1", *"dhw"[-len(size) :]]), f"maps of {type(part).__name__} in Fused")
        large = upsample(maps, size)
        if scale == "none":
            return large
        peak = large.abs().flatten(1).amax(1).reshape(-1, *[1] * (large.ndim - 1))
        scaled = torch.where(peak > 0, large / peak, 0)
        return torch.tanh(_GAMMA * scaled) if scale == "tanh" else scaled


def _open(part: Attribution) -> bool:
    """Whether the method's layer is left to be found."""
    return part.layer == "auto" or (part.layer is None and part.needs_layer)


def _at(part: Attribution, found: str | None) -> str | None:
    return found if _open(part) else part.layer


def _parts(methods: Sequence[Attribution]) -> tuple[Attribution, ...]:
    given: object = methods
    parts: tuple[object, ...] = tuple(given) if isinstance(given, Sequence) else ()
    if not parts:
        raise InputError(f"methods must be a list of at least one Attribution; got {methods!r}.")
    first = getattr(parts[0], "model", None)
    for part in parts:
        if not isinstance(part, Attribution) or part.model is not first:
            raise InputError(f"methods must be Attribution instances made with one model; got {part!r} among them.")
    return cast("tuple[Attribution, ...]", parts)
