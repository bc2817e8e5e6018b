"""Grad-CAM++: Grad-CAM in which every location has a weight of its own, and only positive gradients count."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from attrib.core import Attribution, Backward, LayerMap, Query, Reshape
from attrib.registry import METHODS


def alphas(act: Tensor, grad: Tensor) -> Tensor:
    """Weight of each location ``(N, K, h, w)``: eq. 19 divided by the squared gradient, which may underflow."""
    below = 2 + act.sum(tuple(range(2, act.ndim)), keepdim=True) * grad
    return torch.where((grad != 0) & (below != 0), 1 / below, 0)


@METHODS.add("gradcam_plusplus")
class GradCAMPlusPlus(Attribution):
    r"""Where the evidence lies, all of its places alike: a channel that matters at few places counts, too.

    .. math:: M_{hw} = \mathrm{ReLU}\Big(\sum_k w_k A_{khw}\Big), \qquad
              w_k = \sum_{h,w} \alpha_{khw}\, \mathrm{ReLU}(g_{khw}), \qquad
              \alpha_{khw} = \frac{g_{khw}^2}{2 g_{khw}^2 + g_{khw}^3 \sum_{a,b} A_{kab}}

    with the gradient :math:`g = \partial S / \partial A`.

    Convention:
        - map: ``(N, 1, h, w)`` of the layer, or ``(N, 1, H, W)`` bilinear with ``upsample=True``; not normalised.
        - the paper explains ``exp(S)``; its factor ``exp(S)`` is left out: multiply the map of each example by it.
        - alpha is 0 where the gradient is 0, and where its denominator is.
        - where no activation is negative, as after a ReLU, no value is; elsewhere ``relu=False`` keeps negative values.

    Cost: one forward pass and the backward pass from the score to the layer; ``layer="auto"`` one more forward.

    Args:
        model: see `Attribution`.
        layer: a spatial layer; the last one if None. Alpha is meant for activations that are not negative.
        relu: keep only what supports the score (the paper).
        upsample: resize to the input.
        reshape: makes ``(N, K, h, w)`` of the layer's activation where the layout is not recognised.

    Example:
        >>> GradCAMPlusPlus(model, "conv").attribute(x, target=3).shape
        torch.Size([2, 1, 12, 12])

    References:
        Chattopadhyay et al., "Grad-CAM++", WACV 2018 (arXiv 1710.11063): weights of section 3, alpha of eq. 19.
    """

    needs_layer = True

    def __init__(
        self,
        model: Callable[..., Any],
        layer: str | nn.Module | None = None,
        *,
        relu: bool = True,
        upsample: bool = False,
        reshape: Reshape | None = None,
    ) -> None:
        super().__init__(model, layer)
        self.at = LayerMap(relu, upsample, reshape)

    def passes(self, layer: str | None) -> tuple[Backward, ...]:
        """See `Attribution.passes`."""
        return (Backward(layer),)

    def _attribute(self, query: Query) -> Tensor:
        act, grad = self.at.evidence(query)
        weight = (alphas(act, grad) * grad.relu()).sum(tuple(range(2, grad.ndim)), keepdim=True)
        return self.at.finish(query, (weight * act).sum(1, keepdim=True))
