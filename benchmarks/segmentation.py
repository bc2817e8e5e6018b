"""Objects cut out without a mask to learn from: overlap with masks and boxes, by method, beside boxes in the middle.

``python -m benchmarks.segmentation --threads 1 --table``

Needs the folder of real networks and photos that the tests use (environment variable ``ATTRIB_TEST_DATA``).
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from attrib import METHODS
from attrib.analysis import agreement, segment
from attrib.analysis.segments.agreement import HALF, boxes_of, centre_box
from attrib.benchmark.stats import beats, bootstrap_interval
from attrib.errors import AttribError
from attrib.io import LoadedModel
from attrib.io.masks import drawn_boxes
from attrib.registry import CONTROLS
from attrib.report.table import text_table
from benchmarks import speed
from benchmarks.table import replace_between

BEGIN, END = "<!-- segmentation: begin -->", "<!-- segmentation: end -->"
RESULTS = speed.HERE / "results" / "segmentation.json"
NETS = ("resnet18", "squeezenet1_0")
METHODS_SHOWN = ("saliency", "guided", "deconvnet", "guided_gradcam", "gradcam", "layercam", "occlusion")
VARIANTS: dict[str, dict[str, Any]] = {"one graph cut": {"iterations": 0}, "seeds held": {"fixed": True}}
SHARES = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0)  # sides of the boxes in the middle
BOX = "centre box"


@dataclass(frozen=True)
class Scene:
    """A photo as the network sees it, its class, and the truth."""

    x: Tensor
    view: Image.Image
    target: int
    mask: Tensor
    boxes: list[list[int]]


def scenes(net: LoadedModel, number: int) -> list[Scene]:
    """The first photos with masks and boxes, resized and cropped as the network does it."""
    from tests import data

    found = []
    for photo in data.photos(number):
        mask = net.mask(Image.fromarray(photo.mask))
        drawn = [drawn_boxes(box, photo.image.size) for box in photo.boxes]
        seen = [net.mask(box) for box in drawn if box is not None]
        boxes = [boxes_of(one[None])[0].tolist() for one in seen if one.any()]  # a crop may leave nothing of a box
        found.append(Scene(net.inputs([photo.image]), net.view(photo.image), photo.target, mask, boxes))
    return found


def found_by(maps: Sequence[Tensor], photos: Sequence[Scene], **options: Any) -> dict[str, Any]:
    """Overlaps of what is cut out; nothing is found where a map is refused."""
    begin = time.perf_counter()
    cut = [_cut(one, scene, options) for one, scene in zip(maps, photos, strict=True)]
    masks = [torch.zeros_like(scene.mask) if one is None else one for one, scene in zip(cut, photos, strict=True)]
    took = (time.perf_counter() - begin) / len(photos)
    return overlaps(masks, photos) | {"refused": sum(one is None for one in cut), "cut_seconds": took}


def _cut(map: Tensor, scene: Scene, options: Mapping[str, Any]) -> Tensor | None:
    try:
        return segment(map, [scene.view], **options).masks[0]
    except AttribError:
        return None


def overlaps(masks: Sequence[Tensor], photos: Sequence[Scene]) -> dict[str, Any]:
    """IoU of masks and of boxes, photo by photo."""
    found = agreement(torch.stack(list(masks)), torch.stack([one.mask for one in photos]), [s.boxes for s in photos])
    return {"iou": found.iou.tolist(), "box_iou": found.box_iou.tolist()}


def measured(name: str, methods: Sequence[str], number: int) -> list[dict[str, Any]]:
    """A row for each method, variant and control."""
    from tests import realnets

    net = realnets.load(name).loaded
    photos = scenes(net, number)
    size = photos[0].mask.shape
    rows = [
        {"net": name, "method": f"{BOX} {s:.1f}"} | overlaps([centre_box(size, s)] * number, photos) for s in SHARES
    ]
    made = {method: METHODS[method](net.model) for method in methods}
    made |= {f"map: {control}": CONTROLS[control](net.model) for control in ("centre", "random")}
    for label, method in made.items():
        begin = time.perf_counter()
        maps = [method.attribute(scene.x, scene.target) for scene in photos]
        took = (time.perf_counter() - begin) / number
        row = {"net": name, "method": label, "map_seconds": took}
        rows.append(row | found_by(maps, photos))
        print(name, label, f"{_mean(rows[-1], 'iou'):.2f}", file=sys.stderr)
        if label == methods[0]:
            more = {f"{label}, {words}": found_by(maps, photos, **how) for words, how in VARIANTS.items()}
            rows += [{**row, "method": words} | found for words, found in more.items()]
    return rows


def _located(row: Mapping[str, Any]) -> list[float]:
    return [float(value > HALF) for value in row["box_iou"]]


def _mean(row: Mapping[str, Any], what: str) -> float:
    values = row["iou"] if what == "iou" else _located(row)
    return sum(values) / len(values)


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """One table per network, the best IoU first; of the boxes in the middle the best by each number."""
    nets = dict.fromkeys(row["net"] for row in rows)
    return "\n\n".join(f"{net}:\n\n{_table([row for row in rows if row['net'] == net])}" for net in nets)


def _table(rows: Sequence[Mapping[str, Any]]) -> str:
    boxes = [row for row in rows if row["method"].startswith(BOX)]
    best = {what: max(boxes, key=lambda row: _mean(row, what)) for what in ("iou", "corloc")}
    shown = [row for row in rows if row not in boxes or row in best.values()]
    lines = []
    for row in sorted(shown, key=lambda row: _mean(row, "iou"), reverse=True):
        line = {"from": row["method"]}
        for what, title in (("iou", "IoU of the mask"), ("corloc", "CorLoc")):
            line[title] = _words(row, best[what], what, is_box=row in boxes)
        took = row.get("map_seconds", 0) + row.get("cut_seconds", 0)
        lines.append(line | {"refused": str(row.get("refused", "-")), "seconds": f"{took:.2g}" if took else "-"})
    return text_table(lines, markdown=True)


def _words(row: Mapping[str, Any], control: Mapping[str, Any], what: str, *, is_box: bool) -> str:
    """A mean with its interval, marked where it does not beat the box in the middle that is best at this number."""
    mine, other = ((one["iou"] if what == "iou" else _located(one)) for one in (row, control))
    if len(mine) < 2:
        return f"{mine[0]:.2f}"
    found = bootstrap_interval(mine)
    mark = "" if is_box or beats(mine, other, higher_is_better=True).beats else "!"
    return f"{found.mean:.2f}{mark} [{found.low:.2f}, {found.high:.2f}]"


def page(results: Mapping[str, Any]) -> str:
    """What the page of results shows."""
    about, how = results["metadata"], results["settings"]
    return (
        f"Measured {about['date']} on {about['machine']['device']} ({how['threads']} threads), torch "
        f"{about['versions']['torch']}, OpenCV {how['opencv']}: {how['photos']} photos, the true class asked. Means "
        f"with 95 % bootstrap intervals; `!`: not better than the best box in the middle (paired, p < 0.05). Seconds "
        f"per photo, map and cut, are indicative.\n\n{table(results['rows'])}"
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Cut, print the table and write the numbers."""
    made = argparse.ArgumentParser(prog="segmentation", description=__doc__)
    made.add_argument("--nets", nargs="+", default=list(NETS), metavar="NET")
    made.add_argument("--methods", nargs="+", default=list(METHODS_SHOWN), choices=list(METHODS), metavar="METHOD")
    made.add_argument("--photos", type=int, default=50)
    made.add_argument("--threads", type=int, default=torch.get_num_threads())
    made.add_argument("--out", type=Path, default=RESULTS)
    made.add_argument("--table", type=Path, nargs="?", const=speed.HERE / "README.md", help="update this page's table")
    args = made.parse_args(argv)
    import cv2

    before = torch.get_num_threads(), cv2.getNumThreads()
    torch.set_num_threads(args.threads)
    cv2.setNumThreads(args.threads)
    try:
        rows = [row for net in args.nets for row in measured(net, args.methods, args.photos)]
    finally:
        torch.set_num_threads(before[0])
        cv2.setNumThreads(before[1])
    settings = {"photos": args.photos, "threads": args.threads, "opencv": cv2.__version__}
    results = {"metadata": speed.metadata("cpu"), "settings": settings, "rows": rows}
    speed.write(args.out, results)
    print(table(rows))
    if args.table:
        replace_between(args.table, BEGIN, END, page(json.loads(json.dumps(results))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
