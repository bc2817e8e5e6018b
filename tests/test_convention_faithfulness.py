"""One test per line of the Conventions of faithfulness metrics."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from attrib.errors import InputError
from attrib.metrics import Protocol
from attrib.metrics.asking import full_size
from attrib.metrics.subsets import Subsets, cells_of
from attrib.registry import METRICS
from tests import nets
from tests.conventions import pins
from tests.test_faithfulness import DOUBLE, LOGIT, MADE, MAPS, NAMES, X, contributions, linear, net, score, scorer


class Seen(nn.Module):
    """Keeps every picture that it is asked about."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.pictures: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        self.pictures += [*x.detach().clone()]
        out: Tensor = self.model(x)
        return out


def shown(name: str, maps: Tensor, protocol: Protocol | str = "default", **made: Any) -> Tensor:
    """The changed pictures of the first example, in the order in which they are shown."""
    model = Seen(net())
    METRICS[name](**{**MADE.get(name, {}), **made}).score(model, X[:1], 2, maps[:1], protocol, exact_dense=True)
    return torch.stack(model.pictures[1:])


class Clean(nn.Module):
    """Gives the first picture that it is asked about one probability for class 0, and all later ones another."""

    def __init__(self, clean: float, later: float) -> None:
        super().__init__()
        self.scores = [clean, later]

    def forward(self, x: Tensor) -> Tensor:
        value = self.scores.pop(0) if len(self.scores) > 1 else self.scores[0]
        return torch.tensor([[value, 1 - value]], dtype=DOUBLE).log().expand(len(x), -1)


def judged(name: str, clean: float, seen: float) -> float:
    return float(METRICS[name]().score(Clean(clean, seen), X[:1], 0, MAPS[:1], exact_dense=True)[0])


# --- all of them


@pins("AskingMetric", "the class is decided once")
@pytest.mark.parametrize("name", NAMES)
def test_the_class_is_decided_once_on_the_clean_input(name: str) -> None:
    model = net()
    metric = METRICS[name](**MADE.get(name, {}))
    with torch.no_grad():
        labels = model(X).argmax(1).tolist()
    assert_close(metric.score(model, X, "predicted", MAPS), metric.score(model, X, labels, MAPS))
    with_softmax = nn.Sequential(model, nn.Softmax(1))
    in_space = metric.score(with_softmax, X, labels, MAPS, LOGIT)
    assert_close(metric.score(model, X, labels, MAPS), in_space)


@pins("AskingMetric", "maps of a layer are resized")
def test_channels_and_sign_are_the_protocols() -> None:
    maps = nets.batch(3, 4, 3, 2, dtype=DOUBLE)
    found = full_size(maps, X, Protocol(channels="mean", sign="positive"))
    small = maps.mean(1, keepdim=True).clamp(min=0)
    assert_close(found, nn.functional.interpolate(small, (8, 6), mode="bilinear", align_corners=False))
    for name in ("irof", "road", "sensitivity_n", "mufidelity", "average_drop", "infidelity"):
        wide = nets.batch(3, 8, 6, 2, dtype=DOUBLE)
        expected = score(name, net(), wide.mean(1, keepdim=True).abs())
        assert_close(score(name, net(), wide, Protocol(channels="mean", sign="absolute")), expected)


@pins("AskingMetric", "NaN where the map is not finite")
def test_maps_that_are_not_finite_are_undefined() -> None:
    maps = MAPS.clone()
    maps[0, 0, 0, 0], maps[2, 0, 1, 1] = float("nan"), float("inf")
    for name in NAMES:
        assert score(name, net(), maps).isnan().tolist() == [True, False, True]


