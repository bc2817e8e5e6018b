"""Parts hidden in several pictures: distances by hand and by the oracle, random places, the table of the paper."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.backends.backend_agg import FigureCanvasAgg
from torch import Tensor, nn

from attrib.analysis import Correspondence, correspondence, sign_distances
from attrib.errors import InputError, LayerError, ModelError, ShapeError
from attrib.plot.correspondence import correspondence_scores, hidden_parts
from tests import nets
from tests.oracles import correspondence as oracle

EYE, NOSE = (1, 1, 4, 3), (4, 5, 7, 9)
PARTS: dict[str, Any] = {"eye": EYE, "nose": NOSE}


def faces(n: int = 4, size: tuple[int, int] = (10, 8), seed: int = 0) -> Tensor:
    return torch.rand(n, 3, *size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def net(kind: str = "module") -> nn.Module:
    return nets.make(kind).double()


class Pixels(nn.Module):
    """Features are the pixels themselves, so that changes are known."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.features(x).flatten(1)


class TestDistance:
    def test_two_pictures_by_hand(self) -> None:
        x = torch.zeros(2, 1, 2, 4)
        x[0, 0, 0] = torch.tensor([1.0, 2.0, 0.0, -1.0])
        x[1, 0, 0] = torch.tensor([1.0, -2.0, 3.0, -1.0])
        # hidden are the first three pixels above: changes + + 0 0 against + - + 0, and four zeros below
        found = {
            zero: correspondence(Pixels(), x, {"top": (0, 0, 3, 1)}, "features", baseline=0.0, zero=zero, draws=1)
            for zero in ("own", "positive", "ignored")
        }
        values = {zero: float(one.distances["features"]) for zero, one in found.items()}
        assert values == pytest.approx({"own": 2 / 8, "positive": 1 / 8, "ignored": 1 / 2})

    @pytest.mark.parametrize("zero", ["own", "positive", "ignored"])
    def test_equals_the_literal_oracle_at_any_layer_with_boxes_of_each_picture(self, zero: Any) -> None:
        model, x = net(), faces()
        boxes = [(0, 0, 3, 2), (1, 2, 4, 4), (5, 6, 8, 10), (2, 3, 4, 9)]
        found = correspondence(model, x, {"eye": boxes}, ["act2", "fc"], baseline=0.5, zero=zero, draws=2, batch_size=3)
        for layer in ("act2", "fc"):

            def features(picture: Any, layer: str = layer) -> Any:
                got: list[Tensor] = []
                handle = model.get_submodule(layer).register_forward_hook(lambda m, i, out: got.append(out.clone()))
                with torch.no_grad():
                    model(torch.from_numpy(picture)[None])
                handle.remove()
                return got[0].flatten().numpy()

            expected = oracle.correspondence(features, x.numpy(), boxes, 0.5, zero)
            np.testing.assert_allclose(found.distances[layer][0], expected, atol=1e-12)
            places = found.places["eye"][1].tolist()
            expected = oracle.correspondence(features, x.numpy(), places, 0.5, zero)
            np.testing.assert_allclose(found.random[layer][0, 1], expected, atol=1e-12)

    def test_identical_pictures_change_alike(self) -> None:
        x = faces(1).repeat(3, 1, 1, 1)
        found = correspondence(net(), x, PARTS, ["act1", "fc"], aligned=True)
        assert all(float(values.abs().max()) == 0 for values in found.distances.values())
        assert all(float(values.abs().max()) == 0 for values in found.random.values())

    @settings(deadline=None, max_examples=40)
    @given(st.integers(0, 10_000), st.sampled_from(["own", "positive", "ignored"]))
    def test_distances_are_shares_that_neither_order_nor_sign_changes(self, seed: int, zero: Any) -> None:
        source = torch.Generator().manual_seed(seed)
        signs = torch.randint(-1, 2, (4, 30), generator=source)
        found = sign_distances(signs, zero)
        assert bool(((found >= 0) & (found <= 1)).all())
        shuffled = signs[:, torch.randperm(30, generator=source)]
        torch.testing.assert_close(sign_distances(shuffled, zero), found)
        torch.testing.assert_close(sign_distances(signs.flip(0), zero), found[[5, 4, 2, 3, 1, 0]])
        if zero != "positive":
            torch.testing.assert_close(sign_distances(-signs, zero), found)

    def test_more_features_than_are_compared_at_a_time_are_all_counted(self) -> None:
        signs = torch.ones(2, 2**16 + 10, dtype=torch.int8)
        signs[1, -5:] = -1
        assert float(sign_distances(signs)) == pytest.approx(5 / (2**16 + 10))

    def test_nothing_to_compare_is_nan_and_left_out_of_the_mean(self) -> None:
        signs = torch.tensor([[1, 0], [0, 1], [1, 1]])
        found = sign_distances(signs, "ignored")
        assert found.isnan().tolist() == [True, False, False]


