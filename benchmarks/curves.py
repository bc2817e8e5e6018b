"""Deletion and insertion on the same maps: attrib against RISE's own loop, torch-cam and Quantus.

``python benchmarks/speed.py curves --threads 1 --table``

Trained networks and photos are those that the tests use (environment variable ``ATTRIB_TEST_DATA``); without them
random weights and the demo photos do. A peer that is not installed is left out, and the table says so.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from attrib.core import count
from benchmarks import contenders as c
from benchmarks import exact, measure, speed
from benchmarks.curve_contenders import NEEDS, NETS, SETTINGS, Asked, Call, Setting, asked, first, makers
from benchmarks.curves_table import BEGIN, END, page
from benchmarks.table import replace_between

RESULTS = speed.HERE / "results" / "curves.json"
BARE_ROWS = 64  # of bare forwards that are timed; a row costs them all the same


def rows_of(model: nn.Module, call: Call) -> tuple[Tensor, int]:
    """The areas, and how many rows went through the model: ours are counted by attrib, which replays the model."""
    seen = 0

    def add(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        nonlocal seen
        seen += len(inputs[0])

    hook = model.register_forward_pre_hook(add)
    try:
        with count() as cost:
            found = c.quietly(call)
    finally:
        hook.remove()
    return found, cost.forwards or seen


def measured(asked: Asked, setting: Setting, repeats: int, limit: float) -> list[dict[str, Any]]:
    """One row per contender: seconds, ratios to bare forwards of as many rows and to attrib, and agreement."""
    found: dict[str, dict[str, Any]] = {}
    calls: dict[str, Call] = {}
    areas: dict[str, Tensor] = {}
    for name, make in makers(setting).items():
        if name in NEEDS and find_spec(NEEDS[name]) is None:
            found[name] = {"skipped": f"{NEEDS[name]} is not installed"}
            continue
        try:
            call = c.quietly(partial(make, asked))
            areas[name], rows = rows_of(asked.model, call)  # which also warms up
        except Exception as exc:  # that a peer fails is a result too
            found[name] = {"error": f"{type(exc).__name__}: {exc}"[:300]}
            continue
        calls[name], found[name] = call, {"rows": rows}
    _add_times(asked, calls, found, repeats, limit)
    for name, theirs in areas.items():
        ours = areas[c.OURS] if theirs.ndim == 2 else areas[c.OURS].mean(1)
        found[name] |= {"difference": float((theirs - ours).abs().max()), "areas": theirs.tolist()}
    about = {"net": asked.net, "setting": setting.what, "images": len(asked.x)}
    return [about | {"contender": name} | one for name, one in found.items()]


def _add_times(
    asked: Asked, calls: Mapping[str, Call], found: dict[str, dict[str, Any]], repeats: int, limit: float
) -> None:
    by_hand, device = exact.folded(asked.model), str(asked.x.device)
    bare = partial(exact.bare, by_hand, asked.x[:1], exact.best_rows(by_hand, asked.x[:1]), BARE_ROWS)
    times = measure.interleaved({"bare": bare, **calls}, device, repeats, limit)
    for name in calls:
        each = zip(times[name], times["bare"], times[c.OURS], strict=True)
        ratios = [(t / found[name]["rows"] / (b / BARE_ROWS), t / ours) for t, b, ours in each]
        found[name] |= {"seconds": measure.spread(times[name])}
        found[name] |= {"bare": measure.spread([a for a, _ in ratios]), "ratio": measure.spread([b for _, b in ratios])}


def peak(how: Mapping[str, Any], key: str, name: str, threads: int) -> int | None:
    """Bytes that one call needs beyond what the process held; run in a process of its own."""
    torch.set_num_threads(threads)
    made, setting = asked(**how), SETTINGS[key]
    made = first(made) if setting.single else made
    return measure.peak_of(made, c.quietly(partial(makers(setting)[name], made)))


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Measure everything; progress goes to standard error."""
    rows, told = [], {}
    for net in args.nets:
        how = {"net": net, "images": args.images, "size": args.size, "device": args.device}
        made = asked(**how)
        told[net] = {"photos": made.photos, "weights": made.weights, "size": made.x.shape[-1]}
        for key, setting in SETTINGS.items():
            some = measured(first(made) if setting.single else made, setting, args.repeats, args.seconds)
            for row in some:
                if "seconds" in row and not args.no_memory:
                    row["peak_bytes"] = measure.apart(peak, how, key, row["contender"], args.threads)
                print({name: row[name] for name in row if name != "areas"}, file=sys.stderr)
            rows += some
    settings = {name: getattr(args, name) for name in ("repeats", "images", "threads", "device")} | {"nets": told}
    return {"metadata": speed.metadata(args.device, "torchcam", "quantus"), "settings": settings, "rows": rows}


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, write the results, and update the table if asked to."""
    made = argparse.ArgumentParser(prog="speed.py curves", description=__doc__)
    made.add_argument("--nets", nargs="+", choices=list(c.NETS), default=list(NETS), metavar="NET")
    made.add_argument("--images", type=int, default=4, help="photos in a batch (default: %(default)s)")
    made.add_argument("--size", type=int, default=224, help="side of the input, pixels (default: %(default)s)")
    made.add_argument("--repeats", type=int, default=5, help="timed calls per contender (default: %(default)s)")
    made.add_argument("--seconds", type=float, default=60.0, help="begin no further repeat after so long, but make 3")
    made.add_argument("--threads", type=int, default=torch.get_num_threads(), help="of torch (default: all cores)")
    made.add_argument("--device", default="cpu", help="such as cuda (default: %(default)s)")
    made.add_argument("--out", type=Path, default=RESULTS, help="JSON file (default: %(default)s)")
    made.add_argument("--table", type=Path, nargs="?", const=speed.HERE / "README.md", help="update this page's table")
    made.add_argument("--no-memory", action="store_true", help="do not measure memory")
    args = made.parse_args(argv)
    before = torch.get_num_threads()
    torch.set_num_threads(args.threads)
    try:
        results = run(args)
    finally:
        torch.set_num_threads(before)
    speed.write(args.out, results)
    print(page(results))
    if args.table:
        replace_between(args.table, BEGIN, END, page(results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
