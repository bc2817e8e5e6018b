"""Sensitivity-n: does a map tell how much is lost when several pixels go at once?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from attrib import checks
from attrib.core import Query
from attrib.errors import InputError
from attrib.metrics.asking import AskingMetric
from attrib.metrics.correlation import correlated, varies
from attrib.metrics.follow import swept
from attrib.metrics.protocol import Protocol, make_baseline
from attrib.metrics.ranking import Grid
from attrib.metrics.subsets import Subsets
from attrib.metrics.values import pixel_values
from attrib.registry import METRICS


@METRICS.add("sensitivity_n")
class SensitivityN(AskingMetric):
    r"""Is what random pixels lose together what the map says that they hold together? Pearson correlation.

    .. math:: s = \frac{1}{|\mathcal{N}|} \sum_{n \in \mathcal{N}}
        \operatorname{corr}_{S:\,|S| = n} \Bigl( \sum_{i \in S} M_i,\; f(x) - f(x_{S \leftarrow b}) \Bigr)

    Convention:
        - ``S`` are units of the protocol, pixels or squares, drawn without replacement; hidden ones show its baseline.
        - Pearson correlation, once for each size, averaged over sizes; the paper draws one curve over ``n``, which are
          the scores of ``SensitivityN(sizes=(n,))``.
        - an int counts units, a float is a share of them, at least one unit.
        - higher is better; a map that is exact for sets of every size, as on a linear model, has 1.
        - NaN where the map is constant, or for some size the sums or the scores do not vary by more than rounding.

    Cost: ``draws`` forward passes for each size, and one more.

    Args:
        sizes: how many units are hidden at once: ints >= 1, or shares in (0, 1).
        draws: sets drawn of each size, >= 2.
        seed: same seed, same sets.

    Example:
        >>> SensitivityN(sizes=(0.1, 20), draws=50).score(model, x, 3, torch.rand(2, 1, 12, 12)).shape
        torch.Size([2])

    References:
        Ancona, Ceolini, Oztireli, Gross, "Towards Better Understanding of Gradient-based Attribution Methods for Deep
        Neural Networks", ICLR 2018.
    """

    higher_is_better = True
    range = (-1.0, 1.0)

    def __init__(
        self, *, sizes: Sequence[int | float] = (0.05, 0.1, 0.2, 0.4), draws: int = 100, seed: int = 0
    ) -> None:
        if not sizes:
            raise InputError("sizes must name at least one number or share of units; got none.")
        self.sizes = tuple(_size(size) for size in sizes)
        self.draws = checks.integer("draws", draws, 2)
        self.seed = checks.integer("seed", seed, 0)

    def measure(self, query: Query, maps: Tensor, protocol: Protocol, options: dict[str, Any]) -> Tensor:
        """Mean of the correlations of all sizes."""
        x = query.image
        values, _ = pixel_values(maps, x, protocol)
        grid = Grid((x.shape[2], x.shape[3]), 1 if protocol.unit == "pixel" else protocol.unit)
        units = len(grid.areas)
        sizes = [size for given in self.sizes for size in [_count(given, units)] * self.draws]
        subsets = Subsets(grid.paint(torch.arange(units)[None])[0], sizes, self.seed)
        scores = swept(query, subsets, make_baseline(protocol.baseline, x), options)
        flat = values.flatten(1).T
        found = [
            correlated(held, score, torch.finfo(x.dtype).eps)
            for held, score in zip(
                torch.split(subsets.sums(values), self.draws), torch.split(scores, self.draws), strict=True
            )
        ]
        return torch.stack(found).mean(0).where(varies(flat, 0.0), float("nan"))


def _size(size: object) -> int | float:
    if isinstance(size, float):
        if not 0 < size < 1:
            raise InputError(f"sizes must be whole numbers >= 1, or shares between 0 and 1; got {size!r}.")
        return size
    return checks.integer("sizes, unless shares,", size, 1)


def _count(size: int | float, units: int) -> int:
    count = max(1, round(size * units)) if isinstance(size, float) else size
    if count >= units:
        raise InputError(
            f"sizes must leave something to choose from; got {size!r} of {units} units. Pass smaller sizes, or a "
            "protocol with a smaller unit."
        )
    return count