class TestRandomPlaces:
    def test_are_the_parts_shape_somewhere_in_the_picture_drawn_from_the_seed(self) -> None:
        found = correspondence(net(), faces(), PARTS, "fc", draws=20, seed=3)
        places = found.places["nose"]
        assert places.shape == (20, 4, 4)
        assert bool((places[..., 2:] - places[..., :2] == torch.tensor([3, 4])).all())
        assert bool((places[..., :2] >= 0).all())
        assert bool((places[..., 2:] <= torch.tensor([8, 10])).all())
        assert places[..., 0].unique().tolist() == [0, 1, 2, 3, 4, 5]
        assert len(places[0].unique(dim=0)) > 1
        again, other = (correspondence(net(), faces(), PARTS, "fc", draws=20, seed=seed) for seed in (3, 4))
        assert torch.equal(again.random["fc"], found.random["fc"])
        assert not torch.equal(other.places["nose"], places)

    def test_aligned_ones_are_the_same_in_all_pictures(self) -> None:
        places = correspondence(net(), faces(), PARTS, "fc", draws=5, aligned=True).places["eye"]
        assert bool((places == places[:, :1]).all())
        assert len(places[:, 0].unique(dim=0)) > 1

    def test_stay_within_the_object(self) -> None:
        places = correspondence(net(), faces(), {"eye": EYE}, "fc", draws=9, within=[2, 3, 8, 8]).places["eye"]
        assert bool((places[..., :2] >= torch.tensor([2, 3])).all())
        assert bool((places[..., 2:] <= torch.tensor([8, 8])).all())

    def test_a_part_that_means_the_same_everywhere_is_below_all_of_them(self) -> None:
        """Bright eyes on noise around zero: hiding them changes pixels downwards in all pictures, noise at random."""
        x = faces(6) - 0.5
        x[..., 1:3, 1:4] = 1.0
        found = correspondence(Pixels(), x, {"eye": EYE, "cheek": (4, 5, 7, 7)}, "features", baseline=0.0, aligned=True)
        assert float(found.distances["features"][0].max()) == 0
        # a draw that lands on the eye itself is as low, and not above it
        drawn = [place[0].tolist() for place in found.places["eye"]]
        assert found.lower_than("eye", "features") == sum(place != list(EYE) for place in drawn) / len(drawn)
        assert found.lower_than("cheek", "features") < 1


