"""The figure of Zeiler and Fergus: pictures that are moved, and what layers and the score make of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from attrib.plot.colour import QUIET, bare
from attrib.plot.curves import COLOURS
from attrib.plot.layout import DPI, GAP, SMALL, TITLE, WIDTH, wrap
from attrib.plot.scale import Floats

if TYPE_CHECKING:
    from attrib.analysis.moved.invariance import Invariance

EACH = 5  # pictures with a line of their own; of more the mean and the middle half are drawn
CONTROL, OUTSIDE = "0.35", "0.9"
LABELS = {"vertical": "pixels down", "horizontal": "pixels right", "scale": "factor", "rotation": "degrees"}
HIGH, TOP, LINE = 1.35, 0.36, SMALL * 1.4 / 72  # inches: of a panel, of the titles, of a line of the foot
LEFT, BELOW = 0.36, 0.36  # room for numbers


def invariance_curves(found: Invariance, *, relative: bool = True) -> Figure:
    """Draw a row for each sweep: pictures, the distance at each layer, the probability, the error of maps.

    Convention:
        - up to five pictures have a line each, the first one in blue; of more, the mean and the middle half.
        - dashed: the control, the mean distance after the way there and back; what of a line is not above it may be
          lost borders and interpolation. Grey areas: the share of the picture that is padding.

    Args:
        found: what `attrib.analysis.invariance` gave.
        relative: distances over the length of the features; else as they are, as in the paper.

    Returns:
        A figure; ``savefig`` writes it. pyplot does not know it.

    Example:
        >>> from attrib.analysis import invariance
        >>> figure = invariance_curves(invariance(model, x, 3, sweeps={"vertical": [-2, 0, 2]}))
        >>> [ax.get_title() for ax in figure.axes]
        ['-2, 0, 2', 'stem, distance', 'fc@input, distance', 'probability']
    """
    methods = list(next(iter(found.equivariance.values()), {}))
    columns = 2 + len(found.norm) + len(methods)
    foot = wrap(_foot(found, relative=relative), WIDTH - 2 * GAP, SMALL)
    below = GAP * 2 + LINE * len(foot)
    high = len(found.amounts) * (HIGH + TOP + BELOW) + below
    figure = Figure(figsize=(WIDTH, high), dpi=DPI)
    figure.text(0.5, GAP / high, "\n".join(foot), size=SMALL, alpha=QUIET, va="bottom", ha="center", parse_math=False)
    wide = (WIDTH - GAP) / columns
    for row, sweep in enumerate(found.amounts):
        bottom = high - (row + 1) * (HIGH + TOP + BELOW) + BELOW
        boxes = [(GAP + i * wide + LEFT * (i > 0), wide - LEFT * (i > 0) - GAP * 2) for i in range(columns)]
        axes = [figure.add_axes((x / WIDTH, bottom / high, w / WIDTH, HIGH / high)) for x, w in boxes]
        _pictures(axes[0], found, sweep)
        for ax, layer in zip(axes[1:], found.norm, strict=False):
            _distance(ax, found, sweep, layer, relative=relative)
        _probability(axes[1 + len(found.norm)], found, sweep)
        for ax, method in zip(axes[2 + len(found.norm) :], methods, strict=True):
            _lines(ax, found, sweep, found.equivariance[sweep][method], (method, "error"))
    return figure


def _pictures(ax: Axes, found: Invariance, sweep: str) -> None:
    """The first picture at the lowest, the middle and the highest amount."""
    amounts = found.amounts[sweep].tolist()
    order = sorted(range(len(amounts)), key=lambda i: float(amounts[i]))
    chosen = [amounts[order[i]] for i in sorted({0, len(order) // 2, len(order) - 1})]
    bare(ax)
    ax.imshow(_strip(found, sweep, chosen), interpolation="nearest")
    ax.set_title(", ".join(f"{one:g}" for one in chosen), size=TITLE, pad=3)
    ax.set_xlabel(f"{sweep}, {LABELS[sweep]}", size=SMALL)


def _strip(found: Invariance, sweep: str, chosen: Sequence[float]) -> Floats:
    moved = [found.moved(sweep, one)[0].permute(1, 2, 0).double().numpy() for one in chosen]
    rows: list[Floats] = [np.repeat(one, 3 // one.shape[2], 2) for one in moved]
    gap = np.ones((max(1, rows[0].shape[0] // 16), rows[0].shape[1], 3))
    stacked: Floats = np.concatenate([part for one in rows for part in (one, gap)][:-1], 0)
    return stacked


def _distance(ax: Axes, found: Invariance, sweep: str, layer: str, *, relative: bool) -> None:
    values = found.relative(sweep, layer) if relative else found.distance[sweep][layer]
    control = None
    if found.artefact:
        control = found.control(sweep, layer) if relative else found.artefact[sweep][layer]
    _lines(ax, found, sweep, values, (layer, "distance"), control)


def _probability(ax: Axes, found: Invariance, sweep: str) -> None:
    _lines(ax, found, sweep, found.probability[sweep], ("", "probability"))
    order = found.amounts[sweep].argsort()
    ax.fill_between(found.amounts[sweep][order], found.outside[sweep][order], color=OUTSIDE, linewidth=0, zorder=0)
    ax.set_ylim(0, 1.02)


def _lines(
    ax: Axes, found: Invariance, sweep: str, values: Tensor, title: tuple[str, str], control: Tensor | None = None
) -> None:
    """Lines ``(A, N)`` over the amounts, in order."""
    order = found.amounts[sweep].argsort()
    x, y = found.amounts[sweep][order].numpy(), values[order].double().numpy()
    if y.shape[1] <= EACH:
        for i in reversed(range(y.shape[1])):
            ax.plot(x, y[:, i], color=COLOURS[i], linewidth=1.2, marker="o" if len(x) == 1 else None)
    else:
        low, high = values[order].double().nanquantile(torch.tensor([0.25, 0.75], dtype=torch.float64), 1).numpy()
        ax.fill_between(x, low, high, color=COLOURS[0], alpha=0.2, linewidth=0)
        ax.plot(x, _mean(values[order]), color=COLOURS[0], linewidth=1.4)
    if control is not None:
        ax.plot(x, _mean(control[order]), color=CONTROL, linewidth=1, linestyle=(0, (3, 2)))
    ax.set_ylim(bottom=0)
    ax.tick_params(labelsize=SMALL, length=2, pad=1.5)
    ax.spines[["top", "right"]].set_visible(False)
    wide = ax.get_position().width * WIDTH + LEFT / 2
    ax.set_title(_title(*title, wide), size=SMALL, pad=3, parse_math=False)


def _title(name: str, what: str, wide: float) -> str:
    """Whose what, in at most two lines; of a name that is too long the end, which tells layers apart."""
    for cut in range(max(1, len(name))):
        text = f"{'…' * bool(cut)}{name[cut:]}, {what}" if name else what
        lines = wrap(text, wide, SMALL)
        if len(lines) <= 2 and " ".join(lines).replace("_ ", "_") == text:  # no word is broken but at an underscore
            break
    return "\n".join(lines)


def _mean(values: Tensor) -> Floats:
    """Over pictures, of the values that are defined; NaN, without a warning, where none is."""
    mean: Floats = values.double().nanmean(1).numpy()
    return mean


def _foot(found: Invariance, *, relative: bool) -> str:
    count = len(found.clean)
    lines = "a line for each" if count <= EACH else "their mean and the middle half"
    dashed = " Dashed: the way there and back, so lost borders and interpolation alone." if found.artefact else ""
    unit = " Distances are shares of the length of the features." if relative else ""
    return (
        f"{count} picture{'s' * (count != 1)}: {lines}.{unit}{dashed} Grey: share of the picture that is padding "
        f"({found.padding})."
    )
