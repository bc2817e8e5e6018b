"""AskingMetric: what all metrics do that ask the model about changed inputs."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from attrib import checks
from attrib.core import Query, as_objective, frozen, unwrap
from attrib.core.masking.options import check_options
from attrib.core.reduce import upsample
from attrib.errors import ShapeError
from attrib.metrics.base import Metric
from attrib.metrics.protocol import Protocol, as_protocol
from attrib.metrics.ranking import checked_maps, one_channel


class AskingMetric(Metric):
    """A number from the model's scores of changed inputs. Subclasses write `measure`.

    Convention:
        - the class is decided once, on the clean input; scores are in the protocol's space (probability by default).
        - maps of a layer are resized to the input's size, as for curves; channels and sign are the protocol's.
        - NaN where the map is not finite.
        - every example is measured as if it were alone; random draws are those of ``seed``, the same for all examples.
    """

    needs = ("model",)
    local = False  # whether its masks are, so that `tolerance` means something

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
        """Return ``(N,)``, float64 on the CPU; NaN where it is undefined."""
        check_options(options, local=self.local)  # type: ignore[arg-type]
        protocol = as_protocol(protocol)
        objective, bare = as_objective(target), unwrap(model)
        with frozen(bare):
            query = Query(bare, (only_image(x),), objective, None, checks.arguments(additional_forward_args))
            found = self.measure(query.in_space(protocol.score), maps, protocol, options)
        broken = ~maps.detach().flatten(1).isfinite().all(1).cpu()
        return found.masked_fill(broken, float("nan"))

    @abstractmethod
    def measure(self, query: Query, maps: Tensor, protocol: Protocol, options: dict[str, Any]) -> Tensor:
        """Return ``(N,)``, float64 on the CPU; what it says of maps that are not finite is not read."""


def only_image(x: Tensor) -> Tensor:
    """The one input, detached."""
    tensors = checks.batch(x)
    if len(tensors) > 1:
        raise ShapeError(f"x must be one Tensor; got {len(tensors)}. Pass the rest as additional_forward_args.")
    only = checks.shape(tensors[0], "n c h w", "x")
    return only.detach().clone() if only.is_inference() else only.detach()


def full_size(maps: Tensor, x: Tensor, protocol: Protocol) -> Tensor:
    """Maps ``(N, 1, H, W)`` in their own unit, float64 on the CPU; those that are not finite are zero."""
    flat = one_channel(checked_maps(maps, x), protocol)
    flat = flat.masked_fill(~flat.isfinite().flatten(1).all(1)[:, None, None, None], 0)
    return flat if flat.shape[2:] == x.shape[2:] else upsample(flat, (x.shape[2], x.shape[3]))
