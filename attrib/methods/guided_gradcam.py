"""Guided Grad-CAM: guided backpropagation, kept where Grad-CAM sees evidence."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from attrib import checks
from attrib.core import Attribution, Backward, Query, guided
from attrib.core.backward.rules import Activations, override
from attrib.core.layer_map import LayerMap
from attrib.core.network.geometry import Reshape
from attrib.core.reduce import Channels, check_channels, reduce_channels
from attrib.methods.gradcam import cam
from attrib.registry import METHODS


@METHODS.add("guided_gradcam")
class GuidedGradCAM(Attribution):
    r"""Which fine structures excite the score, and only where the class is.

    .. math:: M_{chw} = R_{chw} \cdot \mathrm{up}\Big(\mathrm{ReLU}\big(\sum_k \alpha_k A_k\big)\Big)_{hw}

    with :math:`R` of guided backpropagation at the input and Grad-CAM at ``layer``.

    Convention:
        - map: ``(N, 1, H, W)``; ``channels="none"`` keeps ``(N, C, H, W)``.
        - Grad-CAM is resized bilinearly, as in the paper (Captum's default is nearest).
        - fails model-randomisation tests like guided backpropagation (Adebayo et al. 2018): it sharpens edges.

    Cost: one forward and two backward passes; ``layer="auto"`` one more forward.

    Args:
        model: see `Attribution`.
        layer: a spatial layer; the last one if None.
        channels: ``"max"``, ``"mean"``, ``"sum"``, ``"l2"`` or ``"none"``.
        absolute: take absolute values before reducing.
        activations: which to override, see `GuidedBackprop`.
        reshape: see `GradCAM`.

    Example:
        >>> GuidedGradCAM(model, "conv").attribute(x, target=3).shape
        torch.Size([2, 1, 12, 12])

    References:
        Selvaraju et al., "Grad-CAM", ICCV 2017, section 3.2.
    """

    needs_layer = True

    def __init__(
        self,
        model: Callable[..., Any],
        layer: str | nn.Module | None = None,
        *,
        channels: Channels = "max",
        absolute: bool = True,
        activations: Activations = "rectifiers",
        reshape: Reshape | None = None,
    ) -> None:
        super().__init__(model, layer)
        self.channels = check_channels(channels)
        self.absolute = checks.boolean("absolute", absolute)
        self.override = override(guided, activations)
        self.at = LayerMap(relu=True, upsample=True, reshape=reshape)

    def passes(self, layer: str | None) -> tuple[Backward, ...]:
        """See `Attribution.passes`."""
        return Backward(layer), Backward(override=self.override)

    def _attribute(self, query: Query) -> Tensor:
        where = self.at.finish(query, cam(query, self.at))
        what = query.gradient(override=self.override).grad[0]
        return reduce_channels(what * where, self.channels, self.absolute)
