"""From a picture to what a network expects, with the geometry kept: the crop that it sees can be drawn under a map."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from attrib import checks
from attrib.errors import InputError
from attrib.io.images import as_array, as_image, as_rgb

IMAGENET_MEAN = (0.485, 0.456, 0.406)  # what nearly every ImageNet recipe since 2015 has used
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Preprocess:
    r"""Resize the shorter side, cut the centre, scale to [0, 1], normalise; equal to torchvision's evaluation recipe.

    .. math:: x_c = \frac{p_c / 255 - \mu_c}{\sigma_c}

    Convention:
        - an image to ``(C, crop, crop)`` float32; ``C`` is the length of ``mean``: 3 for RGB, 1 for grey.
        - ``resize`` sets the *shorter* side in pixels; the longer keeps the aspect ratio, rounded down.
        - Pillow resizes, with antialiasing. It is done here, without torchvision, which need not be installed.

    Args:
        resize: shorter side after resizing, pixels, at least ``crop``.
        crop: side of the central square, pixels.
        mean: of each channel, for values in [0, 1].
        std: of each channel, for values in [0, 1].
        interpolation: Pillow's filter for the resize.

    Example:
        >>> Preprocess(resize=256, crop=224)(Image.new("RGB", (640, 480))).shape
        torch.Size([3, 224, 224])
    """

    resize: int
    crop: int
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    interpolation: Literal["nearest", "bilinear", "bicubic", "lanczos"] = "bilinear"

    def __post_init__(self) -> None:
        checks.integer("crop", self.crop, 1)
        checks.integer("resize", self.resize, 1)
        checks.choice("interpolation", self.interpolation, ("nearest", "bilinear", "bicubic", "lanczos"))
        if self.resize < self.crop:
            raise InputError(f"resize must be at least crop={self.crop}; got {self.resize}.")
        if len(self.mean) not in {1, 3} or len(self.mean) != len(self.std):
            raise InputError(f"mean and std must both have 1 or 3 values; got {self.mean} and {self.std}.")
        if not all(np.isfinite(self.mean)) or not all(0 < value < float("inf") for value in self.std):
            raise InputError(f"mean must be finite and std positive; got {self.mean} and {self.std}.")

    def __call__(self, image: Image.Image) -> Tensor:
        """The crop as a normalised float32 tensor ``(C, crop, crop)``."""
        pixels = torch.from_numpy(np.array(self._crop(image))).reshape(self.crop, self.crop, -1)
        unit = pixels.permute(2, 0, 1).contiguous().float().div(255)
        mean, std = (torch.tensor(value).reshape(-1, 1, 1) for value in (self.mean, self.std))
        return (unit - mean) / std

    def view(self, image: Image.Image) -> Image.Image:
        """The crop that the network sees, not normalised, as an RGB image ``crop`` x ``crop``."""
        return self._crop(image).convert("RGB")

    def _crop(self, image: Image.Image) -> Image.Image:
        picture = as_rgb(image) if len(self.mean) == 3 else as_rgb(image).convert("L")
        width, height = picture.size
        short = min(width, height)
        size = tuple(self.resize if side == short else int(self.resize * side / short) for side in (width, height))
        if size != picture.size:
            picture = picture.resize(size, Image.Resampling[self.interpolation.upper()])  # type: ignore[arg-type]
        left, top = (round((side - self.crop) / 2) for side in size)  # halves to even, as torchvision's center_crop
        return picture.crop((left, top, left + self.crop, top + self.crop))


def statistics(preprocess: object) -> tuple[tuple[float, ...] | None, tuple[float, ...] | None]:
    """The mean and standard deviation that ``preprocess`` normalises with, where it tells.

    They are read from its attributes ``mean`` and ``std``, or those of the last of its ``transforms`` that has them.
    """
    for step in (preprocess, *reversed(list(getattr(preprocess, "transforms", ())))):
        mean, std = getattr(step, "mean", None), getattr(step, "std", None)
        if mean is not None and std is not None:
            return _floats(mean), _floats(std)
    return None, None


def view(
    image: Image.Image,
    preprocess: Callable[[Image.Image], Tensor],
    mean: tuple[float, ...] | None,
    std: tuple[float, ...] | None,
) -> Image.Image:
    """What the network sees of ``image``: ``preprocess.view``, or its output with the normalisation taken back."""
    own = getattr(preprocess, "view", None)
    if callable(own):
        return as_rgb(own(image))
    x = preprocess(image).detach().cpu().float()
    if mean is not None and std is not None:
        x = x * torch.tensor(std).reshape(-1, 1, 1) + torch.tensor(mean).reshape(-1, 1, 1)
    if x.min() < -0.01 or x.max() > 1.01:  # bicubic resizing of floats may overshoot by less
        raise InputError(
            f"preprocess must be reversible to draw under a map; got values in [{x.min():.3g}, {x.max():.3g}] after "
            f"taking back mean={mean}, std={std}. Give the LoadedModel its mean and std, or preprocess a method view."
        )
    pixels = x.clamp(0, 1).mul(255).round().byte().permute(1, 2, 0).numpy()
    return as_image(pixels if pixels.shape[2] == 3 else as_array(Image.fromarray(pixels[:, :, 0])))


def _floats(values: object) -> tuple[float, ...]:
    return tuple(float(value) for value in torch.as_tensor(values, dtype=torch.float64).flatten().tolist())
