"""Deconvnet: project a unit back to the input, rectifying on the way down."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Literal, TypeAlias, cast

from torch import Tensor, nn

from attrib import checks
from attrib.core import Attribution, Backward, Coverage, Gradient, Query, deconv
from attrib.core.backward.activations import LAYER, NORMS
from attrib.core.backward.passed_over import passed_over, whole_layers
from attrib.core.backward.rules import Activations, override, skip
from attrib.core.layer_map import reduced
from attrib.core.objectives.units import Valued
from attrib.core.reduce import Channels, check_channels
from attrib.registry import METHODS

NormLayers: TypeAlias = Literal["grad", "skip"] | list[str | nn.Module] | tuple[str | nn.Module, ...]
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
        - normalisation layers are differentiated; ``norm_layers="skip"`` passes local response normalisation over, a
          list of layers those; it warns where it passed over nothing.
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
        norm_layers: ``"grad"`` differentiates normalisation layers, ``"skip"`` hands what comes past those of local
            response normalisation; or which layers to pass over, by name or as modules, such as one for contrast.

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
        norm_layers: NormLayers = "grad",
    ) -> None:
        super().__init__(model, layer)
        self.channels = check_channels(channels)
        self.absolute = checks.boolean("absolute", absolute)
        self.start = checks.choice("start", start, ("one", "activation"))
        self.norm_layers, self.over = norm_layers, self._passed_over(norm_layers)
        self.override = override(deconv, activations)
        if norm_layers != "grad":
            self.override |= dict.fromkeys((*NORMS, LAYER) if norm_layers == "skip" else (LAYER,), skip)

    def _passed_over(self, norm_layers: NormLayers) -> tuple[str, ...]:
        if isinstance(norm_layers, (list, tuple)):
            return whole_layers(self.model, norm_layers)
        skipping = checks.choice("norm_layers", norm_layers, ("grad", "skip")) == "skip"
        named = self.model.named_modules() if skipping and isinstance(self.model, nn.Module) else ()
        return tuple(name for name, module in named if isinstance(module, nn.CrossMapLRN2d))

    def overriding(self) -> AbstractContextManager[None]:
        """Rules for whole layers, which hold inside the block; `override` has those for operations."""
        return passed_over(self.model, self.over)

    def passes(self, layer: str | None) -> tuple[Backward, ...]:
        """See `Attribution.passes`."""
        return (Backward(layer, self.override),) if self.start == "one" and not self.over else ()

    def _attribute(self, query: Query) -> tuple[Tensor, ...]:
        objective = Valued(query.objective) if self.start == "activation" else query.objective
        if self.over or self.start == "activation":  # nothing that is shared with other methods
            query = Query(query.model, query.inputs, objective, query.layer, query.extra)
        with self.overriding():
            found = query.gradient(at=query.layer, override=self.override)
        self._tell(found)
        return reduced(query, found.grad, self.channels, self.absolute)

    def _tell(self, found: Gradient) -> None:
        coverage = cast(Coverage, found.coverage)
        log.info("%s", coverage.switches)
        if self.norm_layers != "grad" and not any(coverage.overrode.get(family) for family in (*NORMS, LAYER)):
            warnings.warn(
                f"norm_layers={self.norm_layers!r} passed nothing over on the way to the target ({coverage}). "
                "'skip' finds nn.LocalResponseNorm and nn.CrossMapLRN2d; name layers that normalise in another way.",
                stacklevel=2,
            )
        if self.start == "activation" and bool((silent := found.score <= 0).any()):
            log.warning(
                "examples %s: the score is not positive, so neither is the start", silent.nonzero()[:, 0].tolist()
            )
