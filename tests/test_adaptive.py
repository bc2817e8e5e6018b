"""Curves that are measured only where they bend: how far off they are, what they cost, what they must not depend on."""

from __future__ import annotations

import json
from math import floor
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from attrib import METHODS
from attrib.core.network.cost import count
from attrib.metrics import Curves, Protocol, curves
from attrib.metrics.refine import FIRST
from benchmarks import adaptive
from tests import data, nets, realnets
from tests.oracles import adaptive as oracle
from tests.sweeps import DENSE

DOUBLE = torch.float64
ROOT = Path(__file__).parents[1]
H, W = 16, 14  # 224 pixels: 225 possible points


class Table(nn.Module):
    """Its score is whatever a table says for the number of pixels still there."""

    def __init__(self, values: Tensor) -> None:
        super().__init__()
        self.values = values

    def forward(self, x: Tensor) -> Tensor:
        return self.values[x.sum((1, 2, 3)).round().long()][:, None]


def follow(scores: Tensor, **fields: Any) -> Curves:
    """The deletion curve of a model that has ``scores (225,)`` after so many pixels are removed."""
    protocol = Protocol(score="logit", **{"steps": "adaptive", **fields})
    x, maps = torch.ones(1, 1, H, W, dtype=DOUBLE), torch.arange(H * W).reshape(1, 1, H, W)
    return curves(Table(scores.to(DOUBLE).flip(0)), x, 0, maps, protocol, which=["deletion"])


def missed(scores: Tensor, found: Curves) -> float:
    """Distance to the area of all points, as a share of the range."""
    exact = torch.trapezoid(scores.to(DOUBLE), dx=1 / H / W)
    return float((found.auc("deletion")[0] - exact).abs() / (scores.max() - scores.min()).clamp(min=1e-300))


def points(fraction: Tensor) -> Tensor:
    """Different points of each curve, ``(N,)``."""
    return (fraction.diff(dim=-1) > 0).sum(-1) + 1


def noise(n: int = 2, h: int = 8, w: int = 6, seed: int = 5) -> Tensor:
    return nets.batch(n, h, w, 1, seed=seed, dtype=DOUBLE)


def net() -> nn.Module:
    return nets.fill(nets.Chain()).to(DOUBLE)


# --- a second, independent computation ------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([0.3, 1.0, 3.0]), st.sampled_from([0.05, 0.01, 0.003]), st.sampled_from([225, 113, 33, 20]))  # fmt: skip  # noqa: E501
def test_the_points_are_those_that_a_loop_over_intervals_chooses(
    seed: int, jumps: float, tolerance: float, most: int
) -> None:
    draw = torch.Generator().manual_seed(seed)
    scores = (torch.randn(225, generator=draw, dtype=DOUBLE).sign() * torch.rand(225, generator=draw) ** (4 / jumps)).cumsum(0)  # fmt: skip  # noqa: E501
    removed = [floor(i * 224 / (most - 1) + 0.5) for i in range(most)]
    chosen, left = oracle.measure(lambda i: float(scores[removed[i]]), most - 1, tolerance)
    found = follow(scores, tolerance=tolerance, max_steps=most)
    fraction = found.curve("deletion")[0][0]
    if 224 % (most - 1) == 0:  # the possible points are equally spaced in units
        assert (fraction * 224).round().long().tolist() == [removed[i] for i in chosen]
        torch.testing.assert_close(float(found.integration_error("deletion")), left)
    else:
        assert set((fraction * 224).round().long().tolist()) <= set(removed)


# --- how far off the area is --------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(
    st.dictionaries(st.integers(1, 224), st.integers(1, 5), min_size=1, max_size=40),
    st.sampled_from([0.05, 0.02, 0.01, 0.003]),
    st.booleans(),
)
def test_convention_no_staircase_is_missed_by_more_than_the_tolerance(
    steps: dict[int, int], tolerance: float, rises: bool
) -> None:
    scores = torch.zeros(225)
    for place, height in steps.items():
        scores[place:] += height if rises else -height
    found = follow(scores, tolerance=tolerance)
    assert missed(scores, found) <= tolerance + 1e-12
    assert missed(scores, found) * float(scores.max() - scores.min()) <= found.integration_error("deletion") + 1e-12