@pins("AskingMetric", "every example is measured as if it were alone")
def test_all_examples_are_asked_about_the_same_draws() -> None:
    twice = [0, 0]
    for name in ("sensitivity_n", "mufidelity", "infidelity", "road"):
        found = METRICS[name]().score(net(), X[twice], 2, MAPS[twice])
        assert_close(found[0], found[1])
        assert_close(METRICS[name](seed=0).score(net(), X[:1], 2, MAPS[:1])[0], found[0])
        assert not torch.isclose(METRICS[name](seed=1).score(net(), X[:1], 2, MAPS[:1])[0], found[0])


# --- seen through the map


@pins("ThroughMap", '``scale="minmax"``')
@pytest.mark.parametrize("name", ["average_drop", "average_gain", "increase_in_confidence"])
def test_every_map_is_stretched_by_itself_and_a_constant_one_is_undefined(name: str) -> None:
    whole = score(name, net(), MAPS)
    assert_close(score(name, net(), MAPS * torch.tensor([1.0, 7.0, 0.1]).view(3, 1, 1, 1) - 5), whole)
    maps = MAPS.clone()
    maps[1] = 0.3
    assert score(name, net(), maps).isnan().tolist() == [False, True, False]
    mixed = shown("average_drop", MAPS)[0]
    stretched = (MAPS[0] - MAPS[0].min()) / (MAPS[0].max() - MAPS[0].min())
    assert_close(mixed, X[0] * stretched)


@pins("ThroughMap", '``scale="none"``')
def test_a_map_that_is_one_everywhere_loses_nothing() -> None:
    ones = torch.ones_like(MAPS)
    made = {name: METRICS[name](scale="none") for name in ("average_drop", "average_gain", "increase_in_confidence")}
    assert {name: one.score(net(), X, 2, ones).abs().amax().item() for name, one in made.items()} == pytest.approx(
        {"average_drop": 0, "average_gain": 0, "increase_in_confidence": 0}
    )
    ones[:, :, 0, 0] = 0  # all but one pixel, which stretching does not change
    assert score("average_drop", linear(), ones).max() < 0.2
    with pytest.raises(InputError, match=r"maps must lie in \[0, 1\] with scale='none'; got -"):
        made["average_drop"].score(net(), X, 2, MAPS)


@pins("ThroughMap", "``b`` is the protocol's baseline")
def test_what_the_map_leaves_out_shows_the_baseline() -> None:
    m = (MAPS[0] - MAPS[0].min()) / (MAPS[0].max() - MAPS[0].min())
    assert_close(shown("average_drop", MAPS, Protocol(baseline=0.7))[0], X[0] * m + 0.7 * (1 - m))


@pins("average_drop", "relative to the clean score", "lower is better")
def test_average_drop_is_relative_and_needs_a_positive_score() -> None:
    assert judged("average_drop", 0.5, 0.2) == pytest.approx(0.6)  # not 0.3
    assert judged("average_drop", 0.5, 0.8) == 0
    assert not METRICS["average_drop"].higher_is_better
    clean = linear()(X)[:, 2]
    assert (clean > 0).tolist() == [True, False, False]
    assert score("average_drop", linear(), MAPS, LOGIT).isnan().tolist() == [False, True, True]


@pins("increase_in_confidence", "1 where ``O > Y``", "higher is better")
def test_an_increase_is_one_or_nothing_and_rounding_is_none() -> None:
    assert [judged("increase_in_confidence", 0.5, seen) for seen in (0.4, 0.5, 0.5 + 1e-15, 0.6)] == [0, 0, 0, 1]
    assert METRICS["increase_in_confidence"].higher_is_better
    ones = torch.ones_like(MAPS)
    assert METRICS["increase_in_confidence"](scale="none").score(net(), X, 2, ones).tolist() == [0, 0, 0]


@pins("average_gain", "higher is better")
def test_average_gain_is_a_share_of_what_was_missing() -> None:
    assert judged("average_gain", 0.6, 0.9) == pytest.approx(0.75)
    assert judged("average_gain", 0.6, 0.3) == 0
    assert METRICS["average_gain"].higher_is_better
    assert score("average_gain", linear(), MAPS, LOGIT).isnan().tolist() == [
        not 0 <= value < 1 for value in linear()(X)[:, 2].tolist()
    ]


