"""Saliency: how strongly the score reacts to each pixel."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from attrib import checks
from attrib.core import Attribution, Backward, Query
from attrib.core.layer_map import reduced
from attrib.core.reduce import Channels, check_channels
from attrib.registry import METHODS


@METHODS.add("saliency")
class Saliency(Attribution):
    r"""Which pixels would change the score most if they changed a little.

    .. math:: M_{hw} = \max_c \left| \frac{\partial S}{\partial x_{chw}} \right|

    Convention:
        - map: ``(N, 1, H, W)``, or the layer's ``(N, 1, h, w)``; unit: score per unit of input.
        - the score is the model's output as it is, before any softmax of ours.
        - ``absolute=False`` keeps signs; ``"max"`` is then the signed value of largest magnitude.

    Cost: one forward and one backward pass.

    Args:
        model: see `Attribution`.
        layer: explain this layer's activations instead of the inputs.
        channels: ``"max"`` (the paper), ``"mean"``, ``"sum"``, ``"l2"`` or ``"none"``.
        absolute: take absolute values before reducing (the paper).

    Example:
        >>> Saliency(model).attribute(x, target=3).shape
        torch.Size([2, 1, 12, 12])

    References:
        Simonyan, Vedaldi, Zisserman, "Deep Inside Convolutional Networks", ICLR workshop 2014, section 3.1.
    """

    def __init__(
        self,
        model: Callable[..., Any],
        layer: str | nn.Module | None = None,
        *,
        channels: Channels = "max",
        absolute: bool = True,
    ) -> None:
        super().__init__(model, layer)
        self.channels = check_channels(channels)
        self.absolute = checks.boolean("absolute", absolute)

    def passes(self, layer: str | None) -> tuple[Backward, ...]:
        """See `Attribution.passes`."""
        return (Backward(layer),)

    def _attribute(self, query: Query) -> tuple[Tensor, ...]:
        grads = query.gradient(at=query.layer).grad
        return reduced(query, grads, self.channels, self.absolute)
