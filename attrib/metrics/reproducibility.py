"""Whether the same question gets the same answer: repeated, in another batch, with other seeds."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial
from typing import Literal

import torch
from torch import Tensor

from attrib import checks
from attrib.metrics.again import Again, MethodMetric, as_given, length, similarity
from attrib.registry import METRICS

Distance = Literal["l2", "rank"]


@METRICS.add("reproducibility")
class Reproducibility(MethodMetric):
    r"""By how much does the map change when the same question is asked again?

    .. math:: s = \max_{\text{kind}} \frac{1}{R} \sum_{r=1}^{R} d(M_r, M), \qquad
        d(M', M) = \frac{\lVert M' - M \rVert}{\lVert M - \bar{M} \rVert}

    Convention:
        - three kinds of asking again: once more, alone; beside another example in one batch; and ``seeds`` times with
          other seeds, from ``seed`` on, if the method has one (see `Attribution.reseeded`). The worst kind counts,
          and within one the mean, so that a method with noise is not excused by being repeatable.
        - in [0, infinity), lower is better; 0, up to rounding, for a method that is deterministic and takes each
          example on its own. A descriptor, as a map that ignores the input has 0 too.
        - distances are shares of how much the map varies over the image, not of its size: a RISE map has a large offset
          that all its draws share, and that says nothing.
        - ``distance="rank"`` is 1 minus Spearman's correlation, in [0, 2]; there values that differ by rounding only
          count as much as others.
        - the example beside it has the same values in reverse order, and the same question.
        - NaN where the map is constant.

    Cost: one forward pass, three maps (one for an example that is not measured), and ``seeds`` more if there is a seed.

    Args:
        seeds: other seeds, >= 1.
        distance: ``"l2"`` or ``"rank"``.
        seed: the first of the other seeds, which should not be the method's own.

    Example:
        >>> from attrib.methods import RISE, Saliency
        >>> for method in (Saliency(model), RISE(model, n=40)):
        ...     maps = method.attribute(x, target=3)
        ...     print(method.name, bool((Reproducibility().score(model, x, 3, maps, method=method) > 1e-4).all()))
        saliency False
        rise True
    """

    higher_is_better = False
    range = (0.0, math.inf)
    descriptor = True

    def __init__(self, *, seeds: int = 3, distance: Distance = "l2", seed: int = 1_000_000) -> None:
        self.seeds = checks.integer("seeds", seeds, 1)
        self.distance = checks.choice("distance", distance, ("l2", "rank"))
        self.seed = checks.integer("seed", seed, 0)

    def measure(self, again: Again, maps: Tensor) -> Tensor:
        """The worst kind."""
        kinds = [self._apart(_asked(again, beside), maps) for beside in (False, True)]
        others = [again.method.reseeded(self.seed + k) for k in range(self.seeds)]
        drawn = [self._apart(_asked(replace(again, method=one), False), maps) for one in others if one is not None]
        return torch.stack([*kinds, torch.stack(drawn).mean(0)] if drawn else kinds).amax(0)

    def _apart(self, found: Tensor, maps: Tensor) -> Tensor:
        """Distance of each example's maps, ``(N,)``; NaN where there is no scale for it."""
        as_given(found, maps)
        if self.distance == "rank":
            return 1 - similarity(found, maps)
        flat = maps.flatten(1)
        spread = length(flat - flat.mean(1, keepdim=True))
        rounding = 1e-6 * length(flat)  # float32
        return (length(found - maps) / spread).masked_fill(spread <= rounding, float("nan"))


def _asked(again: Again, beside: bool) -> Tensor:
    """Maps ``(N, ...)``, each example asked alone, or ``beside`` its own values in reverse order."""
    found = []
    for n in range(len(again.x)):
        example = torch.full((1 + beside,), n)
        found += [maps[:1] for _, maps in replace(again, batch_size=2).ask(example, partial(_pair, again.x[n]))]
    return torch.cat(found)


def _pair(image: Tensor, rows: Tensor) -> Tensor:
    return torch.stack([image, image.flatten().flip(0).reshape(image.shape)])[: len(rows)]
