"""Metric: one number per example, with a direction, a range and what it needs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from torch import Tensor

from attrib.metrics.protocol import Protocol


class Metric(ABC):
    """One number per example. Subclasses set the class attributes, write `score` and register themselves.

    The constructor takes hyper-parameters, the call takes data. A metric never aggregates over examples and never drops
    one: where it is undefined it is NaN.

    Attributes:
        name: registry key, set by ``@METRICS.add(...)``.
        higher_is_better: the direction, for tables and for `attrib.benchmark.stats.beats`.
        range: lowest and highest possible value when scores are probabilities.
        needs: what `score` reads beside the maps, of ``"model"``, ``"masks"`` (keyword ``masks``, ``(N, H, W)`` bool,
            True inside the object; the score of an empty one is NaN) and ``"method"`` (keyword ``method``, the
            `Attribution` that made the maps).
        descriptor: whether the number describes a map without saying how good it is; nothing is ranked by descriptors,
            and they are not tested against control maps. ``higher_is_better`` is then how they are usually read.

    Example:
        >>> class Spread(Metric):
        ...     higher_is_better, range, needs = False, (0.0, float("inf")), ()
        ...
        ...     def score(self, model, x, target, maps, protocol="default", *, additional_forward_args=None, **options):
        ...         return maps.flatten(1).std(1)
        >>> Spread().score(model, x, 3, torch.ones(2, 1, 12, 12))
        tensor([0., 0.])
    """

    name: ClassVar[str]
    higher_is_better: ClassVar[bool]
    range: ClassVar[tuple[float, float]]
    needs: ClassVar[tuple[str, ...]] = ()
    descriptor: ClassVar[bool] = False

    @abstractmethod
    def score(
        self,
        model: Callable[..., Any],
        x: Tensor,
        target: object,
        maps: Tensor,
        protocol: Protocol | str | Mapping[str, Any] = "default",
        *,
        additional_forward_args: object = None,
        **options: Any,
    ) -> Tensor:
        """Return ``(N,)``, one number per example; NaN where it is undefined.

        Args:
            model: the explained model.
            x: the explained inputs ``(N, C, H, W)``.
            target: what was explained, see `attrib.core.as_objective`.
            maps: the explanations ``(N, C, h, w)``, signed and raw as methods give them.
            protocol: how to measure: a `Protocol`, the name of a preset, or its dict.
            additional_forward_args: further arguments of the model.
            options: how the model is run (see `attrib.core.SweepOptions`), and what a metric adds.
        """
