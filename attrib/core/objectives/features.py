"""Objectives about all activations of a layer: how much there is, how close they are to given ones."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from attrib.core.network.geometry import Layout
from attrib.core.objectives.objective import Acts, OfLayer
from attrib.core.objectives.places import layout_in
from attrib.errors import LayerError, ShapeError, TargetError


@dataclass(frozen=True)
class Energy(OfLayer):
    r""":math:`\sum_i f_i^2` of all activations of a layer; half its gradient at the layer is the activation itself.

    References:
        Mordvintsev, Olah and Tyka, "Inceptionism: Going Deeper into Neural Networks", 2015.

    Example:
        >>> Energy("conv")(None, {"conv": torch.tensor([[1.0, -2.0]])})
        tensor([5.])
    """

    layer: str

    def __call__(self, output: Any, acts: Acts) -> Tensor:
        return acts[self.layer].flatten(1).square().sum(1)


@dataclass(frozen=True, eq=False)
class Match(OfLayer):
    r""":math:`-\lVert m \odot (\Phi(x) - \Phi_0) \rVert^2 / \lVert m \odot \Phi_0 \rVert^2`: 0 where they are equal.

    Args:
        layer: whose activations :math:`\Phi` are compared.
        features: :math:`\Phi_0`, ``(N, ...)`` or ``(1, ...)``.
        mask: :math:`m`, weights that broadcast to the features; all of them if None.
        normalised: divide by the size of the features; without, the plain squared distance.

    References:
        Mahendran and Vedaldi, "Understanding Deep Image Representations by Inverting Them", 2015, equation 2.

    Example:
        >>> Match("conv", torch.tensor([[3.0, 4.0]]))(None, {"conv": torch.tensor([[0.0, 4.0]])})
        tensor([-0.3600])
    """

    layer: str
    features: Tensor
    mask: Tensor | None = None
    normalised: bool = True

    def __post_init__(self) -> None:
        if self.mask is not None and not _broadcasts(self.mask, self.features):
            raise ShapeError(
                f"mask must broadcast to the features of {self.layer!r}, {tuple(self.features.shape)}; "
                f"got {tuple(self.mask.shape)}."
            )
        if self.normalised and not bool((self._size() > 0).all()):
            raise TargetError(
                f"features of {self.layer!r} must not all be 0, or they cannot be normalised by their size; got an "
                "example of zeros. Pass normalised=False, or choose another layer."
            )

    @property
    def entries(self) -> int:
        return len(self.features)

    def rows(self, index: Tensor) -> Match:
        if len(self.features) == 1:
            return self
        at = index.to(self.features.device)
        mask = self.mask if self.mask is None or len(self.mask) == 1 else self.mask[at]
        return Match(self.layer, self.features[at], mask, self.normalised)

    def __call__(self, output: Any, acts: Acts) -> Tensor:
        act = acts[self.layer]
        if act.shape[1:] != self.features.shape[1:] or len(self.features) not in (1, len(act)):
            raise ShapeError(
                f"features must have the shape that {self.layer!r} gives, {tuple(act.shape)}; "
                f"got {tuple(self.features.shape)}."
            )
        distance = self._weighed(act - self.features).flatten(1).square().sum(1)
        return -distance / self._size() if self.normalised else -distance

    def _size(self) -> Tensor:
        return self._weighed(self.features).flatten(1).square().sum(1)

    def _weighed(self, values: Tensor) -> Tensor:
        return values if self.mask is None else values * self.mask.to(values.device)


def _broadcasts(mask: Tensor, features: Tensor) -> bool:
    wanted = features.shape
    return mask.ndim <= len(wanted) and all(
        a in (1, b) for a, b in zip(reversed(mask.shape), reversed(wanted), strict=False)
    )


@dataclass(frozen=True, eq=False)
class Guided(OfLayer):
    r""":math:`\sum_p \max_q f_p \cdot g_q`: each place of a layer is drawn to the place of a guide most like it.

    Args:
        layer: whose activations ``(N, K, h, w)`` are compared.
        guide: :math:`g`, activations of the same layer for another image, laid out as they are there but without the
            batch axis, ``(K, h', w')``; any size.
        layout: where the layer has its channels; None: found from the clean run.

    References:
        Mordvintsev, Olah and Tyka, "Inceptionism: Going Deeper into Neural Networks", 2015: the guided dream.

    Example:
        >>> Guided("conv", torch.eye(2)[:, :, None])(None, {"conv": torch.tensor([[[[3.0]], [[1.0]]]])})
        tensor([3.])
    """

    layer: str
    guide: Tensor
    layout: Layout | None = field(default=None, kw_only=True, repr=False)

    def bind(self, output: Any, acts: Acts) -> Guided:
        return replace(self, layout=self.layout or layout_in(acts, self.layer))

    def __call__(self, output: Any, acts: Acts) -> Tensor:
        act = acts[self.layer]
        if act.ndim < 3:
            raise LayerError(f"layer {self.layer!r} must have places, (N, K, h, w); it gives {tuple(act.shape)}.")
        layout = self.layout or layout_in(acts, self.layer)
        places = layout.maps(act).flatten(2)
        if self.guide.ndim != act.ndim - 1 or self.guide.shape[layout.channels - 1] != places.shape[1]:
            got = tuple(self.guide.shape)
            raise ShapeError(
                f"guide must be (K, h, w) with the {places.shape[1]} channels of {self.layer!r}, laid out as there; "
                f"got {got}."
            )
        alike = torch.einsum("nkp,kq->npq", places, layout.maps(self.guide[None])[0].flatten(1))
        return alike.amax(2).sum(1)
