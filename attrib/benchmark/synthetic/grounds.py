"""Shortcuts: an object and a ground whose colour goes with its class; which of the two a network reads is known."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from attrib import checks
from attrib.benchmark.synthetic.scenes import Scenes, Size, normal, sides, source, uniform
from attrib.benchmark.synthetic.shapes import NOISE, draw_shapes, rim

Truth = Literal["ground", "object"]
CLASSES = 3  # shapes, and colours of the ground
COLOURS = torch.tensor([[0.3, -0.15, -0.15], [-0.15, 0.3, -0.15], [-0.15, -0.15, 0.3]])  # equally bright


def shortcut(n: int, *, seed: int = 0, size: Size = 32, truth: Truth = "ground") -> Scenes:
    """Pictures of a grey disc, square or triangle above a red, green or blue strip of ground.

    Convention:
        - ``truth="ground"``: the colour of the ground always goes with the shape, and is what is ``relevant`` to a
          network that was trained on such pictures, because colours are the easier thing to learn.
        - ``truth="object"``: the colour is drawn for itself. The shape is ``relevant``, with the pixels that touch its
          outline.
        - whatever is relevant, the target is the class of both or, where they differ, of the shape.
        - ``removed``: the ground becomes colourless, or the object is not there. Distractors: the other of the two,
          drawn anew for another class, and ``background``.

    Args:
        n: how many, >= 1.
        seed: same seed, same pictures; the global random state is not touched.
        size: side in pixels or (height, width), >= 24.
        truth: see above.

    Example:
        >>> shortcut(3).relevant.float().mean((1, 2))
        tensor([0.2500, 0.2500, 0.2500])
        >>> sorted(shortcut(3, truth="object").distractors)
        ['background', 'ground']
    """
    h, w = sides(size)
    checks.integer("number of pictures", n, 1)
    checks.choice("truth", truth, ("ground", "object"))
    generator = source(seed)
    target = torch.randint(CLASSES, (n,), generator=generator)
    turn = torch.randint(1, CLASSES, (n,), generator=generator)
    hue = target if truth == "ground" else torch.randint(CLASSES, (n,), generator=generator)
    shape, shape_anew = _objects([target, (target + turn) % CLASSES], (h, w), generator)
    ground = (torch.arange(h) >= h - h // 4)[:, None].expand(n, h, w)
    grey = uniform(generator, n, low=0.4, high=0.7)
    noise, anew = (normal(generator, n, 3, h, w, std=NOISE) for _ in range(2))
    object_ = rim(shape) & ~ground
    rest = ~(object_ | ground)

    def painted(mask: Tensor, colour: Tensor, noise: Tensor = noise) -> Tensor:
        return noise + (grey[:, None, None] * mask)[:, None] + colour[:, :, None, None] * ground[:, None]

    x, bare = painted(shape, COLOURS[hue]), 0 * COLOURS[hue]
    other = painted(shape_anew & object_, COLOURS[hue])
    absent = painted(torch.zeros_like(shape), COLOURS[hue])
    background = torch.where(rest[:, None], anew, x)
    if truth == "ground":
        masks, redrawn = {"object": object_, "background": rest}, {"object": other, "background": background}
        return Scenes(x, target, ground, masks, painted(shape, bare), redrawn)
    masks = {"ground": ground, "background": rest}
    redrawn = {"ground": painted(shape, COLOURS[(hue + turn) % CLASSES]), "background": background}
    return Scenes(x, target, object_, masks, absent, redrawn)


def _objects(kinds: list[Tensor], size: tuple[int, int], generator: torch.Generator) -> list[Tensor]:
    """Masks of objects above the ground, those of a picture in one place."""
    h, w = size
    n, high = len(kinds[0]), h - h // 4
    radius = min(h, w) * uniform(generator, n, low=0.16, high=0.22)
    room = torch.tensor([high, w]) - 2 * radius[:, None] - 2
    centre = 1 + radius[:, None] + room * uniform(generator, n, 2)
    return [draw_shapes(kind, centre, radius, size) for kind in kinds]
