"""MethodMetric: what all metrics do that ask a method again, on changed inputs, for other targets, of other models."""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor

from attrib import checks
from attrib.core import Attribution, Objective, unwrap
from attrib.core.masking.options import auto_rows
from attrib.core.query import rows_of
from attrib.errors import InputError, ShapeError
from attrib.metrics.base import Metric
from attrib.metrics.correlation import pearson, ranks, varies
from attrib.metrics.protocol import Protocol, as_protocol

Rows = int | Literal["auto"]


@dataclass(frozen=True, eq=False)
class Again:
    """A method and what it was asked, settled, so that it can be asked again.

    Attributes:
        method: the instance.
        x: the explained inputs ``(N, ...)``, detached.
        goal: what was explained, settled on these inputs.
        layer: what the method looks at; found once.
        extra: further arguments of the model.
        output: of the model for ``x``.
        batch_size: copies in one call of the method.
    """

    method: Attribution
    x: Tensor
    goal: Objective
    layer: str | None
    extra: tuple[Any, ...]
    output: Any
    batch_size: Rows = "auto"

    @classmethod
    def of(cls, method: object, x: Tensor, target: object, extra: object = None, batch_size: Rows = "auto") -> Again:
        """Settle what is asked, in one forward pass, and one more if the layer is to be found."""
        if not isinstance(method, Attribution):
            raise InputError(f"method must be the Attribution that made the maps; got {method!r}. Pass method=.")
        if batch_size != "auto":
            checks.integer("batch_size", batch_size, 1)
        with method.asking(x, target, additional_forward_args=extra) as query:
            clean = query.clean
            query.extra_rows(torch.zeros(1, dtype=torch.long))  # refuses what the examples share
            return cls(method, query.x, clean.goal, query.layer, query.extra, clean.output, batch_size)

    def on(self, model: Callable[..., Any]) -> Again:
        """The same question to another model."""
        return replace(self, method=self.method.on(model))

    def ask(
        self, example: Tensor, copies: Callable[[Tensor], Tensor], goal: Objective | None = None
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Explain changed copies of examples, some at a time.

        Args:
            example: ``(R,)``, which example each copy is of.
            copies: makes the copies with the numbers ``rows``, of the R.
            goal: one entry per copy; what was explained before if None.

        Yields:
            ``rows`` and their maps ``(r, ...)``, float64 on the CPU.
        """
        size = auto_rows(self.x) if self.batch_size == "auto" else self.batch_size
        for rows in torch.split(torch.arange(len(example)), size):
            question = self.goal.rows(example[rows]) if goal is None else goal.rows(rows)
            extra = self.extra_rows(example[rows])
            maps = self.method.attribute(copies(rows), question, self.layer, additional_forward_args=extra)
            yield rows, maps.cpu().double()

    def maps(self, example: Tensor, copies: Callable[[Tensor], Tensor], goal: Objective | None = None) -> Tensor:
        """All maps that `ask` gives, ``(R, ...)``."""
        return torch.cat([maps for _, maps in self.ask(example, copies, goal)])

    def first(self) -> tuple[Tensor, tuple[Any, ...]]:
        """The first example alone, and its further arguments."""
        return self.x[:1], self.extra_rows(torch.zeros(1, dtype=torch.long))

    def extra_rows(self, example: Tensor) -> tuple[Any, ...]:
        """Further arguments for examples; a Tensor with one entry per example follows them."""
        return rows_of(self.extra, example, len(self.x))


class MethodMetric(Metric):
    """A number from asking again the method that made the maps. Subclasses write `measure`.

    Convention:
        - maps are compared as they are: at their own resolution, with their signs and channels. Of the protocol nothing
          is read.
        - what is explained is settled once, on the input: a class that is predicted stays that class.
        - every example is measured as if it were alone. Its random draws are those of ``seed`` and of its own values,
          not of its place in the batch.
        - NaN where the map is not finite.
        - the score does not depend on ``batch_size``, the number of copies in one call of the method; how a method runs
          within a call is its own business.
    """

    needs = ("model", "method")

    def score(
        self,
        model: Callable[..., Any],
        x: Tensor,
        target: object,
        maps: Tensor,
        protocol: Protocol | str | Mapping[str, Any] = "default",
        *,
        additional_forward_args: object = None,
        method: Attribution | None = None,
        **options: Any,
    ) -> Tensor:
        """Return ``(N,)``, float64 on the CPU; ``method`` is the `Attribution` that made the maps."""
        checks.unknown_options("a metric of methods", options, ("batch_size",))
        as_protocol(protocol)
        again = Again.of(method, x, target, additional_forward_args, options.get("batch_size", "auto"))
        if unwrap(model) is not again.method.model:
            raise InputError("method must be made with the model that is explained; it holds another one.")
        given = _checked(maps, len(again.x)).detach().cpu().double()
        broken = ~given.flatten(1).isfinite().all(1)
        found = self.measure(again, given.masked_fill(broken.reshape(-1, *[1] * (given.ndim - 1)), 0.0))
        return found.masked_fill(broken, float("nan"))

    @abstractmethod
    def measure(self, again: Again, maps: Tensor) -> Tensor:
        """Return ``(N,)`` from finite ``maps (N, ...)``, float64; those that are not finite have been made zero."""


def _checked(maps: object, n: int) -> Tensor:
    if not isinstance(maps, Tensor) or not maps.is_floating_point():
        got = maps.dtype if isinstance(maps, Tensor) else type(maps).__name__
        raise InputError(f"maps must be a Tensor of floating-point numbers; got {got}.")
    if maps.ndim < 2 or len(maps) != n:
        raise ShapeError(f"maps must have shape (N={n}, C, ...); got {tuple(maps.shape)}.")
    return maps


def as_given(found: Tensor, maps: Tensor) -> Tensor:
    """``found`` must have the shape of the maps that were given."""
    if found.shape[1:] != maps.shape[1:]:
        raise ShapeError(
            f"maps must be what the method gives, {tuple(found.shape[1:])} for each example; "
            f"got {tuple(maps.shape[1:])}. Leave them as `attribute` returned them."
        )
    return found


def length(values: Tensor) -> Tensor:
    """Euclidean norm of each example, ``(N,)``."""
    found: Tensor = torch.linalg.vector_norm(values.flatten(1), dim=1)
    return found


def similarity(a: Tensor, b: Tensor, absolute: bool = False) -> Tensor:
    """Spearman's rank correlation of each pair of maps, ``(N,)``; NaN where one of them is constant."""
    first, second = ((one.abs() if absolute else one).flatten(1).T for one in (a, b))
    found = pearson(ranks(first), ranks(second))
    return found.where(varies(first, 0.0) & varies(second, 0.0), float("nan"))


def drawn_for(image: Tensor, *words: object) -> torch.Generator:
    """A source of random numbers that depends on ``words`` and on the values of one example, and on nothing else."""
    content = image.detach().cpu().double().contiguous().numpy().tobytes()
    digest = hashlib.blake2b(f"{words} ".encode() + content, digest_size=7).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "little"))
