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
    """Hide the ``counts[j]`` lowest-ranked units of each example, for each j.

    Args:
        rank: ``(N, H, W)`` whole numbers; units of rank 0 are hidden first.
        counts: how many ranks each mask hides; may be ``(K,)``, one curve for all examples.
        reverse: keep the lowest-ranked instead of hiding them (insertion).
    """

    rank: Tensor
    counts: Tensor
    reverse: bool = False

    def __post_init__(self) -> None:
        checks.shape(self.rank, "n h w", "rank")
        checks.shape(self.counts, "k", "counts")

    def __len__(self) -> int:
        return len(self.counts)

    def batch(self, start: int, stop: int, like: Tensor) -> Tensor:
        """Masks ``start`` to ``stop``, ``(k, N, 1, H, W)``."""
        counts = self.counts[start:stop].to(self.rank.device)
        hidden = self.rank[None, :, None] < counts[:, None, None, None, None]
        return (hidden if self.reverse else ~hidden).to(like)
