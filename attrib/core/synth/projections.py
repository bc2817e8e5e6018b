"""What is done to the image after each step, so that it stays one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from attrib import checks
from attrib.core.masking.fade import blurred
from attrib.core.synth.space import PixelSpace
from attrib.errors import InputError


class Projection(ABC):
    """A change of the image after a step; projections follow one another in the order in which they are given."""

    @abstractmethod
    def __call__(self, image: Tensor, gradient: Tensor, step: int) -> Tensor:
        """The image ``(N, C, H, W)`` after step ``step``, counted from 0; ``gradient`` is the score's at the image."""


@dataclass(frozen=True)
class Bounds(Projection):
    """Clip to what a picture can show: from black to white in the network's own normalisation."""

    space: PixelSpace = field(default_factory=PixelSpace)

    def __call__(self, image: Tensor, gradient: Tensor, step: int) -> Tensor:
        return image.clamp(self.space.low(image), self.space.high(image))


@dataclass(frozen=True, eq=False)
class Ball(Projection):
    """Back into the ball around ``centre``, image by image.

    Args:
        centre: ``(N, C, H, W)`` or ``(1, C, H, W)``, in the space of the input.
        radius: in the same units.
        norm: ``"linf"``: the largest change of a value; ``"l2"``: the Euclidean norm of the change.
    """

    centre: Tensor
    radius: float
    norm: Literal["linf", "l2"] = "l2"

    def __post_init__(self) -> None:
        checks.choice("norm", self.norm, ("linf", "l2"))
        checks.number("radius", self.radius, 0)

    def __call__(self, image: Tensor, gradient: Tensor, step: int) -> Tensor:
        change = image - self.centre
        if self.norm == "linf":
            return self.centre + change.clamp(-self.radius, self.radius)
        size = change.flatten(1).norm(dim=1).clamp_min(torch.finfo(image.dtype).tiny)
        share = (self.radius / size).clamp(max=1.0)
        inside: Tensor = self.centre + change * share.reshape(-1, *(1 for _ in image.shape[1:]))
        return inside


@dataclass(frozen=True)
class Decay(Projection):
    r""":math:`x \leftarrow (1 - \theta) x`, Yosinski's ``theta_decay``."""

    share: float

    def __post_init__(self) -> None:
        checks.number("share", self.share, 0, 1)

    def __call__(self, image: Tensor, gradient: Tensor, step: int) -> Tensor:
        return image * (1 - self.share)


@dataclass(frozen=True)
class Blur(Projection):
    """Gaussian blur of standard deviation ``width`` pixels every ``every`` steps: ``theta_b_width``, ``theta_b_every``.

    The kernel reaches four standard deviations; beyond the edge the image goes on with its last pixel.
    """

    width: float
    every: int = 1

    def __post_init__(self) -> None:
        if not checks.number("width", self.width, 0) > 0:
            raise InputError(f"width must be above 0; got {self.width}. Leave Blur out for none.")
        checks.integer("every", self.every, 1)

    def __call__(self, image: Tensor, gradient: Tensor, step: int) -> Tensor:
        reach = max(1, round(4 * self.width))
        return blurred(image, self.width, reach) if (step + 1) % self.every == 0 else image


@dataclass(frozen=True)
class ClipSmallPixels(Projection):
    """Set pixels whose norm over the channels lies below a percentile of the image's to 0: ``theta_n_pct``."""

    percentile: float

    def __post_init__(self) -> None:
        checks.number("percentile", self.percentile, 0, 100)

    def __call__(self, image: Tensor, gradient: Tensor, step: int) -> Tensor:
        return _kept(image, image.norm(dim=1, keepdim=True), self.percentile)


@dataclass(frozen=True)
class ClipSmallContributions(Projection):
    r"""Set pixels to 0 whose :math:`|\sum_c x_c \partial S / \partial x_c|` is below a percentile: ``theta_c_pct``."""

    percentile: float

    def __post_init__(self) -> None:
        checks.number("percentile", self.percentile, 0, 100)

    def __call__(self, image: Tensor, gradient: Tensor, step: int) -> Tensor:
        return _kept(image, (image * gradient).sum(1, keepdim=True).abs(), self.percentile)


def _kept(image: Tensor, value: Tensor, percentile: float) -> Tensor:
    exact = value if value.dtype == torch.float64 else value.float()
    level = torch.quantile(exact.flatten(1), percentile / 100, dim=1).to(value)
    return image * (value >= level.reshape(-1, 1, 1, 1))
