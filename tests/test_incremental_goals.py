"""Several goals, images and orders at once are what each is alone; plans are shared and never mixed up."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from attrib.core import Channel, ClassScore, Given, Query, Windows, as_objective, frozen, sweep
from attrib.core.incremental import plan
from attrib.methods import Occlusion
from tests import nets
from tests.architectures import build
from tests.incremental import agrees, ask, squares

SIZE = (26, 24)
MASKS = Windows(SIZE, (4, 4), (4, 4))


def image(n: int = 2, dtype: Any = torch.float64) -> Tensor:
    return nets.batch(n, *SIZE, dtype=dtype)


GOALS = [
    ClassScore(3, "probability"),
    Channel("last", 1, "max"),
    as_objective(lambda out: out[:, 0] ** 2),
    ClassScore([0, 4]),
]


@pytest.mark.parametrize("masks", [MASKS, squares(SIZE, 12, 24)], ids=["local", "replayed"])
@pytest.mark.parametrize("dense", [False, True])
def test_several_goals_are_what_each_of_them_is_alone(masks: Any, dense: bool) -> None:
    model, x = build("residual"), image()
    with frozen(model):
        query = Query(model, (x,), as_objective(2))
        pairs = list(sweep(query, masks, goals=GOALS, exact_dense=dense))
    order = torch.cat([p for p, _ in pairs]).argsort()
    together = torch.cat([s for _, s in pairs], 1)[:, order]
    alone = torch.stack([ask(model, x, masks, goal, exact_dense=dense) for goal in [as_objective(2), *GOALS]])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-12)


def test_many_images_are_what_each_is_alone() -> None:
    model, x = build("residual", "strided"), nets.batch(9, 112, 96, dtype=torch.float64)
    masks = Windows((112, 96), (24, 24), (24, 24))
    target = [i % 5 for i in range(9)]
    base = x.flip(0)
    together = ask(model, x, masks, target, baseline=base)
    alone = torch.cat([ask(model, x[[i]], masks, target[i], baseline=base[[i]]) for i in range(9)], 1)
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-11)


def test_maps_do_not_depend_on_the_order_of_windows_batches_or_images() -> None:
    model, x = build("residual", "strided"), image(3)
    maps = [Occlusion(model, window=4, stride=3, batch_size=rows).attribute(x, [0, 1, 2]) for rows in ("auto", 1, 7)]
    order = [2, 0, 1]
    maps.append(Occlusion(model, window=4, stride=3).attribute(x[order], order)[[1, 2, 0]])
    for found in maps[1:]:
        torch.testing.assert_close(found, maps[0], rtol=0, atol=1e-12)


def test_plans_are_shared_by_images_of_a_size_and_never_mixed_up() -> None:
    plan._plans.clear()
    for seed in range(3):
        assert agrees(build("strided", seed=seed), image() * (seed + 1), MASKS) == "local"
    assert len(plan._plans) == 1
    for width in (22, 21):  # a stride of 2 without a halo makes maps of one size out of images of two
        x = nets.batch(1, 23, width, dtype=torch.float64)
        model = nets.fill(nn.Sequential(nn.Conv2d(3, 4, 1, 2), nn.AdaptiveAvgPool2d(1), nn.Flatten())).double()
        keep = torch.ones(9, 1, 1, 23, width)
        for i in range(9):
            keep[i, ..., 2 * i : 2 * i + 1, 2 * i : 2 * i + 2] = 0
        keep[0, ..., 20] = keep[1, ..., 2:4] = 0
        keep[0, ..., :20] = 1
        assert agrees(model, x, Given(keep)) == "local"


def test_plans_hold_no_tensors_of_floating_point() -> None:
    agrees(build("residual"), image(), MASKS)
    held = [
        tile.start
        for made in plan._plans.values()
        for group in made.groups
        for tile in (*group.y.values(), *group.x.values())
    ]
    assert held
    assert not any(t.is_floating_point() for t in held)
