"""HiResCAM: activation times gradient, place by place, summed over the channels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from attrib.core import Attribution, Backward, LayerMap, Query, Reshape
from attrib.registry import METHODS


@METHODS.add("hirescam")
class HiResCAM(Attribution):
    r"""What each place of a layer contributes to the score, to first order.

    .. math:: M_{hw} = \sum_k \frac{\partial S}{\partial A_{khw}}\, A_{khw}

    Convention:
        - map: ``(N, 1, h, w)`` of the layer, or ``(N, 1, H, W)`` bilinear with ``upsample=True``; not normalised.
        - signed, as in the paper: evidence against the score is negative; ``relu=True`` drops it.
        - completeness: where flattening and one linear layer follow the layer, map and bias sum to the score.
        - where a mean over places and one linear layer follow, it is Grad-CAM (``relu=False``), and CAM by ``h * w``.

    Cost: one forward pass and the backward pass from the score to the layer; ``layer="auto"`` one more forward.

    Args:
        model: see `Attribution`.
        layer: a spatial layer; the last one if None.
        relu: keep only what supports the score.
        upsample: resize to the input.
        reshape: makes ``(N, K, h, w)`` of the layer's activation where the layout is not recognised.

    Example:
        >>> HiResCAM(model, "relu2").attribute(x, target=3).shape
        torch.Size([2, 1, 12, 12])

    References:
        Draelos, Carin, "Use HiResCAM instead of Grad-CAM for faithful explanations of convolutional neural networks",
        arXiv 2011.08891, 2020.
    """

    needs_layer = True

    def __init__(
        self,
        model: Callable[..., Any],
        layer: str | nn.Module | None = None,
        *,
        relu: bool = False,
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
        return self.at.finish(query, (grad * act).sum(1, keepdim=True))
