"""The benchmark of shared passes: what it times gives the numbers it says, and its ratios are strict JSON."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from attrib import Saliency
from benchmarks import contenders, sharing, speed


def test_what_is_divided_by_is_the_gradient_that_saliency_takes() -> None:
    task = contenders.task("tiny", 28, "cpu", target=0)
    expected = [Saliency(task.model, channels="none", absolute=False).attribute(task.x, i) for i in range(3)]
    assert torch.equal(sharing.raw(task, 3), torch.stack(expected))
    torch.testing.assert_close(sharing.raw(task, 3, batched=True), torch.stack(expected))
    assert all(weight.requires_grad and weight.grad is None for weight in task.model.parameters())


def test_the_table_of_the_repository_is_the_one_of_its_results() -> None:
    results = json.loads((speed.HERE / "results" / "sharing.json").read_text())
    assert sharing.table(results["rows"]) in (speed.HERE / "README.md").read_text()


def test_every_row_has_a_ratio_for_each_network(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "sharing.json"
    assert sharing.main(["--nets", "tiny", "--size", "28", "--threads", "1", "--repeats", "3", "--out", str(out)]) == 0
    rows = json.loads(out.read_text())["rows"]
    assert [row["work"] for row in rows] == [row[0] for row in sharing.ROWS]
    assert all(0 < row["q25"] <= row["median"] <= row["q75"] for row in rows)
    assert capsys.readouterr().out.count("|") == 5 * (len(rows) + 2)