def zigzag(knots: list[int], heights: list[int]) -> Tensor:
    """Straight lines between so many heights; ``knots`` say how far apart they are."""
    x = torch.tensor([0, *knots]).cumsum(0)
    x = x * 224.0 / x[-1]
    parts = torch.arange(225.0)
    i = torch.searchsorted(x, parts, right=True).clamp(1, len(x) - 1)
    low, high, y = x[i - 1], x[i], torch.tensor(heights, dtype=torch.float32)
    return (y[i - 1] + (y[i] - y[i - 1]) * (parts - low) / (high - low)).double()


@settings(max_examples=60, deadline=None)
@given(st.data(), st.integers(2, 5), st.sampled_from([0.02, 0.01, 0.003]))
def test_kinks_between_long_straight_lines_are_found(pick: st.DataObject, lines: int, tolerance: float) -> None:
    knots = pick.draw(st.lists(st.integers(10, 16), min_size=lines, max_size=lines))
    heights = pick.draw(st.lists(st.integers(0, 9), min_size=lines + 1, max_size=lines + 1))
    scores = zigzag(knots, heights)
    if scores.max() > scores.min():
        assert missed(scores, follow(scores, tolerance=tolerance)) <= tolerance + 1e-9


@pytest.mark.parametrize("tolerance", [0.02, 0.01, 0.001])
def test_smooth_curves_are_within_the_tolerance_and_cost_more_the_smaller_it_is(tolerance: float) -> None:
    x = torch.linspace(0, 1, 225, dtype=DOUBLE)
    for scores in (torch.exp(-9 * x), 1 / (1 + torch.exp(30 * (x - 0.4))), torch.cos(9 * x) * (1 - x), x**3):
        found = follow(scores, tolerance=tolerance)
        finer = follow(scores, tolerance=tolerance / 4)
        assert missed(scores, found) <= tolerance
        assert float(found.integration_error("deletion")) <= tolerance * float(scores.max() - scores.min())
        assert points(found.curve("deletion")[0]) < points(finer.curve("deletion")[0]) <= 225


def test_convention_a_bump_that_shows_at_no_first_point_is_missed() -> None:
    scores = torch.ones(225)
    scores[3:6] = 2  # the first points are 0, 8, 16, ...
    found = follow(scores)
    assert points(found.curve("deletion")[0]) == FIRST
    assert found.integration_error("deletion") == 0
    assert missed(scores, found) > 0.01


def test_only_the_step_and_its_surroundings_are_measured_closely() -> None:
    scores = (torch.arange(225) < 100).double()
    fraction, score = follow(scores, tolerance=0.001).curve("deletion")
    more = sorted(set((fraction[0] * 224).round().long().tolist()) - set(range(0, 225, 8)))
    assert {98, 99, 100} <= set(more) <= set(range(88, 112))
    assert len(more) < 16
    assert torch.equal(score[0], scores[(fraction[0] * 224).round().long()])


def test_rounding_does_not_choose_the_points() -> None:
    noise = torch.rand(2, 225, generator=torch.Generator().manual_seed(0), dtype=DOUBLE) * 1e-12
    line, fall = torch.linspace(1, 0, 225, dtype=DOUBLE), (torch.arange(225) < 100).double()
    for scores in (line, fall, line.square(), fall + line, torch.cos(9 * line)):
        one, other = (follow(scores + some, tolerance=0.003).curve("deletion")[0] for some in noise)
        assert torch.equal(one, other)


def test_without_tolerance_every_interval_that_changes_is_measured_to_the_end() -> None:
    scores = torch.rand(225, generator=torch.Generator().manual_seed(0)).cumsum(0).double()
    found = follow(scores, tolerance=0)
    assert points(found.curve("deletion")[0]) == 225
    assert float(found.integration_error("deletion")) == 0
    torch.testing.assert_close(found.auc("deletion"), follow(scores, steps=225).auc("deletion"), rtol=1e-12, atol=0)


@pytest.mark.parametrize("value", [0.0, 3.5])
def test_a_flat_curve_needs_no_more_than_the_first_points(value: float) -> None:
    assert points(follow(torch.full((225,), value)).curve("deletion")[0]) == FIRST


def test_rounding_is_not_taken_for_a_bend() -> None:
    jitter = torch.rand(225, generator=torch.Generator().manual_seed(0), dtype=DOUBLE)
    assert points(follow(1 + 1e-16 * jitter).curve("deletion")[0]) == FIRST
    assert points(follow(1 + 1e-9 * jitter).curve("deletion")[0]) > 2 * FIRST


