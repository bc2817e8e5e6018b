"""The table of known answers: it is the one of its results, and what it says can be computed again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from attrib.benchmark.synthetic import score, suite
from attrib.registry import CONTROLS
from benchmarks import speed, synthetic


@pytest.fixture(scope="module")
def results() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(synthetic.RESULTS.read_text())
    return found


def test_the_page_of_the_repository_is_the_one_of_its_results(results: dict[str, Any]) -> None:
    assert synthetic.page(results) in (speed.HERE / "README.md").read_text()


def test_the_true_map_is_at_the_top_and_what_is_published_of_it_was_proved(results: dict[str, Any]) -> None:
    rows = [row for row in results["rows"] if row["method"] == "the truth"]
    assert all(row["scores"][key]["mean"] == 1 for row in rows for key in ("auc", "energy"))
    assert all(row["evidence"]["accuracy"] > 0.95 > row["evidence"]["removed"] for row in rows)
    assert synthetic.table(results["rows"]).splitlines()[2].startswith("| the truth ")


def test_the_published_numbers_are_found_again(results: dict[str, Any]) -> None:
    how = results["settings"]
    problem = suite(how["seed"], n=how["n"], size=how["size"], names=["suppressor"])["suppressor"]
    published = {row["method"]: row.get("scores") for row in results["rows"] if row["problem"] == "suppressor"}
    for name in ("saliency", "input_x_gradient"):
        for metric, values in score(problem, name).items():
            assert published[name][metric]["mean"] == pytest.approx(float(values.mean()), abs=2e-3)


def test_a_method_that_cannot_answer_says_so_in_its_row(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "synthetic.json"
    given = ["--problems", "suppressor", "--methods", "cam", "saliency", "--n", "4", "--out", str(out)]
    assert synthetic.main(given) == 0
    rows = {row["method"]: row for row in json.loads(out.read_text())["rows"]}
    assert set(rows) == {"the truth", "a constant", "cam", "saliency", *(f"control: {name}" for name in CONTROLS)}
    assert "CAM" in rows["cam"]["refused"]
    assert (rows["saliency"]["forwards"], rows["saliency"]["backwards"]) == (1, 1)
    printed = capsys.readouterr().out
    assert "| cam " in printed
    assert "refuses" in printed


def test_a_map_without_energy_is_counted_not_averaged() -> None:
    found = synthetic.summary(torch.tensor([0.5, float("nan"), 0.7]))
    assert (found["mean"], found["undefined"]) == (0.6, 1)
    assert synthetic.summary(torch.full((2,), float("nan"))) == {
        "mean": None,
        "low": None,
        "high": None,
        "undefined": 2,
    }
