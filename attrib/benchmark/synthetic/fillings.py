"""Textures: the class is how an object is filled, whatever its shape; a plain one of equal brightness distracts."""

from __future__ import annotations

import torch
from torch import Tensor

from attrib import checks
from attrib.benchmark.synthetic.scenes import Scenes, Size, normal, sides, source, uniform
from attrib.benchmark.synthetic.shapes import NOISE, SHAPES, draw_shapes

CLASSES = 3  # horizontal, vertical, checked
BRIGHTNESS, CONTRAST = 0.4, 0.3


def textures(n: int, *, seed: int = 0, size: Size = 32) -> Scenes:
    """Pictures of one object with horizontal, vertical or checked stripes, and a plain one.

    Convention:
        - the shapes of both objects are drawn for themselves and say nothing about the class; ``relevant`` is the
          striped object without a rim.
        - ``removed``: the object stays, but plain. Distractors: ``plain`` (not there when drawn anew), ``background``.

    Args:
        n: how many, >= 1.
        seed: same seed, same pictures; the global random state is not touched.
        size: side in pixels or (height, width), >= 24.

    Example:
        >>> scenes = textures(3)
        >>> scenes.x.shape, sorted(scenes.distractors)
        (torch.Size([3, 3, 32, 32]), ['background', 'plain'])
    """
    h, w = sides(size)
    checks.integer("number of pictures", n, 1)
    generator = source(seed)
    target = torch.randint(CLASSES, (n,), generator=generator)
    kinds = torch.randint(len(SHAPES), (n, 2), generator=generator)
    quarter = torch.rand(n, 4, generator=generator).argsort(1)[:, :2]
    half = torch.tensor([h, w]) / 2
    radius = min(h, w) * uniform(generator, n, 2, low=0.19, high=0.22)
    room = half - 2 * radius[..., None] - 1
    corner = torch.stack([quarter // 2, quarter % 2], -1) * half
    place = corner + 0.5 + radius[..., None] + room * uniform(generator, n, 2, 2)
    shape, plain = draw_shapes(kinds, place, radius, (h, w)).unbind(1)
    noise, anew = (normal(generator, n, 3, h, w, std=NOISE) for _ in range(2))
    rest = ~(shape | plain)
    without = noise + BRIGHTNESS * (shape | plain)[:, None]
    x = without + (CONTRAST * _stripes(target, torch.randint(4, (2, n), generator=generator), (h, w)) * shape)[:, None]
    redrawn = {"plain": x - BRIGHTNESS * plain[:, None], "background": torch.where(rest[:, None], anew, x)}
    return Scenes(x, target, shape, {"plain": plain, "background": rest}, without, redrawn)


def _stripes(target: Tensor, phase: Tensor, size: tuple[int, int]) -> Tensor:
    """Bars of two pixels, +1 and -1, ``(N, H, W)``."""
    y, x = ((torch.arange(side) + phase[i, :, None]) // 2 % 2 * 2.0 - 1 for i, side in enumerate(size))
    down, across = y[:, :, None].expand(-1, -1, size[1]), x[:, None, :].expand(-1, size[0], -1)
    return torch.stack([down, across, down * across]).gather(0, target[None, :, None, None].expand(1, -1, *size))[0]
