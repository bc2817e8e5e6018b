"""Features back to pictures: exact where the features are linear, in agreement with the formulas elsewhere."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from attrib.analysis.hog import DictionaryInverter, Inverter, fit_dictionary, fit_ridge, see_hog, sparse_codes
from attrib.errors import InputError, LayerError, ShapeError
from attrib.models import HOG
from attrib.plot import hog_glyph, hog_panels
from attrib.plot.hog import stretched
from tests import data, nets, realnets
from tests.data import needs_data
from tests.pictures import words

pytest.importorskip("sklearn")
pytest.importorskip("skimage")

DOUBLE = torch.float64
SMALL: dict[str, Any] = {"signed": True, "orientations": 8, "pixels_per_cell": 4, "cells_per_block": 1}


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=DOUBLE)


def shapes(count: int, size: int = 32, seed: int = 0) -> Tensor:
    """Bright squares on dark, ``(N, 3, size, size)``."""
    chance = np.random.default_rng(seed)
    found = torch.full((count, 3, size, size), 0.2)
    for one in found:
        for _ in range(3):
            (top, left), (high, wide) = chance.integers(0, size - 8, 2), chance.integers(5, 14, 2)
            one[:, top : top + high, left : left + wide] = float(chance.uniform(0.5, 1))
    return found


class Linear(nn.Module):
    """Cuts pictures into squares of 4 x 4 pixels and mixes the pixels of each: it can be undone."""

    def __init__(self, channels: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, 16 * channels, 4, stride=4)

    def forward(self, x: Tensor) -> Tensor:
        act: Tensor = self.conv(x)
        return act.mean((2, 3))


class Patches(nn.Module):
    """A stem of patches of 4 x 4 pixels, with its locations in a row behind a class token, or before the channels."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.stem = nn.Conv2d(3, 24, 4, stride=4)
        self.mixed = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        act = self.stem(x)
        tokens = act.flatten(2).transpose(1, 2)
        rows = torch.cat([tokens.mean(1, keepdim=True), tokens], 1)
        out: Tensor = self.mixed(rows if self.kind == "vit" else act.permute(0, 2, 3, 1))
        return out.flatten(1).mean(1, keepdim=True)


MIXERS = {kind: (nets.fill(Patches(kind)), "mixed") for kind in ("vit", "swin")}


