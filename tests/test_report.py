"""Results: read back as they were, in JSON that any parser takes, with all that is needed to get them again."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from attrib import compare, explain
from attrib.errors import InputError, OutputError
from attrib.methods import Saliency
from attrib.metrics import Protocol
from attrib.report import Comparison, Explanation, load_explanation
from attrib.report.facts import tensor_hash
from attrib.report.store import to_json
from tests import nets
from tests.tiny import refuse_constants, tree


@pytest.fixture(scope="module")
def explanation() -> Explanation:
    return explain(
        nets.make("module"), nets.batch(3), ["saliency", "gradcam"], targets={"first": 0, "own": "predicted"}
    )


@pytest.fixture(scope="module")
def comparison() -> Comparison:
    return compare(nets.make("module"), nets.batch(6), ["saliency", "gradcam"], protocol=Protocol(steps=6))


class TestAnExplanation:
    def test_saved_twice_has_the_same_maps_to_the_bit(self, explanation: Explanation, tmp_path: Path) -> None:
        again = explain(nets.make("module"), nets.batch(3), ["saliency", "gradcam"], targets={"first": 0, "own": "predicted"})  # fmt: skip  # noqa: E501
        one, other = tree(explanation.save(tmp_path / "a")), tree(again.save(tmp_path / "b"))
        assert set(one) == set(other)
        assert {name for name in one if one[name] != other[name]} <= {"manifest.json"}  # which holds seconds

    def test_read_back_is_what_was_saved(self, explanation: Explanation, tmp_path: Path) -> None:
        found = load_explanation(explanation.save(tmp_path / "run"))
        for method, maps in explanation.maps.items():
            for target, values in maps.items():
                assert torch.equal(found.maps[method][target], values)
        assert torch.equal(found.inputs, explanation.inputs)
        assert found.asked == explanation.asked
        assert (found.layers, found.costs, found.failures) == (explanation.layers, explanation.costs, ())
        assert found.total == explanation.total
        assert to_json(found.manifest) == to_json(explanation.manifest)

    def test_reading_notices_a_changed_map(self, explanation: Explanation, tmp_path: Path) -> None:
        folder = explanation.save(tmp_path / "run")
        np.save(folder / "maps" / "saliency" / "first.npy", np.zeros((3, 1, 8, 6), np.float32))
        with pytest.raises(OutputError, match=r"'maps/saliency/first.npy' must have the sha256 \w+ of the manifest"):
            load_explanation(folder)

    def test_reading_notices_a_missing_map(self, explanation: Explanation, tmp_path: Path) -> None:
        folder = explanation.save(tmp_path / "run")
        (folder / "inputs.npy").unlink()
        with pytest.raises(OutputError, match=r"'inputs.npy' must be in .*; got No such file"):
            load_explanation(folder)

    def test_reading_refuses_what_is_none(self, comparison: Comparison, tmp_path: Path) -> None:
        with pytest.raises(OutputError, match=r"must hold a manifest\.json of attrib; got FileNotFoundError"):
            load_explanation(tmp_path)
        with pytest.raises(OutputError, match="must hold an explanation of schema 1; got comparison of 1"):
            load_explanation(comparison.save(tmp_path / "run"))

    def test_manifest_says_all_that_is_needed_to_get_it_again(self, explanation: Explanation, tmp_path: Path) -> None:
        folder = explanation.save(tmp_path / "run")
        told = json.loads((folder / "manifest.json").read_text(), parse_constant=refuse_constants)
        assert told["schema"] == 1
        assert set(told["versions"]) >= {"attrib", "torch", "captum", "numpy", "python"}
        assert len(told["model"]["sha256"]) == 64
        assert (told["device"], told["dtype"], told["batch_size"]) == ("cpu", "float32", 8)
        assert told["methods"]["gradcam"]["layer"] == explanation.layers["gradcam"] != "auto"
        assert told["methods"]["saliency"]["options"] == {"channels": "max", "absolute": True}
        assert [row["index"] for row in told["targets"]["first"]] == [0, 0, 0]
        assert told["costs"]["saliency"]["forwards"] == 3
        for files in told["maps"].values():
            for file in files.values():
                assert hashlib.sha256((folder / file["file"]).read_bytes()).hexdigest() == file["sha256"]

    def test_pictures_are_drawn_only_if_asked(self, explanation: Explanation, tmp_path: Path) -> None:
        assert not [name for name in tree(explanation.save(tmp_path / "a")) if name.endswith(".png")]

    def test_is_not_written_over_another(self, explanation: Explanation, tmp_path: Path) -> None:
        explanation.save(tmp_path / "run")
        before = tree(tmp_path)
        with pytest.raises(OutputError, match="must be a new or empty directory"):
            explanation.save(tmp_path / "run")
        assert tree(tmp_path) == before

    def test_table_has_what_one_map_took(self, explanation: Explanation) -> None:
        rows = {row["method"]: row for row in explanation.table()}
        assert (rows["saliency"]["forwards"], rows["saliency"]["backwards"], rows["saliency"]["map"]) == (0.5, 1, "8x6")
        assert (rows["gradcam"]["layer"], rows["gradcam"]["map"]) == (explanation.layers["gradcam"], "4x3")

    def test_text_names_every_target_of_every_image(self, explanation: Explanation) -> None:
        text = explanation.to_text()
        assert "example 2: class 0 (0), p=" in text
        assert text.count("[own]") == 3
        assert "failed" not in text
        assert explanation.to_text(markdown=True).count("|") > 10

    def test_images_are_found_by_name_and_position(self, explanation: Explanation) -> None:
        assert [explanation.index("example 1"), explanation.index(2), explanation.index(-1)] == [1, 2, 2]
        for wrong in ("exmple 1", 3, -4):
            with pytest.raises(InputError, match=r"image must be one of 'example 0'.*; got "):
                explanation.index(wrong)

    def test_is_drawn_with_a_picture_where_only_tensors_were_given(self, explanation: Explanation) -> None:
        titles = [ax.get_title() for ax in explanation.plot(0, picture=torch.rand(3, 8, 6)).axes]
        assert {"input", "saliency", "gradcam"} <= set(titles)


class TestAComparison:
    def test_is_strict_json_even_where_numbers_are_undefined(self, comparison: Comparison, tmp_path: Path) -> None:
        lost = replace(comparison, scores={row: {m: v * math.nan for m, v in many.items()} for row, many in comparison.scores.items()})  # fmt: skip  # noqa: E501
        folder = lost.save(tmp_path / "run")
        for name in ("manifest.json", "scores.json"):
            told = json.loads((folder / name).read_text(), parse_constant=refuse_constants)
        assert told["scores"]["saliency"]["srg"] == [None] * 6
        assert "-" in lost.to_text()

    def test_keeps_the_scores_of_every_image_with_the_whole_curves(
        self, comparison: Comparison, tmp_path: Path
    ) -> None:
        folder = comparison.save(tmp_path / "run")
        told = json.loads((folder / "manifest.json").read_text())
        scores = json.loads((folder / "scores.json").read_text())["scores"]
        for row in comparison.rows:
            file = told["curves"]["rows"][row]
            values = np.load(folder / file["file"], allow_pickle=False)
            fraction, score = values[:, file["names"].index("deletion")].swapaxes(0, 1)
            area = ((score[:, 1:] + score[:, :-1]) / 2 * np.diff(fraction)).sum(1)
            np.testing.assert_allclose(area, scores[row]["deletion"], atol=1e-12)

    def test_manifest_states_protocol_seed_directions_and_inputs(self, comparison: Comparison) -> None:
        told = comparison.manifest
        assert Protocol.from_dict({k: v for k, v in told["protocol"].items() if k != "words"}) == comparison.protocol
        assert told["seed"] == 0
        assert told["metrics"]["deletion"] == {"higher_is_better": False, "descriptor": False}
        assert told["inputs"]["example 3"] == tensor_hash(nets.batch(6)[3:4])

    def test_maps_on_disk_are_those_of_each_image(self, comparison: Comparison, tmp_path: Path) -> None:
        folder = comparison.save(tmp_path / "run")
        ours = Saliency(nets.make("module")).attribute(nets.batch(6), "predicted")
        stored = np.load(folder / "maps" / "example_4" / "saliency.npy")
        torch.testing.assert_close(torch.from_numpy(stored), ours[4:5])

    def test_text_states_the_protocol_the_number_of_images_and_the_directions(self, comparison: Comparison) -> None:
        text = comparison.to_text()
        assert f"protocol: {comparison.protocol}" in text
        assert "n=6" in text
        assert "deletion (lower)" in text
        assert "srg (higher)" in text
        assert text.count("(control)") == 3

    def test_curves_are_drawn_for_every_row(self, comparison: Comparison) -> None:
        figure = comparison.plot_curves(["deletion", "lerf"])
        assert len(figure.axes) == 2
        assert all(len(ax.lines) == len(comparison.rows) for ax in figure.axes)

    def test_figures_and_table_are_written_if_asked(self, comparison: Comparison, tmp_path: Path) -> None:
        written = tree(comparison.save(tmp_path / "run", figures=True))
        assert written["figures/curves.png"].startswith(b"\x89PNG")
        assert comparison.to_text(markdown=True) in written["table.md"].decode()

    def test_best_follows_the_direction_of_the_metric(self, comparison: Comparison) -> None:
        means = {m: comparison.intervals[m] for m in comparison.methods}
        assert comparison.best("srg") == max(means, key=lambda m: means[m]["srg"].mean)
        assert comparison.best("deletion") == min(means, key=lambda m: means[m]["deletion"].mean)
