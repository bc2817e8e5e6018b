"""The search for the region of a given area that keeps, or loses, most of the score."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import pi
from typing import Literal

import torch
from torch import Tensor

from attrib.core.masking.fade import Shift, shifts
from attrib.core.masking.smooth_mask import Enlarge, MaxConvolution, area_gap
from attrib.core.sweeps.mask_search import Masked, grid_of, start

Variant = Literal["preserve", "delete", "dual"]
_MOMENTUM = 0.9
_LEAST, _GROWTH = 0.1, 300.0  # weight of the area at first, and how many times as much in the end
_PATH, _LONGEST = 5.0, 0.2  # length of all steps together, and of one at most
_HALVINGS = 12
_SMOOTHNESS = 21 / 224  # of the shorter side


@dataclass(frozen=True)
class RegionSearch:
    """Gradient steps with momentum on the heights of a `MaxConvolution`, which stay in [0, 1].

    Convention:
        - the first half of the steps starts with everything, and the area falls to what is asked for. The second half
          starts from what was found, or from the best of some discs of that area if one is worth more.
        - in every step the gradient of the score is scaled to a mean square of 1 per cell. In each half the weight of
          the area grows from 0.1 to 30, and steps shorten accordingly.

    Attributes:
        steps: how many.
        places: of discs along each side.
        cells: along the shorter side.
        smoothness: sigma of the bumps in pixels; None is 21/224 of the shorter side.
        variant: show the region alone, hide it alone, or both.
        jitter: largest shift in pixels.
        seed: of the shifts.
    """

    steps: int
    places: int
    cells: int
    smoothness: float | None
    variant: Variant
    jitter: int
    seed: int

    def find(self, one: Masked, area: float, tick: Callable[[], object]) -> Tensor:
        """The region ``(n, 1, H, W)`` of each example; zeros where no mask changes the score."""
        picture = one.fade.levels[0]
        size = (picture.shape[2], picture.shape[3])
        heights = start(grid_of(size, self.cells), 1.0, picture)
        climb = Climb(
            self, one, self._smooth(size, heights), Enlarge(size, heights), shifts(self.jitter, self.seed), tick
        )
        first = (self.steps + 1) // 2
        heights, moved = climb(heights, area, first, falling=True)
        begun = discs(area, self.places, climb.smooth, heights)
        heights = self._best(one, [heights, *(disc.expand_as(heights) for disc in begun)], climb.shown)
        heights, moved_again = climb(heights, area, self.steps - first, falling=False)
        return climb.shown(heights) * (moved | moved_again)

    def effect(self, one: Masked, region: Tensor) -> Tensor:
        """Which share of the score the region keeps, shown alone, or takes away, hidden alone; their mean for both."""
        with torch.no_grad():
            kept = [] if self.variant == "delete" else [one.left(one.score(region))]
            lost = [] if self.variant == "preserve" else [1 - one.left(one.score(1 - region))]
            return torch.stack(kept + lost).mean(0)

    def worth(self, one: Masked, region: Tensor, shift: tuple[int, int] = (0, 0)) -> Tensor:
        """The score of what the region shows, less the score of what it leaves over."""
        if self.variant == "preserve":
            return one.score(region, shift)
        left_over = one.score(1 - region, shift)
        return -left_over if self.variant == "delete" else one.score(region, shift) - left_over

    def _best(self, one: Masked, heights: list[Tensor], shown: Callable[[Tensor], Tensor]) -> Tensor:
        """For each example the heights that are worth most."""
        with torch.no_grad():
            worths = torch.stack([self.worth(one, shown(candidate)) for candidate in heights])
            return torch.stack(heights)[worths.argmax(0), torch.arange(len(worths[0]), device=worths.device)]

    def _smooth(self, size: tuple[int, int], heights: Tensor) -> MaxConvolution:
        pixels = _SMOOTHNESS * min(size) if self.smoothness is None else self.smoothness
        return MaxConvolution(pixels * heights.shape[2] / size[0], heights)


@dataclass(frozen=True)
class Climb:
    """Gradient steps with momentum: the score pulls cells up or down, the area pushes them to 0 or 1."""

    search: RegionSearch
    one: Masked
    smooth: MaxConvolution
    enlarge: Enlarge
    shift: Shift
    tick: Callable[[], object]

    def shown(self, heights: Tensor) -> Tensor:
        """The mask in pixels."""
        return self.enlarge(self.smooth(heights))

    def __call__(self, heights: Tensor, area: float, steps: int, *, falling: bool) -> tuple[Tensor, Tensor]:
        """Heights after so many steps, and whether the score ever pulled; a ``falling`` area begins with everything."""
        speed, moved = torch.zeros_like(heights), torch.zeros_like(heights[..., :1, :1], dtype=torch.bool)
        for step in range(steps):
            heights.requires_grad_(True)
            mask = self.smooth(heights)
            towards, weight = mask.detach().requires_grad_(True), _LEAST * _GROWTH ** (step / max(1, steps - 1))
            pull = self._pull(towards)
            gap = area_gap(towards, area + (1 - area) * max(0.0, 1 - 2 * step / steps) * falling)
            (push,) = torch.autograd.grad(gap.sum(), towards)
            (slope,) = torch.autograd.grad(mask, heights, unit(pull) - weight * push)
            speed = _MOMENTUM * speed + slope
            heights = (heights.detach() + min(_LONGEST, _PATH / self.search.steps) / (1 + weight) * speed).clamp(0, 1)
            moved |= (pull != 0).any(3, keepdim=True).any(2, keepdim=True)
            self.tick()
        return heights, moved

    def _pull(self, mask: Tensor) -> Tensor:
        passes = 2 if self.search.variant == "dual" else 1
        keep = self.enlarge(mask)
        return self.one.slope(self.search.worth(self.one, keep, self.shift()), mask, keep, passes)


def discs(area: float, places: int, smooth: MaxConvolution, like: Tensor) -> Tensor:
    """Heights ``(places ** 2, h, w)`` whose masks are discs of this area, as far inside the picture as they fit."""
    height, width = like.shape[2:]
    radius = (area * height * width / pi) ** 0.5
    low, high = 0.0, 2 * radius
    for _ in range(_HALVINGS):  # the smooth edge is wider than the heights are
        middle = (low + high) / 2
        too_large = smooth(_disc(height / 2, width / 2, middle, like)).mean() > area
        low, high = (low, middle) if too_large else (middle, high)
    centres = [(y, x) for y in _spread(places, height, radius) for x in _spread(places, width, radius)]
    return torch.cat([_disc(y, x, low, like) for y, x in centres])[:, 0]


def _disc(y: float, x: float, radius: float, like: Tensor) -> Tensor:
    rows, columns = (torch.arange(cells, dtype=like.dtype, device=like.device) + 0.5 for cells in like.shape[2:])
    return (radius + 0.5 - torch.hypot(rows[:, None] - y, columns - x)).clamp(0, 1)[None, None]


def _spread(places: int, length: int, radius: float) -> list[float]:
    """Places along an axis, from one border to the other, at least ``radius`` away from it where there is room."""
    margin = min(radius, length / 2)
    shares = [place / (places - 1) for place in range(places)] if places > 1 else [0.5]
    return [margin + share * (length - 2 * margin) for share in shares]


def unit(slope: Tensor) -> Tensor:
    """Scale each example's gradient ``(n, 1, h, w)`` to a mean square of 1; zero stays zero."""
    length = slope.square().mean((2, 3), keepdim=True).sqrt()
    return slope / length.where(length > 0, torch.ones_like(length))