class TestRidge:
    def test_a_linear_layer_that_can_be_undone_is_undone(self) -> None:
        net = nets.fill(Linear()).double()
        inverter = fit_ridge(noise(20, 1, 16, 16), net, "conv", strength=0)
        x = noise(3, 1, 20, 12, seed=1)
        torch.testing.assert_close(inverter.invert(net.conv(x)), x, rtol=1e-6, atol=1e-6)
        assert float(inverter.score(x).psnr.min()) > 100
        windowed = fit_ridge(noise(30, 1, 16, 16), net, "conv", strength=0, window=2)
        torch.testing.assert_close(windowed.of(x), x, rtol=1e-6, atol=1e-6)

    def test_colours_are_undone_where_they_are_asked_for_and_else_their_luma(self) -> None:
        net, x = nets.fill(Linear(3)).double(), noise(2, 3, 16, 16, seed=1)
        colour = fit_ridge(noise(20, 3, 16, 16), net, "conv", strength=0, colour=True)
        torch.testing.assert_close(colour.of(x), x, rtol=1e-6, atol=1e-6)
        grey = fit_ridge(noise(20, 3, 16, 16), net, "conv", strength=0)
        expected = 0.299 * x[:, :1] + 0.587 * x[:, 1:2] + 0.114 * x[:, 2:]
        torch.testing.assert_close(grey.of(x), expected, rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(grey.picture(x), expected)

    def test_the_weight_is_that_of_the_formula(self) -> None:
        hog, x = HOG(**SMALL).double(), noise(5, 1, 12, 12)
        inverter = fit_ridge(x, hog, window=3, strength=0.7)
        y, pixels = hog.blocks(hog.cells(x)).flatten(1), x.flatten(1)
        about, centred = y - y.mean(0), pixels - pixels.mean(0)
        covariance = about.T @ about / 5
        penalty = 0.7 * covariance.diagonal().mean() * torch.eye(y.shape[1]).double()
        weight = torch.linalg.inv(covariance + penalty) @ about.T @ centred / 5
        torch.testing.assert_close(inverter.weight, weight)
        torch.testing.assert_close(inverter.of(x).flatten(1), about @ weight + pixels.mean(0))

    def test_one_window_more_or_less_in_a_batch_does_not_matter(self) -> None:
        x = noise(6, 3, 16, 20)
        one, other = (fit_ridge(x, HOG(**SMALL), batch_size=size) for size in (1, 4))
        torch.testing.assert_close(one.weight, other.weight)
        batched = fit_ridge([x[:2], x[2:]], HOG(**SMALL))
        torch.testing.assert_close(one.weight, batched.weight)

    def test_only_features_that_know_the_light_side_of_an_edge_give_the_picture_back(self) -> None:
        train, held = shapes(60), shapes(20, seed=1)
        train, held = (torch.cat([x[::2], 1 - x[1::2]]) for x in (train, held))  # dark on bright too
        found = {}
        for signed in (True, False):
            hog = HOG(**{**SMALL, "signed": signed})
            found[signed] = float(fit_ridge(train, hog).score(held).correlation.mean())
        assert found[True] > 0.8
        assert found[False] < 0.2

    def test_any_layer_of_a_network_is_inverted_better_than_by_the_mean_picture(self) -> None:
        model, x = nets.make("module").eval(), shapes(80, 24)[..., 6:18, 6:18]
        before = [parameter.clone() for parameter in model.parameters()]
        train, held = x[:60], x[60:]
        plain = (held.mean(1, keepdim=True) - train.mean()).square().mean((1, 2, 3))
        inverter = fit_ridge(train, model, "conv1", window=3)
        score = inverter.score(held)
        assert inverter.invert(inverter.source.features(held)).shape[0] == 20
        assert float(score.psnr.mean()) > float(-10 * torch.log10(plain).mean()) + 3
        assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))

    def test_a_vector_without_locations_stands_for_the_whole_picture(self) -> None:
        net = nn.Sequential(nn.AvgPool2d(8), nn.Flatten())
        x = noise(30, 1, 16, 16)
        inverter = fit_ridge(x, net, "1", strength=0, shrink=8)
        torch.testing.assert_close(inverter.invert(net(x[:4])).flatten(1), net(x[:4]), rtol=1e-8, atol=1e-8)

    def test_vectors_of_hog_are_its_maps(self) -> None:
        hog, x = HOG(**SMALL), noise(4, 1, 16, 24).float()
        inverter = fit_ridge(x, hog)
        torch.testing.assert_close(inverter.invert(hog(x)), inverter.of(x))
        wider = noise(1, 1, 16, 40).float()
        torch.testing.assert_close(inverter.invert(hog(wider), locations=(4, 10)), inverter.of(wider))
        with pytest.raises(ShapeError, match=r"features must have 192 numbers, 8 at each of 4 x 6 locations; got 320"):
            inverter.invert(hog(wider))

    @needs_data
    def test_the_deeper_the_layer_the_less_of_the_picture_comes_back(self) -> None:
        net = realnets.load("resnet20_cifar10")
        photos = [photo for photo, _ in data.cifar10(240)]
        x = torch.cat([net.loaded.inputs(photos[start : start + 80]) for start in (0, 80, 160)])
        span = (float(x.min()), float(x.max()))
        found = []
        for layer in ("conv1", "layer1", "layer2", "layer3"):
            inverter = fit_ridge(x[:200], net.model, layer, window=1, colour=True, batch_size=40)
            found.append(float(inverter.score(x[200:], limits=span).psnr.mean()))
        assert found == sorted(found, reverse=True)
        assert found[0] > found[-1] + 6

    @pytest.mark.parametrize("name", ["vit", "swin"])
    def test_tokens_and_channels_last_have_their_places(self, name: str) -> None:
        model, layer = MIXERS[name]
        x = shapes(60, 16)
        score = fit_ridge(x[:50], model, layer, strength=0.01, colour=True).score(x[50:])
        plain = (x[50:] - x[:50].mean()).square().mean((1, 2, 3))
        assert float(score.psnr.mean()) > float(-10 * torch.log10(plain).mean()) + 5


