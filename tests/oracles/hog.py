"""HOG as the paper and scikit-image's documentation tell it: one pixel, one vote, in loops."""

from __future__ import annotations

import math
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


def hog(  # the paper's parameters
    image: Array, orientations: int, cell: tuple[int, int], block: tuple[int, int], norm: str, turn: float = 180.0
) -> Array:
    """Descriptor of ``(C, H, W)``, ``(block row, block column, cell row, cell column, orientation)``."""
    histograms = cells(image, orientations, cell, turn)
    rows, columns = (have - b + 1 for have, b in zip(histograms.shape[:2], block, strict=True))
    found = np.zeros((rows, columns, *block, orientations))
    for r, c in product(range(rows), range(columns)):
        found[r, c] = normalised(histograms[r : r + block[0], c : c + block[1]], norm)
    return found


def cells(image: Array, orientations: int, cell: tuple[int, int], turn: float) -> Array:
    rows, columns = image.shape[1] // cell[0], image.shape[2] // cell[1]
    found = np.zeros((rows, columns, orientations))
    for y, x in product(range(rows * cell[0]), range(columns * cell[1])):
        down, across = strongest(image, y, x)
        angle = math.degrees(math.atan2(down, across)) % turn
        found[y // cell[0], x // cell[1], min(int(angle / (turn / orientations)), orientations - 1)] += math.hypot(
            down, across
        )
    return found / (cell[0] * cell[1])


def strongest(image: Array, y: int, x: int) -> tuple[float, float]:
    """Differences of the neighbours below and above, right and left, in the channel where they are largest."""
    best = (0.0, 0.0)
    for channel in image:
        down = channel[y + 1, x] - channel[y - 1, x] if 0 < y < len(channel) - 1 else 0.0
        across = channel[y, x + 1] - channel[y, x - 1] if 0 < x < channel.shape[1] - 1 else 0.0
        if math.hypot(down, across) > math.hypot(*best):
            best = (float(down), float(across))
    return best


def normalised(block: Array, norm: str, eps: float = 1e-5) -> Any:
    if norm.startswith("L1"):
        found = block / (block.sum() + eps)
        return np.sqrt(found) if norm == "L1-sqrt" else found
    found = block / math.sqrt((block**2).sum() + eps**2)
    if norm == "L2":
        return found
    found = np.minimum(found, 0.2)
    return found / math.sqrt((found**2).sum() + eps**2)
