"""Correspondence analysis, written as it is told: hide, subtract, take signs, count where two pictures differ."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Features = Callable[[Array], Array]  # one picture (C, H, W) to one vector


def sign(value: float) -> int:
    return 1 if value > 0 else -1 if value < 0 else 0


def distance(one: Sequence[float], other: Sequence[float], zero: str) -> float:
    """Share of the features whose changes differ in sign."""
    differ, compared = 0, 0
    for a, b in zip(one, other, strict=True):
        signs = [sign(a), sign(b)]
        if zero == "positive":
            signs = [1 if one == 0 else one for one in signs]
        if zero == "ignored" and 0 in signs:
            continue
        compared += 1
        differ += signs[0] != signs[1]
    return differ / compared if compared else float("nan")


def correspondence(
    features: Features, pictures: Array, boxes: Sequence[Sequence[int]], fill: float, zero: str
) -> list[float]:
    """The distance of every pair i < j, with the box of each picture filled."""
    changes = []
    for picture, (x0, y0, x1, y1) in zip(pictures, boxes, strict=True):
        hidden = picture.copy()
        for y in range(y0, y1):
            for x in range(x0, x1):
                hidden[:, y, x] = fill
        changes.append(features(picture) - features(hidden))
    n = len(changes)
    return [distance(changes[i].tolist(), changes[j].tolist(), zero) for i in range(n) for j in range(i + 1, n)]
