"""Do maps lie where the object is? The 2 x 2 grid game and energy inside object masks, beside the control maps.

``python -m benchmarks.quality --threads 1 --table``

Needs the folder of real networks and photos that the tests use (environment variable ``ATTRIB_TEST_DATA``).
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from math import isnan
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from attrib import METHODS
from attrib.benchmark.grids import make_grids
from attrib.benchmark.stats import bootstrap_interval
from attrib.core import Attribution, count
from attrib.errors import AttribError
from attrib.io import LoadedModel
from attrib.registry import CONTROLS, METRICS
from attrib.report.table import amount, text_table
from benchmarks import speed
from benchmarks.table import replace_between

BEGIN, END = "<!-- quality: begin -->", "<!-- quality: end -->"
RESULTS = speed.HERE / "results" / "quality.json"
SIDE = 2  # photos along each side of a grid
# Settings at which every method takes seconds per image; they are written into the results.
OPTIONS: dict[str, dict[str, Any]] = {
    "extremal_perturbation": {"areas": 0.1, "steps": 30, "places": 3},
    "kernel_shap": {"n_samples": 100},
    "lime": {"n_samples": 100},
    "meaningful_perturbation": {"steps": 50},
    "rise": {"n": 300},
    "shapley_sampling": {"n_samples": 2},
}
NETS = ("squeezenet1_0", "resnet18", "mobilenet_v2", "tiny_darknet", "mobilenet_v1_025_128")
# Methods of many passes see the scenes of the first few grids only; the tables say how many maps each made.
FEW = 3
DEAR = (
    "ablationcam", "extremal_perturbation", "feature_ablation", "gradient_shap", "integrated_gradients",
    "kernel_shap", "lime", "meaningful_perturbation", "occlusion", "rise", "scorecam", "shapley_sampling",
    "smoothgrad", "smoothgrad_squared", "vargrad",
)  # fmt: skip


@dataclass(frozen=True)
class Scene:
    """A picture, one class in it, and where that is."""

    x: Tensor
    target: int
    inside: Tensor


def energy(maps: Tensor, inside: Tensor) -> float | None:
    """Share of the positive part of a map that lies inside; None where nothing is positive."""
    found = _read("energy", maps, inside)
    return None if isnan(found) else found


def _read(metric: str, maps: Tensor, inside: Tensor) -> float:
    """A metric of localisation, which asks no model; of the input it reads the size."""
    x = maps.new_zeros(1, 1, *inside.shape)
    return float(METRICS[metric]().score(None, x, None, maps, masks=inside[None]))


def grids(
    net: LoadedModel, photos: Sequence[tuple[Image.Image, int]], number: int, cell: int, seed: int
) -> list[Scene]:
    """Grids of four photos of different classes that the network knows by themselves; each of the four is asked."""
    tiles = [_input(net, net.view(image).resize((cell, cell), Image.Resampling.BICUBIC)) for image, _ in photos]
    known = [i for i, tile in enumerate(tiles) if _predicted(net, tile) == photos[i][1]]
    labels = [photos[i][1] for i in known]
    game = make_grids(torch.cat([tiles[i] for i in known]), labels, side=SIDE, number=number, seed=seed)
    return [Scene(game.x[i : i + 1], int(game.targets[i]), game.inside[i]) for i in range(len(game))]


def _input(net: LoadedModel, image: Image.Image) -> Tensor:
    """Normalised, neither resized nor cropped."""
    pixels = torch.from_numpy(np.asarray(image.convert("RGB")).copy()).permute(2, 0, 1).float() / 255
    mean, std = (torch.tensor(values)[:, None, None] for values in (net.mean or (0.0,), net.std or (1.0,)))
    return ((pixels - mean) / std)[None]


def _predicted(net: LoadedModel, x: Tensor) -> int:
    with torch.no_grad():
        return int(net.model(x).argmax())


def masked(net: LoadedModel, number: int) -> list[Scene]:
    """Photos with object masks, seen as the network sees them."""
    from tests import data

    scenes = []
    for photo in data.photos(number):
        x = net.inputs([photo.image])
        inside = net.mask(Image.fromarray(photo.mask))
        if inside.any() and _predicted(net, x) == photo.target:
            scenes.append(Scene(x, photo.target, inside))
    return scenes


def played(make: Callable[[], Attribution], scenes: Sequence[Scene]) -> dict[str, Any]:
    """Energy inside for every scene, and what it took."""
    begin = time.perf_counter()
    try:
        method = make()
        with count() as cost:
            maps = [method.attribute(scene.x, scene.target) for scene in scenes]
    except AttribError as exc:
        return {"refused": f"{type(exc).__name__}: {exc}"}
    took = time.perf_counter() - begin
    return {
        "energy": [energy(one, scene.inside) for one, scene in zip(maps, scenes, strict=True)],
        "auc": [_read("pixel_auc", one, scene.inside) for one, scene in zip(maps, scenes, strict=True)],
        "seconds": took / len(scenes),
        "forwards": cost.forwards / len(scenes),
        "backwards": cost.backwards / len(scenes),
    }


def measured(name: str, methods: Sequence[str], number: int, cell: int, seed: int) -> list[dict[str, Any]]:
    """One row per method and control, each on four scenes per grid, in and outside the game."""
    from tests import realnets

    real = realnets.load(name)
    net = real.loaded
    games = {"grid": grids(net, list(zip(real.images, real.labels, strict=True)), number, cell, seed)}
    games["mask"] = masked(net, 4 * number)
    made = {m: partial(METHODS[m], net.model, **OPTIONS.get(m, {})) for m in methods}
    made |= {f"control: {c}": partial(CONTROLS[c], net.model) for c in CONTROLS}
    rows: list[dict[str, Any]] = []
    for label, make in made.items():
        seen = 4 * (min(number, FEW) if label in DEAR else number)
        found = {game: played(make, scenes[:seen]) for game, scenes in games.items()}
        rows.append({"net": name, "method": label} | found)
        took = f"{rows[-1]['grid'].get('seconds', 0):.1f} s"
        print(name, label, *(_words(rows[-1][game]) for game in games), took, file=sys.stderr)
    area = [float(scene.inside.double().mean()) for scene in games["mask"]]
    chance = {"grid": {"energy": [0.25], "auc": [0.5]}, "mask": {"energy": area, "auc": [0.5]}}
    return [{"net": name, "method": "chance", **chance}, *rows]


def _words(game: Mapping[str, Any], what: str = "energy") -> str:
    values = [value for value in game.get(what, ()) if value is not None]
    if not values:
        return "refused" if "refused" in game else "undefined"
    if len(values) < 2:
        return amount(values[0])
    interval = bootstrap_interval(values)
    undefined = len(game[what]) - len(values)
    return f"{interval.mean:.2f} [{interval.low:.2f}, {interval.high:.2f}]" + (
        f" ({undefined} empty)" if undefined else ""
    )


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """One table per network: a line per method, the best in the grid first."""
    return "\n\n".join(f"{net}:\n\n{_table([row for row in rows if row['net'] == net])}" for net in _nets(rows))


def _nets(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys(row["net"] for row in rows))


def _table(rows: Sequence[Mapping[str, Any]]) -> str:
    lines = []
    for row in sorted(rows, key=_mean, reverse=True):
        grid, mask = row["grid"], row["mask"]
        maps = f"{len(grid['energy'])}, {len(mask['energy'])}" if "seconds" in grid else "-"
        line = {"method": row["method"], "maps": maps}
        line |= {"energy in cell": _words(grid), "AUC of cell": _words(grid, "auc")}
        line |= {"energy in mask": _words(mask), "AUC of mask": _words(mask, "auc")}
        passes = f"{grid['forwards']:.0f} + {grid['backwards']:.0f}" if "forwards" in grid else "-"
        lines.append(line | {"passes": passes})
    return text_table(lines, markdown=True)


def _mean(row: Mapping[str, Any]) -> float:
    values = [v for v in row["grid"].get("energy", ()) if v is not None]
    return float(np.mean(values)) if values else -1.0


def _joined(before: Mapping[str, Any], rows: list[dict[str, Any]], settings: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Earlier rows of other networks and methods, and the new ones."""
    same = [before["settings"][name] == settings[name] for name in ("grids", "cell", "seed", "options")]
    if not all(same):
        raise SystemExit("--keep needs the grids, cell, seed and options of the earlier results.")
    new = {(row["net"], row["method"]) for row in rows}
    return [row for row in before["rows"] if (row["net"], row["method"]) not in new] + rows


