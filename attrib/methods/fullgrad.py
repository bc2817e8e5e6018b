"""FullGrad: what the input contributes to a score, and what every bias of the network does."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from typing import Any, Literal

import torch
from torch import Tensor, nn

from attrib import checks
from attrib.core import Attribution, Query
from attrib.core.reduce import upsample
from attrib.core.relevance.biases import FullGradient, full_gradient
from attrib.errors import ShapeError
from attrib.registry import METHODS

log = logging.getLogger("attrib")
NORMALISE = ("channel", "layer", "none")


@METHODS.add("fullgrad")
class FullGrad(Attribution):
    r"""Which pixels, and which places inside the network, the score is made of.

    .. math:: M = \sum_c \psi\Big(x_c \odot \frac{\partial S}{\partial x_c}\Big)
              + \sum_{l} \sum_{k} \mathrm{up}\,\psi\Big(b^l_k \odot \frac{\partial S}{\partial z^l_k}\Big), \qquad
              S = \sum x \odot \frac{\partial S}{\partial x} + \sum_l \sum b^l \odot \frac{\partial S}{\partial z^l}

    with :math:`z^l` the output that the bias :math:`b^l` is added to. `decompose` gives the terms before
    :math:`\psi`, which add up to the score.

    Convention:
        - map: ``(N, 1, H, W)``, not negative: :math:`\psi` takes absolute values, and the sign of evidence is lost.
        - each channel of each layer is rescaled to [0, 1] in each example (the paper); ``"layer"`` rescales a layer's
          channels together (the authors' code), ``"none"`` not at all: then maps are in units of the score.
        - biases are those of convolutions and linear layers, the shift of BatchNorm with its statistics, constants that
          are added, and of activations other than ReLU the intercept of their tangent.
        - all biases are read, or a RuleError is raised: scripted, traced, compiled or checkpointed code hides them; the
          insides of `torch.nn.MultiheadAttention`, of recurrent layers and of custom autograd functions are not read.
        - biases whose outputs are no maps, such as vectors and tokens, are left out of the map, but not of `decompose`.
        - the terms add up to a class's logit for networks of linear layers, activations, BatchNorm and max-pooling; not
          where activations are multiplied or normalised by their own statistics (attention, gates, LayerNorm).
        - maps are resized bilinearly.

    Cost: one forward and one backward pass.

    Args:
        model: see `Attribution`.
        layer: there is none to choose; a layer is refused.
        normalise: ``"channel"``, ``"layer"`` or ``"none"``.

    Example:
        >>> FullGrad(model).attribute(x, target=3).shape
        torch.Size([2, 1, 12, 12])
        >>> parts = FullGrad(model).decompose(x, target=3)
        >>> torch.allclose(parts.total, parts.score, atol=1e-6)
        True

    References:
        Srinivas, Fleuret, "Full-Gradient Representation for Neural Network Visualization", NeurIPS 2019, sections 3
        and 4.
    """

    takes_layer = False

    def __init__(
        self,
        model: Callable[..., Any],
        layer: str | nn.Module | None = None,
        *,
        normalise: Literal["channel", "layer", "none"] = "channel",
    ) -> None:
        super().__init__(model, layer)
        self.normalise = checks.choice("normalise", normalise, NORMALISE)

    def decompose(
        self, inputs: Tensor | tuple[Tensor, ...], target: object = None, *, additional_forward_args: object = None
    ) -> FullGradient:
        """Take the score of ``target`` apart; the arguments are those of `Attribution.attribute`."""
        with self.asking(inputs, target, additional_forward_args=additional_forward_args) as query:
            return full_gradient(query)

    def _attribute(self, query: Query) -> Tensor:
        size = query.x.shape[2:]
        if not size:
            raise ShapeError(f"inputs must have locations behind axis 1; got {tuple(query.x.shape)}.")
        found = full_gradient(query)
        placed = {name: at for name, at in found.located.items() if found.biases[name].ndim == query.x.ndim}
        self._tell_left_out(found, placed)
        places = [found.biases[name].movedim(at, 1) for name, at in placed.items()]
        return self._psi(found.inputs[0]) + sum(upsample(self._psi(part), tuple(size)) for part in places)

    def _tell_left_out(self, found: FullGradient, placed: Collection[str]) -> None:
        """Say how much the map does not show, where more than the vectors behind the last map is missing."""
        missing = [
            name for name, part in found.biases.items() if name not in placed and sum(n > 1 for n in part.shape[1:]) > 1
        ]
        if missing:
            of_all = [float(part.abs().sum()) for part in (*found.inputs, *found.biases.values())]
            share = sum(float(found.biases[name].abs().sum()) for name in missing) / max(sum(of_all), 1e-30)
            log.warning(
                "the map leaves out %d of %d biases, %.0f %% of all contributions: their outputs, such as %r, are not "
                "known to be maps. See FullGrad.decompose.",
                len(missing),
                len(found.biases),
                100 * share,
                missing[0],
            )

    def _psi(self, part: Tensor) -> Tensor:
        """Absolute values, rescaled, channels added up; resizing is linear, so that it can follow."""
        part = part.abs()
        if self.normalise != "none":
            axes = tuple(range(1 if self.normalise == "layer" else 2, part.ndim))
            part = part - part.amin(axes, keepdim=True)
            top = part.amax(axes, keepdim=True)
            part = torch.where(top > 0, part / top, 0)
        return part.sum(1, keepdim=True)
