"""Figures of a benchmark: methods x metrics, average ranks, cost against quality. Axes in, axes out."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from math import isfinite
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullFormatter

from attrib import checks
from attrib.benchmark.ranking import Ranking
from attrib.benchmark.stats import Interval
from attrib.errors import InputError
from attrib.plot.colour import QUIET, new_axes
from attrib.plot.curves import COLOURS, CONTROLS
from attrib.plot.layout import SMALL, TITLE
from attrib.plot.scale import Floats

BETTER = "BrBG"  # teal is better, brown is worse: not the red and blue of evidence; both are told apart by any eye
SPREAD = 2.0  # standard deviations in full colour
LIGHT = 0.55  # luma below which a shade wants white words
ASIDE = 1.12  # factor between points of equal cost
MARKERS = ("o", "s", "D", "^", "v", "P", "X")


def score_grid(
    scores: Mapping[str, Mapping[str, float]],
    better: Mapping[str, bool | None],
    ax: Axes | None = None,
    *,
    controls: Collection[str] = (),
    words: Mapping[str, Mapping[str, str]] | None = None,
) -> Axes:
    """Draw methods x metrics: numbers in boxes, coloured by how good they are beside the others of their column.

    Convention:
        - a colour is the distance from the mean of its column in standard deviations, turned so that teal is better;
          colours compare rows of one column, never columns, and say nothing about chance.
        - a descriptor (None in ``better``), and a column of equal scores, has no colour; NaN is a dash.

    Args:
        scores: for each metric the score of each row, such as its mean.
        better: whether higher is better, by metric; None for descriptors.
        ax: where to draw; a new figure if None.
        controls: rows that a method must beat: they are set apart, and count for the colours.
        words: what to print in the boxes in place of three digits, by metric and row.

    Returns:
        The axes.

    Example:
        >>> means = {"deletion": {"gradcam": 0.1, "random": 0.3}, "srg": {"gradcam": 0.5, "random": 0.0}}
        >>> ax = score_grid(means, {"deletion": False, "srg": True}, controls=["random"])
        >>> [label.get_text() for label in ax.get_xticklabels()], [text.get_text() for text in ax.texts][:2]
        (['deletion ↓', 'srg ↑'], ['0.1', '0.5'])
    """
    rows = _rows(scores)
    for metric in scores:
        checks.choice("metric", metric, tuple(better))
    ax = new_axes() if ax is None else ax
    values = np.array([[found[row] for found in scores.values()] for row in rows], dtype=np.float64)
    shades = np.stack([_standard(values[:, i], better[metric]) for i, metric in enumerate(scores)], 1)
    image = ax.imshow(np.ma.masked_invalid(shades), cmap=BETTER, vmin=-SPREAD, vmax=SPREAD, aspect="auto")
    luma = np.asarray(image.to_rgba(np.nan_to_num(shades)))[..., :3] @ np.array([0.299, 0.587, 0.114])
    for (i, j), value in np.ndenumerate(values):
        metric, row = list(scores)[j], rows[i]
        text = (words or {}).get(metric, {}).get(row) or (f"{value:.3g}" if isfinite(value) else "-")
        colour = "white" if luma[i, j] < LIGHT else "black"
        ax.text(j, i, text, ha="center", va="center", size=SMALL, color=colour, parse_math=False)
    _grid_frame(ax, rows, [f"{metric} {_arrow(better[metric])}".rstrip() for metric in scores], controls)
    _grid_bar(ax, image)
    return ax


def _rows(scores: Mapping[str, Mapping[str, float]]) -> list[str]:
    if not scores or not next(iter(scores.values())):
        raise InputError("scores must hold at least one metric and one row; got none.")
    rows = list(next(iter(scores.values())))
    for metric, found in scores.items():
        if list(found) != rows:
            raise InputError(f"every metric must have the same rows; got {list(found)} for {metric!r}, not {rows}.")
    return rows


def _standard(column: Floats, better: bool | None) -> Floats:
    """Distances from the mean in standard deviations, larger is better; NaN where there is nothing to compare."""
    told = column[np.isfinite(column)]
    # equal but for rounding is equal
    if better is None or len(told) < 2 or np.ptp(told) <= 1e-12 * np.abs(told).max():
        return np.full_like(column, np.nan)
    distance: Floats = (column - told.mean()) / told.std() * (1 if better else -1)
    return distance


def _arrow(better: bool | None) -> str:
    return {True: "↑", False: "↓", None: ""}[better]


def _grid_frame(ax: Axes, rows: Sequence[str], heads: Sequence[str], controls: Collection[str]) -> None:
    ax.set_xticks(range(len(heads)), heads, size=TITLE, parse_math=False)
    ax.set_yticks(range(len(rows)), rows, size=TITLE, parse_math=False)
    ax.tick_params(length=0, top=False, labeltop=True, bottom=False, labelbottom=False)
    for label, row in zip(ax.get_yticklabels(), rows, strict=True):
        label.set_alpha(QUIET if row in controls else 1)
    first = min((i for i, row in enumerate(rows) if row in controls), default=0)
    if first:
        ax.axhline(first - 0.5, color="black", linewidth=0.8)
    for spine in ax.spines.values():
        spine.set_visible(False)


def _grid_bar(ax: Axes, image: Any) -> None:
    bar = ax.figure.colorbar(image, ax=ax, fraction=0.03, pad=0.02, ticks=[-SPREAD, 0, SPREAD], extend="both")
    bar.ax.set_yticklabels(["worse", "mean", "better"], size=SMALL)
    bar.ax.tick_params(length=0)
    bar.outline.set_visible(False)
    bar.set_label(f"within a column, ±{SPREAD:g} standard deviations", size=SMALL, alpha=QUIET)


def rank_line(ranking: Ranking, ax: Axes | None = None, *, title: str = "") -> Axes:
    """Draw average ranks on a line, the best on the right; bars join what the critical difference does not tell apart.

    Convention:
        - 1 is the best rank; methods under one bar are not shown to differ, others are.
        - with a Friedman p of the level or more no bar means anything, and the note says so.

    Args:
        ranking: see `attrib.benchmark.rank_methods`.
        ax: where to draw; a new figure if None. It should be about three times as wide as high.
        title: above the line, such as the metric.

    Returns:
        The axes.

    Example:
        >>> from attrib.benchmark import rank_methods
        >>> table = [[0.9, 0.5, 0.1], [0.8, 0.6, 0.2], [0.7, 0.8, 0.3], [0.9, 0.4, 0.3]]
        >>> ax = rank_line(rank_methods(table, ["gradcam", "saliency", "random"], higher_is_better=True))
        >>> [text.get_text() for text in ax.texts][-4:-1]
        ['gradcam 1.25', 'saliency 1.75', 'random 3.00']
    """
    ax = new_axes() if ax is None else ax
    told = [label for label in ranking.best_first if isfinite(_rank(ranking, label))]
    k = len(ranking.methods)
    right, low = (len(told) + 1) // 2, -0.55 - 0.4 * ((len(told) + 1) // 2) - 0.22 * len(ranking.groups)
    ax.set_xlim(k + 0.4 * k, 1 - 0.4 * k)
    ax.set_ylim(low, 1.3)
    ax.axis("off")
    _scale(ax, ranking, k)
    for i, label in enumerate(told):
        depth = -0.4 - 0.22 * len(ranking.groups) - 0.4 * (i if i < right else len(told) - 1 - i)
        _leader(ax, f"{label} {_rank(ranking, label):.2f}", _rank(ranking, label), depth, k, best=i < right)
    for i, group in enumerate(ranking.groups):
        ends = [_rank(ranking, group[0]) - 0.02 * k, _rank(ranking, group[-1]) + 0.02 * k]
        ax.plot(ends, [-0.22 * (i + 1)] * 2, color="black", linewidth=3, solid_capstyle="round")
    ax.set_title(title, size=TITLE, loc="left", parse_math=False)
    ax.text(0.5, 0, _rank_note(ranking), transform=ax.transAxes, size=SMALL, alpha=QUIET, ha="center", va="top")
    return ax


def _rank(ranking: Ranking, label: str) -> float:
    return ranking.ranks[ranking.methods.index(label)]


def _scale(ax: Axes, ranking: Ranking, k: int) -> None:
    """The line with its ranks, and the critical difference above it."""
    ax.plot([1, k], [0, 0], color="black", linewidth=1)
    for rank in range(1, k + 1):
        ax.plot([rank] * 2, [0, 0.1], color="black", linewidth=1)
        ax.annotate(str(rank), (rank, 0.16), ha="center", va="bottom", size=SMALL, annotation_clip=False)
    if isfinite(ranking.critical):
        ax.plot([1, 1 + ranking.critical], [0.8, 0.8], color="black", linewidth=1, marker="|", markersize=5)
        middle = (1 + ranking.critical / 2, 0.86)
        ax.annotate(f"critical difference {ranking.critical:.2f}", middle, ha="center", va="bottom", size=SMALL)


def _leader(ax: Axes, text: str, rank: float, depth: float, k: int, *, best: bool) -> None:
    """A line from a rank down and out to its label."""
    end = 1 - 0.06 * k if best else k + 0.06 * k
    ax.plot([rank, rank, end], [0, depth, depth], color="0.3", linewidth=0.8)
    side = "left" if best else "right"
    ax.text(end - (0.02 if best else -0.02) * k, depth, text, ha=side, va="center", size=TITLE, parse_math=False)


def _rank_note(ranking: Ranking) -> str:
    lost = f", {ranking.undefined} without every score left out" if ranking.undefined else ""
    note = f"Average rank over {ranking.images} images{lost}; bars join methods that are not told apart (Nemenyi)."
    if not isfinite(ranking.p):
        return note
    weak = "" if ranking.p < ranking.alpha else ": no method is shown to differ from any other"
    return f"{note} Friedman p={ranking.p:.2g}{weak}."


def cost_and_quality(
    cost: Mapping[str, float],
    score: Mapping[str, Interval],
    ax: Axes | None = None,
    *,
    better: bool,
    metric: str = "score",
    unit: str = "forward passes",
    controls: Collection[str] = (),
    legend: bool = True,
) -> Axes:
    """Draw what each method costs against how good its maps are, with intervals.

    Convention:
        - x: cost per map, logarithmic; methods of equal cost stand side by side, those that cost nothing at the left
          edge, marked 0.
        - y: mean score with its interval, turned so that up is better.
        - the line joins methods that are best for their cost: no other is both cheaper and better on average.
        - controls ignore the model and cost no pass: they are dashed and grey.

    Args:
        cost: per map, >= 0, by row.
        score: mean and interval, by row.
        ax: where to draw; a new figure if None.
        better: whether higher is better.
        metric: name of the score.
        unit: of the cost.
        controls: rows that a method must beat.
        legend: name the methods, right of the axes.

    Returns:
        The axes.

    Example:
        >>> from attrib.benchmark import bootstrap_interval
        >>> score = {"saliency": bootstrap_interval([0.2, 0.3]), "rise": bootstrap_interval([0.4, 0.6])}
        >>> ax = cost_and_quality({"saliency": 1, "rise": 1001}, score, better=True, metric="srg")
        >>> ax.get_xlabel(), ax.get_ylabel()
        ('forward passes per map', 'srg (higher is better)')
    """
    told = [row for row, one in score.items() if one.count and row not in controls]
    for row in told:
        checks.choice("row", row, tuple(cost))
    ax = new_axes() if ax is None else ax
    spent = {row: checks.number("cost", cost[row], 0) for row in told}
    floor = min((value for value in spent.values() if value), default=1.0) / 3
    place = {row: spent[row] or floor for row in told}
    beside = {row: place[row] * ASIDE ** _turn(row, place) for row in told}
    lines = [_point(ax, i, row, beside[row], score[row]) for i, row in enumerate(told)]
    front = _front(told, place, {row: score[row].mean * (1 if better else -1) for row in told})
    ax.plot([beside[row] for row in front], [score[row].mean for row in front], color="0.7", linewidth=1, zorder=1)
    for i, row in enumerate(row for row in score if row in controls and score[row].count):
        look: dict[str, Any] = {"linestyle": CONTROLS[i % len(CONTROLS)], "color": "0.55", "linewidth": 1}
        lines.append(ax.axhline(score[row].mean, label=row, zorder=0, **look))
    _cost_axes(ax, better=better, metric=metric, unit=unit, floor=floor if 0 in spent.values() else None)
    if legend:
        drawn = ax.legend(handles=lines, loc="center left", bbox_to_anchor=(1.01, 0.5), fontsize=SMALL, frameon=False)
        for text in drawn.get_texts():
            text.set_parse_math(False)
    return ax


def _turn(row: str, place: Mapping[str, float]) -> float:
    """How far from the middle of those of equal cost a row stands."""
    equal = [other for other, x in place.items() if x == place[row]]
    return equal.index(row) - (len(equal) - 1) / 2


def _point(ax: Axes, i: int, row: str, x: float, one: Interval) -> Line2D:
    look: dict[str, Any] = {"color": COLOURS[i % len(COLOURS)], "zorder": 3}
    if isfinite(one.low) and isfinite(one.high):
        ax.plot([x, x], [one.low, one.high], linewidth=1, **look)
    marker = MARKERS[(i + i // len(COLOURS)) % len(MARKERS)]  # another one when colours begin again
    return ax.plot([x], [one.mean], marker=marker, linestyle="", markersize=6, label=row, **look)[0]


def _front(rows: Sequence[str], cost: Mapping[str, float], gain: Mapping[str, float]) -> list[str]:
    """Rows that no other beats at the same or a lower cost, cheapest first."""
    found: list[str] = []
    for row in sorted(rows, key=lambda row: (cost[row], -gain[row])):
        if not found or gain[row] > gain[found[-1]]:
            found.append(row)
    return found


def _cost_axes(ax: Axes, *, better: bool, metric: str, unit: str, floor: float | None) -> None:
    ax.set_xscale("log")
    ax.set_xlabel(f"{unit} per map", size=TITLE)
    ax.set_ylabel(f"{metric} ({'higher' if better else 'lower'} is better)", size=TITLE, parse_math=False)
    ax.tick_params(labelsize=SMALL)
    low, high = ax.get_xlim()
    ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high / low < 1000 else (1,)))
    ax.xaxis.set_major_formatter("{x:g}")
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.spines[["top", "right"]].set_visible(False)
    if not better and not ax.yaxis_inverted():  # axes that share theirs are turned once
        ax.invert_yaxis()
    if floor is not None:
        ax.annotate("0", (floor, 0), xycoords=("data", "axes fraction"), xytext=(0, 3), textcoords="offset points",
                    size=SMALL, ha="center")  # fmt: skip
