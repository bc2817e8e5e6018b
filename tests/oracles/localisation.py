"""Localisation and complexity of one map, slow and literal: plain lists, loops over pixels, pairs and orders."""

from __future__ import annotations

from itertools import pairwise, permutations
from math import hypot, log

Picture = list[list[float]]
Mask = list[list[bool]]


def pointing(picture: Picture, mask: Mask, radius: float) -> float:
    """Share of the highest points with a pixel of the object within ``radius`` of them."""
    top = max(value for line in picture for value in line)
    hits = []
    for i, line in enumerate(picture):
        for j, value in enumerate(line):
            if value == top:
                distances = [hypot(i - y, j - x) for y, row in enumerate(mask) for x, here in enumerate(row) if here]
                hits.append(min(distances) <= radius + 1e-9)
    return sum(hits) / len(hits)


def energy(picture: Picture, mask: Mask) -> float:
    """Positive values inside, over all positive values."""
    held = total = 0.0
    for line, row in zip(picture, mask, strict=True):
        for value, here in zip(line, row, strict=True):
            if value > 0:
                total += value
                held += value if here else 0.0
    return held / total


def pixel_auc(picture: Picture, mask: Mask) -> float:
    """Share of the pairs of a pixel inside and one outside that are in the right order; half of the equal ones."""
    values = [(value, here) for line, row in zip(picture, mask, strict=True) for value, here in zip(line, row, strict=True)]  # fmt: skip  # noqa: E501
    won = [
        1.0 if one > other else 0.5 if one == other else 0.0
        for one, inside in values
        if inside
        for other, also in values
        if not also
    ]
    return sum(won) / len(won)


def orders(picture: Picture, mask: Mask) -> list[list[bool]]:
    """For every order of the pixels from the highest to the lowest: which of them are inside, one after the other."""
    pixels = [(value, here) for line, row in zip(picture, mask, strict=True) for value, here in zip(line, row, strict=True)]  # fmt: skip  # noqa: E501
    falling = [order for order in permutations(pixels) if all(a[0] >= b[0] for a, b in pairwise(order))]
    return [[here for _, here in order] for order in falling]


def rank_accuracy(picture: Picture, mask: Mask) -> float:
    """Mean over all orders of the share inside among as many pixels as the object has."""
    shares = []
    for order in orders(picture, mask):
        size = sum(order)
        shares.append(sum(order[:size]) / size)
    return sum(shares) / len(shares)


def iou_curve(picture: Picture, mask: Mask) -> list[float]:
    """Overlap of the object with the first pixels, their number inside being the mean over all orders."""
    every = orders(picture, mask)
    size = sum(every[0])
    curve = []
    for k in range(len(every[0]) + 1):
        common = sum(sum(order[:k]) for order in every) / len(every)
        curve.append(common / (k + size - common))
    return curve


def best_iou(picture: Picture, mask: Mask) -> float:
    """The highest overlap over thresholds that are values of the map."""
    found = []
    for threshold in {value for line in picture for value in line}:
        both = either = 0
        for line, row in zip(picture, mask, strict=True):
            for value, here in zip(line, row, strict=True):
                both += value >= threshold and here
                either += value >= threshold or here
        found.append(both / either)
    return max(found)


def gini(picture: Picture) -> float:
    """Mean difference of two sizes, over twice their mean."""
    sizes = [abs(value) for line in picture for value in line]
    apart = sum(abs(a - b) for a in sizes for b in sizes) / len(sizes) ** 2
    return apart / (2 * sum(sizes) / len(sizes))


def entropy(picture: Picture) -> float:
    """In nats."""
    sizes = [abs(value) for line in picture for value in line]
    return sum(-size / sum(sizes) * log(size / sum(sizes)) for size in sizes if size > 0)
