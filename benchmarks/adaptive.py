"""How far areas of few points are from those of 225, on trained networks: equal spacing against adaptive points.

``python -m benchmarks.adaptive --out benchmarks/results/adaptive.json`` prints the table of the documentation. It needs
the networks of the tests.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from attrib import METHODS
from attrib.metrics import Curves, Protocol, curves
from attrib.report.facts import versions
from attrib.report.store import to_json
from attrib.report.table import amount, text_table
from tests import realnets

MOST = 225
PROTOCOLS = {
    **{f"steps={k}": Protocol(steps=k) for k in (15, 26, 57, 113)},
    **{f"adaptive, tolerance={t}": Protocol(steps="adaptive", tolerance=t) for t in (0.05, 0.02, 0.01, 0.005)},
}
NETS = {
    "resnet20_cifar10": (8, ("gradcam", "saliency", "input_x_gradient")),
    "mnist_cnn": (6, ("gradcam", "saliency")),
    "mobilenet_v1_025_128": (6, ("gradcam", "saliency", "guided")),
    "resnet18": (2, ("gradcam", "saliency")),
    "squeezenet1_0": (2, ("gradcam",)),
}


def measured(name: str) -> Iterator[dict[str, Any]]:
    """Points and error of every curve of one network, as shares of the curve's range."""
    images, methods = NETS[name]
    net = realnets.load(name)
    x = net.batch(images)[0]
    maps = {method: METHODS[method](net.model).attribute(x, "predicted") for method in methods}
    maps["random"] = torch.rand(images, 1, *x.shape[2:], generator=torch.Generator().manual_seed(0))
    exact = curves(net.model, x, "predicted", maps, Protocol(steps=MOST))
    for label, protocol in PROTOCOLS.items():
        for method, found in curves(net.model, x, "predicted", maps, protocol).items():
            for curve in ("deletion", "lerf"):
                yield from _rows(found, exact[method], curve, {"net": name, "protocol": label, "map": method})


def _rows(found: Curves, exact: Curves, curve: str, about: dict[str, Any]) -> Iterator[dict[str, Any]]:
    score = exact.curve(curve)[1]
    error = (found.auc(curve) - exact.auc(curve)).abs() / (score.amax(1) - score.amin(1))
    points: Tensor = (found.curve(curve)[0].diff(dim=1) > 0).sum(1) + 1
    for i, (far, many) in enumerate(zip(error.tolist(), points.tolist(), strict=True)):
        yield {**about, "curve": curve, "image": i, "points": many, "error": far}


def table(results: dict[str, Any]) -> str:
    """One line per protocol, from what was written."""
    lines = []
    for label, one in results["protocols"].items():
        error = torch.tensor(one["error"], dtype=torch.float64)
        line = {"protocol": label, "points": amount(sum(one["points"]) / len(error), 2)}
        line |= {"mean error": f"{float(error.mean()):.4f}", "largest": f"{float(error.max()):.4f}"}
        lines.append(line | {"off by > 0.01": f"{float((error > 0.01).double().mean()):.1%}"})
    return text_table(lines, markdown=True)


def columns(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The curves once, then points and errors of each protocol in their order."""
    named: dict[str, Any] = {"curves": [], "protocols": {label: {"points": [], "error": []} for label in PROTOCOLS}}
    for row in rows:
        if row["protocol"] == next(iter(PROTOCOLS)):
            named["curves"].append(" ".join(str(row[part]) for part in ("net", "map", "curve", "image")))
        for part, value in (("points", row["points"]), ("error", round(row["error"], 6))):
            named["protocols"][row["protocol"]][part].append(value)
    return named


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the table and write every number."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nets", nargs="+", choices=list(NETS), default=list(NETS))
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args(arguments)
    results = columns([row for name in asked.nets for row in measured(name)])
    sys.stdout.write(table(results) + "\n")
    if asked.out:
        told = {"schema": 1, "versions": versions(), "most": MOST, "results": results}
        asked.out.write_text(to_json(told), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
