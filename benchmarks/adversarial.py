"""How little fools a network, and how far do maps move with it? Attacks and explanations on trained networks.

``python -m benchmarks.adversarial --threads 1 --table``

Needs the folder of real networks and photos that the tests use (environment variable ``ATTRIB_TEST_DATA``).
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from attrib import METHODS
from attrib.benchmark.stats import bootstrap_interval
from attrib.core import frozen
from attrib.io import LoadedModel, demo_images
from attrib.report.table import text_table
from attrib.synthesis import Adversarial, AttributionChange, attack
from benchmarks import speed
from benchmarks.table import replace_between

BEGIN, END = "<!-- adversarial: begin -->", "<!-- adversarial: end -->"
RESULTS = speed.HERE / "results" / "adversarial.json"
NETS = ("resnet18", "squeezenet1_0")
USUAL = ("saliency", "input_x_gradient", "guided", "gradcam", "guided_gradcam", "occlusion")
OPTIONS: dict[str, dict[str, Any]] = {"occlusion": {"window": 56, "stride": 28}}
# Radii in pixels: of the largest change in grey levels of 255, of the Euclidean norm as it is.
ATTACKS: dict[str, tuple[dict[str, Any], tuple[float, ...]]] = {
    "FGSM": ({"norm": "linf", "steps": 1}, tuple(level / 255 for level in (0.1, 0.25, 1))),
    "PGD": ({"norm": "linf", "steps": 5}, tuple(level / 255 for level in (0.1, 0.25, 1))),
    "PGD, L2": ({"norm": "l2", "steps": 5}, (0.1, 0.25)),
}
EXPLAINED = ("PGD", 1 / 255)  # the attack whose maps are compared


def pictures(net: LoadedModel, samples: Sequence[tuple[Any, int]]) -> tuple[Tensor, Tensor]:
    """Samples with their labels, and the demo photos with what the network says of them."""
    x = net.inputs([image for image, _ in samples] + list(demo_images().values()))
    with frozen(net.model), torch.no_grad():
        said = net.model(x[len(samples) :]).argmax(1)
    return x, torch.cat([torch.tensor([label for _, label in samples]), said])


def mean(values: Tensor) -> dict[str, float | int | None]:
    """Mean and 95 % bootstrap interval of what is defined."""
    found = bootstrap_interval(values.double())
    ends = {"mean": found.mean, "low": found.low, "high": found.high}
    return {name: None if end != end else round(end, 4) for name, end in ends.items()} | {  # noqa: PLR0124
        "n": found.count,
        "undefined": found.undefined,
    }


def struck(found: Adversarial) -> dict[str, Any]:
    """How many were fooled, how sure the network is then, and how many the same without aim fools."""
    todo = ~found.wrong
    wrong = found.after.amax(1)[found.success]
    with frozen(found.subject.model):
        control = found.subject.chances(found.shuffled()).argmax(1)
    return {
        "eps": float(found.eps.max()),
        "fooled": mean(found.success[todo]),
        "sure": mean(wrong) if len(wrong) else None,
        "control": mean((control != found.labels)[todo]),
    }


def moved(change: AttributionChange) -> list[dict[str, Any]]:
    """A row per method: measures of the attack and of its control, over the pictures that were fooled."""
    rows = []
    for method in change.attack:
        for kind, measured in (("attack", change.attack), ("control", change.control)):
            values = {name: mean(one[change.counted]) for name, one in measured[method].items()}
            rows.append({"method": method, "perturbation": kind, "measures": values})
    return rows


def measured(net: LoadedModel, samples: Sequence[tuple[Any, int]], methods: Sequence[str]) -> dict[str, Any]:
    """Everything about one network."""
    x, labels = pictures(net, samples)
    made = [partial(METHODS[name], **OPTIONS.get(name, {})) for name in methods]
    begun, attacks = time.monotonic(), []
    maps: list[dict[str, Any]] = []
    said: dict[str, int] = {}
    for name, (how, radii) in ATTACKS.items():
        for eps in radii:
            found = attack(net, x, eps=eps, labels=labels, **how)
            attacks.append({"attack": name, "norm": how["norm"], "steps": how["steps"]} | struck(found))
            said = {"pictures": len(x), "right before": int((~found.wrong).sum())}
            maps = moved(found.attribution_change(*made)) if (name, eps) == EXPLAINED else maps
            print(f"{net.name}: {name} {eps:.4f} after {time.monotonic() - begun:.0f} s", file=sys.stderr)
    return {"net": net.name} | said | {"attacks": attacks, "maps": maps, "seconds": round(time.monotonic() - begun, 1)}


def fooled(rows: Sequence[Mapping[str, Any]]) -> str:
    """One line per attack and radius, the networks side by side."""
    lines = []
    for i, first in enumerate(rows[0]["attacks"]):
        radius = f"{first['eps']:.2g}" if first["norm"] == "l2" else f"{255 * first['eps']:.3g}/255"
        line = {"attack": first["attack"], "eps": radius}
        for row in rows:
            one = row["attacks"][i]
            line[f"{row['net']}: fooled"] = _interval(one["fooled"])
            line[f"{row['net']}: sure"] = _interval(one["sure"])
            line[f"{row['net']}: shuffled"] = _interval(one["control"])
        lines.append(line)
    return text_table(lines, markdown=True)


def changes(rows: Sequence[Mapping[str, Any]]) -> str:
    """One line per network and method: attack and control."""
    lines = []
    for row in rows:
        pairs = zip(row["maps"][::2], row["maps"][1::2], strict=True)
        for attacked, control in pairs:
            line = {"network": row["net"], "method": attacked["method"]}
            for name in attacked["measures"]:
                line[name] = _interval(attacked["measures"][name])
                line[f"{name}, shuffled"] = _interval(control["measures"][name])
            lines.append(line)
    return text_table(lines, markdown=True)


def _interval(found: Mapping[str, Any] | None) -> str:
    if found is None or found["mean"] is None:
        return "-"
    lost = f" ({found['undefined']} undefined)" if found["undefined"] else ""
    ends = "" if found["low"] is None else f" [{found['low']:.2f}, {found['high']:.2f}]"
    return f"{found['mean']:.2f}{ends}{lost}"


def page(results: Mapping[str, Any]) -> str:
    """What the page of results shows."""
    about, rows = results["metadata"], results["rows"]
    right = ", ".join(f"{row['right before']} ({row['net']})" for row in rows)
    taken = " + ".join(f"{row['seconds']:.0f}" for row in rows)
    return (
        f"Measured {about['date']} on {about['machine']['device']}, {results['settings']['threads']} thread, torch "
        f"{about['versions']['torch']}, in {taken} seconds: {rows[0]['pictures']} photos, of which the networks get "
        f"{right} right; the others are left out. Means with 95 % bootstrap intervals. Fooled: share taken for another "
        "class. Sure: probability of the wrong class. Shuffled: the same perturbations with their pixels in random "
        f"order.\n\n{fooled(rows)}\n\nMaps before and after PGD within 1/255, of what the network says of each "
        f"picture; those that were fooled:\n\n{changes(rows)}"
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Attack, explain, print the tables and write the numbers."""
    made = argparse.ArgumentParser(prog="adversarial", description=__doc__)
    made.add_argument("--nets", nargs="+", default=list(NETS), metavar="NET")
    made.add_argument("--methods", nargs="+", default=list(USUAL), choices=list(METHODS), metavar="METHOD")
    made.add_argument("--n", type=int, default=20, help="sample images beside the demo photos")
    made.add_argument("--threads", type=int, default=1)
    made.add_argument("--out", type=Path, default=RESULTS)
    made.add_argument("--table", type=Path, nargs="?", const=speed.HERE / "README.md", help="update this page's table")
    args = made.parse_args(argv)
    from tests import data, realnets

    before = torch.get_num_threads()
    torch.set_num_threads(args.threads)
    try:
        samples = data.samples("imagenet")[: args.n]
        rows = [measured(realnets.load(name).loaded, samples, args.methods) for name in args.nets]
    finally:
        torch.set_num_threads(before)
    results = {
        "metadata": speed.metadata("cpu"),
        "settings": {"n": args.n, "threads": args.threads, "methods": args.methods, "options": OPTIONS},
        "rows": rows,
    }
    speed.write(args.out, results)
    print(page(results))
    if args.table:
        replace_between(args.table, BEGIN, END, page(results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
