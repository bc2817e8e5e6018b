"""The comparison of Score-CAM and Ablation-CAM asks both libraries the same, and prints what it measured."""

from __future__ import annotations

import pytest
import torch

from benchmarks import contenders, perturbed_cams

pytest.importorskip("pytorch_grad_cam")


def test_both_libraries_are_asked_the_same() -> None:
    task = contenders.task("tiny", 16, "cpu")
    numbers = {name: call() for name, call in perturbed_cams.calls(task, "ablationcam").items()}
    ours, theirs = numbers[contenders.OURS], numbers[contenders.PGC]
    assert contenders.difference("gradcam", contenders.PGC, ours, theirs) < 1e-3


def test_it_prints_a_row_for_each_method(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--nets", "tiny", "--size", "16", "--repeats", "3", "--seconds", "0", "--threads"]
    assert perturbed_cams.main([*arguments, str(torch.get_num_threads())]) == 0
    header, *rows = [line.split() for line in capsys.readouterr().out.splitlines() if "cam" in line]
    assert header[:2] == ["net", "method"]
    assert [row[:2] for row in rows] == [["tiny", "scorecam"], ["tiny", "ablationcam"]]
    assert all(float(row[2]) > 0 and float(row[4]) > 0 for row in rows)
