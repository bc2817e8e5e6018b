"""Exact occlusion and curves against Captum, whole passes and bare forwards; how the cost grows with the picture.

``python -m benchmarks.exact --threads 2 --table``
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from attrib import METHODS
from attrib.core import Query, Windows, as_objective, explain_plan, frozen, sweep
from attrib.core.masking.masks import Some
from attrib.core.masking.options import auto_rows
from attrib.metrics.curves import curves
from attrib.report.table import amount, text_table
from benchmarks import contenders as c
from benchmarks import measure, speed
from benchmarks.table import replace_between, where

HERE = Path(__file__).resolve().parent
NETS = ("vgg16", "resnet18", "resnet50", "alexnet", "googlenet", "mobilenet_v3_large", "vit_b_16")
WINDOW, STRIDE, CAPTUM_ROWS = 16, 8, 32
SAMPLE = 128  # positions that are timed where every position costs the same
STEPS = 225
SIDES = (112, 224, 448)
BEGIN, END = "<!-- exact: begin -->", "<!-- exact: end -->"


@dataclass(frozen=True)
class Row:
    """A ratio: seconds per unit of ``over`` by seconds per unit of ``under``."""

    work: str
    over: str
    under: str
    goals: Mapping[str, float]
    least: bool = True


OCCLUSION = {"vgg16": 13, "resnet18": 4.5, "resnet50": 4.8, "alexnet": 4, "googlenet": 4}
OWN = {"vgg16": 7, "resnet18": 2.5, "resnet50": 2.5, "alexnet": 3, "googlenet": 3}
ROWS = (
    Row("occlusion: Captum / attrib", "captum", "local", OCCLUSION),
    Row("occlusion: whole passes / attrib", "dense", "local", OWN),
    Row("occlusion: the model itself / attrib", "model", "local", {}),
    Row("whole passes: bare forwards / attrib", "bare", "dense", dict.fromkeys(OCCLUSION, 0.95)),
    Row(f"deletion, {STEPS} points: attrib / bare forwards", "deletion", "bare", dict.fromkeys(OCCLUSION, 1.05), False),
)


@dataclass(frozen=True)
class Whole:
    """Masks that do not say where they are, so that whole passes run."""

    windows: Some

    def __len__(self) -> int:
        return len(self.windows)

    def batch(self, start: int, stop: int, like: Tensor) -> Tensor:
        """Masks ``start`` to ``stop``."""
        return self.windows.batch(start, stop, like)


def windows(side: int, stride: int = STRIDE) -> Windows:
    """Windows as Captum lays them."""
    return Windows((side, side), (WINDOW, WINDOW), (stride, stride), "cut")


def sample(masks: Windows) -> Some:
    """Some windows, spread over the picture."""
    return Some(masks, [i * len(masks) // SAMPLE for i in range(SAMPLE)])


def folded(model: nn.Module) -> nn.Module:
    """What one would run by hand: BatchNorm folded by torch.fx where it can be traced, channels-last weights."""
    from torch.fx.experimental.optimization import fuse

    try:
        return fuse(model).to(memory_format=torch.channels_last)
    except Exception:  # torch.fx raises whatever the model's Python does with proxies
        return model


def bare(model: nn.Module, x: Tensor, rows: int, count: int) -> None:
    """As many rows through the model, and nothing else."""
    batch = x.repeat(rows, 1, 1, 1).contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        for start in range(0, count, rows):
            model(batch[: min(rows, count - start)])


def swept(model: nn.Module, x: Tensor, target: int, masks: Any, **options: Any) -> Tensor:
    """Scores under masks."""
    with frozen(model):
        found = list(sweep(Query(model, (x,), as_objective(target), None, ()), masks, **options))
    return torch.cat([score for _, score in found])[torch.cat([at for at, _ in found]).argsort()]


def _captum(task: c.Task, stride: int) -> Tensor:
    from captum.attr import Occlusion

    shape, step = (3, WINDOW, WINDOW), (3, stride, stride)
    found: Tensor = Occlusion(task.model).attribute(
        task.x, shape, step, target=task.target, perturbations_per_eval=CAPTUM_ROWS
    )
    return found


def calls(task: c.Task) -> dict[str, tuple[c.Call, int]]:
    """Everything that is timed on one network, and how many positions or points it covers."""
    model, x, target, side = task.model, task.x, task.target, task.x.shape[-1]
    all_: Windows | Some = windows(side)
    few, touching = sample(windows(side)), windows(side, WINDOW)
    plan = explain_plan(model, x, masks=all_)
    if plan.reason or plan.share > 0.9:  # nothing is local: every position costs the same, in attrib too
        all_ = few
    by_hand, ranks = folded(model), torch.rand(1, 1, side, side, generator=torch.Generator().manual_seed(0))
    rows = best_rows(by_hand, x)
    protocol = {"steps": STEPS, "baseline": 0.0, "order": "morf"}
    return {
        "local": (partial(swept, model, x, target, all_), len(all_)),
        "dense": (partial(swept, model, x, target, Whole(few)), len(few)),
        "model": (partial(swept, model, x, target, few, exact_dense=True), len(few)),
        "captum": (partial(_captum, task, WINDOW), len(touching)),
        "bare": (partial(bare, by_hand, x, rows, len(few)), len(few)),
        "deletion": (partial(curves, model, x, target, ranks, protocol, which=["deletion"]), STEPS),
    }


def best_rows(model: nn.Module, x: Tensor) -> int:
    """The batch at which bare forwards are fastest, so that nothing is compared with a poor one."""
    sizes = [auto_rows(x) * factor for factor in (1, 2, 4, 8)] if not x.is_cuda else [128, 256]
    found = {}
    for rows in sizes:
        bare(model, x, rows, rows)
        found[rows] = min(measure.seconds(partial(bare, model, x, rows, rows), str(x.device)) for _ in range(2)) / rows
    return min(found, key=lambda rows: found[rows])


def measured(task: c.Task, repeats: int, limit: float) -> list[dict[str, Any]]:
    """One result for each of `ROWS`: median and quartiles of ratios of calls that ran side by side."""
    made = calls(task)
    for call, _ in made.values():
        c.quietly(call)  # warm
    device = str(task.x.device)
    times = measure.interleaved({name: call for name, (call, _) in made.items()}, device, repeats, limit)
    each = {name: [t / made[name][1] for t in taken] for name, taken in times.items()}
    found = []
    for row in ROWS:
        ratios = [a / b for a, b in zip(each[row.over], each[row.under], strict=True)]
        goal = row.goals.get(task.net)
        found.append({"net": task.net, "work": row.work, "goal": goal, "least": row.least} | measure.spread(ratios))
    seconds = {
        name: measure.spread([t * len(windows(task.x.shape[-1])) for t in taken]) for name, taken in each.items()
    }
    apart = difference(task)
    return [{"net": task.net, "seconds": seconds, "difference": apart}, *found]


def difference(task: c.Task) -> float:
    """Largest difference of the scores from the model's own, relative to its largest output."""
    few = sample(windows(task.x.shape[-1]))
    ours = swept(task.model, task.x, task.target, few)
    theirs = swept(task.model, task.x, task.target, few, exact_dense=True, channels_last=False)
    with torch.no_grad():
        largest = float(task.model.eval()(task.x).abs().max())
    return float((ours - theirs).abs().max()) / largest


