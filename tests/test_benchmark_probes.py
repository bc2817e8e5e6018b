"""The benchmark of probes: its tables are those of its results, and what the page says of them is so."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import probes, speed
from tests import data

Mean = Callable[..., float]


@pytest.fixture
def mean() -> Mean:
    """A mean accuracy of the published results."""
    rows = json.loads(probes.RESULTS.read_text())["rows"]

    def find(of: str, layer: str, size: str = "60/class", net: str = "trained", probe: str = "softmax") -> float:
        wanted = {"data": of, "layer": layer, "size": size, "net": net, "probe": probe}
        (row,) = (row for row in rows if wanted.items() <= row.items())
        return float(row["mean"])

    return find


def test_the_table_of_the_repository_is_that_of_its_results() -> None:
    results = json.loads(probes.RESULTS.read_text())
    assert probes.page(results) in (speed.HERE / "README.md").read_text()
    assert results["settings"]["threads"] == 1
    assert all(abs(row["shuffled"] - 0.1) < 0.05 for row in results["rows"])


def test_on_what_it_was_trained_on_accuracy_rises_to_the_top(mean: Mean) -> None:
    blocks = [layer for layer in probes.LAYERS if layer.startswith("layer")]
    means = [mean("cifar10", layer) for layer in blocks]
    assert means == sorted(means)
    assert mean("cifar10", "linear") > 0.98  # memory


def test_transfer_rises_to_the_last_stage_and_falls_after_it(mean: Mean) -> None:
    blocks = [layer for layer in probes.LAYERS if layer.startswith("layer")]
    means = [mean("mnist", layer) for layer in blocks]
    assert means[:5] == sorted(means[:5])
    assert means[5] < means[4]
    assert mean("mnist", "linear") < mean("mnist", "bn1")


@pytest.mark.parametrize("of", list(probes.DATA))
def test_untrained_layers_are_better_than_the_input_and_do_not_improve_with_depth(mean: Mean, of: str) -> None:
    untrained = [mean(of, layer, net="untrained") for layer in probes.LAYERS]
    assert max(untrained[2:6]) > untrained[0]
    assert untrained[-2] < max(untrained[2:6]) < mean(of, "layer3.0")


@pytest.mark.parametrize("of", list(probes.DATA))
def test_least_squares_is_worst_with_as_many_features_as_examples_and_ridge_mends_it(mean: Mean, of: str) -> None:
    for layer in ("layer3.0", "layer3.2"):
        few, equal, more = (mean(of, layer, f"{shots}/class", probe="least squares") for shots in (15, 30, 45))
        assert equal < min(few, more)
        assert mean(of, layer, "30/class", probe="least squares, ridge 1") > equal + 0.1


@data.needs_data
def test_a_small_run_has_a_row_for_each_layer_probe_size_and_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probes, "LAYERS", ("conv1@input", "layer1.0", "linear"))
    out, threads = tmp_path / "probes.json", torch.get_num_threads()
    how = ["--data", "mnist", "--shots", "1", "2", "--test", "4", "--repeats", "2", "--limit", "150", "--threads", "1"]
    assert probes.main([*how, "--out", str(out)]) == 0
    rows: list[dict[str, Any]] = json.loads(out.read_text())["rows"]
    assert len(rows) == len(probes.LAYERS) * len(probes.PROBES) * 2 * 2
    assert {row["layer"] for row in rows if row["net"] == "untrained"} == set(probes.LAYERS)
    pixels = {row["net"]: row["mean"] for row in rows if row["layer"] == "conv1@input"}
    assert pixels["trained"] == pixels["untrained"]
    assert torch.get_num_threads() == threads
