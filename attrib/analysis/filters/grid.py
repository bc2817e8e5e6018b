"""What the filters of a convolution look like."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from attrib import checks
from attrib.analysis.filters.kernels import Kernels, read_kernels
from attrib.errors import InputError
from attrib.report.finding import Finding
from attrib.report.table import amount, text_table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

GREY = 0.1  # a filter with less of its energy off the grey axis has no hue
SHOWN = 256  # tiles, unless more are asked for: a page
FAINT = 0.01  # of the longest filter: hardly to be seen on the joint scale


@dataclass(frozen=True, eq=False)
class FilterGrid(Finding):
    """Filters as tiles.

    Attributes:
        layer: the convolution.
        about: what it is, in words.
        weights: of the tiles, ``(T, *kernel, 3)`` in colour or ``(T, *kernel)``.
        full: the magnitude that each tile shows in full, ``(T,)``.
        filters: which filter each tile shows, ``(T,)``.
        sources: the input channel of each tile, ``(T,)``; empty in colour, where a tile shows all three.
        norms: Euclidean length of every filter of the layer, ``(K,)``.
        scale: ``"joint"`` or ``"each"``.
        left_out: tiles beyond the limit.
        columns: of the grid.
    """

    layer: str
    about: str
    weights: Tensor
    full: Tensor
    filters: Tensor
    sources: Tensor
    norms: Tensor
    scale: str
    left_out: int
    columns: int

    @property
    def colour(self) -> bool:
        """Whether tiles have the colours of the input."""
        return not self.sources.numel()

    @property
    def tiles(self) -> Tensor:
        """Brightness in [0, 1], as ``weights``; a weight of zero is 0.5."""
        size = self.full.reshape(-1, *(1 for _ in self.weights.shape[1:]))
        return 0.5 + 0.5 * self.weights / torch.where(size > 0, size, 1)

    def some(self, places: Tensor) -> FilterGrid:
        """The same with only the tiles at these places."""
        sources = self.sources if self.colour else self.sources[places]
        left_out = self.left_out + len(self.weights) - len(places)
        weights, full, filters = self.weights[places], self.full[places], self.filters[places]
        return replace(self, weights=weights, full=full, filters=filters, sources=sources, left_out=left_out)

    def to_text(self, *, markdown: bool = False) -> str:
        """Say what is shown, and how much longer some filters are than others."""
        faint = (self.norms < FAINT * self.norms.max()).nonzero().flatten().tolist()
        rows = [
            {"filters": label, "norm": amount(float(value))}
            for label, value in (
                (f"longest ({int(self.norms.argmax())})", self.norms.max()),
                ("median", self.norms.median()),
                (f"shortest ({int(self.norms.argmin())})", self.norms.min()),
            )
        ]
        lines = [f"{self.about}.", self.shown(), "", text_table(rows, markdown=markdown)]
        if faint:
            lines += ["", f"Below {FAINT:.0%} of the longest: {listed(faint)}."]
        return "\n".join(lines)

    def shown(self) -> str:
        """What the tiles show, in a sentence."""
        what = "a filter in the colours of its input" if self.colour else "one input channel of one filter"
        if self.scale == "each":
            how = "each filter has its own scale"
        else:
            how = f"white is a weight of {amount(float(self.full.max()))}, black the opposite"
        rest = f" {self.left_out} tiles are left out." if self.left_out else ""
        return f"{len(self.weights)} tiles, each {what}; zero is grey, {how}.{rest}"

    def plot(self) -> Figure:
        """All tiles, with the number of their filter; planes of a volume side by side."""
        from attrib.plot.filters import filter_tiles

        return filter_tiles(self)


def listed(numbers: list[int], most: int = 12) -> str:
    """Numbers in words, the first ``most`` of them."""
    more = f" and {len(numbers) - most} more" if len(numbers) > most else ""
    return ", ".join(map(str, numbers[:most])) + more


def filter_grid(
    model: Callable[..., Any],
    layer: str | nn.Module | None = None,
    *,
    scale: Literal["joint", "each"] = "joint",
    channels: Literal["auto", "rgb", "slices"] = "auto",
    sort: Literal["norm", "frequency", "hue"] | None = None,
    limit: int | None = SHOWN,
    columns: int | None = None,
) -> FilterGrid:
    r"""Show the filters of a convolution as small pictures.

    .. math:: t = \tfrac12 + \frac{w}{2 \max |w|}

    Convention:
        - zero is mid grey on either scale, so a filter that is zero is plain grey, and nothing is divided by zero.
        - ``"joint"``: the maximum is over all filters of the layer, shown or not, and dead ones look dead; ``"each"``:
          over one filter, all of its input channels together.
        - in colour, red, green and blue are the three input channels in their order.
        - ``sort="norm"`` begins with the longest; ``"frequency"`` with the lowest mean frequency; ``"hue"`` goes around
          the axes of colour (red and cyan are one axis: the sign of a filter is not its colour), and puts filters with
          less than a tenth of their energy off the grey axis last, longest first.

    Cost: no forward pass. The weights of one layer are copied.

    Args:
        model: an ``nn.Module`` with convolutions of one, two or three axes, transposed ones included.
        layer: the convolution; the first in the order of the modules if None.
        scale: what full brightness is.
        channels: ``"rgb"`` needs filters of three input channels; ``"slices"`` shows each input channel alone, the
            only way above the first layer; ``"auto"`` picks by the number of input channels.
        sort: the order of the filters; that of the network if None.
        limit: tiles to keep; None keeps all.
        columns: of the grid; about as wide as high if None, and with few input channels one filter in a row.

    Raises:
        LayerError: the layer is not a convolution.
        ModelError: its weights are not there, or not finite.

    Example:
        >>> found = filter_grid(model, "stem", sort="norm")
        >>> found.tiles.shape, filter_grid(model, "conv").tiles.shape
        (torch.Size([4, 3, 3, 3]), torch.Size([16, 3, 3]))

    References:
        Zeiler, Fergus, "Visualizing and Understanding Convolutional Networks", ECCV 2014, figure 6 a to c.
    """
    checks.choice("scale", scale, ("joint", "each"))
    checks.choice("channels", channels, ("auto", "rgb", "slices"))
    checks.choice("sort", sort, (None, "norm", "frequency", "hue"))
    kernels = read_kernels(model, layer)
    return tiles_of(kernels, _order(kernels, sort), _in_colour(kernels, channels), scale, limit, columns)


def tiles_of(
    kernels: Kernels,
    order: Tensor | None = None,
    colour: bool | None = None,
    scale: str = "joint",
    limit: int | None = SHOWN,
    columns: int | None = None,
) -> FilterGrid:
    """Make tiles of the filters in this order, see `filter_grid`."""
    order = torch.arange(len(kernels)) if order is None else order
    colour = _in_colour(kernels, "auto") if colour is None else colour
    weights = kernels.weight[order]
    size = kernels.weight.abs().flatten(1).amax(1)
    full = (size if scale == "each" else size.max().expand(len(size)))[order]
    filters, sources = order, order.new_empty(0)
    if colour:
        weights = weights.movedim(1, -1)
    else:
        each = weights.shape[1]
        filters, full = order.repeat_interleave(each), full.repeat_interleave(each)
        weights, sources = weights.flatten(0, 1), kernels.sources[order].flatten()
    many = len(weights) if limit is None else min(checks.integer("limit", limit, 1), len(weights))
    wide = _columns(kernels, many, colour) if columns is None else checks.integer("columns", columns, 1)
    return FilterGrid(
        *(kernels.layer, kernels.said(), weights[:many].clone(), full[:many].clone(), filters[:many], sources[:many]),
        *(kernels.norm, scale, len(weights) - many, wide),
    )


def one_each(kernels: Kernels) -> FilterGrid:
    """One tile for each filter, all of them: in colour, or its input channel with the largest weights."""
    if _in_colour(kernels, "auto"):
        return tiles_of(kernels, limit=None, columns=_columns(kernels, min(SHOWN, len(kernels)), colour=True))
    at = torch.arange(len(kernels))
    strongest = kernels.weight.flatten(2).norm(dim=2).argmax(1)
    weights = kernels.weight[at, strongest]
    full = kernels.weight.abs().max().expand(len(at)).clone()
    wide = _columns(kernels, min(SHOWN, len(at)), colour=True)
    sources = kernels.sources[at, strongest]
    return FilterGrid(
        kernels.layer, kernels.said(), weights, full, at, sources, kernels.norm, "joint", left_out=0, columns=wide
    )


def _in_colour(kernels: Kernels, channels: str) -> bool:
    three = kernels.weight.shape[1] == 3
    if channels == "rgb" and not three:
        raise InputError(
            f"channels must be 'slices' or 'auto' for filters of {kernels.weight.shape[1]} input channels; got 'rgb'. "
            "Only three channels can be red, green and blue."
        )
    return three and channels != "slices"


def _order(kernels: Kernels, sort: str | None) -> Tensor:
    if sort is None:
        return torch.arange(len(kernels))
    if sort == "norm":
        return kernels.norm.argsort(descending=True, stable=True)
    if sort == "hue":
        return _by_hue(kernels)
    if kernels.spectrum is None:
        raise InputError(
            f"sort must be None, 'norm' or 'hue' for the 1x1 kernels of {kernels.layer!r}; got 'frequency'."
        )
    return kernels.spectrum.centroid.nan_to_num(nan=math.inf).argsort(stable=True)


def _by_hue(kernels: Kernels) -> Tensor:
    """Coloured filters by the axis of their colour, then grey ones by their length."""
    if kernels.weight.shape[1] != 3:
        raise InputError(
            f"sort must be None, 'norm' or 'frequency' for filters of {kernels.weight.shape[1]} input channels; "
            "got 'hue'."
        )
    plane = kernels.weight.new_tensor([[2, -1, -1], [0, 3**0.5, -(3**0.5)]]) / 6**0.5  # at right angles to grey
    chroma = plane @ kernels.weight.flatten(2)  # (K, 2, points)
    (xx, xy), (_, yy) = (chroma @ chroma.transpose(1, 2)).permute(1, 2, 0)
    axis = 0.5 * torch.atan2(2 * xy, xx - yy) % math.pi  # of the largest spread
    grey = ~((xx + yy) > GREY * kernels.norm**2)
    keys = zip(grey.tolist(), torch.where(grey, -kernels.norm, axis).tolist(), range(len(kernels)), strict=True)
    return torch.tensor([index for _, _, index in sorted(keys)])


def _columns(kernels: Kernels, tiles: int, colour: bool) -> int:
    each = kernels.weight.shape[1]
    if not colour and 2 <= each <= 32:
        return int(each)
    planes, wide = (kernels.size[0], kernels.size[2]) if len(kernels.size) == 3 else (1, kernels.size[-1])
    high = kernels.size[-2] if len(kernels.size) > 1 else max(1, wide // 3)
    return max(1, min(tiles, math.ceil(math.sqrt(tiles * high / (planes * wide)))))
