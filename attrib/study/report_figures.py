"""The figures of a report, each None where there is nothing to draw."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from matplotlib.figure import Figure

from attrib.plot.curves import HasCurves, comparison
from attrib.plot.layout import DPI, WIDTH
from attrib.plot.study import cost_and_quality, rank_line, score_grid
from attrib.report.store import file_names
from attrib.study.summary import Summary
from attrib.study.tables import short_number


def curve_figure(found: Mapping[str, HasCurves], controls: Collection[str], seed: int) -> Figure | None:
    """Mean curves with bands: deletion and insertion, or MoRF and LeRF where these were not measured."""
    stored = {name for curves in found.values() for name in curves.names}
    pairs = (("deletion", "insertion"), ("morf", "lerf"))
    names: list[str] = next((told for pair in pairs if (told := [name for name in pair if name in stored])), [])
    if not names:
        return None
    return comparison(found, names, controls=[row for row in controls if row in found], seed=seed)


def grid_figure(found: Summary) -> Figure | None:
    """Methods x metrics; flags follow the numbers."""
    if not found.columns or not found.rows:
        return None
    figure = _figure(max(WIDTH, 2.2 + 0.95 * len(found.columns)), 0.9 + 0.32 * len(found.rows))
    scores = {column.metric: {row: one.mean for row, one in column.intervals.items()} for column in found.columns}
    words = {
        column.metric: {
            row: f"{short_number(column, one.mean)} {column.flag(row)}".rstrip()
            for row, one in column.intervals.items()
            if one.count
        }
        for column in found.columns
    }
    better = {column.metric: column.higher_is_better for column in found.columns}
    score_grid(scores, better, figure.subplots(), controls=found.controls, words=words)
    return figure


def rank_figures(found: Summary) -> dict[str, Figure | None]:
    """Average ranks with the critical difference for each metric that ranks."""
    names = file_names([column.metric for column in found.columns])
    made: dict[str, Figure | None] = {}
    for column in found.columns:
        if column.ranking is not None and column.ranking.images:
            figure = _figure(WIDTH, 1.5 + 0.16 * len(column.ranking.methods))
            rank_line(column.ranking, figure.subplots(), title=column.metric)
            made[f"ranks_{names[column.metric]}.png"] = figure
    return made


def cost_figures(found: Summary, costs: Mapping[str, Mapping[str, float | None]]) -> dict[str, Figure | None]:
    """Cost against quality for each metric that ranks: passes on the left, seconds on the right."""
    ranked = [column for column in found.columns if column.higher_is_better is not None]
    names = file_names([column.metric for column in found.columns])
    spent = {row: {key: value or 0.0 for key, value in cost.items()} for row, cost in costs.items()}
    passes = {row: cost["forwards"] + cost["backwards"] for row, cost in spent.items()}
    seconds = {row: cost["seconds"] for row, cost in spent.items()}
    made: dict[str, Figure | None] = {}
    for column in ranked:
        if not any(column.intervals[method].count for method in column.methods):
            continue
        figure = _figure(WIDTH, 3.2)
        left, right = figure.subplots(1, 2, sharey=True)
        how: dict[str, Any] = {"better": column.higher_is_better, "metric": column.metric, "controls": found.controls}
        cost_and_quality(passes, column.intervals, left, unit="forward and backward passes", legend=False, **how)
        cost_and_quality(seconds, column.intervals, right, unit="seconds", **how)
        right.set_ylabel("")
        made[f"cost_{names[column.metric]}.png"] = figure
    return made


def _figure(wide: float, high: float) -> Figure:
    return Figure(figsize=(wide, high), dpi=DPI, layout="constrained")