# --- IROF


@pins("irof", "segments are superpixels")
def test_irof_takes_superpixels_or_a_grid_and_nothing_of_the_protocols_units() -> None:
    assert METRICS["irof"]().segments == "superpixels"
    for protocol in (Protocol(unit=4), Protocol(steps=3)):
        assert_close(score("irof", net(), MAPS, protocol), score("irof", net(), MAPS))
    grids = [METRICS["irof"](segments="grid", n=n).score(net(), X, 2, MAPS) for n in (4, 9)]
    assert not torch.isclose(*grids).any()


@pins("irof", "the x-axis is the share of the *segments*", "removed segments show the protocol's baseline")
def test_irof_removes_one_segment_after_the_other_whatever_its_size() -> None:
    labels = cells_of((8, 6), 3)
    assert len(set(torch.bincount(labels.flatten()).tolist())) > 1
    pictures = shown("irof", MAPS, Protocol(baseline=0.5))
    gone = [(one == 0.5).all(0) for one in pictures]
    assert [len(labels[hidden].unique()) for hidden in gone] == list(range(1, 10))
    curve = torch.tensor([scorer(net())(one[None]) for one in (X[0], *pictures)]) / scorer(net())(X[:1])
    expected = 1 - torch.trapezoid(curve.double(), dx=1 / 9)
    assert_close(score("irof", net(), MAPS, Protocol(baseline=0.5))[0], expected, rtol=1e-6, atol=1e-6)


@pins("irof", "equal segments are removed as the protocol's ``ties`` say")
def test_irof_of_a_constant_map_follows_the_rule_for_ties() -> None:
    raster = -cells_of((8, 6), 3).to(DOUBLE).expand(3, 1, -1, -1)
    flat = torch.full_like(MAPS, 0.2)
    assert_close(score("irof", net(), flat), score("irof", net(), raster))
    drawn = score("irof", net(), flat, Protocol(ties="mean", tie_orders=6))
    assert not torch.isclose(drawn, score("irof", net(), flat)).any()
    assert_close(score("irof", net(), MAPS, Protocol(ties="mean", tie_orders=6)), score("irof", net(), MAPS))


@pins("irof", "higher is better; 1 where")
def test_irof_is_a_share_of_the_clean_score() -> None:
    def measured(clean: float, later: float) -> float:
        metric = METRICS["irof"](segments="grid", n=9)
        return float(metric.score(Clean(clean, later), X[:1], 0, MAPS[:1], exact_dense=True)[0])

    assert METRICS["irof"].higher_is_better
    assert measured(0.5, 0.0) == pytest.approx(1 - 0.5 / 9)  # at once is after one segment
    assert measured(0.5, 0.5) == pytest.approx(0)
    assert measured(0.5, 1.0) == pytest.approx(-1 + 0.5 / 9)
    negative = (linear()(X)[:, 2] <= 0).tolist()
    assert score("irof", linear(), MAPS, LOGIT).isnan().tolist() == negative


# --- sensitivity-n, MuFidelity


@pins("sensitivity_n", "``S`` are units of the protocol", "an int counts units")
def test_sensitivity_n_hides_whole_units_in_all_channels() -> None:
    pictures = shown("sensitivity_n", MAPS, Protocol(baseline=0.5), sizes=(3, 0.5), draws=4)
    hidden = [(one == 0.5).all(0) for one in pictures]
    assert [int(one.sum()) for one in hidden] == [3] * 4 + [24] * 4
    assert all(torch.equal((one == 0.5).any(0), where) for one, where in zip(pictures, hidden, strict=True))
    assert len({tuple(where.flatten().tolist()) for where in hidden}) == 8
    patches = shown("sensitivity_n", MAPS, Protocol(baseline=0.5, unit=2), sizes=(0.001,), draws=4)
    assert [int((one == 0.5).all(0).sum()) for one in patches] == [4] * 4


