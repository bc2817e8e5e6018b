"""Masks of locations, where an activation holds its locations; and windows back on the map."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from attrib.core.masking.masks import Masks, Windows, inside
from attrib.core.network.geometry import Layout
from attrib.core.query import Query
from attrib.core.reduce import widened
from attrib.errors import ShapeError


@dataclass(frozen=True)
class _Placed:
    masks: Masks
    layout: Layout

    def __len__(self) -> int:
        return len(self.masks)

    def batch(self, start: int, stop: int, like: Tensor) -> Tensor:
        """Masks ``start`` to ``stop``."""
        keep = self.masks.batch(start, stop, like)
        if self.layout.kind == "channels_last":
            return keep.movedim(2, -1)
        return F.pad(keep.flatten(3), (self.layout.prefix, 0), value=1.0).movedim(2, -1)


@dataclass(frozen=True)
class Place:
    """Where parts are hidden: which input, the layout of the layer (None for an input), and the locations."""

    index: int
    layout: Layout | None
    size: tuple[int, ...]


def places(query: Query) -> list[Place]:
    """The layer of a question, or each of its inputs."""
    if query.layer:
        layout = query.layout(query.clean.acts[query.layer])
        return [Place(0, layout, layout.size)]
    for x in query.inputs:
        if not 3 <= x.ndim <= 5:
            raise ShapeError(f"inputs must have locations to hide, (N, C, H, W); got {tuple(x.shape)}.")
    return [Place(index, None, tuple(x.shape[2:])) for index, x in enumerate(query.inputs)]


def placed(masks: Masks, layout: Layout | None) -> Masks:
    """``masks (k, 1 or N, 1, *locations)`` for an activation in another layout; tokens without a location are kept."""
    return masks if layout is None or layout.kind == "channels_first" else _Placed(masks, layout)


class Overlap:
    """The mean over the windows that cover each place, of one value per window and example, in float32 or better.

    Args:
        windows: all of them.
        like: ``(N,)``, of which dtype and device are taken.
    """

    def __init__(self, windows: Windows, like: Tensor) -> None:
        self.windows = windows
        self.total = widened(like).new_zeros(len(like), 1, *windows.size)
        self.cover = like.new_zeros(windows.size, dtype=torch.int64)

    def add(self, positions: Tensor, values: Tensor) -> None:
        """Add ``values (k, N)`` of the windows at ``positions (k,)``."""
        ones = (1,) * len(self.windows.size)
        for position, value in zip(positions.tolist(), values, strict=True):
            where = inside(self.windows.boxes[position])
            self.total[(slice(None), slice(None), *where)] += value.reshape(-1, 1, *ones)
            self.cover[where] += 1

    @property
    def mean(self) -> Tensor:
        """``(N, 1, *size)``."""
        return self.total / self.cover


def overlap_mean(windows: Windows, values: Tensor) -> Tensor:
    """`Overlap` of all windows at once: ``values (K, N)`` to ``(N, 1, *size)``."""
    found = Overlap(windows, values[0])
    found.add(torch.arange(len(windows)), values)
    return found.mean
