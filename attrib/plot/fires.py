"""A picture, and the maps of the channels that respond to it most."""

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING

from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from torch import Tensor

from attrib.plot.colour import bare
from attrib.plot.layout import Sheet
from attrib.plot.patches import shown
from attrib.report.table import amount

if TYPE_CHECKING:
    from attrib.analysis.patches.firing import Firing

ACROSS = 6  # panels in a row
FIELD = "viridis"  # dark is low; it can be read with any colour vision


def firing_panels(found: Firing) -> Figure:
    """Draw each kept picture, followed by the maps of the strongest channels.

    Convention:
        - each map is scaled by itself, from 0 or its lowest value below, to its largest value, which is written above:
          how bright two maps are cannot be compared.
        - of a layer without places all squares have one scale.

    Args:
        found: what `attrib.analysis.firing` gave.

    Returns:
        A figure; ``savefig`` writes it. pyplot does not know it.

    Example:
        >>> from attrib.analysis.patches.firing import firing
        >>> figure = firing_panels(firing(model, x, "relu3", tiles=2))
        >>> len(figure.axes), figure.axes[0].get_title()
        (3, 'the picture')
    """
    many, count = found.maps.shape[:2]
    across = min(ACROSS, count + 1)
    rows = ceil((count + 1) / across)
    titles: dict[tuple[int, int], str] = {}
    for i in range(many):
        titles[i * rows, 0] = "the picture" if many == 1 else f"picture {i}"
        for j, channel in enumerate(found.shown.tolist(), start=1):
            place = (i * rows + j // across, j % across)
            titles[place] = f"{channel}: {amount(float(found.maps[i, j - 1].max()))}"
    high, wide = found.pictures.shape[2:]
    sheet = Sheet((many * rows, across), high / wide, titles=titles, foot=_foot(found))
    mean, std = found.normalisation or (None, None)
    pictures, end = shown(found.pictures, mean, std), float(found.maps.max())
    for i in range(many):
        ax = sheet.axes((i * rows, 0))
        bare(ax)
        ax.imshow(pictures[i])
        for j in range(1, count + 1):
            _map(sheet.axes((i * rows + j // across, j % across)), found.maps[i, j - 1], end, high / wide)
    return sheet.figure


def _map(ax: Axes, values: Tensor, end: float, aspect: float) -> None:
    low, high = min(0.0, float(values.min())), end if values.numel() == 1 else float(values.max())
    bare(ax)
    norm = Normalize(low, high if high > low else low + 1)
    ax.imshow(values.double().numpy(), cmap=FIELD, norm=norm, interpolation="nearest", aspect="auto")
    ax.set_box_aspect(aspect)  # a map covers the picture, whatever its own shape


def _foot(found: Firing) -> str:
    words = f"{found.layer}: the {len(found.shown)} strongest of {len(found.max)} channels by {found.rank}"
    words += f" over {found.examples} pictures." if found.examples > 1 else "."
    if found.places == (1, 1):
        return words + " Above each square its channel and value; all have one scale, dark is low."
    return words + " Above each map its channel and largest value; each is scaled by itself, dark is low."
