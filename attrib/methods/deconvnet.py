"""Deconvnet: project a unit back to the input, rectifying on the way down."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from attrib.core import Attribution, Backward, Query, deconv
from attrib.core.reduce import Channels, check_channels, reduce_channels
from attrib.core.rules import Activations, override
from attrib.registry import METHODS


@METHODS.add("deconvnet")
class Deconvnet(Attribution):
    r"""Which input pattern a unit's activation comes from, by running the network in reverse.

    .. math:: R^l_i = \mathbb{1}[R^{l+1}_i > 0]\; R^{l+1}_i

    Convolutions are transposed, max-pooling puts values back at the recorded locations (its gradient does exactly
    that), and every rectifier rectifies what comes from above, whatever it did in the forward pass.

    Convention:
        - map: ``(N, 1, H, W)``, or the layer's ``(N, 1, h, w)``; ``channels="none"`` is what Captum returns.
        - average pooling and strided convolution have no locations to record: there it is their transpose.
        - normalisation layers are differentiated.
        - smooth activations (SiLU, GELU, Hardswish, Mish) keep their true gradient unless ``activations="all"``.
        - a model in which nothing was overridden is refused; `attrib.coverage` tells what was.

    Cost: one forward and one backward pass.

    Args:
        model: see `Attribution`.
        layer: explain this layer's activations instead of the inputs.
        channels: ``"max"``, ``"mean"``, ``"sum"``, ``"l2"`` or ``"none"``.
        absolute: take absolute values before reducing.
        activations: ``"rectifiers"``, ``"all"``, or names of families, see `rules`.

    Example:
        >>> Deconvnet(model).attribute(x, target="conv:2").shape
        torch.Size([2, 1, 12, 12])

    References:
        Zeiler, Fergus, "Visualizing and Understanding Convolutional Networks", ECCV 2014, section 2.1.
    """

    def __init__(
        self,
        model: Callable[..., Any],
        layer: str | nn.Module | None = None,
        *,
        channels: Channels = "max",
        absolute: bool = True,
        activations: Activations = "rectifiers",
    ) -> None:
        super().__init__(model, layer)
        self.channels = check_channels(channels)
        self.absolute = absolute
        self.override = override(deconv, activations)

    def passes(self, layer: str | None) -> tuple[Backward, ...]:
        """See `Attribution.passes`."""
        return (Backward(layer, self.override),)

    def _attribute(self, query: Query) -> tuple[Tensor, ...]:
        grads = query.gradient(at=query.layer, override=self.override).grad
        return tuple(reduce_channels(grad, self.channels, self.absolute) for grad in grads)
