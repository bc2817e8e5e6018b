"""What the numbers of a study say, in sentences: which method is best, and which are not told apart from it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrib.benchmark.pairs import Correction, Pairs
from attrib.report.table import amount, text_table
from attrib.report.wording import COSTS
from attrib.study.summary import Column, Summary

if TYPE_CHECKING:
    from attrib.study.result import StudyResult

_CORRECTIONS: dict[Correction, str] = {
    "holm": "Holm's correction",
    "bh": "the correction of Benjamini and Hochberg",
    "none": "no correction for the number of pairs",
}


def legend(found: Summary) -> list[str]:
    """What the signs of the table mean, as far as they occur, and which scores are missing."""
    level = f"{100 * (1 - found.alpha):.4g} %"
    lines = [f"n={found.images} images; mean [{level} bootstrap interval]; the best mean of each metric is marked."]
    flags = {column.flag(row) for column in found.columns for row in found.rows}
    if "!" in flags:
        lines.append("! not better than a control, which ignores the model.")
    if "?" in flags:
        lines.append(f"? better than every control on average; too few images for a test at {found.alpha:g}.")
    if told := [column.metric for column in found.columns if column.higher_is_better is None]:
        lines.append(f"Descriptors, by which nothing is ranked: {', '.join(told)}.")
    for row in found.rows:
        lost = {column.metric: column.intervals[row].undefined for column in found.columns}
        if any(lost.values()):
            said = ", ".join(f"{count} of {metric}" for metric, count in lost.items() if count)
            lines.append(f"{row}: undefined on {said}.")
    return lines


def findings(found: Summary) -> list[str]:
    """For each metric: what fails against a control, what is best, what is worse and by how much, and the ranks."""
    told = [line for column in found.columns for line in _finding(column)]
    if not told:
        return []
    how = f"Paired permutation tests of all pairs of methods, {_CORRECTIONS[found.correction]}, level {found.alpha:g}."
    return [how, *told]


def _finding(column: Column) -> list[str]:
    lost = {method: column.unbeaten(method) for method in column.methods}
    lines = [f"  {method} is not better than {', '.join(names)}." for method, names in lost.items() if names]
    if column.pairs is not None and column.best:
        lines.append(f"  {' and '.join(column.best)} {'has' if len(column.best) == 1 else 'have'} the best mean.")
        lines += _beside(column.pairs, column.best[0])
    if column.ranking is not None and column.ranking.images:
        lines.append(f"  ranks: {column.ranking}")
    return [f"{column.metric}:", *lines] if lines else []


def _beside(pairs: Pairs, best: str) -> list[str]:
    every = {method: pairs.find(best, method) for method in pairs.methods if method != best}
    lines = []
    if close := [method for method, pair in every.items() if pair.better is None]:
        few = "" if all(every[method].possible for method in close) else "; there are too few images to tell"
        lines.append(f"  not told apart from {best}: {', '.join(close)}{few}.")
    # a method that is undefined on many images can have the worse mean and win where both are defined
    return lines + [f"  {pair}" for pair in every.values() if pair.better is not None]


def costs(found: StudyResult) -> str:
    """What a map of each row takes."""
    rows = [
        {"method": row} | {head: amount(cost[key]) for key, head in COSTS.items()}
        for row, cost in ((row, found.cost(row)) for row in found.rows)
    ]
    return text_table(rows)
