"""Fill in hidden pixels with the weighted mean of their neighbours: a sparse linear system, solved without a matrix."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from attrib.errors import InputError

_TOLERANCE = 1e-6  # norm of the residual, as a share of that of the known side; pixels are then off by about 1e-5


def impute(x: Tensor, keep: Tensor, tolerance: float = _TOLERANCE) -> Tensor:
    r"""Replace what ``keep`` hides so that each hidden pixel is the weighted mean of its neighbours.

    .. math:: x_i \sum_{j \in N(i)} w_{ij} = \sum_{j \in N(i)} w_{ij} x_j, \qquad
        w_{ij} = \tfrac16 \text{ beside}, \tfrac1{12} \text{ across a corner}

    ``N(i)`` are the neighbours inside the image, hidden ones too. The system is symmetric and positive definite; it is
    solved by conjugate gradients in float64, each picture and channel by itself.

    Args:
        x: ``(B, C, H, W)``.
        keep: ``(B, 1, H, W)``, 1 where a pixel is known and 0 where it is not; at least one is known.
        tolerance: relative norm of the residual at which a channel is done.

    Returns:
        ``(B, C, H, W)``, float64.
    """
    known, hole = keep.double(), 1 - keep.double()
    if not known.flatten(1).any(1).all():
        raise InputError("keep must show at least one pixel of every picture; got one without. Hide fewer.")
    weight = _around(torch.ones_like(known))
    shown = x.double() * known
    value = torch.zeros_like(shown)
    rest = hole * _around(shown)
    limit = tolerance * _dot(rest, rest).sqrt()
    step = rest / weight
    energy = _dot(rest, step)
    for _ in range(10 * x.shape[2] * x.shape[3]):  # it takes as many as there are unknowns, and far fewer in practice
        busy = _dot(rest, rest).sqrt() > limit
        if not busy.any():
            break
        pushed = hole * (weight * step - _around(step))
        length = (energy / _dot(step, pushed)).where(busy, 0.0)  # those that are done stay as they are
        value, rest = value + length * step, rest - length * pushed
        scaled = rest / weight
        now = _dot(rest, scaled)
        step = scaled + (now / energy).where(busy, 0.0) * step
        energy = now
    return shown + value


def _around(values: Tensor) -> Tensor:
    """Weighted sum of the eight neighbours, zero outside: (1, 2, 1) along rows and columns, less the middle."""
    padded = F.pad(values, (1, 1, 1, 1))
    rows = padded[..., :-2, :] + 2 * padded[..., 1:-1, :] + padded[..., 2:, :]
    return (rows[..., :-2] + 2 * rows[..., 1:-1] + rows[..., 2:]) / 12 - values / 3


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).sum((2, 3), keepdim=True)
