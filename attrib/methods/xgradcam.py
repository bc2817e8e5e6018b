"""XGrad-CAM: Grad-CAM whose weights share the score out among the channels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from attrib.core import Attribution, Backward, LayerMap, Query, Reshape
from attrib.registry import METHODS


@METHODS.add("xgradcam")
class XGradCAM(Attribution):
    r"""Where the evidence for the score lies, each channel with what it contributes to the score.

    .. math:: M_{hw} = \mathrm{ReLU}\Big(\sum_k w_k A_{khw}\Big), \qquad
              w_k = \frac{\sum_{h,w} A_{khw}\, \partial S / \partial A_{khw}}{\sum_{h,w} A_{khw}}

    Convention:
        - map: ``(N, 1, h, w)`` of the layer, or ``(N, 1, H, W)`` bilinear with ``upsample=True``; not normalised.
        - ``relu=False`` keeps evidence against the score as negative values.
        - conservation: with ``relu=False`` the map sums to the score where ReLUs but no biases follow the layer.
        - sensitivity: a channel adds what removing it takes off the score, where what follows the layer is linear.
        - a channel whose sum is 0 has weight 0; before a ReLU sums near 0 make weights large.

    Cost: one forward pass and the backward pass from the score to the layer; ``layer="auto"`` one more forward.

    Args:
        model: see `Attribution`.
        layer: a spatial layer; the last one if None.
        relu: keep only what supports the score.
        upsample: resize to the input.
        reshape: makes ``(N, K, h, w)`` of the layer's activation where the layout is not recognised.

    Example:
        >>> XGradCAM(model, "relu2").attribute(x, target=3).shape
        torch.Size([2, 1, 12, 12])

    References:
        Fu et al., "Axiom-based Grad-CAM", BMVC 2020 (arXiv 2008.02312).
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
        places = tuple(range(2, act.ndim))
        total, given = (value.sum(places, keepdim=True) for value in (act, act * grad))
        weight = torch.where(total != 0, given / total, 0)
        return self.at.finish(query, (weight * act).sum(1, keepdim=True))
