"""LayerCAM: positive gradients weight each location of each channel, which works at shallow layers, too."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from attrib.core import Attribution, Backward, LayerMap, Query, Reshape
from attrib.registry import METHODS


@METHODS.add("layercam")
class LayerCAM(Attribution):
    r"""Where a layer is active at places whose activation supports the score; at any layer.

    .. math:: M_{hw} = \mathrm{ReLU}\Big(\sum_k \mathrm{ReLU}\Big(\frac{\partial S}{\partial A_{khw}}\Big)\,
              A_{khw}\Big)

    Convention:
        - map: ``(N, 1, h, w)`` of the layer, or ``(N, 1, H, W)`` bilinear with ``upsample=True``; not normalised.
        - negative gradients count as 0: what speaks against the score does not show.
        - where no activation is negative, as after a ReLU, no value is; elsewhere ``relu=False`` keeps negative values.
        - the gradient keeps its place: a place that the score does not depend on is 0.

    Cost: one forward pass and the backward pass from the score to the layer; ``layer="auto"`` one more forward.

    Args:
        model: see `Attribution`.
        layer: a spatial layer; the last one if None. Shallower layers give finer maps; `Fused` joins several.
        relu: keep only what supports the score (the paper).
        upsample: resize to the input.
        reshape: makes ``(N, K, h, w)`` of the layer's activation where the layout is not recognised.

    Example:
        >>> LayerCAM(model, "relu").attribute(x, target=3).shape
        torch.Size([2, 1, 12, 12])

    References:
        Jiang et al., "LayerCAM", IEEE Transactions on Image Processing 2021.
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
        return self.at.finish(query, (grad.relu() * act).sum(1, keepdim=True))
