"""The first layers of AlexNet and of ZFNet, trained on generated stripes by several schedules: which findings stay.

``python -m benchmarks.first_layers --threads 1 --table``
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import torch

from attrib.analysis import diagnose_filters, fit
from attrib.models import ABLATIONS, textures
from attrib.report.table import text_table
from benchmarks import speed
from benchmarks.table import replace_between

BEGIN, END = "<!-- first layers: begin -->", "<!-- first layers: end -->"
RESULTS = speed.HERE / "results" / "first_layers.json"
ROWS = {"11x11, stride 4": "krizhevsky", "7x7, stride 2": "zfnet"}
CLASSES, DATA = 12, {"contrast": 0.4}
GALLERY: dict[str, Any] = {"pictures": 900, "epochs": 8, "rate": 5e-4, "start": 0.03}  # as docs/gallery has it
SCHEDULES: dict[str, dict[str, Any]] = {
    "as in the gallery": {},
    "twice the rate": {"rate": 1e-3},
    "half the rate": {"rate": 2.5e-4},
    "3 times as long": {"epochs": 24},
    "3 times the pictures": {"pictures": 2700},
    "first weights of usual size": {"start": 1.0},
}
TITLES = {
    "wrong": "wrong, %",
    "finer": "filters of layer 1 above low frequencies, %",
    "aliased": "aliased: kernels",
    "moved": "aliased: answers",
    "dead": "dead in layer 2, of 64",
}


def trained(row: str, seed: int, *, pictures: int, epochs: int, rate: float, start: float) -> dict[str, float]:
    """Train one network and measure its first two layers."""
    (x, labels), (test, truth) = textures(pictures, seed=0, **DATA), textures(300, seed=1, **DATA)
    net = ABLATIONS[row].build(CLASSES, scale=1 / 4, image_size=64, fc=(512, 512), dropout=0.2, seed=seed)
    with torch.no_grad():
        net.conv1.weight.mul_(start)
        wrong = fit(net, x, labels, epochs=epochs, batch_size=32, rate=rate, seed=seed)(test).argmax(1) != truth
    first, second = (diagnose_filters(net, test[:100], layer=layer) for layer in ("conv1", "conv2"))
    return {
        "wrong": 100 * float(wrong.float().mean()),
        "finer": 100 * float(first.peaks[1:].sum()) / len(first),
        "aliased": float(first.aliased.mean()),
        "moved": float(first.shift_error.nanmean()),
        "dead": float(second.dead.sum()),
    }


def measured(schedules: Sequence[str], seeds: Sequence[int]) -> list[dict[str, Any]]:
    """A row for each schedule and network, with a number for each seed."""
    rows = []
    for schedule in schedules:
        for name, row in ROWS.items():
            found = [trained(row, seed, **{**GALLERY, **SCHEDULES[schedule]}) for seed in seeds]
            rows.append({"schedule": schedule, "layer 1": name} | {key: [one[key] for one in found] for key in TITLES})
    return rows


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Means and standard deviations over the seeds."""
    words = ("schedule", "layer 1")
    lines = [
        {word: str(row[word]) for word in words} | {title: _spread(row[key], key) for key, title in TITLES.items()}
        for row in rows
    ]
    return text_table(lines, markdown=True)


def _spread(values: Sequence[float], key: str) -> str:
    digits = 2 if key in {"aliased", "moved"} else 0
    spread = f" ± {stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{fmean(values):.{digits}f}{spread}"


def page(results: Mapping[str, Any]) -> str:
    """What the page of results shows."""
    about, how = results["metadata"], results["settings"]
    return (
        f"Measured {about['date']} on {about['machine']['device']} ({how['threads']} threads), torch "
        f"{about['versions']['torch']}: mean ± standard deviation of {len(how['seeds'])} seeds.\n\n"
        f"{table(results['rows'])}"
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Train, print the table and write the numbers."""
    made = argparse.ArgumentParser(prog="first_layers", description=__doc__)
    made.add_argument("--schedules", nargs="+", default=list(SCHEDULES), choices=list(SCHEDULES), metavar="NAME")
    made.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2], metavar="SEED")
    made.add_argument("--threads", type=int, default=torch.get_num_threads())
    made.add_argument("--out", type=Path, default=RESULTS)
    made.add_argument("--table", type=Path, nargs="?", const=speed.HERE / "README.md", help="update this page's table")
    args = made.parse_args(argv)
    before = torch.get_num_threads()
    torch.set_num_threads(args.threads)
    try:
        rows = measured(args.schedules, args.seeds)
    finally:
        torch.set_num_threads(before)
    settings = {"seeds": args.seeds, "threads": args.threads, "gallery": GALLERY, "schedules": SCHEDULES}
    results = {"metadata": speed.metadata("cpu"), "settings": settings, "rows": rows}
    speed.write(args.out, results)
    print(table(rows))
    if args.table:
        replace_between(args.table, BEGIN, END, page(json.loads(json.dumps(results))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
