"""Which filters fire: how strongly and how sparsely each channel of a layer responds, and where in a picture."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from attrib import checks
from attrib.analysis.patches.top_activations import maps_of
from attrib.core.network.layers import resolve, unwrap
from attrib.core.network.streaming import Data, stream
from attrib.errors import InputError, ModelError
from attrib.io.preprocess import statistics
from attrib.report.finding import Finding
from attrib.report.table import amount, text_table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Rank = Literal["max", "mean", "l2"]
RANKS: tuple[Rank, ...] = ("max", "mean", "l2")


@dataclass(frozen=True, eq=False)
class Firing(Finding):
    """How the channels of a layer respond to pictures.

    Attributes:
        layer: its address.
        examples: pictures.
        places: height and width of the layer; ``(1, 1)`` where it has no places.
        max: the largest activation of each channel over all places of all pictures, ``(K,)``.
        mean: the mean over all places and pictures, ``(K,)``.
        l2: the Euclidean norm of a picture's map, mean over pictures, ``(K,)``.
        sparsity: share of the places that are not above ``threshold``, ``(K,)``.
        fired: share of the pictures with a place above it, ``(K,)``.
        threshold: above which a unit fires.
        rank: by what channels are ordered.
        shown: channels whose maps were kept, strongest first, ``(T,)``.
        maps: theirs in the first pictures, ``(M, T, h, w)``.
        pictures: these pictures as the network sees them, ``(M, channels, H, W)``.
        normalisation: mean and standard deviation of the input channels, taken back in figures; None: not known.
    """

    layer: str
    examples: int
    places: tuple[int, int]
    max: Tensor
    mean: Tensor
    l2: Tensor
    sparsity: Tensor
    fired: Tensor
    threshold: float
    rank: Rank
    shown: Tensor
    maps: Tensor
    pictures: Tensor
    normalisation: tuple[tuple[float, ...], tuple[float, ...]] | None = field(default=None)

    def order(self, rank: Rank | None = None) -> Tensor:
        """All channels, strongest first, ``(K,)``; of equals the one with the lower number."""
        name = checks.choice("rank", rank or self.rank, RANKS)
        by: Tensor = getattr(self, name)
        return by.sort(dim=0, descending=True, stable=True).indices

    @property
    def silent(self) -> Tensor:
        """Channels that fire nowhere."""
        return (self.fired == 0).nonzero()[:, 0]

    def to_text(self, *, markdown: bool = False) -> str:
        """Say how many channels fire, and how strongly the strongest do."""
        silent = f"; {len(self.silent)} fire nowhere" if len(self.silent) else ""
        count = f"{self.examples} picture{'s' if self.examples > 1 else ''}"
        lines = [f"{self.layer}: {len(self.max)} channels on {count}, by {self.rank}{silent}"]
        names = ("max", "mean", "l2", "sparsity", "fired")
        rows = [
            {"channel": str(int(channel))} | {name: amount(float(getattr(self, name)[channel])) for name in names}
            for channel in self.shown
        ]
        return "\n".join([*lines, *self.notes, "", text_table(rows, markdown=markdown)])

    @property
    def notes(self) -> list[str]:
        """What a reader must know before trusting the order; usually nothing."""
        by: Tensor = getattr(self, self.rank)
        ties = int((by == by[self.shown[-1]]).sum()) if len(self.shown) < len(by) else 0
        left_out = ties - int((by[self.shown] == by[self.shown[-1]]).sum())
        if ties < 2 or not left_out:
            return []
        return [f"note: {left_out} more channels have the same {self.rank} as the last one shown; choose another rank"]

    def plot(self) -> Figure:
        """Draw `attrib.plot.fires.firing_panels`."""
        from attrib.plot.fires import firing_panels

        return firing_panels(self)


@dataclass
class _Sums:
    """Running values of each channel, in double precision."""

    threshold: float
    largest: Tensor
    total: Tensor
    norm: Tensor
    above: Tensor
    fired: Tensor
    examples: int = 0
    cells: int = 0

    @classmethod
    def start(cls, like: Tensor, threshold: float) -> _Sums:
        zeros = torch.zeros(like.shape[1], dtype=torch.float64, device=like.device)
        return cls(threshold, zeros - torch.inf, zeros, zeros, zeros, zeros)

    def add(self, maps: Tensor) -> None:
        flat = maps.flatten(2).double()
        high = flat > self.threshold
        self.largest = torch.maximum(self.largest, flat.amax((0, 2)))
        self.total = self.total + flat.sum((0, 2))
        self.norm = self.norm + flat.norm(dim=2).sum(0)
        self.above = self.above + high.sum((0, 2))
        self.fired = self.fired + high.any(2).sum(0)
        self.examples += flat.shape[0]
        self.cells += flat.shape[0] * flat.shape[2]

    def read(self, like: Tensor) -> dict[str, Tensor]:
        dtype = torch.float64 if like.dtype is torch.float64 else torch.float32  # halves cannot hold 1999 of 2000
        found = {
            "max": self.largest,
            "mean": self.total / self.cells,
            "l2": self.norm / self.examples,
            "sparsity": 1 - self.above / self.cells,
            "fired": self.fired / self.examples,
        }
        return {name: one.to(dtype).cpu() for name, one in found.items()}


def firing(  # noqa: PLR0913  what to measure, and what to keep of it
    model: Callable[..., Any],
    images: Data,
    layer: str | nn.Module,
    *,
    rank: Rank = "max",
    threshold: float = 0.0,
    tiles: int = 23,
    keep: int = 1,
    preprocess: object = None,
    batch_size: int = 32,
    show_progress: bool = False,
) -> Firing:
    r"""Tell which filters fire on one picture, or on many: how strongly, how sparsely, how often, and where.

    For the map :math:`a_k` of channel :math:`k` with :math:`P` places, and a threshold :math:`t`,

    .. math:: \max_p a_{kp}, \quad \frac1P \sum_p a_{kp}, \quad \sqrt{\sum_p a_{kp}^2},
        \quad \frac1P \sum_p \mathbb{1}[a_{kp} \le t]

    Convention:
        - over several pictures the largest maximum is taken, and the mean of everything else.
        - a unit fires strictly above ``threshold``: behind a ReLU a unit at 0 does not.
        - activations are those of the layer as it ran, before any in-place operation that follows; a module that
          runs several times is addressed by call, ``"relu#1"``.

    Cost: one forward pass per picture. Memory: a batch, and the maps of ``keep`` pictures.

    Args:
        model: an ``nn.Module``.
        images: inputs ``(N, C, H, W)`` or anything that `attrib.core.network.streaming.batches` reads.
        layer: a name, an address or a module.
        rank: which number orders the channels.
        threshold: above which a unit fires.
        tiles: channels whose maps are kept.
        keep: pictures, the first ones, whose maps are kept.
        preprocess: what made the inputs, such as a `LoadedModel`; its normalisation is taken back in figures.
        batch_size: pictures in a pass.
        show_progress: a bar on standard error.

    Raises:
        InputError: there are no pictures, or those that are kept differ in size.

    Example:
        >>> found = firing(model, x, "relu3", tiles=4)
        >>> found.max.shape, found.order()[:4].equal(found.shown), found.maps.shape
        (torch.Size([16]), True, torch.Size([1, 4, 6, 6]))

    References:
        Zeiler, Fergus, "Visualizing and Understanding Convolutional Networks", ECCV 2014, figure 4, column b;
        Yosinski et al., "Understanding Neural Networks Through Deep Visualization", ICML workshop 2015, section 2.
    """
    checks.choice("rank", rank, RANKS)
    checks.number("threshold", threshold)
    for name, value in (("tiles", tiles), ("keep", keep)):
        checks.integer(name, value, 1)
    network = unwrap(model)
    at = resolve(network, layer)
    kept: list[tuple[Tensor, Tensor]] = []
    sums: _Sums | None = None
    for seen in stream(network, images, at, batch_size=batch_size, show_progress=show_progress):
        maps = maps_of(network, at, seen)
        if not checks.finite(maps):
            raise ModelError(f"activations of {at!r} must be finite; got NaN or infinite ones.")
        sums = _Sums.start(maps, threshold) if sums is None else sums
        sums.add(maps)
        for picture, one in zip(seen.batch.inputs, maps, strict=True):
            if len(kept) < keep:
                kept.append((picture.cpu().clone(), one.cpu().clone()))
    assert sums is not None  # noqa: S101  a stream without batches has raised
    if len({(picture.shape, one.shape) for picture, one in kept}) > 1:
        raise InputError("pictures whose maps are kept must have one size; crop or resize them, or pass keep=1.")
    numbers = sums.read(kept[0][1])
    shown = numbers[rank].sort(dim=0, descending=True, stable=True).indices[:tiles]
    maps = torch.stack([one[shown] for _, one in kept])
    mean, std = statistics(preprocess)
    told = {"layer": at, "examples": sums.examples, "places": tuple(maps.shape[2:]), "threshold": float(threshold)}
    pictures = torch.stack([picture for picture, _ in kept])
    norm = None if mean is None or std is None else (mean, std)
    return Firing(**told, **numbers, rank=rank, shown=shown, maps=maps, pictures=pictures, normalisation=norm)  # type: ignore[arg-type]
