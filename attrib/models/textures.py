"""Generated pictures of stripes that are not quite straight: which frequency and direction each has is known."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from attrib import checks

FREQUENCIES = (0.07, 0.14, 0.28)  # cycles per pixel
DIRECTIONS = 4  # 0, 45, 90 and 135 degrees
SPREAD, TURN = 0.2, 18.0  # of a class: part of its frequency, and degrees


def textures(
    n: int,
    *,
    seed: int = 0,
    size: int = 64,
    frequencies: Sequence[float] = FREQUENCIES,
    directions: int = DIRECTIONS,
    contrast: float = 0.6,
) -> tuple[Tensor, Tensor]:
    """Draw ``n`` pictures of stripes on clouds: noise with energy around one frequency and direction for each class.

    Convention:
        - class ``i * directions + j`` has waves of ``frequencies[i]`` cycles per pixel that run at
          ``180 / directions * j`` degrees from the horizontal: 0 is vertical stripes.
        - stripes have a deviation of ``contrast``, and colours that differ a little; the clouds, whose energy falls
          with the square of frequency as in photos, have 1. The mean of a picture is 0.

    Args:
        n: how many, >= 1.
        seed: same seed, same pictures; the global random state is not touched.
        size: side in pixels.
        frequencies: cycles per pixel, up to 0.5.
        directions: how many.
        contrast: of the stripes.

    Returns:
        Pictures ``(n, 3, size, size)`` and classes ``(n,)``.

    Example:
        >>> x, labels = textures(100)
        >>> x.shape, int(labels.max())
        (torch.Size([100, 3, 64, 64]), 11)
    """
    checks.integer("number of pictures", n, 1)
    checks.integer("size", size, 8)
    waves = [checks.number("frequency", one, 1 / size, 0.5) for one in frequencies]
    checks.number("contrast", contrast, 0)
    source = torch.Generator().manual_seed(checks.integer("seed", seed, 0))
    labels = torch.randint(len(waves) * checks.integer("directions", directions, 1), (n,), generator=source)
    across = torch.fft.fftfreq(size)
    radius = torch.hypot(across[:, None], across)
    angle = torch.atan2(across[:, None], across.expand(size, -1)).rad2deg()
    bands = torch.stack([_band(radius, angle, one, 180 / directions * j) for one in waves for j in range(directions)])
    colours = 0.7 * torch.randn(n, 1, size, size, generator=source) + 0.3 * torch.randn(
        n, 3, size, size, generator=source
    )
    stripes = _filtered(colours, bands[labels][:, None])
    clouds = _filtered(torch.randn(n, 3, size, size, generator=source), 1 / (radius + 1 / size) * (radius > 0))
    return contrast * stripes + clouds, labels


def _band(radius: Tensor, angle: Tensor, frequency: float, degrees: float) -> Tensor:
    turned = (angle - degrees + 90) % 180 - 90
    return torch.exp(-0.5 * ((radius - frequency) / (SPREAD * frequency)) ** 2 - 0.5 * (turned / TURN) ** 2)


def _filtered(noise: Tensor, by: Tensor) -> Tensor:
    """Noise with this amplitude at each frequency, and a deviation of 1 in every picture."""
    found: Tensor = torch.fft.ifft2(torch.fft.fft2(noise) * by).real
    return found / found.std((1, 2, 3), keepdim=True)
