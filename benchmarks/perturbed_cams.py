"""Score-CAM and Ablation-CAM against pytorch-grad-cam, side by side in one run.

``python -m benchmarks.perturbed_cams --nets resnet18 --threads 2``
"""

from __future__ import annotations

import argparse
import copy
import io
import sys
from collections.abc import Sequence
from contextlib import redirect_stderr
from functools import partial
from typing import Any

import torch

import attrib
from attrib.report.table import text_table
from benchmarks import contenders as c
from benchmarks import measure

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


def row(task: c.Task, method: str, repeats: int, limit: float) -> dict[str, str]:
    """Seconds of each, and the ratio that is the median over pairs."""
    made = calls(task, method)
    numbers = {name: c.quietly(call) for name, call in made.items()}  # and warms up
    times = measure.interleaved(made, str(task.x.device), repeats, limit)
    ratio = measure.spread([b / a for a, b in zip(times[c.OURS], times[c.PGC], strict=True)])
    apart = c.difference("gradcam", c.PGC, numbers[c.OURS], numbers[c.PGC])
    found = {f"{name} s": f"{measure.spread(taken)['median']:.3f}" for name, taken in times.items()}
    shown = f"{ratio['median']:.2f} ({ratio['q25']:.2f} to {ratio['q75']:.2f})"
    return {"net": task.net, "method": method, **found, "ratio": shown, "difference": f"{apart:.1e}"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="perturbed_cams", description=__doc__)
    parser.add_argument("--nets", nargs="+", choices=list(c.NETS), default=["resnet18"], metavar="NET")
    parser.add_argument("--repeats", type=int, default=5, help="timed calls of each (default: %(default)s)")
    parser.add_argument(
        "--seconds", type=float, default=120.0, help="begin no further repeat after so long, but make 3"
    )
    parser.add_argument("--size", type=int, default=224, help="side of the input, pixels (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="of torch (default: all cores)")
    parser.add_argument("--device", default="cpu", help="such as cuda (default: %(default)s)")
    args = parser.parse_args(arguments)
    torch.set_num_threads(args.threads)
    tasks = [c.task(net, args.size, args.device) for net in args.nets]
    measured = partial(row, repeats=args.repeats, limit=args.seconds)
    rows = [measured(task, method) for task in tasks for method in METHODS]
    print(text_table(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
