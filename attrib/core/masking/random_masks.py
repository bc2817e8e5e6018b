"""Soft random masks: a coarse grid of cells that are kept or hidden, enlarged and shifted."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from attrib.core.reduce import upsample


@dataclass(frozen=True)
class RandomGrid:
    """Each cell of a coarse grid is kept with probability ``p``; the grid is enlarged bilinearly and shifted at random.

    The grid covers one cell more than the map along each axis, and the map is cut out of it at a random offset within
    one cell, so that no border of cells has a place of its own. At every place the mean of all masks is ``p``.

    Mask ``i`` is drawn from place ``i`` of a counter-based stream: it does not depend on how many masks are made at
    once, or before it, and nothing is kept.

    Args:
        size: of what is masked, ``(h, w)`` or any other number of axes.
        count: how many masks.
        cells: of the grid, one number per axis.
        p: probability of keeping a cell.
        seed: of the stream.
    """

    size: tuple[int, ...]
    count: int
    cells: tuple[int, ...]
    p: float
    seed: int

    def __len__(self) -> int:
        return self.count

    @property
    def side(self) -> tuple[int, ...]:
        """The side of an enlarged cell; the cells cover the map and more."""
        return tuple(-(-length // cells) for length, cells in zip(self.size, self.cells, strict=True))

    def draw(self, position: int) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
        """The cells that mask ``position`` keeps, and where the map is cut out along each axis."""
        source = np.random.Generator(np.random.Philox(key=self.seed, counter=(0, 0, 0, position)))
        return source.random(self.cells) < self.p, source.integers(0, self.side)

    def batch(self, start: int, stop: int, like: Tensor) -> Tensor:
        """Masks ``start`` to ``stop``, ``(k, 1, 1, *size)``."""
        return self.at(torch.arange(start, stop), like)

    def at(self, positions: Tensor, like: Tensor) -> Tensor:
        """Masks ``positions (k,)``, ``(k, 1, 1, *size)``."""
        drawn = [self.draw(position) for position in positions.tolist()]
        keep = torch.from_numpy(np.stack([cells for cells, _ in drawn])).to(like)
        offsets = np.stack([offset for _, offset in drawn], 1)
        for axis, lines in enumerate(self._lines(like)):  # bilinear means linear along one axis after the other
            length = self.size[axis]
            weights = torch.stack([lines[offset : offset + length] for offset in offsets[axis].tolist()])
            moved = keep.movedim(axis + 1, -1)
            rows = torch.bmm(moved.reshape(len(keep), -1, moved.shape[-1]), weights.transpose(1, 2))
            keep = rows.reshape(*moved.shape[:-1], length).movedim(-1, axis + 1)
        return keep[:, None, None].contiguous()

    def _lines(self, like: Tensor) -> list[Tensor]:
        """Linear enlargement along each axis, ``((cells + 1) * side, cells)``."""
        eyes = [torch.eye(cells, dtype=like.dtype, device=like.device)[:, None] for cells in self.cells]
        return [
            upsample(eye, ((len(eye) + 1) * side,))[:, 0].T.contiguous()
            for eye, side in zip(eyes, self.side, strict=True)
        ]
