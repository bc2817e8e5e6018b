"""What made images are worth: other networks' opinion of them, features turned back, dreams, steps per second.

``python -m benchmarks.synthesis --threads 1 --table``

Needs the folder of real networks and photos that the tests use (environment variable ``ATTRIB_TEST_DATA``), and for the
comparison of speed the package torch-lucent; without it that contender is left out.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from attrib.core import frozen
from attrib.core.synth import Step
from attrib.io import LoadedModel, demo_images, demo_model
from attrib.synthesis import ascend, dream, invert
from attrib.synthesis.subject import Subject
from benchmarks import speed, synthesis_speed, synthesis_table
from benchmarks.table import replace_between

RESULTS = speed.HERE / "results" / "synthesis.json"
DEMO = "efficientnet_lite0"
NETS = ("mobilenet_v1_025_128", "squeezenet1_0", "resnet18", "mobilenet_v2", DEMO)
CLASSES = (130, 291, 323, 817, 933, 980)  # flamingo, lion, monarch, sports car, cheeseburger, volcano
RECIPES = ("natural", "simonyan", "yosinski_c")
MARKS = (0, 25, 50, 100, 200)  # steps at which an inversion is looked at
SERIES = {
    "resnet18": ("relu", "layer1", "layer2", "layer3", "layer4", "avgpool", "fc"),
    "mobilenet_v1_025_128": ("conv0", "conv4", "conv8", "conv12", "conv16", "conv20", "conv24", "classifier"),
}
DREAMS = {
    "resnet18": ("layer2", "layer3"),
    "mobilenet_v2": ("features.7", "features.13"),
    DEMO: ("_blocks.4", "_blocks.8"),
}
PHOTOS = ("astronaut", "coffee", "rocket")


def load(name: str) -> LoadedModel:
    """The demo network, or one of the tests'."""
    if name == DEMO:
        return demo_model()
    from tests import realnets

    return realnets.load(name).loaded


def judged(net: LoadedModel, picture: Tensor) -> Tensor:
    """Scores of pictures (N, 3, H, W) in [0, 1], resized to what the network takes."""
    subject, side = Subject.of(net, None), net.inputs([next(iter(demo_images().values()))]).shape[-1]
    seen = F.interpolate(picture, (side, side), mode="bilinear", antialias=True).clamp(0, 1)
    with frozen(net.model), torch.no_grad():
        found: Tensor = net.model(subject.space.to_input(seen))
    return found


def opinion(scores: Tensor, index: int) -> dict[str, float]:
    """Rank of a class, 1 is the first, and its probability."""
    rank = int((scores > scores[index]).sum()) + 1
    return {"rank": rank, "probability": round(float(scores.softmax(0)[index]), 4)}


def ascents(
    nets: Sequence[str], classes: Sequence[int], recipes: Sequence[str], steps: int
) -> Iterator[dict[str, Any]]:
    """A row for each network, recipe and class: what the network and the others say of the picture."""
    loaded = {name: load(name) for name in nets}
    for name, net in loaded.items():
        for recipe in recipes:
            found = ascend(net, list(classes), recipe=recipe, steps=steps)
            said = {other: judged(judge, found.pictures) for other, judge in loaded.items()}
            for i, index in enumerate(classes):
                others = {other: opinion(scores[i], index) for other, scores in said.items() if other != name}
                row = {"net": name, "recipe": recipe, "class": index, "input": round(float(found.chance[i]), 4)}
                yield row | {"picture": opinion(said[name][i], index), "others": others}
            print(name, recipe, file=sys.stderr)


