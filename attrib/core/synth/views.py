"""What the network sees of an image while it is made: shifted, turned, resized a little, anew at each step."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from attrib import checks
from attrib.errors import InputError


class View(ABC):
    """A random change of the image, differentiable, the same for all images of a batch.

    So what becomes of an image does not depend on the images beside it.
    """

    @abstractmethod
    def __call__(self, image: Tensor, generator: torch.Generator) -> Tensor:
        """The image ``(N, C, H, W)`` as it is seen; draws from ``generator`` only."""


def _draw(generator: torch.Generator, low: float, high: float) -> float:
    return low + (high - low) * float(torch.rand((), generator=generator))


@dataclass(frozen=True)
class Jitter(View):
    """Shift by up to ``pixels`` in both directions; what leaves on one side comes in on the other.

    Example:
        >>> seen = Jitter(2)(torch.eye(5)[None, None], torch.Generator().manual_seed(0))
        >>> float(seen.sum())
        5.0
    """

    pixels: int = 8

    def __post_init__(self) -> None:
        checks.integer("pixels", self.pixels, 0)

    def __call__(self, image: Tensor, generator: torch.Generator) -> Tensor:
        by = torch.randint(-self.pixels, self.pixels + 1, (2,), generator=generator).tolist()
        return image.roll(by, dims=(-2, -1))


@dataclass(frozen=True)
class Rotate(View):
    """Turn by up to ``degrees`` either way, about the centre; beyond the edge the image is mirrored."""

    degrees: float = 5.0

    def __post_init__(self) -> None:
        checks.number("degrees", self.degrees, 0, 180)

    def __call__(self, image: Tensor, generator: torch.Generator) -> Tensor:
        angle = math.radians(_draw(generator, -self.degrees, self.degrees))
        return _warped(image, angle, 1.0)


@dataclass(frozen=True)
class Scale(View):
    """Enlarge by a factor drawn between ``low`` and ``high``, about the centre; the size of the input stays."""

    low: float = 0.9
    high: float = 1.1

    def __post_init__(self) -> None:
        if not 0 < checks.number("low", self.low) <= checks.number("high", self.high):
            raise InputError(f"scales must be above 0, low up to high; got {self.low} and {self.high}.")

    def __call__(self, image: Tensor, generator: torch.Generator) -> Tensor:
        return _warped(image, 0.0, _draw(generator, self.low, self.high))


def _warped(image: Tensor, angle: float, factor: float) -> Tensor:
    """Turned and enlarged, with square pixels whatever the shape of the image."""
    high, wide = image.shape[-2:]
    cos, sin = math.cos(angle) / factor, math.sin(angle) / factor
    matrix = torch.tensor([[cos, -sin * high / wide, 0.0], [sin * wide / high, cos, 0.0]])
    grid = F.affine_grid(matrix.to(image)[None].expand(len(image), -1, -1), list(image.shape), align_corners=False)
    return F.grid_sample(image, grid, padding_mode="reflection", align_corners=False)


def seen(image: Tensor, views: Sequence[View], generator: torch.Generator) -> Tensor:
    """The image after all views, one after another."""
    for view in views:
        image = view(image, generator)
    return image
