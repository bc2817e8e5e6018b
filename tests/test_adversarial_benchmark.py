"""The published table of attacks: it is the one of its results, and the command that made it runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import adversarial, speed
from tests import data


@pytest.fixture(scope="module")
def results() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(adversarial.RESULTS.read_text())
    return found


def test_the_page_of_the_repository_is_the_one_of_its_results(results: dict[str, Any]) -> None:
    assert adversarial.page(results) in (speed.HERE / "README.md").read_text()


def test_a_larger_radius_fools_more_and_more_than_the_control(results: dict[str, Any]) -> None:
    for row in results["rows"]:
        for name in adversarial.ATTACKS:
            shares = [one["fooled"]["mean"] for one in row["attacks"] if one["attack"] == name]
            assert shares == sorted(shares)
        assert all(one["fooled"]["mean"] > one["control"]["mean"] for one in row["attacks"])


def test_what_is_not_defined_is_counted_and_not_averaged() -> None:
    found = adversarial.mean(torch.tensor([0.5, float("nan"), 0.7]))
    assert (found["mean"], found["n"], found["undefined"]) == (0.6, 2, 1)
    assert adversarial.mean(torch.full((2,), float("nan")))["mean"] is None


@data.needs_data
def test_the_command_writes_strict_json_and_prints_the_tables(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "found.json"
    given = ["--nets", "mobilenet_v1_025_128", "--methods", "saliency", "--n", "2", "--out", str(out)]
    before = torch.get_num_threads()
    assert adversarial.main(given) == 0
    assert torch.get_num_threads() == before
    row = json.loads(out.read_text())["rows"][0]
    assert row["pictures"] == 6
    assert row["right before"] >= 4  # the demo photos, at least: their labels are what the network says
    assert [one["perturbation"] for one in row["maps"]] == ["attack", "control"]
    assert "| PGD, L2 |" in capsys.readouterr().out
