"""Nearest neighbours: the right ones at the right distance, in both engines, and never the query itself."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from attrib.analysis import Bank, Neighbours, feature_bank, nearest
from attrib.analysis.features import search
from attrib.errors import InputError, MissingDependency
from tests import data, nets, realnets
from tests.oracles import neighbours as oracle

ENGINES = ["torch", pytest.param("faiss", marks=pytest.mark.skipif(not find_spec("faiss"), reason="no faiss"))]


def bank_of(rows: Tensor, labels: Tensor | None = None, **more: Tensor) -> Bank:
    about = {"sha256": "a", "pool": "mean", "preprocess": None, "mean": None, "std": None, "names": None}
    spaces = {"rows": rows, **more}
    shapes = {name: list(value.shape[1:]) for name, value in spaces.items()}
    return Bank((spaces,), labels, {**about, "shapes": shapes})


def drawn(count: int, width: int, seed: int = 0, dtype: Any = torch.float32) -> Tensor:
    source = torch.Generator().manual_seed(seed)
    return torch.randn(count, width, generator=source, dtype=torch.float64).to(dtype)


LINE = torch.tensor([[0.0], [1.0], [3.0], [7.0], [7.0]])


def test_neighbours_on_a_line_are_those_that_one_would_point_at() -> None:
    found = nearest([0, 2, 3], bank_of(LINE), k=2)
    assert found.index["rows"].tolist() == [[1, 2], [1, 0], [4, 2]]
    assert found.distance["rows"].tolist() == [[1, 3], [2, 3], [0, 4]]  # a copy is a neighbour at distance 0


def test_a_query_is_not_its_own_neighbour_but_that_of_another_bank_may_be() -> None:
    bank = bank_of(LINE)
    every = nearest(None, bank, k=4)
    assert all(i not in row for i, row in enumerate(every.index["rows"].tolist()))
    other = nearest(bank_of(LINE.clone()), bank, k=1)
    assert other.index["rows"].flatten().tolist() == [0, 1, 2, 3, 3]  # of equals the first
    assert other.distance["rows"].abs().max() == 0


def test_the_cosine_sees_directions_only() -> None:
    rows = torch.tensor([[1.0, 0], [5, 0], [0, 2], [-1, 0], [1, 1]])
    found = nearest([0], bank_of(rows), k=4, metric="cosine")
    assert found.index["rows"].tolist() == [[1, 4, 2, 3]]
    torch.testing.assert_close(found.distance["rows"][0], torch.tensor([0, 1 - 0.5**0.5, 1, 2]))


def test_rows_of_zeros_have_no_direction() -> None:
    rows = torch.tensor([[1.0, 0], [0, 0], [0, 1], [-1, 0]])
    found = nearest([0], bank_of(rows), k=2, metric="cosine")
    assert found.index["rows"].tolist() == [[2, 3]]
    assert found.left_out == {"rows": 1}
    assert "1 rows of rows are zero and left out" in found.to_text()
    with pytest.raises(InputError, match=r"query 1 is all zeros in 'rows'\. Use metric='l2'"):
        nearest([0, 1], bank_of(rows), k=2, metric="cosine")
    with pytest.raises(InputError, match="at most the rows of 'rows' that are not zero; 1 are"):
        nearest([0], bank_of(rows), k=3, metric="cosine")


def test_directions_do_not_depend_on_how_small_or_large_the_values_are() -> None:
    rows = drawn(30, 4)
    plain = nearest(None, bank_of(rows), metric="cosine")
    for factor in (1e-30, 1e30):
        scaled = nearest(None, bank_of(rows * factor), metric="cosine")
        assert torch.equal(scaled.index["rows"], plain.index["rows"])


@pytest.mark.parametrize("engine", ENGINES)
@settings(max_examples=25, deadline=None)
@given(
    count=st.integers(2, 70),
    width=st.integers(2, 5),
    k=st.integers(1, 8),
    metric=st.sampled_from(["l2", "cosine"]),
    seed=st.integers(0, 99),
    copies=st.booleans(),
)
def test_both_engines_find_what_the_oracle_finds(
    engine: Any, count: int, width: int, k: int, metric: Any, seed: int, copies: bool
) -> None:
    rows = drawn(count, width, seed, torch.float64)
    if copies:
        rows = rows[torch.arange(count) % max(1, count // 2)]
    k = min(k, count - 1)
    bank = Bank(tuple({"rows": part} for part in rows.split(17)), None, bank_of(rows).about)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(search, "SPARE", 2)
        patch.setattr(search, "BLOCK", 13)
        found = nearest(None, bank, k, metric=metric, engine=engine)
    for i, row in enumerate(rows.tolist()):
        expected = oracle.nearest(row, rows.tolist(), k, metric, i)
        distance = torch.tensor([value for _, value in expected], dtype=torch.float64)
        torch.testing.assert_close(found.distance["rows"][i], distance, atol=1e-7, rtol=1e-7)
        if not copies:
            assert found.index["rows"][i].tolist() == [j for j, _ in expected]


@pytest.mark.parametrize("engine", ENGINES)
def test_neighbours_far_from_the_origin_are_told_apart_where_products_of_matrices_cannot(engine: Any) -> None:
    rows = (drawn(400, 8, dtype=torch.float64) * 1e-3 + 1000).float()
    wanted = torch.cdist(rows.double(), rows.double(), compute_mode="donot_use_mm_for_euclid_dist")
    wanted.fill_diagonal_(torch.inf)
    found = nearest(None, bank_of(rows), k=5, engine=engine)
    torch.testing.assert_close(found.distance["rows"].double(), wanted.sort(1).values[:, :5], rtol=1e-4, atol=0)


@pytest.mark.parametrize("engine", ENGINES)
def test_engines_agree_to_the_bit_and_blocks_do_not_matter(engine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = drawn(300, 16)[torch.arange(300) % 200]  # with copies
    whole = nearest(None, bank_of(rows), k=6)
    monkeypatch.setattr(search, "BLOCK", 64)
    parts = nearest(None, bank_of(rows), k=6, engine=engine)
    assert torch.equal(whole.index["rows"], parts.index["rows"])
    assert torch.equal(whole.distance["rows"], parts.distance["rows"])


def test_faiss_is_asked_for_by_name_or_where_the_bank_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "faiss", None)
    assert len(nearest([0], bank_of(LINE), k=1).index["rows"]) == 1
    with pytest.raises(MissingDependency, match=r"needs faiss: pip install 'attrib\[large\]'"):
        nearest([0], bank_of(LINE), k=1, engine="faiss")


class TestSideBySide:
    def found(self) -> Neighbours:
        # by rows the neighbours of 0 are 1, 2; by others 2, 3. Labels: 0 and 2 are alike
        others = torch.tensor([[0.0], [9.0], [1.0], [2.0]])
        rows = torch.tensor([[0.0], [1.0], [2.0], [9.0]])
        return nearest([0], bank_of(rows, torch.tensor([5, 6, 5, 6]), others=others), k=2)

    def test_overlap_is_the_share_of_common_neighbours(self) -> None:
        found = self.found()
        assert found.overlap("rows", "others").tolist() == [0.5]
        assert found.overlap("rows", "rows").tolist() == [1]

    def test_precision_is_the_share_with_the_label_of_the_query_beside_that_of_random_ones(self) -> None:
        found = self.found()
        assert found.precision("rows").tolist() == [0.5]
        assert found.chance is not None
        assert found.chance.tolist() == pytest.approx([1 / 3])
        assert found.table()[1]["overlap@2 with rows"] == 0.5

    def test_of_another_bank_nothing_is_left_out_of_chance(self) -> None:
        bank = bank_of(LINE, torch.tensor([1, 1, 2, 2, 2]))
        found = nearest(bank_of(LINE[:1], torch.tensor([2])), bank, k=1)
        assert found.chance is not None
        assert found.chance.tolist() == pytest.approx([0.6])

    def test_is_told_in_words_and_kept_on_disk(self, tmp_path: Any) -> None:
        found = self.found()
        assert "1 queries, 4 pictures, l2 distance" in found.to_text()
        folder = found.save(tmp_path / "found")
        assert (folder / "arrays" / "index.others.npy").exists()

    def test_without_labels_there_is_no_precision(self) -> None:
        found = nearest([0], bank_of(LINE), k=1)
        assert found.chance is None
        assert "precision" not in found.to_text()
        with pytest.raises(InputError, match="label precision needs labels"):
            found.precision("rows")


@pytest.mark.parametrize(
    ("ask", "says"),
    [
        (lambda bank: nearest([0], bank, 5), "k must be at most 4, the rows of the bank other than the query; got 5"),
        (lambda bank: nearest(bank_of(LINE), bank, 6), "k must be at most 5, the rows of the bank; got 6"),
        (lambda bank: nearest([0], bank, 0), "k must be an integer >= 1"),
        (lambda bank: nearest([5], bank, 1), r"query must lie in \[0, 4\]; got 5"),
        (lambda bank: nearest([], bank, 1), "query must hold positions"),
        (lambda bank: nearest([0], bank, 1, space="pixel"), "space must be one of 'rows'; got 'pixel'"),
        (lambda bank: nearest([0], bank, 1, space=[]), "space must name at least one space"),
        (lambda bank: nearest([0], bank, 1, metric="l1"), "metric must be one of 'l2', 'cosine'"),
        (lambda bank: nearest([0], bank, 1, engine="annoy"), "engine must be one of"),
    ],
)
def test_what_cannot_be_asked_is_refused(ask: Callable[[Bank], Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        ask(bank_of(LINE))


def test_banks_of_two_models_are_not_compared() -> None:
    x = nets.batch(4)
    bank, other = (feature_bank(nets.fill(nets.Chain(), seed), x, "fc") for seed in (0, 1))
    with pytest.raises(InputError, match="query must be a bank of the same sha256"):
        nearest(other, bank, 1)


def test_rows_of_another_type_are_compared_in_the_type_of_the_query() -> None:
    bank = bank_of(LINE)
    assert nearest(bank_of(LINE.double()), bank, k=1).distance["rows"].dtype == torch.float64


class TestFigure:
    def test_shows_the_query_and_its_neighbours_framed_by_label(self) -> None:
        pixel = torch.linspace(0, 1, 5)[:, None].expand(5, 12)
        labels = torch.tensor([1, 1, 2, 1, 2])
        bank = bank_of(pixel.flip(0).contiguous(), labels, pixel=pixel.contiguous())
        bank.about["shapes"]["pixel"] = [3, 2, 2]
        bank.about.update(mean=[0, 0, 0], std=[1, 1, 1], names=["a", "b", "c"])  # type: ignore[attr-defined]
        figure = nearest([0, 4], bank, k=2).plot()
        panels = [ax for ax in figure.axes if ax.images]
        assert [float(ax.images[0].get_array()[0, 0, 0]) for ax in panels[:5]] == [0, 0.25, 0.5, 0.25, 0.5]
        frames = [ax.spines["left"].get_edgecolor()[:3] for ax in panels[1:3]]
        assert frames[0] != frames[1]
        assert panels[1].get_title(loc="left") == "rows, 50% same label"
        assert [panels[0].get_xlabel(), panels[5].get_xlabel()] == ["b", "c"]
        assert "Random neighbours: 38%" in figure.texts[-1].get_text()

    def test_needs_pictures(self) -> None:
        with pytest.raises(InputError, match="must be of banks with pictures to be drawn"):
            nearest([0], bank_of(LINE), k=1).plot()


@data.needs_data
def test_on_cifar_the_network_knows_what_pixels_do_not() -> None:
    net = realnets.load("resnet20_cifar10")
    pictures = data.cifar10(200)
    x = net.loaded.inputs([picture for picture, _ in pictures])
    labels = torch.tensor([label for _, label in pictures])
    bank = feature_bank(net.model, [(x, labels)], "layer1", "linear@input", pool="mean")
    found = nearest(None, bank, k=5, metric="cosine")
    means = {space: float(found.precision(space).mean()) for space in found.index}
    assert found.chance is not None
    chance = float(found.chance.mean())
    assert chance < means["pixel"] < 0.35
    assert means["linear@input"] > 0.9
    assert found.overlap("pixel", "linear@input").mean() < 0.2
