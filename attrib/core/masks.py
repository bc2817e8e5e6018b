"""Where to hide. Mask sets are lazy: ``batch`` makes the masks of one forward pass only.

``keep`` masks hold 1 where the input is kept and 0 where it takes the baseline, with shape
``(k, 1 or N, 1 or C, H, W)``: masks, examples, channels, height, width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

import torch
from torch import Tensor

from attrib import checks
from attrib.errors import InputError


class Masks(Protocol):
    """A set of keep-masks."""

    def __len__(self) -> int:
        """Number of masks."""

    def batch(self, start: int, stop: int, like: Tensor) -> Tensor:
        """Masks ``start`` to ``stop`` with the dtype and device of ``like``."""


@dataclass(frozen=True)
class Given:
    """Masks that are already a Tensor ``(K, 1 or N, 1 or C, H, W)``."""

    keep: Tensor

    def __post_init__(self) -> None:
        checks.shape(self.keep, "k n c h w", "keep masks")

    def __len__(self) -> int:
        return len(self.keep)

    def batch(self, start: int, stop: int, like: Tensor) -> Tensor:
        """Masks ``start`` to ``stop``."""
        return self.keep[start:stop].to(like)


def _starts(length: int, window: int, stride: int, edge: str) -> list[int]:
    last = max(length - window, 0)
    starts = list(range(0, last, stride))
    reach = starts[-1] + stride if starts else 0
    return [*starts, last if edge == "full" else reach]


@dataclass(frozen=True)
class Windows:
    """A sliding window that hides what is under it; together the windows cover every pixel.

    Args:
        size: height and width of what is masked.
        window: height and width of the window; one larger than the map covers all of it.
        stride: step of the window, at most its size.
        edge: ``"full"`` moves the last window back so that it keeps its size; ``"cut"`` lets it hang over the border
            (as Captum does), which hides less there.
    """

    size: tuple[int, int]
    window: tuple[int, int]
    stride: tuple[int, int]
    edge: Literal["full", "cut"] = "full"
    boxes: Sequence[tuple[int, int, int, int]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        checks.choice("edge", self.edge, ("full", "cut"))
        for axis, (length, window, stride) in zip(
            "yx", zip(self.size, self.window, self.stride, strict=True), strict=True
        ):
            if stride > window and window < length:
                raise InputError(
                    f"stride must be at most the window, so that every pixel is hidden once; got stride {stride} for a "
                    f"window of {window} along {axis}."
                )
        (h, w), (wh, ww), (sh, sw) = self.size, self.window, self.stride
        rows, columns = _starts(h, wh, sh, self.edge), _starts(w, ww, sw, self.edge)
        boxes = tuple((y, min(y + wh, h), x, min(x + ww, w)) for y in rows for x in columns)
        object.__setattr__(self, "boxes", boxes)

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of window positions."""
        columns = len({box[2] for box in self.boxes})
        return len(self.boxes) // columns, columns

    def __len__(self) -> int:
        return len(self.boxes)

    def batch(self, start: int, stop: int, like: Tensor) -> Tensor:
        """Masks ``start`` to ``stop``, ``(k, 1, 1, H, W)``."""
        boxes = self.boxes[start:stop]
        keep = torch.ones(len(boxes), 1, 1, *self.size, dtype=like.dtype, device=like.device)
        for mask, (top, bottom, left, right) in zip(keep, boxes, strict=True):
            mask[..., top:bottom, left:right] = 0
        return keep


@dataclass(frozen=True)
class Ranked:
    """Hide the lowest-ranked units of each example, so many in each mask.

    Args:
        rank: ``(N, H, W)`` whole numbers, units of rank 0 are hidden first; or several orders, ``(L, N, H, W)``. Masks
            are made on its device, where the rest is moved once.
        counts: how many ranks each mask hides, ``(K,)``, or ``(K, N)`` if examples differ.
        reverse: keep the lowest-ranked instead of hiding them (insertion); or which masks do, ``(K, N)``.
        order: which of the orders each mask follows, ``(K, N)``; None for a single one.
    """

    rank: Tensor
    counts: Tensor
    reverse: bool | Tensor = False
    order: Tensor | None = None

    def __post_init__(self) -> None:
        checks.shape(self.rank, "n h w" if self.order is None else "l n h w", "rank")
        checks.shape(self.counts, "k" if self.counts.ndim == 1 else "k n", "counts")
        for name in ("counts", "reverse", "order"):
            if isinstance(value := getattr(self, name), Tensor):
                object.__setattr__(self, name, value.to(self.rank.device))

    def __len__(self) -> int:
        return len(self.counts)

    def batch(self, start: int, stop: int, like: Tensor) -> Tensor:
        """Masks ``start`` to ``stop``, ``(k, N, 1, H, W)``."""
        counts, reverse, rank = self.counts[start:stop], self.reverse, self.rank
        if self.order is not None:
            rank = rank[self.order[start:stop], torch.arange(rank.shape[1], device=rank.device)]
        hidden = rank < (counts[:, None] if counts.ndim == 1 else counts)[..., None, None]
        if isinstance(reverse, Tensor):
            return (hidden == reverse[start:stop, :, None, None])[:, :, None].to(like)
        return (hidden if reverse else ~hidden)[:, :, None].to(like)
