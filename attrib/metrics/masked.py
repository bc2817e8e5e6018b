"""MaskMetric: what all metrics do that ask whether a map lies where the object is."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from attrib.core.masking.options import check_options
from attrib.metrics.base import Metric
from attrib.metrics.protocol import Protocol
from attrib.metrics.values import inside, pixel_values


class MaskMetric(Metric):
    """A number read off a map and the mask of the object. Subclasses write `read`.

    Convention:
        - maps of a layer are resized to the input's size, as for curves; channels and sign are the protocol's.
        - NaN where the mask is empty (nothing can be found), or the map is not finite.
        - the model is not run: ``model``, ``target`` and the options of running it make no difference.
    """

    higher_is_better = True
    range = (0.0, 1.0)
    needs = ("masks",)

    def score(
        self,
        model: Callable[..., Any],  # noqa: ARG002  what is not needed is not looked at
        x: Tensor,
        target: object,  # noqa: ARG002
        maps: Tensor,
        protocol: Protocol | str | Mapping[str, Any] = "default",
        *,
        additional_forward_args: object = None,  # noqa: ARG002
        masks: Tensor | None = None,
        **options: Any,
    ) -> Tensor:
        """Return ``(N,)``; ``masks (N, H, W)`` are bool, of the input's size, True inside the object."""
        check_options(options)  # type: ignore[arg-type]
        values, finite = pixel_values(maps, x, protocol)
        where = inside(masks, x)
        undefined = ~finite | ~where.flatten(1).any(1)
        return self.read(values, where).masked_fill(undefined, float("nan"))

    @abstractmethod
    def read(self, values: Tensor, where: Tensor) -> Tensor:
        """Return ``(N,)`` from ``values (N, H, W)``, float64, and ``where (N, H, W)``, which may be empty."""
