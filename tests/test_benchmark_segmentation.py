"""The benchmark of segmentation: the truth as the network sees it, refused maps, and the table in the page."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from benchmarks import segmentation, speed
from tests import data, realnets

pytest.importorskip("cv2")


@data.needs_data
def test_a_scene_holds_the_mask_and_the_boxes_that_the_network_sees() -> None:
    net = realnets.load("squeezenet1_0").loaded
    for scene in segmentation.scenes(net, 4):
        high, wide = scene.mask.shape
        assert scene.x.shape[2:] == scene.mask.shape == scene.view.size[::-1]
        for x0, y0, x1, y1 in scene.boxes:
            assert 0 <= x0 < x1 <= wide
            assert 0 <= y0 < y1 <= high
            assert float(scene.mask[y0:y1, x0:x1].double().mean()) > 0.3
        (found,) = segmentation.overlaps([scene.mask], [scene])["box_iou"]
        assert found > 0.5


@data.needs_data
def test_a_map_of_the_right_place_finds_more_than_a_random_one_and_refused_maps_find_nothing() -> None:
    net = realnets.load("squeezenet1_0").loaded
    scenes = segmentation.scenes(net, 3)
    source = torch.Generator().manual_seed(0)
    right = [scene.mask[None, None] + 0.5 * torch.rand(1, 1, *scene.mask.shape, generator=source) for scene in scenes]
    noise = [torch.rand(1, 1, *scene.mask.shape, generator=source) for scene in scenes]
    flat = [torch.ones(1, 1, 4, 4)] * 3
    told = [segmentation.found_by(maps, scenes, iterations=1) for maps in (right, noise, flat)]
    means = [sum(one["iou"]) / 3 for one in told]
    assert means[0] > 0.5 > means[1]
    assert means[2] == 0
    assert [one["refused"] for one in told] == [0, 0, 3]


@data.needs_data
def test_a_short_run_writes_a_row_for_every_method_variant_and_control(tmp_path: Path) -> None:
    out = tmp_path / "segmentation.json"
    how = ["--nets", "squeezenet1_0", "--methods", "saliency", "--photos", "2", "--threads", "1", "--out", str(out)]
    assert segmentation.main(how) == 0
    results = json.loads(out.read_text())
    assert [row["method"] for row in results["rows"]] == [
        *(f"centre box {share:.1f}" for share in segmentation.SHARES),
        *("saliency", "saliency, one graph cut", "saliency, seeds held", "map: centre", "map: random"),
    ]
    assert all(len(row["iou"]) == len(row["box_iou"]) == 2 for row in results["rows"])
    assert "2 photos" in segmentation.page(results)


def test_the_table_marks_what_does_not_beat_the_best_box_in_the_middle() -> None:
    def row(method: str, value: float) -> dict[str, object]:
        return {"net": "n", "method": method, "iou": [value] * 8, "box_iou": [value] * 8}

    rows = [row("centre box 0.5", 0.3), row("centre box 0.7", 0.4), row("good", 0.8), row("bad", 0.2)]
    lines = {line.split("|")[1].strip(): line for line in segmentation.table(rows).splitlines() if line.startswith("|")}
    assert set(lines) == {"from", "-" * 14, "good", "bad", "centre box 0.7", "centre box 0.5"}  # the first by CorLoc
    assert "0.80 [" in lines["good"]
    assert "0.20! [" in lines["bad"]


def test_the_table_of_the_repository_is_that_of_its_results() -> None:
    results = json.loads(segmentation.RESULTS.read_text())
    assert segmentation.page(results) in (speed.HERE / "README.md").read_text()
