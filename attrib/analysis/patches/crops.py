"""Pieces of pictures: windows of one size, filled up beyond the border, with a mask of what is picture."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset, IterableDataset, Subset

from attrib.analysis.patches.projections import Projection, project
from attrib.analysis.patches.top_activations import TopActivations, maps_of
from attrib.core.network.streaming import Batch, Data, batches, stream
from attrib.core.objectives.watched import Unit
from attrib.core.receptive.field import ReceptiveField, places_of, receptive_field
from attrib.errors import InputError
from attrib.io.stream import Stream

KEEP = 2**28  # bytes of crops and projections


@dataclass(frozen=True)
class CropWindows:
    """Where pieces are cut: one size for all, so that they can be stacked.

    Args:
        field: whose boxes; along an axis on which some box is as long as the picture, the whole picture is shown.
    """

    field: ReceptiveField

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        high, wide = (
            min(length, int((ends[:, 1] - ends[:, 0]).max()))
            for ends, length in zip((self.field.rows, self.field.columns), self.field.size, strict=True)
        )
        return high, wide

    def corners(self, box: Tensor) -> Tensor:
        """Upper left corners (top, left) ``(..., 2)`` of boxes."""
        whole = torch.tensor([side >= length for side, length in zip(self.size, self.field.size, strict=True)])
        return box[..., ::2] * ~whole

    def stack(self, box: Tensor, pictures: Tensor) -> Tensor:
        """Room for a window for each of the boxes, ``(..., C, h, w)``, zero everywhere."""
        return torch.zeros(*box.shape[:-1], pictures.shape[1], *self.size, dtype=pictures.dtype)

    def fill(self, stack: Tensor, which: Tensor, box: Tensor, pictures: Tensor, row: Tensor) -> None:
        """Cut the windows ``which`` (positions in the flattened boxes), each out of the picture in its ``row``.

        Many windows may be of one picture, so pictures must not be repeated for them.
        """
        room, corners = stack.flatten(0, -4), self.corners(box).flatten(0, -2)
        for number, of in zip(which.tolist(), row.tolist(), strict=True):
            (top, left), (high, wide), picture = corners[number].tolist(), self.size, pictures[of]
            rows, columns = _overlap(top, high, picture.shape[1]), _overlap(left, wide, picture.shape[2])
            found = picture[:, rows[0] : rows[1], columns[0] : columns[1]]
            room[number, :, rows[0] - top : rows[1] - top, columns[0] - left : columns[1] - left] = found

    def inside(self, box: Tensor) -> Tensor:
        """Which pixels of the windows are picture, and in the box, ``(..., h, w)``."""
        corner = self.corners(box)
        lines = []
        for axis in (0, 1):
            at = corner[..., axis, None] + torch.arange(self.size[axis])
            low, high = box[..., 2 * axis, None], box[..., 2 * axis + 1, None]
            lines.append((at >= low.clamp(min=0)) & (at < high.clamp(max=self.field.size[axis])))
        return lines[0][..., :, None] & lines[1][..., None, :]


def _overlap(start: int, length: int, cells: int) -> tuple[int, int]:
    low = min(max(start, 0), cells)
    return low, max(low, min(start + length, cells))


def chosen(data: Data, index: Tensor, batch_size: int) -> Iterator[Batch]:
    """The pictures at positions ``index`` (sorted), read again; of what can be indexed only they are read.

    Raises:
        InputError: the data have fewer pictures than before.
    """
    left = set(index.tolist())
    if isinstance(data, Tensor):
        for some in index.split(batch_size):  # type: ignore[no-untyped-call]
            yield Batch(some, data[some.to(data.device)])
        return
    if isinstance(data, Stream):
        for some, inputs in zip(index.split(data.batch_size), data.only(index.tolist()), strict=True):  # type: ignore[no-untyped-call]
            yield Batch(some, inputs)
        return
    if isinstance(data, Dataset) and not isinstance(data, IterableDataset):
        for one in batches(Subset(data, index.tolist()), batch_size=batch_size):
            yield Batch(index[one.index], one.inputs)
        return
    for one in batches(data, batch_size=batch_size):
        wanted = torch.tensor([i for i, number in enumerate(one.index.tolist()) if number in left], dtype=torch.long)
        if len(wanted):
            yield Batch(one.index[wanted], one.inputs[wanted.to(one.inputs.device)])
            left -= set(one.index.tolist())
        if not left:
            return
    raise InputError(f"data must be the same when they are read again; {len(left)} pictures are not there any more.")


class Pool:
    """Pictures of data that can be read only once: those that are still among the best."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.kept: dict[int, Tensor] = {}

    def add(self, batch: Batch, wanted: Tensor) -> None:
        """Take the pictures of a batch that are wanted, and let go those that are not any more."""
        alive = set(wanted.tolist())
        self.kept = {number: picture for number, picture in self.kept.items() if number in alive}
        for number, picture in zip(batch.index.tolist(), batch.inputs, strict=True):
            if number in alive:
                self.kept[number] = picture.cpu().clone()
        size = sum(one.numel() * one.element_size() for one in self.kept.values())
        if size > self.limit:
            raise InputError(
                f"pictures of data that can be read only once must fit into keep={self.limit} bytes; the best take "
                f"{size}. Pass a Tensor, data set or DataLoader, fewer channels, or a larger keep."
            )

    def batches(self, index: Tensor, batch_size: int) -> Iterator[Batch]:
        """The pictures at positions ``index``."""
        for some in index.split(batch_size):  # type: ignore[no-untyped-call]
            yield Batch(some, torch.stack([self.kept[number] for number in some.tolist()]))


