"""Fooling images: the loop written out, every image alone, stops and failures."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from attrib.core.synth import PixelSpace
from attrib.errors import InputError, ModelError, TargetError
from attrib.plot.adversarial import fooling_panels
from attrib.synthesis import fool
from tests import data, nets, realnets
from tests.oracles.models import DOUBLE

SPACE = PixelSpace(mean=0.4, std=0.01)
NET = nets.make("module", DOUBLE)
HOW: dict[str, Any] = {"shape": (3, 6, 5), "pixels": SPACE, "confidence": 0.6, "step": 0.01, "steps": 60}


def by_hand(target: int, picture: Tensor, steps: int) -> tuple[Tensor, int]:
    """Sign steps up the log-probability of a class until it is probable enough."""
    for count in range(steps + 1):
        point = picture.clone().requires_grad_()
        chance = NET((point - 0.4) / 0.01).softmax(1)[0, target]
        if float(chance.detach()) >= 0.6 or count == steps:
            return picture, count
        (slope,) = torch.autograd.grad(chance.log(), point)
        picture = (picture + 0.01 * slope.sign()).clamp(0, 1)
    raise AssertionError


def test_the_images_are_those_of_the_loop_written_out() -> None:
    found = fool(NET, [0, 1, 2, 3, 4], **HOW)
    start = SPACE.to_picture(found.start)[:1]
    for i in range(5):
        picture, count = by_hand(i, start, 60)
        torch.testing.assert_close(SPACE.to_picture(found.images[i : i + 1]), picture)
        assert int(found.taken[i]) == count
    torch.testing.assert_close(found.probability, NET(found.images).softmax(1).diagonal())
    assert found.reached.tolist() == (found.probability >= 0.6).tolist()
    assert found.reached.any()
    torch.testing.assert_close(found.curve[0], NET(found.start).softmax(1).diagonal())
    torch.testing.assert_close(found.curve[-1], found.probability)


def test_every_image_is_made_on_its_own() -> None:
    together, alone = fool(NET, [3, 1], **HOW), fool(NET, 1, **HOW)
    torch.testing.assert_close(alone.images[0], together.images[1])
    assert alone.images.shape == (1, 3, 6, 5)


def test_the_start_is_noise_of_a_seed_a_flat_colour_or_given() -> None:
    state = torch.random.get_rng_state()
    one, again, other = (fool(NET, 1, **HOW, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.equal(one.start, again.start)
    assert not torch.equal(one.start, other.start)
    for name, value in (("grey", 0.5), ("black", 0.0)):
        flat = SPACE.to_picture(fool(NET, 1, name, **HOW).start)  # type: ignore[arg-type]
        torch.testing.assert_close(flat, torch.full_like(flat, value))
    given = SPACE.to_input(nets.batch(2, 6, 5, dtype=DOUBLE).sigmoid())
    kept = given.clone()
    found = fool(NET, [1, 2], given, **HOW)
    assert torch.equal(found.start, kept)
    assert torch.equal(given, kept)
    each = fool(NET, [1, 2], given[:1], **HOW)
    assert torch.equal(each.start[1], kept[0])


def test_images_that_do_not_arrive_are_kept_and_counted() -> None:
    found = fool(NET, [0, 1, 2, 3, 4], **{**HOW, "steps": 2})
    late = (~found.reached).nonzero()[:, 0].tolist()
    assert late
    assert [found.taken[i] for i in late] == [2] * len(late)
    assert f"{5 - len(late)} of 5 reached probability 0.6" in found.to_text()
    assert [row["outcome"] for row in found.table()].count("not reached") == len(late)
    titles = [ax.get_title() for ax in fooling_panels(found, [4]).axes]
    assert titles == [f"before: {float(found.curve[0, 4]):.2g}", f"class 4 {float(found.probability[4]):.3f}"]


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"confidence": 1.0}, InputError, "confidence must lie between 0 and 1"),
        ({"step": 0}, InputError, "step be above 0"),
        ({"steps": 0}, InputError, "steps must be an integer >= 1"),
        ({"shape": None}, InputError, "shape must be given for a bare model"),
        ({"start": "white"}, InputError, "must be one of 'noise', 'grey', 'black'; got 'white'."),
        ({"start": torch.full((1, 3, 6, 5), 99.0)}, InputError, "inputs must be pictures"),
        ({"target": 5}, TargetError, "target must lie in [0, 4]"),
        ({"target": []}, TargetError, "target list must have one entry"),
        ({"target": 1.5}, TargetError, "target must"),
        (
            {"target": [1, 2], "start": torch.zeros(3, 3, 6, 5).double()},
            TargetError,
            "one entry per example (N=3); got 2",
        ),
        ({"model": lambda x: NET(x.detach().double())}, ModelError, "must depend differentiably on the inputs"),
    ],
)
def test_what_makes_no_sense_is_refused(options: dict[str, Any], error: Any, says: str) -> None:
    given = {"model": NET, "target": 1, **HOW} | options
    with pytest.raises(error) as caught:
        fool(given.pop("model"), given.pop("target"), **given)
    assert says in str(caught.value)


@data.needs_data
def test_a_trained_network_is_sure_about_noise() -> None:
    net = realnets.load("mnist_cnn")
    found = fool(net.loaded, list(range(10)), shape=(1, 28, 28), step=0.02, steps=60)
    assert found.reached.all()
    assert not math.isnan(float(found.probability.sum()))
    assert bool((found.curve[0] < 0.99).all())
