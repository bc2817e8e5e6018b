"""The strongest places of channels over a data set: values, pictures and locations, with little memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, SequentialSampler

from attrib import checks
from attrib.core.network.layers import resolve, unwrap
from attrib.core.network.streaming import Data, Seen, stream
from attrib.core.receptive.field import places_of
from attrib.errors import InputError, ModelError, ShapeError, TargetError


@dataclass(frozen=True, eq=False)
class TopActivations:
    """Where channels of a layer respond most, strongest first.

    Attributes:
        layer: its address.
        channels: which, ``(C,)``.
        value: activations, ``(C, n)``.
        index: positions of the pictures in the data, ``(C, n)``.
        y: rows in the layer, ``(C, n)``; 0 where it has no places.
        x: columns likewise.
        places: height and width of the layer; ``(1, 1)`` where it has no places.
        examples: pictures that were looked at.
        asked: how many places of each channel were asked for; ``n`` is smaller where there are not as many.
    """

    layer: str
    channels: Tensor
    value: Tensor
    index: Tensor
    y: Tensor
    x: Tensor
    places: tuple[int, int]
    examples: int
    asked: int


def top_activations(
    model: Callable[..., Any],
    data: Data,
    layer: str | nn.Module,
    *,
    n: int = 9,
    channels: Sequence[int] | None = None,
    distinct: bool = True,
    batch_size: int = 32,
    show_progress: bool = False,
) -> TopActivations:
    """Find the ``n`` strongest places of each channel over all pictures.

    Convention:
        - ``distinct``: at most one place of each picture, its strongest; else all places of all pictures compete.
        - ties go to the picture that comes first, then to the place that comes first, row by row.
        - of tokens only those with a place in the picture count, not the class token.

    Cost: one forward pass per picture; memory for one batch and ``n`` numbers per channel.

    Args:
        model: an ``nn.Module``.
        data: see `attrib.core.network.streaming.batches`; in the same order each time: pictures are named by position.
        layer: a name, an address or a module.
        n: places of each channel.
        channels: which; all if None.
        distinct: at most one place of each picture.
        batch_size: for a Tensor or a data set.
        show_progress: a bar on standard error.

    Raises:
        InputError: the data are shuffled, empty, or of several sizes.
        TargetError: the layer has no such channel.

    Example:
        >>> found = top_activations(model, x, "conv3", n=1, channels=[2, 5])
        >>> found.value.shape, found.index.tolist(), found.places
        (torch.Size([2, 1]), [[1], [1]], (6, 6))
    """
    search = Search(model, layer, n, channels, distinct)
    for seen in search.seen(data, batch_size, show_progress):
        search.add(seen)
    return search.found()


@dataclass
class Search:
    """The best places so far; the number of a place is its picture's position times the places, plus its own."""

    model: Callable[..., Any]
    layer: str | nn.Module
    n: int
    channels: Sequence[int] | None
    distinct: bool
    at: str = field(init=False)
    value: Tensor | None = None
    number: Tensor | None = None
    places: tuple[int, int] = (0, 0)
    examples: int = 0

    def __post_init__(self) -> None:
        checks.integer("n", self.n, 1)
        self.model = unwrap(self.model)
        self.at = resolve(self.model, self.layer)

    def seen(self, data: Data, batch_size: int, show_progress: bool) -> Iterator[Seen]:
        """The data's batches with what the layer gives."""
        if isinstance(data, DataLoader) and not isinstance(data.sampler, SequentialSampler) and data.sampler:
            raise InputError(
                "data must come in the same order each time, because pictures are named by position; got a DataLoader "
                f"with a {type(data.sampler).__name__}. Pass shuffle=False."
            )
        return stream(self.model, data, self.at, batch_size=batch_size, show_progress=show_progress)

    def add(self, seen: Seen) -> None:
        """Let the places of a batch compete."""
        maps = maps_of(self.model, self.at, seen)
        if self.value is None:
            self._begin(maps)
        if tuple(maps.shape[2:]) != self.places:
            raise InputError(
                f"all pictures must have one size; layer {self.at!r} gives {tuple(maps.shape[2:])} places after "
                f"{self.places}. Crop or resize them."
            )
        chosen = maps if self.channels is None else maps[:, list(self.channels)]
        values = chosen.flatten(2)
        count, _, places = values.shape
        start = self.examples * places
        if self.distinct:
            best = values.argmax(2)  # the first of several
            numbers = start + torch.arange(count, device=best.device)[:, None] * places + best
            self._merge(values.gather(2, best[:, :, None])[:, :, 0].T, numbers.T)
        else:
            for i, one in enumerate(values):
                self._merge(one, (start + i * places + torch.arange(places, device=one.device)).expand_as(one))
        self.examples += count

    def _begin(self, maps: Tensor) -> None:
        total = maps.shape[1]
        for channel in self.channels if self.channels is not None else ():
            if not 0 <= checks.integer("channel", channel) < total:
                raise TargetError(f"channel must lie in [0, {total - 1}] for layer {self.at!r}; got {channel}.")
        if self.channels is not None and not self.channels:
            raise InputError("channels must hold at least one channel; got none. None takes all of them.")
        count = total if self.channels is None else len(self.channels)
        self.places = (maps.shape[2], maps.shape[3])
        self.value = maps.new_empty(count, 0)
        self.number = torch.empty(count, 0, dtype=torch.long, device=maps.device)

    def _merge(self, values: Tensor, numbers: Tensor) -> None:
        """Keep the best ``n`` of what was found and what is new, ``(C, m)``."""
        if not checks.finite(values):
            raise ModelError(f"activations of {self.at!r} must be finite; got NaN or infinite ones.")
        assert self.value is not None  # noqa: S101  for the type checker
        assert self.number is not None  # noqa: S101
        both, names = torch.cat([self.value, values], 1), torch.cat([self.number, numbers], 1)
        chosen = strongest_first(both, min(self.n, both.shape[1]))
        self.value, self.number = both.gather(1, chosen), names.gather(1, chosen)

    @property
    def pictures(self) -> Tensor:
        """Positions of the pictures that are among the best."""
        return torch.empty(0) if self.number is None else torch.unique(self.number // self.per_picture).cpu()

    @property
    def per_picture(self) -> int:
        """Places in a picture."""
        return self.places[0] * self.places[1]

    def found(self) -> TopActivations:
        """The result."""
        assert self.value is not None  # noqa: S101  a stream without batches has raised
        assert self.number is not None  # noqa: S101
        number, wide = self.number.cpu(), self.places[1]
        channels = torch.arange(len(number)) if self.channels is None else torch.tensor(list(self.channels))
        index, place = number // self.per_picture, number % self.per_picture
        best = (self.value.cpu(), index, place // wide, place % wide)
        return TopActivations(self.at, channels, *best, self.places, self.examples, self.n)


def strongest_first(values: Tensor, n: int) -> Tensor:
    """Positions of the ``n`` largest of each row, ``(C, n)``; among equals those that come first.

    Example:
        >>> strongest_first(torch.tensor([[1.0, 3.0, 1.0, 3.0, 1.0]]), 3).tolist()
        [[1, 3, 0]]
    """
    least = values.topk(n, 1).values[:, -1:]  # topk alone would choose among equals as it likes
    above, equal = values > least, values == least
    room = n - above.sum(1, keepdim=True)
    chosen = (above | (equal & (equal.cumsum(1) <= room))).nonzero()[:, 1].reshape(-1, n)
    order = values.gather(1, chosen).sort(dim=1, descending=True, stable=True).indices
    return chosen.gather(1, order)


def maps_of(model: Callable[..., Any], layer: str, seen: Seen) -> Tensor:
    """What a layer gave, as ``(N, K, h, w)``; one place where it has none."""
    act = seen.acts[layer]
    if act.ndim < 2 or len(act) != len(seen.batch):
        raise ShapeError(f"layer {layer!r} must give (N, K, ...), N={len(seen.batch)}; got {tuple(act.shape)}.")
    layout = places_of(model, layer, act, seen.batch.inputs)
    return act[:, :, None, None] if layout is None else layout.maps(act)
