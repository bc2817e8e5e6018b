"""CAM: the class's own linear classifier, applied at every place instead of to the mean over all places."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from attrib.core import Attribution, Query, Recorded, layer_table
from attrib.core.channels import weighted
from attrib.core.layer_map import LayerMap
from attrib.errors import LayerError
from attrib.registry import METHODS

_TOLERANCE = {torch.float64: 1e-8, torch.float32: 1e-3}  # of the largest score: kernels differ in their rounding


@METHODS.add("cam")
class CAM(Attribution):
    r"""Which places the score is the mean of, exactly, where a network ends in a mean and a linear layer.

    .. math:: M_{hw} = \sum_k w_{kc} A_{khw}, \qquad \frac{1}{hw} \sum_{h,w} M_{hw} + b_c = S_c

    Convention:
        - map: ``(N, 1, h, w)`` of the layer, in the unit of the score; signed, as ``relu=False`` is the default.
        - the mean of the map is the score without the bias; the network is refused if that does not hold.
        - the head is found by what it computes: a Linear or 1x1 convolution on the mean of the layer, or the mean
          itself where the layer has one channel per class; a ReLU between layer and mean is part of the map.
        - of a combination of classes it is the combination of their maps; of another function of the scores it is the
          first-order term at the clean scores.

    Cost: one forward pass for any number of classes, no gradient of the network; ``layer="auto"`` one more forward.

    Args:
        model: an ``nn.Module`` with scores ``(N, C)``.
        layer: the layer that the mean is taken of; the last spatial one if None.
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

    def _head(self, query: Query) -> tuple[Tensor, Tensor]:
        """The activation that the mean is taken of, and the weight ``(C, K)`` behind it."""
        act, output = self.at.activation(query), query.clean.output
        if isinstance(output, Tensor) and output.ndim == 2:
            for seen in (act, act.relu()):
                mean = seen.flatten(2).mean(2)
                for weight, bias in _heads(self.model, mean.shape[1], output.shape[1]):
                    if _same(mean @ weight.to(mean).T + bias.to(mean), output):
                        return seen, weight.to(mean)
        raise LayerError(_why_not(query, act))


def _heads(model: Callable[..., Any], channels: int, classes: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Weight and bias of every layer that could turn means into scores; the last first, and none at all."""
    parts = list(model.modules()) if isinstance(model, nn.Module) else []
    for part in reversed(parts):
        one = isinstance(part, nn.Conv2d) and part.groups == 1 and tuple(part.kernel_size) == (1, 1)
        weight: object = part.weight if one or isinstance(part, nn.Linear) else None
        if isinstance(weight, Tensor) and weight.shape[:2] == (classes, channels):
            bias = part.bias if isinstance(part.bias, Tensor) else weight.new_zeros(classes)
            yield weight.flatten(1), bias
    if channels == classes:
        yield torch.eye(classes), torch.zeros(classes)


def _same(scores: Tensor, output: Tensor) -> bool:
    limit = _TOLERANCE.get(output.dtype, 2e-2) * float(output.abs().max())
    return float((scores - output).abs().max()) <= limit


def _slope(query: Query) -> Tensor:
    """Derivative of the score for the class scores, ``(N, C)``."""
    scores = query.clean.output.detach().requires_grad_()
    with torch.enable_grad():
        score = query.clean.goal(scores, query.clean.acts)
        slope: Tensor = torch.autograd.grad(score.sum(), scores)[0]
    return slope


def _why_not(query: Query, act: Tensor) -> str:
    """What stands between the layer and the scores."""
    rows = layer_table(query.model, query.inputs, query.extra)
    start = next((i for i, row in enumerate(rows) if row.address == query.layer), len(rows) - 1)
    parents = {row.address.rpartition(".")[0] for row in rows}
    behind = [
        f"{row.address} ({row.kind})" for row in rows[start + 1 :] if row.address.partition("#")[0] not in parents
    ]
    return (
        f"CAM needs scores (N, C) that are one linear layer on the mean over the places of a layer; "
        f"{type(query.model).__name__} computes something else from layer {query.layer!r} {tuple(act.shape)[1:]}: "
        f"behind it run {', '.join(behind) or 'functions that are not modules'}. Name the layer that the mean is taken "
        "of, or use GradCAM, which needs no such head."
    )
