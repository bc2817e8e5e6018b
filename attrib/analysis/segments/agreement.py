"""How well found objects agree with true ones: intersection over union, CorLoc, beside a box in the middle."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from attrib import checks
from attrib.benchmark.stats import Interval, bootstrap_interval
from attrib.errors import InputError, ShapeError
from attrib.report.finding import Finding
from attrib.report.table import text_table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

HALF = 0.5  # the box must overlap by more: Deselaers et al., and the PASCAL challenges


@dataclass(frozen=True, eq=False)
class Agreement(Finding):
    """Found masks against true ones, ``(N,)`` each.

    Attributes:
        iou: of the masks.
        box_iou: of the found box and the true box that it overlaps most.
        centre_iou: of the box in the middle of the picture and the true mask.
        centre_box_iou: of the box in the middle and the true box that it overlaps most.
        centre: sides of the box in the middle, as a share of the picture's.
    """

    iou: Tensor
    box_iou: Tensor
    centre_iou: Tensor
    centre_box_iou: Tensor
    centre: float

    @property
    def located(self) -> Tensor:
        """Whether the box overlaps the true one by more than half, ``(N,)``; the mean is CorLoc."""
        return self.box_iou > HALF

    @property
    def centre_located(self) -> Tensor:
        """The same for the box in the middle."""
        return self.centre_box_iou > HALF

    @property
    def corloc(self) -> float:
        """Share of the pictures whose object is located."""
        return float(self.located.double().mean())

    def intervals(self) -> dict[str, dict[str, Interval]]:
        """Means with 95 % bootstrap intervals, of what was found and of the box in the middle."""
        rows = {
            "found": {"iou": self.iou, "corloc": self.located},
            f"centre box, {self.centre:.0%} of each side": {"iou": self.centre_iou, "corloc": self.centre_located},
        }
        return {row: {name: bootstrap_interval(v.double()) for name, v in one.items()} for row, one in rows.items()}

    def to_text(self, *, markdown: bool = False) -> str:
        """Two lines: what was found, and the box in the middle that it has to beat."""
        rows = [
            {"": row, "IoU of the mask": str(one["iou"]), "CorLoc (IoU of the box > 0.5)": str(one["corloc"])}
            for row, one in self.intervals().items()
        ]
        return text_table(rows, markdown=markdown)

    def plot(self) -> Figure:
        """Draw the share of pictures whose box is right, for every overlap that one may ask for."""
        from attrib.plot.segment import localisation_curve

        return localisation_curve(self)


def agreement(
    found: Tensor, masks: Tensor, boxes: Sequence[Sequence[Sequence[float]]] | None = None, *, centre: float = 0.7
) -> Agreement:
    """Compare found masks with true ones.

    Convention:
        - an empty found mask has IoU 0; an empty true one is refused, because nothing could be right.
        - a found box is that of the whole found mask; pixels are whole, the lower right corner is outside.
        - CorLoc asks for an overlap of *more* than 0.5, with any one of the true boxes.
        - the box in the middle knows nothing of the picture: a result that is not above it says nothing.

    Args:
        found: bool ``(N, H, W)``.
        masks: the truth, bool ``(N, H, W)``.
        boxes: true boxes ``x0, y0, x1, y1`` of each picture; the box of its mask if None.
        centre: sides of the box in the middle, as a share of the picture's, in (0, 1].

    Example:
        >>> true, found = torch.zeros(2, 1, 10, 10, dtype=torch.bool)
        >>> true[0, 2:6, 2:6], found[0, 2:6, 4:8] = True, True
        >>> one = agreement(found, true)
        >>> [round(float(one.iou), 3), round(float(one.box_iou), 3), one.corloc]
        [0.333, 0.333, 0.0]

    References:
        Deselaers, Alexe, Ferrari, "Weakly Supervised Localization and Learning with Generic Knowledge", IJCV 2012.
    """
    mine, true = _masks("found", found), _masks("masks", masks)
    if mine.shape != true.shape:
        raise ShapeError(f"masks must have the shape of what was found, {tuple(mine.shape)}; got {tuple(true.shape)}.")
    if not bool(true.flatten(1).any(1).all()):
        raise InputError("masks must each hold part of an object; got an empty one. Leave its picture out.")
    middle = centre_box(true.shape[1:], centre).expand_as(true)
    targets = [[box.tolist()] for box in boxes_of(true)] if boxes is None else _boxes(boxes, len(true))
    return Agreement(
        *(_iou(mine, true), _best(boxes_of(mine), targets), _iou(middle, true), _best(boxes_of(middle), targets)),
        centre,
    )


def centre_box(size: Sequence[int], share: float) -> Tensor:
    """A box in the middle of a picture of ``size`` (H, W) with sides of this share of the picture's, as a mask.

    Example:
        >>> centre_box((4, 6), 0.5).int().tolist()
        [[0, 0, 0, 0, 0, 0], [0, 1, 1, 1, 0, 0], [0, 1, 1, 1, 0, 0], [0, 0, 0, 0, 0, 0]]
    """
    if not 0 < checks.number("centre", share) <= 1:
        raise InputError(f"centre must be a share in (0, 1]; got {share!r}.")
    mask = torch.zeros(*size, dtype=torch.bool)
    wide = [max(1, round(share * side)) for side in size]
    top, left = ((side - one) // 2 for side, one in zip(size, wide, strict=True))
    mask[top : top + wide[0], left : left + wide[1]] = True
    return mask


def boxes_of(masks: Tensor) -> Tensor:
    """The smallest box ``x0, y0, x1, y1`` round each mask, ``(N, 4)``; zeros where it is empty.

    Example:
        >>> mask = torch.zeros(1, 5, 6, dtype=torch.bool)
        >>> mask[0, 1:3, 2:6] = True
        >>> boxes_of(mask).tolist()
        [[2, 1, 6, 3]]
    """
    found = torch.zeros(len(masks), 4, dtype=torch.long)
    for row, mask in zip(found, masks, strict=True):
        y, x = mask.nonzero(as_tuple=True)
        if len(y):
            row[:] = torch.tensor([int(x.min()), int(y.min()), int(x.max()) + 1, int(y.max()) + 1])
    return found


def _masks(what: str, masks: object) -> Tensor:
    if not isinstance(masks, Tensor) or masks.dtype != torch.bool:
        got = masks.dtype if isinstance(masks, Tensor) else type(masks).__name__
        raise InputError(f"{what} must be a bool Tensor (N, H, W); got {got}.")
    return checks.shape(masks, "n h w", what).cpu()


def _boxes(boxes: Sequence[Sequence[Sequence[float]]], count: int) -> list[list[Sequence[float]]]:
    if len(boxes) != count or not all(len(one) and all(len(box) == 4 for box in one) for one in boxes):
        raise InputError(
            f"boxes must hold a list of boxes x0, y0, x1, y1 for each of {count} pictures; got {list(boxes)!r:.80}."
        )
    return [list(one) for one in boxes]


def _iou(a: Tensor, b: Tensor) -> Tensor:
    both, either = (a & b).flatten(1).sum(1), (a | b).flatten(1).sum(1)
    return both.double() / either.clamp(min=1)


def _best(boxes: Tensor, targets: Sequence[Sequence[Sequence[float]]]) -> Tensor:
    """Largest overlap of each box with any of its targets."""
    pairs = zip(boxes.tolist(), targets, strict=True)
    return torch.tensor([max(_box_iou(box, one) for one in true) for box, true in pairs], dtype=torch.float64)


def _box_iou(a: Sequence[float], b: Sequence[float]) -> float:
    wide, high = (max(0.0, min(a[i + 2], b[i + 2]) - max(a[i], b[i])) for i in (0, 1))
    whole = sum((one[2] - one[0]) * (one[3] - one[1]) for one in (a, b))
    return wide * high / (whole - wide * high) if whole else 0.0