class TestArguments:
    def test_masks_boxes_and_one_for_all_say_the_same(self) -> None:
        mask = torch.zeros(10, 8, dtype=torch.bool)
        mask[1:3, 1:4] = True
        forms: list[Any] = [
            EYE,
            [EYE] * 4,
            np.array([EYE] * 4),
            mask,
            mask.expand(4, 10, 8),
            mask.numpy(),
            [0.5 + 0.5, 1.2, 3.9, 3],
        ]
        values = [correspondence(net(), faces(), {"eye": form}, "act1", draws=1).distances["act1"] for form in forms]
        assert all(torch.equal(one, values[0]) for one in values)

    def test_the_layer_is_the_last_spatial_one_unless_named_and_modules_will_do(self) -> None:
        model = net()
        assert correspondence(model, faces(), PARTS, draws=1).layers == ("act2",)
        assert correspondence(model, faces(), PARTS, [model.act1, "fc", "fc"], draws=1).layers == ("act1", "fc")

    @pytest.mark.parametrize(
        ("change", "error", "says"),
        [
            ({"inputs": faces(1)}, InputError, "inputs must hold at least two pictures to compare; got 1"),
            ({"inputs": faces()[0]}, ShapeError, "inputs must have shape"),
            ({"parts": {}}, InputError, "parts must map names to boxes or masks, at least one"),
            ({"parts": {"eye": [EYE] * 3}}, InputError, r"part 'eye' must be boxes x0, y0, x1, y1, one for all 4 pict"),
            ({"parts": {"eye": (1, 1, 9, 3)}}, InputError, "part 'eye' must lie in pictures of 8 x 10 pixels"),
            ({"parts": {"eye": (3, 1, 3, 3)}}, InputError, "part 'eye' must lie in pictures"),
            ({"parts": {"eye": (0, 0, 8, 10)}}, InputError, "part 'eye' must cover some pixels of every picture and"),
            ({"parts": {"eye": torch.zeros(10, 8) > 0}}, InputError, "part 'eye' must cover some pixels of every"),
            ({"parts": {"eye": torch.zeros(8, 10) > 0}}, InputError, r"part 'eye' must be masks \(4, 10, 8\)"),
            ({"parts": {"eye": [EYE, None, EYE, EYE]}}, InputError, "part 'eye' must be boxes or masks of all"),
            ({"within": (0, 0, 2, 2)}, InputError, r"within must have room for part 'eye'; got \[2, 2\] pixels"),
            ({"zero": "negative"}, InputError, "zero must be one of 'own', 'positive', 'ignored'"),
            ({"draws": 0}, InputError, "draws must be an integer >= 1"),
            ({"layers": []}, InputError, "layers must name at least one"),
            ({"layers": "conv9"}, LayerError, "no layer 'conv9'"),
        ],
    )
    def test_what_cannot_be_compared_is_refused(self, change: dict[str, Any], error: Any, says: str) -> None:
        how: dict[str, Any] = {"inputs": faces(), "parts": PARTS, "layers": "fc", "draws": 1} | change
        with pytest.raises(error, match=says):
            correspondence(net(), **how)

    def test_features_that_are_not_finite_are_told_and_not_counted_as_alike(self) -> None:
        model = net()
        model.fc.weight.data.fill_(float("nan"))
        with pytest.raises(ModelError, match="features of 'fc' must be finite"):
            correspondence(model, faces(), PARTS, "fc", draws=1)
        with pytest.raises(InputError, match="zero must be one of"):
            sign_distances(torch.ones(2, 2), "none")  # type: ignore[arg-type]

    def test_model_inputs_and_random_state_are_left_as_found(self) -> None:
        model, x = net("regularised"), faces()
        model.train()
        before = (x.clone(), torch.get_rng_state(), {k: v.clone() for k, v in model.state_dict().items()})
        one = correspondence(model, x, PARTS, "fc", draws=2)
        assert torch.equal(x, before[0])
        assert torch.equal(torch.get_rng_state(), before[1])
        assert all(torch.equal(v, before[2][k]) for k, v in model.state_dict().items())
        assert model.training
        assert torch.equal(correspondence(model, x, PARTS, "fc", draws=2).random["fc"], one.random["fc"])


