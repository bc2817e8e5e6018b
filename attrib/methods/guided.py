"""Guided backpropagation: the gradient, cleaned of everything that speaks against the score."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from attrib import checks
from attrib.core import Attribution, Backward, Query, guided
from attrib.core.backward.rules import Activations, override
from attrib.core.layer_map import reduced
from attrib.core.reduce import Channels, check_channels
from attrib.registry import METHODS

log = logging.getLogger("attrib")


@METHODS.add("guided")
class GuidedBackprop(Attribution):
    r"""Which fine structures excite a unit, following only paths that are positive all the way.

    .. math:: R^l_i = \mathbb{1}[f^l_i > 0]\; \mathbb{1}[R^{l+1}_i > 0]\; R^{l+1}_i

    Convention:
        - map: ``(N, 1, H, W)``, or the layer's ``(N, 1, h, w)``; ``channels="none"`` is what Captum returns.
        - the gate is strict: at an activation of exactly 0 nothing passes.
        - rectifiers other than ReLU (ReLU6, LeakyReLU, PReLU, ELU ...) pass the positive part of their true gradient;
          a ReLU6 at its ceiling passes nothing, and a map of zeros is logged.
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
        >>> GuidedBackprop(model).attribute(x, target="conv:2").shape
        torch.Size([2, 1, 12, 12])

    References:
        Springenberg, Dosovitskiy, Brox, Riedmiller, "Striving for Simplicity", ICLR workshop 2015, section 3.4.
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
        self.absolute = checks.boolean("absolute", absolute)
        self.override = override(guided, activations)

    def passes(self, layer: str | None) -> tuple[Backward, ...]:
        """See `Attribution.passes`."""
        return (Backward(layer, self.override),)

    def _attribute(self, query: Query) -> tuple[Tensor, ...]:
        grads = query.gradient(at=query.layer, override=self.override).grad
        reached = torch.stack([grad.flatten(1).any(1) for grad in grads]).any(0)
        if not bool(reached.all()):
            log.warning(
                "examples %s: no path from the target is positive all the way, so the map is zero; a unit is shut by "
                "its own activation where that is flat (ReLU at 0, ReLU6 also at 6): ask for the layer before it",
                (~reached).nonzero()[:, 0].tolist(),
            )
        return reduced(query, grads, self.channels, self.absolute)
