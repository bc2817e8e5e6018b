"""Every method on every family of torchvision's classification networks, and on trained ones: a map, or why not.

``python -m benchmarks.matrix --table``, which takes minutes; ``--contract`` also tries what every map promises, which
takes hours. Trained networks need the folder that the tests use (environment variable ``ATTRIB_TEST_DATA``).
"""

from __future__ import annotations

import argparse
import copy
import json
import re
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from inspect import signature
from pathlib import Path
from textwrap import shorten
from typing import Any
from unittest.mock import patch

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attrib import METHODS
from attrib.core import Attribution
from attrib.core.masking.superpixels import superpixels
from attrib.errors import AttribError
from attrib.report.table import text_table
from attrib.testing import check_attribution
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
# The least that leaves them more than one place in the end.
SIZES = {"inception_v3": (128, 112), "maxvit_t": (224, 224), "alexnet": (80, 64)}
REGIONS = {"feature_mask": partial(superpixels, n=8)}
# Whether there is a map does not depend on how long a method looks.
QUICK: dict[str, dict[str, Any]] = {
    "ablationcam": {"channels": 8},
    "extremal_perturbation": {"steps": 2, "places": 1},
    "feature_ablation": REGIONS,
    "gradient_shap": {"n_samples": 2},
    "integrated_gradients": {"n_steps": 2},
    "kernel_shap": {"n_samples": 20, **REGIONS},
    "lime": {"n_samples": 20, **REGIONS},
    "meaningful_perturbation": {"steps": 2},
    "occlusion": {"window": 16, "stride": 16, "baseline": 1.0},
    "rise": {"n": 8},
    "scorecam": {"channels": 8},
    "shapley_sampling": {"n_samples": 1, **REGIONS},
    **{name: {"n_samples": 2} for name in ("smoothgrad", "smoothgrad_squared", "vargrad")},
}


def image(name: str, count: int = 1) -> Tensor:
    """Random inputs, as small as the network takes them: patches of colour under noise, which alone looks all alike."""
    size = SIZES.get(name, (64, 64) if name.startswith("vit") else (64, 96))
    source = torch.Generator().manual_seed(0)
    patches = F.interpolate(torch.randn(count, 3, 3, 3, generator=source), size, mode="bilinear")
    return patches + 0.5 * torch.randn(count, 3, *size, generator=source)


def build(name: str) -> nn.Module:
    """The network with random weights, all of which do something, and statistics of normalisation that fit them."""
    from torchvision import models

    options: dict[str, Any] = {"image_size": 64} if name.startswith("vit") else {}
    if name in ("googlenet", "inception_v3"):
        options["init_weights"] = False
    # what a truncated normal distribution draws from a seed differs between versions of torch
    with torch.random.fork_rng(), patch.object(nn.init, "trunc_normal_", nn.init.normal_):
        torch.manual_seed(0)
        model: nn.Module = models.get_model(name, weights=None, num_classes=7, **options)
        with torch.no_grad():
            for weights in model.parameters():  # biases, heads of ViT and scales of ConvNeXt start at zero or near it
                if weights.abs().max() < 1e-3:
                    weights.normal_(std=0.1)
        _calibrate(model.eval(), image(name, 4))
    return model


def _calibrate(model: nn.Module, x: Tensor) -> None:
    """Let each BatchNorm bring its channels to unit variance; what it starts with lets hardly a signal through."""
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    before = [norm.momentum for norm in norms]
    for norm in norms:
        norm.train().momentum = 1.0
    with torch.no_grad():
        model(x)
    for norm, momentum in zip(norms, before, strict=True):
        norm.eval().momentum = momentum


def signal(model: nn.Module, x: Tensor) -> float:
    """How much scores differ between two inputs, as a share of how much they differ between classes."""
    with torch.no_grad():
        scores = model(x)
    return float(scores.std(0).mean() / scores.std(1).mean())


def trained(name: str, count: int = 2) -> tuple[nn.Module, Tensor, Tensor]:
    """A trained network of the tests, its first pictures and their labels; large pictures are halved."""
    from tests import realnets

    net = realnets.load(name)
    x, labels = net.batch(count)
    small = [side if side < 100 else side // 2 for side in x.shape[2:]]
    return net.model, F.interpolate(x, small, mode="bilinear", antialias=True), labels


def make(method: str, model: nn.Module, **options: Any) -> Attribution:
    """The method with settings that are quick."""
    made: Attribution = METHODS[method](model, **QUICK.get(method, {}), **options)
    return made


def outcome(method: str, model: nn.Module, x: Tensor) -> str:
    """``"map"``, ``"zero map"``, or why there is none in the method's words; what is no `AttribError` is a fault."""
    try:
        maps = _maps(make(method, model), x)
    except AttribError as exc:
        return f"{type(exc).__name__}: {exc}"
    if maps.shape[:2] != (len(x), 1) or not torch.isfinite(maps).all():
        raise AssertionError(f"{method} must give finite maps (N, 1, h, w); got {tuple(maps.shape)}.")
    if maps.any():
        return "map"
    rectified = "relu" in signature(METHODS[method]).parameters
    if not rectified or not _maps(make(method, model, relu=False), x).any():
        raise AssertionError(f"{method} gives zeros, and no ReLU has left them.")
    return "zero map"


def _maps(method: Attribution, x: Tensor) -> Tensor:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "overrode .* left", UserWarning)  # smooth activations keep their gradient
        maps: Tensor = method.attribute(x, "predicted")
    return maps


