"""Every method on every family of torchvision's classification networks: a map, or the reason why there is none.

``python -m benchmarks.matrix --table``
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import shorten
from typing import Any

import torch
from torch import Tensor, nn

from attrib import METHODS
from attrib.errors import AttribError
from attrib.report.table import text_table
from benchmarks import speed
from benchmarks.table import replace_between

BEGIN, END = "<!-- matrix: begin -->", "<!-- matrix: end -->"
RESULTS = speed.HERE / "results" / "matrix.json"
PAGE = speed.HERE.parent / "docs" / "reference" / "matrix.md"
# One of each family of torchvision.models.
FAMILIES = (
    "alexnet", "convnext_tiny", "densenet121", "efficientnet_b0", "efficientnet_v2_s", "googlenet", "inception_v3",
    "maxvit_t", "mnasnet0_5", "mobilenet_v2", "mobilenet_v3_small", "regnet_x_400mf", "resnet18", "resnext50_32x4d",
    "shufflenet_v2_x0_5", "squeezenet1_1", "swin_t", "swin_v2_t", "vgg11_bn", "vit_b_16", "wide_resnet50_2",
)  # fmt: skip
SIZES = {"inception_v3": (96, 80), "maxvit_t": (224, 224), "alexnet": (80, 64)}  # the least they take
# Whether there is a map does not depend on how long a method looks.
QUICK: dict[str, dict[str, Any]] = {
    "ablationcam": {"channels": 2},
    "extremal_perturbation": {"steps": 2},
    "gradient_shap": {"n_samples": 2},
    "integrated_gradients": {"n_steps": 2},
    "kernel_shap": {"n_samples": 20},
    "lime": {"n_samples": 20},
    "meaningful_perturbation": {"steps": 2},
    "occlusion": {"window": 32, "stride": 32, "baseline": 1.0},
    "rise": {"n": 8},
    "scorecam": {"channels": 2},
    "shapley_sampling": {"n_samples": 1},
    **{name: {"n_samples": 2} for name in ("smoothgrad", "smoothgrad_squared", "vargrad")},
}


def image(name: str) -> Tensor:
    """One input of random numbers, as small as the network takes it."""
    size = SIZES.get(name, (64, 64) if name.startswith("vit") else (64, 96))
    return torch.randn(1, 3, *size, generator=torch.Generator().manual_seed(0))


def build(name: str) -> nn.Module:
    """The network with random weights, all of which do something."""
    from torchvision import models

    options: dict[str, Any] = {"image_size": 64} if name.startswith("vit") else {}
    if name in ("googlenet", "inception_v3"):
        options["init_weights"] = False
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model: nn.Module = models.get_model(name, weights=None, num_classes=7, **options)
        for module in model.modules():  # untrained heads of ViT are zero, and then so is every gradient
            if isinstance(module, nn.Linear) and not module.weight.any():
                nn.init.normal_(module.weight, std=0.1)
    return model.eval()


def outcome(method: str, model: nn.Module, x: Tensor) -> str:
    """``"map"``, or the method's own words for why there is none; what is no `AttribError` is a fault, and raised."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "overrode .* left", UserWarning)  # smooth activations keep their gradient
        try:
            maps = METHODS[method](model, **QUICK.get(method, {})).attribute(x, "predicted")
        except AttribError as exc:
            return f"{type(exc).__name__}: {exc}"
    if maps.shape[:2] != (1, 1) or not torch.isfinite(maps).all():
        raise AssertionError(f"{method} must give finite maps (1, 1, h, w); got {tuple(maps.shape)}.")
    return "map"


def measured(names: Sequence[str], methods: Sequence[str]) -> list[dict[str, Any]]:
    """One row per network: what every method gave."""
    rows = []
    for name in names:
        model, x = build(name), image(name)
        rows.append({"net": name, "outcomes": {method: outcome(method, model, x) for method in methods}})
        print(name, *(m for m, said in rows[-1]["outcomes"].items() if said != "map"), file=sys.stderr)
    return rows


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """One line per method, one column per network; refusals are numbered and explained below."""
    reasons: dict[str, int] = {}
    lines = []
    for method in rows[0]["outcomes"]:
        said = {row["net"]: row["outcomes"][method] for row in rows}
        cells = {
            net: "map" if words == "map" else f"{reasons.setdefault(_kind(words), len(reasons) + 1)}"
            for net, words in said.items()
        }
        lines.append({"method": f"`{method}`"} | cells)
    notes = "\n".join(f"{number}. {words}" for words, number in reasons.items())
    return f"{text_table(lines, markdown=True)}\n\n{notes}"


def _kind(words: str) -> str:
    """The kind of a refusal: its first sentence, without the names and numbers of the one network."""
    first = re.split(r"(?<=[a-z)]\.) |: behind it run", words)[0].partition(": ")[2]
    named = re.sub(
        r"'[^']*'|\([^)]*\d[^)]*\)|\b[A-Z]\w+ computes", lambda m: "it computes" if "computes" in m[0] else "...", first
    )
    return shorten(re.sub(r"(?<![\w.])-?\d+(\.\d+)?(e[-+]?\d+)?", "...", named), 200, placeholder=" ...")


def main(argv: Sequence[str] | None = None) -> int:
    """Try everything, write what came out, and update the table if asked to."""
    made = argparse.ArgumentParser(prog="matrix", description=__doc__)
    made.add_argument("--nets", nargs="+", default=list(FAMILIES), choices=FAMILIES, metavar="NET")
    made.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS), metavar="METHOD")
    made.add_argument("--out", type=Path, default=RESULTS)
    made.add_argument("--keep", action="store_true", help="keep what --out says of other methods on these networks")
    made.add_argument("--table", type=Path, nargs="?", const=PAGE, help="also update this page's table")
    args = made.parse_args(argv)
    rows = measured(args.nets, args.methods)
    if args.keep:
        before = {row["net"]: row["outcomes"] for row in json.loads(args.out.read_text())["rows"]}
        for row in rows:
            row["outcomes"] = dict(sorted({**before[row["net"]], **row["outcomes"]}.items()))
    results = {"metadata": speed.metadata("cpu"), "rows": rows}
    speed.write(args.out, results)
    if args.table:
        replace_between(args.table, BEGIN, END, page(results))
    return 0


def page(results: Mapping[str, Any]) -> str:
    """What the docs show."""
    versions = results["metadata"]["versions"]
    about = f"Tried {results['metadata']['date']} with torch {versions['torch']}, torchvision {versions['torchvision']}"
    return f"{about} and captum {versions['captum']}.\n\n{table(results['rows'])}"


if __name__ == "__main__":
    sys.exit(main())
