"""Meaningful perturbation: its price, closed forms, trained networks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from attrib.core.masking.smooth_mask import variation
from attrib.core.sweeps.mask_search import masked
from attrib.errors import InputError, LayerError, ModelError
from attrib.methods.meaningful_perturbation import MeaningfulPerturbation
from tests import data, nets, realnets
from tests.oracles import searched
from tests.test_extremal import ONES, PLACES, Weighted, noise
from tests.test_real_methods import share_on_object

PLAIN: dict[str, Any] = {"baseline": "zero", "smoothness": 0.0, "cells": 32}


@pytest.mark.parametrize("power", [1.0, 3.0])
def test_the_variation_sums_powers_of_differences_between_neighbours(power: float) -> None:
    mask = noise(3, 1, 5, 7)
    expected = [searched.variation(one[0].numpy(), power) for one in mask]
    np.testing.assert_allclose(variation(mask, power).numpy(), expected, rtol=1e-12)


def share(found: Tensor, place: Tensor) -> float:
    return float((found * place).sum() / place.sum())


@pytest.mark.parametrize("game", ["delete", "preserve"])
@pytest.mark.parametrize("target", [0, 1])
def test_all_that_contributes_is_hidden_while_a_cell_is_worth_more_than_it_costs(game: Any, target: int) -> None:
    """Of 1024 cells 113 make up the score, so that each is worth 1/113 of it, and costs sparsity / 1024."""
    model, place = Weighted(*PLACES), PLACES[target]
    assert int(place.sum()) == 113
    cheap = MeaningfulPerturbation(model, game=game, sparsity=3.0, **PLAIN).attribute(ONES, target)[0, 0]
    assert share(cheap, place) > 0.95
    assert share(cheap, 1 - place) < 0.02
    dear = MeaningfulPerturbation(model, game=game, sparsity=15.0, **PLAIN).attribute(ONES, target)[0, 0]
    assert float(dear.max()) < 0.02


def test_nothing_is_hidden_beyond_what_takes_the_whole_score_away() -> None:
    """With 2 A - B, half of A is worth as much as the clean score; hiding the rest would only make it negative."""
    model = Weighted(2 * PLACES[0] - PLACES[1])
    found = MeaningfulPerturbation(model, sparsity=1.0, **PLAIN).attribute(ONES, 0)[0, 0]
    assert abs(share(found, PLACES[0]) - 0.5) < 0.1
    assert share(found, PLACES[1]) < 0.05


def test_smoothness_makes_neighbours_alike() -> None:
    x, model = nets.batch(2, 24, 24), nets.make("module")
    rough, smooth = (
        variation(MeaningfulPerturbation(model, smoothness=weight).attribute(x, 2), 2.0) for weight in (0.0, 200.0)
    )
    assert bool((smooth < 0.5 * rough).all())


def test_by_default_the_first_steps_are_those_of_the_papers_weights_and_power() -> None:
    """Later ones amplify rounding: near the minimum, steps are as long as before and change their sign."""
    weights = noise(28, 28) ** 8
    x = torch.ones(1, 1, 28, 28, dtype=weights.dtype)
    found = MeaningfulPerturbation(Weighted(weights).double(), baseline="zero", jitter=0, steps=5).attribute(x, 0)
    expected = searched.hidden(weights.numpy(), 5, sparsity=2.0, smoothness=20.0, power=3.0, length=0.1)
    np.testing.assert_allclose(found[0, 0].numpy(), expected, atol=1e-12)


@pytest.mark.parametrize(("size", "limit"), [((112, 140), 2), ((224, 224), 4), ((50, 300), 0)])
def test_by_default_the_picture_moves_by_four_pixels_in_224(size: tuple[int, int], limit: int) -> None:
    x, seen = torch.zeros(1, 1, *size), []
    x[0, 0, 25, 30] = 1
    model = Weighted(torch.ones(size))
    model.register_forward_hook(lambda _m, args, _o: seen.extend(args[0][0, 0].nonzero().tolist()))
    MeaningfulPerturbation(model, sparsity=1e6, steps=80, baseline="zero").attribute(x, 0)
    moves = {*range(-limit, limit + 1)}
    assert {row - 25 for row, _ in seen} == {column - 30 for _, column in seen} == moves


def test_layers_wrong_options_and_nan_are_refused() -> None:
    with pytest.raises(LayerError, match="explains the inputs only"):
        MeaningfulPerturbation(nets.make("module"), "pool")
    wrong = {"game": "hide", "steps": 0, "cells": 0, "sparsity": -1, "smoothness": -1, "length": 2, "jitter": -1,
             "seed": 0.5, "batch_size": 0, "score": "odds"}  # fmt: skip
    for name, value in wrong.items():
        with pytest.raises(InputError, match=name):
            MeaningfulPerturbation(nets.make("module"), **{name: value})
    with pytest.raises(ModelError, match="NaN or infinite under a mask"):
        MeaningfulPerturbation(lambda x: (x.mean((2, 3)) - 0.9).sqrt(), baseline="zero").attribute(ONES, 0)


@data.needs_data
def test_on_a_trained_network_a_small_loss_takes_the_score_away_and_a_small_rest_keeps_it() -> None:
    net = realnets.load("mobilenet_v1_025_128")
    x, labels = net.batch(4)
    maps = {game: MeaningfulPerturbation(net.model, game=game).attribute(x, labels) for game in ("delete", "preserve")}
    with MeaningfulPerturbation(net.model).asking(x, labels) as query, torch.no_grad():
        examples = list(masked(query, 0, "pyramid", 1))
        lost = torch.cat([one.left(one.score(1 - maps["delete"][one.index])) for one in examples])
        kept = torch.cat([one.left(one.score(maps["preserve"][one.index])) for one in examples])
        elsewhere = torch.cat([one.left(one.score(1 - maps["delete"][one.index].flip(2, 3))) for one in examples])
    assert lost.max() < 0.3
    assert lost.mean() < elsewhere.mean() - 0.4  # the same amount, turned by half a turn
    assert kept.mean() > 0.5
    assert all(m.mean((1, 2, 3)).max() < 0.25 for m in maps.values())


@data.needs_data
def test_on_a_trained_network_the_loss_lies_on_the_object() -> None:
    net = realnets.load("mobilenet_v1_025_128")
    on_object, area = share_on_object(net, MeaningfulPerturbation(net.model, steps=60), data.photos(6))
    assert (on_object > area).sum() >= 5
    assert on_object.mean() > 1.2 * area.mean()


def test_cells_are_enlarged_bilinearly() -> None:
    x, model = nets.batch(1, 24, 24), nets.make("module")
    coarse = MeaningfulPerturbation(model, cells=6, steps=10).attribute(x, 2)
    cells = F.interpolate(coarse, (6, 6), mode="area")
    assert float((F.interpolate(cells, (24, 24), mode="bilinear") - coarse).abs().max()) < 0.3 < float(coarse.max())
