"""The benchmark of exact occlusion: what it compares agrees, its ratios are strict JSON, its table is its results."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from attrib.core import Windows
from benchmarks import contenders, exact

pytest.importorskip("torchvision")


def test_windows_that_hide_where_they_are_give_the_same_scores() -> None:
    task = contenders.task("tiny", 48, "cpu", target=0)
    masks = exact.windows(48)
    assert isinstance(masks, Windows)
    few = exact.sample(masks)
    local, whole = (exact.swept(task.model, task.x, 0, one) for one in (few, exact.Whole(few)))
    torch.testing.assert_close(local, whole, rtol=1e-5, atol=1e-6)


def test_every_ratio_is_measured_and_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, page = tmp_path / "exact.json", tmp_path / "page.md"
    page.write_text(f"before\n{exact.BEGIN}\nOUTDATED\n{exact.END}\nafter\n")
    arguments = ["--nets", "tiny", "--size", "48", "--threads", "1", "--repeats", "3", "--seconds", "1", "--no-memory"]
    assert exact.main([*arguments, "--scaling", "--out", str(out), "--table", str(page)]) == 0
    results = json.loads(out.read_text())
    assert [row["work"] for row in results["rows"] if "work" in row] == [row.work for row in exact.ROWS]
    assert results["rows"][0]["difference"] < 1e-5
    assert exact.table(results) in page.read_text()
    assert "OUTDATED" not in page.read_text()
    assert "Captum / attrib" in capsys.readouterr().out


def test_a_missed_goal_is_bold() -> None:
    row = {"median": 3.9, "goal": 4, "least": True}
    assert exact._cell(row) == "**3.9 (≥ 4)**"
    assert exact._cell(row | {"median": 4.1}) == "4.1 (≥ 4)"
    assert exact._cell(row | {"least": False}) == "3.9 (≤ 4)"
    assert exact._cell(row | {"goal": None}) == "3.9"


def test_the_table_of_the_repository_is_the_one_of_its_results() -> None:
    file = exact.HERE / "results" / "exact.json"
    if not file.exists():
        pytest.skip("nothing was measured in this checkout")
    assert exact.table(json.loads(file.read_text())) in (exact.HERE / "README.md").read_text()
