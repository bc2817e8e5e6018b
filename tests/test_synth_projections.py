"""What is done to the image after each step, and the recipes made of it."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from attrib.core.synth import (
    Ball,
    Blur,
    Bounds,
    CentreBias,
    ClipSmallContributions,
    ClipSmallPixels,
    Decay,
    Move,
    PixelSpace,
    Search,
    synthesize,
)
from attrib.errors import InputError
from attrib.synthesis import RECIPES, Recipe
from tests import nets
from tests.oracles import synth as oracle

NONE = torch.zeros(1)


def noise(seed: int = 0, n: int = 1, size: tuple[int, int] = (10, 10)) -> Tensor:
    return torch.randn(n, 3, *size, generator=torch.Generator().manual_seed(seed))


def test_bounds_are_black_and_white_of_the_networks_own_normalisation() -> None:
    space = PixelSpace((0.5, 0.4, 0.3), (0.1, 0.2, 0.5))
    found = Bounds(space)(10 * noise(), NONE, 0)
    picture = space.to_picture(found)
    assert float(picture.min()) == pytest.approx(0, abs=1e-6)
    assert float(picture.max()) == pytest.approx(1, abs=1e-6)
    inside = space.to_input(torch.rand(1, 3, 4, 4))
    torch.testing.assert_close(Bounds(space)(inside, NONE, 0), inside)


@given(st.sampled_from(["linf", "l2"]), st.floats(0, 30), st.integers(0, 99))
def test_nothing_leaves_the_ball_and_what_is_inside_stays(norm: Any, radius: float, seed: int) -> None:
    centre, image = noise(seed), noise(seed + 1)
    found = Ball(centre, radius, norm)(image, NONE, 0)
    away, before = found - centre, image - centre
    size = float(away.abs().max() if norm == "linf" else away.norm())
    assert size <= radius * (1 + 1e-5) + 1e-5
    if float(before.abs().max() if norm == "linf" else before.norm()) < radius:
        torch.testing.assert_close(found, image)


def test_the_nearest_point_of_the_euclidean_ball_lies_on_the_line_to_the_centre() -> None:
    found = Ball(torch.zeros(1, 1, 1, 2), 5.0)(torch.tensor([[[[6.0, 8.0]]]]), NONE, 0)
    assert found.flatten().tolist() == pytest.approx([3.0, 4.0])


def test_blur_is_the_mean_written_out_and_only_every_so_often() -> None:
    image = noise(size=(6, 9))
    torch.testing.assert_close(Blur(0.7)(image, NONE, 0), oracle.blur(image, 0.7))
    assert torch.equal(Blur(0.7, 3)(image, NONE, 1), image)
    torch.testing.assert_close(Blur(0.7, 3)(image, NONE, 2), oracle.blur(image, 0.7))
    torch.testing.assert_close(Blur(1.5)(torch.ones(1, 3, 20, 20), NONE, 0), torch.ones(1, 3, 20, 20))


def test_small_pixels_and_small_contributions_become_zero() -> None:
    image = torch.tensor([[[[3.0, 0.1], [1.0, 2.0]], [[4.0, 0.1], [1.0, 0.0]]]])
    kept = ClipSmallPixels(50)(image, NONE, 0)
    assert (kept[0].abs().sum(0) > 0).tolist() == [[True, False], [False, True]]
    gradient = torch.tensor([[[[0.0, 50.0], [1.0, -2.0]], [[0.0, 50.0], [-1.0, 7.0]]]])
    kept = ClipSmallContributions(50)(image, gradient, 0)
    assert (kept[0].abs().sum(0) > 0).tolist() == [[False, True], [False, True]]
    assert torch.equal(ClipSmallPixels(0)(image, NONE, 0), image)


def test_each_image_has_its_own_percentile() -> None:
    pair = torch.cat([noise(1), 100 * noise(2)])
    found = ClipSmallPixels(40)(pair, NONE, 0)
    assert [int((one.norm(dim=0) > 0).sum()) for one in found] == [60, 60]


def test_the_centre_costs_nothing_and_the_corners_all() -> None:
    image = torch.zeros(1, 1, 5, 7)
    image[0, 0, 2, 3] = 9.0
    assert float(CentreBias()(image)) == pytest.approx(0, abs=1e-9)
    image[0, 0, 2, 3] = 0.0
    image[0, 0, 0, 0] = 2.0
    assert float(CentreBias(0.5)(image)) == pytest.approx(0.5 * 4)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Decay(1.5), "share must be"),
        (lambda: Blur(0.0), "width must be above 0; got 0.0. Leave Blur out"),
        (lambda: Blur(1.0, 0), "every must be"),
        (lambda: ClipSmallPixels(101), "percentile must be"),
        (lambda: ClipSmallContributions(-1), "percentile must be"),
        (lambda: Ball(NONE, -1.0), "radius must be"),
        (lambda: Ball(NONE, 1.0, "l1"), "norm must be"),  # type: ignore[arg-type]
        (lambda: Move(-1.0), "rate must be"),
        (lambda: Move([]), "at least one"),
        (lambda: Move(1.0, "max"), "norm must be"),  # type: ignore[arg-type]
        (lambda: Move(1.0, momentum=1.0), r"momentum must lie in \[0, 1\)"),
        (lambda: PixelSpace(0.5, (0.2, 0.0)), "std must be above 0"),
        (lambda: PixelSpace((0.1, 0.2)).to_picture(noise()), "one value per channel; got 2"),
        (lambda: Search(steps=-1), "steps must be"),
        (lambda: Search(tile=0), "tile must be"),
    ],
)
def test_what_makes_no_sense_is_refused(make: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make()


THETAS = {
    "yosinski_a": (0.0, 0.5, 4, 50.0, 0.0),
    "yosinski_b": (0.3, 0.0, 0, 20.0, 0.0),
    "yosinski_c": (1e-4, 1.0, 4, 0.0, 0.0),
    "yosinski_d": (0.0, 0.5, 4, 0.0, 90.0),
}


@pytest.mark.parametrize("name", THETAS)
def test_the_four_settings_of_yosinski_are_the_loop_written_out(name: str) -> None:
    net, start = nets.make("module"), noise(4)
    search = Recipe.named(name).searching(PixelSpace(), {"steps": 5})
    found = synthesize(net, 2, start, search)
    rate = search.move.at(0)
    wanted = oracle.yosinski(lambda i: net(i)[0, 2], start, rate, 5, THETAS[name])
    torch.testing.assert_close(found.image, wanted)


def test_recipes_have_names_and_can_be_changed() -> None:
    assert set(RECIPES) == {"natural", "simonyan", *THETAS}
    with pytest.raises(InputError, match="recipe must be"):
        Recipe.named("magic")
    with pytest.raises(TypeError, match=r"search has no option 'stpes'\. Did you mean 'steps'"):
        Recipe.named("natural").searching(PixelSpace(), {"stpes": 3})
    assert math.isclose(Recipe.named("simonyan").searching(PixelSpace(), {"steps": 3}).move.at(0), 1.0)
