"""Discs, squares, triangles and crosses, anywhere in a picture."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

SHAPES = ("disc", "square", "triangle", "cross")
NOISE = 0.05  # standard deviation of every pixel


def draw_shapes(kind: Tensor, centre: Tensor, radius: Tensor, size: tuple[int, int]) -> Tensor:
    """Masks ``(..., H, W)`` of shapes of about equal area.

    Args:
        kind: numbers of `SHAPES`, ``(...)``.
        centre: y and x in pixels, ``(..., 2)``.
        radius: in pixels, ``(...)``; no shape reaches further than that from its centre along either axis.
        size: height and width.
    """
    dy = torch.arange(size[0])[:, None] + 0.5 - centre[..., 0, None, None]
    dx = torch.arange(size[1]) + 0.5 - centre[..., 1, None, None]
    r, far, near = radius[..., None, None], torch.maximum(dy.abs(), dx.abs()), torch.minimum(dy.abs(), dx.abs())
    kinds = [
        dy**2 + dx**2 <= (0.95 * r) ** 2,
        far <= 0.84 * r,
        (dy <= 0.8 * r) & (dx.abs() * 1.7 <= dy + r) & (dy >= -r),
        (near <= 0.38 * r) & (far <= r),
    ]
    return torch.stack(kinds).gather(0, kind[None, ..., None, None].expand(1, *kinds[0].shape))[0]


def rim(mask: Tensor) -> Tensor:
    """The mask and the pixels that touch it: an outline is seen from both its sides."""
    return F.max_pool2d(mask.float(), 3, stride=1, padding=1) > 0
