"""What can be read off each layer of a small network: k-shot transfer, trained beside untrained, two data sets.

``python -m benchmarks.probes --threads 1 --table``

Needs the folder of real networks and images that the tests use (environment variable ``ATTRIB_TEST_DATA``).
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from attrib.analysis import LayerProbes, LeastSquares, Pooling, Shots, Softmax, probe_layers
from attrib.io import LoadedModel
from attrib.io.sources import seeded
from attrib.report.table import text_table
from benchmarks import speed
from benchmarks.table import replace_between

BEGIN, END = "<!-- probes: begin -->", "<!-- probes: end -->"
RESULTS = speed.HERE / "results" / "probes.json"
NET = "resnet20_cifar10"
# what goes in, the first activation before its ReLU, the first and the last block of each stage, the class scores
LAYERS = ("conv1@input", "bn1", *(f"layer{stage}.{block}" for stage in (1, 2, 3) for block in (0, 2)), "linear")
PROBES = (LeastSquares(), LeastSquares(ridge=1.0), Softmax())
DATA = {
    "cifar10": "CIFAR-10, 1000 images that the trained network was trained on: its upper layers remember them",
    "mnist": "MNIST, 1500 images of the test set, which neither network has seen",
}
NETS = ("trained", "untrained")


def network(state: str, seed: int) -> LoadedModel:
    """The trained network, or its twin with the random weights that PyTorch gives."""
    from tests import realnets

    loaded = realnets.load(NET).loaded
    if state == "trained":
        return loaded
    with seeded(seed):
        twin: nn.Module = realnets.RECIPES[NET].build().eval()
    return LoadedModel(twin, loaded.preprocess, loaded.categories, name=f"{NET}, untrained")


def pictures(name: str, net: LoadedModel, limit: int | None) -> tuple[torch.Tensor, torch.Tensor]:
    """Inputs and labels."""
    from tests import data

    images, labels = zip(
        *(data.cifar10(limit or 1000) if name == "cifar10" else data.mnist(limit or 1500)), strict=True
    )
    return net.inputs([image.convert("RGB") for image in images]), torch.tensor(labels)


def measured(name: str, state: str, split: Shots, *, limit: int | None, seed: int) -> list[dict[str, Any]]:
    """One row for each layer, probe and number of shots."""
    net, begin = network(state, seed), time.perf_counter()
    x, y = pictures(name, net, limit)
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, y), batch_size=100)
    found = probe_layers(net.model, loader, LAYERS, probes=PROBES, split=split, pooling=Pooling(side=2), seed=seed)
    print(f"{name}, {state}: {time.perf_counter() - begin:.0f} s", file=sys.stderr)
    return [{"data": name, "net": state} | row for row in _rows(found)]


def _rows(found: LayerProbes) -> list[dict[str, Any]]:
    return [
        {key: round(value, 4) if isinstance(value, float) else value for key, value in vars(one).items()}
        for one in found.scores()
    ]


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """For each data set and probe: a line for each layer, the trained network at every size, then the controls."""
    parts = []
    for name, about in DATA.items():
        of_data = [row for row in rows if row["data"] == name]
        parts += [f"**{about}.**"] if of_data else []
        for probe in dict.fromkeys(row["probe"] for row in of_data):
            mine = [row for row in of_data if row["probe"] == probe]
            lines = [_line(layer, mine) for layer in dict.fromkeys(row["layer"] for row in mine)]
            parts.append(f"{probe}:\n\n{text_table(lines, markdown=True)}")
    return "\n\n".join(parts)


def _line(layer: str, rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    of_layer = [row for row in rows if row["layer"] == layer]
    trained = [row for row in of_layer if row["net"] == "trained"]
    last = trained[-1]["size"]
    (twin,) = (row for row in of_layer if row["net"] == "untrained" and row["size"] == last)
    line = {"layer": layer, "features": str(trained[0]["features"])}
    line |= {row["size"]: _percent(row["mean"], row["sd"]) for row in trained}
    line[f"untrained, {last}"] = _percent(twin["mean"], twin["sd"])
    return line | {f"shuffled, {last}": _percent(trained[-1]["shuffled"], trained[-1]["shuffled_sd"])}


def _percent(mean: float, sd: float) -> str:
    return f"{100 * mean:.1f} ± {100 * sd:.1f}"


def page(results: Mapping[str, Any]) -> str:
    """What the page of results shows."""
    about, how = results["metadata"], results["settings"]
    return (
        f"Measured {about['date']} on {about['machine']['device']} ({how['threads']} thread"
        f"{'s' * (how['threads'] != 1)}, {how['seconds']:.0f} s in all), torch {about['versions']['torch']}, "
        f"scikit-learn {about['versions']['scikit-learn']}: ResNet-20. Accuracy in %, mean over ten classes (chance "
        f"10), mean ± sd of {how['repeats']} splits; features are means over 2 x 2 cells.\n\n{table(results['rows'])}"
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Probe, print the tables and write the numbers."""
    made = argparse.ArgumentParser(prog="probes", description=__doc__)
    made.add_argument("--data", nargs="+", default=list(DATA), choices=list(DATA), metavar="DATA")
    made.add_argument("--shots", nargs="+", type=int, default=[15, 30, 45, 60])
    made.add_argument("--test", type=int, default=25, help="examples of each class that are measured on")
    made.add_argument("--repeats", type=int, default=10)
    made.add_argument("--limit", type=int, help="images of each data set")
    made.add_argument("--seed", type=int, default=0)
    made.add_argument("--threads", type=int, default=torch.get_num_threads())
    made.add_argument("--out", type=Path, default=RESULTS)
    made.add_argument("--table", type=Path, nargs="?", const=speed.HERE / "README.md", help="update this page's table")
    args = made.parse_args(argv)
    split = Shots(tuple(args.shots), test=args.test, repeats=args.repeats)
    before, begin = torch.get_num_threads(), time.perf_counter()
    torch.set_num_threads(args.threads)
    try:
        rows = [
            row
            for name in args.data
            for state in NETS
            for row in measured(name, state, split, limit=args.limit, seed=args.seed)
        ]
    finally:
        torch.set_num_threads(before)
    settings = {name: getattr(args, name) for name in ("shots", "test", "repeats", "limit", "seed", "threads")}
    settings |= {"net": NET, "seconds": round(time.perf_counter() - begin, 1)}
    results = {"metadata": speed.metadata("cpu", "scikit-learn"), "settings": settings, "rows": rows}
    speed.write(args.out, results)
    print(table(rows))
    if args.table:
        replace_between(args.table, BEGIN, END, page(results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