@pytest.mark.parametrize(("most", "possible"), [(9, 9), ("rows", 17), (1000, 225)])
def test_max_steps_bounds_the_points(most: Any, possible: int) -> None:
    scores = torch.rand(225, generator=torch.Generator().manual_seed(0)).cumsum(0)
    found = follow(scores, tolerance=0, max_steps=most)
    assert points(found.curve("deletion")[0]) == possible
    even = follow(scores, steps=possible)
    torch.testing.assert_close(found.auc("deletion"), even.auc("deletion"))


CHEAP = {"resnet20_cifar10": ("gradcam", 6), "mnist_cnn": ("saliency", 6), "mobilenet_v1_025_128": ("guided", 3)}


@data.needs_data
@pytest.mark.parametrize("name", CHEAP)
def test_on_trained_nets_the_area_is_that_of_224_steps_within_the_tolerance(name: str) -> None:
    method, n = CHEAP[name]
    model, (x, _) = realnets.load(name).model, realnets.load(name).batch(n)
    random = torch.rand(n, 1, *x.shape[2:], generator=torch.Generator().manual_seed(0))
    maps = {method: METHODS[method](model).attribute(x, "predicted"), "random": random}
    every = curves(model, x, "predicted", maps, Protocol(steps=225))
    for tolerance, least_saved in ((0.02, 3), (0.01, 2)):
        with count() as cost:
            found = curves(model, x, "predicted", maps, Protocol(steps="adaptive", tolerance=tolerance))
        assert cost.forwards < n * (2 + len(maps) * 2 * 223) / least_saved
        for label, one in found.items():
            for curve in ("deletion", "insertion", "lerf"):
                score = every[label].curve(curve)[1]
                limit = tolerance * (score.amax(1) - score.amin(1))
                assert ((one.auc(curve) - every[label].auc(curve)).abs() <= limit).all()
                assert (one.integration_error(curve) <= limit).all()


# --- what it costs ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch_size", [1, 5, "auto"])
def test_every_point_is_one_pass_of_one_example_and_the_ends_are_shared(batch_size: Any) -> None:
    x, maps = nets.batch(3, 16, 14, dtype=DOUBLE), {str(s): noise(3, 16, 14, seed=s) for s in range(2)}
    with count() as cost:
        found = curves(net(), x, 1, maps, Protocol(steps="adaptive", tolerance=0.02), batch_size=batch_size, **DENSE)
    inner = [points(one.curve(name)[0]) - 2 for one in found.values() for name in ("deletion", "lerf")]
    number = torch.stack(inner).sum(0)
    assert len(set(number.tolist())) > 1  # examples differ
    assert cost.forwards == 3 * 2 + int(number.sum())


def test_another_baseline_of_insertion_is_followed_for_itself() -> None:
    x, maps = nets.batch(2, 16, 14, dtype=DOUBLE), noise(2, 16, 14)
    with count() as cost:
        found = curves(net(), x, 1, maps, Protocol(steps="adaptive", insertion_baseline="blur"), **DENSE)
    inner = [points(found.curve(name)[0]) - 2 for name in ("deletion", "lerf", "insertion")]
    assert cost.forwards == 2 * 3 + int(torch.stack(inner).sum())


# --- what must not change a number --------------------------------------------------------------------------------


@pytest.mark.parametrize("ties", ["stable", "mean", "bounds"])
@pytest.mark.parametrize("baseline", ["zero", "mean", "blur", (0.1, 0.2, 0.3)])
def test_an_example_does_not_depend_on_its_neighbours(ties: Any, baseline: Any) -> None:
    model, x, maps = net(), nets.batch(4, 12, 10, dtype=DOUBLE), noise(4, 12, 10).mul(3).round()
    maps[2], maps[3, 0, 1, 1] = noise(1, 12, 10)[0], float("nan")  # one without ties, one without a curve
    protocol = Protocol(steps="adaptive", baseline=baseline, ties=ties, tie_orders=2, tolerance=0.03)
    whole, turn = curves(model, x, "predicted", maps, protocol), [2, 0, 3, 1]
    turned = curves(model, x[turn], "predicted", maps[turn], protocol, batch_size=3)
    assert whole.auc("deletion").isnan().tolist() == [False, False, False, True]
    for name in whole.names:
        for i in range(4):
            one = slice(i, i + 1)
            alone = curves(model, x[one], "predicted", maps[one], protocol)
            for others, mine in ((turned, turn.index(i)), (whole, i)):
                for read in (Curves.auc, Curves.bounds, Curves.integration_error):
                    torch.testing.assert_close(read(others, name)[mine], read(alone, name)[0], equal_nan=True)