def inversions(
    name: str, layers: Sequence[str], photos: Sequence[str], marks: Sequence[int]
) -> Iterator[dict[str, Any]]:
    """A row for each layer and photo: error and PSNR at some steps."""
    net = load(name)
    space = Subject.of(net, None).space
    for photo in photos:
        x = net.inputs([demo_images()[photo]])
        original = space.to_picture(x).clamp(0, 1)
        for depth, layer in enumerate(layers):
            seen: dict[int, tuple[float, float]] = {}

            def look(step: Step, original: Tensor = original, seen: dict[int, Any] = seen) -> None:
                off = (space.to_picture(step.image).clamp(0, 1) - original).square().mean()
                seen[step.number] = (-float(step.score), -10 * float(off.log10()))

            invert(net, x, layer, steps=max(marks) + 1, on_step=look)
            told = {"error": [round(seen[m][0], 6) for m in marks], "psnr": [round(seen[m][1], 3) for m in marks]}
            yield {"net": name, "layer": layer, "depth": depth, "photo": photo} | told
        print(name, photo, file=sys.stderr)


def dreams(name: str, layers: Sequence[str], photos: Sequence[str], octaves: int) -> Iterator[dict[str, Any]]:
    """A row for each photo and layer, and for a guide: the objective before and after each octave."""
    net = load(name)
    views = {photo: net.view(demo_images()[photo]) for photo in photos}
    for i, photo in enumerate(photos):
        other = photos[(i + 1) % len(photos)]
        for layer, guide in [(layer, None) for layer in layers] + [(layers[0], other)]:
            found = dream(net, views[photo], layer, guide=None if guide is None else views[guide], octaves=octaves)
            before, after = ([float(f"{float(s[at]):.5g}") for s in found.score] for at in (0, -1))
            yield {"net": name, "photo": photo, "layer": layer, "guide": guide, "before": before, "after": after}
    print(name, "dreams", file=sys.stderr)


def measured(args: argparse.Namespace) -> dict[str, Any]:
    """Everything."""
    photos, chosen = PHOTOS[: args.photos], list(args.nets)
    found: dict[str, Any] = {"ascent": list(ascents(chosen, CLASSES[: args.classes], RECIPES, args.steps))}
    marks = [mark for mark in MARKS if mark <= args.steps_back]
    series = {name: layers for name, layers in SERIES.items() if name in chosen}
    found["inversion"] = [r for name, ls in series.items() for r in inversions(name, ls, photos, marks)]
    dreamt = {name: layers for name, layers in DREAMS.items() if name in chosen}
    found["dream"] = [r for name, ls in dreamt.items() for r in dreams(name, ls, photos, args.octaves)]
    found["speed"] = synthesis_speed.rows(chosen, load, args.repeats)
    return found


def page(results: Mapping[str, Any]) -> str:
    """What the page of results shows."""
    return synthesis_table.page(results)


def main(argv: Sequence[str] | None = None) -> int:
    """Make the images, print the tables and write the numbers."""
    made = argparse.ArgumentParser(prog="synthesis", description=__doc__)
    made.add_argument("--nets", nargs="+", default=list(NETS), choices=list(NETS), metavar="NET")
    made.add_argument("--classes", type=int, default=len(CLASSES), help="how many of them")
    made.add_argument("--photos", type=int, default=2)
    made.add_argument("--steps", type=int, default=128, help="of ascent")
    made.add_argument("--steps-back", type=int, default=max(MARKS), help="of inversion")
    made.add_argument("--octaves", type=int, default=4)
    made.add_argument("--repeats", type=int, default=7, help="timed, of each contender")
    made.add_argument("--threads", type=int, default=torch.get_num_threads())
    made.add_argument("--out", type=Path, default=RESULTS)
    made.add_argument("--table", type=Path, nargs="?", const=speed.HERE / "README.md", help="update this page's table")
    args = made.parse_args(argv)
    before = torch.get_num_threads()
    torch.set_num_threads(args.threads)
    try:
        found = measured(args)
    finally:
        torch.set_num_threads(before)
    settings = {"steps": args.steps, "threads": args.threads, "marks": [m for m in MARKS if m <= args.steps_back]}
    results = {"metadata": speed.metadata("cpu", "torch-lucent", "kornia"), "settings": settings} | found
    speed.write(args.out, results)
    print(page(results))
    if args.table:
        replace_between(args.table, synthesis_table.BEGIN, synthesis_table.END, page(json.loads(json.dumps(results))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
