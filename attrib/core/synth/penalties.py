"""What natural images are not: penalties, each a number per image that the search keeps low."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from attrib import checks


@dataclass(frozen=True)
class Penalty(ABC):
    """``weight`` times a number per image, subtracted from the objective.

    A new one is a subclass with `value`; its name in records is the class's.
    """

    weight: float = 1.0

    def __post_init__(self) -> None:
        checks.number("weight", self.weight, 0)

    @abstractmethod
    def value(self, image: Tensor) -> Tensor:
        """The number, ``(N,)``, without the weight."""

    def __call__(self, image: Tensor) -> Tensor:
        return self.weight * self.value(image)


@dataclass(frozen=True)
class L2(Penalty):
    r"""Squared norm, :math:`\lVert x \rVert_2^2`, summed over channels and pixels.

    Example:
        >>> L2(weight=2.0)(torch.ones(1, 1, 2, 2))
        tensor([8.])
    """

    def value(self, image: Tensor) -> Tensor:
        return image.square().flatten(1).sum(1)


@dataclass(frozen=True)
class AlphaNorm(Penalty):
    r""":math:`\lVert x \rVert_\alpha^\alpha = \sum |x|^\alpha`: a large alpha punishes large values only.

    Example:
        >>> AlphaNorm(alpha=3)(torch.tensor([[[[-2.0, 1.0]]]]))
        tensor([9.])
    """

    alpha: float = 6.0

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.number("alpha", self.alpha, 1)

    def value(self, image: Tensor) -> Tensor:
        return image.abs().pow(self.alpha).flatten(1).sum(1)


@dataclass(frozen=True)
class TotalVariation(Penalty):
    r""":math:`\sum_{c,i,j} \big((x_{i,j+1} - x_{ij})^2 + (x_{i+1,j} - x_{ij})^2\big)^{\beta/2}`.

    Convention:
        - beyond the last row and column the image goes on with its own value, so that differences there are 0.
        - where both differences are 0 the gradient is 0, although that of :math:`s^{\beta/2}` is infinite at
          :math:`\beta < 2`: the flat image is a minimum.

    References:
        Mahendran and Vedaldi, "Understanding Deep Image Representations by Inverting Them", 2015, section 3.

    Example:
        >>> TotalVariation(beta=2)(torch.tensor([[[[0.0, 3.0], [4.0, 3.0]]]]))
        tensor([26.])
    """

    beta: float = 2.0

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.number("beta", self.beta, 1)

    def value(self, image: Tensor) -> Tensor:
        across = torch.diff(image, dim=-1, append=image[..., -1:]).square()
        down = torch.diff(image, dim=-2, append=image[..., -1:, :]).square()
        squared = across + down
        if self.beta == 2:
            return squared.flatten(1).sum(1)
        flat = squared == 0
        powered = torch.where(flat, 1.0, squared).pow(self.beta / 2)
        return torch.where(flat, 0.0, powered).flatten(1).sum(1)


@dataclass(frozen=True)
class CentreBias(Penalty):
    r""":math:`\sum_p d_p^2 \lVert x_p \rVert^2`, with the distance :math:`d` to the centre, 1 in the corners.

    What the unit wants is drawn once, in the middle, instead of many times all over the image.

    Example:
        >>> CentreBias()(torch.eye(3)[None, None])
        tensor([2.])
    """

    def value(self, image: Tensor) -> Tensor:
        squares = [torch.linspace(-1, 1, n, device=image.device, dtype=image.dtype).square() for n in image.shape[-2:]]
        distance = (squares[0][:, None] + squares[1]) / 2
        return (distance * image.square()).flatten(1).sum(1)
