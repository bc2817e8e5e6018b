"""Random sets of units of a fixed size, each hidden in one mask."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor


def cells_of(size: tuple[int, int], cells: int) -> Tensor:
    """Labels ``(H, W)``, 0, 1, 2 ... without gaps, of ``cells x cells`` rectangles as equal as can be."""
    rows, columns = (torch.arange(length) * min(cells, length) // length for length in size)
    return rows[:, None] * min(cells, size[1]) + columns


@dataclass(frozen=True, eq=False)
class Subsets:
    """Mask ``i`` hides ``sizes[i]`` units, drawn without replacement from place ``i`` of a counter-based stream.

    It does not depend on how many masks are made at once, or before it, and nothing is kept.

    Args:
        labels: unit of each pixel, ``(H, W)``, on the CPU: 0, 1, 2 ... without gaps.
        sizes: units hidden in each mask.
        seed: of the stream.
    """

    labels: Tensor
    sizes: Sequence[int]
    seed: int

    def __len__(self) -> int:
        return len(self.sizes)

    @cached_property
    def units(self) -> int:
        """How many units there are."""
        return int(self.labels.max()) + 1

    def hidden(self, position: int) -> Tensor:
        """Which units mask ``position`` hides, ``(U,)`` bool."""
        source = np.random.Generator(np.random.Philox(key=self.seed, counter=(0, 0, 0, position)))
        lot = source.random(self.units)
        chosen = torch.zeros(self.units, dtype=torch.bool)
        chosen[torch.from_numpy(lot.argpartition(self.sizes[position] - 1)[: self.sizes[position]])] = True
        return chosen

    def batch(self, start: int, stop: int, like: Tensor) -> Tensor:
        """Masks ``start`` to ``stop``, ``(k, 1, 1, H, W)``."""
        hidden = torch.stack([self.hidden(position) for position in range(start, stop)])
        return (~hidden[:, self.labels])[:, None, None].to(like)

    def sums(self, values: Tensor) -> Tensor:
        """What ``values (N, H, W)`` add up to under each mask, ``(K, N)``."""
        flat = values.flatten(1)
        totals = flat.new_zeros(len(flat), self.units).index_add_(1, self.labels.flatten(), flat)
        return torch.stack([totals[:, self.hidden(position)].sum(1) for position in range(len(self))])
