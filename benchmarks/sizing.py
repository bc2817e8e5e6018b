"""How long a study of all of ImageNet's validation pictures takes, from what a few pictures take here.

``python -m benchmarks.sizing --table``

Every method is run and both curves are measured in a few steps. What a study writes down about costs tells the
seconds of maps, which do not depend on the steps, from the others, which grow in proportion to them.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import torch

from attrib.io import LoadedModel, demo_images, load_model
from attrib.report.table import amount, text_table
from attrib.study import Study
from benchmarks import contenders, measure, speed
from benchmarks.table import replace_between

BEGIN, END = "<!-- sizing: begin -->", "<!-- sizing: end -->"
PAGE = speed.HERE.parent / "docs" / "how-to" / "scale-a-benchmark.md"
RESULTS = speed.HERE / "results" / "sizing.json"
METHODS = ("saliency", "input_x_gradient", "guided", "deconvnet", "gradcam", "guided_gradcam", "occlusion")
METHODS += ("integrated_gradients",)
METRICS = ("deletion", "insertion")
OPTIONS = {"occlusion": {"window": 32, "stride": 16}}
STEPS, IMAGES = 224, 50_000  # of the job that is sized
BATCH = 32
DAY = 86_400


def forwards(net: LoadedModel, device: str, repeats: int, limit: float) -> float:
    """Bare forward passes per second, in batches and in the memory layout of a study."""
    (photo, *_) = demo_images().values()
    x = net.preprocess(photo)[None].expand(BATCH, -1, -1, -1)
    x = x.to(device).contiguous(memory_format=torch.channels_last)
    model = net.model.to(device)

    def call() -> None:
        with torch.inference_mode():
            model(x)

    contenders.quietly(call)
    return BATCH / median(measure.interleaved({"bare": call}, device, repeats, limit)["bare"])


def spent(study: Study, device: str) -> list[dict[str, float]]:
    """For every picture of a study that is run: forward passes, and seconds in maps and in everything else."""
    with tempfile.TemporaryDirectory() as home:
        found = study.run(Path(home) / "out", show_progress=False, device=device)
        if len(found.failures):
            raise SystemExit(f"a study that is timed must not fail; got {found.failures.to_pylist()[0]}.")
        rows = found.costs.to_pylist()
    told = []
    for whole in (row for row in rows if row["kind"] == "image"):
        maps = [row for row in rows if row["image"] == whole["image"] and row["kind"] == "method"]
        # a pass that several methods read was run once
        seconds = sum(row["seconds"] - row["shared_seconds"] for row in maps) + max(
            row["shared_seconds"] for row in maps
        )
        told.append({"forwards": whole["forwards"], "maps": seconds, "curves": whole["seconds"] - seconds})
    return told


def at(steps: int, few: int, pictures: Sequence[Mapping[str, float]]) -> tuple[float, int]:
    """Seconds and forward passes of a picture, the medians, from a run with few steps."""
    seconds = [one["maps"] + one["curves"] * (steps - 1) / (few - 1) for one in pictures]
    passes = [one["forwards"] + len(METHODS) * len(METRICS) * (steps - few) for one in pictures]
    return median(seconds), round(median(passes))


def measured(args: argparse.Namespace, threads: int) -> dict[str, Any]:
    """Rates at one number of threads, and what they say about one picture of the job."""
    torch.set_num_threads(threads)
    net = load_model(args.model)
    photos = dict(list(demo_images().items())[: args.images])
    bare = forwards(net, args.device, args.repeats, args.seconds)
    how = {"protocol": {"steps": args.steps}, "controls": False, "method_options": OPTIONS}
    pictures = spent(Study(net, photos, METHODS, METRICS, **how), args.device)
    seconds, passes = at(STEPS, args.steps, pictures)
    told = {"device": args.device, "threads": threads, "bare_forwards_per_second": bare}
    return told | {"seconds_per_image": seconds, "forwards_per_image": passes, "pictures": pictures}


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """One line per number of threads: rates, and days for the whole job."""
    lines = [
        {
            "one process on": _where(row),
            "bare forwards/s": amount(row["bare_forwards_per_second"]),
            "forwards per image": str(row["forwards_per_image"]),
            "study, forwards/s": amount(row["forwards_per_image"] / row["seconds_per_image"]),
            "seconds per image": amount(row["seconds_per_image"]),
            "days, 1 process": f"{days(row, 1):.1f}",
            "8 processes": f"{days(row, 8):.1f}",
            "64 processes": f"{days(row, 64):.1f}",
        }
        for row in rows
    ]
    return text_table(lines, markdown=True)


def days(row: Mapping[str, Any], processes: int) -> float:
    """For the whole job, if processes do not slow each other down."""
    return float(IMAGES * row["seconds_per_image"] / processes / DAY)


def about(results: Mapping[str, Any]) -> str:
    """When, where and what was measured, and what was not."""
    told, how = results["metadata"], results["settings"]
    gpu = "" if any(row["device"] != "cpu" for row in results["rows"]) else " No GPU was at hand."
    return (
        f"Measured {told['date']} on {told['machine']['device']} ({told['machine']['cores']} cores), torch "
        f"{told['versions']['torch']}: {how['model']}, {how['images']} photos, {len(METHODS)} methods "
        f"({', '.join(METHODS)}), {len(METRICS)} curves, without control rows, in {how['steps']} steps; the rest is "
        f"extrapolated to {STEPS} steps and {IMAGES:,} pictures.{gpu}"
    )


def _where(row: Mapping[str, Any]) -> str:
    cores = f"{row['threads']} core{'s' if row['threads'] > 1 else ''}"
    return cores if row["device"] == "cpu" else f"{row['device']}, {cores}"


def parser() -> argparse.ArgumentParser:
    """The arguments."""
    made = argparse.ArgumentParser(prog="sizing", description=__doc__)
    made.add_argument("--model", default="efficientnet_lite0")
    made.add_argument("--images", type=int, default=4)
    made.add_argument("--steps", type=int, default=28)
    made.add_argument("--device", default="cpu")
    made.add_argument("--threads", type=int, nargs="+", default=[1])
    made.add_argument("--repeats", type=int, default=9)
    made.add_argument("--seconds", type=float, default=3.0)
    made.add_argument("--out", type=Path, default=RESULTS)
    made.add_argument("--table", type=Path, nargs="?", const=PAGE, help="also update this page's table")
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print the table and write the numbers."""
    args = parser().parse_args(argv)
    before = torch.get_num_threads()
    try:
        rows = [measured(args, threads) for threads in args.threads]
    finally:
        torch.set_num_threads(before)
    settings = {name: getattr(args, name) for name in ("model", "images", "steps", "repeats")}
    results = {"metadata": speed.metadata(args.device), "settings": settings, "rows": rows}
    speed.write(args.out, results)
    print(table(rows))
    if args.table:
        replace_between(args.table, BEGIN, END, f"{about(results)}\n\n{table(rows)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
