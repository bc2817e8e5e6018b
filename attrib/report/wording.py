"""A comparison in words: the table as people read it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from attrib.benchmark.stats import Interval, worst_sign
from attrib.registry import METRICS
from attrib.report.table import amount, decimals, fixed, text_table

if TYPE_CHECKING:
    from attrib.report.comparison import Comparison

COSTS = {"forwards": "forwards", "backwards": "backwards", "seconds": "seconds", "memory_mb": "memory MB"}


def comparison_text(found: Comparison, *, markdown: bool = False) -> str:
    """The protocol, what was explained, the table with its notes, and what failed."""
    digits = {metric: means_decimals(row[metric] for row in found.intervals.values()) for metric in found.metrics}
    table = text_table([_cells(found, row, digits) for row in found.table()], markdown=markdown)
    parts = [
        [f"protocol: {found.protocol}"],
        [f"{name}: {asked}" for name, asked in zip(found.images, found.asked, strict=True)],
        [table],
        _notes(found),
        [f"failed: {failure}" for failure in found.failures],
    ]
    return "\n\n".join("\n".join(part) for part in parts if part)


def _cells(found: Comparison, row: dict[str, Any], digits: dict[str, int | None]) -> dict[str, str]:
    name = row["method"] + (" (control)" if row["kind"] == "control" else "")
    cells = {"method": name}
    for metric in found.metrics:
        head = f"{metric} ({direction(metric)})"
        words = interval_words(found.intervals[row["method"]][metric], digits[metric])
        cells[head] = words + _mark(found, row, metric)
    return cells | {head: amount(row[key]) for key, head in COSTS.items()}


def direction(metric: str) -> str:
    """Which values are better, in one word; a descriptor has none."""
    kind = METRICS[metric]
    return "descriptor" if kind.descriptor else "higher" if kind.higher_is_better else "lower"


def means_decimals(column: Iterable[Interval]) -> int | None:
    """The `decimals` of a column of means."""
    return decimals(interval.mean for interval in column if interval.count)


def interval_words(interval: Interval, digits: int | None) -> str:
    """As in ``0.400 [0.200, 0.600]``, with so many `decimals`; a dash where there is no value."""
    if interval.count == 0:
        return "-"
    ends = f" [{fixed(interval.low, digits)}, {fixed(interval.high, digits)}]" if interval.count > 1 else ""
    return fixed(interval.mean, digits) + ends


def _mark(found: Comparison, row: dict[str, Any], metric: str) -> str:
    """Two characters, so that numbers stay below each other: ``!`` not better than a control, ``?`` cannot be told."""
    verdicts = found.verdicts.get(row["method"], {}).get(metric, {})
    if row["kind"] == "control" or not verdicts:
        return "  " if found.controls else ""
    return f" {worst_sign(verdicts):1}"


def _notes(found: Comparison) -> list[str]:
    n = len(found.images)
    notes = [f"n={n}; mean [95 % bootstrap interval]; passes: mean per map; seconds: median; memory: peak."]
    if any(spent.shared_forwards for many in found.costs.values() for spent in many):
        notes.append("Methods share passes of an image; each counts for every method that read it.")
    if any(
        verdict.sign == "?" for row in found.verdicts.values() for many in row.values() for verdict in many.values()
    ):
        notes.append("? better than every control on average, but there are too few images for a test at 5 %.")
    for method in found.methods:
        lost = {metric: names for metric, names in found.unbeaten(method).items() if names}
        if lost:
            said = "; ".join(f"{metric}: {', '.join(names)}" for metric, names in lost.items())
            notes.append(f"! {method} is not better than a control: {said}.")
    return notes + _odd(found)


def _odd(found: Comparison) -> list[str]:
    notes = []
    for row in found.rows:
        odd = [f"{count} {name}" for name, count in found.curves[row].counts().items() if count and name != "ok"]
        if odd:
            notes.append(f"{row}: {', '.join(odd)} of {len(found.images)} maps.")
    return notes
