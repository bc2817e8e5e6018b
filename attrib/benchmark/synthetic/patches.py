"""Planted patches: the class is which code stands somewhere among random signs. The network is a bank of codes."""

from __future__ import annotations

from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attrib import checks
from attrib.benchmark.synthetic.scenes import Scenes, Size, sides, source

CLASSES = 4
PATCH = 7  # side of a code, pixels
POOL = 4
DECOY = 1.5  # its contrast; the code of a class has 1
LOUDEST = 0.67  # the largest response to anything but the code of the class, which gives 1
THRESHOLD = 0.75
LOGIT = 10.0


def planted(n: int, *, seed: int = 0, size: Size = 32) -> Scenes:
    """Pictures of random signs in which one of four codes of 7 x 7 signs is planted, and a decoy of higher contrast.

    Convention:
        - every pixel is +1 or -1, those of the decoy +1.5 or -1.5, whose code belongs to no class: brightness, contrast
          and edges say nothing of where the class is.
        - nothing but the planted code answers a code's filter by more than 0.67 of what the code itself gives (pictures
          are drawn again until that is so), so a network with a higher threshold depends on the patch and nothing else.
        - ``removed``: the patch becomes random signs. Distractors: ``decoy``, ``background``.

    Args:
        n: how many, >= 1.
        seed: same seed, same pictures; the global random state is not touched.
        size: side in pixels or (height, width), multiples of 4, >= 24.

    Example:
        >>> scenes = planted(3)
        >>> scenes.x.shape, scenes.relevant.flatten(1).sum(1)
        (torch.Size([3, 1, 32, 32]), tensor([49, 49, 49]))
    """
    h, w = sides(size, POOL)
    checks.integer("number of pictures", n, 1)
    generator = source(seed)
    target = torch.randint(CLASSES, (n,), generator=generator)
    patch, decoy = _corners(n, h, w, generator)
    where, other = _boxes(patch, h, w), _boxes(decoy, h, w)
    blank = _stamped(torch.zeros(n, h, w), codes()[target], where)
    blank = _stamped(blank, DECOY * codes()[-1:].expand(n, -1, -1), other)
    alone = torch.zeros(n, CLASSES, h, w, dtype=torch.bool)
    alone[torch.arange(n), target, patch[:, 0] + PATCH // 2, patch[:, 1] + PATCH // 2] = True
    rest = ~(where | other)
    x = _filled(blank, rest, alone, generator)
    return Scenes(
        x[:, None],
        target,
        where,
        {"decoy": other, "background": rest},
        _filled(x, where, torch.zeros_like(alone), generator)[:, None],
        {name: _filled(x, part, alone, generator)[:, None] for name, part in (("decoy", other), ("background", rest))},
    )


def matched_filter(size: Size = 32) -> nn.Sequential:
    """The network of `planted`: a filter for each code, the best of 4 x 4 places, a threshold, global average pooling.

    Its score is 10 for the planted class and 0 for all others. The gradient of the score is the code, up to a factor,
    at the patch, and 0 everywhere else.

    Args:
        size: side of the pictures in pixels or (height, width).
    """
    h, w = sides(size, POOL)
    net = nn.Sequential()
    net.add_module("codes", nn.Conv2d(1, CLASSES, PATCH, padding=PATCH // 2))
    net.add_module("pool", nn.MaxPool2d(POOL))
    net.add_module("relu", nn.ReLU())
    net.add_module("gap", nn.AdaptiveAvgPool2d(1))
    net.add_module("flatten", nn.Flatten())
    net.add_module("classes", nn.Linear(CLASSES, CLASSES))
    state = {
        "codes.weight": codes()[:CLASSES, None] / PATCH**2,
        "codes.bias": torch.full((CLASSES,), -THRESHOLD),
        "classes.weight": torch.eye(CLASSES) * LOGIT * (h // POOL) * (w // POOL) / (1 - THRESHOLD),
        "classes.bias": torch.zeros(CLASSES),
    }
    net.load_state_dict(state)
    return net.eval()


@cache
def codes() -> Tensor:
    """Signs ``(5, 7, 7)``, one code per class and the decoy's, chosen to look unlike each other at every shift."""
    drawn = torch.randint(2, (4000, PATCH, PATCH), generator=source(0)) * 2.0 - 1
    drawn = drawn[_likeness(drawn, drawn[:, None], groups=len(drawn)).topk(2)[0][:, 1] < 0.3]
    kept = drawn[:1]
    for code in drawn[1:]:
        if len(kept) <= CLASSES and _likeness(code[None], kept[:, None])[0].amax() < 0.3:
            kept = torch.cat([kept, code[None]])
    return kept


def _likeness(images: Tensor, filters: Tensor, groups: int = 1) -> Tensor:
    """Correlation at every shift ``(N, shifts)``."""
    rows = images[None] if groups > 1 else images[:, None]
    found = F.conv2d(rows, filters, padding=PATCH - 1, groups=groups).abs() / PATCH**2
    return found.reshape(len(images), -1)


def _corners(n: int, h: int, w: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Top left corners of the patch and the decoy, one in each half of the picture, so that they do not touch."""
    long = 0 if h > w else 1
    room = torch.tensor([h - PATCH, w - PATCH])
    room[long] = (h, w)[long] // 2 - PATCH
    first, second = ((torch.rand(n, 2, generator=generator) * (room + 1)).long() for _ in range(2))
    turn = torch.randint(2, (n,), generator=generator)
    first[:, long] += turn * ((h, w)[long] // 2)
    second[:, long] += (1 - turn) * ((h, w)[long] // 2)
    return first, second


def _boxes(corner: Tensor, h: int, w: int) -> Tensor:
    dy, dx = torch.arange(h) - corner[:, :1], torch.arange(w) - corner[:, 1:]
    return ((dy >= 0) & (dy < PATCH))[:, :, None] & ((dx >= 0) & (dx < PATCH))[:, None, :]


def _stamped(pictures: Tensor, patches: Tensor, where: Tensor) -> Tensor:
    return pictures.masked_scatter(where, patches)


def _filled(x: Tensor, where: Tensor, alone: Tensor, generator: torch.Generator) -> Tensor:
    """Fill ``where`` with random signs until no filter is loud but at ``alone``, ``(N, classes, H, W)``."""
    x, left = x.clone(), torch.arange(len(x))
    while len(left):
        signs = torch.randint(2, x[left].shape, generator=generator) * 2.0 - 1
        x[left] = torch.where(where[left], signs, x[left])
        found = F.conv2d(x[left, None], codes()[:CLASSES, None], padding=PATCH // 2) / PATCH**2
        left = left[found.masked_fill(alone[left], 0).flatten(1).amax(1) > LOUDEST]
    return x
