"""Gradient-weighted attention: attention that raises the score, followed through the layers."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from attrib.core import Attribution, Query
from attrib.core.layer_map import LayerMap
from attrib.core.network.geometry import Reshape
from attrib.core.relevance.attention import attend, on_grid
from attrib.registry import METHODS


@METHODS.add("gradient_attention")
class GradientAttention(Attribution):
    r"""Which patches a transformer attends to for this class.

    .. math:: R \leftarrow R + \bar A_l R, \qquad
              \bar A_l = \frac{1}{H} \sum_{h=1}^{H} \Big(\frac{\partial S}{\partial A_{lh}} \odot A_{lh}\Big)^{+}

    from :math:`R = I` through all layers; the map is the row of the class token in :math:`R - I`, at the patches.

    Convention:
        - map: ``(N, 1, h, w)`` of the patches, or ``(N, 1, H, W)`` bilinear with ``upsample=True``; not normalised.
        - never negative, without a unit: products of several layers with the score to various powers are added.
        - attention that lowers the score is dropped in each head; no map speaks against a class.
        - of several tokens that are read (patches that are averaged, a distillation token) the mean is taken.
        - the identity is left out: averaged patches would all begin with the same share of themselves.
        - layers behind a target inside the model do not count.

    Cost: one forward pass, and the backward pass from the score to the first attention.

    Args:
        model: a transformer with self-attention among all patches, such as ViT; see `attending` for what is seen.
        layer: refused; attention is followed through all layers.
        upsample: resize to the input.
        reshape: makes ``(N, K, h, w)`` of tokens ``(N, T, K)`` where the grid of the patches is not found.

    Example:
        >>> GradientAttention(transformer).attribute(x, target=3).shape
        torch.Size([2, 1, 3, 3])

    References:
        Chefer, Gur, Wolf, "Generic Attention-model Explainability for Interpreting Bi-Modal and Encoder-Decoder
        Transformers", ICCV 2021, eq. 5 and 6.
    """

    takes_layer = False

    def __init__(
        self,
        model: Callable[..., object],
        layer: str | nn.Module | None = None,
        *,
        upsample: bool = False,
        reshape: Reshape | None = None,
    ) -> None:
        super().__init__(model, layer)
        self.at = LayerMap(False, upsample, reshape)

    def _attribute(self, query: Query) -> Tensor:
        found = attend(query, everywhere=True)
        row = found.reading()
        gain = torch.zeros_like(row)  # the row of R - I, apart from which it would drown in rounding
        for weights, grad in reversed(list(zip(found.weights, found.grads, strict=True))):
            gain = gain + (row + gain) @ (grad * weights).relu().mean(1)
        return on_grid(query, gain, self.at)
