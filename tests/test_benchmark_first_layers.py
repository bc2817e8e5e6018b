"""The benchmark of first layers: its table is that of its results, and what the pages say of them is so."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest

from benchmarks import first_layers, speed

Pairs = dict[str, tuple[dict[str, Any], dict[str, Any]]]


@pytest.fixture
def pairs() -> Pairs:
    """By schedule, the published rows of the old and of the new first layer."""
    rows = json.loads(first_layers.RESULTS.read_text())["rows"]
    return {old["schedule"]: (old, new) for old, new in zip(rows[::2], rows[1::2], strict=True)}


def test_the_table_of_the_repository_is_that_of_its_results_and_of_all_schedules(pairs: Pairs) -> None:
    results = json.loads(first_layers.RESULTS.read_text())
    assert first_layers.page(results) in (speed.HERE / "README.md").read_text()
    assert list(pairs) == list(first_layers.SCHEDULES)
    assert results["settings"]["gallery"] == first_layers.GALLERY


def test_what_is_said_of_every_run_is_so_of_every_run(pairs: Pairs) -> None:
    for old, new in pairs.values():
        for key, sign in (("aliased", -1), ("moved", -1), ("dead", 1)):
            assert all(sign * (b - a) > 0 for a, b in zip(old[key], new[key], strict=True))


def test_what_is_said_of_means_and_of_long_training_is_so(pairs: Pairs) -> None:
    *learning, noise = pairs.values()
    assert all(fmean(new["finer"]) > fmean(old["finer"]) for old, new in learning)
    assert not all(b > a for old, new in learning for a, b in zip(old["finer"], new["finer"], strict=True))
    assert all(fmean(row["wrong"]) > 75 for row in noise)
    short = pairs["as in the gallery"]
    assert fmean(short[1]["wrong"]) > fmean(short[0]["wrong"]) > 10
    assert all(fmean(row["wrong"]) < 2 for name in ("3 times as long", "3 times the pictures") for row in pairs[name])


def test_the_gallery_trains_by_the_first_schedule() -> None:
    script = (speed.HERE.parent / "docs" / "gallery" / "alexnet_and_zfnet.py").read_text()
    told = first_layers.GALLERY
    assert f"textures({told['pictures']}, seed=0, contrast=0.4)" in script
    assert f"mul_({told['start']})" in script
    assert f"epochs={told['epochs']}, batch_size=32, rate=5e-4" in script
    assert told["rate"] == 5e-4


def test_a_short_run_writes_a_row_for_each_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(first_layers, "GALLERY", {"pictures": 40, "epochs": 1, "rate": 5e-4, "start": 0.03})
    out = tmp_path / "found.json"
    how = ["--schedules", "as in the gallery", "--seeds", "3", "--threads", "1", "--out", str(out)]
    assert first_layers.main(how) == 0
    results = json.loads(out.read_text())
    assert [row["layer 1"] for row in results["rows"]] == list(first_layers.ROWS)
    assert all(0 <= row["wrong"][0] <= 100 for row in results["rows"])
    assert "1 seed" in first_layers.page(results)
