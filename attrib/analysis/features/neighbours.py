"""The pictures that are nearest to a picture: by their pixels, and by what layers say to them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from attrib import checks
from attrib.analysis.features.bank import Bank, checked_index
from attrib.analysis.features.search import METRICS, Engine, Metric, Search, faiss_for
from attrib.errors import InputError
from attrib.report.finding import Finding
from attrib.report.table import amount, text_table

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, eq=False)
class Neighbours(Finding):
    """The ``k`` nearest rows of a bank to each query, by space.

    Attributes:
        metric: ``"l2"`` or ``"cosine"``.
        query: position of each query in the bank that it is from, ``(Q,)``.
        index: by space, positions of the neighbours in the bank, nearest first, ``(Q, k)``.
        distance: by space, ``(Q, k)``.
        query_labels: ``(Q,)``; None where there are none.
        labels: of the bank, ``(N,)``; None where there are none.
        left_out: by space, rows of the bank that have no direction, for the cosine.
        bank: where the neighbours are from.
        asked: where the queries are from.
    """

    metric: str
    query: Tensor
    index: Mapping[str, Tensor]
    distance: Mapping[str, Tensor]
    query_labels: Tensor | None
    labels: Tensor | None
    left_out: Mapping[str, int]
    bank: Bank = field(repr=False, metadata={"saved": False})
    asked: Bank = field(repr=False, metadata={"saved": False})

    @property
    def k(self) -> int:
        """Neighbours of each query."""
        return next(iter(self.index.values())).shape[1]

    def overlap(self, first: str, second: str) -> Tensor:
        """Share of the ``k`` neighbours that two spaces have in common, ``(Q,)``."""
        both = self.index[self._named(first)][:, :, None] == self.index[self._named(second)][:, None]
        return both.any(2).double().mean(1)

    def precision(self, space: str) -> Tensor:
        """Share of the ``k`` neighbours that have the label of the query, ``(Q,)``."""
        if self.labels is None or self.query_labels is None:
            raise InputError("label precision needs labels of the queries and of the bank; got none.")
        same = self.labels[self.index[self._named(space)]] == self.query_labels[:, None]
        return same.double().mean(1)

    @property
    def chance(self) -> Tensor | None:
        """The precision that random neighbours would have, ``(Q,)``: share of its label among the rows it may have."""
        if self.labels is None or self.query_labels is None:
            return None
        own = int(self.asked is self.bank)
        counts = Counter(self.labels.tolist())
        same = torch.tensor([counts[label] - own for label in self.query_labels.tolist()])
        return same.double() / (len(self.labels) - own)

    def _named(self, space: str) -> str:
        return checks.choice("space", space, tuple(self.index))

    def table(self) -> list[dict[str, float]]:
        """Means over the queries, one row per space."""
        first, rows = next(iter(self.index)), []
        for space in self.index:
            row = {f"overlap@{self.k} with {first}": float(self.overlap(first, space).mean())}
            if self.chance is not None:
                row |= {f"precision@{self.k}": float(self.precision(space).mean())}
                row |= {"of random": float(self.chance.mean())}
            rows.append(row | {"mean distance": float(self.distance[space].double().mean())})
        return rows

    def to_text(self, *, markdown: bool = False) -> str:
        """Means over the queries, a row for each space."""
        rows = [
            {"space": space} | {name: amount(value) for name, value in row.items()}
            for space, row in zip(self.index, self.table(), strict=True)
        ]
        told = f"{len(self.query)} queries, {len(self.bank)} pictures, {self.metric} distance"
        zeros = [f"{count} rows of {space} are zero and left out" for space, count in self.left_out.items() if count]
        return "\n".join([text_table(rows, markdown=markdown), "", "; ".join([told, *zeros])])

    def plot(self) -> Figure:
        """The first queries, and their neighbours in each space."""
        from attrib.plot.neighbours import neighbour_rows

        return neighbour_rows(self)


def nearest(
    query: Bank | Sequence[int] | Tensor | None,
    bank: Bank,
    k: int = 6,
    *,
    space: str | Sequence[str] | None = None,
    metric: Metric = "l2",
    engine: Engine = "auto",
) -> Neighbours:
    r"""Find the rows of a bank that are nearest to each query, in several spaces side by side.

    .. math:: d(a, b) = \lVert a - b \rVert_2 \quad\text{or}\quad d(a, b) = 1 - \frac{a \cdot b}{\lVert a \rVert \lVert b \rVert}

    Convention:
        - queries that are positions in the bank are not their own neighbours; a second copy of the picture is one, at
          distance 0. The rows of another bank may all be neighbours.
        - of rows at the same distance the one that comes first in the bank is nearer.
        - pixels are compared as the network sees them, normalised.
        - a row of zeros has no direction: with the cosine it is nobody's neighbour, and as a query it is refused.
        - candidates are found by a product of matrices; their distances, and which are nearest, are computed exactly.

    Cost: ``Q * N`` distances in each space, 1024 rows at a time; no pass through the network.

    Args:
        query: positions in the bank, None for all of them; or another bank, made by the same model.
        bank: where to search.
        k: how many neighbours.
        space: one or more spaces of the bank; all of them if None.
        metric: which distance.
        engine: ``"torch"``, ``"faiss"``, or faiss where it is installed and the bank has 50,000 rows.

    Raises:
        InputError: ``k`` is more than there are rows, or the banks are not of the same model and layers.

    Example:
        >>> from attrib.analysis import feature_bank
        >>> bank = feature_bank(model, torch.rand(20, 3, 12, 12), "relu2", "fc@input")
        >>> found = nearest([0, 7], bank, k=3)
        >>> found.index["pixel"].shape, float(found.overlap("pixel", "pixel").mean())
        (torch.Size([2, 3]), 1.0)

    References:
        Krizhevsky, Sutskever, Hinton, "ImageNet Classification with Deep Convolutional Neural Networks", NeurIPS 2012,
        section 6.1 and figure 4.
    """  # noqa: E501  the formula
    asked, at = _asked(query, bank)
    own = at if asked is bank else None
    limit = len(bank) - (own is not None)
    if checks.integer("k", k, 1) > limit:
        other = " other than the query" if own is not None else ""
        raise InputError(f"k must be at most {limit}, the rows of the bank{other}; got {k}.")
    spaces = bank.spaces if space is None else (space,) if isinstance(space, str) else tuple(space)
    checks.choice("metric", metric, METRICS)
    search = Search(bank, k, metric, faiss_for(engine, len(bank)))
    found = {name: search.all(asked, at, bank.space(name), own) for name in dict.fromkeys(spaces)}
    if not found:
        raise InputError("space must name at least one space of the bank; got none.")
    labels = None if asked.labels is None else asked.labels[at]
    index, distance = {name: one[0] for name, one in found.items()}, {name: one[1] for name, one in found.items()}
    zeros = {name: one[2] for name, one in found.items()}
    return Neighbours(metric, at, index, distance, labels, bank.labels, zeros, bank, asked)


def _asked(query: Bank | Sequence[int] | Tensor | None, bank: Bank) -> tuple[Bank, Tensor]:
    """The bank that the queries are from, and where they are in it."""
    if not isinstance(query, Bank):
        return bank, torch.arange(len(bank)) if query is None else checked_index(query, len(bank), "query")
    for name in ("sha256", "pool", "preprocess", "shapes"):
        if query.about[name] != bank.about[name]:
            raise InputError(
                f"query must be a bank of the same {name}, {bank.about[name]!r}; got {query.about[name]!r}."
            )
    return query, torch.arange(len(query))
