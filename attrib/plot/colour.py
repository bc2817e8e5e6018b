"""Scales to Matplotlib's colours: zero is transparent, evidence is red, evidence against is blue."""

from __future__ import annotations

from typing import Literal

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, ListedColormap, Normalize
from matplotlib.figure import Figure

from attrib.errors import InputError, did_you_mean
from attrib.plot.scale import Floats, Scale, Style

SEQUENTIAL, DIVERGING = "YlOrRd", "RdBu_r"  # both can be read with any colour vision, and in grey
SHADES = 255  # odd: the middle shade of a diverging map is exactly 0
PAPER = 0.35  # black of the faded picture: dark enough to recognise things, light enough for colours on top
QUIET = 0.65  # opacity of small print: follows the colours of the user's style


def new_axes() -> Axes:
    """The axes of a figure of their own, which pyplot does not know and which needs no display."""
    return Figure(layout="constrained").subplots()


def bare(ax: Axes) -> None:
    """No ticks and no frame; axis labels stay."""
    ax.set_xticks([])
    ax.set_yticks([])
    for spine in ax.spines.values():
        spine.set_visible(False)


def faded(picture: Floats) -> Floats:
    """The picture in light grey ``(H, W)``, so that only evidence has colour."""
    grey: Floats = picture @ np.array([0.299, 0.587, 0.114])  # ITU-R 601 luma
    return PAPER + (1 - PAPER) * grey


def norm(scale: Scale) -> Normalize:
    """Limits to [0, 1]."""
    return Normalize(*scale.ends)


def colours(scale: Scale, style: Style, *, over_white: bool) -> ListedColormap:
    """The colour map with opacity rising from zero; or the same, opaque, as it looks on white."""
    shades = _named(style.cmap or (DIVERGING if scale.signed else SEQUENTIAL))(np.linspace(0, 1, SHADES))
    size = np.abs(np.linspace(-1 if scale.signed else 0, 1, SHADES))
    opacity = style.alpha * (1 - (1 - size) ** 2)  # rises fast: weak evidence must not look like none
    if over_white:
        shades[:, :3] = opacity[:, None] * shades[:, :3] + (1 - opacity[:, None])
    else:
        shades[:, 3] = opacity
    return ListedColormap(shades)


def bar(ax: Axes, scale: Scale, style: Style, values: Floats, label: str) -> None:
    """A colour bar beside ``ax`` with raw numbers; arrows mark values beyond its ends."""
    drawn = ax.figure.colorbar(_key(scale, style), ax=ax, extend=_beyond(scale, values), fraction=0.046, pad=0.03)
    drawn.set_label(label)
    drawn.outline.set_visible(False)


def bar_below(ax: Axes, scale: Scale, style: Style, values: Floats, size: float) -> None:
    """A small horizontal colour bar on axes of its own, with numbers at its ends."""
    extend = _beyond(scale, values)
    drawn = ax.figure.colorbar(_key(scale, style), cax=ax, orientation="horizontal", extend=extend)
    drawn.set_ticks(list(scale.ends), labels=[f"{end:.2g}" for end in scale.ends], size=size)
    drawn.ax.tick_params(length=0, pad=1)
    drawn.outline.set_visible(False)


def _key(scale: Scale, style: Style) -> ScalarMappable:
    return ScalarMappable(norm(scale), colours(scale, style, over_white=True))


def _beyond(scale: Scale, values: Floats) -> Literal["neither", "both", "min", "max"]:
    below, above = bool(values.min() < scale.low), bool(values.max() > scale.high)
    return "both" if below and above else "min" if below else "max" if above else "neither"


def _named(cmap: str | Colormap) -> Colormap:
    if isinstance(cmap, Colormap):
        return cmap
    if cmap not in matplotlib.colormaps:
        hint = did_you_mean(str(cmap), list(matplotlib.colormaps))
        raise InputError(f"cmap must be a colour map of Matplotlib; got {cmap!r}.{hint}")
    return matplotlib.colormaps[cmap]
