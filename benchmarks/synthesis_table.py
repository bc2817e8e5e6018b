"""The tables of `benchmarks.synthesis`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean, median
from typing import Any

from attrib.report.table import amount, text_table
from benchmarks.synthesis_speed import LUCENT, OURS, SAME
from benchmarks.table import verdict

BEGIN, END = "<!-- synthesis: begin -->", "<!-- synthesis: end -->"
TOP = 5
Row = Mapping[str, Any]


def page(results: Row) -> str:
    """All tables, with what was measured where."""
    about, how = results["metadata"], results["settings"]
    versions = ", ".join(
        f"{name} {about['versions'][name]}" for name in ("torch", "torch-lucent") if about["versions"].get(name)
    )
    head = f"Measured {about['date']} on {about['machine']['device']} ({how['threads']} threads), {versions}."
    parts = [
        f"**Ascent**, {how['steps']} steps:\n\n{ascent(results['ascent'])}",
        f"**Inversion**, error by the number of steps, and PSNR in dB:\n\n"
        f"{inversion(results['inversion'], how['marks'])}",
        f"**Dreams**, the objective after each octave of 10 steps over that before it, mean of "
        f"{len({row['photo'] for row in results['dream']})} photos:\n\n{dream(results['dream'])}",
        f"**Speed**, one image of 224 x 224, steps per second and time over that of `{OURS}`:\n\n"
        f"{speed(results['speed'])}",
    ]
    return "\n\n".join([head, *parts])


def grouped(rows: Iterable[Row], *names: str) -> dict[tuple[Any, ...], list[Row]]:
    """Rows by the values of some fields, in the order in which they come."""
    found: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        found.setdefault(tuple(row[name] for name in names), []).append(row)
    return found


def ascent(rows: Sequence[Row]) -> str:
    """A line per network and recipe: how sure it is, and what the others say."""
    lines = []
    for (net, recipe), some in grouped(rows, "net", "recipe").items():
        ranks = [one["rank"] for row in some for one in row["others"].values()]
        line = {"made by": net, "recipe": recipe, "classes": str(len(some))}
        line["probability, mean"] = f"{fmean(row['input'] for row in some):.3f}"
        line["least"] = f"{min(row['input'] for row in some):.3f}"
        line["as a picture"] = f"{fmean(row['picture']['probability'] for row in some):.3f}"
        line[f"others: top {TOP}"] = f"{fmean(rank <= TOP for rank in ranks):.2f}" if ranks else "-"
        line["mean rank"] = amount(fmean(ranks), 3) if ranks else "-"
        line["median rank"] = amount(median(ranks), 3) if ranks else "-"
        lines.append(line)
    return text_table(lines, markdown=True)


def inversion(rows: Sequence[Row], marks: Sequence[int]) -> str:
    """A line per layer, shallow to deep, means over photos."""
    lines = []
    for (net, layer), some in grouped(rows, "net", "layer").items():
        line = {"net": net, "layer": layer}
        for i, mark in enumerate(marks):
            line[f"step {mark}"] = amount(fmean(row["error"][i] for row in some), 2)
        for i in (0, len(marks) - 1):
            line[f"PSNR, step {marks[i]}"] = f"{fmean(row['psnr'][i] for row in some):.1f}"
        lines.append(line)
    return text_table(lines, markdown=True)


def dream(rows: Sequence[Row]) -> str:
    """A line per network, layer and whether there was a guide."""
    lines = []
    for (net, layer, guided), some in grouped(
        [{**row, "guided": row["guide"] is not None} for row in rows], "net", "layer", "guided"
    ).items():
        line = {"net": net, "layer": layer, "guided": "yes" if guided else "no"}
        for i in range(len(some[0]["before"])):
            line[f"octave {i + 1}"] = f"{fmean(row['after'][i] / row['before'][i] for row in some):.3g}"
        least = min(after / before for row in some for before, after in zip(row["before"], row["after"], strict=True))
        lines.append(line | {"least": f"{least:.3g}"})
    return text_table(lines, markdown=True)


def speed(rows: Sequence[Row]) -> str:
    """A line per network, unit and contender; where we are slower is bold."""
    lines = []
    for row in rows:
        for name, one in row["contenders"].items():
            ratio = one["ratio"]
            words = "{:.2f} [{:.2f}, {:.2f}]".format(*(ratio[key] for key in ("median", "q25", "q75")))
            slow = name in (LUCENT, SAME) and verdict(ratio) == "slower"
            line = {"net": row["net"], "unit": row["unit"], "loop": name}
            line["steps per second"] = f"{one['steps_per_second']:.1f}"
            lines.append(line | {"time / ours": "" if name == OURS else f"**{words}**" if slow else words})
    return text_table(lines, markdown=True)