def test_methods_measured_together_get_the_numbers_they_get_alone() -> None:
    model, x = net(), nets.batch(2, 16, 14, dtype=DOUBLE)
    maps = {"a": noise(2, 16, 14), "b": noise(2, 4, 3), "c": torch.ones(2, 1, 8, 6)}
    protocol = Protocol(steps="adaptive", ties="mean", tie_orders=2)
    together = curves(model, x, "predicted", maps, protocol)
    for name, one in maps.items():
        alone = curves(model, x, "predicted", one, protocol)
        for curve in alone.names:
            torch.testing.assert_close(together[name].auc(curve), alone.auc(curve))


def test_convention_each_curve_has_its_own_points_and_shorter_ones_repeat_an_end() -> None:
    found = curves(net(), nets.batch(3, 16, 14, dtype=DOUBLE), 1, noise(3, 16, 14), Protocol(steps="adaptive"))
    for name in found.names:
        fraction, score = found.curve(name)
        step = fraction.diff(dim=1)
        assert (step >= 0).all()
        assert not score.diff(dim=1)[step == 0].any()
        torch.testing.assert_close(fraction[:, [0, -1]], torch.tensor([[0.0, 1.0]] * 3, dtype=DOUBLE))
        torch.testing.assert_close(torch.trapezoid(score, fraction, dim=1), found.auc(name))
    assert len(set(points(found.curve("deletion")[0]).tolist())) > 1


def test_convention_inserting_the_best_is_removing_the_worst_backwards() -> None:
    found = curves(net(), nets.batch(2, 16, 14, dtype=DOUBLE), 1, noise(2, 16, 14), Protocol(steps="adaptive"))
    (inserted, up), (removed, down) = found.curve("insertion"), found.curve("lerf")
    torch.testing.assert_close(inserted, 1 - removed.flip(1))
    assert torch.equal(up, down.flip(1))
    assert torch.equal(found.integration_error("insertion"), found.integration_error("lerf"))
    both = found.integration_error("morf") + found.integration_error("lerf")
    torch.testing.assert_close(found.integration_error("srg"), both)


def test_normalised_areas_know_both_ends_of_a_curve_whatever_its_points() -> None:
    model, x, maps = net(), nets.batch(3, 16, 14, dtype=DOUBLE), noise(3, 16, 14)
    some, every = (curves(model, x, 2, maps, Protocol(steps=s)) for s in ("adaptive", 225))  # type: ignore[arg-type]
    for name in ("deletion", "insertion", "lerf", "srg"):
        mine, other = some.auc(name, normalised=True), every.auc(name, normalised=True)
        torch.testing.assert_close(mine, other, atol=0.1, rtol=0, equal_nan=True)
    assert not every.auc("deletion", normalised=True).isnan().any()


# --- what is published ---------------------------------------------------------------------------------------------


def test_the_published_table_is_that_of_the_stored_results() -> None:
    told = json.loads((ROOT / "benchmarks/results/adaptive.json").read_text())["results"]
    page = (ROOT / "docs/how-to/choose-a-protocol.md").read_text()
    assert adaptive.table(told) in page
    assert f"On {len(told['curves'])} curves" in page
    for label, one in told["protocols"].items():
        if label.startswith("adaptive"):
            beyond = sum(error > float(label.partition("=")[2]) for error in one["error"])
            assert beyond == (2 if label.endswith("0.005") else 0)


@data.needs_data
def test_the_published_results_can_be_measured_again(capsys: Any, tmp_path: Path) -> None:
    assert adaptive.main(["--nets", "mnist_cnn", "--out", str(tmp_path / "new.json")]) == 0
    again = json.loads((tmp_path / "new.json").read_text())["results"]
    told = json.loads((ROOT / "benchmarks/results/adaptive.json").read_text())["results"]
    stored = {curve: i for i, curve in enumerate(told["curves"])}
    places = [stored[curve] for curve in again["curves"]]
    assert capsys.readouterr().out == adaptive.table(again) + "\n"
    for label, one in again["protocols"].items():
        other = told["protocols"][label]
        torch.testing.assert_close(one["error"], [other["error"][i] for i in places], atol=2e-3, rtol=0)
