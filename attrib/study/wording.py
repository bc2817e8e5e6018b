"""A study in words: the table as people read it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from attrib.benchmark.stats import worst_sign
from attrib.report.table import amount, text_table
from attrib.report.wording import COSTS, interval_words, means_decimals

if TYPE_CHECKING:
    from attrib.study.result import StudyResult

_SHOWN = 10  # failures that are told in full


def study_text(found: StudyResult, *, markdown: bool = False) -> str:
    """The protocol, the table with its notes, and what failed or is missing."""
    digits = {metric: means_decimals(row[metric] for row in found.intervals.values()) for metric in found.metrics}
    parts = [
        [f"protocol: {found.protocol}"],
        [text_table([_cells(found, row, digits) for row in found.table()], markdown=markdown)],
        _notes(found),
        _failures(found),
    ]
    return "\n\n".join("\n".join(part) for part in parts if part)


def _cells(found: StudyResult, row: dict[str, Any], digits: dict[str, int | None]) -> dict[str, str]:
    cells = {"method": row["method"] + (" (control)" if row["kind"] == "control" else "")}
    for metric in found.metrics:
        better = "higher" if found.higher_is_better(metric) else "lower"
        head = f"{metric} ({'descriptor' if found.descriptor(metric) else better})"
        words = interval_words(found.intervals[row["method"]][metric], digits[metric])
        cells[head] = words + _mark(found, row, metric)
    return cells | {head: amount(row[key]) for key, head in COSTS.items()}


def _mark(found: StudyResult, row: dict[str, Any], metric: str) -> str:
    """``!`` not better than a control, ``?`` cannot be told; two characters, so that numbers stay below each other."""
    verdicts = found.verdicts.get(row["method"], {}).get(metric, {})
    if not verdicts:
        return "  " if found.controls else ""
    return f" {worst_sign(verdicts):1}"


def _notes(found: StudyResult) -> list[str]:
    n = len(found.images)
    notes = [f"n={n}; mean [95 % bootstrap interval]; passes: mean per map; seconds: median; memory: peak."]
    if found.missing:
        total = found.manifest["shards"]
        notes.append(f"not finished: {len(found.missing)} of {total} shards are missing. Run it again to go on.")
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


def _odd(found: StudyResult) -> list[str]:
    """What became of scores that are not as they should be, the same for several metrics said once."""
    said: dict[str, list[str]] = {}
    for metric in found.metrics:
        for row, states in found.counts(metric).items():
            odd = ", ".join(f"{count} {state}" for state, count in sorted(states.items()) if state != "ok")
            if odd:
                said.setdefault(f"{row}: {odd} of {len(found.images)}", []).append(metric)
    return [f"{words} ({', '.join(metrics)})." for words, metrics in said.items()]


def _failures(found: StudyResult) -> list[str]:
    lines = []
    for one in found.failures.slice(0, _SHOWN).to_pylist():
        where = ", ".join(part for part in (one["image"], one["method"], one["metric"]) if part)
        lines.append(f"failed: {where}: {one['error']}: {one['message']}")
    more = len(found.failures) - len(lines)
    return [*lines, f"failed: {more} more, in {found.store.folder / 'failures'}"] if more > 0 else lines
