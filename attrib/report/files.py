"""The files of a comparison."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from attrib.metrics import CurveMetric
from attrib.registry import METRICS
from attrib.report.curves import padded
from attrib.report.store import file_names, image_names, to_json, write_array, write_text, writing

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from attrib.report.comparison import Comparison

AXES = ["image", "curve", "fraction and score", "point"]


def write_comparison(found: Comparison, folder: Path, *, figures: bool) -> None:
    """Write manifest, scores, table, curves, maps and, if asked, figures."""
    names, pictures = file_names(found.rows), image_names(found.images)
    manifest = found.manifest
    manifest["curves"] = {"axes": AXES, "rows": {}}
    for row in found.rows:
        curves = found.curves[row]
        if curves.names:
            values = torch.stack(padded([torch.stack(curves.curve(name), 1) for name in curves.names]), 1)
            files = write_array(folder, f"curves/{names[row]}.npy", values)
            manifest["curves"]["rows"][row] = {"names": list(curves.names), **files}
    manifest["maps"] = {
        image: {
            method: write_array(folder, f"maps/{pictures[image]}/{names[method]}.npy", next(iter(maps.values())))
            for method, maps in one.maps.items()
        }
        for image, one in zip(found.images, found.explanations, strict=False)
    }
    if figures:
        manifest["figures"] = _draw(found, folder, pictures)
    write_text(folder, "scores.json", to_json(_scores(found)))
    write_text(folder, "table.md", found.to_text(markdown=True) + "\n")
    write_text(folder, "manifest.json", to_json(manifest))


def _scores(found: Comparison) -> dict[str, Any]:
    return {
        "images": list(found.images),
        "scores": {row: {metric: v.tolist() for metric, v in many.items()} for row, many in found.scores.items()},
        "normalised": {row: _normalised(found, row) for row in found.rows},
        "seconds": {row: [spent.seconds for spent in costs] for row, costs in found.costs.items()},
    }


def _normalised(found: Comparison, row: str) -> dict[str, list[float]]:
    metrics = [metric for metric in found.metrics if issubclass(METRICS[metric], CurveMetric)]
    return {metric: found.curves[row].auc(metric, normalised=True).tolist() for metric in metrics}


def _draw(found: Comparison, folder: Path, names: dict[str, str]) -> dict[str, str]:
    drawn = {"curves": "figures/curves.png"}
    _write_figure(folder / drawn["curves"], found.plot_curves())
    for image, one in zip(found.images, found.explanations, strict=False):
        if one.views is not None:
            drawn[image] = f"figures/{names[image]}.png"
            _write_figure(folder / drawn[image], one.plot())
    return drawn


def _write_figure(path: Path, figure: Figure) -> None:
    with writing(path.name):
        path.parent.mkdir(exist_ok=True)
        figure.savefig(path)
