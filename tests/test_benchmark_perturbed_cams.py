"""The comparison of Score-CAM and Ablation-CAM asks both libraries the same, and prints what it measured."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import contenders, perturbed_cams, speed

pytest.importorskip("pytorch_grad_cam")


def test_both_libraries_are_asked_the_same() -> None:
    task = contenders.task("tiny", 16, "cpu")
    numbers = {name: call() for name, call in perturbed_cams.calls(task, "ablationcam").items()}
    ours, theirs = numbers[contenders.OURS], numbers[contenders.PGC]
    assert contenders.difference("gradcam", contenders.PGC, ours, theirs) < 1e-3


def test_it_writes_and_shows_a_row_for_each_method(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, shown = tmp_path / "cams.json", tmp_path / "page.md"
    shown.write_text(f"before\n{perturbed_cams.BEGIN}\nold\n{perturbed_cams.END}\nafter\n")
    arguments = ["--nets", "tiny", "--size", "16", "--repeats", "3", "--seconds", "0", "--threads", "1"]
    assert perturbed_cams.main([*arguments, "--out", str(out), "--table", str(shown)]) == 0
    results = json.loads(out.read_text())
    assert [row["method"] for row in results["rows"]] == ["scorecam", "ablationcam"]
    for row in results["rows"]:
        ours, theirs = (row["seconds"][name]["median"] for name in (contenders.OURS, contenders.PGC))
        assert ours > 0
        assert row["ratio"]["q25"] <= row["ratio"]["median"] <= row["ratio"]["q75"]
        assert row["difference"] < 1e-2  # a 16 x 16 input, scaled twice
        assert f"{theirs:.3g}" in capsys.readouterr().out + shown.read_text()
    assert perturbed_cams.page(results) in shown.read_text()
    assert "old" not in shown.read_text()


def test_the_table_of_the_repository_is_the_one_of_its_results() -> None:
    results = json.loads(perturbed_cams.RESULTS.read_text())
    assert perturbed_cams.page(results) in (speed.HERE / "README.md").read_text()
