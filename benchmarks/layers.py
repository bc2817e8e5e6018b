"""Where maps of several layers, of joined layers and of words fall: the tables of three how-to pages.

``python -m benchmarks.layers --threads 1 --table``

Needs the folder of real networks and photos that the tests use (environment variable ``ATTRIB_TEST_DATA``). Fast: two
minutes on one core.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from attrib import Fused, GradCAM, HiResCAM, LayerCAM, Occlusion, Saliency, Token, attribute_all
from attrib.core import Attribution
from attrib.core.reduce import upsample
from attrib.methods import GradCAMPlusPlus, XGradCAM
from attrib.models import VOCABULARY, Captioner, coloured_shapes, train_captioner
from benchmarks import speed
from benchmarks.table import replace_between

RESULTS = speed.HERE / "results" / "layers.json"
HOW_TO = speed.HERE.parent / "docs" / "how-to"
PAGES = {"depths": "choose-a-layer.md", "fused": "fuse-layers.md", "words": "explain-a-caption.md"}
DEPTHS = ("layer1", "layer2", "layer3", "layer4")
BATCH = 10

Maker = Callable[[Any], Attribution]
SINGLE: dict[str, Callable[[Any, str], Attribution]] = {
    "Grad-CAM": GradCAM,
    "Grad-CAM++": GradCAMPlusPlus,
    "XGrad-CAM": lambda model, layer: XGradCAM(model, layer, relu=True),
    "LayerCAM": LayerCAM,
    "HiResCAM (`relu=True`)": lambda model, layer: HiResCAM(model, layer, relu=True),
}
LIFTED = ["tanh", "tanh", "max"]
JOINED: dict[str, Maker] = {
    "Grad-CAM, `layer4`": lambda model: GradCAM(model, "layer4"),
    "LayerCAM, `layer4`": lambda model: LayerCAM(model, "layer4"),
    "LayerCAM, `layer3`": lambda model: LayerCAM(model, "layer3"),
    'LayerCAM, `"max"`': lambda model: _joined(LayerCAM, model),
    'LayerCAM, `"max"`, `"tanh"` for the shallower two': lambda model: _joined(LayerCAM, model, scale=LIFTED),
    'LayerCAM, `"mean"`': lambda model: _joined(LayerCAM, model, how="mean"),
    'LayerCAM, `"product"`': lambda model: _joined(LayerCAM, model, how="product"),
    'Grad-CAM, `"mean"`': lambda model: _joined(GradCAM, model, how="mean"),
    'Grad-CAM, `"product"`': lambda model: _joined(GradCAM, model, how="product"),
}
OF_WORDS: dict[str, Maker] = {
    "Grad-CAM, encoder": lambda model: GradCAM(model, "encoder"),
    "HiRes-CAM, encoder": lambda model: HiResCAM(model, "encoder"),
    "gradient": Saliency,
    "occlusion": lambda model: Occlusion(model, window=8, stride=4, baseline=0.5),
}


def _joined(kind: Any, model: Any, **options: Any) -> Attribution:
    return Fused([kind(model, layer) for layer in DEPTHS[1:]], **options)


def on_photos(number: int) -> dict[str, Any]:
    """Share of the positive map on the object, and overlap with it, for each method on photos with masks."""
    from tests import data, realnets

    net, found = realnets.load("resnet18"), data.photos(number)
    views = [net.loaded.view(Image.fromarray(photo.mask.astype(np.uint8) * 255).convert("RGB")) for photo in found]
    masks = torch.stack([torch.from_numpy(np.asarray(view)[..., 0] > 127) for view in views])[:, None]
    x, targets = net.loaded.inputs([photo.image for photo in found]), [photo.target for photo in found]
    methods = {f"{name}|{layer}": make(net.model, layer) for name, make in SINGLE.items() for layer in DEPTHS}
    methods |= {name: make(net.model) for name, make in JOINED.items()}
    shares: dict[str, list[float]] = {name: [] for name in methods}
    overlaps: dict[str, list[float]] = {name: [] for name in methods}
    for start in range(0, len(x), BATCH):
        part = slice(start, start + BATCH)
        for name, (maps,) in attribute_all(methods, x[part], [targets[part]]).items():
            large = upsample(maps, tuple(x.shape[2:])).relu()
            shares[name] += [float((m * k).sum() / m.sum()) for m, k in zip(large, masks[part], strict=True) if m.any()]
            overlaps[name] += [overlap(m, k) for m, k in zip(large, masks[part], strict=True)]
    return {
        "area": float(masks.float().mean()),
        "share": {name: float(np.mean(values)) for name, values in shares.items()},
        "overlap": {name: float(np.mean(values)) for name, values in overlaps.items()},
    }


def overlap(found: Tensor, mask: Tensor) -> float:
    """Intersection over union of the object with as many of the brightest places."""
    chosen = torch.zeros(mask.numel(), dtype=torch.bool)
    chosen[found.flatten().topk(int(mask.sum())).indices] = True
    return float((chosen & mask.flatten()).sum() / (chosen | mask.flatten()).sum())


def on_words(lessons: int, number: int) -> dict[str, Any]:
    """Share of the positive map on the shape that a word names and on the other one, for each word and method."""
    scenes, new = coloured_shapes(lessons, seed=1), coloured_shapes(number, seed=2)
    captioner = train_captioner(scenes.x, scenes.tokens, words=len(VOCABULARY))
    last = torch.tensor([len(caption.split()) - 1 for caption in new.captions])
    named = {"first colour": (0 * last, 0), "first shape": (0 * last + 1, 0)}
    named |= {"second colour": (last - 1, 1), "second shape": (last, 1)}
    grown = F.max_pool2d(new.masks.float(), 9, 1, 4)
    found: dict[str, Any] = {"area": float(grown.mean()), "rows": {}}
    for word, (place, shape) in named.items():
        goal = Token(new.tokens, place)
        maps = {name: _positive(make, captioner, new.x, goal, new.tokens) for name, make in OF_WORDS.items()}
        shares = {name: (one * grown).sum((2, 3)) / one.sum((2, 3)).clamp(min=1e-20) for name, one in maps.items()}
        found["rows"][word] = {name: [float(s[:, i].mean()) for i in (shape, 1 - shape)] for name, s in shares.items()}
    return found


def _positive(make: Maker, model: Captioner, x: Tensor, goal: Token, words: Tensor) -> Tensor:
    maps = make(model).attribute(x, goal, additional_forward_args=words).relu()
    return maps if maps.shape[2:] == x.shape[2:] else upsample(maps, tuple(x.shape[2:]))


def tables(results: Mapping[str, Any]) -> dict[str, str]:
    """The table of each page, with when and where it was measured."""
    photos, words, about = results["photos"], results["words"], results["metadata"]
    command = f"python -m benchmarks.layers --threads {results['settings']['threads']} --table"
    foot = (
        f"\n\nMeasured {about['date']} on {about['machine']['device']}, torch {about['versions']['torch']}, by "
        f"`{command}`."
    )
    share, shown = photos["share"], "{:.2f}".format
    depths = [[name, *(shown(share[f"{name}|{layer}"]) for layer in DEPTHS)] for name in SINGLE]
    joined = [[name, shown(share[name]), shown(photos["overlap"][name])] for name in JOINED]
    said = [[word, *(", ".join(map(shown, row[name])) for name in OF_WORDS)] for word, row in words["rows"].items()]
    made = {
        "depths": _table(["", *(f"`{layer}`" for layer in DEPTHS)], depths),
        "fused": _table(["", "share on the object", "overlap"], joined),
        "words": _table(["word", *OF_WORDS], said),
    }
    return {name: text + foot for name, text in made.items()}


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print the tables and write the numbers."""
    made = argparse.ArgumentParser(prog="layers", description=__doc__)
    made.add_argument("--photos", type=int, default=50)
    made.add_argument("--pictures", type=int, default=128, help="of shapes, that words are explained on")
    made.add_argument("--lessons", type=int, default=4096, help="pictures that the captioner is trained on")
    made.add_argument("--threads", type=int, default=torch.get_num_threads())
    made.add_argument("--out", type=Path, default=RESULTS)
    made.add_argument(
        "--table", type=Path, nargs="?", const=HOW_TO, help="update the tables of the pages in this folder"
    )
    args = made.parse_args(argv)
    before = torch.get_num_threads()
    torch.set_num_threads(args.threads)
    try:
        found = {"photos": on_photos(args.photos), "words": on_words(args.lessons, args.pictures)}
    finally:
        torch.set_num_threads(before)
    settings = {name: getattr(args, name) for name in ("photos", "pictures", "lessons", "threads")}
    results = json.loads(json.dumps({"metadata": speed.metadata("cpu"), "settings": settings, **found}))
    speed.write(args.out, results)
    for name, text in tables(results).items():
        print(text)
        if args.table:
            replace_between(args.table / PAGES[name], f"<!-- {name}: begin -->", f"<!-- {name}: end -->", text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
