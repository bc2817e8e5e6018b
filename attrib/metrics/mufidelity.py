"""MuFidelity: does a map rank sets of cells as the score does?"""

from __future__ import annotations

from typing import Any

from torch import Tensor, finfo

from attrib import checks
from attrib.core import Query
from attrib.errors import InputError
from attrib.metrics.asking import AskingMetric
from attrib.metrics.correlation import correlated, varies
from attrib.metrics.follow import swept
from attrib.metrics.protocol import Protocol, make_baseline
from attrib.metrics.subsets import Subsets, cells_of
from attrib.metrics.values import pixel_values
from attrib.registry import METRICS


@METRICS.add("mufidelity")
class MuFidelity(AskingMetric):
    r"""Do random sets of cells lose more where the map holds more? Spearman's rank correlation.

    .. math:: s = \operatorname{corr}_{S:\,|S| = k} \Bigl( \operatorname{rank} \sum_{i \in S} M_i,\;
        \operatorname{rank} \bigl( f(x) - f(x_{S \leftarrow b}) \bigr) \Bigr)

    Convention:
        - ``S`` are cells of a grid over the image, as equal as can be (a smaller image has a cell per pixel); hidden
          ones show the protocol's baseline. The protocol's unit is not used.
        - Spearman's correlation, equal values sharing their mean rank, as in xplique; the paper has Pearson's, which is
          ``SensitivityN`` with squares as units.
        - higher is better; a map that is exact for sets of cells, as on a linear model, has 1.
        - NaN where the map is constant, or the sums or the scores do not vary by more than rounding.

    Cost: ``draws`` forward passes, and one more.

    Args:
        cells: along each side.
        share: of the cells that is hidden at once, in (0, 1); at least one cell, and not all.
        draws: sets, >= 2.
        seed: same seed, same sets.

    Example:
        >>> MuFidelity(cells=4, draws=50).score(model, x, 3, torch.rand(2, 1, 12, 12)).shape
        torch.Size([2])

    References:
        Bhatt, Weller, Moura, "Evaluating and Aggregating Feature-based Model Explanations", IJCAI 2020.
    """

    higher_is_better = True
    range = (-1.0, 1.0)

    def __init__(self, *, cells: int = 9, share: float = 0.2, draws: int = 200, seed: int = 0) -> None:
        self.cells = checks.integer("cells", cells, 2)
        self.share = checks.number("share", share, 0, 1)
        if not 0 < self.share < 1:
            raise InputError(f"share must lie between 0 and 1; got {share!r}.")
        self.draws = checks.integer("draws", draws, 2)
        self.seed = checks.integer("seed", seed, 0)

    def measure(self, query: Query, maps: Tensor, protocol: Protocol, options: dict[str, Any]) -> Tensor:
        """Spearman's correlation over the sets."""
        x = query.image
        values, _ = pixel_values(maps, x, protocol)
        labels = cells_of((x.shape[2], x.shape[3]), self.cells)
        units = int(labels.max()) + 1
        size = min(max(1, round(self.share * units)), units - 1)
        subsets = Subsets(labels, [size] * self.draws, self.seed)
        scores = swept(query, subsets, make_baseline(protocol.baseline, x), options)
        held, epsilon = subsets.sums(values), finfo(x.dtype).eps
        return correlated(held, scores, epsilon, ranked=True).where(varies(values.flatten(1).T, 0.0), float("nan"))