class TestDictionary:
    def test_codes_are_those_of_scikit_learn(self) -> None:
        linear_model = pytest.importorskip("sklearn.linear_model")
        y, atoms = noise(6, 20) - 0.5, noise(15, 20, seed=1) - 0.5
        codes = sparse_codes(y, atoms, 0.1, steps=3000)
        theirs = linear_model.Lasso(alpha=0.1 / 20, fit_intercept=False, tol=1e-10, max_iter=100_000)
        expected = theirs.fit(atoms.T.numpy(), y.T.numpy()).coef_
        torch.testing.assert_close(codes, torch.from_numpy(expected), rtol=0, atol=1e-5)
        assert 0.1 < float((codes == 0).double().mean()) < 0.9

    def test_a_pair_of_the_dictionary_is_found_by_its_features(self) -> None:
        net = nets.fill(Linear()).double()
        fitted = fit_dictionary(noise(12, 1, 16, 16), net, "conv", atoms=8, code_sparsity=0.0)
        y = fitted.feature_atoms[3] + fitted.mean_window
        found = fitted.patches(y[None, None])[0, 0]
        torch.testing.assert_close(found, fitted.picture_atoms[3] + fitted.mean_patch, rtol=1e-3, atol=1e-3)

    def test_pictures_of_edges_come_back(self) -> None:
        hog = HOG(**SMALL)
        inverter = fit_dictionary(shapes(30), hog, atoms=60, per_image=25)
        assert float(inverter.score(shapes(10, seed=1)).correlation.mean()) > 0.7

    def test_the_same_seed_gives_the_same_dictionary_and_leaves_all_else_alone(self) -> None:
        x = shapes(6)
        kept, state, numpys = x.clone(), torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
        one, same, other = (fit_dictionary(x, HOG(**SMALL), atoms=10, per_image=9, seed=s) for s in (0, 0, 1))
        assert torch.equal(one.feature_atoms, same.feature_atoms)
        assert torch.equal(one.of(x), same.of(x))
        assert not torch.equal(one.of(x), other.of(x))
        assert torch.equal(x, kept)
        assert torch.equal(torch.get_rng_state(), state)
        assert (np.random.get_state()[1] == numpys).all()  # noqa: NPY002


@pytest.mark.parametrize("fit", [fit_ridge, fit_dictionary])
class TestBadInput:
    def test_pictures_that_are_too_small_or_too_few_are_refused(self, fit: Any) -> None:
        with pytest.raises(ShapeError, match="inputs must be at least 24 x 24 pixels, one block; got 20 x 20"):
            fit(noise(4, 1, 20, 20))
        with pytest.raises(
            ShapeError, match=r"must have at least 4 x 4 locations, one window; got 2 x 2. Pictures of 48"
        ):
            fit(noise(4, 1, 32, 32))
        with pytest.raises(InputError, match=r"images must hold at least (2|as many) windows.*; got 1"):
            fit(noise(1, 1, 16, 16), HOG(**SMALL))
        with pytest.raises(InputError, match="data must hold at least one example"):
            fit([], HOG(**SMALL))
        broken = noise(2, 1, 16, 16)
        broken[0, 0, 3, 3] = torch.nan
        with pytest.raises(InputError, match="inputs must be finite; got 1 NaN or infinite values"):
            fit([broken], HOG(**SMALL))

    def test_pictures_whose_locations_are_elsewhere_are_refused(self, fit: Any) -> None:
        padded = nn.Sequential(nn.Conv2d(1, 3, 3, stride=4, padding=1))
        how = {"atoms": 2} if fit is fit_dictionary else {}
        with pytest.raises(
            ShapeError, match=r"images must have 20 x 20 pixels or more for 5 x 5 locations.*got 18 x 18"
        ):
            fit([noise(3, 1, 16, 16).float(), noise(3, 1, 18, 18).float()], padded, "0", **how)

    def test_layers_that_are_not_there_or_have_no_places_are_refused(self, fit: Any) -> None:
        with pytest.raises(LayerError, match="layer must be given, except for HOG"):
            fit(noise(4, 3, 12, 12), nets.make("module"))
        with pytest.raises(LayerError, match="no layer 'conv9'"):
            fit(noise(4, 3, 12, 12), nets.make("module"), "conv9")

    def test_settings_out_of_range_are_refused(self, fit: Any) -> None:
        for how, says in (
            ({"shrink": 3}, "shrink must divide the step from one location to the next, 4 x 4 pixels; got 3"),
            ({"shrink": 0}, "shrink must be an integer >= 1; got 0"),
            ({"window": 0}, "window must be an integer >= 1; got 0"),
        ):
            with pytest.raises(InputError, match=says):
                fit(noise(4, 1, 32, 32), HOG(**SMALL), **how)
        with pytest.raises(ShapeError, match=r"1 or 3 channels to have a luma; got 2\. Pass colour=True"):
            fit(noise(4, 2, 32, 32), HOG(**SMALL))

    def test_features_of_another_network_are_refused(self, fit: Any) -> None:
        how = {"atoms": 9} if fit is fit_dictionary else {}
        inverter: Inverter = fit(noise(4, 1, 32, 32), HOG(**SMALL), **how)
        with pytest.raises(ShapeError, match=r"features must have shape \(N, K=8, ROWS, COLUMNS\); got \(1, 9, 8, 8\)"):
            inverter.invert(torch.zeros(1, 9, 8, 8))
        with pytest.raises(ShapeError, match="must have at least 4 x 4 locations"):
            inverter.invert(torch.zeros(1, 8, 3, 8))
        with pytest.raises(InputError, match="limits must be"):
            inverter.score(noise(1, 1, 32, 32), limits=(1, 0))


