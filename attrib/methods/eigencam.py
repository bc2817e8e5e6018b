"""Eigen-CAM: the one map that tells most about all channels of a layer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from attrib import checks
from attrib.core import Attribution, Backward, Query, Recorded
from attrib.core.layer_map import LayerMap
from attrib.core.network.geometry import Reshape
from attrib.registry import METHODS


def principal(maps: Tensor) -> Tensor:
    """Project ``(N, K, ...)`` on the first right singular vector of each example: ``(N, 1, ...)``."""
    rows = maps.flatten(2).transpose(1, 2)
    rows = rows.to(torch.promote_types(rows.dtype, torch.float32))  # LAPACK knows no half precision
    _, values, vectors = torch.linalg.svd(rows, full_matrices=False)
    rounding = max(rows.shape[1:]) * torch.finfo(rows.dtype).eps
    leading = values >= values[:, :1] * (1 - rounding)
    # of all vectors with the largest singular value the one nearest to (1, ..., 1); of a single one that is its sign
    weight = (vectors * (vectors.sum(2) * leading)[..., None]).sum(1)
    length = weight.norm(dim=1, keepdim=True)
    first = vectors[:, 0] * vectors[:, 0].gather(1, vectors[:, 0].abs().argmax(1, keepdim=True)).sign()
    weight = torch.where(length > rounding, weight / length, first)
    return (rows @ weight[..., None]).reshape(len(maps), 1, *maps.shape[2:])


@METHODS.add("eigencam")
class EigenCAM(Attribution):
    r"""What a layer sees most of, whatever the class: the principal component of its channels.

    .. math:: M = A\, v_1, \qquad A = U \Sigma V^\top \in \mathbb{R}^{hw \times K}

    Convention:
        - map: ``(N, 1, h, w)`` of the layer, or ``(N, 1, H, W)`` bilinear with ``upsample=True``; not normalised.
        - the map is the same for every target, unless ``gradient=True``.
        - the activations are not centred: their mean is part of what the layer sees (pytorch-grad-cam subtracts it).
        - sign: the weights ``v`` have a positive sum, so that the map agrees with the sum of the channels; if they sum
          to zero, the largest weight is positive.
        - equally large singular values: of their vectors the one nearest to ``(1, ..., 1)``.
        - ``gradient=True`` (Eigen-Grad-CAM) takes activation times gradient for ``A``: positive supports the score.

    Cost: one forward pass and a singular value decomposition; ``gradient=True`` one backward pass to the layer;
    ``layer="auto"`` one more forward.

    Args:
        model: see `Attribution`.
        layer: a spatial layer; the last one if None.
        gradient: weight the activations by the gradient, which makes the map depend on the target.
        relu: keep positive values only; behind a rectified layer there are no others, unless ``gradient=True``.
        upsample: resize to the input.
        reshape: makes ``(N, K, h, w)`` of the layer's activation where the layout is not recognised.

    Example:
        >>> EigenCAM(model, "conv").attribute(x, target=3).shape
        torch.Size([2, 1, 12, 12])

    References:
        Muhammad, Yeasin, "Eigen-CAM: Class Activation Map using Principal Components", IJCNN 2020.
    """

    needs_layer = True
    uses_target = False

    def __init__(
        self,
        model: Callable[..., Any],
        layer: str | nn.Module | None = None,
        *,
        gradient: bool = False,
        relu: bool = False,
        upsample: bool = False,
        reshape: Reshape | None = None,
    ) -> None:
        super().__init__(model, layer)
        self.uses_target = checks.boolean("gradient", gradient)
        self.at = LayerMap(relu, upsample, reshape)

    def passes(self, layer: str | None) -> tuple[Backward | Recorded, ...]:
        """See `Attribution.passes`."""
        return (Backward(layer) if self.uses_target else Recorded(str(layer)),)

    def _attribute(self, query: Query) -> Tensor:
        if not self.uses_target:
            return self.at.finish(query, principal(self.at.activation(query)))
        act, grad = self.at.evidence(query)
        return self.at.finish(query, principal(act * grad))
