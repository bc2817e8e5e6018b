"""Extremal perturbation: smooth masks, the area, the search; closed forms and trained networks."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attrib.core.masking.fade import Fade, blurred, shifted, shifts
from attrib.core.masking.smooth_mask import Enlarge, MaxConvolution, area_gap
from attrib.core.reduce import upsample
from attrib.core.sweeps.mask_search import Masked, grid_of, masked
from attrib.errors import InputError, LayerError, ModelError, ShapeError
from attrib.methods.extremal_perturbation import ExtremalPerturbation
from tests import data, nets, realnets
from tests.oracles import searched

DOUBLE = torch.float64


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=DOUBLE)


# --- masks


@pytest.mark.parametrize(("size", "sigma"), [((7, 5), 1.3), ((4, 9), 0.4), ((3, 3), 2.0)])
def test_a_smooth_mask_is_the_smooth_maximum_of_the_bumps_of_all_cells(size: tuple[int, int], sigma: float) -> None:
    heights = noise(2, 1, *size)
    found = MaxConvolution(sigma, heights)(heights)
    for got, one in zip(found, heights, strict=True):
        np.testing.assert_allclose(got[0].numpy(), searched.max_convolution(one[0].numpy(), sigma), atol=1e-12)


def test_a_single_cell_makes_a_whole_bump_and_all_cells_a_full_mask() -> None:
    heights = torch.zeros(1, 1, 15, 15, dtype=DOUBLE)
    heights[..., 7, 7] = 1
    bump = MaxConvolution(2.0, heights)(heights)[0, 0]
    assert bump[7, 7] > 0.99
    assert bump[7, 7] >= bump[7, 9] > bump[7, 11] > bump[7, 13] > 0
    assert bump[7, 14] == 0
    everything = MaxConvolution(2.0, heights)(torch.ones_like(heights))[0, 0]
    assert everything.min() > 0.85
    assert everything.max() <= 1


@pytest.mark.parametrize("area", [0.05, 0.3, 0.9])
def test_the_area_gap_compares_the_sorted_mask_with_a_step(area: float) -> None:
    mask = noise(3, 1, 6, 7)
    expected = [searched.area_gap(one[0].numpy(), area) for one in mask]
    np.testing.assert_allclose(area_gap(mask, area).numpy(), expected, rtol=1e-12)


def test_the_area_gap_is_zero_for_binary_masks_of_that_area_wherever_they_are() -> None:
    where = torch.randperm(40, generator=torch.Generator().manual_seed(0))[:10]
    mask = torch.zeros(1, 1, 5, 8).index_put(
        (torch.zeros(10, dtype=torch.long),) * 2 + (where // 8, where % 8), torch.ones(())
    )
    assert float(area_gap(mask, 0.25)) == 0
    assert float(area_gap(mask, 0.2)) == 2  # two cells too many
    assert float(area_gap(0.5 * mask, 0.25)) == 10 / 4


def test_enlarging_is_the_resize_of_the_package() -> None:
    mask = noise(2, 1, 5, 3)
    torch.testing.assert_close(Enlarge((16, 11), mask)(mask), upsample(mask, (16, 11)))


def test_cells_are_square_and_no_smaller_than_a_pixel() -> None:
    assert grid_of((224, 224), 32) == (32, 32)
    assert grid_of((224, 336), 32) == (32, 48)
    assert grid_of((10, 8), 32) == (10, 8)


# --- what hidden places look like


def test_fading_goes_through_blurs_that_are_gaussian_means() -> None:
    x, keep = noise(1, 2, 13, 15), noise(1, 1, 13, 15, seed=1)
    found = Fade.of(x, "pyramid")(keep)[0]
    for got, plane in zip(found, x[0], strict=True):
        np.testing.assert_allclose(got.numpy(), searched.faded(plane.numpy(), keep[0, 0].numpy()), atol=1e-12)


def test_a_blur_keeps_constant_pictures_and_a_wide_one_repeats_the_border() -> None:
    torch.testing.assert_close(blurred(torch.full((1, 3, 6, 9), 0.7), 4.0), torch.full((1, 3, 6, 9), 0.7))
    plane = noise(1, 1, 4, 5)
    np.testing.assert_allclose(
        blurred(plane, 1.5)[0, 0].numpy(), searched.blurred(plane[0, 0].numpy(), 1.5), atol=1e-12
    )


@pytest.mark.parametrize("baseline", [0.3, "zero", "mean", lambda x: x.flip(3)])
def test_fading_to_a_baseline_is_a_straight_line(baseline: Any) -> None:
    x, keep = noise(2, 3, 6, 5), noise(2, 1, 6, 5, seed=1)
    fade = Fade.of(x, baseline)
    torch.testing.assert_close(fade(keep), keep * x + (1 - keep) * fade(torch.zeros_like(keep)))
    assert torch.equal(fade(torch.ones_like(keep)), x)
    assert torch.equal(fade.rows(torch.tensor([1]))(keep[1:]), fade(keep)[1:])


@pytest.mark.parametrize("shift", [(0, 0), (2, -1), (-3, 3)])
def test_a_shift_moves_the_picture_and_repeats_its_border(shift: tuple[int, int]) -> None:
    x = noise(1, 1, 5, 6)
    np.testing.assert_array_equal(shifted(x, shift)[0, 0].numpy(), searched.moved(x[0, 0].numpy(), *shift))


def test_shifts_are_drawn_from_a_seed_within_their_limit() -> None:
    drawn = [[draw() for _ in range(200)] for draw in (shifts(2, 7), shifts(2, 7), shifts(2, 8))]
    assert drawn[0] == drawn[1] != drawn[2]
    assert {y for y, _ in drawn[0]} == {x for _, x in drawn[0]} == {-2, -1, 0, 1, 2}


# --- closed forms


class Weighted(nn.Module):
    """The sum of weights times pixels, so that a pixel contributes its weight where the picture is 1."""

    def __init__(self, *weights: Tensor) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.stack(weights))

    def forward(self, x: Tensor) -> Tensor:
        return torch.einsum("nchw,khw->nk", x, self.weights)


def disc(y: float, x: float, radius: float, side: int = 32) -> Tensor:
    rows, columns = torch.meshgrid(torch.arange(float(side)), torch.arange(float(side)), indexing="ij")
    return (torch.hypot(rows - y, columns - x) <= radius).float()


PLACES = (disc(8, 10, 6), disc(20, 22, 6))
ONES = torch.ones(1, 1, 32, 32)


@pytest.mark.parametrize("variant", ["preserve", "delete", "dual"])
@pytest.mark.parametrize("target", [0, 1])
def test_the_region_of_a_linear_model_is_where_the_contributions_are(variant: Any, target: int) -> None:
    area = float(PLACES[target].mean())
    found = ExtremalPerturbation(
        Weighted(*PLACES), areas=area, variant=variant, baseline="zero", smoothness=1.5
    ).attribute(ONES, target)[0, 0]
    assert float((found * PLACES[target]).sum() / found.sum()) > 0.85
    assert float((found * PLACES[target]).sum() / PLACES[target].sum()) > 0.85


def test_of_two_places_the_one_that_contributes_more_is_chosen_first() -> None:
    model = Weighted(PLACES[0] + 2 * PLACES[1])
    area = float(PLACES[0].mean())
    small = ExtremalPerturbation(model, areas=area, baseline="zero", smoothness=1.5).attribute(ONES, 0)[0, 0]
    assert float((small * PLACES[1]).sum()) > 0.85 * float(small.sum())
    large = ExtremalPerturbation(model, areas=2 * area, baseline="zero", smoothness=1.5).attribute(ONES, 0)[0, 0]
    shares = [float((large * place).sum() / place.sum()) for place in PLACES]
    assert shares[1] > 0.85
    assert shares[0] > 0.7  # the edge of the stronger place is worth as much as the inside of the weaker one


def test_the_region_of_a_gap_head_is_where_its_class_activation_map_is_largest() -> None:
    model = nets.fill(nets.GapHead())
    x = torch.zeros(1, 3, 32, 32)
    x[:, :, 4:14, 16:28] = 1.0
    signs = model(x)[0]
    best = int(signs.sub(model(torch.zeros_like(x))[0]).argmax())
    found = ExtremalPerturbation(model, areas=120 / 1024, baseline="zero", smoothness=1.5).attribute(x, best)[0, 0]
    assert float(found[4:14, 16:28].sum()) > 0.75 * float(found.sum())


@pytest.mark.parametrize("area", [0.05, 0.1, 0.25, 0.6])
def test_the_area_is_the_one_that_was_asked_for(area: float) -> None:
    x, model = nets.batch(3, 48, 40), nets.make("module")
    maps = ExtremalPerturbation(model, areas=area, smoothness=2.0).attribute(x, [1, 2, 3])
    assert (maps.mean((1, 2, 3)) - area).abs().max() < 0.04
    assert (maps.square() - maps).abs().mean() < 0.1  # nearly binary: 0.25 is grey all over


def test_by_default_edges_are_as_wide_as_21_pixels_in_224_and_the_picture_stays_where_it_is() -> None:
    x, model = nets.batch(2, 56, 64), nets.make("module")
    maps = ExtremalPerturbation(model, steps=6).attribute(x, 2)
    assert torch.equal(maps, ExtremalPerturbation(model, steps=6, smoothness=5.25, jitter=0).attribute(x, 2))
    assert not torch.allclose(maps, ExtremalPerturbation(model, steps=6, smoothness=4.75).attribute(x, 2), atol=1e-3)
    assert not torch.allclose(maps, ExtremalPerturbation(model, steps=6, jitter=1).attribute(x, 2), atol=1e-3)


# --- the smallest area that reaches a share of the score


@pytest.mark.parametrize(("reach", "expected"), [(0.05, 0.1), (0.15, 0.2), (0.3, 0.4), (0.9, 0.4)])
@pytest.mark.parametrize("variant", ["preserve", "delete", "dual"])
def test_the_smallest_area_that_reaches_the_share_is_given_or_the_largest(
    variant: Any, reach: float, expected: float
) -> None:
    even = Weighted(torch.full((32, 32), 0.01))  # any region keeps, or loses, its own area's share of the score
    maps = ExtremalPerturbation(
        even, areas=(0.4, 0.1, 0.2), reach=reach, variant=variant, baseline="zero", smoothness=1.5
    ).attribute(ONES, 0)
    assert abs(float(maps.mean()) - expected) < 0.03


def test_each_example_gets_the_smallest_area_of_its_own() -> None:
    x = torch.cat([PLACES[0][None, None] + 0.001, ONES])
    maps = ExtremalPerturbation(
        Weighted(torch.ones(32, 32)), areas=(0.1, 0.4), reach=0.5, baseline="zero", smoothness=1.5, batch_size=2
    ).attribute(x, 0)
    assert float(maps[0].mean()) < 0.15
    assert float(maps[1].mean()) > 0.35


# --- manners


def test_a_score_that_becomes_nan_under_a_mask_stops_the_search() -> None:
    model = lambda x: (x.mean((2, 3)) - 0.9).sqrt()  # noqa: E731  a real number for the clean input only
    with pytest.raises(ModelError, match="NaN or infinite under a mask"):
        ExtremalPerturbation(model, baseline="zero").attribute(ONES, 0)


def test_a_target_without_a_gradient_is_refused_in_words() -> None:
    with pytest.raises(ModelError, match="must depend differentiably on the inputs"):
        ExtremalPerturbation(nets.make("module")).attribute(nets.batch(1), lambda out: out[:, 2].detach())


def test_layers_and_inputs_without_rows_and_columns_are_refused() -> None:
    with pytest.raises(LayerError, match="explains the inputs only"):
        ExtremalPerturbation(nets.make("module"), "pool")
    signals = nn.Sequential(nn.Conv1d(2, 3, 3), nn.AdaptiveAvgPool1d(1), nn.Flatten())
    with pytest.raises(ShapeError, match="N, C, H, W"):
        ExtremalPerturbation(signals).attribute(torch.rand(2, 2, 9), 1)


@pytest.mark.parametrize(
    "wrong",
    [{"areas": 0}, {"areas": 1.0}, {"areas": ()}, {"areas": (0.1, 2)}, {"steps": 0}, {"cells": 0}, {"smoothness": 0},
     {"variant": "keep"}, {"reach": 1.5}, {"score": "odds"}, {"jitter": -1}, {"seed": 0.5}, {"batch_size": 0}],
    ids=str,
)  # fmt: skip
def test_a_wrong_option_is_named(wrong: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=next(iter(wrong))):
        ExtremalPerturbation(nets.make("module"), **wrong)


# --- trained networks


def candidates(size: int, area: float) -> Tensor:
    """Discs of one area, with edges as soft as a region has: in the centre, and at twelve random places inside."""
    radius = size * math.sqrt(area / math.pi)
    places = radius + (size - 2 * radius) * noise(12, 2)
    rows, columns = torch.meshgrid(torch.arange(size) + 0.5, torch.arange(size) + 0.5, indexing="ij")
    centres = [(size / 2, size / 2), *places.tolist()]
    discs = [torch.sigmoid((radius - torch.hypot(rows - y, columns - x)) / (0.035 * size)) for y, x in centres]
    return torch.stack(discs)[:, None].float()


def kept(one: Masked, masks: Tensor) -> Tensor:
    """The share of the score that is left under each of the masks."""
    with torch.no_grad():
        return torch.cat([one.left(one.score(mask[None])) for mask in masks])


@data.needs_data
@pytest.mark.parametrize(
    ("name", "side", "count"),
    [("mobilenet_v1_025_128", 128, 8), pytest.param("resnet18", 112, 4, marks=pytest.mark.slow)],
)
def test_regions_found_on_trained_networks_beat_random_and_central_ones(name: str, side: int, count: int) -> None:
    """In the mean over pictures, against the best of thirteen discs for each of them."""
    net = realnets.load(name)
    x, labels = net.batch(count)
    x = F.interpolate(x, (side, side), mode="bilinear", antialias=True)
    regions = {v: ExtremalPerturbation(net.model, variant=v).attribute(x, labels) for v in ("preserve", "delete")}
    discs = candidates(side, 0.1)
    rows = []
    with ExtremalPerturbation(net.model).asking(x, labels) as query:
        for one in masked(query, 0, "pyramid", 1):
            preserved, deleted = regions["preserve"][one.index], regions["delete"][one.index]
            rows.append(
                [kept(one, preserved), kept(one, discs).max(), kept(one, 1 - deleted), kept(one, 1 - discs).min()]
            )
    preserved, best_disc, deleted, best_hole = torch.tensor(rows).mean(0)
    assert preserved > best_disc
    assert deleted < best_hole
    assert deleted < 0.75


@data.needs_data
def test_on_a_trained_network_an_example_is_searched_to_the_bit_as_alone() -> None:
    net = realnets.load("resnet20_cifar10")
    x, labels = net.batch(3)
    method = ExtremalPerturbation(net.model, steps=30)
    together = method.attribute(x, labels)
    assert torch.equal(method.attribute(x.flip(0), labels.flip(0)).flip(0), together)
    assert torch.equal(method.attribute(x[1:2], labels[1:2]), together[1:2])
