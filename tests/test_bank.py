"""Feature banks: right rows, whole parts, runs that go on, and nothing that is mixed up."""

from __future__ import annotations

import hashlib
import json
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from attrib.analysis import Bank, feature_bank, load_bank
from attrib.analysis.features import files as files_of
from attrib.core import count
from attrib.errors import InputError, LayerError, MissingDependency, ModelError, OutputError
from attrib.io import Preprocess
from tests import nets, transformers

X = nets.batch(10, 8, 6)
LABELS = torch.tensor([3, 1, 4, 1, 5, 9, 2, 6, 5, 3])
DATA = TensorDataset(X, LABELS)


def chain() -> nn.Module:
    return nets.make("module")


def act(model: nn.Module, name: str, x: Tensor) -> Tensor:
    """What a module gives, by a hook of our own."""
    seen: list[Tensor] = []
    hook = model.get_submodule(name).register_forward_hook(lambda _, __, out: seen.append(out.detach()))
    model(x)
    hook.remove()
    return seen[0]


def files(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def made(folder: Path | None, data: Any = DATA, model: nn.Module | None = None, **options: Any) -> Bank:
    options = {"part_size": 4, "batch_size": 2, "pool": "mean", **options}
    return feature_bank(chain() if model is None else model, data, "act1", "act2", directory=folder, **options)


class TestRows:
    def test_hold_what_the_layers_say_flattened_averaged_or_their_maximum(self) -> None:
        model = chain()
        seen = act(model, "act2", X)
        wanted = {"flatten": seen.flatten(1), "mean": seen.mean((2, 3)), "max": seen.amax((2, 3))}
        for pool, rows in wanted.items():
            bank = feature_bank(model, X, "act2", pool=pool, batch_size=4)  # type: ignore[arg-type]
            torch.testing.assert_close(bank.rows("act2"), rows)
            assert torch.equal(bank.rows("pixel"), X.flatten(1))

    def test_are_of_what_enters_the_last_linear_layer_unless_a_layer_is_named(self) -> None:
        model = chain()
        bank = feature_bank(model, X)
        assert bank.spaces == ("pixel", "fc@input")
        torch.testing.assert_close(bank.rows("fc@input"), act(model, "act2", X).mean((2, 3)))

    def test_of_tokens_are_reduced_over_the_patches_without_the_class_token(self) -> None:
        model = transformers.make(size=(12, 12))
        x = nets.batch(2, 12, 12)
        layer = next(name for name, part in model.named_modules() if isinstance(part, nn.LayerNorm))
        seen = act(model, layer, x)
        bank = feature_bank(model, x, layer, pool="mean", pixels=False)
        torch.testing.assert_close(bank.rows(layer), seen[:, -9:].mean(1) if seen.shape[1] == 10 else seen.mean(1))

    def test_are_picked_by_position_across_parts(self, tmp_path: Path) -> None:
        bank = made(tmp_path / "bank")
        assert len(bank.parts) == 3
        order = [9, 0, 4, 3, 4]
        assert torch.equal(bank.rows("pixel", order), X.flatten(1)[order])
        assert torch.equal(torch.cat([rows for _, rows in bank.blocks("act2", 3)]), bank.rows("act2"))
        assert [start for start, _ in bank.blocks("act2", 3)] == [0, 3, 4, 7, 8]

    def test_are_the_same_in_memory_and_on_disk_and_leave_the_model_alone(self, tmp_path: Path) -> None:
        model = chain().train()
        before = {name: value.clone() for name, value in model.state_dict().items()}
        state = torch.get_rng_state()
        memory, disk = made(None, model=model), made(tmp_path / "bank", model=model)
        for space in ("pixel", "act1", "act2"):
            assert torch.equal(memory.rows(space), disk.rows(space))
        assert memory.labels is not None
        assert torch.equal(memory.labels, LABELS)
        assert torch.equal(disk.labels, LABELS)  # type: ignore[arg-type]
        assert model.training
        assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
        assert torch.equal(torch.get_rng_state(), state)

    def test_keep_their_type(self, tmp_path: Path) -> None:
        bank = feature_bank(chain().double(), X.double(), "act1", directory=tmp_path / "bank")
        assert bank.rows("act1").dtype == torch.float64

    def test_are_all_that_is_held_of_pictures_that_are_not_kept(self) -> None:
        alive: list[weakref.ref[Tensor]] = []

        def data() -> Iterator[Tensor]:
            for _ in range(8):
                assert sum(one() is not None for one in alive) <= 2
                x = torch.rand(2, 3, 8, 6)
                alive.append(weakref.ref(x))
                yield x

        assert len(made(None, data(), pixels=False)) == 16


class TestPictures:
    def test_have_the_normalisation_taken_back(self) -> None:
        preprocess = Preprocess(8, 8, mean=(0.5, 0.4, 0.3), std=(0.2, 0.2, 0.1))
        pictures = torch.rand(3, 3, 8, 8, generator=torch.Generator().manual_seed(0))
        x = (pictures - torch.tensor(preprocess.mean).reshape(3, 1, 1)) / torch.tensor(preprocess.std).reshape(3, 1, 1)
        bank = feature_bank(chain(), x, preprocess=preprocess)
        torch.testing.assert_close(bank.pictures([2, 0]), pictures[[2, 0]])

    def test_are_stretched_where_it_is_not_known_and_absent_without_pixels(self) -> None:
        shown = feature_bank(chain(), X).pictures([1])
        assert shown is not None
        torch.testing.assert_close(shown[0], (X[1] - X[1].min()) / (X[1].max() - X[1].min()))
        assert feature_bank(chain(), X, pixels=False).pictures([1]) is None


class TestOnDisk:
    def test_an_index_in_parquet_says_which_row_is_which_picture(self, tmp_path: Path) -> None:
        made(tmp_path / "bank")
        table = pq.read_table(tmp_path / "bank" / "index").to_pydict()
        assert table["index"] == list(range(10))
        assert table["label"] == LABELS.tolist()
        assert table["part"][3:5] == ["part-00000.safetensors", "part-00001.safetensors"]
        assert table["row"] == [0, 1, 2, 3, 0, 1, 2, 3, 0, 1]

    def test_rows_are_mapped_from_their_files_not_read(self, tmp_path: Path) -> None:
        bank = made(tmp_path / "bank")
        maps = Path("/proc/self/maps")
        if not maps.exists():
            pytest.skip("only Linux tells which files are mapped")
        assert str(tmp_path / "bank" / "part-00001.safetensors") in maps.read_text()
        assert len(bank) == 10

    def test_a_finished_bank_can_be_loaded_and_is_bound_to_its_model(self, tmp_path: Path) -> None:
        made(tmp_path / "bank", names=[str(i) * 2 for i in range(10)])
        bank = load_bank(tmp_path / "bank", chain(), verify=True)
        assert (bank.name(3), bank.name(77)) == ("33", "class 77")
        other = nets.fill(nets.Chain(nn.ReLU(), nn.ReLU()), seed=1)
        with pytest.raises(InputError, match="model must be the one that made the bank, sha256"):
            load_bank(tmp_path / "bank", other)

    def test_the_same_call_again_runs_nothing_and_changes_nothing(self, tmp_path: Path) -> None:
        made(tmp_path / "bank")
        before = files(tmp_path / "bank")
        with count() as cost:
            made(tmp_path / "bank")
        assert cost.forwards == 0
        assert files(tmp_path / "bank") == before

    def test_data_without_labels_have_none(self, tmp_path: Path) -> None:
        assert made(tmp_path / "bank", X).labels is None
        assert made(None, X).labels is None


def full_disk(after: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Writing fails, as on a full disk, after so many files."""
    whole, written = files_of._put, []

    def put(path: Path, content: bytes) -> None:
        if len(written) == after:
            path.with_name(f".{path.name}.partial").write_bytes(content[:10])
            raise OSError(28, "No space left on device")
        written.append(path)
        whole(path, content)

    monkeypatch.setattr(files_of, "_put", put)


class TestInterrupted:
    @pytest.mark.parametrize("after", range(8))
    def test_what_was_written_is_kept_and_the_same_call_goes_on(
        self, after: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        made(tmp_path / "whole")
        with monkeypatch.context() as patch:
            full_disk(after, patch)
            with pytest.raises(OutputError, match=r"no space left on device. \d+ pictures are kept there: the same"):
                made(tmp_path / "bank")
        kept = sum(1 for _ in (tmp_path / "bank" / "index").glob("part-*.parquet"))
        assert kept == max(0, (after - 1) // 2)  # the manifest, then two files a part
        if after > 0:
            with pytest.raises(InputError, match=r"must be finished\. The call that began it goes on"):
                load_bank(tmp_path / "bank")
        with count() as cost:
            made(tmp_path / "bank")
        assert cost.forwards == 10 - min(10, 4 * kept)
        left = {name: digest for name, digest in files(tmp_path / "bank").items() if not name.endswith(".partial")}
        assert left == files(tmp_path / "whole")

    def test_parts_are_compared_whatever_the_batches(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        with monkeypatch.context() as patch:
            full_disk(3, patch)
            with pytest.raises(OutputError):
                made(tmp_path / "bank")
        bank = made(tmp_path / "bank", DataLoader(DATA, batch_size=3))
        torch.testing.assert_close(bank.rows("act2"), made(None).rows("act2"))

    def test_a_failing_write_leaves_no_half_file(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(files_of.os, "fsync", lambda _: (_ for _ in ()).throw(OSError(5, "Input/output error")))
        with pytest.raises(OutputError, match="input/output error"):
            made(tmp_path / "bank")
        assert files(tmp_path / "bank") == {}

    @pytest.mark.parametrize(
        ("changed", "says"),
        [
            ({"data": TensorDataset(X + 1, LABELS)}, "begun with, in the same order; got other pictures or labels"),
            ({"data": TensorDataset(X, LABELS + 1)}, "got other pictures or labels"),
            ({"data": TensorDataset(X[:5], LABELS[:5])}, "10 pictures; got fewer"),
            ({"data": TensorDataset(torch.cat([X, X]), torch.cat([LABELS, LABELS]))}, "10 pictures; got more"),
            ({"pool": "max"}, "pool must be that of the bank in .*, 'mean'; got 'max'. Choose another directory"),
            ({"model": nets.fill(nets.Chain(nn.ReLU(), nn.ReLU()), seed=1)}, "sha256 must be that of the bank"),
            ({"pixels": False}, r"spaces must be that of the bank .*; got \['act1', 'act2'\]"),
            ({"preprocess": Preprocess(8, 8)}, "preprocess must be that of the bank"),
        ],
    )
    def test_another_question_is_refused_and_harms_nothing(
        self, changed: dict[str, Any], says: str, tmp_path: Path
    ) -> None:
        made(tmp_path / "bank")
        before = files(tmp_path / "bank")
        with pytest.raises(InputError, match=says):
            made(tmp_path / "bank", **changed)
        assert files(tmp_path / "bank") == before


class TestDamage:
    def test_is_told(self, tmp_path: Path) -> None:
        made(tmp_path / "bank")
        part = tmp_path / "bank" / "part-00001.safetensors"
        content = part.read_bytes()
        part.write_bytes(content[:-4])
        with pytest.raises(OutputError, match=r"part-00001\.safetensors' must be a part .* missing or damaged"):
            load_bank(tmp_path / "bank")
        part.write_bytes(content[:-4] + b"\0\0\0\1")
        load_bank(tmp_path / "bank")  # only reading everything can tell
        with pytest.raises(OutputError, match="must be the part that its index tells of; it is damaged"):
            load_bank(tmp_path / "bank", verify=True)
        part.unlink()
        with pytest.raises(OutputError, match="missing or damaged"):
            load_bank(tmp_path / "bank")

    def test_of_the_index_and_the_manifest_is_told(self, tmp_path: Path) -> None:
        made(tmp_path / "bank")
        (tmp_path / "bank" / "index" / "part-00000.parquet").write_bytes(b"PAR1 no more")
        with pytest.raises(OutputError, match="must be an index of a feature bank; it is damaged"):
            load_bank(tmp_path / "bank")
        (tmp_path / "bank" / "bank.json").write_text("{")
        with pytest.raises(OutputError, match="must be JSON; it is damaged"):
            load_bank(tmp_path / "bank")
        (tmp_path / "bank" / "bank.json").write_text(json.dumps({"schema": 1, "kind": "Explanation"}))
        with pytest.raises(InputError, match="must be a feature bank of schema 1"):
            load_bank(tmp_path / "bank")

    def test_a_folder_of_other_things_is_left_alone(self, tmp_path: Path) -> None:
        (tmp_path / "thesis.tex").write_text("years of work")
        with pytest.raises(OutputError, match="directory must be new, empty or a feature bank"):
            made(tmp_path)
        with pytest.raises(InputError, match=r"without bank\.json"):
            load_bank(tmp_path)


class TestRefuses:
    def test_data_that_hold_nothing(self) -> None:
        with pytest.raises(InputError, match="data must hold at least one example"):
            feature_bank(chain(), [])

    def test_values_that_are_not_finite(self) -> None:
        model = chain()
        model.get_parameter("conv2.weight").data[0] = torch.nan
        with pytest.raises(ModelError, match="layer 'act2' must give finite values"):
            made(None, model=model)

    def test_a_model_without_linear_layer_where_none_is_named(self) -> None:
        with pytest.raises(LayerError, match="no linear layer whose input could be the features"):
            feature_bank(nn.Sequential(nn.Conv2d(3, 2, 1)), X)

    def test_pooling_where_there_are_no_known_locations(self) -> None:
        with pytest.raises(LayerError, match=r"or have locations; got \(2, 4, 12\)\. Pass pool='flatten'"):
            feature_bank(nn.Sequential(nn.Conv2d(3, 4, 1), nn.Flatten(2)), nets.batch(2, 3, 4), "1", pool="mean")

    def test_pictures_of_several_sizes(self) -> None:
        with pytest.raises(InputError, match="all pictures must give features of one shape"):
            feature_bank(chain(), [nets.batch(1, 8, 6), nets.batch(1, 6, 8)], "act1")

    def test_labels_of_some_only(self) -> None:
        with pytest.raises(InputError, match="all batches must have labels, or none"):
            feature_bank(chain(), [(X[:2], LABELS[:2]), X[2:]], "act1")

    @pytest.mark.parametrize(
        ("options", "says"),
        [({"pool": "sum"}, "pool must be one of"), ({"part_size": 0}, "part_size must be an integer >= 1")],
    )
    def test_options_that_mean_nothing(self, options: dict[str, Any], says: str) -> None:
        with pytest.raises(InputError, match=says):
            made(None, **options)

    def test_positions_that_are_not_there(self) -> None:
        bank = made(None)
        with pytest.raises(InputError, match=r"index must lie in \[0, 9\]; got -1"):
            bank.rows("pixel", [10, -1])
        with pytest.raises(InputError, match="index must hold positions"):
            bank.rows("pixel", torch.tensor([0.5]))
        with pytest.raises(InputError, match="space must be one of 'pixel', 'act1', 'act2'; got 'act3'"):
            bank.space("act3")

    def test_disks_without_the_packages_that_write(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(__import__("sys").modules, "safetensors", None)
        with pytest.raises(MissingDependency, match=r"feature bank on disk needs safetensors: .*attrib\[analysis\]"):
            made(tmp_path / "bank")
        assert len(made(None)) == 10


def test_features_of_any_batches_are_the_same_rows() -> None:
    whole = made(None, batch_size=10)
    torch.testing.assert_close(made(None, iter([X[:7], X[7:]])).rows("act2"), whole.rows("act2"))
    assert np.isfinite(whole.rows("act1").numpy()).all()
