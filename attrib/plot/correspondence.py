"""Parts hidden in pictures, and how alike the pictures change: the table of Zeiler and Fergus as a figure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from attrib.errors import InputError
from attrib.plot.colour import QUIET, bare
from attrib.plot.curves import COLOURS
from attrib.plot.layout import DPI, SMALL, TITLE, WIDTH, Sheet, wrap
from attrib.plot.scale import as_picture

if TYPE_CHECKING:
    from attrib.analysis.parts.result import Correspondence

LINE = 0.42  # inches for each part
NAME = 1.5  # inches for the longest name of a part
BESIDE = 4  # layers in a row
MOST = 5  # pictures in a figure, as in the paper
HIDDEN = 0.5  # grey


def correspondence_scores(found: Correspondence) -> Figure:
    """Draw each part's distance, and those of random places of its size, one panel for each layer.

    Convention:
        - a bar is the standard deviation over pairs; a grey stroke the mean of one draw of random places.
        - to the left pictures change more alike; every layer has an axis of its own, from zero.

    Args:
        found: what `attrib.analysis.correspondence` gave.

    Returns:
        A figure; ``savefig`` writes it. pyplot does not know it.

    Example:
        >>> from attrib.analysis import correspondence
        >>> figure = correspondence_scores(correspondence(model, torch.rand(3, 3, 12, 12), {"eye": [2, 2, 5, 5]}, "fc"))
        >>> figure.axes[0].get_title(), [label.get_text() for label in figure.axes[0].get_yticklabels()]
        ('fc', ['eye'])
    """
    names, beside = ["\n".join(wrap(name, NAME, TITLE)) for name in found.parts], min(BESIDE, len(found.layers))
    rows = -(-len(found.layers) // beside)
    titles = [wrap(layer, (WIDTH - NAME) / beside - 0.1, TITLE) for layer in found.layers]
    each = 0.4 + 0.15 * max(map(len, titles)) + LINE * len(names)
    figure = Figure(figsize=(WIDTH, 0.55 + each * rows), dpi=DPI, layout="constrained")
    axes = figure.subplots(rows, beside, squeeze=False, sharey=True).ravel()
    for ax in axes[len(titles) :]:
        ax.remove()
    for ax, layer, title in zip(axes, found.layers, titles, strict=False):
        for row in range(len(names)):
            _part(ax, row, found, layer)
        ax.set_title("\n".join(title), size=TITLE, parse_math=False)
        ax.set_xlim(left=0)
        ax.tick_params(labelsize=SMALL)
        ax.spines[["top", "right"]].set_visible(False)
    for ax in axes[: len(titles) : beside]:
        ax.set_yticks(range(len(names)), labels=names, size=TITLE, parse_math=False)
        ax.set_ylim(len(names) - 0.5, -0.5)
    figure.supxlabel("share of features whose change differs in sign between two pictures", size=SMALL, alpha=QUIET)
    handles = [
        Line2D([], [], color=COLOURS[0], marker="o", markersize=4, label="the part, ± sd over pairs"),
        Line2D([], [], color="0.6", marker="|", linestyle="", label="random places of its size, one stroke a draw"),
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=2, frameon=False, fontsize=SMALL)
    return figure


def _part(ax: Axes, row: int, found: Correspondence, layer: str) -> None:
    values = found.distances[layer][row].numpy()
    values = values[~np.isnan(values)]
    chance = found.random[layer][row].nanmean(1).numpy()
    ax.plot(chance, np.full(len(chance), row), "|", color="0.6", markersize=9, zorder=1)
    if len(values):
        spread = values.std(ddof=1) if len(values) > 1 else 0.0
        ax.errorbar(values.mean(), row, xerr=spread, fmt="o", color=COLOURS[0], markersize=4, linewidth=1, zorder=2)


def hidden_parts(found: Correspondence, images: Sequence[object]) -> Figure:
    """Draw the first five pictures as they are and with each part hidden in grey, as the figure of the paper does.

    Args:
        found: what `attrib.analysis.correspondence` gave.
        images: the pictures as the network sees them, in the order of the inputs: ``net.view(photo)``.

    Returns:
        A figure; ``savefig`` writes it. pyplot does not know it.

    Example:
        >>> from attrib.analysis import correspondence
        >>> faces = torch.rand(3, 3, 12, 12)
        >>> found = correspondence(model, faces, {"eye": [2, 2, 5, 5]}, "fc")
        >>> len(hidden_parts(found, list(faces)).axes)
        9
    """
    masks = list(found.parts.values())
    shown = [as_picture(one) for one in images[:MOST]]
    if len(images) != len(masks[0]) or any(one.shape[:2] != tuple(masks[0].shape[1:]) for one in shown):
        raise InputError(
            f"images must be the {len(masks[0])} pictures that were compared, of size {tuple(masks[0].shape[1:])}; got "
            f"{len(images)} of {sorted({one.shape[:2] for one in shown})}."
        )
    columns = ["the picture", *(f"{name} hidden" for name in found.parts), "hidden at random"]
    titles = {(0, column): text for column, text in enumerate(columns)}
    sheet = Sheet((len(shown), len(columns)), shown[0].shape[0] / shown[0].shape[1], titles=titles)
    for row, picture in enumerate(shown):
        x0, y0, x1, y1 = next(iter(found.places.values()))[0, row].tolist()
        anywhere = np.zeros(picture.shape[:2], dtype=bool)
        anywhere[y0:y1, x0:x1] = True
        for column, mask in enumerate([np.zeros_like(anywhere), *(one[row].numpy() for one in masks), anywhere]):
            ax = sheet.axes((row, column))
            bare(ax)
            ax.imshow(np.where(mask[..., None], HIDDEN, picture), interpolation="nearest")
    return sheet.figure
