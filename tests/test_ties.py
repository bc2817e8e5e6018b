"""Maps that do not say which pixel comes first: what is exact, what is sampled, and how much is tied."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from attrib.core.network.cost import count
from attrib.metrics import Protocol, curves
from tests import nets
from tests.oracles import curves as oracle
from tests.sweeps import DENSE

DOUBLE = torch.float64


def net() -> nn.Module:
    return nets.fill(nets.Chain()).to(DOUBLE)


def linear(h: int, w: int) -> nets.Linear:
    model = nets.fill(nets.Linear(h, w)).to(DOUBLE)
    assert isinstance(model, nets.Linear)
    return model


def close(actual: Tensor, expected: Any) -> None:
    torch.testing.assert_close(actual, torch.as_tensor(expected, dtype=DOUBLE), rtol=1e-9, atol=1e-11)


def every_order(model: nn.Module, x: Tensor, values: Tensor, target: int, steps: int) -> Tensor:
    """Areas of deletion of one image under every order of its ties."""
    height, width = values.shape
    units = oracle.units_of(height, width, 1)
    counts = oracle.hidden_counts(len(units), steps)

    def score(picture: Tensor) -> float:
        with torch.no_grad():
            return float(model(picture).softmax(1)[0, target])

    orders = oracle.all_orders(values.flatten().tolist())
    areas = [
        oracle.trapezoid(*oracle.follow(score, x[0], torch.zeros_like(x[0]), units, order, counts)) for order in orders
    ]
    return torch.tensor(areas, dtype=DOUBLE)


@pytest.mark.parametrize("maps", [torch.ones(3, 1, 8, 6), torch.zeros(3, 1, 2, 2), torch.full((3, 1, 4, 3), 0.1)])
def test_convention_a_constant_map_has_exactly_the_expected_area_on_a_linear_model(maps: Tensor) -> None:
    model, x = linear(8, 6), nets.batch(3, dtype=DOUBLE)
    found = curves(model, x, 2, maps, Protocol(score="logit", ties="mean", tie_orders=2, steps=9))
    middle = (model(x) + model(0 * x))[:, 2].detach() / 2
    for name in ("deletion", "insertion", "lerf"):
        close(found.auc(name), middle)
    close(found.tied, torch.ones(3))


def test_a_constant_map_gains_nothing_on_any_model() -> None:
    x = nets.batch(3, dtype=DOUBLE)
    found = curves(net(), x, "predicted", torch.ones(3, 1, 8, 6), Protocol(ties="mean", steps=7))
    close(found.srg(), torch.zeros(3))
    raster = curves(net(), x, "predicted", torch.ones(3, 1, 8, 6), Protocol(steps=7))
    assert (raster.srg().abs() > 1e-6).all()


def test_the_mean_over_one_tied_pair_is_exact() -> None:
    model, x = net(), nets.batch(1, 4, 4, dtype=DOUBLE)
    values = torch.arange(16.0).reshape(4, 4)
    values[3, 3] = values[0, 2]
    protocol = Protocol(ties="mean", tie_orders=2, steps=17)
    found = curves(model, x, 1, values[None, None], protocol)
    first, second = (values.clone() for _ in range(2))
    first[3, 3] += 0.5
    second[3, 3] -= 0.5
    exact = [curves(model, x, 1, one[None, None], Protocol(steps=17)).auc("deletion") for one in (first, second)]
    close(found.auc("deletion"), sum(exact) / 2)
    close(found.tied, [2 / 16])


def test_the_sampled_mean_and_bounds_approach_those_of_every_order() -> None:
    model, x = linear(2, 3), nets.batch(1, 2, 3, dtype=DOUBLE)
    values = torch.tensor([[0.0, 2.0, 0.0], [0.0, 0.0, 0.0]])
    areas = every_order(model, x, values, 1, 7)
    assert len(areas) == 120
    found = curves(model, x, 1, values[None, None], Protocol(ties="bounds", tie_orders=200, steps=7))
    error = float((found.auc("deletion") - areas.mean()).abs())
    assert 0 < error < 3 * float(areas.std()) / 200**0.5
    close(found.bounds("deletion"), [[areas.min(), areas.max()]])


@pytest.mark.parametrize("unit", [1, 2])
def test_convention_bounds_are_exact_on_a_linear_model(unit: int) -> None:
    model, x = linear(4, 6), nets.batch(2, 4, 6, dtype=DOUBLE)
    base = 0.3
    parts = (model.weight(2) * (x - base)).sum(1)
    parts = parts.reshape(2, 4 // unit, unit, 6 // unit, unit).sum((2, 4)).flatten(1)
    protocol = Protocol(baseline=base, score="logit", ties="bounds", tie_orders=2, steps=50, unit=unit)
    found = curves(model, x, 2, torch.ones(2, 1, 4, 6), protocol)
    start = model(x)[:, 2:3].detach()
    limits = []
    for descending in (True, False):
        fallen = parts.sort(1, descending=descending).values.cumsum(1)
        limits.append(torch.trapezoid(torch.cat([start, start - fallen], 1), dx=1 / parts.shape[1]))
    close(found.bounds("deletion"), torch.stack(limits, 1))
    close(found.bounds("insertion"), torch.stack(limits, 1))
    close(found.bounds("srg"), torch.stack([limits[0] - limits[1], limits[1] - limits[0]], 1))


def test_bounds_are_exact_on_a_linear_model_for_patches_of_unequal_size() -> None:
    model, x = linear(3, 3), nets.batch(1, 3, 3, dtype=DOUBLE)
    protocol = Protocol(score="logit", ties="bounds", tie_orders=2, steps=5, unit=2)
    found = curves(model, x, 2, torch.ones(1, 1, 3, 3), protocol)
    units = oracle.units_of(3, 3, 2)

    def score(picture: Tensor) -> float:
        return float(model(picture)[0, 2].detach())

    areas = [
        oracle.trapezoid(*oracle.follow(score, x[0], torch.zeros_like(x[0]), units, order, [0, 1, 2, 3, 4]))
        for order in oracle.all_orders([1.0] * 4)
    ]
    close(found.bounds("deletion"), [[min(areas), max(areas)]])


def test_bounds_of_insertion_are_exact_for_its_own_baseline() -> None:
    model, x = linear(4, 6), nets.batch(1, 4, 6, dtype=DOUBLE)
    protocol = Protocol(insertion_baseline=0.8, score="logit", ties="bounds", tie_orders=2, steps=50)
    found = curves(model, x, 2, torch.ones(1, 1, 4, 6), protocol, which=["insertion"])
    parts = (model.weight(2) * (x - 0.8)).sum(1).flatten(1).sort(1, descending=True).values
    floor = model(torch.full_like(x, 0.8))[:, 2:3].detach()
    best = torch.trapezoid(torch.cat([floor, floor + parts.cumsum(1)], 1), dx=1 / 24)
    close(found.bounds("insertion")[:, 1], best)


def test_convention_bounds_hold_raster_order_and_every_drawn_one() -> None:
    x, maps = nets.batch(2, dtype=DOUBLE), nets.batch(2, channels=1, dtype=DOUBLE).round()
    low, high = curves(net(), x, 1, maps, Protocol(ties="bounds", tie_orders=4, steps=9)).bounds("deletion").T
    for protocol in (Protocol(steps=9), Protocol(steps=9, ties="mean", tie_orders=4)):
        inner = curves(net(), x, 1, maps, protocol).bounds("deletion")
        assert (low <= inner[:, 0] + 1e-12).all()
        assert (inner[:, 1] <= high + 1e-12).all()
    assert (low < high).all()


def test_convention_the_first_order_extremes_do_not_enter_the_mean() -> None:
    x, maps = nets.batch(2, dtype=DOUBLE), torch.ones(2, 1, 8, 6)
    mean, bounds = (curves(net(), x, 1, maps, Protocol(ties=ties, steps=9)) for ties in ("mean", "bounds"))
    for name in ("deletion", "lerf"):
        close(bounds.auc(name), mean.auc(name))
        close(bounds.curve(name)[1], mean.curve(name)[1])


def test_the_seed_and_the_number_of_orders_matter() -> None:
    x, maps = nets.batch(2, dtype=DOUBLE), torch.ones(2, 1, 8, 6)
    asked = [Protocol(ties="mean", steps=9, seed=s, tie_orders=t) for s, t in ((0, 8), (0, 8), (1, 8), (0, 4))]
    first, again, other_seed, fewer = (curves(net(), x, 1, maps, one).auc("deletion") for one in asked)
    assert torch.equal(first, again)
    assert (first != other_seed).all()
    assert (first != fewer).all()


@pytest.mark.parametrize("ties", ["mean", "bounds"])
def test_maps_without_ties_cost_one_order(ties: Any) -> None:
    x, maps = nets.batch(2, dtype=DOUBLE), nets.batch(2, channels=1, dtype=DOUBLE)
    with count() as cost:
        found = curves(net(), x, 1, maps, Protocol(ties=ties, steps=10), **DENSE)
    assert (cost.forwards, cost.backwards) == (2 * (2 + 2 * 8), 0)
    close(found.auc("deletion"), curves(net(), x, 1, maps, Protocol(steps=10)).auc("deletion"))


@pytest.mark.parametrize(("ties", "orders", "gradients"), [("stable", 1, 0), ("mean", 4, 0), ("bounds", 7, 1)])
def test_maps_with_ties_cost_as_many_passes_as_orders(ties: Any, orders: int, gradients: int) -> None:
    x, maps = nets.batch(2, dtype=DOUBLE), torch.ones(2, 1, 8, 6)
    with count() as cost:
        curves(net(), x, 1, maps, Protocol(ties=ties, tie_orders=4, steps=10), **DENSE)
    assert cost.forwards == 2 * (2 + gradients + orders * 2 * 8)
    assert cost.backwards == 2 * gradients


@pytest.mark.parametrize(
    ("steps", "share"),
    [
        (2, 0.0),  # no boundary between the ends
        (3, 0.0),  # after 8 of 16 pixels, between the twos and the zeros
        (5, 13 / 16),  # after 4, 8 and 12: inside the twos and inside the zeros
        (17, 13 / 16),  # everywhere
    ],
)
def test_the_tied_share_counts_pixels_whose_equals_lie_beyond_a_step(steps: int, share: float) -> None:
    values = [5.0, 4.0, *[2.0] * 6, *[0.0, -0.0] * 3, 0.0, -1.0]
    maps = torch.tensor(values).reshape(1, 1, 4, 4)
    found = curves(net(), nets.batch(1, 4, 4, dtype=DOUBLE), 1, maps, Protocol(steps=steps))
    close(found.tied, [share])


def test_patches_are_tied_by_area() -> None:
    maps = torch.ones(1, 1, 5, 5)
    maps[..., :4, :4] = torch.tensor([[3.0, 2.0], [4.0, 5.0]]).repeat_interleave(2, 0).repeat_interleave(2, 1)
    found = curves(net(), nets.batch(1, 5, 5, dtype=DOUBLE), 1, maps, Protocol(unit=2, steps=10))
    close(found.tied, [9 / 25])