def test_options_of_one_way_are_checked() -> None:
    x = noise(4, 1, 32, 32)
    with pytest.raises(InputError, match=r"strength must be a finite number in \[0, inf\]; got -1"):
        fit_ridge(x, HOG(**SMALL), strength=-1)
    with pytest.raises(InputError, match="at least 129 windows to learn from; got 100"):
        fit_ridge(x, HOG(**SMALL), strength=0)
    with pytest.raises(InputError, match=r"as many windows as there are atoms, 256; got 100"):
        fit_dictionary(x, HOG(**SMALL))
    with pytest.raises(InputError, match="per_image must be an integer >= 1"):
        fit_dictionary(x, HOG(**SMALL), per_image=0)
    with pytest.raises(InputError, match="sparsity must be a finite number"):
        fit_dictionary(x, HOG(**SMALL), sparsity=0)


def pictures(count: int, seed: int) -> dict[str, Image.Image]:
    rows = (shapes(count, 48, seed) * 255).byte().movedim(1, -1).numpy()
    return {f"p{i}": Image.fromarray(row) for i, row in enumerate(rows)}


class TestViews:
    def test_photos_stand_beside_their_glyphs_and_what_is_made_of_their_features(self) -> None:
        found = see_hog(pictures(2, 1), pictures(6, 2), hog=HOG(**SMALL), atoms=40)
        assert list(found.views) == ["ridge", "paired dictionary"]
        assert found.examples == 6
        figure = hog_panels(found)
        assert [ax.get_title() for ax in figure.axes if ax.get_title()] == ["photo", "HOG", *found.views]
        notes = [note for ax in figure.axes for note in words(ax)]
        assert f"correlation {found.correlation['ridge']['p1']:.2f}" in notes
        assert found.correlation["ridge"]["p0"] > 0.5
        text = found.to_text()
        assert "learned from 6 photos" in text
        assert f"{found.psnr['paired dictionary']['p1']:.2f}" in text

    def test_a_further_view_is_scored_and_drawn_as_the_others(self) -> None:
        found = see_hog(pictures(1, 1)["p0"], pictures(4, 2), hog=HOG(**SMALL), dictionary=False)
        more = found.with_view("itself", {"image": found.pictures["image"]})
        assert more.correlation["itself"]["image"] == pytest.approx(1)
        assert list(found.views) == ["ridge"]
        assert [ax.get_title() for ax in more.plot().axes][-1] == "itself"
        with pytest.raises(InputError, match="pictures must be of the photos 'image'; got 'other'"):
            found.with_view("itself", {"other": found.pictures["image"]})

    def test_photos_are_scaled_down_and_never_up(self) -> None:
        found = see_hog(pictures(1, 1), pictures(4, 2), hog=HOG(**SMALL), size=40, dictionary=False)
        assert found.pictures["p0"].shape == (3, 40, 40)
        found = see_hog(pictures(1, 1), pictures(4, 2), hog=HOG(**SMALL), size=400, dictionary=False)
        assert found.pictures["p0"].shape == (3, 48, 48)

    def test_the_glyph_is_scikit_images(self) -> None:
        hog = pytest.importorskip("skimage.feature").hog
        image = noise(3, 32, 40)
        _, expected = hog(image.numpy(), 9, (8, 8), (1, 1), visualize=True, channel_axis=0)
        np.testing.assert_allclose(hog_glyph(image).numpy(), expected)
        with pytest.raises(ShapeError, match="image must be at least 8 x 8 pixels, one cell; got 5 x 9"):
            hog_glyph(torch.rand(3, 5, 9))

    def test_a_flat_inversion_is_drawn_grey(self) -> None:
        assert (stretched(torch.full((1, 4, 4), 7.0)) == 0.5).all()
        ramp = stretched(torch.arange(201.0).reshape(1, 201))
        assert (ramp[0, 2], ramp[0, 100], ramp[0, 198]) == (0, 0.5, 1)


def test_an_inverter_shows_what_it_is_without_its_numbers() -> None:
    inverter = fit_dictionary(shapes(4), HOG(**SMALL), atoms=10)
    assert isinstance(inverter, DictionaryInverter)
    assert len(repr(inverter)) < 300
