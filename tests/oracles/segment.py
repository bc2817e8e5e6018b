"""Graph cuts and components without OpenCV: energies written out, cuts by scipy's maximum flow, floods by a stack."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array
from scipy.sparse.csgraph import breadth_first_order, maximum_flow

Array = npt.NDArray[Any]
SCALE = 10_000  # capacities are whole numbers
CONTRAST = 50.0  # gamma of the GrabCut paper
NEXT = ((0, 1), (1, 0), (1, 1), (1, -1))  # each pair of eight neighbours once


def cost(model: Array, colour: Array) -> float:
    """Minus the logarithm of a mixture of Gaussians: weights, means, covariances of five components in a row."""
    weights, means, spreads = model[:5], model[5:20].reshape(5, 3), model[20:].reshape(5, 3, 3)
    total = 0.0
    for weight, mean, spread in zip(weights, means, spreads, strict=True):
        if weight > 0:
            away = colour - mean
            total += weight / math.sqrt(np.linalg.det(spread)) * math.exp(-0.5 * away @ np.linalg.inv(spread) @ away)
    return -math.log(max(total, 1e-300))


def pairs(h: int, w: int) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    found = []
    for y in range(h):
        for x in range(w):
            found += [((y, x), (y + dy, x + dx)) for dy, dx in NEXT if 0 <= y + dy < h and 0 <= x + dx < w]
    return found


def cut(picture: Array, background: Array, foreground: Array) -> Array:
    """Minimise colour costs plus contrast, with the colour models as they are given."""
    h, w, _ = picture.shape
    colours = picture.astype(float)
    steps = [(one, other, float(((colours[one] - colours[other]) ** 2).sum())) for one, other in pairs(h, w)]
    beta = 1 / (2 * np.mean([step for *_, step in steps]))
    source, sink = h * w, h * w + 1
    capacity: dict[tuple[int, int], float] = {}
    for y in range(h):
        for x in range(w):
            # who stays with the source is foreground, and pays for the link to the sink
            costs = cost(background, colours[y, x]), cost(foreground, colours[y, x])
            least = min(costs)
            capacity[source, y * w + x] = costs[0] - least
            capacity[y * w + x, sink] = costs[1] - least
    for (y, x), (v, u), step in steps:
        link = CONTRAST * math.exp(-beta * step) / math.hypot(y - v, x - u)
        capacity[y * w + x, v * w + u] = capacity[v * w + u, y * w + x] = link
    rows, columns = np.array(list(capacity), dtype=np.int32).T  # older SciPys take no others
    whole = np.round(np.array(list(capacity.values())) * SCALE).astype(np.int32)
    graph = csr_array((whole, (rows, columns)), shape=(h * w + 2,) * 2)
    left = graph - maximum_flow(graph, source, sink).flow
    left.data = np.maximum(left.data, 0)
    left.eliminate_zeros()
    reached = breadth_first_order(left, source, return_predecessors=False)
    mask = np.zeros(h * w + 2, dtype=bool)
    mask[reached] = True
    return mask[: h * w].reshape(h, w)


def largest(mask: Array, connectivity: int) -> int:
    """Pixels of the largest component."""
    left = {(int(y), int(x)) for y, x in zip(*np.nonzero(mask), strict=True)}
    best = 0
    while left:
        stack, size = [left.pop()], 0
        while stack:
            y, x = stack.pop()
            size += 1
            for dy in (-1, 0, 1):
                for dx in (-1, 0, 1):
                    there = (y + dy, x + dx)
                    if there in left and (connectivity == 8 or 0 in (dy, dx)):
                        left.remove(there)
                        stack.append(there)
        best = max(best, size)
    return best
