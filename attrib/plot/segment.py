"""What was cut out of pictures: seeds, outline and box; and how often a box is right."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from attrib import checks
from attrib.plot.colour import bare, faded
from attrib.plot.curves import COLOURS
from attrib.plot.layout import DPI, TITLE, Place, Sheet
from attrib.plot.scale import Floats

if TYPE_CHECKING:
    from attrib.analysis.segments.agreement import Agreement
    from attrib.analysis.segments.segment import Segmentation

FOREGROUND, BACKGROUND = (0.84, 0.37, 0.0), (0.34, 0.71, 0.91)  # Okabe and Ito's vermilion and sky blue
OVER = 0.75  # opacity of the seeds
ASIDE = 0.35  # brightness of what was not cut out
MOST = 8  # pictures in a figure
CURVE = 4.0  # inches
BOX = "#F0E442"  # yellow: told from both sides of any outline


def segment_panels(found: Segmentation, *, indices: Sequence[int] | None = None) -> Figure:
    """Draw each picture, the seeds of its colours, and what was cut out.

    Convention:
        - seeds: orange learns the foreground, blue the background, grey neither.
        - the object keeps its colours, all else is darkened; the box is yellow.

    Args:
        found: what `attrib.analysis.segment` gave.
        indices: which pictures; the first eight if None.

    Returns:
        A figure; ``savefig`` writes it. pyplot does not know it.

    Example:
        >>> from attrib.analysis import segment
        >>> disc = (torch.arange(24) - 12).square()[:, None] + (torch.arange(24) - 12).square() < 40
        >>> figure = segment_panels(segment(disc.float()[None, None], [disc.float().expand(3, 24, 24)]))
        >>> [ax.get_title() for ax in figure.axes]
        ['picture 0', 'seeds of the colours', 'cut out, 21%']
    """
    chosen = list(range(min(MOST, len(found.masks)))) if indices is None else list(indices)
    for index in chosen:
        checks.choice("indices", index, range(len(found.masks)))
    each = 1 if len(chosen) < 3 else 2  # pictures beside each other
    rows = -(-len(chosen) // each)
    places = {index: divmod(i, each) for i, index in enumerate(chosen)}
    titles: dict[Place, str] = {}
    for index, (row, side) in places.items():
        named = (
            found.names[index],
            "seeds of the colours",
            f"cut out, {float(found.area[index]):.0%}" if found.masks[index].any() else "nothing to cut out",
        )
        titles |= {(row, 3 * side + i): text for i, text in enumerate(named)}
    high, wide = found.pictures.shape[1:3]
    sheet = Sheet((rows, 3 * each), high / wide, titles=titles, foot=_foot(found))
    for index, (row, side) in places.items():
        axes = [sheet.axes((row, 3 * side + i)) for i in range(3)]
        _panels(axes, found, index)
    return sheet.figure


def _panels(axes: Sequence[Axes], found: Segmentation, index: int) -> None:
    picture: Floats = found.pictures[index].numpy() / 255.0
    seeds, mask = found.seeds[index].numpy(), found.masks[index].numpy()
    learnt = np.repeat(faded(picture)[..., None], 3, 2)
    for side, colour in ((1, FOREGROUND), (0, BACKGROUND)):
        learnt[seeds == side] = (1 - OVER) * learnt[seeds == side] + OVER * np.array(colour)
    cut = np.where(mask[..., None], picture, ASIDE * picture)
    for ax, shown in zip(axes, (picture, learnt, cut), strict=True):
        bare(ax)
        ax.imshow(shown, interpolation="nearest")
    x0, y0, x1, y1 = found.boxes[index].tolist()
    if x1 > x0:
        axes[2].add_patch(Rectangle((x0 - 0.5, y0 - 0.5), x1 - x0, y1 - y0, fill=False, edgecolor=BOX, linewidth=1))


def _foot(found: Segmentation) -> str:
    low, high = found.settings["quantiles"]
    rounds = found.settings["iterations"]
    return (
        f"Seeds: the colours of the foreground are learnt where the map is above its {high:.0%} quantile (orange), "
        f"those of the background below the {low:.0%} quantile (blue). One graph cut and {rounds} rounds of GrabCut; "
        "the largest component in its own colours, and its box."
    )


def localisation_curve(found: Agreement) -> Figure:
    """Draw the share of pictures whose box overlaps the true one by more than each threshold.

    Example:
        >>> from attrib.analysis import agreement
        >>> true = torch.zeros(2, 8, 8, dtype=torch.bool)
        >>> true[:, 2:6, 2:6] = True
        >>> localisation_curve(agreement(true, true)).axes[0].get_ylabel()
        'share of pictures'
    """
    figure = Figure(figsize=(CURVE, 0.75 * CURVE), dpi=DPI, layout="constrained")
    drawn = figure.subplots()
    centre = f"box in the middle, sides of {found.centre:.0%}"
    for values, colour, dash, label in (
        (found.box_iou, COLOURS[0], "-", "found"),
        (found.centre_box_iou, "0.5", (0, (4, 2)), centre),
    ):
        ends = np.sort(values.numpy())
        above = 1 - np.arange(1, len(ends) + 1) / len(ends)
        x, y = np.concatenate([[0], ends, [1]]), np.concatenate([[1], above, [0]])
        drawn.step(x, y, where="post", color=colour, linestyle=dash, label=label)
    drawn.axvline(0.5, color="0.8", linewidth=0.8, zorder=0)
    drawn.set(xlim=(0, 1), ylim=(0, 1.02))
    drawn.set_ylabel("share of pictures", size=TITLE)
    drawn.tick_params(labelsize=TITLE)
    drawn.set_xlabel("IoU of the box that is asked for; CorLoc at 0.5", size=TITLE)
    drawn.spines[["top", "right"]].set_visible(False)
    drawn.legend(frameon=False, loc="lower left", bbox_to_anchor=(0, 1), ncols=2, borderaxespad=0, fontsize=TITLE)
    return figure
