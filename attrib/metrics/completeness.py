"""Completeness: do the values of a map add up to what its method says they do?"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from attrib.errors import ShapeError
from attrib.metrics.again import Again, MethodMetric
from attrib.registry import METRICS


@METRICS.add("completeness")
class Completeness(MethodMetric):
    r"""By how much do the values of the map miss what they are promised to add up to?

    .. math:: s = \frac{\lvert \sum_p M_p - \Delta \rvert}{\lvert \Delta \rvert}, \qquad
        \Delta = S(x) - S(b) \text{ for methods that compare with a baseline } b

    Convention:
        - in [0, infinity), a share of the difference; lower is better, above 0.05 too few steps were taken, or a rule
          does not fit the model. A descriptor: a map can add up and be wrong everywhere.
        - for methods that promise it only (see `Attribution.due`): integrated gradients, DeepLIFT and DeepLIFT-SHAP at
          the inputs, whose channels are summed or kept and whose signs are kept. NaN for all others.
        - NaN where the difference is 0.

    Cost: one forward pass; where a sum is promised, one more, and one for each baseline.

    Example:
        >>> from attrib import METHODS
        >>> method = METHODS["integrated_gradients"](model, n_steps=50)
        >>> maps = method.attribute(x, target=3)
        >>> bool((Completeness().score(model, x, 3, maps, method=method) < 0.05).all())
        True

    References:
        Sundararajan, Taly, Yan, "Axiomatic Attribution for Deep Networks", ICML 2017, section 3.
    """

    higher_is_better = False
    range = (0.0, math.inf)
    descriptor = True

    def measure(self, again: Again, maps: Tensor) -> Tensor:
        """Compare the sums with what is due."""
        if maps.ndim != again.x.ndim:
            raise ShapeError(f"maps must have the axes of the input, {tuple(again.x.shape)}; got {tuple(maps.shape)}.")
        asked = again.method.asking(again.x, again.goal, again.layer, additional_forward_args=again.extra)
        with asked as query:
            due = again.method.due(query)
        if due is None:
            return torch.full((len(maps),), float("nan"), dtype=torch.float64)
        due = due.detach().cpu().double()
        missing = (maps.flatten(1).sum(1) - due).abs() / due.abs()
        return missing.masked_fill(due == 0, float("nan"))
