"""Results: written whole or not at all, read back as they were, in JSON that any parser takes."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from attrib import compare, explain
from attrib.core import gaussian_blur
from attrib.errors import InputError, OutputError
from attrib.methods import Occlusion, Saliency
from attrib.metrics import Protocol
from attrib.report import Asked, Comparison, Explanation, Failure, Spent, load_explanation
from attrib.report.facts import described, method_facts, tensor_hash, versions
from attrib.report.store import file_names, new_directory, strict, to_json, write_array, write_text
from attrib.report.table import amount, text_table
from tests import nets


@pytest.fixture(scope="module")
def explanation() -> Explanation:
    return explain(
        nets.make("module"), nets.batch(3), ["saliency", "gradcam"], targets={"first": 0, "own": "predicted"}
    )


@pytest.fixture(scope="module")
def comparison() -> Comparison:
    return compare(nets.make("module"), nets.batch(6), ["saliency", "gradcam"], protocol=Protocol(steps=6))


def tree(folder: Path) -> dict[str, bytes]:
    """Every file below ``folder``, hidden ones too."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def refuse_constants(name: str) -> None:
    raise AssertionError(f"{name} is not JSON")


def work(place: Path, *, theirs: Path | None = None, error: BaseException | None = None) -> None:
    """Write a result, while somebody else writes too, until something fails."""
    with new_directory(place) as folder:
        (folder / "a").write_text("ours")
        if theirs is not None:
            theirs.parent.mkdir(exist_ok=True)
            theirs.write_text("theirs")
        if error is not None:
            raise error


