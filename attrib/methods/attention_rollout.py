"""Attention rollout: how much of each patch can reach the tokens that the score is read from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn

from attrib import checks
from attrib.core import Attribution, Query
from attrib.core.layer_map import LayerMap
from attrib.core.network.geometry import Reshape
from attrib.core.relevance.attention import attend, on_grid
from attrib.errors import InputError
from attrib.registry import METHODS

Heads = Literal["mean", "max", "min"]
_FUSE: dict[Heads, Callable[[Tensor], Tensor]] = {
    "mean": lambda weights: weights.mean(1),
    "max": lambda weights: weights.amax(1),
    "min": lambda weights: weights.amin(1),
}


@METHODS.add("attention_rollout")
class AttentionRollout(Attribution):
    r"""Where a transformer's attention leads, from the class token back to the patches.

    .. math:: M_p = \big[\tilde A_L \cdots \tilde A_{s+1} \tilde A_s\big]_{\mathrm{class},\,p}, \qquad
              \tilde A_l = \mathrm{rows}\Big(\tfrac12\, \mathrm{heads}(A_l) + \tfrac12 I\Big)

    where :math:`A_l` are the attention weights of layer l, and rows(...) divides each row by its sum.

    Convention:
        - map: ``(N, 1, h, w)`` of the patches, or ``(N, 1, H, W)`` bilinear with ``upsample=True``; not normalised.
        - values are shares: with those of the tokens that are no patches they sum to 1; none is negative.
        - the class does not matter: the target is checked, and tells only from which tokens the score is read.
        - of several tokens that are read (patches that are averaged, a distillation token) the mean is taken.
        - attention is all that is looked at: values, projections and the MLPs between are not.

    Cost: one forward pass, and the backward pass from the score to the last attention.

    Args:
        model: a transformer with self-attention among all patches, such as ViT; see `attending` for what is seen.
        layer: refused; attention is followed through all layers.
        heads: ``"mean"`` (the paper), ``"max"`` or ``"min"`` over the heads of a layer.
        start: the first layer of attention that counts, from 0.
        upsample: resize to the input.
        reshape: makes ``(N, K, h, w)`` of tokens ``(N, T, K)`` where the grid of the patches is not found.

    Example:
        >>> AttentionRollout(transformer).attribute(x, "predicted").shape
        torch.Size([2, 1, 3, 3])

    References:
        Abnar and Zuidema, "Quantifying Attention Flow in Transformers", ACL 2020, section 3, eq. 1; for images
        Dosovitskiy et al., "An Image is Worth 16x16 Words", ICLR 2021, appendix D.
    """

    takes_layer = False
    uses_target = False

    def __init__(
        self,
        model: Callable[..., object],
        layer: str | nn.Module | None = None,
        *,
        heads: Heads = "mean",
        start: int = 0,
        upsample: bool = False,
        reshape: Reshape | None = None,
    ) -> None:
        super().__init__(model, layer)
        self.heads = checks.choice("heads", heads, tuple(_FUSE))
        self.start = checks.integer("start", start, minimum=0)
        self.at = LayerMap(False, upsample, reshape)

    def _attribute(self, query: Query) -> Tensor:
        found = attend(query, everywhere=False)
        layers = found.weights[self.start :]
        if not layers:
            raise InputError(f"start must be below {len(found.weights)}, the layers of attention; got {self.start}.")
        row = found.reading()
        for weights in reversed(layers):  # row by row: the product of whole matrices is not needed
            row = row @ self._step(weights)
        return on_grid(query, row, self.at)

    def _step(self, weights: Tensor) -> Tensor:
        """One layer: half of a token stays where it is, through the residual connection."""
        fused = _FUSE[self.heads](weights)
        step = (fused + torch.eye(fused.shape[-1]).to(fused)) / 2
        return step / step.sum(-1, keepdim=True)  # max and min of heads do not sum to 1
