"""Scenes: generated pictures, where in them the class is, and the same pictures with parts taken away or drawn anew."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from attrib import checks
from attrib.errors import InputError

Size = int | tuple[int, int]


@dataclass(frozen=True, eq=False)
class Scenes:
    """Pictures with a known answer, and what it takes to prove it.

    Attributes:
        x: ``(N, C, H, W)``, model-ready: 0 is the colour of the ground, so that a hidden pixel looks like nothing.
        target: ``(N,)``, the class that is asked for.
        relevant: bool ``(N, H, W)``, the pixels that carry the class: they depend on it, and no others do.
        distractors: bool ``(N, H, W)`` each, by name: what else is to be seen. Disjoint from ``relevant``; together
            they fill the picture.
        removed: ``x`` with the class gone: other pixels than ``relevant`` are as in ``x``.
        redrawn: for each distractor, ``x`` with that distractor drawn anew, all other pixels as in ``x``.
    """

    x: Tensor
    target: Tensor
    relevant: Tensor
    distractors: Mapping[str, Tensor]
    removed: Tensor
    redrawn: Mapping[str, Tensor]

    def __post_init__(self) -> None:
        n, _, h, w = checks.shape(self.x, "n c h w", "x").shape
        checks.shape(self.target, "n", "target", n=n)
        for name, mask in {"relevant": self.relevant, **self.distractors}.items():
            checks.shape(mask, "n h w", name, n=n, h=h, w=w)
        if not (self.relevant.long() + sum(m.long() for m in self.distractors.values()) == 1).all():
            raise InputError("each pixel must be either relevant or of one distractor; got some that are none or both.")
        if set(self.redrawn) != set(self.distractors):
            raise InputError(f"redrawn must hold {sorted(self.distractors)}; got {sorted(self.redrawn)}.")

    def __len__(self) -> int:
        return len(self.x)


Draw = Callable[[int, int], Scenes]  # how many, seed


def sides(size: Size, multiple: int = 1, low: int = 24) -> tuple[int, int]:
    """Height and width, checked."""
    pair = (size, size) if isinstance(size, int) else tuple(size)
    if len(pair) != 2:
        raise InputError(f"size must be a number of pixels or (height, width); got {size!r}.")
    h, w = (checks.integer("size", side, low) for side in pair)
    if h % multiple or w % multiple:
        raise InputError(f"size must be a multiple of {multiple}, which is what is pooled; got {h} x {w}.")
    return h, w


def source(seed: int) -> torch.Generator:
    """A generator of random numbers of its own."""
    return torch.Generator().manual_seed(checks.integer("seed", seed, 0))


def uniform(generator: torch.Generator, *shape: int, low: float = 0.0, high: float = 1.0) -> Tensor:
    """Uniform numbers between ``low`` and ``high``."""
    return low + (high - low) * torch.rand(*shape, generator=generator)


def normal(generator: torch.Generator, *shape: int, std: float = 1.0) -> Tensor:
    """Normal numbers around 0."""
    return std * torch.randn(*shape, generator=generator)


def several_seeds(seed: int, number: int) -> list[int]:
    """Seeds for things that must be independent of each other."""
    # not `randint`, whose large numbers are others in newer versions of torch
    return torch.empty(number, dtype=torch.int64).random_(generator=source(seed)).remainder(2**31).tolist()


@contextmanager
def one_thread() -> Iterator[None]:
    """Run the block on one thread: sums are then taken in the same order on every run."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