@pins("sensitivity_n", "Pearson correlation, once for each size", "higher is better; a map that is exact")
def test_sensitivity_n_is_the_mean_over_sizes() -> None:
    both = METRICS["sensitivity_n"](sizes=(2, 9), draws=30).score(net(), X, 2, MAPS)
    first = METRICS["sensitivity_n"](sizes=(2,), draws=30).score(net(), X, 2, MAPS)
    second = 2 * both - first
    assert (second.abs() <= 1).all()
    subsets = Subsets(torch.arange(48).view(8, 6), [9] * 60, 0)  # the second half of what both were asked about
    hidden = torch.stack([subsets.hidden(i) for i in range(30, 60)]).view(30, 8, 6)
    held = (hidden * MAPS[0, 0]).sum((1, 2))
    lost = torch.tensor([-scorer(net())((X[0] * ~one)[None]) for one in hidden]).double()
    assert_close(second[0], torch.corrcoef(torch.stack([held, lost]))[0, 1], rtol=1e-6, atol=1e-6)
    assert METRICS["sensitivity_n"].higher_is_better
    assert_close(score("sensitivity_n", linear(), contributions(linear()), LOGIT), torch.ones(3, dtype=DOUBLE))


@pins("sensitivity_n", "NaN where the map is constant")
@pins("mufidelity", "NaN where the map is constant")
@pytest.mark.parametrize("name", ["sensitivity_n", "mufidelity"])
def test_nothing_is_made_of_what_does_not_vary(name: str) -> None:
    maps = MAPS.clone()
    maps[0], maps[1] = 0.1, 0
    for unit in ("pixel", 5):  # patches of unequal size hold unequal sums of a constant
        assert score(name, net(), maps, Protocol(unit=unit)).isnan().tolist() == [True, True, False]
    deaf = nn.Sequential(nn.Flatten(), nn.Linear(144, 5)).double()
    deaf[1].weight.data.zero_()
    assert score(name, deaf, MAPS).isnan().all()


@pins("mufidelity", "``S`` are cells of a grid")
def test_mufidelity_hides_cells_of_a_grid_over_the_image() -> None:
    labels = cells_of((8, 6), 3)
    for unit in ("pixel", 4):
        pictures = shown("mufidelity", MAPS, Protocol(baseline=0.5, unit=unit), cells=3, share=0.3, draws=5)
        hidden = [(one == 0.5).all(0) for one in pictures]
        assert [len(labels[where].unique()) for where in hidden] == [3] * 5
        assert all(torch.equal(torch.isin(labels, labels[where]), where) for where in hidden)


@pins("mufidelity", "Spearman's correlation", "higher is better; a map that is exact")
def test_mufidelity_reads_ranks_only() -> None:
    maps = contributions(linear())
    as_probability = score("mufidelity", linear(), maps, Protocol(score="log_odds"))
    assert METRICS["mufidelity"].higher_is_better
    assert_close(score("mufidelity", linear(), maps, LOGIT), torch.ones(3, dtype=DOUBLE))
    # a score that is bent but rises with the other has the same ranks
    assert_close(score("mufidelity", linear(), maps), as_probability)
    assert not torch.isclose(
        score("sensitivity_n", linear(), maps), score("sensitivity_n", linear(), maps, Protocol(score="log_odds"))
    ).any()


# --- infidelity


@pins("infidelity", "``beta`` is the best scale of each map")
def test_infidelity_is_that_of_the_best_scale() -> None:
    found = score("infidelity", net(), MAPS)
    assert_close(score("infidelity", net(), -30 * MAPS), found)
    raw = [score("infidelity_raw", net(), scale * MAPS) for scale in torch.linspace(-0.02, 0.02, 401)]
    best = torch.stack(raw).amin(0)
    assert (found <= best).all()
    assert_close(found, best, rtol=2e-2, atol=0)
    zero = score("infidelity", net(), 0 * MAPS)
    assert_close(zero, score("infidelity_raw", net(), 0 * MAPS))
    assert (zero >= found).all()


