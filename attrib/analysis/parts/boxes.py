"""Parts of pictures: boxes and masks, and the same shapes at random places."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import ceil, floor, isfinite
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from attrib.analysis.segments.agreement import boxes_of
from attrib.errors import InputError

PartLike = Tensor | npt.NDArray[Any] | Sequence[Any]


def part_masks(parts: Mapping[str, PartLike], x: Tensor, *, whole: bool = False) -> dict[str, Tensor]:
    """Each part as bools ``(N, H, W)``; a pixel is inside a box if any of it is. One may be the ``whole`` picture.

    Example:
        >>> part_masks({"eye": [1, 0, 3, 1]}, torch.zeros(2, 3, 2, 4))["eye"][1].int().tolist()
        [[0, 1, 1, 0], [0, 0, 0, 0]]
    """
    given: object = parts
    if not isinstance(given, Mapping) or not given:
        raise InputError(f"parts must map names to boxes or masks, at least one; got {parts!r:.60}.")
    return {str(name): _mask(given, x, f"part {name!r}", whole) for name, given in parts.items()}


def _mask(given: PartLike, x: Tensor, what: str, whole: bool) -> Tensor:
    n, (h, w) = len(x), x.shape[2:]
    values = given.detach().cpu() if isinstance(given, Tensor) else _tensor(given, what)
    if values.dtype == torch.bool:
        if values.shape not in {(h, w), (n, h, w)}:
            raise InputError(f"{what} must be masks ({n}, {h}, {w}) or one ({h}, {w}); got {tuple(values.shape)}.")
        masks = values.expand(n, h, w).clone()
    else:
        if values.shape not in {(4,), (n, 4)}:
            raise InputError(
                f"{what} must be boxes x0, y0, x1, y1, one for all {n} pictures or one for each, or bool masks; got "
                f"numbers of shape {tuple(values.shape)}."
            )
        masks = torch.stack([_boxed(box, h, w, what) for box in values.expand(n, 4).tolist()])
    inside = masks.flatten(1)
    if not bool(inside.any(1).all()) or (bool(inside.all(1).any()) and not whole):
        raise InputError(f"{what} must cover some pixels of every picture and not all; got none, or all, of some.")
    return masks


def _tensor(given: PartLike, what: str) -> Tensor:
    try:
        return torch.as_tensor(np.asarray(given))
    except (TypeError, ValueError):
        raise InputError(f"{what} must be boxes or masks of all pictures; got {given!r:.60}.") from None


def _boxed(box: list[float], h: int, w: int, what: str) -> Tensor:
    x0, y0, x1, y1 = box
    if not (isfinite(sum(box)) and 0 <= x0 < x1 <= w and 0 <= y0 < y1 <= h):
        raise InputError(
            f"{what} must lie in pictures of {w} x {h} pixels, 0 <= x0 < x1 <= {w} and 0 <= y0 < y1 <= {h}; got {box}."
        )
    mask = torch.zeros(h, w, dtype=torch.bool)
    mask[floor(y0) : ceil(y1), floor(x0) : ceil(x1)] = True
    return mask


def moved(
    masks: Tensor, room: Tensor | None, source: torch.Generator, name: str, aligned: bool
) -> tuple[Tensor, Tensor]:
    """The same shapes, each at a random place of its picture, or of the box of ``room``; and their boxes ``(N, 4)``.

    Places are uniform over those that fit. With ``aligned`` all pictures share the two random numbers.
    """
    boxes, (h, w) = boxes_of(masks), masks.shape[1:]
    rooms = torch.tensor([[0, 0, w, h]]).expand(len(masks), 4) if room is None else boxes_of(room)
    sizes, free = (one[:, 2:] - one[:, :2] for one in (boxes, rooms))
    if bool((sizes > free).any()):
        raise InputError(
            f"within must have room for part {name!r}; got {free[(sizes > free).any(1)][0].tolist()} pixels (wide, "
            f"high) for one of {sizes[(sizes > free).any(1)][0].tolist()}."
        )
    chance = torch.rand(1 if aligned else len(masks), 2, generator=source, dtype=torch.float64)
    corners = rooms[:, :2] + (chance * (free - sizes + 1)).long()
    found = torch.zeros_like(masks)
    for i, ((x0, y0, x1, y1), (x, y)) in enumerate(zip(boxes.tolist(), corners.tolist(), strict=True)):
        found[i, y : y + y1 - y0, x : x + x1 - x0] = masks[i, y0:y1, x0:x1]
    return found, torch.cat([corners, corners + sizes], 1)
