"""Score-CAM and Ablation-CAM against pytorch-grad-cam, side by side in one run.

``python -m benchmarks.perturbed_cams --nets resnet18 --threads 1 --table``
"""

from __future__ import annotations

import argparse
import copy
import io
import sys
from collections.abc import Mapping, Sequence
from contextlib import redirect_stderr
from functools import partial
from pathlib import Path
from typing import Any

import torch

import attrib
from attrib.report.table import amount, text_table
from benchmarks import contenders as c
from benchmarks import measure, speed
from benchmarks.table import replace_between, verdict

BEGIN, END = "<!-- perturbed cams: begin -->", "<!-- perturbed cams: end -->"
RESULTS = speed.HERE / "results" / "perturbed_cams.json"
METHODS = {"scorecam": "ScoreCAM", "ablationcam": "AblationCAM"}


def calls(task: c.Task, method: str) -> dict[str, c.Call]:
    """Both libraries, asked the same; pytorch-grad-cam in batches of its own size."""
    import pytorch_grad_cam
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    model = copy.deepcopy(task.model)  # its hooks stay on the model
    peer = getattr(pytorch_grad_cam, METHODS[method])(model=model, target_layers=[model.get_submodule(task.layer)])

    def theirs() -> Any:
        with redirect_stderr(io.StringIO()):  # it draws progress bars
            return peer(input_tensor=task.x, targets=[ClassifierOutputTarget(task.target)])

    ours = attrib.METHODS[method](task.model, task.layer)
    return {c.OURS: partial(ours.attribute, task.x, target=task.target), c.PGC: theirs}


def row(task: c.Task, method: str, repeats: int, limit: float) -> dict[str, Any]:
    """Seconds of each, the ratios of pairs, and by how much the maps differ."""
    made = calls(task, method)
    numbers = {name: c.quietly(call) for name, call in made.items()}  # and warms up
    times = measure.interleaved(made, str(task.x.device), repeats, limit)
    ratio = measure.spread([b / a for a, b in zip(times[c.OURS], times[c.PGC], strict=True)])
    apart = c.difference("gradcam", c.PGC, numbers[c.OURS], numbers[c.PGC])
    seconds = {name: measure.spread(taken) for name, taken in times.items()}
    return {"net": task.net, "method": method, "seconds": seconds, "ratio": ratio, "difference": apart}


def table(rows: Sequence[Mapping[str, Any]], *, markdown: bool = False) -> str:
    """One line per network and method."""
    lines = []
    for one in rows:
        line = {"net": one["net"], "method": one["method"]}
        line |= {f"{name} s": amount(taken["median"]) for name, taken in one["seconds"].items()}
        ratio = "{:.2f} ({:.2f} to {:.2f})".format(*(one["ratio"][key] for key in ("median", "q25", "q75")))
        word = verdict(one["ratio"])
        line |= {f"{c.PGC} / {c.OURS}": f"{ratio} {word if word != 'slower' else '**slower**'}"}
        lines.append(line | {"difference": f"{one['difference']:.1e}"})
    return text_table(lines, markdown=markdown)


def page(results: Mapping[str, Any]) -> str:
    """What the page of results shows."""
    about, how = results["metadata"], results["settings"]
    return (
        f"Measured {about['date']} on {about['machine']['device']} ({about['machine']['cores']} cores), threads: "
        f"{how['threads']}, torch {about['versions']['torch']}, grad-cam {about['versions']['grad-cam']}: one picture "
        f"of {how['size']} pixels, random weights; medians of at most {how['repeats']} repeats, with quartiles."
        f"\n\n{table(results['rows'], markdown=True)}"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, write the results, and update the table if asked to."""
    parser = argparse.ArgumentParser(prog="perturbed_cams", description=__doc__)
    parser.add_argument("--nets", nargs="+", choices=list(c.NETS), default=["resnet18"], metavar="NET")
    parser.add_argument("--repeats", type=int, default=5, help="timed calls of each (default: %(default)s)")
    parser.add_argument(
        "--seconds", type=float, default=120.0, help="begin no further repeat after so long, but make 3"
    )
    parser.add_argument("--size", type=int, default=224, help="side of the input, pixels (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="of torch (default: all cores)")
    parser.add_argument("--device", default="cpu", help="such as cuda (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=RESULTS, help="JSON file (default: %(default)s)")
    parser.add_argument(
        "--table", type=Path, nargs="?", const=speed.HERE / "README.md", help="also update this page's table"
    )
    args = parser.parse_args(arguments)
    before = torch.get_num_threads()
    torch.set_num_threads(args.threads)
    try:
        tasks = [c.task(net, args.size, args.device) for net in args.nets]
        measured = partial(row, repeats=args.repeats, limit=args.seconds)
        rows = [measured(task, method) for task in tasks for method in METHODS]
    finally:
        torch.set_num_threads(before)
    settings = {name: getattr(args, name) for name in ("repeats", "size", "threads", "device")}
    results = {"metadata": speed.metadata(args.device), "settings": settings, "rows": rows}
    speed.write(args.out, results)
    print(table(rows))
    if args.table:
        replace_between(args.table, BEGIN, END, page(results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