@pins("infidelity", '``perturb="square"``')
def test_a_square_shows_the_baseline_and_a_map_of_contributions_is_summed_over_it() -> None:
    pictures = shown("infidelity", MAPS, Protocol(baseline=0.5), side=3, draws=6)
    hidden = [(one == 0.5).all(0) for one in pictures]
    assert all(int(one.sum()) == 9 for one in hidden)
    model = linear()
    difference = X - 0.5
    slopes = model.weight(2).expand(3, -1, -1, -1)
    maps = (slopes * difference).sum(1, keepdim=True)
    protocol = Protocol(baseline=0.5, score="logit")
    for values, one in (("contributions", maps), ("slopes", slopes)):
        found = METRICS["infidelity_raw"](values=values).score(model, X, 2, one, protocol)
        assert_close(found, torch.zeros(3, dtype=DOUBLE))


@pins("infidelity", '``perturb="noise"``')
def test_noise_is_drawn_for_every_channel() -> None:
    pictures = shown("infidelity", MAPS, perturb="noise", values="slopes", sigma=0.3, draws=40)
    noise = X[0] - pictures
    assert float(noise.std()) == pytest.approx(0.3, rel=0.03)
    assert float(noise.mean()) == pytest.approx(0, abs=0.02)
    assert not torch.isclose(noise[:, 0], noise[:, 1]).any()


@pins("infidelity", "slopes keep their channels")
def test_contributions_are_reduced_and_slopes_are_not() -> None:
    wide = nets.batch(3, 8, 6, 3, dtype=DOUBLE)
    reduced = wide.abs().max(1, keepdim=True).values
    protocol = Protocol(channels="max", sign="absolute")
    by_hand = METRICS["infidelity"](side=2).score(net(), X, 2, reduced)
    assert_close(METRICS["infidelity"](side=2).score(net(), X, 2, wide, protocol), by_hand)
    slopes = METRICS["infidelity"](side=2, values="slopes")
    assert_close(slopes.score(net(), X, 2, wide, protocol), slopes.score(net(), X, 2, wide.abs()))


