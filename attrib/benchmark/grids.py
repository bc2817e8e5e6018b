"""The grid game: pictures of several classes side by side, so that it is known where the evidence for each must lie."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from attrib import checks
from attrib.errors import InputError


@dataclass(frozen=True, eq=False)
class Grids:
    """Grids of pictures, asked for the class of each of their cells: one row for each grid and cell.

    Attributes:
        x: ``(N, C, side * h, side * w)``; the rows of one grid are the same picture.
        targets: ``(N,)``, the class of the cell that is asked for.
        inside: ``(N, side * h, side * w)`` bool, True in that cell: the ``masks`` of localisation metrics.
        tiles: ``(N / side**2, side**2)``, which pictures stand in the cells of each grid, in reading order.
        side: cells along each side.
    """

    x: Tensor = field(repr=False)
    targets: Tensor
    inside: Tensor = field(repr=False)
    tiles: Tensor
    side: int

    def __len__(self) -> int:
        return len(self.targets)


def make_grids(x: Tensor, labels: Sequence[int] | Tensor, *, side: int = 2, number: int = 10, seed: int = 0) -> Grids:
    """Put pictures of different classes side by side.

    Evidence for a class must lie in the cell that shows it, whatever the shape of the object: no mask is needed. Take
    pictures that the network classifies correctly by themselves, or it may be right to look elsewhere.

    Convention:
        - the classes of one grid are all different; pictures are drawn without replacement in one grid, and may appear
          in several.
        - cells keep their size, so that a grid is ``side`` times as large as a picture: the network must take that, or
          the pictures be made smaller before.
        - same seed, same grids; the global random state is not touched.

    Args:
        x: pictures as the network takes them, ``(N, C, h, w)``.
        labels: their classes, one each; pictures of ``side ** 2`` classes at least.
        side: cells along each side, >= 2.
        number: of grids, >= 1; the result has ``number * side ** 2`` rows.
        seed: of the draw.

    Example:
        >>> from attrib import METRICS, Saliency
        >>> game = make_grids(torch.rand(6, 3, 6, 6), [0, 0, 1, 2, 3, 3], number=2)
        >>> maps = Saliency(model).attribute(game.x, game.targets)
        >>> METRICS["energy"]().score(model, game.x, game.targets, maps, masks=game.inside).shape
        torch.Size([8])

    References:
        Bohle, Fritz, Schiele, "Convolutional Dynamic Alignment Networks for Interpretable Classifications", CVPR 2021:
        the grid pointing game.
    """
    (pictures,) = checks.batch(x)
    checks.shape(pictures, "n c h w", "x")
    classes = torch.as_tensor(labels).cpu()
    checks.shape(classes, "n", "labels", n=len(pictures))
    side, number = checks.integer("side", side, 2), checks.integer("number", number, 1)
    if (kinds := len(set(classes.tolist()))) < side**2:
        raise InputError(f"labels must hold {side**2} classes or more; got {kinds}. Take a smaller side.")
    draw = np.random.default_rng(checks.integer("seed", seed, 0))
    tiles = torch.tensor([_different(classes.tolist(), side**2, draw) for _ in range(number)])
    whole = torch.stack([_beside(pictures[chosen], side) for chosen in tiles])
    cells = _cells(side, *pictures.shape[2:])
    return Grids(whole.repeat_interleave(side**2, 0), classes[tiles].flatten(), cells.repeat(number, 1, 1), tiles, side)


def _different(labels: list[int], count: int, draw: np.random.Generator) -> list[int]:
    """Places of ``count`` pictures of different classes, in random order."""
    chosen: dict[int, int] = {}
    for place in draw.permutation(len(labels)):
        chosen.setdefault(labels[place], int(place))
    return list(chosen.values())[:count]


def _beside(tiles: Tensor, side: int) -> Tensor:
    """Put ``(side**2, C, h, w)`` side by side, ``(C, side * h, side * w)``."""
    rows = [torch.cat(list(tiles[start : start + side]), 2) for start in range(0, len(tiles), side)]
    return torch.cat(rows, 1)


def _cells(side: int, height: int, width: int) -> Tensor:
    """Each cell's pixels, ``(side**2, side * height, side * width)``."""
    number = torch.arange(side**2).reshape(side, side)
    cell = number.repeat_interleave(height, 0).repeat_interleave(width, 1)
    return cell == torch.arange(side**2)[:, None, None]
