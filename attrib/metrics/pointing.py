"""Pointing game: is the highest point of a map on the object?"""

from __future__ import annotations

import torch
from torch import Tensor

from attrib import checks
from attrib.metrics.masked import MaskMetric
from attrib.registry import METRICS


@METRICS.add("pointing")
class Pointing(MaskMetric):
    r"""Is the highest point of the map on the object, or within a tolerance of it?

    .. math:: s = \frac{1}{|T|} \sum_{p \in T} \big[\min_{q \in G} \lVert p - q \rVert \le r\big],
        \qquad T = \{p : M_p = \max M\}

    Convention:
        - 1 for a hit, 0 for a miss; higher is better. The mean over images is the accuracy hits / (hits + misses).
        - several highest points count by their share: what a random choice among them gives on average.
        - ``tolerance`` is a share of the shorter side, so that it means the same at any resolution; the default is 15
          pixels of 224. Points at exactly that distance are hits, so 0 asks for the object itself.
        - chance is the area of the mask, widened by the tolerance.

    Cost: no pass.

    Args:
        tolerance: radius around the highest point, as a share of the shorter side, >= 0.

    Example:
        >>> masks = torch.zeros(2, 12, 12, dtype=torch.bool)
        >>> masks[:, :3, :3] = True
        >>> maps = torch.zeros(2, 1, 12, 12)
        >>> maps[0, 0, 1, 2], maps[1, 0, 9, 9] = 1, 1
        >>> Pointing().score(model, x, 3, maps, masks=masks)
        tensor([1., 0.], dtype=torch.float64)

    References:
        Zhang, Bargal, Lin, Brandt, Shen, Sclaroff, "Top-down Neural Attention by Excitation Backprop", IJCV 2018.
    """

    def __init__(self, *, tolerance: float = 15 / 224) -> None:
        self.tolerance = checks.number("tolerance", tolerance, low=0)

    def read(self, values: Tensor, where: Tensor) -> Tensor:
        """Share of the highest points that hit."""
        highest = values == values.amax((1, 2), keepdim=True)
        hits = highest & widened(where, self.tolerance * min(where.shape[1:]))
        return hits.flatten(1).sum(1).double() / highest.flatten(1).sum(1)


def widened(where: Tensor, radius: float) -> Tensor:
    """Pixels of ``(N, H, W)`` within ``radius`` pixels, by Euclid, of one that is True."""
    square = radius**2 * (1 + 1e-9)  # 15 / 224 times 224 is not quite 15
    across = _distance_across(where).square()
    near = across <= square
    for down in range(1, min(int(square**0.5), where.shape[1] - 1) + 1):
        reached = across + down**2 <= square
        near[:, down:] |= reached[:, :-down]
        near[:, :-down] |= reached[:, down:]
    return near


def _distance_across(where: Tensor) -> Tensor:
    """Pixels to the nearest True of the same row; infinite in rows without one."""
    place = torch.arange(where.shape[2], dtype=torch.float64)
    before = place.where(where, -torch.inf).cummax(2).values
    after = -((-place).where(where, -torch.inf).flip(2).cummax(2).values.flip(2))
    return torch.minimum(place - before, after - place)
