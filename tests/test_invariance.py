"""Pictures that are moved: exactly as said, measured exactly, and nothing changes where nothing moves."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from attrib import METHODS, Attribution, Saliency
from attrib.analysis import Invariance, invariance
from attrib.analysis.moved.warp import KINDS, PADDINGS, inside, inverse, usual_sweeps, warp
from attrib.core import Query, count
from attrib.errors import AttribError, InputError, LayerError, RegistryError, ShapeError, TargetError
from attrib.io import Preprocess
from attrib.plot.invariance import invariance_curves
from tests import data, nets, realnets
from tests.oracles import invariance as oracle

X = nets.batch(3, 9, 6)
SMALL = {"vertical": (-2, 0, 3), "horizontal": (0, 2), "scale": (0.7, 1, 1.5), "rotation": (0, 40, 360)}


class TestWarp:
    @settings(max_examples=40, deadline=None)
    @given(
        kind=st.sampled_from(KINDS),
        padding=st.sampled_from(PADDINGS),
        size=st.tuples(st.integers(2, 7), st.integers(2, 7)),
        share=st.floats(-1, 1),
    )
    def test_is_what_the_oracle_does_pixel_by_pixel(self, kind: Any, padding: Any, size: Any, share: float) -> None:
        amounts = {
            "vertical": int(share * (size[0] - 1)),
            "horizontal": int(share * (size[1] - 1)),
            "scale": 2.0**share,
            "rotation": 200 * share,
        }
        x = nets.batch(2, *size, dtype=torch.float64)
        moved, expected = warp(x, kind, amounts[kind], padding), oracle.warp(x, kind, amounts[kind], padding)
        if padding == "zeros" or kind in {"vertical", "horizontal"}:
            torch.testing.assert_close(moved, expected, atol=1e-6, rtol=1e-6)
        else:  # torch moves the place into the picture before it interpolates: the same except across the border
            there = inside(size, kind, amounts[kind])
            torch.testing.assert_close(moved[:, :, there], expected[:, :, there], atol=1e-6, rtol=1e-6)

    def test_moves_down_right_outwards_and_counter_clockwise(self) -> None:
        x = torch.zeros(1, 1, 5, 5)
        x[0, 0, 2, 3] = 1  # to the right of the centre
        places = {"vertical": (3, 3), "horizontal": (2, 4), "scale": (2, 4), "rotation": (1, 2)}
        for kind, amount in (("vertical", 1), ("horizontal", 1), ("scale", 2), ("rotation", 90)):
            moved = warp(x, kind, amount)[0, 0]  # type: ignore[arg-type]
            assert divmod(int(moved.argmax()), 5) == places[kind]
            assert float(moved.max()) == pytest.approx(1, abs=1e-5)

    def test_by_quarter_turns_is_a_permutation_and_nothing_comes_from_outside(self) -> None:
        x = nets.batch(2, 6, 6)
        for turns in (1, 2, 3):
            torch.testing.assert_close(warp(x, "rotation", 90 * turns), x.rot90(turns, (2, 3)), atol=1e-5, rtol=1e-5)
            assert inside((6, 6), "rotation", 90 * turns).all()

    def test_by_nothing_is_the_picture_to_the_bit_and_a_copy(self) -> None:
        for kind, amount in (("vertical", 0), ("horizontal", 0), ("scale", 1), ("rotation", 0), ("rotation", -720)):
            moved = warp(X, kind, amount)  # type: ignore[arg-type]
            assert torch.equal(moved, X)
            assert moved.data_ptr() != X.data_ptr()

    def test_there_and_back_is_the_picture_where_none_of_it_was_lost(self) -> None:
        for padding in PADDINGS:
            for kind, amount in (("vertical", -3), ("horizontal", 2)):
                back = warp(warp(X, kind, amount, padding), kind, inverse(kind, amount))  # type: ignore[arg-type]
                there = inside((9, 6), kind, inverse(kind, amount))  # type: ignore[arg-type]
                assert torch.equal(back[:, :, there], X[:, :, there])
                assert float((~there).float().mean()) == pytest.approx(1 / 3)

    def test_keeps_type_and_input(self) -> None:
        x = X.double()
        before = x.clone()
        assert warp(x, "rotation", 33).dtype == torch.float64
        assert torch.equal(x, before)

    def test_finds_its_pixels_as_well_in_half_precision(self) -> None:
        x = torch.rand(1, 1, 96, 96).bfloat16()
        for kind, amount in (("scale", 1.4), ("rotation", 33)):
            moved = warp(x, kind, amount)  # type: ignore[arg-type]
            assert moved.dtype is torch.bfloat16
            torch.testing.assert_close(moved.float(), warp(x.float(), kind, amount), atol=4e-3, rtol=0)  # type: ignore[arg-type]

    @pytest.mark.parametrize(
        ("kind", "amount", "padding", "says"),
        [
            (
                "vertical",
                0.5,
                "zeros",
                "vertical amount must be whole pixels, so that nothing is interpolated; got 0.5",
            ),
            ("scale", 0, "zeros", "scale amount must be a factor above 0; got 0"),
            ("rotation", float("nan"), "zeros", "rotation amount must be a finite number"),
            ("shear", 1, "zeros", "kind must be one of 'vertical', 'horizontal', 'scale', 'rotation'; got 'shear'"),
            ("scale", 2, "edge", "padding must be one of 'zeros', 'border', 'reflection'; got 'edge'"),
        ],
    )
    def test_refuses_what_it_cannot_do(self, kind: Any, amount: float, padding: Any, says: str) -> None:
        with pytest.raises(InputError, match=says):
            warp(X, kind, amount, padding)


def measured(model: nn.Module | None = None, inputs: Any = X, target: object = 3, **options: Any) -> Invariance:
    options = {"sweeps": SMALL, "layers": ["act1", "fc@input"], **options}
    return invariance(nets.make("module") if model is None else model, inputs, target, **options)


class Mean(nn.Module):
    """Two features, the sums of the upper and the lower half; the score is a softmax of them."""

    def __init__(self) -> None:
        super().__init__()
        self.halves = nn.Identity()
        self.conv = nn.Conv2d(1, 1, 1)
        self.fc = nn.Linear(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        upper, lower = x.sum(3).split(x.shape[2] // 2, 2)
        halves: Tensor = self.halves(torch.cat([upper.sum(2), lower.sum(2)], 1))
        return halves


def test_distances_and_probabilities_of_a_dot_that_falls_are_those_of_the_arithmetic() -> None:
    x = torch.zeros(1, 1, 4, 4)
    x[0, 0, 1, 2] = 2.0  # upper half; one pixel down it is in the lower, three down it has left
    found = invariance(Mean(), x, 0, layers=["halves"], sweeps={"vertical": [0, 1, 2, 3]})
    torch.testing.assert_close(
        found.distance["vertical"]["halves"][:, 0], torch.tensor([0, 8**0.5, 8**0.5, 2]).double()
    )
    torch.testing.assert_close(
        found.relative("vertical", "halves")[:, 0], torch.tensor([0, 2**0.5, 2**0.5, 1]).double()
    )
    logits = torch.tensor([[2.0, 0], [0, 2], [0, 2], [0, 0]])
    torch.testing.assert_close(found.probability["vertical"][:, 0], logits.softmax(1)[:, 0])
    assert found.outside["vertical"].tolist() == [0, 0.25, 0.5, 0.75]
    # there and back it is where it was, unless it left
    assert found.artefact["vertical"]["halves"][:, 0].tolist() == [0, 0, 0, 2]


def test_each_number_is_that_of_a_run_of_its_own() -> None:
    model = nets.make("module")
    found = measured(model, methods=["saliency"])
    seen: dict[str, Tensor] = {}
    model.act1.register_forward_hook(lambda _, __, out: seen.update(act=out.detach().clone()))  # type: ignore[union-attr]
    plain = model(X).softmax(1)[:, 3]
    act = seen["act"]
    torch.testing.assert_close(found.clean, plain.detach())
    clean = Saliency(model).attribute(X, 3)
    for kind, amounts in SMALL.items():
        for a, by in enumerate(amounts):
            moved = warp(X, kind, by)  # type: ignore[arg-type]
            p = model(moved).softmax(1)[:, 3].detach()
            distance = (seen["act"] - act).double().flatten(1).norm(dim=1)
            torch.testing.assert_close(found.distance[kind]["act1"][a], distance)
            torch.testing.assert_close(found.probability[kind][a], p)
            back = warp(Saliency(model).attribute(moved, 3), kind, inverse(kind, by))  # type: ignore[arg-type]
            there = inside((9, 6), kind, inverse(kind, by))  # type: ignore[arg-type]
            off = ((back - clean) * there).flatten(1).norm(dim=1) / (clean * there).flatten(1).norm(dim=1)
            torch.testing.assert_close(found.equivariance[kind]["saliency"][a], off.double(), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("padding", PADDINGS)
def test_where_nothing_moves_nothing_changes_to_the_bit(padding: Any) -> None:
    found = measured(methods=["saliency", "gradcam", "guided"], padding=padding)
    for kind, amounts in SMALL.items():
        for a, by in enumerate(amounts):
            if by in {(1 if kind == "scale" else 0), 360}:
                assert torch.equal(found.probability[kind][a], found.clean)
                for curves in (found.distance, found.artefact, found.equivariance):
                    assert all(not values[a].any() for values in curves[kind].values())
            elif kind != "rotation":
                assert (found.distance[kind]["act1"][a] > 0).all()


def test_batches_and_sources_of_data_do_not_matter() -> None:
    labels = torch.tensor([4, 0, 2])
    whole = measured(target=labels)
    data_set = measured(inputs=TensorDataset(X, labels), target=None, batch_size=2)
    for kind in SMALL:
        torch.testing.assert_close(data_set.probability[kind], whole.probability[kind])
        torch.testing.assert_close(data_set.distance[kind]["act1"], whole.distance[kind]["act1"])
    assert torch.equal(whole.pictures, data_set.pictures)


def test_without_labels_the_predicted_class_is_asked_for_and_decided_once() -> None:
    model = nets.make("module")
    predicted = model(X).argmax(1)
    assert torch.equal(
        measured(model, target=None).probability["rotation"], measured(model, target=predicted).probability["rotation"]
    )


def test_an_equivariant_map_has_no_error_and_a_map_that_stays_has_some() -> None:
    class Light(Attribution):
        """The picture."""

        name = "light"

        def _attribute(self, query: Query) -> Tensor:
            return query.x.sum(1, keepdim=True)

    class Fixed(Attribution):
        """A gradient from left to right, whatever is in the picture."""

        name = "fixed"

        def _attribute(self, query: Query) -> Tensor:
            ramp = torch.linspace(1, 2, query.x.shape[3])
            return ramp.expand(len(query.x), 1, *query.size).contiguous()

    found = measured(methods=[Light, Fixed], sweeps={"horizontal": (-2, 1), "vertical": (2,)}, control=False)
    assert found.equivariance["horizontal"]["light"].abs().max() < 1e-6
    assert found.equivariance["horizontal"]["fixed"].min() > 0.1
    assert found.equivariance["vertical"]["fixed"].max() < 1e-6  # moved downwards it looks the same
    assert found.artefact == {}


def test_a_map_of_zeros_has_no_error_that_could_be_told() -> None:
    class Nothing(Attribution):
        """Zeros."""

        name = "nothing"

        def _attribute(self, query: Query) -> Tensor:
            return torch.zeros(len(query.x), 1, *query.size)

    found = measured(methods=[Nothing])
    assert found.equivariance["scale"]["nothing"].isnan().all()
    assert "-" in found.to_text()
    found.plot()


def test_shares_of_features_and_maps_that_are_zero_are_undefined_not_infinite() -> None:
    class Bright(nn.Module):
        """Says something only of pictures whose first row is zero, which a shift down brings."""

        def __init__(self) -> None:
            super().__init__()
            self.conv, self.fc = nn.Conv2d(1, 1, 1), nn.Linear(2, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(torch.cat([self.conv(x).mean((2, 3))] * 2, 1) * (x[:, :, 0].amax((1, 2)) == 0)[:, None])

    class Dark(Attribution):
        """Zeros of the picture itself."""

        name = "dark"

        def _attribute(self, query: Query) -> Tensor:
            return torch.ones(len(query.x), 1, *query.size) * (query.x[:, :, 0].amax((1, 2)) == 0)[:, None, None, None]

    pictures = torch.rand(7, 1, 4, 4) + 0.5
    found = invariance(Bright(), pictures, 1, layers=["fc@input"], sweeps={"vertical": [1]}, methods=[Dark])
    assert (found.distance["vertical"]["fc@input"] > 0).all()
    for one in (found.relative("vertical", "fc@input"), found.equivariance["vertical"]["dark"]):
        assert one.isnan().all()
    assert "inf" not in found.to_text()
    found.plot()  # of more than five pictures the mean, which is that of nothing


def test_methods_take_options_and_coarse_maps_are_compared_at_the_size_of_the_picture() -> None:
    found = measured(methods=[partial(METHODS["saliency"], channels="sum"), "gradcam"])
    assert list(found.equivariance["vertical"]) == ["saliency", "gradcam"]
    plain = measured(methods=["saliency"])
    assert not torch.equal(found.equivariance["vertical"]["saliency"], plain.equivariance["vertical"]["saliency"])


def test_model_inputs_and_random_state_are_left_as_found_and_passes_are_as_said() -> None:
    model = nets.make("module").train()
    x, state = X.clone(), torch.get_rng_state()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with count() as cost:
        measured(model, x)
    amounts = sum(map(len, SMALL.values()))
    assert cost.forwards == 3 * (1 + 2 * amounts)
    assert torch.equal(x, X)
    assert torch.equal(torch.get_rng_state(), state)
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_layers_and_sweeps_are_those_of_the_paper_unless_others_are_named() -> None:
    found = invariance(nets.make("module"), X)
    assert list(found.norm) == ["conv1", "fc@input"]
    assert list(found.amounts) == ["vertical", "horizontal", "scale", "rotation"]
    assert usual_sweeps((224, 224))["vertical"] == (-56, -42, -28, -14, 0, 14, 28, 42, 56)
    assert found.amounts["rotation"].tolist()[:3] == [0, 30, 60]


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"sweeps": {}}, InputError, "sweeps must hold at least one amount each"),
        ({"sweeps": {"scale": []}}, InputError, "sweeps must hold at least one amount each"),
        ({"sweeps": {"shear": [1]}}, InputError, "sweep must be one of 'vertical'"),
        ({"sweeps": {"horizontal": [-6]}}, InputError, "horizontal shifts must be smaller than the picture, 6 pixels"),
        ({"padding": "wrap"}, InputError, "padding must be one of"),
        ({"layers": ["act9"]}, LayerError, "act9"),
        ({"methods": ["salience"]}, RegistryError, "salience"),
        ({"target": 7}, TargetError, r"target must lie in \[0, 4\]"),
        ({"target": torch.tensor([1, 2])}, TargetError, "target must have one entry for each picture; got 2"),
        ({"inputs": torch.rand(2, 6)}, ShapeError, "inputs must have shape"),
        ({"inputs": [nets.batch(1, 6, 6), nets.batch(1, 6, 8)]}, ShapeError, r"all pictures must have one size"),
        ({"inputs": []}, InputError, "data must hold at least one example"),
        ({"inputs": torch.full((1, 3, 6, 6), torch.nan)}, InputError, "inputs must be finite"),
    ],
)
def test_what_cannot_be_measured_is_refused(options: Any, error: type[AttribError], says: str) -> None:
    with pytest.raises(error, match=says):
        measured(**options)


def test_a_model_without_convolution_needs_named_layers() -> None:
    with pytest.raises(LayerError, match=r"no convolution that could be the first layer\. Name layers"):
        measured(nn.Sequential(nn.Flatten(), nn.Linear(162, 5)), layers=None)


class TestResult:
    def test_says_means_of_what_moved(self) -> None:
        found = measured(methods=["saliency"])
        row = found.table()[1]
        assert row["sweep"] == "horizontal 0 to 2"
        assert row["p"] == pytest.approx(float(found.probability["horizontal"][1].mean()))
        assert row["outside"] == pytest.approx(1 / 3)
        assert "padding: zeros" in found.to_text(markdown=True)

    def test_is_kept_on_disk(self, tmp_path: Any) -> None:
        folder = measured().save(tmp_path / "found", figures=True)
        assert np.load(folder / "arrays" / "distance.vertical.act1.npy").shape == (3, 3)
        assert (folder / "figure.png").stat().st_size > 1000

    def test_is_drawn_as_the_paper_does(self) -> None:
        preprocess = Preprocess(9, 6, mean=(0.5,) * 3, std=(0.25,) * 3)
        found = measured(methods=["saliency"], preprocess=preprocess)
        figure = invariance_curves(found, relative=False)
        axes = figure.axes
        assert len(axes) == 4 * 5
        lines = axes[1].lines
        np.testing.assert_allclose(lines[0].get_xdata(), [-2, 0, 3])
        np.testing.assert_allclose(lines[2].get_ydata(), found.distance["vertical"]["act1"][:, 0])
        np.testing.assert_allclose(lines[3].get_ydata(), found.artefact["vertical"]["act1"].mean(1))
        strip = np.asarray(axes[0].images[0].get_array())
        np.testing.assert_allclose(strip[7:9], 0.5, atol=1e-6)  # what came in from below is the mean colour
        np.testing.assert_allclose(strip[:7], found.pictures[0, :, 2:].permute(1, 2, 0), atol=1e-6)
        assert "3 pictures: a line for each" in figure.texts[0].get_text()

    def test_of_many_pictures_draws_the_mean(self) -> None:
        found = measured(inputs=nets.batch(7, 9, 6), sweeps={"scale": (1.5, 0.7)})
        ax = found.plot().axes[1]
        np.testing.assert_allclose(ax.lines[0].get_xdata(), [0.7, 1.5])
        np.testing.assert_allclose(ax.lines[0].get_ydata(), found.relative("scale", "act1").mean(1).flip(0))

    def test_names_of_layers_are_cut_where_panels_are_narrow_and_say_what_is_drawn(self) -> None:
        layers = ["act1", "act2", "conv1", "conv2", "fc@input"]
        found = measured(layers=layers, sweeps={"scale": [1.5]}, methods=["saliency", "input_x_gradient"])
        titles = [ax.get_title() for ax in found.plot().axes[1:]]
        assert all(title.count("\n") <= 1 for title in titles)
        assert titles[-1].replace("\n", " ").endswith("gradient, error")
        assert [title.split()[-1] for title in titles] == ["distance"] * 5 + ["probability"] + ["error"] * 2
        assert "shares of the length" in found.plot().texts[0].get_text().replace("\n", " ")


@data.needs_data
def test_on_cifar_the_last_layer_changes_less_than_the_first_as_in_the_paper() -> None:
    net = realnets.load("resnet20_cifar10")
    x, labels = net.batch(12)
    found = invariance(net.model, [(x, labels)], sweeps={"vertical": (-3, -1, 0, 1, 3), "rotation": (0, 10, 90)})
    one = found.relative("vertical", "conv1")[[1, 3]], found.relative("vertical", "linear@input")[[1, 3]]
    assert one[0].mean() > 3 * one[1].mean()  # layer 1 moves with the picture, the last hardly at all
    assert found.probability["vertical"][[1, 3]].mean() > 0.9
    assert found.probability["rotation"][2].mean() < found.probability["rotation"][1].mean()
