"""IROF: iterative removal of features, segment by segment."""

from __future__ import annotations

from math import ceil
from typing import Any, Literal

import torch
from torch import Tensor

from attrib import checks
from attrib.core import Query
from attrib.core.masking.superpixels import superpixels
from attrib.metrics.asking import AskingMetric
from attrib.metrics.follow import Follower, Jobs
from attrib.metrics.protocol import Protocol, make_baseline
from attrib.metrics.ranking import tie_orders
from attrib.metrics.subsets import cells_of
from attrib.metrics.values import pixel_values
from attrib.registry import METRICS


@METRICS.add("irof")
class IROF(AskingMetric):
    r"""How fast does the score fall when segments are removed, the most relevant first? The area over its curve.

    .. math:: s = 1 - \frac{1}{L} \sum_{l=0}^{L-1} \frac{1}{2}
        \left(\frac{f(x^{(l)})}{f(x)} + \frac{f(x^{(l+1)})}{f(x)}\right)

    ``x^{(l)}`` has lost the ``l`` segments with the highest mean attribution, of ``L``.

    Convention:
        - segments are superpixels of each example (SLIC, needs scikit-image), or with ``segments="grid"`` rectangles as
          equal as can be; the protocol's unit and steps are not used. A number holds for its segmentation.
        - the x-axis is the share of the *segments* removed, as in the paper, whatever their size.
        - removed segments show the protocol's baseline; ``"zero"`` is the mean colour of normalised inputs.
        - equal segments are removed as the protocol's ``ties`` say: in raster order, or the mean over random orders; a
          constant map is measured like any other.
        - higher is better; 1 where the score falls to 0 at once; below 0 where it rises. A share of the clean score:
          NaN where that is not positive, as that of logits may be.

    Cost: one forward pass per segment, for each order of ties, and one more.

    Args:
        segments: ``"superpixels"`` or ``"grid"``.
        n: about how many segments, >= 2.

    Example:
        >>> IROF(segments="grid", n=9).score(model, x, 3, torch.rand(2, 1, 12, 12)).shape
        torch.Size([2])

    References:
        Rieger, Hansen, "IROF: a Low Resource Evaluation Metric for Explanation Methods", ICLR workshop 2020.
    """

    higher_is_better = True
    range = (float("-inf"), 1.0)

    def __init__(self, *, segments: Literal["superpixels", "grid"] = "superpixels", n: int = 50) -> None:
        self.segments = checks.choice("segments", segments, ("superpixels", "grid"))
        self.n = checks.integer("n", n, 2)

    def measure(self, query: Query, maps: Tensor, protocol: Protocol, options: dict[str, Any]) -> Tensor:
        """Area over the curve of each example, the mean over its orders."""
        x = query.image
        values, _ = pixel_values(maps, x, protocol)
        labels = self._labels(x)
        places = [_places(value, label, protocol) for value, label in zip(values, labels, strict=True)]
        number = torch.tensor([int(label.max()) + 1 for label in labels])
        rank = torch.stack([place[:, label] for place, label in zip(places, labels, strict=True)], 1)
        example, line, count = _all_jobs(number, len(rank))
        follower = Follower(query, make_baseline(protocol.baseline, x), rank.to(x.device), options)
        scores = follower.scores(Jobs(example, line, count, torch.zeros_like(example, dtype=torch.bool)))
        clean = query.clean.score.cpu().double()
        # the trapezoid rule over equal steps: every point counts once, both ends half
        weight = torch.where(count == number[example], 0.5, 1.0)
        under = torch.zeros_like(clean).index_add_(0, example, weight * scores) / len(rank)
        share = (under + clean / 2) / (number * clean)
        return (1 - share).where(clean > 0, float("nan"))

    def _labels(self, x: Tensor) -> Tensor:
        """Segment of each pixel, ``(N, H, W)`` on the CPU."""
        if self.segments == "superpixels":
            return superpixels(x, n=self.n)[:, 0].cpu()
        return cells_of((x.shape[2], x.shape[3]), ceil(self.n**0.5)).expand(len(x), -1, -1)


def _places(values: Tensor, labels: Tensor, protocol: Protocol) -> Tensor:
    """Place of each segment in the orders to try, most relevant first, ``(T, L)``."""
    number = int(labels.max()) + 1
    area = torch.bincount(labels.flatten(), minlength=number)
    total = torch.zeros(number, dtype=values.dtype).index_add_(0, labels.flatten(), values.flatten())
    mean = (total / area).float()  # equal means stay equal, which rounding would put in order
    raster = torch.arange(number)[None]
    among = raster if protocol.ties == "stable" else tie_orders(number, protocol.tie_orders, protocol.seed)
    order = among.gather(1, mean[among].argsort(dim=1, descending=True, stable=True))
    return torch.empty_like(order).scatter_(1, order, raster.expand(order.shape))


def _all_jobs(number: Tensor, orders: int) -> tuple[Tensor, Tensor, Tensor]:
    """Every point but the first of every curve: the example, which order, and how many segments are gone."""
    one = [torch.cartesian_prod(torch.arange(orders), torch.arange(1, int(n) + 1)) for n in number]
    example = torch.arange(len(one)).repeat_interleave(torch.tensor([len(jobs) for jobs in one]))
    line, count = torch.cat(one).T
    return example, line, count