class TestResult:
    @pytest.fixture
    def found(self) -> Correspondence:
        return correspondence(net(), faces(), PARTS, ["act1", "fc"], draws=3)

    def test_the_table_has_mean_and_deviation_over_pairs_beside_places_of_the_same_size(self, found: Any) -> None:
        row = found.table()[3]
        values, chance = found.distances["fc"][1].numpy(), found.random["fc"][1].numpy()
        assert (row["part"], row["layer"]) == ("nose", "fc")
        assert row["mean"] == pytest.approx(values.mean())
        assert row["sd"] == pytest.approx(values.std(ddof=1))
        assert (row["random"], row["random sd"]) == pytest.approx((chance.mean(), chance.std(ddof=1)))
        assert row["lower than"] == pytest.approx((chance.mean(1) > values.mean()).mean())
        assert found.total("nose", "fc") == pytest.approx(2 * values.sum())

    def test_the_text_is_the_table_of_the_paper(self, found: Any) -> None:
        lines = found.to_text().splitlines()
        assert lines[0].split() == ["hidden", "act1", "fc"]
        mean, sd = (float(one) for one in (found.distances["act1"][0].mean(), found.distances["act1"][0].std()))
        assert lines[1].split()[:4] == ["eye", f"{mean:.3f}", "±", f"{sd:.3f}"]
        assert lines[3].startswith("random ")
        assert "4 pictures, 6 pairs" in lines[5]
        assert lines[8].startswith("eye ")
        assert " of 3" in lines[8]
        assert found.to_text(markdown=True).startswith("| hidden")

    def test_latex_has_a_row_for_each_part_and_escapes_names(self) -> None:
        found = correspondence(net(), faces(), {"left_eye": EYE}, "fc", draws=1)
        lines = found.to_latex().splitlines()
        assert lines[0] == r"\begin{tabular}{lc}"
        assert lines[3].startswith(r"left\_eye & $0.")
        assert lines[4].startswith("random & $")
        assert all(line.endswith(r" \\") for line in (lines[1], *lines[3:5]))

    def test_is_saved_with_its_arrays(self, found: Any, tmp_path: Path) -> None:
        found.save(tmp_path / "run", figures=True)
        names = {path.name for path in (tmp_path / "run").rglob("*") if path.is_file()}
        assert {"manifest.json", "found.md", "figure.png", "pairs.npy"} <= names
        kept = np.load(next((tmp_path / "run" / "arrays").glob("distances*fc*.npy")))
        np.testing.assert_array_equal(kept, found.distances["fc"].numpy())

    def test_pairs_with_nothing_to_compare_decide_nothing(self) -> None:
        nan = float("nan")
        distances = torch.tensor([[0.2, nan], [nan, nan]])
        random = torch.tensor([[[0.3, nan], [0.1, 0.5], [nan, nan]], [[0.3, 0.3]] * 3])
        settings = {"aligned": False}
        masks = {name: torch.ones(2, 4, 4, dtype=torch.bool) for name in PARTS}
        found = Correspondence({"fc": distances}, {"fc": random}, torch.tensor([[0, 1], [0, 2]]), masks, {}, settings)
        assert found.lower_than("eye", "fc") == 1
        assert np.isnan(found.lower_than("nose", "fc"))
        assert [line.split()[-3:] for line in found.to_text().splitlines()[-2:]] == [["2", "of", "2"], ["nose", "-"]]
        assert correspondence_scores(found).axes[0].lines[0].get_xdata()[:2] == pytest.approx([0.3, 0.3])

    def test_a_pair_has_no_deviation(self) -> None:
        found = correspondence(net(), faces(2), PARTS, "fc", draws=1)
        assert np.isnan(found.table()[0]["sd"])
        assert "nan" not in found.to_text()

    def test_the_figure_shows_each_part_at_its_mean_beside_its_draws(self, found: Any) -> None:
        figure = correspondence_scores(found)
        assert [ax.get_title() for ax in figure.axes] == ["act1", "fc"]
        drawn = figure.axes[1].lines[0]
        np.testing.assert_allclose(drawn.get_xdata(), found.random["fc"][0].mean(1))
        marks = figure.axes[1].containers[1].lines[0]
        assert (marks.get_xdata()[0], marks.get_ydata()[0]) == pytest.approx(
            (float(found.distances["fc"][1].mean()), 1)
        )

    def test_long_names_of_many_layers_do_not_overlap(self, found: Any) -> None:
        long = [f"encoder.layers.encoder_layer_{i}.mlp" for i in range(6)]
        many = replace(found, **{of: {one: getattr(found, of)["fc"] for one in long} for of in ("distances", "random")})
        figure = correspondence_scores(many)
        FigureCanvasAgg(figure).draw()
        assert [ax.get_title().replace("\n", "") for ax in figure.axes] == long
        boxes = [ax.title.get_window_extent() for ax in figure.axes] + [ax.bbox for ax in figure.axes]
        assert not any(one.overlaps(other) for one, other in combinations(boxes, 2))
        assert all(one.x0 >= 0 and one.x1 <= figure.bbox.width for one in boxes)

    def test_the_other_figure_hides_the_parts_in_grey(self, found: Any) -> None:
        figure = hidden_parts(found, list(faces()))
        shown = figure.axes[4 + 1].images[0].get_array()  # second picture, eye
        assert bool((shown[1:3, 1:4] == 0.5).all())
        assert [ax.get_title() for ax in figure.axes[:4]] == [
            "the picture",
            "eye hidden",
            "nose hidden",
            "hidden at random",
        ]
        x0, y0, *_ = found.places["eye"][0, 0].tolist()
        assert bool((figure.axes[3].images[0].get_array()[y0, x0] == 0.5).all())
        with pytest.raises(InputError, match="images must be the 4 pictures that were compared"):
            hidden_parts(found, list(faces(3)))
