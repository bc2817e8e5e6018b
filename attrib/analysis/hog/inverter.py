"""From features back to pictures, window by window: what is common to all ways of doing it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attrib import checks
from attrib.analysis.hog.grid import Grid, Pair, window_of
from attrib.core.network.geometry import layout_of
from attrib.core.network.layers import Address, modules_of, resolve, unwrap
from attrib.core.network.streaming import Data, stream
from attrib.errors import InputError, LayerError, ModelError, ShapeError
from attrib.models.hog import HOG

LUMA = (0.299, 0.587, 0.114)  # ITU-R 601


@dataclass(frozen=True, eq=False)
class Source:
    """The features that are turned back: which layer of which network, and the pictures they should give.

    Attributes:
        network: the network.
        address: of the layer.
        colour: pictures have the channels of the inputs; otherwise one, their luma.
        shrink: squares of so many pixels are averaged into one pixel of the pictures.
    """

    network: nn.Module = field(repr=False)
    address: str
    colour: bool
    shrink: int

    @classmethod
    def of(cls, model: nn.Module | None, layer: str | nn.Module | None, *, colour: bool, shrink: int) -> Source:
        """A layer of a network; of HOG, which is also the network if there is none, the blocks unless it is given."""
        checks.integer("shrink", shrink, 1)
        network = HOG() if model is None else unwrap(model)
        if not isinstance(network, nn.Module):
            raise ModelError(f"model must be an nn.Module, whose layers have names; got {type(network).__name__}.")
        if layer is None and not isinstance(network, HOG):
            raise LayerError("layer must be given, except for HOG. attrib.core.layer_table(model, x) lists them.")
        return cls(network, resolve(network, "blocks" if layer is None else layer), colour, shrink)

    @property
    def module(self) -> nn.Module:
        """The layer itself."""
        return modules_of(self.network)[Address.parse(self.address).name]

    def pairs(self, data: Data, batch_size: int, *, show_progress: bool = False) -> Iterator[tuple[Tensor, Tensor]]:
        """Features ``(n, K, rows, columns)`` and pictures ``(n, c, H, W)``, batch by batch."""
        for seen in stream(self.network, data, self.address, batch_size=batch_size, show_progress=show_progress):
            x = seen.batch.inputs
            checks.batch(checks.shape(x, "n c h w", "images"))
            yield self._maps(seen.acts[self.address], x), self.picture(x)

    def features(self, x: Tensor) -> Tensor:
        """What the layer says to ``x (N, C, H, W)``, as a map ``(N, K, rows, columns)``."""
        return torch.cat([maps for maps, _ in self.pairs(x, len(x))])

    def picture(self, x: Tensor) -> Tensor:
        """What an inversion of the features of ``x`` should give."""
        if not self.colour and x.shape[1] == len(LUMA):
            x = luma(x)
        elif not self.colour and x.shape[1] != 1:
            raise ShapeError(f"images must have 1 or 3 channels to have a luma; got {x.shape[1]}. Pass colour=True.")
        return F.avg_pool2d(x, self.shrink)

    def _maps(self, act: Tensor, x: Tensor) -> Tensor:
        if act.ndim == 2:
            return act[:, :, None, None]
        layout = layout_of(self.network, self.address, act.shape, x.shape)
        if layout is None or len(layout.size) != 2:
            raise LayerError(
                f"layer {self.address!r} must give vectors or have locations in the picture; "
                f"it gives {tuple(act.shape)}. Choose another."
            )
        return layout.maps(act)


@dataclass(frozen=True, eq=False)
class Fidelity:
    """How near inverted pictures are to the pictures, ``(N,)`` each.

    Attributes:
        psnr: peak signal to noise ratio, dB.
        correlation: of the pixels, in [-1, 1]; brightness and contrast do not matter.
    """

    psnr: Tensor
    correlation: Tensor


@dataclass(frozen=True, eq=False)
class Inverter(ABC):
    """Turns features back into pictures: every window of locations into a patch, overlapping patches into their mean.

    Convention:
        - pictures show the pixels behind at least one whole window, ``picture`` says which; they are not clipped.
        - where patches overlap the mean is weighted, least at their rims, so that no seams are seen.

    Attributes:
        source: whose features.
        grid: windows and patches.
        channels: of the features.
        locations: rows and columns of the features it was fitted on, the last if they differed.
    """

    source: Source = field(repr=False)
    grid: Grid
    channels: int
    locations: Pair

    @abstractmethod
    def patches(self, windows: Tensor) -> Tensor:
        """Turn windows of features ``(N, L, D)`` into patches ``(N, L, P)``."""

    @torch.no_grad()
    def invert(self, features: Tensor, *, locations: Pair | None = None) -> Tensor:
        """Make pictures ``(N, c, height, width)`` of features.

        Args:
            features: ``(N, K, rows, columns)``; or vectors ``(N, D)`` as `attrib.models.HOG` and layers without
                locations give them.
            locations: rows and columns of vectors, where they are not those of the pictures it was fitted on; see
                `attrib.models.HOG.locations`.

        Raises:
            ShapeError: these features are not of the length, or smaller than a window.
        """
        maps = self._as_maps(features, locations or self.locations)
        size = (maps.shape[2], maps.shape[3])
        return self.grid.joined(self.patches(self.grid.windows(maps)), size)

    def of(self, x: Tensor) -> Tensor:
        """Invert the features of inputs ``x``."""
        return self.invert(self.source.features(x))

    def picture(self, x: Tensor) -> Tensor:
        """The part of ``x`` that an inversion shows, in its colours and resolution."""
        maps = self.source.features(x)
        return self.grid.cropped(self.source.picture(x), (maps.shape[2], maps.shape[3]))

    def score(self, images: Data, *, limits: tuple[float, float] = (0.0, 1.0), batch_size: int = 8) -> Fidelity:
        r"""Compare inversions with their pictures, best on pictures that nothing was learned from.

        .. math:: \mathrm{PSNR} = 10 \log_{10} \frac{(\text{high} - \text{low})^2}{\text{mean squared error}}

        Args:
            images: as for the fit.
            limits: the values of black and white.
            batch_size: for a Tensor or a data set.
        """
        low, high = (checks.number("limit", one) for one in limits)
        if high <= low:
            raise InputError(f"limits must be (black, white) with black < white; got {limits!r}.")
        found = []
        for maps, pictures in self.source.pairs(images, batch_size):
            truth = self.grid.cropped(pictures, (maps.shape[2], maps.shape[3]))
            found.append(fidelity(self.invert(maps), truth, high - low))
        return Fidelity(torch.cat([one.psnr for one in found]), torch.cat([one.correlation for one in found]))

    def _as_maps(self, features: Tensor, locations: Pair) -> Tensor:
        if features.ndim == 2:
            rows, columns = locations
            if features.shape[1] != rows * columns * self.channels:
                raise ShapeError(
                    f"features must have {rows * columns * self.channels} numbers, {self.channels} at each of "
                    f"{rows} x {columns} locations; got {features.shape[1]}. Pass locations=(rows, columns)."
                )
            return features.reshape(len(features), rows, columns, self.channels).permute(0, 3, 1, 2)
        return checks.shape(features, "n k rows columns", "features", k=self.channels)


def luma(x: Tensor) -> Tensor:
    """Grey pictures ``(N, 1, H, W)`` of coloured ones."""
    return (x * x.new_tensor(LUMA)[:, None, None]).sum(1, keepdim=True)


def fidelity(found: Tensor, truth: Tensor, span: float) -> Fidelity:
    """Compare pictures ``(N, C, H, W)`` whose black and white are ``span`` apart."""
    found, truth = found.flatten(1).double(), truth.flatten(1).double()
    error = (found - truth).square().mean(1)
    found, truth = (one - one.mean(1, keepdim=True) for one in (found, truth))
    size = found.norm(dim=1) * truth.norm(dim=1)
    correlation = (found * truth).sum(1) / size.where(size > 0, 1)  # nothing correlates with a flat picture
    return Fidelity(10 * torch.log10(span**2 / error), correlation)


@dataclass(frozen=True, eq=False)
class Pairs:
    """Windows of one batch, and the patches behind them.

    Attributes:
        grid: windows and patches.
        windows: ``(n, L, D)``.
        patches: ``(n, L, P)``.
        locations: rows and columns of the features.
    """

    grid: Grid
    windows: Tensor
    patches: Tensor
    locations: Pair

    @property
    def about(self) -> dict[str, Any]:
        """What an `Inverter` keeps of them."""
        channels = self.windows.shape[2] // (self.grid.window[0] * self.grid.window[1])
        return {"grid": self.grid, "channels": channels, "locations": self.locations}


def read_pairs(
    source: Source, data: Data, window: int | Pair | None, *, batch_size: int, show_progress: bool
) -> Iterator[Pairs]:
    """Cut all pictures and their features; the first picture says where the windows are."""
    module, grid = source.module, None
    size = window_of(window, module)
    for maps, pictures in source.pairs(data, batch_size, show_progress=show_progress):
        rows, columns = maps.shape[2:]
        if grid is None:
            high, wide = (side * source.shrink for side in pictures.shape[2:])
            grid = Grid.of(module, (high, wide), (rows, columns), size, source.shrink)
        yield Pairs(grid, grid.windows(maps), grid.patches(pictures, (rows, columns)), (rows, columns))