def peak(net: str, size: int, device: str, threads: int, who: str) -> int | None:
    """Peak memory of occlusion beyond model and input; run in a process of its own."""
    torch.set_num_threads(threads)
    task = c.task(net, size, device, 0)
    call = {"attrib": partial(_ours, task), "captum": partial(_captum, task, WINDOW)}[who]
    return measure.peak_of(task, call)


def _ours(task: c.Task) -> Tensor:
    method = METHODS["occlusion"](task.model, window=WINDOW, stride=STRIDE, edge="cut")
    found: Tensor = method.attribute(task.x, task.target)
    return found


def scaling(net: str, device: str, repeats: int) -> list[dict[str, Any]]:
    """Seconds of a whole map for pictures of several sizes, and of several strides."""
    found = []
    for side, stride in [*((side, STRIDE) for side in SIDES), (224, 4), (224, 16)]:
        task = c.task(net, side, device, 0)
        grid, touching = windows(side, stride), windows(side, WINDOW)
        few = sample(windows(side))
        made: dict[str, Callable[[], Any]] = {
            "attrib": partial(swept, task.model, task.x, 0, grid),
            "whole passes": partial(swept, task.model, task.x, 0, Whole(few)),
            "captum": partial(_captum, task, WINDOW),
        }
        for call in made.values():
            c.quietly(call)
        times = measure.interleaved(made, device, repeats, 120.0, least=2)
        share = {"attrib": 1.0, "whole passes": len(grid) / len(few), "captum": len(grid) / len(touching)}
        seconds = {name: share[name] * measure.spread(taken)["median"] for name, taken in times.items()}
        found.append({"net": net, "side": side, "stride": stride, "positions": len(grid), "seconds": seconds})
    return found