def broken(method: str, model: nn.Module, x: Tensor) -> list[str]:
    """Each promise of `Attribution` that the method breaks on this network, in float64: rounding is no breach."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "overrode .* left", UserWarning)
        checks = check_attribution(partial(make, method), model=copy.deepcopy(model).double(), inputs=x.double())
        return [f"{check.name}: {check.message}" for check in checks if not check.ok]


def row(name: str, model: nn.Module, x: Tensor, methods: Sequence[str], contract: bool) -> dict[str, Any]:
    """What every method gave and, where ``contract`` says so, which promises those with a map broke."""
    if signal(model, x) < 0.01:
        raise AssertionError(f"the scores of {name} hardly depend on its input.")
    found = {method: outcome(method, model, x) for method in methods}
    tried = [method for method, said in found.items() if contract and said == "map"]
    print(
        name,
        *(f"{method}: {said[:60]}" for method, said in found.items() if said != "map"),
        sep="\n  ",
        file=sys.stderr,
    )
    return {"net": name, "outcomes": found, "broken": {method: broken(method, model, x) for method in tried}}


def measured(names: Sequence[str], methods: Sequence[str], contract: bool) -> Iterator[dict[str, Any]]:
    """One row per network; after a dot, those of trained ones."""
    for name in names:
        if name.startswith("trained."):
            model, x, _ = trained(name.partition(".")[2])
        else:
            model, x = build(name), image(name, 2)
        yield row(name, model, x, methods, contract)


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """One line per method, one column per network; refusals are numbered and explained below."""
    reasons: dict[str, int] = {}
    parts = [[r for r in rows if r["net"].startswith("trained.") == real] for real in (False, True)]
    tables = [_table(part, reasons) for part in parts if part]
    notes = "\n".join(f"{number}. {words}" for words, number in reasons.items())
    return "\n\n".join([*tables, notes])


def _table(rows: Sequence[Mapping[str, Any]], reasons: dict[str, int]) -> str:
    lines = []
    for method in rows[0]["outcomes"]:
        cells = {r["net"].removeprefix("trained."): _cell(r, method, reasons) for r in rows}
        lines.append({"method": f"`{method}`"} | cells)
    return text_table(lines, markdown=True)


def _cell(row: Mapping[str, Any], method: str, reasons: dict[str, int]) -> str:
    words = row["outcomes"][method]
    if words == "zero map":
        return "zero"
    if words != "map":
        return str(reasons.setdefault(_kind(words), len(reasons) + 1))
    faults = row["broken"].get(method)
    if not faults:
        return "map" if faults is None else "map ✓"
    return "map, but " + ", ".join(str(reasons.setdefault(_promise(fault), len(reasons) + 1)) for fault in faults)


def _promise(fault: str) -> str:
    return f"The promise {fault.partition(':')[0]!r} is broken."


def _kind(words: str) -> str:
    """The kind of a refusal: its first sentence, without the names and numbers of the one network."""
    first = re.split(r"(?<=[a-z)]\.) |: behind it run", words)[0].partition(": ")[2]
    named = re.sub(
        r"'[^']*'|\([^)]*\d[^)]*\)|\b[A-Z]\w+ computes", lambda m: "it computes" if "computes" in m[0] else "...", first
    )
    return shorten(re.sub(r"(?<![\w.])-?\d+(\.\d+)?(e[-+]?\d+)?", "...", named), 200, placeholder=" ...")


def main(argv: Sequence[str] | None = None) -> int:
    """Try everything, write what came out, and update the table if asked to."""
    args = _parser().parse_args(argv)
    rows: dict[str, Any] = {}
    if args.keep:
        rows = {row["net"]: row for row in json.loads(args.out.read_text())["rows"]}
    for row in measured(args.nets or known(), args.methods, args.contract):
        before = rows.get(row["net"], {"outcomes": {}, "broken": {}})
        kept = {m: said for m, said in before["broken"].items() if row["outcomes"].get(m, "map") == "map"}
        for what, earlier in (("outcomes", before["outcomes"]), ("broken", kept)):
            row[what] = dict(sorted({**earlier, **row[what]}.items()))
        rows[row["net"]] = row
        results = {"metadata": speed.metadata("cpu"), "rows": list(rows.values())}
        speed.write(args.out, results)
    if args.table:
        replace_between(args.table, BEGIN, END, page(results))
    return 0


def known() -> list[str]:
    """The families, and the trained networks where their folder is."""
    from tests import data, realnets

    return [*FAMILIES, *(f"trained.{name}" for name in realnets.NAMES if data.DATA)]


def _parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog="matrix", description=__doc__)
    made.add_argument("--nets", nargs="+", metavar="NET", help="families of torchvision, or trained.NAME; default all")
    made.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS), metavar="METHOD")
    made.add_argument("--contract", action="store_true", help="also try every promise of every map")
    made.add_argument("--out", type=Path, default=RESULTS)
    made.add_argument("--keep", action="store_true", help="keep what --out says of other networks and methods")
    made.add_argument("--table", type=Path, nargs="?", const=PAGE, help="also update this page's table")
    return made


def page(results: Mapping[str, Any]) -> str:
    """What the docs show."""
    versions = results["metadata"]["versions"]
    about = f"Tried {results['metadata']['date']} with torch {versions['torch']}, torchvision {versions['torchvision']}"
    faults = [found for row in results["rows"] for found in row["broken"].values()]
    maps = sum(words == "map" for row in results["rows"] for words in row["outcomes"].values())
    kept = f"The promises were tried for {len(faults)} of {maps} maps; {faults.count([])} keep them all."
    return f"{about} and captum {versions['captum']}. {kept}\n\n{table(results['rows'])}"


if __name__ == "__main__":
    sys.exit(main())
