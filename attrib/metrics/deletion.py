"""Deletion, insertion, MoRF, LeRF and SRG as metrics: thin, over shared curves."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from torch import Tensor

from attrib.metrics.base import Metric
from attrib.metrics.curves import CurveName, curves
from attrib.metrics.protocol import Protocol
from attrib.metrics.readings import Curves
from attrib.registry import METRICS


class CurveMetric(Metric):
    """A number read off perturbation curves; several cost one set of forwards through `from_curves`.

    Args:
        normalised: relative to the scores of the image and of the baseline, see `Curves`.

    Example:
        >>> found = curves(model, x, 3, torch.rand(2, 1, 12, 12), Protocol(steps=5))
        >>> {name: METRICS[name].from_curves(found).shape for name in ("deletion", "insertion", "srg")}
        {'deletion': torch.Size([2]), 'insertion': torch.Size([2]), 'srg': torch.Size([2])}
    """

    needs = ("model",)
    range = (0.0, 1.0)
    reads: ClassVar[tuple[CurveName, ...]]

    def __init__(self, *, normalised: bool = False) -> None:
        self.normalised = normalised

    @classmethod
    def from_curves(cls, found: Curves, *, normalised: bool = False) -> Tensor:
        """Read the number of each example off curves that were measured before, ``(N,)``."""
        return found.auc(cls.name, normalised)

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
        """Measure only the curves that this number needs."""
        found = curves(
            model,
            x,
            target,
            maps,
            protocol,
            which=self.reads,
            additional_forward_args=additional_forward_args,
            **options,
        )
        return self.from_curves(found, normalised=self.normalised)


@METRICS.add("deletion")
class Deletion(CurveMetric):
    """Area under the score while the most relevant pixels are removed first; lower is better."""

    higher_is_better = False
    reads = ("deletion",)


@METRICS.add("insertion")
class Insertion(CurveMetric):
    """Area under the score while the most relevant pixels are inserted first; higher is better."""

    higher_is_better = True
    reads = ("insertion",)


@METRICS.add("morf")
class MoRF(CurveMetric):
    """Area under the most-relevant-first curve, the same number as deletion; lower is better."""

    higher_is_better = False
    reads = ("morf",)


@METRICS.add("lerf")
class LeRF(CurveMetric):
    """Area under the score while the least relevant pixels are removed first; higher is better."""

    higher_is_better = True
    reads = ("lerf",)


@METRICS.add("srg")
class SRG(CurveMetric):
    """LeRF minus MoRF: what the order gains, whatever removal itself does to the model; higher is better."""

    higher_is_better = True
    range = (-1.0, 1.0)
    reads = ("morf", "lerf")
