"""Masks that can have no fine detail, and how far a mask is from having a given area."""

from __future__ import annotations

from math import ceil

import torch
import torch.nn.functional as F
from torch import Tensor

from attrib.core.reduce import upsample

_TEMPERATURE = 0.1


def smooth_maximum(values: Tensor, axis: int) -> Tensor:
    """Mean of ``values`` along ``axis``, each weighted with the exponential of itself over a temperature of 0.1."""
    return (values * (values / _TEMPERATURE).softmax(axis)).sum(axis)


class MaxConvolution:
    r"""Let every cell of a grid spread a bump of its own height: the mask is the upper envelope of all bumps.

    .. math:: m(u) = \mathrm{smax}_v\, k(u - v)\, p(v), \quad
              k(d) = \exp\Big(-\tfrac{\max(0, \|d\| - 1)^2}{2 \sigma^2}\Big), \quad
              \mathrm{smax}_v f(v) = \frac{\sum_v f(v)\, e^{f(v) / T}}{\sum_v e^{f(v) / T}}

    Convention:
        - distances are counted in cells; a bump is flat up to a distance of 1 and ends at a distance of 3 sigma.
        - beyond the border heights are 0. Heights in [0, 1] give masks in [0, 1].
        - a maximum is 1 in the midst of a small region; an average (a convolution) would be less everywhere.

    Args:
        sigma: width of the bumps, in cells.
        like: dtype and device.
    """

    def __init__(self, sigma: float, like: Tensor) -> None:
        self.radius = max(1, ceil(3 * sigma))
        line = torch.arange(-self.radius, self.radius + 1, dtype=like.dtype, device=like.device)
        beyond = (torch.hypot(line[:, None], line) - 1).clamp(min=0)
        self.bump = torch.exp(-(beyond**2) / (2 * sigma**2)).reshape(1, -1, 1)

    def __call__(self, heights: Tensor) -> Tensor:
        """The mask of ``heights (N, 1, h, w)``, of the same shape."""
        near = F.unfold(heights, 2 * self.radius + 1, padding=self.radius)  # (N, neighbours, cells)
        return smooth_maximum(near * self.bump, 1).reshape(heights.shape)


def area_gap(mask: Tensor, area: float) -> Tensor:
    r"""How far masks ``(N, 1, h, w)`` are from a binary mask of relative area :math:`a`, ``(N,)``.

    .. math:: R_a(m) = \| \mathrm{sort}(m) - r_a \|^2, \quad r_a = (0, \ldots, 0, 1, \ldots, 1)

    where a share :math:`a` of the cells is 1, one cell at least. It is 0 for all binary masks of this area alone.
    """
    ranked = mask.flatten(1).sort(dim=1, stable=True).values
    zeros = ranked.shape[1] - max(1, round(area * ranked.shape[1]))
    return ranked[:, :zeros].square().sum(1) + (ranked[:, zeros:] - 1).square().sum(1)


class Enlarge:
    """Bilinear enlargement of ``(N, 1, h, w)``, see `upsample`, as products of matrices.

    On a GPU the gradient of a resize is summed in no fixed order; the gradient of a product of matrices is.

    Args:
        size: height and width in pixels.
        like: a mask in cells.
    """

    def __init__(self, size: tuple[int, int], like: Tensor) -> None:
        self.rows, self.columns = (
            upsample(torch.eye(cells, dtype=like.dtype, device=like.device)[None, None], (pixels, cells))[0, 0]
            for cells, pixels in zip(like.shape[2:], size, strict=True)
        )

    def __call__(self, mask: Tensor) -> Tensor:
        """The mask in pixels."""
        return self.rows @ mask @ self.columns.T


def variation(mask: Tensor, power: float) -> Tensor:
    r"""How much masks ``(N, 1, h, w)`` change from cell to cell, ``(N,)``: :math:`\sum |\nabla m|^\beta` per cell."""
    down, right = mask.diff(dim=2).abs().pow(power), mask.diff(dim=3).abs().pow(power)
    return (down.sum((1, 2, 3)) + right.sum((1, 2, 3))) / (mask.shape[2] * mask.shape[3])
