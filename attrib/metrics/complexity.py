"""Sparseness and entropy: how concentrated a map is. They describe it; they do not say that it is good."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from attrib.core.masking.options import check_options
from attrib.metrics.base import Metric
from attrib.metrics.protocol import Protocol
from attrib.metrics.values import pixel_values
from attrib.registry import METRICS


class Descriptor(Metric):
    """A number read off the sizes of a map's values. Subclasses write `read`.

    Convention:
        - a descriptor: nothing is ranked by it, and it is not tested against control maps.
        - signs are dropped; channels are the protocol's, and ``sign="positive"`` leaves negative values out.
        - maps of a layer are resized to the input's size, which makes them smooth: they come out less concentrated.
        - NaN where the map is zero or not finite.
    """

    needs = ()
    descriptor = True

    def score(
        self,
        model: Callable[..., Any],  # noqa: ARG002  what is not needed is not looked at
        x: Tensor,
        target: object,  # noqa: ARG002
        maps: Tensor,
        protocol: Protocol | str | Mapping[str, Any] = "default",
        *,
        additional_forward_args: object = None,  # noqa: ARG002
        **options: Any,
    ) -> Tensor:
        """Return ``(N,)``; only the maps are read, and the size of ``x``."""
        check_options(options)  # type: ignore[arg-type]
        values, _ = pixel_values(maps, x, protocol)  # those that are not finite are zero
        sizes = values.abs().flatten(1)
        total = sizes.sum(1, keepdim=True)
        return self.read(sizes / total).masked_fill(total.squeeze(1) == 0, float("nan"))

    @abstractmethod
    def read(self, shares: Tensor) -> Tensor:
        """Return ``(N,)`` from ``shares (N, HW)``, each map's adding up to 1."""


@METRICS.add("sparseness")
class Sparseness(Descriptor):
    r"""On how few pixels does the map concentrate? The Gini index of the sizes of its values.

    .. math:: s = \frac{\sum_{i=1}^{n} (2i - n - 1)\, |M|_{(i)}}{n \sum_i |M|_{(i)}},
        \qquad |M|_{(1)} \le \dots \le |M|_{(n)}

    Convention:
        - a uniform map has 0, a single pixel ``1 - 1/n``; higher is sparser, which is not better.
        - does not change with the scale of the map.

    Cost: no pass.

    Example:
        >>> maps = torch.ones(2, 1, 12, 12)
        >>> maps[1], maps[1, 0, 5, 5] = 0, 1
        >>> Sparseness().score(model, x, 3, maps).round(decimals=4)
        tensor([0.0000, 0.9931], dtype=torch.float64)

    References:
        Chalasani et al., "Concise Explanations of Neural Networks using Adversarial Training", ICML 2020.
    """

    higher_is_better = True
    range = (0.0, 1.0)

    def read(self, shares: Tensor) -> Tensor:
        """Gini index of numbers that add up to 1."""
        ranked = shares.sort(dim=1).values
        n = shares.shape[1]
        weights = 2 * torch.arange(1, n + 1, dtype=shares.dtype) - n - 1
        return (ranked * weights).sum(1).clamp(min=0) / n


@METRICS.add("entropy")
class Entropy(Descriptor):
    r"""Over how many pixels does the map spread? The entropy of the sizes of its values, in nats.

    .. math:: s = -\sum_i q_i \ln q_i, \qquad q_i = |M|_i / \sum_j |M|_j

    Convention:
        - a uniform map has ``ln n``, a single pixel 0; ``exp(s)`` is the number of pixels of a uniform map as spread as
          this one. Lower is simpler, which is not better.
        - grows with the number of pixels; ``normalised=True`` divides by ``ln n``, so that it lies in [0, 1].

    Cost: no pass.

    Args:
        normalised: as a share of the most that the size of the input allows.

    Example:
        >>> maps = torch.ones(2, 1, 12, 12)
        >>> maps[1], maps[1, 0, 5, 5] = 0, 1
        >>> Entropy(normalised=True).score(model, x, 3, maps)
        tensor([1., 0.], dtype=torch.float64)

    References:
        Bhatt, Weller, Moura, "Evaluating and Aggregating Feature-based Model Explanations", IJCAI 2020.
    """

    higher_is_better = False
    range = (0.0, math.inf)

    def __init__(self, *, normalised: bool = False) -> None:
        self.normalised = normalised

    def read(self, shares: Tensor) -> Tensor:
        """Entropy of numbers that add up to 1."""
        spread: Tensor = torch.special.entr(shares).sum(1)
        return spread / math.log(shares.shape[1]) if self.normalised else spread
