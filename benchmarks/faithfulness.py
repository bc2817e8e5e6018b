"""Occlusion against saliency, guided backpropagation and Grad-CAM by deletion, insertion and SRG, on trained networks.

``python -m benchmarks.faithfulness --photos 25 --threads 1 --table --summary``

Four of the networks and the photos are those that the tests use (environment variable ``ATTRIB_TEST_DATA``); the fifth,
EfficientNet-Lite0, comes with the extra ``demo``.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from attrib import compare
from attrib.benchmark import compare_pairs
from attrib.io import LoadedModel, load_model
from attrib.metrics import Protocol
from attrib.registry import METRICS
from attrib.report.comparison import Comparison
from attrib.report.store import strict
from attrib.report.table import text_table
from benchmarks import speed
from benchmarks.table import replace_between

BEGIN, END = "<!-- faithfulness: begin -->", "<!-- faithfulness: end -->"  # of the page and of the summary
RESULTS = speed.HERE / "results" / "faithfulness.json"
NETS = ("squeezenet1_0", "resnet18", "mobilenet_v2", "tiny_darknet", "efficientnet_lite0")
SHOWN = ("occlusion", "saliency", "guided", "gradcam")
NUMBERS = ("deletion", "insertion", "srg")
HEADS = {"deletion": "deletion ↓", "insertion": "insertion ↑", "srg": "SRG ↑"}


def network(name: str) -> LoadedModel:
    """A trained network."""
    from tests import realnets

    return load_model(name) if name == "efficientnet_lite0" else realnets.load(name).loaded


def photos(net: LoadedModel, count: int) -> list[Image.Image]:
    """The first photos whose class the network gets right."""
    from tests import data

    with torch.no_grad():
        known = [photo for photo in data.photos() if int(net.model(net.inputs([photo.image])).argmax()) == photo.target]
    return [photo.image for photo in known[:count]]


def told(name: str, found: Comparison) -> dict[str, Any]:
    """What one network says: means with intervals, and every pair of methods with corrected p-values."""
    means = {
        row: {metric: [one.mean, one.low, one.high] for metric, one in cells.items()}
        for row, cells in found.intervals.items()
    }
    pairs = {}
    for metric in found.metrics:
        values = np.stack([found.scores[method][metric].numpy() for method in found.methods], 1)
        better = METRICS[metric].higher_is_better
        pairs[metric] = [str(pair) for pair in compare_pairs(values, found.methods, higher_is_better=better).every]
    flags = {method: found.unbeaten(method) for method in found.methods}
    row = {"net": name, "photos": len(found.images), "means": means, "pairs": pairs, "not_better_than": flags}
    return dict(strict(row))  # one photo has no interval


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """One line per method and control, one column per network and number; ``!``: no better than a control."""
    lines = []
    for method in rows[0]["means"]:
        line = {"method": method if method in SHOWN else f"{method} (control)"}
        for row in rows:
            cells = row["means"][method]
            marks = {m: "!" if row["not_better_than"].get(method, {}).get(m) else "" for m in NUMBERS}
            line[row["net"]] = " / ".join(f"{cells[m][0]:.2f}{marks[m]}" for m in NUMBERS)
        lines.append(line)
    return text_table(lines, markdown=True)


def page(results: Mapping[str, Any]) -> str:
    """What the page of results shows."""
    about, how = results["metadata"], results["settings"]
    pairs = [f"- {row['net']}: {'; '.join(row['pairs']['srg'])}." for row in results["rows"]]
    counts = ", ".join(f"{row['net']} {row['photos']}" for row in results["rows"])
    return (
        f"Measured {about['date']}, torch {about['versions']['torch']}; photos: {counts}; {how['protocol']}.\n\n"
        f"Mean deletion (lower is better) / insertion (higher) / SRG (higher); `!`: not better than every control.\n\n"
        f"{table(results['rows'])}\n\nBy SRG, all pairs, p corrected by Holm:\n\n" + "\n".join(pairs)
    )


def summary(results: Mapping[str, Any]) -> str:
    """For the first page: every number with its interval, and which methods the tests tell apart."""
    about, lines = results["metadata"], []
    for row in results["rows"]:
        for number in NUMBERS:
            line = {"network": f"{row['net']} ({row['photos']})", "": HEADS[number]}
            line |= {method: _interval(row, method, number) for method in SHOWN}
            best = (max if METRICS[number].higher_is_better else min)(
                (one for one in row["means"] if one not in SHOWN), key=lambda one: row["means"][one][number][0]
            )
            line |= {"best control": f"{best} {row['means'][best][number][0]:.2f}"}
            lines.append(line | {"told apart": _wins(row["pairs"][number])})
    return (
        f"Measured {about['date']} on {about['machine']['device']}, threads: {results['settings']['threads']}, torch "
        f"{about['versions']['torch']}; {results['settings']['protocol']}.\n\n{text_table(lines, markdown=True)}"
    )


def _interval(row: Mapping[str, Any], method: str, number: str) -> str:
    mean, low, high = row["means"][method][number]
    ends = "" if low is None else f" [{low:.2f}, {high:.2f}]"
    return f"{mean:.2f}{ends}" + " !" * bool(row["not_better_than"].get(method, {}).get(number))


def _wins(pairs: Sequence[str]) -> str:
    """Who is better than whom, at a corrected p below 0.05; a pair says so in words."""
    won: dict[str, list[str]] = {}
    for found in (re.match(r"(\w+) is better than (\w+) ", pair) for pair in pairs):
        if found:
            won.setdefault(found[1], []).append(found[2])
    return "; ".join(f"{better} > {', '.join(worse)}" for better, worse in won.items()) or "-"


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print the table and write the numbers."""
    made = argparse.ArgumentParser(prog="faithfulness", description=__doc__)
    made.add_argument("--nets", nargs="+", default=list(NETS), choices=NETS, metavar="NET")
    made.add_argument("--photos", type=int, default=16)
    made.add_argument("--threads", type=int, default=torch.get_num_threads())
    made.add_argument("--out", type=Path, default=RESULTS)
    made.add_argument("--table", type=Path, nargs="?", const=speed.HERE / "README.md", help="update this page's table")
    made.add_argument("--summary", type=Path, nargs="?", const=speed.HERE.parent / "README.md", help="and this page's")
    args = made.parse_args(argv)
    before = torch.get_num_threads()
    torch.set_num_threads(args.threads)
    protocol, rows = Protocol(), []
    try:
        for name in args.nets:
            net = network(name)
            found = compare(net, photos(net, args.photos), SHOWN, NUMBERS, protocol, keep_maps=False)
            rows.append(told(name, found))
            print(name, found.to_text(), sep="\n", file=sys.stderr)
    finally:
        torch.set_num_threads(before)
    settings = {"photos": args.photos, "threads": args.threads, "protocol": str(protocol)}
    results = {"metadata": speed.metadata("cpu"), "settings": settings, "rows": rows}
    speed.write(args.out, results)
    print(page(results))
    if args.table:
        replace_between(args.table, BEGIN, END, page(results))
    if args.summary:
        replace_between(args.summary, BEGIN, END, summary(results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
