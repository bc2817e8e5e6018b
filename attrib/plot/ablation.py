"""Errors of changed architectures, row by row, beside those of the paper."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from attrib.plot.filters import Words
from attrib.plot.layout import SMALL, TITLE, WIDTH

if TYPE_CHECKING:
    from attrib.analysis.training.ablation import AblationTable

ROW, NAMES, EDGE = 0.22, 2.6, 0.45  # inches: a row, its name, and room above and below the panels
HERE, THERE = "#0072b2", "#d55e00"


def ablation_panels(found: AblationTable) -> Figure:
    """Draw the errors of an `attrib.analysis.AblationTable`, those of the paper beside them.

    Convention:
        - dots are means over seeds, lines one standard deviation to either side; hollow dots are training errors.
        - the panel on the right has the paper's numbers, on data of its own; it is left out if no row has any.

    Returns:
        A figure; ``savefig`` writes it. pyplot does not know it.
    """
    high = ROW * len(found.rows)
    words = Words("Errors of changed architectures", found.said(), WIDTH)
    figure = words.figure(high + 2 * EDGE)
    known = [i for i, errors in enumerate(found.paper) if errors is not None]
    panels = 1 + bool(known)
    _legend(words.axes(figure, 0, EDGE / 2))
    wide = (WIDTH - NAMES - 0.2 * panels) / panels
    axes = [words.axes(figure, EDGE, high, NAMES + i * (wide + 0.2), wide) for i in range(panels)]
    for ax in axes:
        _rows(ax, found)
    place = np.arange(len(found.rows))
    spread = found.test.std(1).numpy() if len(found.seeds) > 1 else None
    axes[0].errorbar(found.test.mean(1).numpy(), place, xerr=spread, fmt="o", color=HERE, markersize=4)
    axes[0].plot(found.train.mean(1).numpy(), place, "o", color=HERE, markersize=4, fillstyle="none")
    axes[0].set_yticks(place, found.rows, size=SMALL)
    _finish(axes[0], "here: error, %")
    if known:
        errors = np.array([found.paper[i] for i in known])
        axes[1].plot(errors[:, 1], known, "o", color=THERE, markersize=4)
        axes[1].plot(errors[:, 0], known, "o", color=THERE, markersize=4, fillstyle="none")
        _finish(axes[1], "in the paper, on ImageNet: error, %")
    return figure


def _legend(ax: Axes) -> None:
    """Above the panels: in them it would hide dots."""
    ax.axis("off")
    how: dict[str, Any] = {"linestyle": "none", "marker": "o", "markersize": 4, "color": "0.3"}
    dots = [
        Line2D([], [], label="on test data (in the paper: validation)", **how),
        Line2D([], [], label="on training data", fillstyle="none", **how),
    ]
    ax.legend(handles=dots, loc="center", ncols=2, fontsize=SMALL, frameon=False, handlelength=1)


def _rows(ax: Axes, found: AblationTable) -> None:
    ax.set_ylim(len(found.rows) - 0.5, -0.5)
    ax.set_yticks([])
    ax.hlines(
        np.arange(len(found.rows)), 0, 1, transform=ax.get_yaxis_transform(), color="0.9", linewidth=0.6, zorder=0
    )


def _finish(ax: Axes, title: str) -> None:
    ax.set_title(title, size=TITLE)
    ax.set_xlim(0, 1.04 * ax.get_xlim()[1])
    ax.tick_params(labelsize=SMALL, length=2)
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
