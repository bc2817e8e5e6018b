"""Large images piece by piece: the memory of one tile at a time."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from torch import Tensor


def tiles(image: Tensor, side: int) -> Iterator[tuple[slice, slice]]:
    """Rows and columns of the tiles of ``image``: as equal as can be, none larger than ``side``.

    Example:
        >>> import torch
        >>> [(rows.stop - rows.start, columns.stop) for rows, columns in tiles(torch.zeros(1, 1, 5, 4), 4)]
        [(3, 4), (2, 4)]
    """
    for rows in _parts(image.shape[-2], side):
        for columns in _parts(image.shape[-1], side):
            yield rows, columns


def _parts(size: int, side: int) -> Iterator[slice]:
    count = (size - 1) // side + 1
    ends = [round(size * i / count + 1e-9) for i in range(count + 1)]
    yield from (slice(a, b) for a, b in pairwise(ends))