@pins("infidelity", "lower is better")
@pins("infidelity_raw", "lower is better")
def test_infidelity_has_the_unit_of_the_score_squared() -> None:
    class Thrice(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = 3 * net()(x)
            return out

    for name, factor in (("infidelity", 1), ("infidelity_raw", 3)):
        assert not METRICS[name].higher_is_better
        plain, larger = score(name, net(), MAPS, LOGIT), score(name, Thrice(), factor * MAPS, LOGIT)
        assert_close(larger, 9 * plain)


@pins("infidelity_raw", "perturbations and what ``M`` means", "maps are read in their own unit")
def test_raw_infidelity_reads_the_same_perturbations_in_the_maps_own_unit() -> None:
    for made in ({}, {"side": 2, "seed": 4}, {"perturb": "noise", "values": "slopes", "sigma": 0.4}):
        raw, best = METRICS["infidelity_raw"](**made), METRICS["infidelity"](**made)
        assert_close(raw.score(net(), X, 2, 0 * MAPS), best.score(net(), X, 2, 0 * MAPS))
        twice, once = raw.score(net(), X, 2, 2 * MAPS), raw.score(net(), X, 2, MAPS)
        assert not torch.isclose(twice, once).any()


@pins("infidelity_raw", "NaN where the map is not of the input's size")
def test_raw_infidelity_of_a_resized_map_is_undefined() -> None:
    assert score("infidelity_raw", net(), MAPS[:, :, ::2]).isnan().all()


# --- ROAD


@pins("RoadMetric", "of the protocol's units, the share given in per cent")
@pytest.mark.parametrize("name", ["road_morf", "road_lerf"])
def test_road_removes_a_share_of_the_units(name: str) -> None:
    made: dict[str, Any] = {"percentiles": (0.01, 25, 51, 99.99)}
    maps = MAPS if name == "road_morf" else -MAPS
    order = maps[0].flatten().argsort(descending=True)
    for picture, count in zip(shown(name, MAPS, **made), (1, 12, 24, 47), strict=True):
        gone = ~torch.isclose(picture, X[0]).all(0).flatten()
        assert sorted(gone.nonzero()[:, 0].tolist()) == sorted(order[:count].tolist())
    patches = shown(name, MAPS, Protocol(unit=4), percentiles=(50,))[0]
    assert int((~torch.isclose(patches, X[0]).all(0)).sum()) in {16, 24, 32}


@pins("RoadMetric", "a removed pixel is the weighted mean")
def test_road_fills_in_all_channels_and_ignores_baseline_and_steps() -> None:
    for protocol in (Protocol(baseline=9.0), Protocol(steps=4)):
        assert_close(score("road", net(), MAPS, protocol), score("road", net(), MAPS))
    picture, quiet = (shown("road_morf", MAPS, percentiles=(30,), sigma=sigma)[0] for sigma in (0.2, 0.0))
    added = picture - quiet
    gone = ~torch.isclose(quiet, X[0]).all(0)
    assert added[:, ~gone].abs().max() < 1e-9
    assert float(added[:, gone].std()) == pytest.approx(0.2, rel=0.3)


@pins("RoadMetric", "noise is drawn for each percentile, channel and pixel")
def test_road_noise_is_the_same_for_every_map() -> None:
    def noise(maps: Tensor) -> tuple[Tensor, Tensor]:
        loud, quiet = (shown("road_morf", maps, percentiles=(30, 60), sigma=sigma) for sigma in (0.2, 0.0))
        return loud - quiet, ~torch.isclose(quiet, X[0]).all(1, keepdim=True)

    (one, gone), (other, also) = noise(MAPS), noise(-MAPS.flip(2))
    both = (gone & also).expand_as(one)
    assert both.any()
    assert_close(one[both], other[both])
    assert not torch.isclose(one[0, 0], one[0, 1])[gone[0, 0]].any()
    assert not torch.isclose(one[0], one[1])[:, (gone[0] & gone[1])[0]].any()


@pins("RoadMetric", "the mean over percentiles of the score")
def test_road_is_the_mean_over_percentiles() -> None:
    pictures = shown("road_morf", MAPS)
    assert len(pictures) == 9
    expected = sum(scorer(net())(one[None]) for one in pictures) / 9
    assert float(score("road_morf", net(), MAPS)[0]) == pytest.approx(expected, abs=1e-9)


@pins("RoadMetric", "equal units are removed as the protocol's ``ties`` say")
@pins("road", "what is removed, and how it is filled in", "higher is better")
def test_a_constant_map_and_chance_have_no_road() -> None:
    assert METRICS["road"].higher_is_better
    flat = torch.full_like(MAPS, 0.2)
    raster = -torch.arange(48.0).view(1, 1, 8, 6).expand(3, -1, -1, -1)
    for name in ("road", "road_morf", "road_lerf"):
        assert_close(score(name, net(), flat), score(name, net(), raster))
    drawn = {name: score(name, net(), flat, Protocol(ties="mean")) for name in ("road", "road_morf", "road_lerf")}
    assert drawn["road"].abs().max() < 1e-7
    assert_close(drawn["road_morf"], drawn["road_lerf"], rtol=1e-5, atol=1e-7)
    sides = score("road_lerf", net(), MAPS) - score("road_morf", net(), MAPS)
    assert_close(score("road", net(), MAPS), sides / 2)
