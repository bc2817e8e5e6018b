"""The curves of `benchmarks.curves` as a page: who was how fast, with how much memory, and whether the areas agree."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attrib.report.table import amount, text_table
from benchmarks.contenders import OURS
from benchmarks.table import verdict

BEGIN, END = "<!-- curves: begin -->", "<!-- curves: end -->"


def page(results: Mapping[str, Any]) -> str:
    """What the page of results shows."""
    lines = [_line(row) for row in results["rows"] if "seconds" in row]
    missing = dict.fromkeys(_missing(row) for row in results["rows"] if "seconds" not in row)
    parts = [_about(results), _score(results), text_table(lines, markdown=True), "\n".join(missing)]
    return "\n\n".join(part for part in parts if part)


def _about(results: Mapping[str, Any]) -> str:
    about, how = results["metadata"], results["settings"]
    versions = ", ".join(f"{name} {number}" for name, number in about["versions"].items() if number)
    nets = ", ".join(f"{net} ({one['weights']} weights, {one['photos']})" for net, one in how["nets"].items())
    return (
        f"Measured {about['date']} on {about['machine']['device']} ({about['machine']['cores']} cores), "
        f"threads: {how['threads']}, {versions}. {nets}; {how['images']} photos in a batch; median of {how['repeats']} "
        "or fewer repeats with quartiles in brackets. Peak memory beyond model and input."
    )


def _score(results: Mapping[str, Any]) -> str:
    said = [verdict(row["ratio"]) for row in results["rows"] if "ratio" in row and row["contender"] != OURS]
    counts = ", ".join(f"{word} in {said.count(word)}" for word in ("faster", "even", "slower"))
    taken = {(row["net"], row["setting"]): row["peak_bytes"] for row in results["rows"] if _took(row, ours=True)}
    pairs = [
        (taken[row["net"], row["setting"]], row["peak_bytes"]) for row in results["rows"] if _took(row, ours=False)
    ]
    more = sum(ours > theirs for ours, theirs in pairs)
    memory = f" It takes **more memory** in {more} of {len(pairs)}." if more else ""
    return f"attrib is {counts} of {len(said)}.{memory}" if said else ""


def _took(row: Mapping[str, Any], *, ours: bool) -> bool:
    """Whether the memory was measured, ours or a peer's."""
    return (row["contender"] == OURS) == ours and row.get("peak_bytes") is not None


def _line(row: Mapping[str, Any]) -> dict[str, str]:
    memory = row.get("peak_bytes")
    peer = row["contender"] != OURS
    return {
        "network": row["net"],
        "curves": row["setting"],
        "photos": str(row["images"]),
        "who": row["contender"],
        "rows": str(row["rows"]),
        "seconds": amount(row["seconds"]["median"]),
        "/ bare forwards": _spread(row["bare"]),
        "/ attrib": f"{_spread(row['ratio'])} {_word(row['ratio'])}" if peer else "",
        "memory, MB": "?" if memory is None else f"{memory / 1e6:.0f}",
        "area differs by": f"{row['difference']:.0e}" if peer else "",
    }


def _spread(ratio: Mapping[str, float]) -> str:
    return "{:.2f} [{:.2f}, {:.2f}]".format(*(ratio[key] for key in ("median", "q25", "q75")))


def _word(ratio: Mapping[str, float]) -> str:
    word = verdict(ratio)
    return word if word != "slower" else "**slower**"


def _missing(row: Mapping[str, Any]) -> str:
    if "error" in row:
        return f"- {row['contender']}, {row['net']}, {row['setting']} fails: {row['error'].splitlines()[0]}"
    return f"- {row['contender']} was not measured: {row['skipped']}."
