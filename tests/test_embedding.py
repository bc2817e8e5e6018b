"""Planes of a feature space: the directions, the signs, the grid; one seed, one picture."""

from __future__ import annotations

from importlib.util import find_spec
from itertools import permutations
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from attrib.analysis import Bank, Embedding, feature_bank, grid_places, pca, tsne
from attrib.analysis.features import embedding
from attrib.errors import InputError, LayerError, MissingDependency
from attrib.plot.embedding import picture_grid, scatter
from tests import nets
from tests.test_neighbours import bank_of, drawn


def groups(per: int = 15) -> tuple[Tensor, Tensor]:
    """Three far groups in 6 dimensions."""
    labels = torch.arange(3).repeat_interleave(per)
    return drawn(3 * per, 6) * 0.1 + 10 * torch.eye(3, 6)[labels], labels


class TestPca:
    def test_of_points_on_a_cross_is_the_cross(self) -> None:
        rows = torch.tensor([[3.0, 0, 0], [-3, 0, 0], [0, 0, -1], [0, 0, 1]]) + 5
        found = pca(bank_of(rows))
        expected = torch.tensor([[3, 0], [-3, 0], [0, -1], [0, 1]]).double()
        torch.testing.assert_close(found.points, expected, atol=1e-9, rtol=0)
        torch.testing.assert_close(found.explained, torch.tensor([0.9, 0.1]).double())
        assert "0.9" in found.to_text()

    def test_is_the_eigenvectors_of_the_covariance_with_the_largest_weight_positive(self) -> None:
        rows = drawn(40, 5) @ drawn(5, 5, seed=1)
        centred = (rows - rows.mean(0)).double()
        values, vectors = torch.linalg.eigh(centred.T @ centred / len(rows))
        found = pca(bank_of(rows))
        assert found.explained is not None
        for axis in (0, 1):
            direction = vectors[:, -1 - axis]
            direction = direction * direction[direction.abs().argmax()].sign()
            torch.testing.assert_close(found.points[:, axis], centred @ direction, atol=1e-5, rtol=1e-5)
            assert float(found.explained[axis]) == pytest.approx(float(values[-1 - axis] / values.sum()), rel=1e-5)

    def test_has_one_sign_whatever_the_order_of_the_pictures(self) -> None:
        rows, order = drawn(30, 4), torch.randperm(30, generator=torch.Generator().manual_seed(3))
        torch.testing.assert_close(pca(bank_of(rows[order])).points, pca(bank_of(rows)).points[order])

    def test_of_many_rows_and_columns_is_found_with_the_seed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        rows = drawn(60, 20) * torch.linspace(3, 0.1, 20)
        whole = pca(bank_of(rows))
        monkeypatch.setattr(embedding, "FULL", 10)
        some = pca(bank_of(rows), seed=4)
        assert some.settings == {"solver": "randomized", "seed": 4}
        assert torch.equal(some.points, pca(bank_of(rows), seed=4).points)
        torch.testing.assert_close(some.points, whole.points, atol=0.1, rtol=0.1)


ENGINES = ["sklearn", pytest.param("opentsne", marks=pytest.mark.skipif(not find_spec("openTSNE"), reason="absent"))]


