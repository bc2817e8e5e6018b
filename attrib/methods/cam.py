"""CAM: the class's own linear classifier, applied at every place instead of to the mean over all places."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from attrib.core import Attribution, Query, Recorded
from attrib.core.channels import weighted
from attrib.core.heads.linear_head import averaged_layer, linear_head, why_not
from attrib.core.layer_map import LayerMap
from attrib.errors import LayerError, ModelError, TargetError
from attrib.registry import METHODS


@METHODS.add("cam")
class CAM(Attribution):
    r"""Which places the score is the mean of, exactly, where a network ends in a mean and a linear layer.

    .. math:: M_{hw} = \sum_k w_{kc} A_{khw}, \qquad \frac{1}{hw} \sum_{h,w} M_{hw} + b_c = S_c

    Convention:
        - map: ``(N, 1, h, w)`` of the layer, in the unit of the score; signed, as ``relu=False`` is the default.
        - the mean of the map is the score without the bias; the network is refused if that does not hold for every
          example and class, within rounding.
        - the head is found by what it computes: a Linear or 1x1 convolution on the mean of the layer, or the mean
          itself where the layer has one channel per class; a ReLU between layer and mean is part of the map.
        - where the head reads a sum over the places, as in the paper, the map has their number as a factor.
        - ``layer="auto"`` is the last output of a module, or else the last input of one, of which that mean is taken.
        - of a combination of classes it is the combination of their maps; of another function of the scores it is the
          first-order term at the clean scores.

    Cost: one forward pass for any number of classes, no gradient of the network; ``layer="auto"`` one more forward.

    Args:
        model: an ``nn.Module`` with scores ``(N, C)``.
        layer: the layer that the mean is taken of; found if None.
        relu: keep positive evidence only.
        upsample: resize to the input.

    Example:
        >>> net = torch.nn.Sequential(
        ...     torch.nn.Conv2d(3, 6, 3), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(6, 4)
        ... )
        >>> maps = CAM(net).attribute(x, target=3)
        >>> torch.allclose(maps.mean((1, 2, 3)) + net[3].bias[3], net(x)[:, 3], atol=1e-6)
        True

    References:
        Zhou, Khosla, Lapedriza, Oliva, Torralba, "Learning Deep Features for Discriminative Localization", CVPR 2016,
        eq. 1 and 2.
    """

    needs_layer = True

    def __init__(
        self,
        model: Callable[..., Any],
        layer: str | nn.Module | None = None,
        *,
        relu: bool = False,
        upsample: bool = False,
    ) -> None:
        super().__init__(model, layer)
        self.at = LayerMap(relu, upsample)

    def passes(self, layer: str | None) -> tuple[Recorded, ...]:
        """See `Attribution.passes`."""
        return () if layer is None else (Recorded(layer),)

    def _attribute(self, query: Query) -> Tensor:
        act, weight = self._head(query)
        slope = _slope(query) @ weight  # (N, K): how the score depends on the mean of each channel
        return self.at.finish(query, weighted(act, slope))

    def find_layer(self, tensors: tuple[Tensor, ...], extra: tuple[Any, ...] = ()) -> str:
        """See `Attribution.find_layer`: the last place whose mean the scores are made of."""
        return averaged_layer(self.model, tensors, extra)

    def _head(self, query: Query) -> tuple[Tensor, Tensor]:
        """The activation that the mean is taken of, and the weight ``(C, K)`` behind it."""
        act = self.at.activation(query)
        found = linear_head(query.model, act, query.clean.output)
        if found is None:
            raise LayerError(why_not(query.model, query.inputs, query.extra, str(query.layer), act))
        if not found[1].any():
            raise ModelError(
                "the scores must depend on the means; the weights of the linear layer are all zero, and so would be "
                "all maps. Is the head untrained?"
            )
        return found


def _slope(query: Query) -> Tensor:
    """Derivative of the score for the class scores, ``(N, C)``."""
    scores = query.clean.output.detach().requires_grad_()
    goal = query.clean.goal
    with torch.enable_grad():
        score = goal(scores, query.clean.acts)
    if goal.layers or not score.requires_grad:
        raise TargetError(
            "the target of CAM must depend on the class scores and on nothing else; its derivative for them is not "
            f"known: {query.objective!r}. Use GradCAM for units of other layers."
        )
    slope: Tensor = torch.autograd.grad(score.sum(), scores)[0]
    return slope
