"""What sharing passes saves: methods together, Grad-CAM alone and ten targets, as ratios to raw passes of PyTorch.

``python -m benchmarks.sharing --nets resnet18 vgg16 --threads 2 --out benchmarks/results/sharing.json``
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from attrib import GradCAM, GuidedBackprop, GuidedGradCAM, Saliency, attribute_all
from attrib.report.table import amount, text_table
from benchmarks import contenders as c
from benchmarks import measure, speed
from benchmarks.table import replace_between, where

TARGETS = 10
BEGIN, END = "<!-- sharing: begin -->", "<!-- sharing: end -->"
# What is timed, what it is divided by, by how many, and the ratio that was aimed at.
ROWS: tuple[tuple[str, str, str, int, str], ...] = (
    ("four methods, shared", "shared", "gradient", 1, "1.45 (VGG16 1.6)"),
    ("four methods, one by one", "apart", "gradient", 1, ""),
    ("four methods, Captum", "captum", "gradient", 1, ""),
    ("two raw backward passes from one forward", "twice", "gradient", 1, ""),
    ("Grad-CAM", "gradcam", "forward", 1, "1.1"),
    (f"{TARGETS} targets, shared, per target", "targets", "gradient", TARGETS, "0.5"),
    (f"{TARGETS} raw backward passes from one forward, per target", "loop", "gradient", TARGETS, ""),
    (f"{TARGETS} raw gradients in one batch, per target", "batched", "gradient", TARGETS, ""),
)


def raw(task: c.Task, targets: int = 1, *, batched: bool = False, backwards: int = 1) -> Tensor:
    """Input gradients without any library: one forward pass, no weight gradients."""
    weights = [weight for weight in task.model.parameters() if weight.requires_grad]
    for weight in weights:
        weight.requires_grad_(False)
    x = task.x.clone().requires_grad_()
    scores = task.model(x)[0, :targets]
    if batched:
        (grads,) = torch.autograd.grad(scores, x, torch.eye(targets).to(scores), is_grads_batched=True)
    else:
        each = [torch.autograd.grad(score, x, retain_graph=True)[0] for score in scores for _ in range(backwards)]
        grads = torch.stack(each)
    for weight in weights:
        weight.requires_grad_(True)
    return grads


def forward(task: c.Task) -> Tensor:
    """One forward pass without a graph."""
    with torch.no_grad():
        out: Tensor = task.model(task.x)
    return out


def _captum(task: c.Task) -> Mapping[str, Any]:
    return {name: c.CONTENDERS[name][c.CAPTUM](task)() for name in ("saliency", "gradcam", "guided", "guided_gradcam")}


def calls(task: c.Task) -> dict[str, c.Call]:
    """Everything that is timed on one network."""
    model, layer, x, target = task.model, task.layer, task.x, task.target
    four = {"saliency": Saliency(model), "gradcam": GradCAM(model, layer)}
    four |= {"guided": GuidedBackprop(model), "guided_gradcam": GuidedGradCAM(model, layer)}
    return {
        "forward": partial(forward, task),
        "gradient": partial(raw, task),
        "twice": partial(raw, task, backwards=2),
        "shared": partial(attribute_all, four, x, [target]),
        "apart": lambda: [method.attribute(x, target) for method in four.values()],
        "captum": partial(_captum, task),
        "gradcam": partial(four["gradcam"].attribute, x, target),
        "targets": partial(attribute_all, {"saliency": four["saliency"]}, x, range(TARGETS)),
        "loop": partial(raw, task, TARGETS),
        "batched": partial(raw, task, TARGETS, batched=True),
    }


def measured(net: str, size: int, device: str, repeats: int, limit: float) -> list[dict[str, Any]]:
    """One row for each of `ROWS`: median and quartiles of the ratios of calls that ran side by side."""
    made = calls(c.task(net, size, device))
    for call in made.values():
        c.quietly(call)  # warm
    times = measure.interleaved(made, device, repeats, limit)
    return [
        {"net": net, "work": words, "against": base, "goal": goal}
        | measure.spread([a / b / many for a, b in zip(times[name], times[base], strict=True)])
        for words, name, base, many, goal in ROWS
    ]


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """One line per work, one column per network."""
    nets, found = dict.fromkeys(row["net"] for row in rows), {(row["work"], row["net"]): row for row in rows}
    lines = [
        {"work": words, "against one": base, "goal": goal or "-"}
        | {net: amount(found[words, net]["median"]) for net in nets}
        for words, _, base, _, goal in ROWS
    ]
    return text_table(lines, markdown=True)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print the table and write the numbers."""
    made = argparse.ArgumentParser(prog="sharing", description=__doc__)
    made.add_argument("--nets", nargs="+", choices=list(c.NETS), default=["resnet18", "vgg16"], metavar="NET")
    made.add_argument("--size", type=int, default=224)
    made.add_argument("--device", default="cpu")
    made.add_argument("--threads", type=int, default=torch.get_num_threads())
    made.add_argument("--repeats", type=int, default=9)
    made.add_argument("--seconds", type=float, default=60.0)
    made.add_argument("--out", type=Path, default=speed.HERE / "results" / "sharing.json")
    made.add_argument(
        "--table", type=Path, nargs="?", const=speed.HERE / "README.md", help="also update this page's table"
    )
    args = made.parse_args(argv)
    before = torch.get_num_threads()
    torch.set_num_threads(args.threads)
    try:
        rows = [row for net in args.nets for row in measured(net, args.size, args.device, args.repeats, args.seconds)]
    finally:
        torch.set_num_threads(before)
    settings = {name: getattr(args, name) for name in ("size", "device", "threads", "repeats")}
    results = {"metadata": speed.metadata(args.device), "settings": settings, "rows": rows}
    speed.write(args.out, results)
    print(table(rows))
    if args.table:
        replace_between(args.table, BEGIN, END, f"{where(results)}; medians of ratios.\n\n{table(rows)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