class TestTsne:
    @pytest.mark.parametrize("engine", ENGINES)
    def test_keeps_groups_apart_and_together(self, engine: Any) -> None:
        rows, labels = groups()
        found = tsne(bank_of(rows, labels), perplexity=5, engine=engine)
        far = torch.cdist(found.points, found.points)
        far.fill_diagonal_(torch.inf)
        assert (labels[far.argmin(1)] == labels).all()
        assert found.divergence is not None
        assert 0 < found.divergence < 1
        assert found.settings["engine"] == engine
        assert "perplexity" in found.to_text()

    def test_is_the_same_with_the_same_seed_and_leaves_random_states_alone(self) -> None:
        rows, _ = groups(5)
        torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002  that one
        first, again = (tsne(bank_of(rows), perplexity=3, seed=7) for _ in range(2))
        assert torch.equal(first.points, again.points)
        assert torch.equal(torch.get_rng_state(), torch_state)
        assert (np.random.get_state()[1] == numpy_state).all()  # noqa: NPY002

    def test_copies_of_pictures_are_no_harm(self) -> None:
        rows, _ = groups(4)
        found = tsne(bank_of(torch.cat([rows, rows])), perplexity=4)
        assert found.points.isfinite().all()

    def test_takes_opentsne_for_many_pictures(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(embedding, "LARGE", 10)
        monkeypatch.setitem(embedding.__dict__, "_by_opentsne", lambda rows, *_: (rows[:, :2], 0.5))
        monkeypatch.setattr(embedding, "find_spec", lambda _: True)
        assert tsne(bank_of(groups(5)[0]), perplexity=3).settings["engine"] == "opentsne"
        monkeypatch.setattr(embedding, "find_spec", lambda _: None)
        assert tsne(bank_of(groups(5)[0]), perplexity=3).settings["engine"] == "sklearn"

    def test_asked_for_an_engine_that_is_absent_it_says_so(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(__import__("sys").modules, "openTSNE", None)
        with pytest.raises(MissingDependency, match=r"needs openTSNE: pip install 'attrib\[large\]'"):
            tsne(bank_of(groups(5)[0]), perplexity=3, engine="opentsne")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"perplexity": 5}, r"perplexity must be below N / 3 = 5; got 5\. Pass perplexity=4 or less"),
        ({"perplexity": 0.5}, "perplexity must be a finite number in"),
        ({"perplexity": 3, "seed": -1}, "seed must be an integer >= 0"),
        ({"perplexity": 3, "engine": "umap"}, "engine must be one of"),
        ({"perplexity": 3, "space": "fc"}, "space must be one of 'rows'; got 'fc'"),
    ],
)
def test_a_plane_that_cannot_be_is_refused(options: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        tsne(bank_of(groups(5)[0]), **options)


def test_three_pictures_are_too_few_for_any_perplexity() -> None:
    with pytest.raises(InputError, match="Take at least 4 pictures, with perplexity=1"):
        tsne(bank_of(drawn(3, 4)), perplexity=1)


@pytest.mark.parametrize("make", [pca, lambda bank: tsne(bank, perplexity=1)])
def test_a_plane_needs_two_values_and_two_different_pictures(make: Any) -> None:
    with pytest.raises(LayerError, match="'rows' must have at least 2 values a picture for a plane; it has 1"):
        make(bank_of(drawn(9, 1)))
    with pytest.raises(InputError, match="pictures must differ in 'rows' for an embedding; got 9 equal rows"):
        make(bank_of(torch.ones(9, 4)))


class TestGrid:
    def test_of_points_on_a_grid_is_that_grid(self) -> None:
        points = torch.tensor([[x, y] for y in (2.0, 1, 0) for x in (0.0, 10, 20)])
        assert grid_places(points).tolist() == [[row, column] for row in range(3) for column in range(3)]

    @settings(max_examples=20, deadline=None)
    @given(seed=st.integers(0, 99), count=st.integers(2, 6))
    def test_is_the_best_of_all_assignments(self, seed: int, count: int) -> None:
        points = drawn(count, 2, seed, torch.float64)
        unit = (points - points.amin(0)) / (points.amax(0) - points.amin(0))
        cells = [(row, column) for row in range(2) for column in range(3)]

        def cost(chosen: Any) -> float:
            at = zip(chosen, unit.tolist(), strict=True)
            return sum((column / 2 - x) ** 2 + (1 - row - y) ** 2 for (row, column), (x, y) in at)

        found = [tuple(place) for place in grid_places(points, (2, 3)).tolist()]
        assert len(set(found)) == count
        assert cost(found) == pytest.approx(min(map(cost, permutations(cells, count))))

    def test_of_one_point_or_equal_ones_is_possible(self) -> None:
        assert grid_places(torch.ones(1, 2)).tolist() == [[0, 0]]
        assert len({tuple(place) for place in grid_places(torch.ones(5, 2)).tolist()}) == 5

    def test_must_have_room_for_all_and_not_too_much(self) -> None:
        with pytest.raises(InputError, match="shape must have 5 to 3600 cells, one for each point; got 2 x 2"):
            grid_places(torch.rand(5, 2), (2, 2))
        with pytest.raises(InputError, match=r"got 61 x 61\. Embed fewer pictures, or scatter them"):
            grid_places(torch.rand(3700, 2))


def planted(count: int = 4, **about: Any) -> Embedding:
    """Points at the corners of a square; each picture has one colour."""
    colour = torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 1]])[:count]
    pixel = colour[:, :, None].expand(count, 3, 4).flatten(1)
    bank = Bank(({"pixel": pixel},), torch.tensor([0, 1, 1, 0])[:count], bank_of(pixel).about)
    bank.about.update(shapes={"pixel": [3, 2, 2]}, mean=[0] * 3, std=[1] * 3, names=["a", "b"], **about)  # type: ignore[attr-defined]
    points = torch.tensor([[0.0, 0], [1, 0], [0, 1], [1, 1]]).double()[:count]
    return Embedding("pca", "pixel", points, bank.labels, torch.tensor([0.6, 0.4]), None, {}, bank)


