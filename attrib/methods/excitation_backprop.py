"""Excitation backprop: which units of a layer win, if every unit lets those win that excited it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from attrib import checks
from attrib.core import Attribution, Query
from attrib.core.layer_map import LayerMap
from attrib.core.network.geometry import Reshape
from attrib.core.relevance.winning import winning
from attrib.registry import METHODS


@METHODS.add("excitation_backprop")
class ExcitationBackprop(Attribution):
    r"""Where the evidence lies that excited a class, as a probability over the places of a layer.

    .. math:: P(a_i) = \sum_j P(a_i \mid a_j) P(a_j), \qquad
              P(a_i \mid a_j) = \frac{a_i w_{ij}^+}{\sum_k a_k w_{kj}^+}, \qquad M_{hw} = \sum_c P(a_{chw})

    Convention:
        - map: ``(N, 1, h, w)`` of the layer, not negative. It adds up to 1, less what passes the layer by and what ends
          at units that nothing excites.
        - the signal starts with 1 at the class; with the positive part of the target's gradient for other targets.
        - biases take no part. BatchNorm behind a convolution or linear layer is folded into its weights.
        - activations, softmax, response normalisation and other BatchNorms pass the signal on: one input, one winner.
        - a residual sum is shared in proportion to what excites each branch; max-pooling has one winner.
        - ``contrastive=True`` takes off what the dual gets, the class with negated weights, and cuts at zero.
        - what is no sum of activations (attention, gates, LayerNorm, negative inputs of a convolution) is refused.

    Cost: one forward pass and the backward pass from the score to the layer, which computes every layer twice over;
    contrastive, two of these. ``layer="auto"`` takes one more forward.

    Args:
        model: see `Attribution`.
        layer: a spatial layer; the last one if None. The paper reads layers in the middle of the network.
        contrastive: what excites this class and not its opposite.
        upsample: resize to the input.
        reshape: makes ``(N, K, h, w)`` of an activation at the layer; None finds the layout.

    Example:
        >>> ExcitationBackprop(model, "pool", contrastive=True).attribute(x, target=3).shape
        torch.Size([2, 1, 6, 6])

    References:
        Zhang, Bargal, Lin, Brandt, Shen, Sclaroff, "Top-down Neural Attention by Excitation Backprop",
        International Journal of Computer Vision 2018, sections 3.2 and 3.3.
    """

    needs_layer = True

    def __init__(
        self,
        model: Callable[..., Any],
        layer: str | nn.Module | None = None,
        *,
        contrastive: bool = False,
        upsample: bool = False,
        reshape: Reshape | None = None,
    ) -> None:
        super().__init__(model, layer)
        self.contrastive = checks.boolean("contrastive", contrastive)
        self.at = LayerMap(relu=False, upsample=upsample, reshape=reshape)

    def _attribute(self, query: Query) -> Tensor:
        won = winning(query, contrastive=self.contrastive)
        layout = None if self.at.reshape else query.layout(won)
        maps = self.at.maps(query, layout, won).sum(1, keepdim=True)
        return self.at.finish(query, maps.clamp(min=0) if self.contrastive else maps)
