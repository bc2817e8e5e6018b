"""The figure of six panels: one photo of two classes, a plain and a residual network, and where each map lies.

``python -m benchmarks.six_panels --out six_panels.png``

Needs the folder of real networks and photos that the tests use (environment variable ``ATTRIB_TEST_DATA``).
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from PIL import Image
from torch import Tensor

from attrib import GradCAM, GuidedBackprop, GuidedGradCAM, Occlusion
from attrib.io import LoadedModel
from attrib.plot import heatmap
from attrib.report.table import text_table
from benchmarks.quality import energy

CLASSES = {"cat": range(281, 286), "dog": range(151, 269)}  # of ImageNet
OCCLUDER = {"window": 48, "stride": 12}


def maps(plain: LoadedModel, residual: LoadedModel, photo: Image.Image, kind: str) -> dict[str, Tensor]:
    """The five maps of one class; each network explains the breed that it finds most likely."""
    found = {}
    for net, methods in (
        (plain, {"guided backprop": GuidedBackprop(plain.model), "Grad-CAM": GradCAM(plain.model)}),
        (plain, {"guided Grad-CAM": GuidedGradCAM(plain.model), "occlusion": Occlusion(plain.model, **OCCLUDER)}),
        (residual, {"Grad-CAM, residual": GradCAM(residual.model)}),
    ):
        x = net.inputs([photo])
        breeds = torch.tensor(CLASSES[kind])
        target = int(breeds[net.model(x).detach()[0, breeds].argmax()])
        found |= {name: method.attribute(x, target) for name, method in methods.items()}
    return found


def boxes(net: LoadedModel, photo: Image.Image, folder: Path) -> dict[str, Tensor]:
    """Where the cat and the dog are, in the view of the network."""
    index = json.loads((folder / "index.json").read_text())
    entry = next(item for item in index if item["image"] == "dog_cat_both.png")
    found = {}
    for label, (x0, y0, x1, y1) in entry["hand_boxes_xyxy_approx"].items():
        mask = np.zeros((photo.height, photo.width), np.uint8)
        mask[y0:y1, x0:x1] = 255
        found[label[:3]] = net.mask(Image.fromarray(mask))
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Draw the figure and print how much of each map lies in the box of its class."""
    from tests import data, realnets

    made = argparse.ArgumentParser(prog="six_panels", description=__doc__)
    made.add_argument("--plain", default="squeezenet1_0")
    made.add_argument("--residual", default="resnet18")
    made.add_argument("--out", type=Path, default=Path("six_panels.png"))
    args = made.parse_args(argv)
    plain, residual = (realnets.load(name).loaded for name in (args.plain, args.residual))
    photo = data.open_photo("dog_cat_both")
    where = {net.name: boxes(net, photo, data.path("open_licence_images")) for net in (plain, residual)}
    figure, axes = plt.subplots(2, 6, figsize=(15, 5.4), layout="constrained")
    rows = []
    for kind, line in zip(CLASSES, axes, strict=True):
        line[0].imshow(plain.view(photo))
        line[0].set(title=kind, xticks=[], yticks=[])
        row = {"class": kind}
        for axis, (name, one) in zip(line[1:], maps(plain, residual, photo, kind).items(), strict=True):
            net = residual if "residual" in name else plain
            heatmap(one[0], net.view(photo), axis).set_title(name)
            row[name] = f"{energy(one, where[net.name][kind]) or 0:.2f}"
        rows.append(row | {"area of the box": f"{float(where[plain.name][kind].double().mean()):.2f}"})
    figure.savefig(args.out, dpi=100)
    print(text_table(rows, markdown=True))
    return 0


if __name__ == "__main__":
    sys.exit(main())
