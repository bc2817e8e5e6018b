"""A sheet of equal panels with room for words: everything is placed in inches, so that nothing can overlap."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import text_to_path

from attrib.plot.colour import QUIET

DPI = 200
WIDTH = 8.0  # inches: 1600 pixels, what fits a page and a README
PANEL, TALL = 2.0, 3.0  # the widest and the highest panel, inches: few pictures are not blown up to the page
GAP = 0.07
HEAD, TITLE, SMALL = 10.0, 8.0, 6.5  # points
BAR = 0.22  # inches: a colour bar and its numbers

Place = tuple[int, int]


def wrap(text: str, limit: float, size: float) -> list[str]:
    """Break text into lines of at most ``limit`` inches at this font size.

    Lines end after a space; a word that is too long for a line ends after an underscore or a dot, else anywhere.

    Example:
        >>> wrap("Egyptian cat", 0.6, 8)
        ['Egyptian', 'cat']
        >>> wrap("guided_gradcam", 0.5, 8)
        ['guided_', 'gradcam']
        >>> wrap("_blocks.9._conv", 0.7, 8)
        ['_blocks.9.', '_conv']
    """
    lines: list[str] = []
    for paragraph in filter(None, text.split("\n")):
        line = ""
        for word in paragraph.split(" "):
            for piece in _pieces(word + " ", limit, size):
                if line and _width((line + piece).rstrip(), size) > limit:
                    lines.append(line.rstrip())
                    line = ""
                line += piece
        lines.append(line.rstrip())
    return lines


def _pieces(word: str, limit: float, size: float) -> list[str]:
    """What a word may be broken into."""
    if _width(word.rstrip(), size) <= limit:
        return [word]
    parts = re.split(r"(?<=[^_.][_.])(?=\S)", word)
    return list(word) if len(parts) == 1 else [piece for part in parts for piece in _pieces(part, limit, size)]


@lru_cache(1024)
def _width(text: str, size: float) -> float:
    """Inches that a line takes in Matplotlib's font; dollars are dollars."""
    wide, _, _ = text_to_path.get_text_width_height_descent(text, FontProperties(size=size), ismath=False)
    return wide / 72


def _height(lines: int, size: float) -> float:
    return lines * size * 1.25 / 72


@dataclass(frozen=True)
class Sheet:
    """Rows and columns of panels, with words around them.

    Attributes:
        shape: rows and columns.
        aspect: height of a panel over its width.
        heads: words above a whole row, by row.
        titles: words above a panel, by (row, column).
        notes: words below a panel.
        foot: words below everything.
        bars: panels with room for a colour bar below.
    """

    shape: Place
    aspect: float
    heads: Mapping[int, str] = field(default_factory=dict)
    titles: Mapping[Place, str] = field(default_factory=dict)
    notes: Mapping[Place, str] = field(default_factory=dict)
    foot: str = ""
    bars: Collection[Place] = ()

    @cached_property
    def figure(self) -> Figure:
        """The figure, with the words that belong to no panel."""
        wide, high = self._size
        figure = Figure(figsize=(wide, high), dpi=DPI)
        for row, text in self.heads.items():
            lines = "\n".join(wrap(text, wide - 2 * GAP, HEAD))
            y = 1 - (self._tops[row] + 2 * GAP * (row > 0)) / high
            figure.text(0.5, y, lines, size=HEAD, va="top", ha="center", parse_math=False)
        lines = "\n".join(self._foot)
        figure.text(0.5, GAP / high, lines, size=SMALL, alpha=QUIET, va="bottom", ha="center", parse_math=False)
        return figure

    def axes(self, place: Place) -> Axes:
        """The panel in this place, with its words."""
        wide, high = self._panel
        ax = self._add(place, (0, 0, wide, high))
        ax.set_title("\n".join(self._lines(self.titles, place, TITLE)), size=TITLE, pad=3, parse_math=False)
        note = "\n".join(self._lines(self.notes, place, SMALL))
        y = -(GAP / 2 + BAR * self._has_bars(place[0])) / high
        ax.text(0.5, y, note, transform=ax.transAxes, size=SMALL, alpha=QUIET, va="top", ha="center", parse_math=False)
        return ax

    def bar(self, place: Place) -> Axes:
        """Room for a colour bar below the panel in this place."""
        wide, high = self._panel
        return self._add(place, (0.1 * wide, high + GAP / 2, 0.8 * wide, BAR / 4))

    def _add(self, place: Place, box: tuple[float, float, float, float]) -> Axes:
        """Axes at (left, top, width, height) inches from the upper left corner of a panel."""
        left, top, wide, high = box
        total = self._size
        left += GAP + place[1] * (self._panel[0] + GAP)
        top += self._tops[place[0]] + self._above(place[0])
        return self.figure.add_axes((left / total[0], 1 - (top + high) / total[1], wide / total[0], high / total[1]))

    @cached_property
    def _panel(self) -> tuple[float, float]:
        wide = min(PANEL, TALL / self.aspect, (WIDTH - GAP) / self.shape[1] - GAP)
        return wide, wide * self.aspect

    @cached_property
    def _tops(self) -> list[float]:
        """Where each row begins, and where the last one ends, inches from the top."""
        tops = [GAP * 1.5]
        for row in range(self.shape[0]):
            tops.append(tops[-1] + self._above(row) + self._panel[1] + self._below(row))
        return tops

    @cached_property
    def _size(self) -> tuple[float, float]:
        return self._wide, self._tops[-1] + _height(len(self._foot), SMALL) + 2 * GAP

    @property
    def _wide(self) -> float:
        return GAP + self.shape[1] * (self._panel[0] + GAP)

    @cached_property
    def _foot(self) -> list[str]:
        return wrap(self.foot, self._wide - 2 * GAP, SMALL)

    def _lines(self, words: Mapping[Place, str], place: Place, size: float) -> list[str]:
        return wrap(words.get(place, ""), self._panel[0] - GAP, size)  # words of neighbours must not meet

    def _most(self, words: Mapping[Place, str], row: int, size: float) -> int:
        """Lines of the longest words in a row."""
        return max(len(self._lines(words, (row, column), size)) for column in range(self.shape[1]))

    def _above(self, row: int) -> float:
        head = wrap(self.heads.get(row, ""), self._wide - 2 * GAP, HEAD)
        room = _height(len(head), HEAD) + 2 * GAP * (row > 0) if head else 0.0
        return room + _height(self._most(self.titles, row, TITLE), TITLE) + GAP

    def _has_bars(self, row: int) -> bool:
        return any(place[0] == row for place in self.bars)

    def _below(self, row: int) -> float:
        return BAR * self._has_bars(row) + _height(self._most(self.notes, row, SMALL), SMALL) + GAP / 2
