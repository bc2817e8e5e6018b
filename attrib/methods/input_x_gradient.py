"""Input x gradient: a first-order estimate of what each pixel contributes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from attrib import checks
from attrib.core import Attribution, Backward, Query
from attrib.core.layer_map import reduced
from attrib.core.reduce import Channels, check_channels
from attrib.registry import METHODS


@METHODS.add("input_x_gradient")
class InputXGradient(Attribution):
    r"""How much each pixel contributes to the score, to first order, compared with an input of zero.

    .. math:: M_{hw} = \sum_c x_{chw} \, \frac{\partial S}{\partial x_{chw}}

    Convention:
        - map: ``(N, 1, H, W)``, or the layer's ``(N, 1, h, w)``; signed; unit: score.
        - the sum over pixels equals the score for a model that is linear without bias.
        - "zero" is zero in the model's space: the mean colour after normalisation.

    Cost: one forward and one backward pass.

    Args:
        model: see `Attribution`.
        layer: explain this layer's activations instead of the inputs.
        channels: ``"sum"`` (contributions add up), ``"max"``, ``"mean"``, ``"l2"`` or ``"none"``.
        absolute: take absolute values before reducing.

    Example:
        >>> InputXGradient(model).attribute(x, target=3).shape
        torch.Size([2, 1, 12, 12])

    References:
        Shrikumar, Greenside, Shcherbina, Kundaje, "Not Just a Black Box", arXiv 1605.01713, 2016, section 2.
    """

    def __init__(
        self,
        model: Callable[..., Any],
        layer: str | nn.Module | None = None,
        *,
        channels: Channels = "sum",
        absolute: bool = False,
    ) -> None:
        super().__init__(model, layer)
        self.channels = check_channels(channels)
        self.absolute = checks.boolean("absolute", absolute)

    @property
    def multiplies_by_inputs(self) -> bool:
        """Whether the map is in units of the score; Captum's NoiseTunnel asks."""
        return True

    def passes(self, layer: str | None) -> tuple[Backward, ...]:
        """See `Attribution.passes`."""
        return (Backward(layer),)

    def _attribute(self, query: Query) -> tuple[Tensor, ...]:
        found = query.gradient(at=query.layer)
        products = [a * g for a, g in zip(found.act, found.grad, strict=True)]
        return reduced(query, products, self.channels, self.absolute)
