"""The results as a Markdown table, losses beside wins, written between two markers of a page."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.contenders import CAPTUM, OURS, PGC

BEGIN, END = "<!-- speed: begin -->", "<!-- speed: end -->"
PEERS = {CAPTUM: "Captum", PGC: "pytorch-grad-cam"}
AGREE = 1e-3  # relative: float32, other orders of summation


def verdict(ratio: Mapping[str, float]) -> str:
    """``"faster"`` or ``"slower"``, or ``"even"`` if the middle half of the ratios holds 1."""
    return "faster" if ratio["q25"] > 1 else "slower" if ratio["q75"] < 1 else "even"


def table(results: Mapping[str, Any]) -> str:
    """One row per network and method, with a count of wins and losses above and the remarks below."""
    heads = ["network", "method", "attrib, ms", *(f"{peer}, ms" for peer in PEERS.values())]
    heads += [f"{peer} / attrib" for peer in PEERS.values()] + ["peak memory, MB"]
    rows = [_row(cell) for cell in results["results"]]
    lines = [heads, [":--"] * 2 + ["--:"] * (len(heads) - 2), *rows]
    body = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    return "\n\n".join([_about(results), _score(results), body, *_remarks(results)])


def update(page: Path, results: Mapping[str, Any]) -> None:
    """Replace what stands between the markers."""
    replace_between(page, BEGIN, END, table(results))


def where(results: Mapping[str, Any]) -> str:
    """When, on what and with what was measured."""
    about, how = results["metadata"], results["settings"]
    return (
        f"Measured {about['date']} on {about['machine']['device']} ({about['machine']['cores']} cores, "
        f"{how['threads']} threads), torch {about['versions']['torch']}, captum {about['versions']['captum']}: "
        f"{how['size']} x {how['size']} pixels"
    )


def replace_between(page: Path, begin: str, end: str, words: str) -> None:
    """Replace what stands between two markers."""
    text = page.read_text(encoding="utf-8")
    if text.count(begin) != 1 or text.count(end) != 1:
        raise SystemExit(f"{page} must hold the lines {begin} and {end} once each.")
    before, rest = text.split(begin)
    page.write_text(f"{before}{begin}\n\n{words}\n\n{end}{rest.split(end)[1]}", encoding="utf-8")


def _row(cell: Mapping[str, Any]) -> list[str]:
    found = cell["contenders"]
    times = [_time(found.get(name)) for name in (OURS, *PEERS)]
    memory = " / ".join(_megabytes(found.get(name)) for name in (OURS, *PEERS) if name in found)
    return [cell["net"], cell["method"], *times, *(_ratio(found.get(name)) for name in PEERS), memory]


def _time(one: Mapping[str, Any] | None) -> str:
    if one is None:
        return ""
    if "error" in one:
        return "fails"
    return "{} [{}, {}]".format(*(_milliseconds(one[key]) for key in ("median", "q25", "q75")))


def _milliseconds(seconds: float) -> str:
    """Three digits, and never as a power of ten."""
    return f"{1000 * seconds:.0f}" if seconds >= 0.1 else f"{1000 * seconds:.3g}"


def _ratio(one: Mapping[str, Any] | None) -> str:
    if one is None or "ratio" not in one:
        return ""
    text = "{:.2f} [{:.2f}, {:.2f}]".format(*(one["ratio"][key] for key in ("median", "q25", "q75")))
    word = verdict(one["ratio"])
    return f"{text} {word if word != 'slower' else '**slower**'}" + ("" if one["difference"] <= AGREE else " †")


def _megabytes(one: Mapping[str, Any] | None) -> str:
    bytes_ = (one or {}).get("peak_bytes")
    return "?" if bytes_ is None else f"{bytes_ / 1e6:.0f}"


def _about(results: Mapping[str, Any]) -> str:
    about, how = results["metadata"], results["settings"]
    versions = ", ".join(f"{name} {number}" for name, number in about["versions"].items() if number)
    return (
        f"Measured {about['date']} on {about['machine']['device']} ({about['machine']['cores']} cores, "
        f"{how['threads']} threads), {versions}. One image of {how['size']} x {how['size']} pixels; median of "
        f"{how['repeats']} or fewer repeats with quartiles in brackets. Peak memory: "
        "attrib / Captum / pytorch-grad-cam, beyond model and input."
    )


def _score(results: Mapping[str, Any]) -> str:
    told = []
    for name, peer in PEERS.items():
        peers = [cell["contenders"][name] for cell in results["results"] if name in cell["contenders"]]
        said = [verdict(one["ratio"]) for one in peers if "ratio" in one]
        counts = ", ".join(f"{word} in {said.count(word)}" for word in ("faster", "even", "slower"))
        told += [f"Against {peer} attrib is {counts} of {len(said)}."] if said else []
    return " ".join(told)


def _remarks(results: Mapping[str, Any]) -> list[str]:
    failed, apart = [], []
    for cell in results["results"]:
        for name, one in cell["contenders"].items():
            where = f"{PEERS.get(name, name)}, {cell['net']}, {cell['method']}"
            if "error" in one:
                failed.append(f"- {where} fails: {one['error'].splitlines()[0]}")
            elif one.get("difference", 0) > AGREE:
                apart.append(f"- † {where}: the numbers differ by {one['difference']:.2g} of the largest.")
    return ["\n".join(failed + apart)] if failed or apart else []
