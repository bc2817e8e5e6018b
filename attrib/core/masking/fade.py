"""Inputs that fade where a mask hides them: towards a baseline, or more and more blurred."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import ceil
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from attrib.core.masking.baseline import Baseline, resolve_baseline

Hidden = Baseline | Literal["pyramid"]
_LEVELS = 8
_STRONGEST = 20 / 224  # standard deviation of the last blur, as a share of the shorter side


@dataclass(frozen=True)
class Fade:
    """Steps ``(L, N, C, H, W)`` from the input, first, to what is seen where all is hidden, last.

    Between two steps there is a straight line. A baseline is the second of two steps; ``"pyramid"`` are 8 steps, the
    last one blurred with a standard deviation of 20/224 of the shorter side, the border repeated outside.
    """

    levels: Tensor

    @classmethod
    def of(cls, x: Tensor, baseline: Hidden) -> Fade:
        """Fade ``x`` to ``baseline``."""
        if not isinstance(baseline, str) or baseline != "pyramid":
            return cls(torch.stack([x, resolve_baseline(baseline, x).expand_as(x)]))
        widths = [_STRONGEST * min(x.shape[2:]) * level / (_LEVELS - 1) for level in range(_LEVELS)]
        return cls(torch.stack([blurred(x, width) for width in widths]))

    def rows(self, index: Tensor) -> Fade:
        """The same for some of the examples."""
        return replace(self, levels=self.levels[:, index])

    def __call__(self, keep: Tensor) -> Tensor:
        """Show the input where ``keep (N, 1, H, W)`` is 1 and the last step where it is 0."""
        last = len(self.levels) - 1
        depth = (1 - keep.to(self.levels)) * last
        shares = ((1 - (depth - step).abs()).clamp(min=0) for step in range(last + 1))
        return torch.stack([share * level for share, level in zip(shares, self.levels, strict=True)]).sum(0)


def blurred(x: Tensor, sigma: float, radius: int | None = None) -> Tensor:
    """Blur ``(N, C, H, W)`` with a Gaussian cut off at ``radius``, or at three sigmas; the border is repeated."""
    radius = ceil(3 * sigma) if radius is None else radius
    if radius == 0:
        return x
    line = torch.arange(-radius, radius + 1, dtype=x.dtype, device=x.device)
    kernel = torch.exp(-(line**2) / (2 * sigma**2))
    kernel = (kernel / kernel.sum()).expand(x.shape[1], 1, -1)
    x = F.conv2d(F.pad(x, (0, 0, radius, radius), mode="replicate"), kernel[..., None], groups=x.shape[1])
    return F.conv2d(F.pad(x, (radius, radius, 0, 0), mode="replicate"), kernel[:, :, None], groups=x.shape[1])


def shifted(x: Tensor, shift: tuple[int, int]) -> Tensor:
    """Move ``(N, C, H, W)`` down and right by whole pixels, or up and left; the border is repeated."""
    reach = max(abs(shift[0]), abs(shift[1]))
    if reach == 0:
        return x
    top, left = reach - shift[0], reach - shift[1]
    return F.pad(x, (reach,) * 4, mode="replicate")[..., top : top + x.shape[2], left : left + x.shape[3]]


Shift = Callable[[], tuple[int, int]]


def shifts(jitter: int, seed: int) -> Shift:
    """Draw shifts of at most ``jitter`` pixels along each axis, from a generator of their own."""
    source = torch.Generator().manual_seed(seed)

    def draw() -> tuple[int, int]:
        y, x = torch.randint(-jitter, jitter + 1, (2,), generator=source).tolist()
        return int(y), int(x)

    return draw
