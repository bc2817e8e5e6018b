"""The benchmark of quality: the energy it measures, the grids it plays, and that a map of the right place wins."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from types import ModuleType

import pytest
import torch

from benchmarks import faithfulness, quality, six_panels, speed
from tests import data, realnets


def test_energy_is_the_positive_share_inside() -> None:
    maps = torch.tensor([[[[3.0, 1.0], [-5.0, 0.0]]]])
    inside = torch.tensor([[True, False], [True, False]])
    assert quality.energy(maps, inside) == 0.75
    assert quality.energy(-maps, inside) == 1.0
    assert quality.energy(torch.zeros(1, 1, 2, 2), inside) is None
    big = torch.zeros(8, 8, dtype=torch.bool)
    big[:4, :4] = True
    assert quality.energy(torch.ones(1, 1, 2, 2), big) == 0.25  # upsampled to the scene


@data.needs_data
def test_a_grid_holds_four_classes_that_the_network_knows_each_in_its_cell() -> None:
    net = realnets.load("resnet18")
    photos = list(zip(net.images, net.labels, strict=True))
    scenes = quality.grids(net.loaded, photos, 2, 64, seed=1)
    assert len(scenes) == 8
    for first in (0, 4):
        four = scenes[first : first + 4]
        assert len({scene.target for scene in four}) == 4
        assert all(torch.equal(scene.x, four[0].x) for scene in four)
        assert torch.equal(
            torch.stack([scene.inside for scene in four]).sum(0), torch.ones(128, 128, dtype=torch.int64)
        )
        for scene in four:  # what is inside is the photo of that class
            y, left = (int(v.min()) for v in scene.inside.nonzero(as_tuple=True))
            tile = scene.x[:, :, y : y + 64, left : left + 64]
            assert int(net.model(tile).argmax()) == scene.target
    again = quality.grids(net.loaded, photos, 2, 64, seed=1)
    other = quality.grids(net.loaded, photos, 2, 64, seed=2)
    assert [s.target for s in again] == [s.target for s in scenes] != [s.target for s in other]


@data.needs_data
def test_the_grid_game_is_won_by_cam_and_not_by_the_controls(tmp_path: Path) -> None:
    out = tmp_path / "quality.json"
    how = [
        "--nets",
        "resnet18",
        "--grids",
        "2",
        "--cell",
        "96",
        "--threads",
        "1",
        "--methods",
        "cam",
        "attention_rollout",
    ]
    assert quality.main([*how, "--out", str(out)]) == 0
    rows = {row["method"]: row for row in json.loads(out.read_text())["rows"]}
    mean = {m: sum(r["grid"]["energy"]) / 8 for m, r in rows.items() if len(r["grid"].get("energy", ())) == 8}
    assert mean["cam"] > 0.5
    assert mean["control: random"] == pytest.approx(0.25, abs=0.01)
    assert "refused" in rows["attention_rollout"]["grid"]
    assert "refused" in quality.table(list(rows.values()))


@data.needs_data
def test_each_of_the_six_panels_lies_on_the_animal_that_is_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert six_panels.main(["--out", str(tmp_path / "six.png")]) == 0
    assert (tmp_path / "six.png").stat().st_size > 100_000
    cat, dog = (line.split("|")[2:-1] for line in capsys.readouterr().out.splitlines()[2:])
    for row in (cat, dog):
        *inside, area = map(float, row)
        assert len(inside) == 5
        assert min(inside) > 1.4 * area


@data.needs_data
def test_the_comparison_says_means_pairs_and_who_is_no_better_than_a_control(tmp_path: Path) -> None:
    out = tmp_path / "faithfulness.json"
    how = ["--nets", "tiny_darknet", "--photos", "1", "--threads", "1", "--out", str(out)]
    assert faithfulness.main(how) == 0
    (row,) = json.loads(out.read_text())["rows"]
    assert row["photos"] == 1
    assert set(row["means"]) == {*faithfulness.SHOWN, "centre", "edges", "random"}
    assert all(len(pairs) == 6 for pairs in row["pairs"].values())
    deletion, insertion, srg = (row["means"]["occlusion"][number][0] for number in faithfulness.NUMBERS)
    assert f"{deletion:.2f}" in faithfulness.table([row])
    assert insertion > deletion
    assert srg > 0


def test_the_first_page_shows_the_results_with_intervals_and_what_the_tests_tell_apart() -> None:
    results = json.loads(faithfulness.RESULTS.read_text())
    shown = faithfulness.summary(results)
    assert shown in (speed.HERE.parent / "README.md").read_text()
    row = results["rows"][0]
    mean, low, high = row["means"]["gradcam"]["srg"]
    assert f"{mean:.2f} [{low:.2f}, {high:.2f}]" in shown
    pairs = ["a is better than b (+0.1, p=0.01)", "b and c: no difference shown (p=1)", "a is better than c (+0.2)"]
    assert faithfulness._wins(pairs) == "a > b, c"
    assert faithfulness._wins(pairs[1:2]) == "-"


@pytest.mark.parametrize("benchmark", [quality, faithfulness], ids=lambda module: module.__name__)
def test_the_table_of_the_repository_is_that_of_its_results(benchmark: ModuleType) -> None:
    results = json.loads(benchmark.RESULTS.read_text())
    assert benchmark.page(results) in (speed.HERE / "README.md").read_text()


def test_what_the_first_page_says_of_the_grid_game_is_what_was_measured() -> None:
    found = json.loads(quality.RESULTS.read_text())["rows"]
    rows = {(row["net"], row["method"]): row["grid"].get("energy") for row in found}

    def between(methods: tuple[str, ...], nets: tuple[str, ...]) -> tuple[float, float]:
        means = []
        for net, method in itertools.product(nets, methods):
            assert len(rows[net, method]) == 48
            means.append(sum(rows[net, method]) / 48)
        return round(min(means), 2), round(max(means), 2)

    page = " ".join((speed.HERE.parent / "README.md").read_text().split())
    low, high = between(("cam", "gradcam", "hirescam", "xgradcam"), quality.NETS)
    assert f"CAM, Grad-CAM, HiResCAM and XGrad-CAM put {low} to {high} of their positive evidence" in page
    plain, other = ("squeezenet1_0", "tiny_darknet"), ("resnet18", "mobilenet_v2", "mobilenet_v1_025_128")
    assert between(("gradcam_plusplus", "layercam"), plain)[0] >= low
    low, high = between(("gradcam_plusplus", "layercam"), other)
    assert f"only {low} to {high} on ResNet-18 and the MobileNets" in page
    assert between(("eigencam",), quality.NETS) == (0.25, 0.25)
    low, high = between(("deconvnet",), ("tiny_darknet", *other))
    assert 0.24 <= low <= high <= 0.26
    assert f"{rows['squeezenet1_0', 'deconvnet'].count(None)} of its 48 maps have nothing positive" in page
