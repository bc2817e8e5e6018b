"""Several objects: two classes in each picture; a map of one must not show the other."""

from __future__ import annotations

import torch
from torch import Tensor

from attrib import checks
from attrib.benchmark.synthetic.scenes import Scenes, Size, normal, sides, source, uniform
from attrib.benchmark.synthetic.shapes import NOISE, SHAPES, draw_shapes, rim

OBJECTS = 2


def several(n: int, *, seed: int = 0, size: Size = 32) -> Scenes:
    """Pictures of two objects of different shapes, in two quarters of the picture and of any colour.

    Convention:
        - the target is one of the two; ``relevant`` is its object, with the pixels that touch its outline.
        - ``removed``: that object is not there. Distractors: ``other`` (the object that was not asked for, which is not
          there when drawn anew) and ``background``.

    Args:
        n: how many, >= 1.
        seed: same seed, same pictures; the global random state is not touched.
        size: side in pixels or (height, width), >= 24.

    Example:
        >>> scenes = several(3)
        >>> scenes.target, sorted(scenes.distractors)
        (tensor([2, 0, 2]), ['background', 'other'])
    """
    return _drawn(n, seed, size)[0]


def with_presence(n: int, *, seed: int = 0, size: Size = 32) -> tuple[Tensor, Tensor]:
    """What a network learns from: such pictures, some of them of one object, and which classes are there ``(N, 4)``."""
    scenes, kinds = _drawn(n, seed, size)
    present = torch.zeros(n, len(SHAPES)).scatter_(1, kinds, 1)
    alone = torch.arange(n) % 4 == 1
    present[alone, scenes.target[alone]] = 0
    return torch.where(alone[:, None, None, None], scenes.removed, scenes.x), present


def _drawn(n: int, seed: int, size: Size) -> tuple[Scenes, Tensor]:
    h, w = sides(size)
    checks.integer("number of pictures", n, 1)
    generator = source(seed)
    kinds, quarter = (torch.rand(n, 4, generator=generator).argsort(1)[:, :OBJECTS] for _ in range(2))
    radius = min(h, w) * uniform(generator, n, OBJECTS, low=0.15, high=0.19)
    half = torch.tensor([h, w]) / 2
    room = half - 2 * radius[..., None] - 3
    corner = torch.stack([quarter // 2, quarter % 2], -1) * half
    shape = draw_shapes(
        kinds, corner + 1.5 + radius[..., None] + room * uniform(generator, n, OBJECTS, 2), radius, (h, w)
    )
    colour = uniform(generator, n, OBJECTS, 3, low=0.2, high=0.8)
    noise, anew = (normal(generator, n, 3, h, w, std=NOISE) for _ in range(2))
    one, other = (torch.einsum("nhw,nc->nchw", shape[:, i].float(), colour[:, i]) for i in range(OBJECTS))
    mask, second = rim(shape).unbind(1)
    rest = ~(mask | second)
    x = noise + one + other
    redrawn = {"other": noise + one, "background": torch.where(rest[:, None], anew, x)}
    return Scenes(x, kinds[:, 0], mask, {"other": second, "background": rest}, noise + other, redrawn), kinds
