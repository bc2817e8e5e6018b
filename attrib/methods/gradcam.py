"""Grad-CAM: where a layer's channels that matter for the score are active."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from attrib import checks
from attrib.core import Attribution, Backward, Query
from attrib.core.layer_map import LayerMap
from attrib.core.network.geometry import Reshape
from attrib.registry import METHODS


def cam(query: Query, at: LayerMap) -> Tensor:
    """Weight each channel by its average gradient and sum: ``(N, 1, h, w)``, signed."""
    act, grad = at.evidence(query)
    return (grad.mean(tuple(range(2, grad.ndim)), keepdim=True) * act).sum(1, keepdim=True)


@METHODS.add("gradcam")
class GradCAM(Attribution):
    r"""Where the evidence for the score lies, at the resolution of a layer.

    .. math:: M_{hw} = \mathrm{ReLU}\Big(\sum_k \alpha_k A_{khw}\Big), \qquad
              \alpha_k = \frac{1}{hw} \sum_{h,w} \frac{\partial S}{\partial A_{khw}}

    Convention:
        - map: ``(N, 1, h, w)`` of the layer, or ``(N, 1, H, W)`` bilinear with ``upsample=True``; not normalised.
        - ``relu=False`` keeps evidence against the score as negative values (Captum's default).
        - ``negative=True`` changes the sign of the weights: the regions that would raise another score.
        - a map without positive evidence is zero everywhere.
        - channels last (Swin) and tokens (ViT) are recognised; the class token, which has no place, is left out.

    Cost: one forward pass and the backward pass from the score to the layer; ``layer="auto"`` one more forward.

    Args:
        model: see `Attribution`.
        layer: a spatial layer; the last one if None. Shallower layers give finer, noisier maps.
        relu: keep only what supports the score (the paper).
        negative: explain by what speaks against the score (the paper's counterfactual explanations).
        upsample: resize to the input.
        reshape: makes ``(N, K, h, w)`` of the layer's activation where the layout is not recognised.

    Example:
        >>> GradCAM(model, "conv").attribute(x, target=3).shape
        torch.Size([2, 1, 12, 12])

    References:
        Selvaraju et al., "Grad-CAM", ICCV 2017, eq. 1 and 2; counterfactuals: section 3.3.
    """

    needs_layer = True

    def __init__(
        self,
        model: Callable[..., Any],
        layer: str | nn.Module | None = None,
        *,
        relu: bool = True,
        negative: bool = False,
        upsample: bool = False,
        reshape: Reshape | None = None,
    ) -> None:
        super().__init__(model, layer)
        self.negative = checks.boolean("negative", negative)
        self.at = LayerMap(relu, upsample, reshape)

    def passes(self, layer: str | None) -> tuple[Backward, ...]:
        """See `Attribution.passes`."""
        return (Backward(layer),)

    def _attribute(self, query: Query) -> Tensor:
        maps = cam(query, self.at)
        return self.at.finish(query, -maps if self.negative else maps)