class TestFigures:
    def test_a_grid_shows_each_picture_in_its_place_framed_by_label(self) -> None:
        figure = planted().plot()
        canvas = np.asarray(figure.axes[0].images[0].get_array())
        half = canvas.shape[0] // 2
        middle = [tuple(canvas[half // 2 + half * r, half // 2 + half * c]) for r in (0, 1) for c in (0, 1)]
        assert middle == [(0, 0, 255), (255, 255, 255), (255, 0, 0), (0, 255, 0)]
        assert tuple(canvas[0, 0]) == tuple(canvas[-1, -1]) != tuple(canvas[0, -1])
        assert [text.get_text() for text in figure.legends[0].get_texts()] == ["a", "b"]
        assert "60% (to the right) and 40% (upwards)" in figure.texts[-1].get_text()

    def test_points_have_the_colour_of_their_label(self) -> None:
        drawn_ = scatter(planted()).axes[0].collections[0]
        np.testing.assert_allclose(drawn_.get_offsets(), planted().points)
        colours = [tuple(colour) for colour in drawn_.get_facecolors()]
        assert colours[0] == colours[3] != colours[1] == colours[2]

    def test_without_pixels_there_are_points_and_no_grid(self) -> None:
        bank = feature_bank(nets.make("module"), nets.batch(5), "fc", pixels=False)
        found = pca(bank)
        assert found.plot().axes[0].collections
        with pytest.raises(InputError, match="must be of a bank with pictures for a grid"):
            picture_grid(found)

    def test_grey_pictures_without_labels_and_t_sne_are_drawn_too(self) -> None:
        rows = torch.rand(8, 1, 6, 4, generator=torch.Generator().manual_seed(0))
        found = tsne(feature_bank(nn.Sequential(nn.Flatten()), rows, "0"), perplexity=2)
        figure = found.plot()
        assert figure.axes[0].images[0].get_array().shape[2] == 3
        assert not figure.legends
        assert "perplexity 2, seed 0" in figure.texts[-1].get_text()


def test_pictures_of_a_large_bank_are_drawn_a_few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    pictures = torch.rand(150, 1, 4, 4)
    found = pca(feature_bank(nn.Sequential(nn.Flatten(), nn.Linear(16, 3)), pictures, "1"))
    whole = Bank.pictures
    asked: list[int] = []

    def counted(bank: Bank, index: Any) -> Tensor | None:
        asked.append(len(index))
        return whole(bank, index)

    monkeypatch.setattr(Bank, "pictures", counted)
    image = np.asarray(picture_grid(found).axes[0].get_images()[0].get_array())
    assert max(asked) <= 64
    side = image.shape[0] // 13  # each cell is the picture, stretched to [0, 1] and blown up
    for i in (0, 63, 64, 149):
        row, column = found.grid()[i].tolist()
        cell = image[row * side : (row + 1) * side, column * side : (column + 1) * side, 0]
        picture = whole(found.bank, [i])
        assert picture is not None
        np.testing.assert_allclose(cell[side // 8 :: side // 4, side // 8 :: side // 4], picture[0, 0] * 255, atol=0.51)
