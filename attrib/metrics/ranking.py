"""From maps to orders: what a unit is, which units are tied, which order they are hidden in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from attrib import checks
from attrib.core.reduce import reduce_channels, upsample
from attrib.errors import InputError, ShapeError
from attrib.metrics.protocol import Protocol
from attrib.metrics.refine import spread

Status = Literal["ok", "constant", "zero", "nan"]
STATUSES: tuple[Status, ...] = ("ok", "constant", "zero", "nan")


@dataclass(frozen=True)
class Grid:
    """The units of an image of ``size`` pixels: squares of ``side`` pixels, cut at the right and lower edges."""

    size: tuple[int, int]
    side: int

    @property
    def window(self) -> tuple[int, int]:
        """Height and width of a whole unit."""
        return min(self.side, self.size[0]), min(self.side, self.size[1])

    @property
    def areas(self) -> Tensor:
        """Pixels of each unit in raster order, ``(U,)`` whole numbers."""
        rows, columns = (
            torch.tensor([min(side, length - start) for start in range(0, length, side)])
            for side, length in zip(self.window, self.size, strict=True)
        )
        return (rows[:, None] * columns).flatten()

    def mean(self, values: Tensor) -> Tensor:
        """Mean of ``values (N, 1, H, W)`` over each unit, ``(N, U)``."""
        if self.side == 1:
            return values.flatten(1)
        pooled = F.avg_pool2d(values, self.window, self.window, ceil_mode=True, count_include_pad=False)
        return pooled.flatten(1)

    def paint(self, units: Tensor) -> Tensor:
        """Give every pixel the value of its unit: ``(N, U)`` to ``(N, H, W)``."""
        (height, width), (h, w) = self.size, self.window
        grid = units.reshape(len(units), -(-height // h), -(-width // w))
        return grid.repeat_interleave(h, 1).repeat_interleave(w, 2)[:, :height, :width].contiguous()


@dataclass(frozen=True, eq=False)
class Ranking:
    """Units of ``N`` maps that can be put in order.

    Attributes:
        grid: the units.
        values: ``(N, U)``, float64 on the CPU; rows of maps that are not finite are zero.
        status: ``"ok"``, ``"constant"``, ``"zero"`` or ``"nan"`` (NaN or infinite) for each map.
        counts: units hidden at each possible point of the curve, ``(K,)``, from 0 to U.
        tied: ``(N,)``, share of the pixels whose unit has the value of another across a step boundary.
    """

    grid: Grid
    values: Tensor
    status: tuple[Status, ...]
    counts: Tensor
    tied: Tensor

    @classmethod
    def of(cls, maps: Tensor, x: Tensor, protocol: Protocol, name: str) -> Ranking:
        """Reduce, resize and group ``maps`` as ``protocol`` says."""
        grid = Grid((x.shape[2], x.shape[3]), 1 if protocol.unit == "pixel" else protocol.unit)
        flat = one_channel(checked_maps(maps, x, name), protocol)
        status = tuple(_status(item) for item in flat)
        broken = torch.tensor([state == "nan" for state in status])
        values = _unit_values(flat.masked_fill(broken[:, None, None, None], 0), grid)
        counts = spread(protocol.points(x.shape[2], len(grid.areas)), len(grid.areas) + 1)
        tied = _tied_share(values, grid.areas, counts).masked_fill(broken, float("nan"))
        return cls(grid, values, status, counts, tied)

    @property
    def has_ties(self) -> bool:
        """Whether the order within ties changes any curve."""
        return bool((self.tied > 0).any())

    def order(self, among_equals: Tensor) -> Tensor:
        """Units in falling order of value, ``(N, U)``; equal ones as in ``among_equals (1 or N, U)``, permutations."""
        first = among_equals.expand(self.values.shape)
        return first.gather(1, self.values.gather(1, first).argsort(dim=1, descending=True, stable=True))

    def rank(self, order: Tensor) -> Tensor:
        """Place of each pixel's unit in ``order (N, U)``, ``(N, H, W)`` int32; 0 is the most relevant."""
        places = torch.arange(order.shape[1], dtype=torch.int32).expand(order.shape)
        return self.grid.paint(torch.empty_like(places).scatter_(1, order, places))

    def fractions(self, order: Tensor) -> Tensor:
        """Share of the pixels in the first ``counts`` units of ``order``, ``(N, K)``."""
        covered = F.pad(self.grid.areas[order].cumsum(1), (1, 0))[:, self.counts]
        return covered.double() / self.grid.areas.sum()


def tie_orders(units: int, number: int, seed: int) -> Tensor:
    """Draw ``number`` permutations of the units, ``(number, U)``, each followed by its reverse.

    All examples share them, so that no example depends on its neighbours in the batch.
    """
    generator = torch.Generator().manual_seed(seed)
    half = [torch.randperm(units, generator=generator) for _ in range(number // 2)]
    return torch.stack([order for one in half for order in (one, one.flip(0))])


def checked_maps(maps: object, x: Tensor, name: str = "") -> Tensor:
    """Maps ``(N, C, h, w)`` for ``x``, float64 on the CPU."""
    what = f"maps[{name!r}]" if name else "maps"
    if not isinstance(maps, Tensor) or maps.is_complex():
        kind = maps.dtype if isinstance(maps, Tensor) else type(maps).__name__
        raise InputError(f"{what} must be a real Tensor (N, C, h, w); got {kind}.")
    checks.shape(maps, "n c h w", what, n=len(x))
    if maps.shape[2] > x.shape[2] or maps.shape[3] > x.shape[3] or 0 in maps.shape:
        raise ShapeError(
            f"{what} must have at least one channel and location and at most the input's {tuple(x.shape[2:])} "
            f"locations; got {tuple(maps.shape)}."
        )
    return maps.detach().cpu().double()


def one_channel(maps: Tensor, protocol: Protocol) -> Tensor:
    """Reduce to ``(N, 1, h, w)`` with the channels and sign that ``protocol`` says."""
    flat = reduce_channels(maps, protocol.channels)
    if protocol.sign == "signed":
        return flat
    return flat.abs() if protocol.sign == "absolute" else flat.clamp(min=0)


def _status(item: Tensor) -> Status:
    if not torch.isfinite(item).all():
        return "nan"
    if item.min() < item.max():
        return "ok"
    return "constant" if item.any() else "zero"


def _unit_values(flat: Tensor, grid: Grid) -> Tensor:
    if flat.shape[2:] == grid.size and grid.side == 1:
        return flat.flatten(1)
    # Computed in float64 and compared in float32, equal values stay equal: else rounding would put plateaus in order.
    scale = flat.abs().amax((1, 2, 3), keepdim=True)
    flat = flat / scale.where(scale > 0, 1.0)
    flat = flat if flat.shape[2:] == grid.size else upsample(flat, grid.size)
    return grid.mean(flat).float().double()


def _tied_share(values: Tensor, areas: Tensor, counts: Tensor) -> Tensor:
    ranked, order = values.sort(dim=1, descending=True, stable=True)
    equal = ranked[:, 1:] == ranked[:, :-1]
    group = F.pad((~equal).long().cumsum(1), (1, 0))
    inner = counts[1:-1]
    cut = torch.zeros_like(values).scatter_add_(1, group[:, inner], equal[:, inner - 1].double())
    return ((cut.gather(1, group) > 0) * areas[order]).sum(1).double() / areas.sum()