def table(results: Mapping[str, Any]) -> str:
    """One line per work, one column per network; what misses its goal is bold."""
    nets = list(dict.fromkeys(row["net"] for row in results["rows"]))
    cells = {(row["work"], row["net"]): row for row in results["rows"] if "work" in row}
    lines = [{"ratio": row.work} | {net: _cell(cells[row.work, net]) for net in nets} for row in ROWS]
    memory = results["memory"]
    lines.append({"ratio": "peak memory, MB: attrib / Captum"} | {net: _memory(memory.get(net, {})) for net in nets})
    apart = {row["net"]: row["difference"] for row in results["rows"] if "difference" in row}
    lines.append({"ratio": "largest difference / largest output"} | {net: f"{apart[net]:.1e}" for net in nets})
    said = (
        f"{where(results)}, windows of {WINDOW} in steps of {STRIDE}. Medians; goals in brackets, those missed in bold."
    )
    return f"{said}\n\n{text_table(lines, markdown=True)}"


def _cell(row: Mapping[str, Any]) -> str:
    if row["goal"] is None:
        return amount(row["median"])
    met = row["median"] >= row["goal"] if row["least"] else row["median"] <= row["goal"]
    text = f"{amount(row['median'])} ({'≥' if row['least'] else '≤'} {row['goal']:g})"
    return text if met else f"**{text}**"


def _memory(found: Mapping[str, int | None]) -> str:
    return " / ".join("?" if found.get(who) is None else f"{found[who] / 1e6:.0f}" for who in ("attrib", "captum"))  # type: ignore[operator]


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(prog="exact", description=__doc__)
    made.add_argument("--nets", nargs="+", choices=list(c.NETS), default=list(NETS), metavar="NET")
    made.add_argument("--size", type=int, default=224)
    made.add_argument("--device", default="cpu")
    made.add_argument("--threads", type=int, default=torch.get_num_threads())
    made.add_argument("--repeats", type=int, default=5)
    made.add_argument("--seconds", type=float, default=150.0, help="per network; at least 3 repeats")
    made.add_argument("--scaling", nargs="*", default=["resnet18"], choices=list(c.NETS), metavar="NET")
    made.add_argument("--no-memory", action="store_true")
    made.add_argument("--out", type=Path, default=HERE / "results" / "exact.json")
    made.add_argument("--table", type=Path, nargs="?", const=HERE / "README.md", help="also update this page's table")
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print the table, write the numbers."""
    args = parser().parse_args(argv)
    before = torch.get_num_threads()
    torch.set_num_threads(args.threads)
    results: dict[str, Any] = {"rows": [], "memory": {}, "scaling": []}
    try:
        for net in args.nets:
            results["rows"] += measured(c.task(net, args.size, args.device), args.repeats, args.seconds)
            if not args.no_memory:
                ask = partial(measure.apart, peak, net, args.size, args.device, args.threads)
                results["memory"][net] = {who: ask(who) for who in ("attrib", "captum")}
            print(json.dumps(results["rows"][-len(ROWS) :]), file=sys.stderr)
        for net in args.scaling:
            results["scaling"] += scaling(net, args.device, 2)
    finally:
        torch.set_num_threads(before)
    settings = {name: getattr(args, name) for name in ("size", "device", "threads", "repeats")}
    results |= {"metadata": speed.metadata(args.device), "settings": settings}
    speed.write(args.out, results)
    if args.table:
        replace_between(args.table, BEGIN, END, table(results))
    print(table(results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
