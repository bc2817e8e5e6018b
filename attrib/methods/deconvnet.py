"""Deconvnet: project a unit back to the input, rectifying on the way down."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal

from torch import Tensor, nn

from attrib import checks
from attrib.core import Attribution, Backward, Query, deconv
from attrib.core.backward.activations import NORMS
from attrib.core.backward.rules import Activations, override, skip
from attrib.core.objectives.units import Valued
from attrib.core.reduce import Channels, check_channels, reduce_channels
from attrib.registry import METHODS

log = logging.getLogger("attrib")


@METHODS.add("deconvnet")
class Deconvnet(Attribution):
    r"""Which input pattern a unit's activation comes from, by running the network in reverse.

    .. math:: R^l_i = \mathbb{1}[R^{l+1}_i > 0]\; R^{l+1}_i

    Convolutions are transposed, max-pooling puts values back at the recorded locations (its gradient does exactly
    that), and every rectifier rectifies what comes from above, whatever it did in the forward pass.

    Convention:
        - map: ``(N, 1, H, W)``, or the layer's ``(N, 1, h, w)``; ``channels="none"`` is what Captum returns.
        - it starts with 1 at the unit, as Captum does; the paper's ``start="activation"`` starts with its activation.
        - with ``start="activation"`` a unit at 0 gives a map of zeros, one below 0 starts negative; both are logged.
        - where max-pooling windows overlap and share a maximum, what comes down to it is added up.
        - average pooling and strided convolution have no locations to record: there it is their transpose.
        - normalisation layers are differentiated; ``norm_layers="skip"`` passes local response normalisation over.
        - smooth activations (SiLU, GELU, Hardswish, Mish) keep their true gradient unless ``activations="all"``.
        - a model in which nothing was overridden is refused; `attrib.coverage` tells what was.

    Cost: one forward and one backward pass.

    Args:
        model: see `Attribution`.
        layer: explain this layer's activations instead of the inputs.
        channels: ``"max"``, ``"mean"``, ``"sum"``, ``"l2"`` or ``"none"``.
        absolute: take absolute values before reducing.
        activations: ``"rectifiers"``, ``"all"``, or names of families, see `rules`.
        start: ``"one"`` at the unit (at all locations of a channel: their weights in the target), or its
            ``"activation"`` (the paper), then ``"sum"`` of a channel projects the whole feature map.
        norm_layers: ``"grad"`` differentiates local response normalisation, ``"skip"`` hands through what comes.

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
        start: Literal["one", "activation"] = "one",
        norm_layers: Literal["grad", "skip"] = "grad",
    ) -> None:
        super().__init__(model, layer)
        self.channels = check_channels(channels)
        self.absolute = checks.boolean("absolute", absolute)
        self.start = checks.choice("start", start, ("one", "activation"))
        norms = {"grad": {}, "skip": dict.fromkeys(NORMS, skip)}
        self.override = override(deconv, activations) | norms[checks.choice("norm_layers", norm_layers, tuple(norms))]

    def passes(self, layer: str | None) -> tuple[Backward, ...]:
        """See `Attribution.passes`."""
        return (Backward(layer, self.override),) if self.start == "one" else ()

    def _attribute(self, query: Query) -> tuple[Tensor, ...]:
        if self.start == "activation":
            query = replace(query, objective=Valued(query.objective))
        found = query.gradient(at=query.layer, override=self.override)
        log.info("%s", found.coverage.switches if found.coverage else "")
        if self.start == "activation" and bool((silent := found.score <= 0).any()):
            log.warning(
                "examples %s: the score is not positive, so neither is the start", silent.nonzero()[:, 0].tolist()
            )
        return tuple(reduce_channels(grad, self.channels, self.absolute) for grad in found.grad)