class TestANewDirectory:
    def test_appears_only_when_everything_is_in_it(self, tmp_path: Path) -> None:
        with new_directory(tmp_path / "run") as folder:
            (folder / "a").write_text("1")
            assert not (tmp_path / "run").exists()
        assert tree(tmp_path) == {"run/a": b"1"}

    @pytest.mark.parametrize("error", [ValueError("broken"), KeyboardInterrupt()])
    def test_leaves_nothing_behind_when_the_work_fails(self, tmp_path: Path, error: BaseException) -> None:
        with pytest.raises(type(error)):
            work(tmp_path / "new" / "deep" / "run", error=error)
        assert list(tmp_path.iterdir()) == []

    def test_keeps_parents_into_which_someone_else_wrote_meanwhile(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match="broken"):
            work(tmp_path / "new" / "run", theirs=tmp_path / "new" / "theirs", error=ValueError("broken"))
        assert tree(tmp_path) == {"new/theirs": b"theirs"}

    def test_may_replace_an_empty_directory(self, tmp_path: Path) -> None:
        (tmp_path / "run").mkdir()
        with new_directory(tmp_path / "run") as folder:
            (folder / "a").write_text("1")
        assert tree(tmp_path) == {"run/a": b"1"}

    def test_refuses_a_directory_with_files_before_any_work(self, tmp_path: Path) -> None:
        (tmp_path / "old").write_text("1")
        with pytest.raises(OutputError, match=r"must be a new or empty directory; got '.*', which holds files"):
            new_directory(tmp_path).__enter__()
        assert tree(tmp_path) == {"old": b"1"}

    def test_refuses_a_file_and_a_link(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("1")
        (tmp_path / "link").symlink_to(tmp_path / "nowhere")
        for name in ("file", "link"):
            with pytest.raises(OutputError, match="which is a file or link"):
                new_directory(tmp_path / name).__enter__()

    def test_refuses_a_place_that_was_taken_while_it_worked(self, tmp_path: Path) -> None:
        with pytest.raises(OutputError, match="holds files"):
            work(tmp_path / "run", theirs=tmp_path / "run" / "a")
        assert tree(tmp_path) == {"run/a": b"theirs"}

    def test_says_why_it_cannot_be_made(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "file").write_text("1")
        with pytest.raises(OutputError, match=r"must be a directory that can be made; got '.*': not a directory"):
            new_directory(tmp_path / "file" / "run").__enter__()

        def refuse(self: Path, *args: Any, **kwargs: Any) -> None:
            raise PermissionError(13, "Permission denied", str(self))

        monkeypatch.setattr(Path, "mkdir", refuse)
        with pytest.raises(OutputError, match="permission denied"):
            new_directory(tmp_path / "run").__enter__()

    def test_says_that_it_may_not_be_looked_at(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(self: Path) -> None:
            raise PermissionError(13, "Permission denied", str(self))

        monkeypatch.setattr(Path, "is_symlink", refuse)
        with pytest.raises(OutputError, match=r"must be a directory that can be made; got '.*': permission denied"):
            new_directory(tmp_path / "closed" / "run").__enter__()

    def test_takes_the_usual_permissions(self, tmp_path: Path) -> None:
        (tmp_path / "usual").mkdir()
        with new_directory(tmp_path / "run"):
            pass
        assert (tmp_path / "run").stat().st_mode == (tmp_path / "usual").stat().st_mode

    def test_says_that_the_disk_is_full(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def full(*args: Any, **kwargs: Any) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(np, "save", full)
        with (
            pytest.raises(OutputError, match=r"'map.npy' must be writable; got no space left on device. Nothing was"),
            new_directory(tmp_path / "run") as folder,
        ):
            write_array(folder, "map.npy", torch.zeros(2))
        assert list(tmp_path.iterdir()) == []


class TestJson:
    def test_has_no_number_that_json_does_not_have(self) -> None:
        told = {"a": [float("nan"), float("inf"), 1.5], "b": (np.float32("nan"), np.int64(3))}
        assert json.loads(to_json(told), parse_constant=refuse_constants) == {"a": [None, None, 1.5], "b": [None, 3]}

    @given(st.recursive(st.none() | st.booleans() | st.floats() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))  # fmt: skip  # noqa: E501
    def test_gives_back_whatever_json_can_hold(self, value: Any) -> None:
        assert json.loads(to_json(value), parse_constant=refuse_constants) == strict(value)


class TestFileNames:
    @given(st.lists(st.text(), unique=True))
    def test_are_safe_and_different_for_different_labels(self, labels: list[str]) -> None:
        names = list(file_names(labels).values())
        assert len({name.lower() for name in names}) == len(labels)
        assert all(name.strip(".") and set(name) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._+-") for name in names)  # fmt: skip  # noqa: E501
        assert all(len(name) < 80 for name in names)

    def test_cannot_leave_the_directory(self) -> None:
        assert file_names(["../../etc/passwd", "/root"]) == {"../../etc/passwd": "etc_passwd", "/root": "root"}


class TestArrays:
    def test_are_hashed_as_sha256sum_does(self, tmp_path: Path) -> None:
        told = write_array(tmp_path, "maps/a.npy", torch.arange(6.0).reshape(2, 3))
        written = (tmp_path / "maps" / "a.npy").read_bytes()
        assert told == {
            "file": "maps/a.npy",
            "shape": [2, 3],
            "dtype": "float32",
            "sha256": hashlib.sha256(written).hexdigest(),
        }

    @pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
    def test_of_every_float_type_can_be_read_back(self, tmp_path: Path, dtype: torch.dtype) -> None:
        values = torch.tensor([0.5, -2.0, 3.0], dtype=dtype)
        write_array(tmp_path, "a.npy", values)
        assert np.load(tmp_path / "a.npy", allow_pickle=False).tolist() == values.tolist()

    def test_text_has_the_same_bytes_on_every_system(self, tmp_path: Path) -> None:
        write_text(tmp_path, "a.txt", "é\n")
        assert (tmp_path / "a.txt").read_bytes() == "é\n".encode()


class TestFacts:
    def test_versions_are_those_that_run(self) -> None:
        found = versions()
        assert found["torch"] == str(torch.__version__)
        assert found["numpy"] == np.__version__
        assert found["attrib"] == __import__("attrib").__version__

    def test_a_missing_package_is_told_as_missing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("attrib.report.facts._RAN_WITH", ("no-such-package",))
        assert versions()["no-such-package"] is None

    def test_options_are_told_without_memory_addresses(self) -> None:
        method = Occlusion(nets.make("module"), window=(3, 2), baseline=gaussian_blur)
        options = method_facts(method)["options"]
        assert options["window"] == [3, 2]
        assert options["baseline"] == "attrib.core.perturb.gaussian_blur"
        assert "model" not in options

    def test_every_kind_of_option_is_told_in_words_that_two_runs_agree_on(self) -> None:
        @dataclass(frozen=True)
        class Setting:
            steps: int

        class Odd:
            pass

        told = described(
            {
                "tensor": torch.zeros(2),
                "set": {"b", "a"},
                "partial": partial(gaussian_blur, size=3),
                "dtype": torch.bfloat16,
                "setting": Setting(3),
                "odd": Odd(),
                "net": nn.ReLU(),
                "number": np.float32(0.5),
            }
        )
        assert told == {
            "tensor": {"tensor": [2], "dtype": "torch.float32", "sha256": tensor_hash(torch.zeros(2))},
            "set": ["a", "b"],
            "partial": {"partial": "attrib.core.perturb.gaussian_blur", "args": [], "options": {"size": 3}},
            "dtype": "torch.bfloat16",
            "setting": {"type": Setting.__qualname__, "steps": 3},
            "odd": Odd.__qualname__,
            "net": "ReLU",
            "number": 0.5,
        }

    def test_tensors_differ_by_value_shape_and_dtype(self) -> None:
        zero = torch.zeros(4)
        others = [torch.ones(4), zero.reshape(2, 2), zero.double()]
        assert tensor_hash(zero) == tensor_hash(zero.clone())
        assert len({tensor_hash(zero), *map(tensor_hash, others)}) == 4


class TestTables:
    def test_numbers_stand_below_each_other(self) -> None:
        lines = text_table([{"a": "x", "n": "1"}, {"a": "long", "n": "22.5"}]).splitlines()
        assert lines == ["a        n", "x        1", "long  22.5"]

    def test_markdown_has_a_rule_that_aligns_numbers_to_the_right(self) -> None:
        lines = text_table([{"a": "x", "n": "1"}], markdown=True).splitlines()
        assert lines == ["| a | n |", "| - | -: |", "| x | 1 |"]

    def test_without_rows_there_is_no_table(self) -> None:
        assert not text_table([])

    @pytest.mark.parametrize(
        ("value", "words"),
        [
            (None, "-"),
            (math.nan, "-"),
            (0, "0"),
            (3.0, "3"),
            (0.00123456, "0.00123"),
            (123456.7, "123457"),
            (-0.5, "-0.5"),
        ],
    )
    def test_amounts_have_three_digits(self, value: float | None, words: str) -> None:
        assert amount(value) == words


class TestRecords:
    def test_what_was_asked_reads_as_a_caption(self) -> None:
        assert str(Asked("predicted", 281, "tabby", 9.0, 0.625)) == "tabby (281), p=0.62"
        assert str(Asked("layer4:7", None, "layer4:7", 0.12345, None)) == "layer4:7, score=0.123"

    def test_a_failure_says_where_and_why(self) -> None:
        assert str(Failure("a.jpg", "guided", None, "RuleError", "no ReLU")) == "a.jpg, guided: RuleError: no ReLU"
        assert str(Failure(None, "guided", "3", "RuleError", "no ReLU")) == "guided, target 3: RuleError: no ReLU"

    def test_costs_add_up_but_memory_is_the_highest_peak(self) -> None:
        total = Spent.total([Spent(1, 1, 0.5, 10), Spent(2, 0, 0.25, None), Spent(0, 0, 0.0, 7)])
        assert total == Spent(3, 1, 0.75, 10)
        assert Spent.total([Spent(1, 1, 0.5, None)]).peak_bytes is None

    def test_a_row_is_per_map_and_in_megabytes(self) -> None:
        assert Spent(6, 3, 1.5, 2_500_000).row(3) == {"forwards": 2, "backwards": 1, "seconds": 0.5, "memory_mb": 2.5}


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
        assert told["costs"]["saliency"]["forwards"] == 6
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
        assert (rows["saliency"]["forwards"], rows["saliency"]["backwards"], rows["saliency"]["map"]) == (1, 1, "8x6")
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
        assert told["metrics"]["deletion"] == {"higher_is_better": False}
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
