"""Faithfulness metrics: against slow loops, against algebra, against Captum, and what must make no difference."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from captum.metrics import infidelity as captums
from torch import Tensor, nn
from torch.testing import assert_close

from attrib.core.network.cost import count
from attrib.errors import AttribError, InputError, ShapeError
from attrib.metrics import Protocol
from attrib.metrics.infidelity import Infidelity, Noise, RawInfidelity
from attrib.metrics.ranking import Grid
from attrib.metrics.subsets import Subsets, cells_of
from attrib.registry import METRICS
from tests import nets
from tests.oracles import faithfulness as oracle
from tests.sweeps import DENSE

DOUBLE = torch.float64
LOGIT = Protocol(score="logit")
X = nets.batch(3, 8, 6, dtype=DOUBLE)
MAPS = nets.batch(3, 8, 6, 1, seed=5, dtype=DOUBLE)
NAMES = (
    "average_drop",
    "average_gain",
    "increase_in_confidence",
    "infidelity",
    "infidelity_raw",
    "irof",
    "mufidelity",
    "road",
    "road_lerf",
    "road_morf",
    "sensitivity_n",
)
MADE: dict[str, dict[str, Any]] = {"irof": {"segments": "grid", "n": 9}}


def net() -> nn.Module:
    return nets.fill(nets.Chain()).to(DOUBLE)


def linear() -> nets.Linear:
    model = nets.fill(nets.Linear()).to(DOUBLE)
    assert isinstance(model, nets.Linear)
    return model


def score(name: str, model: Any, maps: Tensor, protocol: Any = "default", x: Tensor = X, **options: Any) -> Tensor:
    found: Tensor = METRICS[name](**MADE.get(name, {})).score(model, x, 2, maps, protocol, **options)
    assert found.shape == (len(x),)
    assert found.dtype == DOUBLE
    return found


def contributions(model: nets.Linear) -> Tensor:
    """What each pixel adds to logit 2 over the zero baseline."""
    return (model.weight(2) * X).sum(1, keepdim=True)


def scorer(model: nn.Module, space: str = "probability") -> oracle.Score:
    def score(picture: Tensor) -> float:
        with torch.no_grad():
            out = model(picture)
        return float((out.softmax(1) if space == "probability" else out)[0, 2])

    return score


def pixels_of(hidden: Tensor, labels: Tensor) -> oracle.Pixels:
    return [(i, j) for i in range(labels.shape[0]) for j in range(labels.shape[1]) if hidden[labels[i, j]]]


# --- a second, independent computation ---------------------------------------------------------------------------


@pytest.mark.parametrize("unit", ["pixel", 3])
@pytest.mark.parametrize("baseline", ["zero", "mean"])
def test_sensitivity_n_equals_a_loop_over_sets(unit: Any, baseline: Any) -> None:
    model = net()
    grid = Grid((8, 6), 1 if unit == "pixel" else unit)
    labels = grid.paint(torch.arange(len(grid.areas))[None])[0]
    found = METRICS["sensitivity_n"](sizes=(2, 0.3), draws=12, seed=4).score(
        model, X, 2, MAPS, Protocol(unit=unit, baseline=baseline)
    )
    sizes = [2] * 12 + [max(1, round(0.3 * len(grid.areas)))] * 12
    subsets = Subsets(labels, sizes, 4)
    sets = [pixels_of(subsets.hidden(i), labels) for i in range(24)]
    assert [int(subsets.hidden(i).sum()) for i in range(24)] == sizes
    for i in range(3):
        base = X[i].mean((1, 2), keepdim=True).expand_as(X[i]) if baseline == "mean" else torch.zeros_like(X[i])
        halves = [oracle.held_and_lost(scorer(model), X[i], MAPS[i, 0], part, base) for part in (sets[:12], sets[12:])]
        assert float(found[i]) == pytest.approx(sum(oracle.correlation(*half) for half in halves) / 2, abs=1e-9)


def test_mufidelity_equals_a_loop_over_sets_of_cells() -> None:
    model, labels = net(), cells_of((8, 6), 4)
    maps = MAPS.round()  # so that some sums are equal
    found = METRICS["mufidelity"](cells=4, share=0.3, draws=40, seed=4).score(model, X, 2, maps)
    subsets = Subsets(labels, [5] * 40, 4)
    sets = [pixels_of(subsets.hidden(i), labels) for i in range(40)]
    assert len(set(map(tuple, sets))) == 40
    for i in range(3):
        held, lost = oracle.held_and_lost(scorer(model), X[i], maps[i, 0], sets, torch.zeros_like(X[i]))
        assert len(set(held)) < 40
        expected = oracle.correlation(oracle.places(held), oracle.places(lost))
        assert float(found[i]) == pytest.approx(expected, abs=1e-9)


def test_cells_are_as_equal_as_can_be() -> None:
    assert cells_of((4, 5), 2).tolist() == [[0, 0, 0, 1, 1]] * 2 + [[2, 2, 2, 3, 3]] * 2
    assert cells_of((2, 3), 9).tolist() == [[0, 1, 2], [3, 4, 5]]


@pytest.mark.parametrize("name", ["infidelity", "infidelity_raw"])
@pytest.mark.parametrize("values", ["contributions", "slopes"])
def test_infidelity_under_squares_equals_a_loop(name: str, values: Any) -> None:
    model = net()
    maps = MAPS if values == "contributions" else nets.batch(3, 8, 6, 3, seed=6, dtype=DOUBLE)
    metric = METRICS[name](values=values, side=3, draws=15, seed=2)
    found = metric.score(model, X, 2, maps, Protocol(baseline=0.4))
    sets = [[(i, j) for i in range(t, b) for j in range(le, r)] for t, b, le, r in metric.squares((8, 6)).boxes]
    assert len(set(map(tuple, sets))) > 8
    for i in range(3):
        base = torch.full_like(X[i], 0.4)
        says = maps[i, 0] if values == "contributions" else (maps[i] * (X[i] - base)).sum(0)
        predicted, lost = oracle.held_and_lost(scorer(model), X[i], says, sets, base)
        expected = oracle.infidelity(predicted, lost, normalise=name == "infidelity")
        assert float(found[i]) == pytest.approx(expected, rel=1e-9)


def test_infidelity_under_noise_equals_a_loop() -> None:
    model, noise = net(), Noise((3, 8, 6), 15, 0.3, 2)
    slopes = nets.batch(3, 8, 6, 3, seed=6, dtype=DOUBLE)
    for name in ("infidelity", "infidelity_raw"):
        found = METRICS[name](perturb="noise", values="slopes", sigma=0.3, draws=15, seed=2).score(model, X, 2, slopes)
        for i in range(3):
            clean = scorer(model)(X[i : i + 1])
            predicted = [float((slopes[i] * noise.draw(k)).sum()) for k in range(15)]
            lost = [clean - scorer(model)((X[i] - noise.draw(k))[None]) for k in range(15)]
            expected = oracle.infidelity(predicted, lost, normalise=name == "infidelity")
            assert float(found[i]) == pytest.approx(expected, rel=1e-8)


def test_what_is_seen_through_a_map_equals_a_loop() -> None:
    model = net()
    for i in range(3):
        clean, seen = oracle.through_map(scorer(model), X[i], MAPS[i, 0])
        expected = {
            "average_drop": max(0, clean - seen) / clean,
            "average_gain": max(0, seen - clean) / (1 - clean),
            "increase_in_confidence": float(seen > clean),
        }
        for name, value in expected.items():
            assert float(score(name, model, MAPS)[i]) == pytest.approx(value, rel=1e-9)


@pytest.mark.parametrize("baseline", ["zero", "mean"])
def test_irof_equals_a_loop_over_segments(baseline: Any) -> None:
    model, labels = net(), cells_of((8, 6), 3)
    segments = [pixels_of(torch.arange(9) == k, labels) for k in range(9)]
    maps = MAPS.round()
    found = score("irof", model, maps, Protocol(baseline=baseline))
    for i in range(3):
        base = X[i].mean((1, 2), keepdim=True).expand_as(X[i]) if baseline == "mean" else torch.zeros_like(X[i])
        expected = oracle.irof(scorer(model), X[i], maps[i, 0], segments, base)
        assert float(found[i]) == pytest.approx(expected, abs=1e-9)


def test_irof_follows_superpixels_of_which_each_example_has_its_own_number() -> None:
    pytest.importorskip("skimage")
    from attrib.core.masking.superpixels import superpixels

    model, x = net(), nets.batch(3, 16, 12, dtype=DOUBLE)
    x[0] = nn.functional.interpolate(x[:1, :, :4, :3], (16, 12))[0]
    maps, labels = nets.batch(3, 16, 12, 1, seed=5, dtype=DOUBLE), superpixels(x, n=12)[:, 0]
    numbers = [int(label.max()) + 1 for label in labels]
    assert len(set(numbers)) > 1
    found = METRICS["irof"](n=12).score(model, x, 2, maps, batch_size=5)
    for i in range(3):
        segments = [pixels_of(torch.arange(numbers[i]) == k, labels[i]) for k in range(numbers[i])]
        expected = oracle.irof(scorer(model), x[i], maps[i, 0], segments, torch.zeros_like(x[i]))
        assert float(found[i]) == pytest.approx(expected, abs=1e-9)


# --- known by algebra --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("unit", ["pixel", 2, 4])
def test_the_contributions_of_a_linear_model_are_perfectly_faithful(unit: Any) -> None:
    model = linear()
    protocol = Protocol(score="logit", unit=unit)
    maps, ones = contributions(model), torch.ones(3, dtype=DOUBLE)
    assert_close(METRICS["sensitivity_n"](sizes=(0.2, 0.5)).score(model, X, 2, maps, protocol), ones)
    assert_close(METRICS["sensitivity_n"](sizes=(2,)).score(model, X, 2, -3 * maps, protocol), -ones)
    assert_close(score("mufidelity", model, maps, protocol), ones)
    assert_close(score("mufidelity", model, -maps, protocol), -ones)
    assert_close(score("infidelity_raw", model, maps, protocol), 0 * ones)
    assert_close(score("infidelity", model, -maps / 7, protocol), 0 * ones)


def test_the_weights_of_a_linear_model_are_perfectly_faithful_slopes() -> None:
    model = linear()
    slopes = model.weight(2).expand(3, -1, -1, -1)
    for made in ({"perturb": "noise"}, {"perturb": "square", "side": 3}):
        found = RawInfidelity(values="slopes", **made).score(model, X, 2, slopes, LOGIT)  # type: ignore[arg-type]
        assert_close(found, torch.zeros(3, dtype=DOUBLE))


def test_a_slope_with_one_channel_holds_for_all_of_them() -> None:
    metric, model = Infidelity(perturb="noise", values="slopes"), net()
    assert_close(metric.score(model, X, 2, MAPS), metric.score(model, X, 2, MAPS.expand(-1, 3, -1, -1)))
    with pytest.raises(InputError, match="slopes must have 1 channel or the input's 3; got 2"):
        metric.score(model, X, 2, MAPS.expand(-1, 2, -1, -1))


def test_irof_of_a_linear_model_is_what_the_segments_add_up_to() -> None:
    model = nets.fill(nets.Linear(bias=False)).to(DOUBLE)
    assert isinstance(model, nets.Linear)
    maps, labels = contributions(model), cells_of((8, 6), 3)
    totals = torch.zeros(3, 9, dtype=DOUBLE).index_add_(1, labels.flatten(), maps.flatten(1))
    area = torch.bincount(labels.flatten())
    clean = totals.sum(1)
    ranked = totals.gather(1, (totals / area).argsort(1, descending=True))
    left = (clean[:, None] - ranked.cumsum(1)) / clean[:, None]
    expected = 1 - (0.5 + left[:, :-1].sum(1)) / 9  # ends at zero
    assert_close(score("irof", model, maps, LOGIT), expected.where(clean > 0, float("nan")), equal_nan=True)


# --- Captum ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("normalise", [False, True])
@pytest.mark.parametrize("perturb", ["noise", "square"])
def test_infidelity_equals_captums_under_the_same_perturbations(perturb: Any, normalise: bool) -> None:
    model, draws = net(), 12
    maps = nets.batch(3, 8, 6, 3, seed=6, dtype=DOUBLE)
    kind = Infidelity if normalise else RawInfidelity
    metric = kind(perturb=perturb, values="slopes", side=3, sigma=0.2, draws=draws, seed=9)
    noise, squares = Noise((3, 8, 6), draws, 0.2, 9), metric.squares((8, 6))

    def drawn(x: Tensor) -> tuple[Tensor, Tensor]:
        """Captum lists all samples of the first example, then those of the second."""
        if perturb == "noise":
            change = torch.stack([noise.draw(k) for k in range(draws)])
        else:
            change = 1 - squares.batch(0, draws, x)[:, 0].expand(-1, 3, -1, -1)
        change = change.repeat(len(x) // draws, 1, 1, 1)
        change = change if perturb == "noise" else change * (x - 0.3)
        return change, x - change

    expected = captums(
        lambda x: model(x).softmax(1), drawn, X, maps, target=2, n_perturb_samples=draws, normalize=normalise
    )
    assert_close(metric.score(model, X, 2, maps, Protocol(baseline=0.3)), expected, rtol=1e-6, atol=1e-12)


# --- what must make no difference --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("ties", ["stable", "mean"])
def test_an_example_is_measured_as_if_it_were_alone(name: str, ties: Any) -> None:
    model, protocol = net(), Protocol(ties=ties, tie_orders=2)
    maps = MAPS.round()
    together = score(name, model, maps, protocol)
    for size in (1, 2, 7):
        assert_close(score(name, model, maps, protocol, batch_size=size), together)
    for order in ([0], [2], [2, 0, 1], [1, 1]):
        assert_close(score(name, model, maps[order], protocol, X[order]), together[order])


@pytest.mark.parametrize("name", NAMES)
def test_the_model_the_inputs_and_the_random_state_stay_as_they_are(name: str) -> None:
    model, x, maps = net().train(), X.clone(), MAPS.clone()
    weights = {key: value.clone() for key, value in model.state_dict().items()}
    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    first = score(name, model, maps, x=x)
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(4)
    assert torch.equal(score(name, model, maps, x=x), first)
    assert model.training
    assert all(torch.equal(value, weights[key]) for key, value in model.state_dict().items())
    assert torch.equal(x, X)
    assert torch.equal(maps, MAPS)
    assert all(p.requires_grad and p.grad is None for p in model.parameters())


@pytest.mark.parametrize("name", NAMES)
def test_a_map_that_is_not_finite_is_undefined_and_the_others_are_not(name: str) -> None:
    model = net()
    whole = score(name, model, MAPS)
    for bad in (float("nan"), float("inf"), -float("inf")):
        maps = MAPS.clone()
        maps[1, 0, 3, 3] = bad
        found = score(name, model, maps)
        assert found.isnan().tolist() == [False, True, False]
        assert_close(found[[0, 2]], whole[[0, 2]])


@pytest.mark.parametrize("name", ["sensitivity_n", "mufidelity", "infidelity", "irof", "road", "average_drop"])
def test_the_scale_of_a_map_does_not_count(name: str) -> None:
    model = net()
    assert_close(score(name, model, 50 * MAPS), score(name, model, MAPS))


@pytest.mark.parametrize("name", NAMES)
def test_maps_of_a_layer_are_resized(name: str) -> None:
    model, small = net(), nets.batch(3, 4, 3, 1, seed=5, dtype=DOUBLE)
    full = nn.functional.interpolate(small, (8, 6), mode="bilinear", align_corners=False)
    found = score(name, model, small)
    if name == "infidelity_raw":
        assert found.isnan().all()
    else:
        assert_close(found, score(name, model, full), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", [name for name in NAMES if name not in {"average_gain", "increase_in_confidence"}])
def test_better_maps_get_better_numbers(name: str) -> None:
    model = linear()
    x = X.sign() * model.weight(2).sign().where(torch.arange(6) < 3, 1.0)  # the left half speaks for the class
    maps = (model.weight(2) * x).sum(1, keepdim=True)
    protocol = LOGIT if name == "infidelity_raw" else "default"  # a map of logits predicts logits
    better = score(name, model, maps, protocol, x)
    # the scale that is best for a map may be negative
    other = maps.flip(3) if name == "infidelity" else -maps
    worse = score(name, model, other, protocol, x)
    assert ((better > worse) == METRICS[name].higher_is_better).all(), (better, worse)


# --- what it costs -----------------------------------------------------------------------------------------------

PASSES: dict[str, Callable[[], tuple[Any, int]]] = {
    "average_drop": lambda: (METRICS["average_drop"](), 2),
    "average_gain": lambda: (METRICS["average_gain"](), 2),
    "increase_in_confidence": lambda: (METRICS["increase_in_confidence"](), 2),
    "infidelity": lambda: (METRICS["infidelity"](draws=7), 8),
    "infidelity_raw": lambda: (METRICS["infidelity_raw"](perturb="noise", values="slopes", draws=7), 8),
    "irof": lambda: (METRICS["irof"](segments="grid", n=9), 10),
    "mufidelity": lambda: (METRICS["mufidelity"](draws=7), 8),
    "road": lambda: (METRICS["road"](), 19),
    "road_lerf": lambda: (METRICS["road_lerf"](), 10),
    "road_morf": lambda: (METRICS["road_morf"](percentiles=(5, 50)), 3),
    "sensitivity_n": lambda: (METRICS["sensitivity_n"](sizes=(2, 5), draws=7), 15),
}


@pytest.mark.parametrize("name", NAMES)
def test_a_metric_costs_the_passes_that_it_says(name: str) -> None:
    metric, passes = PASSES[name]()
    with count() as cost:
        metric.score(net(), X, 2, MAPS, **DENSE)
    assert cost.forwards == 3 * passes
    assert cost.backwards == 0


def test_squares_are_local_so_that_little_is_computed() -> None:
    model, calls = net(), []
    model.register_forward_hook(lambda *_: calls.append(1))
    metric = Infidelity(side=2)
    found = metric.score(model, X, 2, MAPS)
    assert len(calls) <= 3
    assert_close(found, metric.score(model, X, 2, MAPS, **DENSE))
    metric.score(model, X, 2, MAPS, tolerance=0.1)
    with pytest.raises(InputError, match="tolerance must be left out"):
        Infidelity(perturb="noise", values="slopes").score(model, X, 2, MAPS, tolerance=0.1)


# --- what is refused ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        ({"maps": MAPS[:2]}, ShapeError, r"maps must have shape \(N=3"),
        ({"maps": nets.batch(3, 16, 12, 1)}, ShapeError, "at most the input's"),
        ({"maps": None}, InputError, "maps must be a real Tensor"),
        ({"x": (X, X)}, ShapeError, "x must be one Tensor; got 2"),
        ({"target": 99}, AttribError, "99"),
        ({"protocol": "rice"}, InputError, "protocol must be one of"),
        ({"batchsize": 3}, TypeError, "no option 'batchsize'. Did you mean 'batch_size'"),
    ],
)
def test_wrong_arguments_are_named(name: str, given: dict[str, Any], error: type[Exception], words: str) -> None:
    arguments = {"x": X, "target": 2, "maps": MAPS, "protocol": "default"} | given
    with pytest.raises(error, match=words):
        METRICS[name](**MADE.get(name, {})).score(net(), **arguments)


@pytest.mark.parametrize(
    ("name", "made", "words"),
    [
        ("road", {"percentiles": ()}, "percentiles must be numbers between 0 and 100"),
        ("road", {"percentiles": (0, 50)}, "percentiles must be numbers between 0 and 100"),
        ("road", {"sigma": -1}, "sigma must be a finite number"),
        ("irof", {"segments": "slic"}, "segments must be one of 'superpixels', 'grid'; got 'slic'"),
        ("irof", {"n": 1}, "n must be an integer >= 2"),
        ("sensitivity_n", {"sizes": ()}, "sizes must name at least one"),
        ("sensitivity_n", {"sizes": (1.0,)}, "sizes must be whole numbers >= 1, or shares between 0 and 1; got 1.0"),
        ("sensitivity_n", {"sizes": (0,)}, "sizes, unless shares, must be an integer >= 1"),
        ("sensitivity_n", {"draws": 1}, "draws must be an integer >= 2"),
        ("mufidelity", {"share": 1}, "share must lie between 0 and 1"),
        ("mufidelity", {"cells": 1}, "cells must be an integer >= 2"),
        ("infidelity", {"perturb": "noise"}, "values must be 'slopes' with perturb='noise'"),
        ("infidelity", {"side": 0}, "side must be an integer >= 1"),
        ("average_drop", {"scale": "max"}, "scale must be one of"),
    ],
)
def test_wrong_settings_are_named(name: str, made: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        METRICS[name](**made)


def test_sets_of_all_units_are_refused() -> None:
    with pytest.raises(InputError, match="sizes must leave something to choose from; got 48 of 48 units"):
        METRICS["sensitivity_n"](sizes=(48,)).score(net(), X, 2, MAPS)
