"""The published tables of made images: those of their results, and the command that made them runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import speed, synthesis, synthesis_table
from tests import data


@pytest.fixture(scope="module")
def results() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(synthesis.RESULTS.read_text())
    return found


def test_the_page_of_the_repository_is_the_one_of_its_results(results: dict[str, Any]) -> None:
    assert synthesis.page(results) in (speed.HERE / "README.md").read_text()


def test_the_error_of_every_inversion_falls_with_its_steps(results: dict[str, Any]) -> None:
    assert results["inversion"]
    assert all(row["error"][-1] < row["error"][0] for row in results["inversion"])


def test_every_octave_of_every_dream_raised_its_objective(results: dict[str, Any]) -> None:
    pairs = [pair for row in results["dream"] for pair in zip(row["before"], row["after"], strict=True)]
    assert pairs
    assert all(after > before for before, after in pairs)


def test_other_networks_recognise_natural_images_more_often_than_by_chance(results: dict[str, Any]) -> None:
    ranks = [one["rank"] for row in results["ascent"] if row["recipe"] == "natural" for one in row["others"].values()]
    assert sum(rank <= synthesis_table.TOP for rank in ranks) / len(ranks) > 10 * synthesis_table.TOP / 1000


def test_the_rank_counts_the_classes_above() -> None:
    said = synthesis.opinion(torch.tensor([0.5, 2.0, 1.0, 3.0]), 2)
    assert said["rank"] == 3
    assert said["probability"] == pytest.approx(float(torch.tensor([0.5, 2.0, 1.0, 3.0]).softmax(0)[2]), abs=1e-4)


def test_where_we_are_slower_than_lucent_is_bold() -> None:
    def one(ratio: float) -> dict[str, Any]:
        return {"steps_per_second": 3.0, "ratio": {"median": ratio, "q25": ratio, "q75": ratio}}

    contenders = {"attrib natural": one(1.0), "bare passes": one(0.5), "lucent": one(0.8), "lucent at 224": one(1.5)}
    shown = synthesis_table.speed([{"net": "n", "unit": "class", "contenders": contenders}])
    assert [("**" in line) for line in shown.splitlines()[2:]] == [False, False, True, False]


@data.needs_data
def test_it_runs_and_writes_all_tables(tmp_path: Path) -> None:
    out, shown = tmp_path / "synthesis.json", tmp_path / "page.md"
    shown.write_text(f"before\n{synthesis_table.BEGIN}\nold\n{synthesis_table.END}\nafter\n")
    small = ["--classes", "2", "--photos", "1", "--steps", "2", "--steps-back", "0", "--octaves", "1"]
    arguments = ["--nets", "mobilenet_v1_025_128", *small, "--threads", "1", "--out", str(out), "--table", str(shown)]
    assert synthesis.main(arguments) == 0
    found = json.loads(out.read_text())
    assert synthesis.page(found) in shown.read_text()
    assert len(found["ascent"]) == 2 * len(synthesis.RECIPES)
    assert [row["layer"] for row in found["inversion"]] == list(synthesis.SERIES["mobilenet_v1_025_128"])
