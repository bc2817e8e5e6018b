"""The nearest rows of a bank, block by block: candidates by a product of matrices, distances exactly."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, Literal

import torch
from torch import Tensor

from attrib import checks
from attrib.analysis.features.bank import Bank
from attrib.errors import InputError

Metric = Literal["l2", "cosine"]
Engine = Literal["auto", "torch", "faiss"]
METRICS: tuple[Metric, ...] = ("l2", "cosine")
ENGINES: tuple[Engine, ...] = ("auto", "torch", "faiss")
FAISS_ROWS = 50_000  # from here on its rounded search of a block, and the exact distances after it, pay
BLOCK = 1024  # queries, and rows, that are compared at a time
VALUES = 1 << 25  # 128 MiB of float32: fewer rows at a time where they are long
SPARE = 16  # candidates beyond k: rounding may swap neighbours that are about as far


def faiss_for(engine: Engine, rows: int) -> Any:
    """The package, if it shall search."""
    checks.choice("engine", engine, ENGINES)
    wanted = engine == "faiss" or (engine == "auto" and rows >= FAISS_ROWS and find_spec("faiss") is not None)
    return checks.require("faiss", "engine='faiss'", "large") if wanted else None


@dataclass(frozen=True)
class Search:
    """The nearest rows in one space; blocks are compared one after the other, and the best so far are kept."""

    bank: Bank
    k: int
    metric: Metric
    faiss: Any

    def all(self, asked: Bank, at: Tensor, space: str, own: Tensor | None) -> tuple[Tensor, Tensor, int]:
        """Neighbours, distances, and how many rows of the bank are left out."""
        size, found = _at_once(asked.rows(space, at[:1]).shape[1]), []
        for start in range(0, len(at), size):
            part = slice(start, start + size)
            found.append(self._some(asked.rows(space, at[part]), space, None if own is None else own[part], start))
        return torch.cat([one[0] for one in found]), torch.cat([one[1] for one in found]), found[0][2]

    def _some(self, query: Tensor, space: str, own: Tensor | None, first: int) -> tuple[Tensor, Tensor, int]:
        asked, zero = self._directed(query)
        if bool(zero.any()):
            raise InputError(
                f"queries must have a direction for metric='cosine'; query {first + int(zero.nonzero()[0])} is "
                f"all zeros in {space!r}. Use metric='l2'."
            )
        best = torch.full((len(query), 0), torch.inf, dtype=asked.dtype)
        index, zeros = torch.zeros(len(query), 0, dtype=torch.long), 0
        for start, block in self.bank.blocks(space, _at_once(query.shape[1])):
            rows, empty = self._directed(block.to(asked.dtype))
            zeros += int(empty.sum())
            barred = _barred(own, start, empty, len(query))
            distance, at = self._block(asked, rows, barred)
            best, index = self._better(torch.cat([best, distance], 1), torch.cat([index, at + start], 1))
        if bool(best.isinf().any()):
            raise InputError(
                f"k must be at most the rows of {space!r} that are not zero; {zeros} are. Use metric='l2'."
            )
        return index, best.square() / 2 if self.metric == "cosine" else best, zeros

    def _directed(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """For the cosine vectors of length 1: half their squared distance is the cosine's; and which rows are zero."""
        values = rows if rows.dtype is torch.float64 else rows.float()
        if self.metric == "l2":
            return values, torch.zeros(len(rows), dtype=torch.bool)
        largest = values.abs().amax(1, keepdim=True)  # so that squares neither vanish nor overflow
        empty = largest[:, 0] == 0
        scaled = values / torch.where(largest > 0, largest, torch.ones_like(largest))
        return scaled / torch.where(empty[:, None], torch.ones_like(largest), scaled.norm(dim=1, keepdim=True)), empty

    def _better(self, distance: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
        """The k nearest; of equals the first, as columns stand in the order of the bank."""
        order = distance.argsort(dim=1, stable=True)[:, : self.k]
        return distance.gather(1, order), index.gather(1, order)

    def _block(self, query: Tensor, rows: Tensor, barred: Tensor) -> tuple[Tensor, Tensor]:
        """Distances ``(Q, m)`` to the rows that may be among the nearest, and which they are, in order."""
        take = self.k + SPARE
        if take >= len(rows):
            return _exact(query, rows).masked_fill(barred, torch.inf), torch.arange(len(rows)).expand(len(query), -1)
        at = self._candidates(query.float(), rows.float(), take).sort(1).values
        few = max(1, VALUES // (take * query.shape[1]))
        pieces = zip(torch.split(query, few), torch.split(at, few), strict=True)
        distance = torch.cat([_exact(q[:, None], rows[i])[:, 0] for q, i in pieces])
        distance = distance.masked_fill(barred.gather(1, at), torch.inf)
        return self._certain(query, rows, barred, distance, at)

    def _candidates(self, query: Tensor, rows: Tensor, count: int) -> Tensor:
        """About the nearest rows, ``(Q, count)``: |b|^2 - 2 ab is fast, and off by rounding."""
        if self.faiss is not None:
            return torch.from_numpy(self.faiss.knn(query.numpy(), rows.numpy(), count)[1])
        off = torch.addmm(rows.square().sum(1), query, rows.T, alpha=-2)
        return off.topk(count, largest=False, sorted=False).indices

    def _certain(
        self, query: Tensor, rows: Tensor, barred: Tensor, distance: Tensor, at: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Compare a query with the whole block where rows beyond the candidates may be as near as the k-th."""
        ordered = distance.sort(1).values
        last = torch.where(ordered.isinf(), -torch.inf, ordered).amax(1).square()
        size = query.square().sum(1) + rows.square().sum(1).max()
        rounding = 8 * torch.finfo(torch.float32).eps * query.shape[1] ** 0.5 * size  # of |a|^2 + |b|^2 - 2 ab
        unsure = last <= ordered[:, self.k - 1].square() + rounding
        if not bool(unsure.any()):
            return distance, at
        full = _exact(query[unsure], rows).masked_fill(barred[unsure], torch.inf)
        best, where = self._better(full, torch.arange(len(rows)).expand(len(full), -1))
        distance, at = distance.clone(), at.clone()
        distance[unsure] = torch.inf
        distance[unsure, : self.k], at[unsure, : self.k] = best, where
        return distance, at


def _at_once(width: int) -> int:
    return max(1, min(BLOCK, VALUES // width))


def _exact(query: Tensor, rows: Tensor) -> Tensor:
    """Distances by differences: the product of matrices is faster, and cannot tell copies from neighbours."""
    return torch.cdist(query, rows, compute_mode="donot_use_mm_for_euclid_dist")


def _barred(own: Tensor | None, start: int, empty: Tensor, queries: int) -> Tensor:
    """Which rows of a block cannot be neighbours: the query itself, and those without direction."""
    barred = empty.expand(queries, -1)
    return barred if own is None else barred | (own[:, None] == torch.arange(start, start + len(empty)))
