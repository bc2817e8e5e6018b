"""Control rows: they know the image at most, never the model, and they are the same whatever the batch."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from attrib.benchmark.controls import CentreGaussian, EdgeMagnitude, RandomMap, make_controls
from attrib.core import Attribution
from attrib.core.network.cost import count
from attrib.errors import InputError, RegistryError, ShapeError
from attrib.metrics import Protocol, curves
from attrib.registry import CONTROLS, METHODS
from tests import nets

NAMES = ["centre", "edges", "random"]


def never(x: Tensor) -> Tensor:
    raise AssertionError("a control ran the model")


@pytest.mark.parametrize("name", NAMES)
def test_a_control_is_called_like_a_method_but_runs_no_model(name: str) -> None:
    control, x = CONTROLS[name](never), nets.batch()
    assert isinstance(control, Attribution)
    with count() as cost:
        maps = control.attribute(x, target=3)
    assert (cost.forwards, cost.backwards) == (0, 0)
    assert maps.shape == (2, 1, 8, 6)
    assert torch.isfinite(maps).all()
    assert torch.equal(maps, control.attribute(x, target=1))


def test_controls_are_not_offered_as_methods() -> None:
    assert [name for name in CONTROLS if not CONTROLS[name].__module__.startswith("tests")] == NAMES
    assert not set(NAMES) & set(METHODS)
    with pytest.raises(RegistryError, match=r"no control named 'center'\. Did you mean 'centre'"):
        CONTROLS["center"]


@pytest.mark.parametrize("name", NAMES)
def test_the_map_of_an_image_does_not_depend_on_its_batch(name: str) -> None:
    control, x = CONTROLS[name](never), nets.batch(4)
    whole = control.attribute(x)
    turn = [2, 0, 3, 1]
    assert torch.equal(control.attribute(x[turn]), whole[turn])
    for i in range(4):
        torch.testing.assert_close(control.attribute(x[i : i + 1]), whole[i : i + 1])


@pytest.mark.parametrize("name", NAMES)
def test_inputs_and_random_state_are_left_as_found(name: str) -> None:
    x, random = nets.batch(), torch.get_rng_state()
    before = x.clone()
    CONTROLS[name](never).attribute(x)
    assert torch.equal(x, before)
    assert torch.equal(torch.get_rng_state(), random)


def test_random_maps_differ_by_image_and_by_seed_and_by_nothing_else() -> None:
    x = nets.batch(3, 30, 20)
    first, again, other = (RandomMap(never, seed=s).attribute(x) for s in (1, 1, 2))
    assert torch.equal(first, again)
    torch.manual_seed(0)
    assert torch.equal(first, RandomMap(nets.make("residual"), seed=1).attribute(x))
    rows = torch.cat([first, other]).flatten(1)
    assert len({tuple(row) for row in rows.tolist()}) == 6
    assert (torch.corrcoef(rows) - torch.eye(6)).abs().max() < 0.15
    torch.testing.assert_close(RandomMap(never, seed=1).attribute(x.double()), first.double())


def test_convention_random_is_uniform_between_0_and_1() -> None:
    values = RandomMap(never).attribute(nets.batch(1, 100, 100)).flatten()
    assert values.min() >= 0
    assert values.max() < 1
    quarters = torch.histc(values, 4, 0, 1) / len(values)
    torch.testing.assert_close(quarters, torch.full((4,), 0.25), atol=0.02, rtol=0)


@pytest.mark.parametrize("sigma", [0.1, 0.25])
def test_convention_centre_is_a_gaussian_scaled_with_each_side(sigma: float) -> None:
    maps = CentreGaussian(never, sigma=sigma).attribute(nets.batch(2, 9, 5, dtype=torch.float64))
    for h in range(9):
        for w in range(5):
            far = ((h - 4) / (sigma * 9)) ** 2 + ((w - 2) / (sigma * 5)) ** 2
            assert maps[0, 0, h, w].item() == pytest.approx(torch.tensor(-far / 2).exp().item())
    assert torch.equal(maps[0], maps[1])


def test_convention_edges_are_the_sobel_magnitude_of_the_mean_channel() -> None:
    x = nets.batch(1, 7, 5, dtype=torch.float64)
    grey = x[0].mean(0)
    maps = EdgeMagnitude(never).attribute(x)
    for h in range(7):
        for w in range(5):

            def at(dy: int, dx: int, y: int = h, z: int = w) -> float:
                return float(grey[min(max(y + dy, 0), 6), min(max(z + dx, 0), 4)])

            across = at(-1, 1) + 2 * at(0, 1) + at(1, 1) - at(-1, -1) - 2 * at(0, -1) - at(1, -1)
            down = at(1, -1) + 2 * at(1, 0) + at(1, 1) - at(-1, -1) - 2 * at(-1, 0) - at(-1, 1)
            assert maps[0, 0, h, w].item() == pytest.approx((across**2 + down**2) ** 0.5)


def test_convention_the_border_of_a_flat_image_is_no_edge() -> None:
    maps = EdgeMagnitude(never).attribute(torch.full((1, 3, 8, 6), 2.5))
    assert not maps.any()
    found = curves(nets.make("residual"), nets.batch(1), 1, maps, Protocol(steps=4))
    assert found.status == ("zero",)


def test_the_rows_of_a_comparison_are_every_control_and_every_seed() -> None:
    rows = make_controls(never, seeds=(3, 4))
    assert {name: len(row) for name, row in rows.items()} == {"centre": 1, "edges": 1, "random": 2}
    assert [control.seed for control in rows["random"] if isinstance(control, RandomMap)] == [3, 4]
    assert list(make_controls(never, names=["edges"])) == ["edges"]


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: RandomMap(never, seed=-1), InputError, "seed must be an integer >= 0; got -1"),
        (lambda: RandomMap(never, seed=0.5), InputError, r"seed must be an integer >= 0; got 0\.5"),  # type: ignore[arg-type]
        (lambda: CentreGaussian(never, sigma=0), InputError, "sigma must be a finite number"),
        (
            lambda: EdgeMagnitude(never).attribute(torch.ones(2, 5)),
            ShapeError,
            r"inputs must have shape \(N, C, H, W\)",
        ),
        (lambda: make_controls(never, names=["noise"]), RegistryError, "no control named 'noise'"),
    ],
)
def test_bad_arguments_are_refused_in_words(make: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make()
