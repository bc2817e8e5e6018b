"""Where to hide. Mask sets are lazy: ``batch`` makes the masks of one forward pass only.

``keep`` masks hold 1 where the input is kept and 0 where it takes the baseline, with shape
``(k, 1 or N, 1 or C, H, W)``: masks, examples, channels, height, width. In general that is ``(k, 1 or N, ...)``, where
``...`` broadcasts to one example of what is hidden: a signal, a volume, a row of tokens, the channels of a layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain, product
from typing import Literal, Protocol, TypeAlias, runtime_checkable

import torch
from torch import Tensor

from attrib import checks
from attrib.errors import InputError, ShapeError

# Start and stop along each axis: (top, bottom, left, right).
Box: TypeAlias = "tuple[int, ...]"


class Masks(Protocol):
    """A set of keep-masks."""

    def __len__(self) -> int:
        """Number of masks."""

    def batch(self, start: int, stop: int, like: Tensor) -> Tensor:
        """Masks ``start`` to ``stop`` with the dtype and device of ``like``."""


class Cropped(Protocol):
    """Masks of which windows can be made without the rest."""

    def crop(self, positions: Tensor, y: tuple[Tensor, int], x: tuple[Tensor, int], like: Tensor) -> Tensor | None:
        """Windows of masks ``positions``, ``(k, 1 or N, 1 or C, h, w)``; ``y`` and ``x`` give starts ``(k,)`` and size.

        None where all of every window is hidden.
        """


@runtime_checkable
class LocalMasks(Masks, Cropped, Protocol):
    """Masks that each hide something inside a box, so that only what a box can change must be computed again."""

    @property
    def boxes(self) -> Sequence[Box]:
        """A box (top, bottom, left, right) around what each mask hides."""


def _hidden(start: Tensor, size: int, edges: Tensor) -> Tensor:
    """Whether each cell of windows lies between two edges, ``(k, size)``."""
    cells = start[:, None] + torch.arange(size)
    return (cells >= edges[:, :1]) & (cells < edges[:, 1:])


@dataclass(frozen=True)
class Given:
    """Masks that are already a Tensor ``(K, 1 or N, ...)``, such as ``(K, 1, 1, H, W)`` or ``(K, 1, C, 1, 1)``."""

    keep: Tensor

    def __post_init__(self) -> None:
        if self.keep.ndim < 3:
            raise ShapeError(f"keep masks must have shape (K, 1 or N, ...); got {tuple(self.keep.shape)}.")

    def __len__(self) -> int:
        return len(self.keep)

    def batch(self, start: int, stop: int, like: Tensor) -> Tensor:
        """Masks ``start`` to ``stop``."""
        return self.keep[start:stop].to(like)

    @cached_property
    def boxes(self) -> tuple[Box, ...]:
        """The bounding box of what each mask hides, in any example or channel; one cell where it hides nothing.

        There are none without height and width.
        """
        if self.keep.ndim != 5:
            return ()
        hides = (self.keep != 1).any(2).any(1).cpu()
        return tuple((*_ends(mask.any(1)), *_ends(mask.any(0))) for mask in hides)

    def crop(self, positions: Tensor, y: tuple[Tensor, int], x: tuple[Tensor, int], like: Tensor) -> Tensor:
        """Windows of some masks."""
        rows = (y[0][:, None] + torch.arange(y[1]))[:, :, None].to(self.keep.device)
        columns = (x[0][:, None] + torch.arange(x[1]))[:, None].to(self.keep.device)
        mask = positions.to(self.keep.device)[:, None, None]
        return self.keep.movedim((3, 4), (1, 2))[mask, rows, columns].movedim((1, 2), (3, 4)).to(like)


def _ends(hidden: Tensor) -> tuple[int, int]:
    """First hidden cell along an axis, and the one after the last."""
    where = hidden.nonzero()
    return (int(where[0]), int(where[-1]) + 1) if len(where) else (0, 1)


def inside(box: Box) -> tuple[slice, ...]:
    """The part of a map that a box encloses."""
    return tuple(slice(start, stop) for start, stop in zip(box[::2], box[1::2], strict=True))


def _starts(length: int, window: int, stride: int, edge: str) -> list[int]:
    last = max(length - window, 0)
    starts = list(range(0, last, stride))
    reach = starts[-1] + stride if starts else 0
    return [*starts, last if edge == "full" else reach]


@dataclass(frozen=True)
class Windows:
    """A sliding window that hides what is under it; together the windows cover every pixel.

    Args:
        size: height and width of what is masked; or its length, or depth, height and width.
        window: those of the window; one larger than the map covers all of it.
        stride: step of the window along each axis, at most its size.
        edge: ``"full"`` moves the last window back so that it keeps its size; ``"cut"`` lets it hang over the border
            (as Captum does), which hides less there.
    """

    size: tuple[int, ...]
    window: tuple[int, ...]
    stride: tuple[int, ...]
    edge: Literal["full", "cut"] = "full"
    boxes: Sequence[Box] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        checks.choice("edge", self.edge, ("full", "cut"))
        axes = list(zip(self.size, self.window, self.stride, strict=True))
        for axis, (length, window, stride) in zip("tzyx"[-len(axes) :], axes, strict=True):
            if stride > window and window < length:
                raise InputError(
                    f"stride must be at most the window, so that every pixel is hidden once; got stride {stride} for a "
                    f"window of {window} along {axis}."
                )
        spans = [
            [(start, min(start + window, length)) for start in _starts(length, window, stride, self.edge)]
            for length, window, stride in axes
        ]
        object.__setattr__(self, "boxes", tuple(tuple(chain(*box)) for box in product(*spans)))

    @classmethod
    def usual(
        cls,
        size: Sequence[int],
        window: int | Sequence[int] | None = None,
        stride: int | Sequence[int] | None = None,
        edge: Literal["full", "cut"] = "full",
    ) -> Windows:
        """Windows of an eighth of the shorter side in steps of half a window, where nothing else is given.

        Those of volumes take an eighth of each side: time and depth have a scale of their own.
        """
        axes = len(size)
        usual = [max(1, side // 8) for side in (size if axes > 2 else (min(size),) * axes)]
        sides = checks.sides("window", usual if window is None else window, axes)
        steps = checks.sides("stride", [max(1, side // 2) for side in sides] if stride is None else stride, axes)
        return cls(tuple(size), sides, steps, edge)

    @property
    def grid(self) -> tuple[int, ...]:
        """Window positions along each axis: rows and columns."""
        return tuple(len({box[2 * axis] for box in self.boxes}) for axis in range(len(self.size)))

    def __len__(self) -> int:
        return len(self.boxes)

    def batch(self, start: int, stop: int, like: Tensor) -> Tensor:
        """Masks ``start`` to ``stop``, ``(k, 1, 1, *size)``."""
        boxes = self.boxes[start:stop]
        keep = torch.ones(len(boxes), 1, 1, *self.size, dtype=like.dtype, device=like.device)
        for mask, box in zip(keep, boxes, strict=True):
            mask[(..., *inside(box))] = 0
        return keep

    def crop(self, positions: Tensor, y: tuple[Tensor, int], x: tuple[Tensor, int], like: Tensor) -> Tensor | None:
        """Windows of some masks."""
        edges = self._edges[positions]
        rows, columns = _hidden(*y, edges[:, :2]), _hidden(*x, edges[:, 2:])
        if rows.all() and columns.all():
            return None
        return (~(rows[:, :, None] & columns[:, None]))[:, None, None].to(like)

    @cached_property
    def _edges(self) -> Tensor:
        return torch.tensor(self.boxes)


@dataclass(frozen=True)
class Some:
    """A few of many local masks."""

    masks: LocalMasks
    chosen: Sequence[int]

    def __len__(self) -> int:
        return len(self.chosen)

    @property
    def boxes(self) -> Sequence[Box]:
        """Boxes of the chosen masks."""
        return [self.masks.boxes[i] for i in self.chosen]

    def batch(self, start: int, stop: int, like: Tensor) -> Tensor:
        """Masks ``start`` to ``stop``."""
        return torch.cat([self.masks.batch(i, i + 1, like) for i in self.chosen[start:stop]])

    def crop(self, positions: Tensor, y: tuple[Tensor, int], x: tuple[Tensor, int], like: Tensor) -> Tensor | None:
        """Windows of some masks."""
        return self.masks.crop(torch.tensor(self.chosen)[positions], y, x, like)


@dataclass(frozen=True)
class Ranked:
    """Hide the lowest-ranked units of each example, so many in each mask.

    Args:
        rank: ``(N, H, W)`` whole numbers, units of rank 0 are hidden first; or several orders, ``(L, N, H, W)``. Masks
            are made on its device, where the rest is moved once.
        counts: how many ranks each mask hides, ``(K,)``, or ``(K, N)`` if examples differ.
        reverse: keep the lowest-ranked instead of hiding them (insertion); or which masks do, ``(K, N)``.
        order: which of the orders each mask follows, ``(K, N)``; None for a single one.
    """

    rank: Tensor
    counts: Tensor
    reverse: bool | Tensor = False
    order: Tensor | None = None

    def __post_init__(self) -> None:
        checks.shape(self.rank, "n h w" if self.order is None else "l n h w", "rank")
        checks.shape(self.counts, "k" if self.counts.ndim == 1 else "k n", "counts")
        for name in ("counts", "reverse", "order"):
            if isinstance(value := getattr(self, name), Tensor):
                object.__setattr__(self, name, value.to(self.rank.device))

    def __len__(self) -> int:
        return len(self.counts)

    def batch(self, start: int, stop: int, like: Tensor) -> Tensor:
        """Masks ``start`` to ``stop``, ``(k, N, 1, H, W)``."""
        rank, counts = self.rank, self.counts[start:stop]
        if self.order is not None:
            examples = torch.arange(rank.shape[1], device=rank.device)
            index = self.order[start:stop] * len(examples) + examples
            rank = rank.flatten(0, 1).index_select(0, index.flatten()).reshape(*index.shape, *rank.shape[2:])
        counts = (counts[:, None] if counts.ndim == 1 else counts)[..., None, None]
        keep = rank.new_empty((len(counts), *rank.shape[-3:]), dtype=like.dtype)
        torch.lt(rank, counts, out=keep)  # at once as numbers: truth values would have to be turned into them
        if isinstance(self.reverse, Tensor):
            side = torch.where(self.reverse[start:stop, :, None, None], 1, -1).to(keep)
            keep.mul_(side).add_((1 - side) / 2)
        elif not self.reverse:
            keep.neg_().add_(1)
        return keep[:, :, None].to(like)
