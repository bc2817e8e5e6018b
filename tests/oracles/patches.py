"""The strongest places of channels by looking at every one of them, and what units see by changing every pixel."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

Place = tuple[float, int, int, int]  # value, picture, row, column


def top_places(maps: Sequence[Tensor], channel: int, n: int, distinct: bool) -> list[Place]:
    """The best of ``maps``, one ``(K, h, w)`` for each picture: by value, then in reading order."""
    found: list[Place] = []
    for number, one in enumerate(maps):
        places = [(float(one[channel, y, x]), number, y, x) for y in range(one.shape[1]) for x in range(one.shape[2])]
        if distinct:
            best = places[0]
            for place in places:
                if place[0] > best[0]:
                    best = place
            places = [best]
        found += places
    found.sort(key=lambda place: (-place[0], *place[1:]))
    return found[:n]


def crop(picture: Tensor, box: Sequence[int]) -> tuple[Tensor, Tensor]:
    """The box (top, bottom, left, right) of a picture ``(C, H, W)``, zero outside of it; and what is inside."""
    top, bottom, left, right = box
    piece = torch.zeros(picture.shape[0], bottom - top, right - left, dtype=picture.dtype)
    inside = torch.zeros(bottom - top, right - left, dtype=torch.bool)
    for y in range(top, bottom):
        for x in range(left, right):
            if 0 <= y < picture.shape[1] and 0 <= x < picture.shape[2]:
                piece[:, y - top, x - left] = picture[:, y, x]
                inside[y - top, x - left] = True
    return piece, inside


def seen_by(act: Callable[[Tensor], Tensor], size: tuple[int, int], channels: int, **like: Any) -> dict[Any, list[int]]:
    """For each place of a layer the bounding box of the pixels that change it, (top, bottom, left, right).

    The picture is black but for one bright pixel, which a network of positive weights without biases never loses.
    """
    dark = act(torch.zeros(1, channels, *size, **like))
    found: dict[Any, list[int]] = {}
    for y in range(size[0]):
        for x in range(size[1]):
            picture = torch.zeros(1, channels, *size, **like)
            picture[:, :, y, x] = 1
            changed = (act(picture) != dark)[0].any(0).nonzero().tolist()
            for place in map(tuple, changed):
                box = found.setdefault(place, [y, y + 1, x, x + 1])
                found[place] = [min(box[0], y), max(box[1], y + 1), min(box[2], x), max(box[3], x + 1)]
    return found