def page(results: Mapping[str, Any]) -> str:
    """What the page of results shows."""
    about, how = results["metadata"], results["settings"]
    return (
        f"Measured {about['date']} on {about['machine']['device']}, threads: {how['threads']}, torch "
        f"{about['versions']['torch']}: up to {how['grids']} grids of four photos of {how['cell']} pixels, each class "
        f"of each asked; photos with masks at the network's own size. Maps: how many were made in the game, and of "
        f"photos with masks. Means with 95 % bootstrap intervals; passes per grid map, forward + backward.\n\n"
        f"{table(results['rows'])}"
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Play, print the table and write the numbers."""
    made = argparse.ArgumentParser(prog="quality", description=__doc__)
    made.add_argument("--nets", nargs="+", default=list(NETS), metavar="NET")
    made.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS), metavar="METHOD")
    made.add_argument("--grids", type=int, default=12)
    made.add_argument("--cell", type=int, default=112)
    made.add_argument("--seed", type=int, default=0)
    made.add_argument("--threads", type=int, default=torch.get_num_threads())
    made.add_argument("--out", type=Path, default=RESULTS)
    made.add_argument("--keep", action="store_true", help="keep what --out says of other networks and methods")
    made.add_argument("--table", type=Path, nargs="?", const=speed.HERE / "README.md", help="update this page's table")
    args = made.parse_args(argv)
    before = torch.get_num_threads()
    torch.set_num_threads(args.threads)
    try:
        rows = [row for net in args.nets for row in measured(net, args.methods, args.grids, args.cell, args.seed)]
    finally:
        torch.set_num_threads(before)
    settings: dict[str, Any] = {name: getattr(args, name) for name in ("grids", "cell", "seed", "threads")}
    settings["options"] = {m: {k: repr(v) for k, v in o.items()} for m, o in OPTIONS.items()}
    if args.keep and args.out.exists():
        rows = _joined(json.loads(args.out.read_text()), rows, settings)
    results = {"metadata": speed.metadata("cpu"), "settings": settings, "rows": rows}
    speed.write(args.out, results)
    print(table(rows))
    if args.table:
        replace_between(args.table, BEGIN, END, page(results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
