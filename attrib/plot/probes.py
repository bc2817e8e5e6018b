"""Accuracy of linear probes by layer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from attrib.plot.colour import QUIET
from attrib.plot.layout import DPI, SMALL, TITLE

if TYPE_CHECKING:
    from attrib.analysis.probes.table import LayerProbes

HIGH, WIDE, LEAST = 3.2, 0.45, 3.2  # inches: height of a panel, width of a layer, least width of a panel


def probe_curves(found: LayerProbes) -> Figure:
    """Draw accuracy by layer: one panel per probe, one line per size of the training set.

    Convention:
        - lines are means over the splits, bands their 95 % intervals; with one size all probes share a panel.
        - dashed lines of the same colour are the control: the same fit to shuffled labels. The dotted line is chance.

    Args:
        found: what `attrib.analysis.probe_layers` gave.

    Returns:
        A figure; ``savefig`` writes it. pyplot does not know it.

    Example:
        >>> from attrib.analysis import probe_features
        >>> found = probe_features({"a": torch.randn(20, 3), "b": torch.randn(20, 3)}, torch.arange(20) % 2)
        >>> [text.get_text() for text in probe_curves(found).legends[0].get_texts()]
        ['least squares', 'softmax', 'shuffled labels', 'chance']
    """
    together = len(found.sizes) == 1
    groups = [list(found.probes)] if together else [[probe] for probe in found.probes]
    width = 1.0 + max(LEAST, 1.0 + WIDE * len(found.layers)) * len(groups)
    figure = Figure(figsize=(width, HIGH), dpi=DPI, layout="constrained")
    panels = figure.subplots(1, len(groups), sharey=True, squeeze=False)[0]
    for ax, probes in zip(panels, groups, strict=True):
        lines = {(probe, size): probe if together else size for probe in probes for size in found.sizes}
        _panel(ax, found, lines)
        ax.set_title(found.sizes[0] if together else probes[0], size=TITLE, parse_math=False)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside right upper", fontsize=SMALL, frameon=False)
    panels[0].set_ylabel("accuracy, mean over classes", size=TITLE)
    return figure


def _panel(ax: Axes, found: LayerProbes, lines: dict[tuple[str, str], str]) -> None:
    scores, x = found.scores(), np.arange(len(found.layers))
    for i, ((probe, size), label) in enumerate(lines.items()):
        mine = [one for one in scores if (one.probe, one.size) == (probe, size)]
        colour = matplotlib.colormaps["tab10"](i % 10)
        ax.plot(x, [one.mean for one in mine], "o-", color=colour, markersize=3, linewidth=1.2, label=label)
        ax.fill_between(x, [one.low for one in mine], [one.high for one in mine], color=colour, alpha=0.2, linewidth=0)
        ax.plot(x, [one.shuffled for one in mine], "--", color=colour, linewidth=0.8)
    ax.plot([], [], "--", color="0.4", linewidth=0.8, label="shuffled labels")
    ax.axhline(1 / found.classes, linestyle=":", color="black", linewidth=0.8, label="chance")
    ax.set_xticks(x, found.layers, rotation=45, ha="right", size=SMALL, parse_math=False)
    ax.tick_params(axis="y", labelsize=SMALL)
    ax.set_ylim(0, 1.02)
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
    ax.grid(axis="y", alpha=(1 - QUIET) / 2)
