"""What is wrong with filters: tiles with frames, and where their energy is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from attrib.plot.filters import Tiles, Words
from attrib.plot.layout import SMALL, TITLE

if TYPE_CHECKING:
    from attrib.analysis.filters.diagnosis import FilterDiagnosis
    from attrib.analysis.filters.grid import FilterGrid

# Okabe and Ito's colours, which can be told apart with any colour vision
FRAMES = {
    "dead": "#000000",
    "duplicate": "#0072b2",
    "out of scale": "#e69f00",
    "flickers": "#d55e00",
    "aliased": "#cc79a7",
    "high frequency": "#009e73",
}
SHOWN = 256  # filters
LEGEND, PANEL, MARGIN = 0.3, 1.5, 0.55  # inches
SHEET = 8.0


def diagnosis_panels(found: FilterDiagnosis) -> Figure:
    """Draw the filters of a `attrib.analysis.FilterDiagnosis`, and their energy by frequency.

    Convention:
        - a frame has the colour of the first thing of the legend that the filter has.
        - the left panel counts peaks by frequency (low, middle, high) and the direction in which waves run; the middle
          one has the mean energy of filters that live by frequency. If the stride folds, a line is at what it carries,
          and the right one has the energy above that line, of each filter, from most to least.
        - of filters with other than one or three input channels the strongest one is drawn; of more than 256 filters
          those that have something come first.

    Returns:
        A figure; ``savefig`` writes it. pyplot does not know it.

    Example:
        >>> from attrib.analysis import diagnose_filters
        >>> figure = diagnosis_panels(diagnose_filters(model, x))
        >>> [ax.get_title() for ax in figure.axes if ax.get_title()]
        ['filters with their peak here', 'mean energy']
    """
    grid = _drawn(found)
    tiles = Tiles.of(grid)
    spectral = bool(found.peaks.numel())
    folded = spectral and not found.aliased.isnan().all() and found.limit < 0.5
    room = tiles.high + LEGEND + (PANEL + 2 * MARGIN if spectral else 0)
    words = Words(found.about, " ".join([*found.sentences, *_note(grid)]), max(SHEET, tiles.wide))
    figure = words.figure(room)
    ax = words.axes(figure, 0, tiles.high, (words.wide - tiles.wide) / 2, tiles.wide)
    tiles.draw(ax, _frames(found, grid))
    _legend(words.axes(figure, tiles.high, LEGEND), found)
    if spectral:
        wide = (SHEET - 4 * MARGIN) / 3
        left = [(words.wide - SHEET) / 2 + MARGIN + i * (wide + MARGIN) for i in range(3)]
        panels = [words.axes(figure, tiles.high + LEGEND + MARGIN, PANEL, x, wide) for x in left[: 2 + folded]]
        _peaks(panels[0], found)
        _profile(panels[1], found, line=folded)
        if folded:
            _aliased(panels[2], found)
    return figure


def _drawn(found: FilterDiagnosis) -> FilterGrid:
    """A page of filters: all, or those that have something, and then the first."""
    something = torch.stack(list(found.flags.values())).any(0)
    first = something.sort(descending=True, stable=True).indices[:SHOWN]
    return found.grid.some(first.sort().values)


def _note(grid: FilterGrid) -> list[str]:
    """What the tiles are, where they are not all of all filters."""
    tile = grid.weights.flatten(1).norm(dim=1)
    whole = bool((tile >= 0.999 * grid.norms[grid.filters]).all())
    part = [] if whole else ["Each tile is the input channel of its filter with the largest weights."]
    return part + ([f"{grid.left_out} more filters are not drawn."] if grid.left_out else [])


def _frames(found: FilterDiagnosis, grid: FilterGrid) -> dict[int, str]:
    flags = found.flags
    colours = {}
    for place, k in enumerate(grid.filters.tolist()):
        has = [colour for name, colour in FRAMES.items() if flags[name][k]]
        if has:
            colours[place] = has[0]
    return colours


def _legend(ax: Axes, found: FilterDiagnosis) -> None:
    ax.axis("off")
    flags = found.flags
    handles = [
        Patch(fill=False, edgecolor=colour, linewidth=2, label=f"{name} ({int(flags[name].sum())})")
        for name, colour in FRAMES.items()
    ]
    ax.legend(handles=handles, loc="center", ncols=len(handles), fontsize=SMALL, frameon=False, handlelength=1.2)


def _peaks(ax: Axes, found: FilterDiagnosis) -> None:
    counts = found.peaks.numpy()
    ax.imshow(counts, cmap="Greys", vmin=0, vmax=max(1, 1.5 * counts.max()), aspect="auto")
    for (row, column), count in np.ndenumerate(counts):
        ax.text(column, row, str(count) if count else "none", ha="center", va="center", size=SMALL)
    ax.set_yticks(range(3), ["low", "middle", "high"], size=SMALL)
    many = counts.shape[1]
    ax.set_xticks(range(many), [f"{180 * i // many}°" for i in range(many)] if many > 1 else [""], size=SMALL)
    ax.set_xlabel(f"direction; {found.blobs} more have none" if many > 1 else f"{found.blobs} more at 0", size=SMALL)
    _tidy(ax, "filters with their peak here")


def _profile(ax: Axes, found: FilterDiagnosis, *, line: bool) -> None:
    steps = len(found.profile)
    edges = np.linspace(0, 0.5, steps + 1)
    ax.stairs(found.profile.numpy(), edges, fill=True, color="0.6")
    if line:
        ax.axvline(found.limit, color=FRAMES["aliased"], linewidth=1)
    ax.set_xlabel("cycles per pixel", size=SMALL)
    ax.set(xlim=(0, 0.5), ylim=(0, None))
    _tidy(ax, "mean energy")


def _aliased(ax: Axes, found: FilterDiagnosis) -> None:
    shown = ~found.aliased.isnan() & ~found.dead
    order = found.aliased[shown].argsort(descending=True)
    place = np.arange(len(order))
    ax.bar(place, found.aliased[shown][order].numpy(), width=1, color="0.6", label="of the kernel")
    moved = found.shift_error[shown][order]
    if not moved.isnan().all():
        ax.plot(place, moved.numpy(), ".", markersize=3, color=FRAMES["flickers"], label="of its answers")
        ax.legend(fontsize=SMALL, frameon=False, loc="upper right", handlelength=1)
    ax.axhline(found.thresholds.aliased, color=FRAMES["aliased"], linewidth=0.8, linestyle=":")
    ax.set(xlim=(-0.5, max(0.5, len(order) - 0.5)), ylim=(0, 1.3), yticks=[0, 0.5, 1])  # room for the legend
    ax.set_xlabel("filters, most first", size=SMALL)
    ax.set_xticks([])
    _tidy(ax, "energy beyond the stride")


def _tidy(ax: Axes, title: str) -> None:
    ax.set_title(title, size=TITLE)
    ax.tick_params(labelsize=SMALL, length=2)
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
