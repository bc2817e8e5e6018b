"""Filters as tiles: all in one picture, numbered, framed where something is wrong with them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

from attrib.plot.colour import QUIET, bare
from attrib.plot.layout import DPI, GAP, SMALL, TITLE, WIDTH, wrap
from attrib.plot.scale import Floats

if TYPE_CHECKING:
    from attrib.analysis.filters.grid import FilterGrid

TILE = 0.9  # inches: the highest tile
NARROW = 4.0  # inches: the narrowest sheet, so that words have room
NUMBER = 5.0  # points: the number of a filter
LEGIBLE = 0.27  # inches: narrower tiles have no numbers
BETWEEN = 0.05  # inches between tiles
STRIP = 4  # a signal is drawn so many times as long as high


def filter_tiles(found: FilterGrid) -> Figure:
    """Draw all tiles of an `attrib.analysis.FilterGrid`.

    Convention:
        - mid grey is a weight of zero; the line below says what white is.
        - the number is that of the filter, and of its input channel where tiles show one: ``7:2``. Tiles too small for
          numbers have none.
        - a signal is a strip, and a volume a row of its planes.

    Returns:
        A figure; ``savefig`` writes it. pyplot does not know it.

    Example:
        >>> from attrib.analysis import filter_grid
        >>> figure = filter_tiles(filter_grid(model, "stem"))
        >>> [text.get_text() for text in figure.axes[0].texts]
        ['0', '1', '2', '3']
    """
    tiles = Tiles.of(found)
    words = Words(found.about, found.shown(), tiles.wide)
    figure = words.figure(tiles.high)
    tiles.draw(words.axes(figure, 0, tiles.high), {})
    return figure


@dataclass(frozen=True)
class Words:
    """A figure with words above and below, and room in between, in inches.

    Attributes:
        head: above.
        foot: below.
        wide: of the figure.
    """

    head: str
    foot: str
    wide: float

    @cached_property
    def _lines(self) -> tuple[list[str], list[str]]:
        limit = self.wide - 2 * GAP
        return wrap(self.head, limit, TITLE), wrap(self.foot, limit, SMALL)

    @cached_property
    def _edges(self) -> tuple[float, float]:
        head, foot = self._lines
        return 2 * GAP + len(head) * TITLE * 1.25 / 72, 2 * GAP + len(foot) * SMALL * 1.25 / 72

    def figure(self, room: float) -> Figure:
        """A figure with ``room`` inches between the words."""
        high = sum(self._edges) + room
        figure = Figure(figsize=(self.wide, high), dpi=DPI)
        head, foot = ("\n".join(lines) for lines in self._lines)
        figure.text(0.5, 1 - GAP / high, head, size=TITLE, va="top", ha="center", parse_math=False)
        figure.text(0.5, GAP / high, foot, size=SMALL, alpha=QUIET, va="bottom", ha="center", parse_math=False)
        return figure

    def axes(self, figure: Figure, top: float, high: float, left: float = 0, wide: float | None = None) -> Axes:
        """Axes ``top`` inches below the words above."""
        across, down = figure.get_size_inches()
        bottom = 1 - (self._edges[0] + top + high) / down
        return figure.add_axes((left / across, bottom, (wide or self.wide) / across, high / down))


@dataclass(frozen=True, eq=False)
class Tiles:
    """Where each tile stands, in inches.

    Attributes:
        pictures: of equal size, ``(h, w)`` or ``(h, w, 3)``.
        names: what stands below each.
        columns: of the grid.
    """

    pictures: Sequence[Floats]
    names: Sequence[str]
    columns: int

    @classmethod
    def of(cls, found: FilterGrid) -> Tiles:
        """The tiles and their numbers."""
        names = [str(index) for index in found.filters.tolist()]
        if not found.colour:
            names = [f"{name}:{source}" for name, source in zip(names, found.sources.tolist(), strict=True)]
        return cls([_flat(tile, colour=found.colour) for tile in found.tiles], names, found.columns)

    @cached_property
    def tile(self) -> tuple[float, float]:
        """Width and height of each."""
        high, wide = self.pictures[0].shape[:2]
        width = min(TILE * wide / high, (WIDTH - 2 * GAP) / self.columns - BETWEEN)
        return width, width * high / wide

    @property
    def numbered(self) -> bool:
        """Whether there is room for numbers."""
        return self.tile[0] >= LEGIBLE

    @cached_property
    def step(self) -> tuple[float, float]:
        """From one tile to the next."""
        below = NUMBER * 1.6 / 72 if self.numbered else 0.0
        return self.tile[0] + BETWEEN, self.tile[1] + BETWEEN + below

    @property
    def wide(self) -> float:
        """Of the sheet."""
        return max(NARROW, self.columns * self.step[0] + 2 * GAP)

    @property
    def high(self) -> float:
        """Of all rows."""
        return math.ceil(len(self.pictures) / self.columns) * self.step[1]

    def draw(self, ax: Axes, frames: Mapping[int, str]) -> None:
        """Draw them on axes of their size, with a frame in this colour around some."""
        bare(ax)
        left = (self.wide - self.columns * self.step[0] + BETWEEN) / 2
        for place, (picture, name) in enumerate(zip(self.pictures, self.names, strict=True)):
            row, column = divmod(place, self.columns)
            x, y = left + column * self.step[0], row * self.step[1]
            box = (x, x + self.tile[0], y + self.tile[1], y)
            ax.imshow(picture, cmap="gray", vmin=0, vmax=1, extent=box, interpolation="nearest")
            if self.numbered:
                middle = x + self.tile[0] / 2
                ax.text(middle, y + self.tile[1] + 0.03, name, size=NUMBER, ha="center", va="top", alpha=QUIET)
            if place in frames:
                ax.add_patch(Rectangle((x, y), *self.tile, fill=False, edgecolor=frames[place], linewidth=2))
        ax.set(xlim=(0, self.wide), ylim=(self.high, -0.02), aspect="auto")


def _flat(tile: Tensor, *, colour: bool) -> Floats:
    """A tile as a picture: a strip of a signal, the planes of a volume side by side with a line between."""
    values: Floats = tile.double().numpy()
    axes = values.ndim - colour
    if axes == 1:
        return np.repeat(values[None], max(1, len(values) // STRIP), 0)
    if axes == 2:
        return values
    line = np.ones((values.shape[1], 1, *values.shape[3:]))
    return np.concatenate([part for plane in values for part in (line, plane)][1:], 1)