def entries(index: Tensor, batch: Tensor) -> tuple[Tensor, Tensor]:
    """Positions in the flattened ``index`` of what is in a batch, and where in the batch.

    Example:
        >>> entries(torch.tensor([[7, 3], [5, 7]]), torch.tensor([3, 7]))
        (tensor([0, 1, 3]), tensor([1, 0, 1]))
    """
    which, row = (index.flatten()[:, None] == batch).nonzero(as_tuple=True)
    return which, row


class CropReader:
    """The second look at the best pictures: values again, crops and projections, a batch at a time."""

    def __init__(
        self, model: Callable[..., Any], top: TopActivations, project: Projection | None, keep: int, batch_size: int
    ) -> None:
        self.model, self.top, self.project, self.keep, self.batch_size = model, top, project, keep, batch_size
        self.again = torch.full_like(top.value, torch.nan)
        self.windows: CropWindows | None = None
        self.crops: Tensor | None = None
        self.projections: Tensor | None = None

    def add(self, batch: Batch) -> None:
        """Look at some of the pictures, each of which comes once."""
        (seen,) = stream(self.model, [batch.inputs], self.top.layer)
        inputs, maps = seen.batch.inputs, maps_of(self.model, self.top.layer, seen)
        if self.windows is None:
            self._begin(inputs)
        which, row = entries(self.top.index, batch.index)
        units = self._units(which).to(maps.device)
        row = row.to(maps.device)
        self.again.view(-1)[which] = maps[row, units[0], units[1], units[2]].to(self.again)
        if self.crops is not None and self.windows is not None:
            self.windows.fill(self.crops, which, self.box, inputs.cpu(), row)
        if self.projections is not None and self.windows is not None and self.project is not None:
            layout = places_of(self.model, self.top.layer, seen.acts[self.top.layer], inputs)
            for some in torch.arange(len(which)).split(self.batch_size):  # type: ignore[no-untyped-call]
                unit = Unit(self.top.layer, layout, *units[:, some.to(maps.device)])
                grads, _ = project(self.model, inputs[row[some.to(maps.device)]], unit, self.project)
                self.windows.fill(self.projections, which[some], self.box, grads.cpu(), torch.arange(len(some)))

    def _units(self, which: Tensor) -> Tensor:
        """Channel, row and column, ``(3, m)``."""
        top = self.top
        return torch.stack([top.channels[which // top.y.shape[1]], top.y.flatten()[which], top.x.flatten()[which]])

    def _begin(self, inputs: Tensor) -> None:
        self.sees = receptive_field(self.model, inputs, self.top.layer, gates=False)
        self.windows = CropWindows(self.sees)
        self.box = self.sees.boxes(self.top.y, self.top.x)
        high, wide = self.windows.size
        stacks = 1 if self.project is None else 2
        size = stacks * self.top.y.numel() * inputs.shape[1] * high * wide * inputs.element_size()
        if size <= self.keep:
            self.crops = self.windows.stack(self.box, inputs)
            self.projections = None if self.project is None else self.windows.stack(self.box, inputs)
        elif self.project is not None:
            raise InputError(
                f"projections of {len(self.top.channels)} channels and their crops must fit into keep={self.keep} "
                f"bytes; they take {size}. Name fewer channels, or pass a larger keep."
            )

    def found(self) -> dict[str, Any]:
        """All of it, by the names of `TopPatches`."""
        inside = None if self.crops is None or self.windows is None else self.windows.inside(self.box)
        shown = {"crops": self.crops, "inside": inside, "projections": self.projections}
        return {"sees": self.sees, "box": self.box, "again": self.again, **shown}
