"""What is searched over: pixels, frequencies and colours that natural images have, or the code of a generator."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any, ClassVar

import torch
from torch import Tensor

from attrib import checks
from attrib.core.synth.space import PixelSpace
from attrib.errors import InputError, ShapeError

# Square root of the covariance of the colours of ImageNet's pixels, as published with Lucid.
COLOURS = ((0.26, 0.09, 0.02), (0.27, 0.00, -0.05), (0.27, -0.09, 0.03))


class Parameters(ABC):
    """How parameters become an image; gradients flow back from it.

    ``pixels`` says that parameters are the image itself, so that it can be projected.
    """

    pixels: ClassVar[bool] = False

    @property
    def networks(self) -> tuple[Callable[..., Any], ...]:
        """Networks that take part: in evaluation mode and left as found, as the model itself."""
        return ()

    @abstractmethod
    def encode(self, image: Tensor) -> Tensor:
        """The parameters of a start."""

    @abstractmethod
    def image(self, parameters: Tensor, size: torch.Size) -> Tensor:
        """The network's input, ``(N, C, H, W)``; ``size`` is the shape of the start."""


class Pixels(Parameters):
    """The values of the input themselves."""

    pixels = True

    def encode(self, image: Tensor) -> Tensor:
        return image.clone()

    def image(self, parameters: Tensor, size: torch.Size) -> Tensor:
        return parameters


@dataclass(frozen=True)
class Fourier(Parameters):
    r"""Frequencies of decorrelated colours, each scaled as natural images have it, through a sigmoid.

    .. math:: p = \sigma\big(M\, \mathcal{F}^{-1}(z / \max(f, f_0)^{\gamma})\big), \qquad x = (p - \mu) / \sigma_c

    with the frequency :math:`f` in cycles per pixel, :math:`f_0` one cycle per image, and M the square root of the
    covariance of the colours of ImageNet, scaled so that its longest column has norm 1. A step in these coordinates is
    spread over all frequencies, so that no high-frequency pattern wins.

    Convention:
        - the image always lies between black and white, so no bounds are needed.
        - with other than three channels colours are left as they are.

    Args:
        space: how the picture becomes the input.
        decay: the exponent :math:`\gamma`.
        colours: whether to decorrelate.

    References:
        Olah, Mordvintsev and Schubert, "Feature Visualization", 2017, "Preconditioning and Parameterization".

    Example:
        >>> start = torch.rand(1, 3, 9, 6)
        >>> torch.allclose(Fourier().image(Fourier().encode(start), start.shape), start.clamp(0.01, 0.99), atol=1e-4)
        True
    """

    space: PixelSpace = field(default_factory=PixelSpace)
    decay: float = 1.0
    colours: bool = True

    def __post_init__(self) -> None:
        checks.number("decay", self.decay, 0)

    @cached_property
    def _mix(self) -> Tensor:
        matrix = torch.tensor(COLOURS, dtype=torch.float64)
        scaled: Tensor = matrix / matrix.norm(dim=0).max()
        return scaled

    def _scale(self, size: torch.Size, like: Tensor) -> Tensor:
        return _scale(size[-2], size[-1], self.decay, like.dtype, like.device)

    def encode(self, image: Tensor) -> Tensor:
        checks.shape(image, "n c h w", "start")
        if image.dtype not in (torch.float32, torch.float64):
            raise InputError(
                f"start must be float32 or float64 where frequencies are searched over; got {image.dtype}. Convert the "
                "network with .float(), or search over Pixels()."
            )
        picture = self.space.to_picture(image).clamp(0.01, 0.99).logit()
        if self._mixed(image):
            picture = torch.einsum("dc,ncij->ndij", torch.linalg.inv(self._mix).to(image), picture)
        spectrum = torch.view_as_real(torch.fft.rfft2(picture, norm="ortho"))
        return spectrum / self._scale(image.shape, image)

    def image(self, parameters: Tensor, size: torch.Size) -> Tensor:
        spectrum = torch.view_as_complex((parameters * self._scale(size, parameters)).contiguous())
        picture = torch.fft.irfft2(spectrum, s=list(size[-2:]), norm="ortho")
        if self._mixed(picture):
            picture = torch.einsum("cd,ndij->ncij", self._mix.to(picture), picture)
        return self.space.to_input(picture.sigmoid())

    def _mixed(self, image: Tensor) -> bool:
        return self.colours and image.shape[1] == 3


@lru_cache(maxsize=8)  # asked for twice in every step
def _scale(high: int, wide: int, decay: float, dtype: torch.dtype, device: torch.device) -> Tensor:
    """What each frequency is multiplied with, ``(H, W // 2 + 1, 1)``."""
    down, across = torch.fft.fftfreq(high), torch.fft.rfftfreq(wide)
    frequency = (down[:, None].square() + across.square()).sqrt().clamp_min(1 / max(high, wide))
    scale: Tensor = frequency.pow(-decay).to(device, dtype)[..., None]
    return scale


@dataclass(frozen=True)
class Generated(Parameters):
    """The code of a generator: any callable from a code ``(N, ...)`` to inputs ``(N, C, H, W)``.

    Its output is what the network takes; compose it with a normalisation where it makes pictures.

    References:
        Nguyen et al., "Synthesizing the preferred inputs for neurons in neural networks via deep generator networks",
        2016.
    """

    generator: Callable[[Tensor], Tensor]

    def __post_init__(self) -> None:
        if not callable(self.generator):
            raise InputError(f"generator must be a callable; got {type(self.generator).__name__}.")

    @property
    def networks(self) -> tuple[Callable[..., Any], ...]:
        return (self.generator,)

    def encode(self, image: Tensor) -> Tensor:
        return image.clone()

    def image(self, parameters: Tensor, size: torch.Size) -> Tensor:
        made: object = self.generator(parameters)
        if not isinstance(made, Tensor) or len(made) != len(parameters):
            got = tuple(made.shape) if isinstance(made, Tensor) else type(made).__name__
            raise ShapeError(f"generator must give one image per code, ({len(parameters)}, C, H, W); got {got}.")
        return made
