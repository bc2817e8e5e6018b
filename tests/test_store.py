"""What results are stored with: a directory that is whole or absent, strict JSON, facts, tables."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from attrib.core import gaussian_blur
from attrib.errors import OutputError
from attrib.methods import Occlusion
from attrib.report import Asked, Failure, Spent
from attrib.report.facts import described, method_facts, tensor_hash, versions
from attrib.report.store import file_names, new_directory, strict, to_json, write_array, write_text
from attrib.report.table import amount, text_table
from tests import nets
from tests.tiny import refuse_constants, tree


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
        assert options["baseline"] == "attrib.core.masking.baseline.gaussian_blur"
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
            "partial": {"partial": "attrib.core.masking.baseline.gaussian_blur", "args": [], "options": {"size": 3}},
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
