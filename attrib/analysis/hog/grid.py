"""Which pixels lie behind which locations of a layer: windows of features, and the patches of picture they see."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attrib import checks
from attrib.errors import InputError, ShapeError
from attrib.models.hog import Blocks, Cells

Pair = tuple[int, int]


@dataclass(frozen=True)
class Grid:
    """Windows of a layer's locations and the patches of pictures behind them; all are (height, width).

    Attributes:
        step: pixels from one location to the next.
        reach: pixels of one location.
        offset: pixels above and left of the first.
        window: locations in a window.
    """

    step: Pair
    reach: Pair
    offset: Pair
    window: Pair

    @classmethod
    def of(cls, module: nn.Module, picture: Pair, locations: Pair, window: Pair, shrink: int) -> Grid:
        """The grid of ``module``, known for HOG, else of equal steps about the centre; pixels are shrunken ones."""
        if isinstance(module, (Cells, Blocks)):
            step, reach, offset = module.step, module.reach, (0, 0)
        else:
            step = reach = _each(picture, locations, lambda side, count: side // count)
            covered = _each(step, locations, lambda one, count: one * count)
            offset = _each(picture, covered, lambda side, most: (side - most) // 2 // shrink * shrink)
        if any(side % shrink for side in (*step, *reach)):
            raise InputError(
                f"shrink must divide the step from one location to the next, {step[0]} x {step[1]} pixels; got "
                f"{shrink}."
            )
        step, reach, offset = (
            _each(one, (shrink, shrink), lambda side, by: side // by) for one in (step, reach, offset)
        )
        return cls(step, reach, offset, window)

    @property
    def patch(self) -> Pair:
        """Pixels behind a window."""
        return self.covered(self.window)

    def covered(self, locations: Pair) -> Pair:
        """Pixels behind so many locations."""
        high, wide = ((n - 1) * s + r for n, s, r in zip(locations, self.step, self.reach, strict=True))
        return high, wide

    def windows(self, maps: Tensor) -> Tensor:
        """All windows of ``(N, K, rows, columns)``, row by row: ``(N, L, K * h * w)``."""
        if maps.shape[2] < self.window[0] or maps.shape[3] < self.window[1]:
            rows, columns = maps.shape[2:]
            high, wide = self.patch
            raise ShapeError(
                f"features must have at least {self.window[0]} x {self.window[1]} locations, one window; got {rows} x "
                f"{columns}. Pictures of {high} x {wide} pixels or more have them; or choose a smaller window."
            )
        return F.unfold(maps, self.window).transpose(1, 2)

    def cropped(self, pictures: Tensor, locations: Pair) -> Tensor:
        """The part of ``(N, C, H, W)`` behind so many locations."""
        (top, left), (high, wide) = self.offset, self.covered(locations)
        if pictures.shape[2] < top + high or pictures.shape[3] < left + wide:
            raise ShapeError(
                f"images must have {top + high} x {left + wide} pixels or more for {locations[0]} x {locations[1]} "
                f"locations, as the first had; got {pictures.shape[2]} x {pictures.shape[3]}. Give images of one size."
            )
        return pictures[:, :, top : top + high, left : left + wide]

    def patches(self, pictures: Tensor, locations: Pair) -> Tensor:
        """What lies behind each window, ``(N, L, C * height * width)``."""
        return F.unfold(self.cropped(pictures, locations), self.patch, stride=self.step).transpose(1, 2)

    def joined(self, patches: Tensor, locations: Pair) -> Tensor:
        """Pictures from patches: where they overlap their mean, weighted by a window that falls towards the rim."""
        high, wide = (_taper(side, patches) for side in self.patch)
        weight = (high[:, None] * wide).flatten().repeat(patches.shape[2] // (len(high) * len(wide)))
        size = self.covered(locations)
        total = F.fold((patches * weight).transpose(1, 2), size, self.patch, stride=self.step)
        weights = weight.expand(1, patches.shape[1], -1).transpose(1, 2)
        return total / F.fold(weights, size, self.patch, stride=self.step)


def window_of(given: int | Pair | None, module: nn.Module) -> Pair:
    """Locations in a window: 4 by 4 for HOG, whose locations say little by themselves, else one."""
    usual = 4 if isinstance(module, (Cells, Blocks)) else 1
    high, wide = checks.sides("window", usual if given is None else given, axes=2)
    return high, wide


def _taper(side: int, like: Tensor) -> Tensor:
    """Hann's window without its zeros."""
    return torch.hann_window(side + 2, periodic=False, dtype=like.dtype, device=like.device)[1:-1]


def _each(one: Pair, other: Pair, what: Callable[[int, int], int]) -> Pair:
    return what(one[0], other[0]), what(one[1], other[1])
