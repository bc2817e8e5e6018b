"""Data batch by batch, users' pictures as batches, and what looks at a network write."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from attrib.core.network.streaming import batches, stream
from attrib.errors import InputError, LayerError, OutputError
from attrib.io import Stream, open_samples
from attrib.report.finding import Finding
from tests import nets, tiny

X = nets.batch(7, 10, 10)
LABELS = torch.arange(7) % 3

SOURCES: dict[str, Callable[[], Any]] = {
    "tensor": lambda: X,
    "data set": lambda: TensorDataset(X, LABELS),
    "loader": lambda: DataLoader(TensorDataset(X, LABELS), batch_size=3),
    "list of batches": lambda: [(X[:4], LABELS[:4]), (X[4:], LABELS[4:])],
    "generator": lambda: (x[None] for x in X),
}


@pytest.mark.parametrize("source", SOURCES)
def test_every_example_comes_once_in_order_with_its_position(source: str) -> None:
    read = list(batches(SOURCES[source](), batch_size=2))
    assert torch.equal(torch.cat([one.inputs for one in read]), X)
    assert torch.cat([one.index for one in read]).tolist() == list(range(7))
    if source in {"data set", "loader", "list of batches"}:
        assert torch.equal(torch.cat([one.labels for one in read if one.labels is not None]), LABELS)
    else:
        assert all(one.labels is None for one in read)


@given(st.integers(1, 9))
def test_what_layers_give_does_not_depend_on_the_batches(size: int) -> None:
    net = nets.make("module")
    read = list(stream(net, X, "conv1", "fc", batch_size=size))
    with torch.no_grad():
        torch.testing.assert_close(torch.cat([one.acts["conv1"] for one in read]), net.conv1(X))  # type: ignore[operator]
        torch.testing.assert_close(torch.cat([one.output for one in read]), net(X))
    assert max(len(one.batch) for one in read) == min(size, 7)


def test_the_model_is_as_it_was_whenever_the_caller_has_a_batch_in_hand() -> None:
    net = nets.make("module").train()
    random = torch.get_rng_state()
    for seen in stream(net, TensorDataset(X), "conv1", batch_size=3):
        assert net.training
        assert not seen.acts["conv1"].requires_grad
        assert not net.conv1._forward_hooks  # type: ignore[union-attr]
    assert torch.equal(torch.get_rng_state(), random)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (3, "data must be a Tensor .* or a DataLoader; got int"),
        ([], "at least one example; got none"),
        (iter(()), "at least one example; got none"),
        (["photo.png"], "each batch must be a Tensor .*; got str"),
        ([torch.zeros(3)], r"each batch must be a Tensor .*; got \(3,\)"),
        ([(X, LABELS[:2])], r"labels must be a Tensor \(7,\), one for each example; got \(2,\)"),
    ],
)
def test_what_is_no_data_is_refused(data: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        list(batches(data))


def test_sizes_and_layers_are_checked() -> None:
    with pytest.raises(InputError, match="batch_size must be"):
        list(batches(X, batch_size=0))
    with pytest.raises(LayerError, match="nowhere"):
        list(stream(nets.make("module"), X, "nowhere"))


class TestPictures:
    def test_names_are_numbered_as_the_model_does_where_it_knows_them_all(self) -> None:
        pictures = [(tiny.picture(0), "dog"), (tiny.picture(1), "ant")]
        known = Stream(open_samples(pictures), tiny.loaded())
        assert known.labels == (4, 0)
        other = Stream(open_samples([*pictures, (tiny.picture(2), "yak")]), tiny.loaded())
        assert (other.labels, other.classes) == ((1, 0, 2), ("ant", "dog", "yak"))

    def test_batches_are_what_the_model_would_be_given_and_can_be_read_again(self) -> None:
        net, pictures = tiny.loaded(), [tiny.picture(i) for i in range(5)]
        read = Stream(open_samples([(one, i) for i, one in enumerate(pictures)]), net, batch_size=2)
        for _ in range(2):
            inputs, labels = zip(*read, strict=True)
            assert torch.equal(torch.cat(inputs), net.inputs(pictures))
            assert torch.cat(labels).tolist() == [0, 1, 2, 3, 4]
        assert len(read) == 3

    def test_without_labels_there_are_inputs_only(self) -> None:
        read = Stream(open_samples({"a": tiny.picture()}), tiny.loaded())
        assert read.labels is None
        (batch,) = read
        assert isinstance(batch, Tensor)

    def test_numbers_and_names_do_not_mix(self) -> None:
        read = Stream(open_samples([(tiny.picture(), "dog"), (tiny.picture(1), 3)]), tiny.loaded())
        with pytest.raises(InputError, match="all numbers or all names"):
            _ = read.labels


@dataclass(frozen=True)
class Part:
    size: int
    name: str


@dataclass(frozen=True, eq=False)
class Found(Finding):
    scores: Tensor
    by_layer: dict[str, Tensor]
    frames: tuple[Any, ...]
    part: Part
    threshold: float
    network: nn.Module = field(metadata={"saved": False})

    def to_text(self, *, markdown: bool = False) -> str:
        return "| found |" if markdown else "found"

    def plot(self) -> Figure:
        return Figure(figsize=(1, 1))


def found() -> Found:
    frames = (torch.ones(2), np.zeros((1, 2)))
    return Found(
        torch.arange(3.0), {"a": torch.ones(1), "b": torch.zeros(2)}, frames, Part(2, "x"), float("nan"), nn.ReLU()
    )


class TestFinding:
    def test_arrays_become_files_and_the_rest_the_manifest(self, tmp_path: Path) -> None:
        folder = found().save(tmp_path / "run", figures=True)
        told = json.loads((folder / "manifest.json").read_text())
        assert set(told["arrays"]) == {"scores", "by_layer.a", "by_layer.b", "frames.0", "frames.1"}
        for label, one in told["arrays"].items():
            assert list(np.load(folder / one["file"]).shape) == one["shape"], label
        assert (told["kind"], told["part"], told["threshold"]) == ("Found", {"size": 2, "name": "x"}, None)
        assert "network" not in told
        with Image.open(folder / "figure.png") as figure:
            assert figure.size[0] > 0
        assert (folder / "found.md").read_text() == "| found |\n"

    def test_a_directory_that_is_taken_is_refused_and_nothing_is_half_written(self, tmp_path: Path) -> None:
        (tmp_path / "run").mkdir()
        (tmp_path / "run" / "mine").touch()
        with pytest.raises(OutputError, match="holds files"):
            found().save(tmp_path / "run")
        assert [path.name for path in tmp_path.iterdir()] == ["run"]

    def test_a_figure_that_cannot_be_drawn_leaves_nothing(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def broken(self: Found) -> Figure:
            raise RuntimeError("no ink")

        monkeypatch.setattr(Found, "plot", broken)
        with pytest.raises(RuntimeError, match="no ink"):
            found().save(tmp_path / "run", figures=True)
        assert list(tmp_path.iterdir()) == []
