"""Generated pictures of two coloured shapes, with captions and masks: what a caption's words are about is known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from attrib import checks
from attrib.errors import InputError, did_you_mean

COLOURS = {
    "blue": (0.1, 0.2, 0.9),
    "green": (0.1, 0.7, 0.2),
    "red": (0.9, 0.1, 0.1),
    "yellow": (0.9, 0.85, 0.1),
}
SHAPES = ("circle", "square", "triangle")
PLACES = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}  # and seen from the other
PAD, START, END = 0, 1, 2
VOCABULARY = ("<pad>", "<start>", "<end>", *COLOURS, *SHAPES, "left", "right", "of", "above", "below")
LENGTH = 7  # red circle left of blue square <end>


def encode(captions: Sequence[str]) -> Tensor:
    """Captions as numbers of words ``(N, 7)``: an end, then padding.

    Example:
        >>> encode(["red circle above blue square"])
        tensor([[ 5,  7, 13,  3,  8,  2,  0]])
    """
    rows = torch.full((len(captions), LENGTH), PAD)
    for row, caption in zip(rows, captions, strict=True):
        words = caption.split()
        for word in words:
            if word not in VOCABULARY:
                raise InputError(f"captions must be of known words; got {word!r}.{did_you_mean(word, VOCABULARY)}")
        if len(words) >= LENGTH:
            raise InputError(f"captions must have at most {LENGTH - 1} words; got {caption!r}.")
        row[: len(words) + 1] = torch.tensor([*map(VOCABULARY.index, words), END])
    return rows


def decode(tokens: Tensor) -> list[str]:
    """Numbers of words ``(N, T)`` as captions, each up to its end.

    Example:
        >>> decode(encode(["red circle above blue square"]))
        ['red circle above blue square']
    """
    captions = []
    for row in tokens.tolist():
        words = row[: row.index(END)] if END in row else row
        captions.append(" ".join(VOCABULARY[word] for word in words if word != PAD))
    return captions


@dataclass(frozen=True, eq=False)
class Scenes:
    """Pictures, what is said of them, and where it is.

    Attributes:
        x: ``(N, 3, size, size)`` in [0, 1], on grey ground of 0.5 with noise.
        captions: such as ``"red circle left of yellow square"``; the colours differ, and either shape may come first.
        tokens: the captions as numbers of words ``(N, 7)``, see `encode`.
        masks: pixels of the first and the second shape that the caption names, booleans ``(N, 2, size, size)``.
    """

    x: Tensor
    captions: list[str]
    tokens: Tensor
    masks: Tensor

    def __len__(self) -> int:
        return len(self.x)


def coloured_shapes(n: int, *, seed: int = 0, size: int = 32, noise: float = 0.05) -> Scenes:
    """Draw ``n`` pictures of two shapes that do not touch.

    Args:
        n: how many, >= 1.
        seed: same seed, same pictures; the global random state is not touched.
        size: side in pixels, >= 24.
        noise: standard deviation of the ground and the shapes.

    Example:
        >>> scenes = coloured_shapes(100)
        >>> scenes.captions[0], scenes.x.shape
        ('red triangle left of yellow triangle', torch.Size([100, 3, 32, 32]))
    """
    checks.integer("number of pictures", n, 1)
    checks.integer("size", size, 24)
    checks.number("noise", noise, 0)
    source = torch.Generator().manual_seed(checks.integer("seed", seed, 0))
    colours = torch.rand(n, len(COLOURS), generator=source).argsort(1)[:, :2]
    kinds = torch.randint(len(SHAPES), (n, 2), generator=source)
    place = torch.randint(len(PLACES), (n,), generator=source)
    masks = _drawn(kinds, _centres(place, source) * size, size * (0.13 + 0.05 * _uniform(source, n, 2)), size)
    palette = torch.tensor(list(COLOURS.values()))
    painted = torch.einsum("nsc,nshw->nchw", palette[colours], masks.float())
    x = torch.where(masks.any(1, keepdim=True), painted, 0.5) + noise * torch.randn(painted.shape, generator=source)
    names, places = list(COLOURS), list(PLACES)
    captions = [
        f"{names[a]} {SHAPES[i]} {places[at]} {names[b]} {SHAPES[j]}"
        for (a, b), (i, j), at in zip(colours.tolist(), kinds.tolist(), place.tolist(), strict=True)
    ]
    return Scenes(x.clamp(0, 1), captions, encode(captions), masks)


def turned(caption: str) -> str:
    """The same picture described from the other shape.

    Example:
        >>> turned("red circle left of blue square")
        'blue square right of red circle'
    """
    words = caption.split()
    first, place, second = words[:2], " ".join(words[2:-2]), words[-2:]
    return " ".join([*second, PLACES[place], *first])


def _uniform(source: torch.Generator, *shape: int) -> Tensor:
    return torch.rand(*shape, generator=source)


def _centres(place: Tensor, source: torch.Generator) -> Tensor:
    """``(N, 2, 2)``: y and x of both shapes in [0, 1]; far apart along one axis, nearer each other along the other."""
    n = len(place)
    low, high = 0.2 + 0.07 * _uniform(source, n), 0.73 + 0.07 * _uniform(source, n)
    along = torch.where((place % 2 == 0)[:, None], torch.stack([low, high], 1), torch.stack([high, low], 1))
    across = (0.35 + 0.3 * _uniform(source, n, 1)) + 0.1 * (2 * _uniform(source, n, 2) - 1)
    sideways = (place < 2)[:, None]  # left of, right of
    return torch.stack([torch.where(sideways, across, along), torch.where(sideways, along, across)], -1)


def _drawn(kinds: Tensor, centres: Tensor, radius: Tensor, size: int) -> Tensor:
    """Masks ``(N, 2, size, size)`` of the shapes."""
    grid = torch.arange(size) + 0.5
    dy = grid[:, None] - centres[..., 0, None, None]
    dx = grid - centres[..., 1, None, None]
    r = radius[..., None, None]
    circle = dy**2 + dx**2 <= r**2
    square = torch.maximum(dy.abs(), dx.abs()) <= 0.9 * r
    triangle = (dy <= 0.8 * r) & (dx.abs() * 1.8 <= dy + r)  # on its base
    kind = kinds[..., None, None]
    return torch.where(kind == 0, circle, torch.where(kind == 1, square, triangle))
