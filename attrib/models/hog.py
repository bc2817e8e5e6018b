"""Histograms of oriented gradients as a network: scikit-image's numbers, with gradients."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attrib import checks
from attrib.errors import InputError, ShapeError

BlockNorm = Literal["L1", "L1-sqrt", "L2", "L2-Hys"]
NORMS: tuple[BlockNorm, ...] = ("L1", "L1-sqrt", "L2", "L2-Hys")
EPS = 1e-5  # scikit-image's, in every norm
CLIP = 0.2  # of L2-Hys: Lowe 2004, section 6.1


class HOG(nn.Module):
    r"""Histogram of oriented gradients of a batch of pictures, as `skimage.feature.hog` computes it.

    .. math::
        h_{o}(\text{cell}) = \frac{1}{|\text{cell}|} \sum_{p \in \text{cell}} |g(p)| \, [\theta(p) \in \text{bin } o],
        \qquad f(\text{block}) = \frac{h}{\sqrt{\lVert h \rVert_2^2 + \epsilon^2}}

    where *g* is the central difference of the channel with the largest \|g\| at that pixel, and a block is a square
    of cells; other norms are chosen with ``block_norm``.

    Convention:
        - the output ``(N, D)`` is ordered as scikit-image's vector: block row, block column, cell row, cell column,
          orientation. The layer ``"blocks"`` holds the same numbers as a map ``(N, K, rows, columns)``, one location
          a block, and ``"cells"`` the histograms before they are normalised, ``(N, orientations, rows, columns)``.
        - a gradient goes wholly to one bin, and the channel is chosen by the largest magnitude. Both choices are
          constants to autograd: gradients flow through magnitudes (and block norms) only, none says that a gradient
          should turn. Where a picture is flat the gradient is 0, so an optimisation must not start from a flat one.
        - pixels right and below that fill no cell count for nothing; rows and columns at the rim have no gradient
          across it.
        - on the CPU the numbers are scikit-image's; elsewhere, and in float32 with ``transform_sqrt``, the last digit
          may put an edge at exactly the angle between two bins into the other one.
        - orientations are from 0 to 180 degrees: an edge from dark to light is the same as one from light to dark, so
          that nothing linear can turn such features back into pictures. ``signed=True``, which scikit-image does not
          have, tells them apart, as half of the features do that HOGgles inverts.

    Cost: about ten passes over the pixels; there are no parameters.

    Args:
        orientations: number of bins.
        pixels_per_cell: side of a cell, in pixels, or (height, width).
        cells_per_block: side of a block, in cells, or (height, width).
        block_norm: ``"L1"``, ``"L1-sqrt"``, ``"L2"``, or ``"L2-Hys"``, which is L2, clipped at 0.2, and L2 again.
        transform_sqrt: take the square root of the pixels first; they must not be negative.
        signed: bins are from 0 to 360 degrees.

    Example:
        >>> hog = HOG(pixels_per_cell=4, cells_per_block=2)
        >>> hog(torch.rand(2, 3, 12, 16)).shape, hog.blocks(hog.cells(torch.rand(2, 3, 12, 16))).shape
        (torch.Size([2, 216]), torch.Size([2, 36, 2, 3]))

    References:
        Dalal, Triggs, "Histograms of Oriented Gradients for Human Detection", CVPR 2005, section 6.
        Vondrick, Khosla, Malisiewicz, Torralba, "HOGgles: Visualizing Object Detection Features", ICCV 2013.
    """

    def __init__(
        self,
        *,
        orientations: int = 9,
        pixels_per_cell: int | tuple[int, int] = 8,
        cells_per_block: int | tuple[int, int] = 3,
        block_norm: BlockNorm = "L2-Hys",
        transform_sqrt: bool = False,
        signed: bool = False,
    ) -> None:
        super().__init__()
        cell = _pair("pixels_per_cell", pixels_per_cell)
        block = _pair("cells_per_block", cells_per_block)
        bins = checks.integer("orientations", orientations, 1)
        self.cells = Cells(bins, cell, transform_sqrt=transform_sqrt, signed=signed)
        self.blocks = Blocks(block, checks.choice("block_norm", block_norm, NORMS), cell)

    def forward(self, x: Tensor) -> Tensor:
        """Describe pictures ``(N, C, H, W)`` by vectors ``(N, D)``."""
        self._check(x)
        vector: Tensor = self.blocks(self.cells(x)).permute(0, 2, 3, 1).flatten(1)
        return vector

    def locations(self, height: int, width: int) -> tuple[int, int]:
        """Rows and columns of blocks in a picture of this size.

        Example:
            >>> HOG().locations(64, 48)
            (6, 4)
        """
        cell, block = self.cells.step, self.blocks.block
        rows, columns = (size // c - b + 1 for size, c, b in zip((height, width), cell, block, strict=True))
        return rows, columns

    def _check(self, x: Tensor) -> None:
        if not x.is_floating_point():
            raise InputError(f"inputs must be floating point; got {x.dtype}. Convert pictures to [0, 1].")
        checks.shape(x, "n c h w", "inputs")
        if min(self.locations(*x.shape[2:])) < 1:
            high, wide = self.blocks.reach
            raise ShapeError(
                f"inputs must be at least {high} x {wide} pixels, one block; got {x.shape[2]} x {x.shape[3]}. "
                "Choose smaller cells or blocks, or a larger picture."
            )


class Cells(nn.Module):
    """Mean gradient magnitude of each orientation in each cell, ``(N, orientations, rows, columns)``.

    Attributes:
        step: pixels from one cell to the next, (height, width).
        reach: pixels of one cell, (height, width).
    """

    data_format = "channels_first"

    def __init__(self, orientations: int, cell: tuple[int, int], *, transform_sqrt: bool, signed: bool) -> None:
        super().__init__()
        self.orientations, self.step, self.reach = orientations, cell, cell
        self.transform_sqrt, self.turn = transform_sqrt, 360 if signed else 180

    def forward(self, x: Tensor) -> Tensor:
        """Histograms of pictures ``(N, C, H, W)``."""
        down, across = _differences(_root(_positive(x)) if self.transform_sqrt else x)
        with torch.no_grad():
            angle = _alike(np.arctan2, torch.atan2, down.double(), across.double()).rad2deg() % self.turn
            edges = self.turn / self.orientations * torch.arange(1, self.orientations + 1, device=x.device).double()
            bins = torch.bucketize(angle, edges, right=True)
        votes = x.new_zeros(
            len(x), self.orientations + 1, *x.shape[2:]
        )  # the last: an angle rounded up to a whole turn
        votes = votes.scatter(1, bins, _root(down.square() + across.square()))
        return F.avg_pool2d(votes[:, :-1], self.step)

    def extra_repr(self) -> str:
        """What distinguishes one from another."""
        return f"{self.orientations} in {self.turn} degrees, cell={self.step}, transform_sqrt={self.transform_sqrt}"


class Blocks(nn.Module):
    """Normalised squares of cells, ``(N, K, rows, columns)``; K counts cell row, cell column, orientation.

    Attributes:
        step: pixels from one block to the next, (height, width).
        reach: pixels of one block, (height, width).
    """

    data_format = "channels_first"

    def __init__(self, block: tuple[int, int], norm: BlockNorm, cell: tuple[int, int]) -> None:
        super().__init__()
        self.block, self.norm, self.step = block, norm, cell
        self.reach = (block[0] * cell[0], block[1] * cell[1])

    def forward(self, cells: Tensor) -> Tensor:
        """Blocks of histograms ``(N, orientations, rows, columns)``."""
        tiles = cells.unfold(2, self.block[0], 1).unfold(3, self.block[1], 1)  # (N, O, rows, columns, b, b)
        return _normalised(tiles.permute(0, 4, 5, 1, 2, 3).flatten(1, 3), self.norm)

    def extra_repr(self) -> str:
        """What distinguishes one from another."""
        return f"{self.block}, {self.norm}"


def _pair(what: str, value: int | tuple[int, int]) -> tuple[int, int]:
    high, wide = checks.sides(what, value, axes=2)
    return high, wide


def _positive(x: Tensor) -> Tensor:
    if (x < 0).any():
        raise InputError(
            f"inputs must not be negative for transform_sqrt; got {float(x.min()):.3g}. "
            "Give pictures in [0, 1], not normalised ones."
        )
    return x


def _root(x: Tensor) -> Tensor:
    """Square root whose gradient at 0 is 0 instead of infinite."""
    flat = x == 0
    return x.masked_fill(flat, 1).sqrt().masked_fill(flat, 0)


def _differences(x: Tensor) -> tuple[Tensor, Tensor]:
    """Central differences along rows and columns, ``(N, 1, H, W)`` each, of the channel where they are largest."""
    down = F.pad(x[:, :, 2:] - x[:, :, :-2], (0, 0, 1, 1))
    across = F.pad(x[..., 2:] - x[..., :-2], (1, 1))
    if x.shape[1] == 1:
        return down, across
    with torch.no_grad():
        largest = _alike(np.hypot, torch.hypot, down, across).argmax(1, keepdim=True)  # of equal ones the first
    return down.gather(1, largest), across.gather(1, largest)


def _alike(of_numpy: Any, of_torch: Callable[[Tensor, Tensor], Tensor], down: Tensor, across: Tensor) -> Tensor:
    """A function of both differences whose last digit is scikit-image's.

    Pixels are whole numbers, so that many edges lie at 45 degrees or are as strong in two channels: there the last
    digit decides which bin gets the vote, and torch's differs from NumPy's.
    """
    if down.device.type != "cpu":
        return of_torch(down, across)
    return torch.from_numpy(of_numpy(down.detach().numpy(), across.detach().numpy()))


def _normalised(block: Tensor, norm: BlockNorm) -> Tensor:
    """Divide by the norm over channels."""
    if norm in {"L1", "L1-sqrt"}:
        block = block / (block.sum(1, keepdim=True) + EPS)  # magnitudes are not negative
        return _root(block) if norm == "L1-sqrt" else block
    block = _unit(block)
    return _unit(block.clamp(max=CLIP)) if norm == "L2-Hys" else block


def _unit(block: Tensor) -> Tensor:
    return block / (block.square().sum(1, keepdim=True) + EPS**2).sqrt()
