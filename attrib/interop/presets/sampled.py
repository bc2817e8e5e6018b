"""Means over points that are drawn at random, each by its own number."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import captum.attr
import numpy as np
import torch
from torch import Tensor

from attrib import checks
from attrib.core import Query
from attrib.core.reduce import Channels
from attrib.errors import LayerError
from attrib.interop.wrapped import FromCaptum


class Sampled(FromCaptum):
    """A mean of what Captum's gradient says at drawn points; the draw of sample ``k`` follows from ``seed`` and ``k``.

    Captum draws for a whole pass at once, so that its samples depend on how many rows and examples share the pass.
    """

    captum_class = captum.attr.Saliency
    together = 1
    fewest = 1

    def __init__(
        self,
        *args: Any,
        n_samples: int,
        batch_size: int,
        seed: int,
        channels: Channels = "sum",
        absolute: bool = False,
    ) -> None:
        super().__init__(*args, seed=seed, channels=channels, absolute=absolute, abs=False)
        self.n_samples = checks.integer("n_samples", n_samples, self.fewest)
        self.batch_size = checks.integer("batch_size", batch_size, 1)

    def _terms(self, query: Query, row: Tensor, sources: Sequence[np.random.Generator]) -> tuple[Tensor, ...]:
        """What is averaged, for samples drawn from ``sources`` and the example ``row (1,)``: ``(k, ...)`` each."""
        raise NotImplementedError

    def _maps(self, query: Query, rows: Tensor) -> tuple[Tensor, ...]:
        """The means of the terms, of which only the sums are kept."""
        sums: list[Tensor] = []
        for sources in self._passes():
            terms = [term.double().sum(0, keepdim=True) for term in self._terms(query, rows, sources)]
            sums = [a + b for a, b in zip(sums, terms, strict=True)] if sums else terms
        return tuple(one / self.n_samples for one in sums)

    def _passes(self) -> Iterator[list[np.random.Generator]]:
        """A source of random numbers for each sample, as many at a time as go into one pass."""
        for start in range(0, self.n_samples, self.batch_size):
            samples = range(start, min(start + self.batch_size, self.n_samples))
            yield [np.random.Generator(np.random.Philox(key=self.seed, counter=(0, 0, 0, k))) for k in samples]

    def _slopes(self, query: Query, row: Tensor, points: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """The gradient of the score of the example ``row (1,)`` at each of ``points``, to the inputs or the layer."""
        n = len(points[0])
        found = self._captums(query, row.expand(n), points, self._options(query, row))
        if any(len(slopes) != n for slopes in found):
            raise LayerError(
                f"layer must give one row for each example; {query.layer!r} gives {len(found[0])} for {n}. "
                "Choose another layer."
            )
        return tuple(slopes.double() for slopes in found)


def drawn(values: list[Any], like: Tensor) -> Tensor:
    """What was drawn for each sample, as one Tensor ``(k, ...)`` of the dtype and device of ``like``."""
    return torch.from_numpy(np.stack(values)).to(like)
