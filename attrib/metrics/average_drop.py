"""Average drop, increase in confidence and average gain: what the model makes of the picture seen through its map."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, Literal

import torch
from torch import Tensor

from attrib import checks
from attrib.core import Given, Query
from attrib.errors import InputError
from attrib.metrics.asking import AskingMetric, full_size
from attrib.metrics.correlation import varies
from attrib.metrics.follow import swept
from attrib.metrics.protocol import Protocol, make_baseline
from attrib.registry import METRICS


class ThroughMap(AskingMetric):
    r"""A number from two scores: ``Y`` of the input, and ``O`` of the input times its map. Subclasses write `read`.

    .. math:: O = f\bigl(x \odot m + b \odot (1 - m)\bigr), \qquad m = \frac{M - \min M}{\max M - \min M}

    Convention:
        - ``scale="minmax"``: every map is stretched to [0, 1] by itself; NaN where it is constant, for nothing says
          whether that shows everything or nothing.
        - ``scale="none"``: maps are multiplied as they are and must lie in [0, 1]; one that is 1 everywhere shows the
          input itself, loses nothing and so gets the best possible average drop.
        - ``b`` is the protocol's baseline; with ``"zero"``, as published, the input is multiplied by its map.

    Cost: one forward pass, and one more for the clean input.

    Args:
        scale: see above.

    Example:
        >>> maps = torch.rand(2, 1, 12, 12)
        >>> {name: METRICS[name]().score(model, x, 3, maps).shape for name in ("average_drop", "average_gain")}
        {'average_drop': torch.Size([2]), 'average_gain': torch.Size([2])}
    """

    range = (0.0, 1.0)

    def __init__(self, *, scale: Literal["minmax", "none"] = "minmax") -> None:
        self.scale = checks.choice("scale", scale, ("minmax", "none"))

    def measure(self, query: Query, maps: Tensor, protocol: Protocol, options: dict[str, Any]) -> Tensor:
        """Read the number from the clean score and that of the input seen through its map."""
        x = query.image
        values = full_size(maps, x, protocol)
        keep, defined = self._scaled(values)
        seen = swept(query, Given(keep.to(x)[None]), make_baseline(protocol.baseline, x), options)[0]
        found = self.read(query.clean.score.cpu().double(), seen, 64 * torch.finfo(x.dtype).eps)
        return found.where(defined, float("nan"))

    def _scaled(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """What is kept, ``(N, 1, H, W)`` in [0, 1], and for which maps that is defined."""
        low, high = values.amin((1, 2, 3), keepdim=True), values.amax((1, 2, 3), keepdim=True)
        if self.scale == "minmax":
            defined = varies(values.flatten(1).T, 0.0)
            return (values - low) / (high - low).where(high > low, 1.0), defined
        if low.min() < 0 or high.max() > 1:
            raise InputError(
                f"maps must lie in [0, 1] with scale='none'; got {low.min():g} to {high.max():g}. Scale them, or leave "
                "scale='minmax'."
            )
        return values, torch.ones(len(values), dtype=torch.bool)

    @abstractmethod
    def read(self, clean: Tensor, seen: Tensor, rounding: float) -> Tensor:
        """Return ``(N,)`` from the scores of the input and of the input seen through its map."""


@METRICS.add("average_drop")
class AverageDrop(ThroughMap):
    r"""Which share of its score does the picture lose when it is seen through its map?

    .. math:: s = \max(0, Y - O) / Y

    Convention:
        - relative to the clean score, as in the paper (pytorch-grad-cam's ``DropInConfidence`` is not); a share, of
          which the paper gives the mean in per cent.
        - lower is better; NaN where the clean score is not positive, as that of logits may be.

    Cost: one forward pass, and one more for the clean input.

    Example:
        >>> AverageDrop().score(model, x, 3, torch.rand(2, 1, 12, 12)).shape
        torch.Size([2])

    References:
        Chattopadhay, Sarkar, Howlader, Balasubramanian, "Grad-CAM++: Generalized Gradient-based Visual Explanations for
        Deep Convolutional Networks", WACV 2018.
    """

    higher_is_better = False

    def read(self, clean: Tensor, seen: Tensor, rounding: float) -> Tensor:  # noqa: ARG002
        """Relative loss."""
        return ((clean - seen).clamp(min=0) / clean).where(clean > 0, float("nan"))


@METRICS.add("increase_in_confidence")
class IncreaseInConfidence(ThroughMap):
    """Does the picture score higher when it is seen through its map? 1 or 0 for each example.

    Convention:
        - 1 where ``O > Y`` by more than rounding (64 machine epsilons, relative to them), 0 elsewhere; the mean over
          examples is the published number, there in per cent.
        - higher is better; a map that shows everything has 0.

    Cost: one forward pass, and one more for the clean input.

    Example:
        >>> IncreaseInConfidence().score(model, x, 3, torch.rand(2, 1, 12, 12)).shape
        torch.Size([2])

    References:
        Chattopadhay, Sarkar, Howlader, Balasubramanian, "Grad-CAM++: Generalized Gradient-based Visual Explanations for
        Deep Convolutional Networks", WACV 2018.
    """

    higher_is_better = True

    def read(self, clean: Tensor, seen: Tensor, rounding: float) -> Tensor:
        """1 or 0."""
        return (seen - clean > rounding * torch.maximum(clean.abs(), seen.abs())).double()


@METRICS.add("average_gain")
class AverageGain(ThroughMap):
    r"""Which share of what was missing to certainty does the picture gain when it is seen through its map?

    .. math:: s = \max(0, O - Y) / (1 - Y)

    Convention:
        - higher is better; reads probabilities: NaN where the clean score does not lie in [0, 1).

    Cost: one forward pass, and one more for the clean input.

    Example:
        >>> AverageGain().score(model, x, 3, torch.rand(2, 1, 12, 12)).shape
        torch.Size([2])

    References:
        Zhang, Torres, Sicre, Avrithis, Ayache, "Opti-CAM: Optimizing Saliency Maps for Interpretability", CVIU 2024.
    """

    higher_is_better = True

    def read(self, clean: Tensor, seen: Tensor, rounding: float) -> Tensor:  # noqa: ARG002
        """Relative gain."""
        return ((seen - clean).clamp(min=0) / (1 - clean)).where((clean >= 0) & (clean < 1), float("nan"))
