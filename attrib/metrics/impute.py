"""Fill in hidden pixels with the weighted mean of their neighbours: a sparse linear system, solved without a matrix."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

from attrib.errors import InputError

_TOLERANCE = 1e-6  # norm of the residual, as a share of that of the known side; pixels are then off by about 1e-5
_DAMPING = 0.8  # of Jacobi steps, which then smooth what coarser grids cannot see
_SMALLEST = 4  # side of the coarsest grid


def impute(x: Tensor, keep: Tensor, tolerance: float = _TOLERANCE) -> Tensor:
    r"""Replace what ``keep`` hides so that each hidden pixel is the weighted mean of its neighbours.

    .. math:: x_i \sum_{j \in N(i)} w_{ij} = \sum_{j \in N(i)} w_{ij} x_j, \qquad
        w_{ij} = \tfrac16 \text{ beside}, \tfrac1{12} \text{ across a corner}

    ``N(i)`` are the neighbours inside the image, hidden ones too. The system is symmetric and positive definite. It is
    solved in float64, each picture and channel by itself, by conjugate gradients that go through coarser grids on their
    way: some twenty rounds, however large the hole.

    Args:
        x: ``(B, C, H, W)``.
        keep: ``(B, 1, H, W)``, 1 where a pixel is known and 0 where it is not; at least one is known.
        tolerance: relative norm of the residual at which a channel is done.

    Returns:
        ``(B, C, H, W)``, float64.
    """
    if not keep.flatten(1).any(1).all():
        raise InputError("keep must show at least one pixel of every picture; got one without. Hide fewer.")
    step = 1 if x.device.type == "cpu" else len(x)  # a CPU's caches hold one picture
    parts = zip(torch.split(x.double(), step), torch.split(keep.double(), step), strict=True)
    return torch.cat([_filled(picture, shown, tolerance) for picture, shown in parts])


def _filled(x: Tensor, keep: Tensor, tolerance: float) -> Tensor:
    system = _System(1 - keep)
    value = torch.zeros_like(x)
    rest = system.hole * _around(x * keep)
    limit = tolerance * _dot(rest, rest).sqrt()
    step = scaled = system.solved_roughly(rest)
    energy = _dot(rest, scaled)
    for _ in range(10 * keep[0].numel()):  # without rounding, as many as there are unknowns would always do
        busy = _dot(rest, rest).sqrt() > limit
        if not busy.any():
            break
        pushed = system.apply(step)
        length = (energy / _dot(step, pushed)).where(busy, 0.0)  # channels that are done stay as they are
        value, rest = value + length * step, rest - length * pushed
        scaled = system.solved_roughly(rest)
        now = _dot(rest, scaled)
        step, energy = scaled + (now / energy).where(busy, 0.0) * step, now
    return x * keep + value


@dataclass(frozen=True, eq=False)
class _System:
    """The equations of the pixels in ``hole (B, 1, H, W)``, 1 or 0; all others are known."""

    hole: Tensor

    @cached_property
    def weight(self) -> Tensor:
        """Sum of the weights of the neighbours inside the image."""
        return _around(torch.ones_like(self.hole))

    @cached_property
    def coarser(self) -> _System | None:
        """The same on a grid of half the size, in the cells that are holes as a whole."""
        whole = -F.max_pool2d(-self.hole, 2, ceil_mode=True)
        return _System(whole) if max(self.hole.shape[2:]) >= _SMALLEST and whole.any() else None

    def apply(self, values: Tensor) -> Tensor:
        """The left side of the equations."""
        return self.hole * (self.weight * values - _around(values))

    def solved_roughly(self, rest: Tensor) -> Tensor:
        """One V-cycle of multigrid, the same forwards and backwards so that conjugate gradients may use it."""
        found = _DAMPING * self.hole * rest / self.weight
        if self.coarser is not None:
            (height, width), left = rest.shape[2:], rest - self.apply(found)
            coarse = 4 * F.avg_pool2d(F.pad(left, (0, width % 2, 0, height % 2)), 2)
            below = self.coarser.solved_roughly(coarse * self.coarser.hole)
            found = found + self.hole * below.repeat_interleave(2, 2).repeat_interleave(2, 3)[..., :height, :width]
        return found + _DAMPING * self.hole * (rest - self.apply(found)) / self.weight


def _around(values: Tensor) -> Tensor:
    """Weighted sum of the eight neighbours, zero outside: (1, 2, 1) along rows and columns, less the middle."""
    padded = F.pad(values, (1, 1, 1, 1))
    rows = padded[..., :-2, :] + 2 * padded[..., 1:-1, :] + padded[..., 2:, :]
    return (rows[..., :-2] + 2 * rows[..., 1:-1] + rows[..., 2:]) / 12 - values / 3


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).sum((2, 3), keepdim=True)
