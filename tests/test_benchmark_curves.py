"""The benchmark of curves: the peers' areas are ours, what is absent is said, and the page is that of its results."""

from __future__ import annotations

import json
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from torch import nn

from benchmarks import contenders, curve_contenders, curves, curves_table, rise_loop, speed

pytest.importorskip("torchvision")
pytest.importorskip("skimage", reason="the demo photos come with scikit-image")
needs_scipy = pytest.mark.skipif(find_spec("scipy") is None, reason="the published kernel is made by SciPy")


@pytest.fixture(scope="module")
def asked() -> curve_contenders.Asked:
    return curve_contenders.asked("tiny", 3, 32, "cpu")


@needs_scipy
def test_the_loop_of_rise_gives_the_curve_of_a_model_that_counts_pixels() -> None:
    class Share(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:  # the probability of class 0 is the share of ones
            share = x.mean((1, 2, 3)).clamp(1e-6, 1 - 1e-6)
            return torch.stack([share, 1 - share], 1).log()

    x, maps = torch.ones(1, 3, 8, 8), torch.rand(1, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    scores = rise_loop.curve(Share(), x, maps, x, torch.zeros_like(x), 16)
    torch.testing.assert_close(scores, torch.tensor([[1.0, 0.75, 0.5, 0.25, 0.0]]), rtol=0, atol=1e-5)
    assert float(rise_loop.area(scores)) == pytest.approx(0.5, abs=1e-5)
    inside = rise_loop.blurred(torch.ones(1, 3, 21, 21))[0, :, 10, 10]
    torch.testing.assert_close(inside, torch.ones(3))  # the kernel's weights are a mean


@needs_scipy
def test_the_loop_removes_the_pixels_that_the_map_ranks_first(asked: curve_contenders.Asked) -> None:
    seen: list[torch.Tensor] = []

    class Watching(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            seen.append(x.clone())
            return x.mean((2, 3))

    rise_loop.curve(Watching(), asked.x, asked.maps, asked.x, torch.zeros_like(asked.x), asked.step)
    gone = (seen[2] == 0).all(1) & (asked.x != 0).any(1)  # seen[0] settles the class, seen[1] is clean
    for one, its in zip(gone, asked.maps[:, 0], strict=True):
        assert int(one.sum()) == asked.step
        assert float(its[one].min()) >= float(its[~one].max())


@pytest.mark.parametrize("key", curve_contenders.SETTINGS)
def test_the_peers_find_our_areas(key: str, asked: curve_contenders.Asked) -> None:
    setting = curve_contenders.SETTINGS[key]
    (needed,) = (curve_contenders.NEEDS[name] for name in setting.peers)
    pytest.importorskip(needed, reason=f"the peer is {needed}")
    made = {name: make(asked)() for name, make in curve_contenders.makers(setting).items()}
    ours = made.pop(contenders.OURS)
    for theirs in made.values():
        expected = ours if theirs.ndim == 2 else ours.mean(1)
        torch.testing.assert_close(theirs.double(), expected, rtol=0, atol=1e-6)


@needs_scipy
def test_rows_are_those_that_go_through_the_model(asked: curve_contenders.Asked) -> None:
    found, rows = curves.rows_of(
        asked.model, curve_contenders.makers(curve_contenders.SETTINGS["batch"])["RISE's loop"](asked)
    )
    assert found.shape == (2, 3)
    assert rows == 3 * 2 * (asked.points + 1)  # the class, and every point, of two curves
    ours = curve_contenders.makers(curve_contenders.SETTINGS["zeros"])[contenders.OURS](asked)
    assert 3 * 2 * (asked.points - 1) <= curves.rows_of(asked.model, ours)[1] <= 3 * 2 * (asked.points + 1)


def test_a_peer_that_is_absent_or_fails_is_said(asked: curve_contenders.Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: curve_contenders.Asked) -> curve_contenders.Call:
        raise RuntimeError("no trapz")

    setting = replace(curve_contenders.SETTINGS["zeros"], peers={"absent": broken, "broken": broken})
    monkeypatch.setitem(curve_contenders.NEEDS, "absent", "a_package_that_is_not_there")
    rows = {row["contender"]: row for row in curves.measured(asked, setting, 3, 0.0)}
    assert rows["absent"]["skipped"] == "a_package_that_is_not_there is not installed"
    assert rows["broken"]["error"] == "RuntimeError: no trapz"
    assert rows["attrib"]["ratio"]["median"] == 1
    assert (
        curves_table._missing(rows["absent"])
        == "- absent was not measured: a_package_that_is_not_there is not installed."
    )


def test_the_part_of_the_script_writes_what_its_page_shows(tmp_path: Path) -> None:
    out, page = tmp_path / "curves.json", tmp_path / "page.md"
    page.write_text(f"before\n{curves_table.BEGIN}\nOUTDATED\n{curves_table.END}\nafter\n")
    how = ["--nets", "tiny", "--size", "16", "--images", "2", "--threads", "1", "--repeats", "3", "--seconds", "0"]
    assert speed.main(["curves", *how, "--no-memory", "--out", str(out), "--table", str(page)]) == 0
    results = json.loads(out.read_text())
    assert {row["setting"] for row in results["rows"]} == {one.what for one in curve_contenders.SETTINGS.values()}
    for row in (row for row in results["rows"] if "seconds" in row):
        assert row["bare"]["q25"] <= row["bare"]["median"] <= row["bare"]["q75"]
        assert row["difference"] < 1e-6
    text = page.read_text()
    assert curves_table.page(results) in text
    assert "threads: 1" in text
    assert "OUTDATED" not in text


def test_losses_are_bold_and_counted() -> None:
    ratio = {"median": 0.8, "q25": 0.7, "q75": 0.9}
    row = {"net": "tiny", "setting": "s", "images": 1, "contender": "peer", "rows": 9, "bare": ratio, "ratio": ratio}
    line = curves_table._line(row | {"seconds": ratio, "difference": 2e-7})
    assert line["/ attrib"] == "0.80 [0.70, 0.90] **slower**"
    assert (line["area differs by"], line["memory, MB"]) == ("2e-07", "?")
    rows = [row, row | {"contender": contenders.OURS}]
    assert curves_table._score({"rows": rows}).endswith("slower in 1 of 1.")
    rows = [one | {"peak_bytes": size} for one, size in zip(rows, (5, 9), strict=True)]
    assert curves_table._score({"rows": rows}).endswith("It takes **more memory** in 1 of 1.")


def test_the_table_of_the_repository_is_the_one_of_its_results() -> None:
    results = json.loads(curves.RESULTS.read_text())
    assert curves_table.page(results) in (speed.HERE / "README.md").read_text()
