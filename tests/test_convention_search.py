"""One test per line of the Convention of extremal and meaningful perturbation."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from attrib import METHODS, Attribution
from attrib.core import count
from attrib.core.masking.fade import Fade
from tests import nets
from tests.conventions import pins, section
from tests.test_extremal import ONES, PLACES, Weighted

BOTH = ("extremal_perturbation", "meaningful_perturbation")
X = nets.batch(3, 20, 16)
NET = nets.make("module")


def make(name: str, model: Any = NET, **options: Any) -> Attribution:
    method: Attribution = METHODS[name](model, **{"steps": 12, **options})
    return method


extremal: Callable[..., Attribution] = partial(make, BOTH[0])
meaningful: Callable[..., Attribution] = partial(make, BOTH[1])


class Scaled(nn.Module):
    def __init__(self, factor: float) -> None:
        super().__init__()
        self.model, self.factor = NET, factor

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.factor * self.model(x)
        return out


@pins("extremal_perturbation", "map:")
@pins("meaningful_perturbation", "map:")
@pytest.mark.parametrize("name", BOTH)
def test_convention_map_is_a_mask_of_the_inputs_size(name: str) -> None:
    maps = make(name).attribute(X, 2)
    assert maps.shape == (3, 1, 20, 16)
    assert 0 <= float(maps.min()) < float(maps.max()) <= 1
    if name == BOTH[0]:
        areas = extremal(areas=0.3, steps=60, smoothness=1.0).attribute(X, 2).mean((1, 2, 3))
        assert (areas - 0.3).abs().max() < 0.05


@pins("extremal_perturbation", "``areas``")
def test_convention_several_areas_give_the_mean_of_their_masks() -> None:
    alone = [extremal(areas=area).attribute(X, 2) for area in (0.1, 0.4)]
    torch.testing.assert_close(extremal(areas=(0.4, 0.1)).attribute(X, 2), (alone[0] + alone[1]) / 2)


@pins("extremal_perturbation", "``reach``")
def test_convention_reach_gives_the_mask_of_one_area() -> None:
    even = Weighted(torch.full((32, 32), 0.01))
    how: dict[str, Any] = {"baseline": "zero", "smoothness": 1.5, "steps": 60}
    for reach, area in ((0.15, 0.2), (0.9, 0.4)):
        found = extremal(even, areas=(0.1, 0.2, 0.4), reach=reach, **how).attribute(ONES, 0)
        assert torch.equal(found, extremal(even, areas=area, **how).attribute(ONES, 0))


@pins("extremal_perturbation", '``variant="preserve"``')
def test_convention_variants_show_or_hide_the_region() -> None:
    """The second class counts what is *not* seen at the first place: showing it is bad, hiding it is good."""
    seen: list[Tensor] = []
    model = Weighted(*PLACES)
    model.register_forward_hook(lambda _m, args, _o: seen.append(args[0].detach()))
    shown = {}
    for variant in ("preserve", "delete", "dual"):
        seen.clear()
        found = extremal(model, variant=variant, baseline="zero", smoothness=1.5, areas=0.11, steps=60).attribute(
            ONES, 0
        )
        assert float((found[0, 0] * PLACES[0]).sum() / found.sum()) > 0.8
        shown[variant] = torch.stack([picture.mean() for picture in seen[-6:]]).reshape(-1)
    assert shown["preserve"].max() < 0.2  # the region alone
    assert shown["delete"].min() > 0.8  # all but the region
    assert (shown["dual"].min() < 0.2) & (shown["dual"].max() > 0.8)


@pins("extremal_perturbation", "hidden places are blurred")
@pins("meaningful_perturbation", "hidden places are blurred")
@pytest.mark.parametrize("name", BOTH)
def test_convention_by_default_hidden_places_are_blurred(name: str) -> None:
    seen: list[Tensor] = []
    handle = NET.register_forward_hook(lambda _m, args, _o: seen.append(args[0].detach()))
    options = {"areas": (0.1, 0.2), "reach": 0.99} if name == BOTH[0] else {}
    make(name, **options).attribute(X[:1], 2)
    handle.remove()
    hidden = Fade.of(X[:1], "pyramid")(torch.zeros(1, 1, 20, 16))
    assert any(torch.equal(picture, hidden) for picture in seen)  # the wholly hidden picture that effects refer to
    assert float(hidden.std()) < 0.6 * float(X[:1].std())


@pins("extremal_perturbation", "each example is searched alone")
@pins("meaningful_perturbation", "each example is searched alone")
@pytest.mark.parametrize("name", BOTH)
def test_convention_an_example_is_searched_alone_unless_the_batch_size_says_otherwise(name: str) -> None:
    together = make(name).attribute(X, [1, 2, 3])
    for i, target in enumerate((1, 2, 3)):
        assert torch.equal(make(name).attribute(X[i : i + 1], target), together[i : i + 1])
    rows: list[int] = []
    handle = NET.register_forward_hook(lambda _m, args, _o: rows.append(len(args[0])))
    make(name, batch_size=2).attribute(X, [1, 2, 3])
    handle.remove()
    assert set(rows[1:]) == {2, 1}


@pins("extremal_perturbation", "the map does not change when the score is multiplied")
@pins("meaningful_perturbation", "the map does not change when the score is multiplied")
@pytest.mark.parametrize("name", BOTH)
def test_convention_multiplying_the_score_by_a_power_of_two_changes_nothing(name: str) -> None:
    assert torch.equal(make(name, Scaled(8.0)).attribute(X, 2), make(name).attribute(X, 2))


@pins("extremal_perturbation", "an example that no mask changes the score of")
def test_convention_without_any_effect_the_map_is_zero() -> None:
    model = lambda x: torch.cat([x.mean((1, 2, 3))[:, None] * factor for factor in (0.0, 1.0)], 1)  # noqa: E731
    found = extremal(model, batch_size=2).attribute(X[:2], [0, 1])
    assert not found[0].any()
    assert bool(found[1].any())


@pins("extremal_perturbation", "the class is decided once")
@pins("meaningful_perturbation", "the class is decided once")
@pytest.mark.parametrize("name", BOTH)
def test_convention_the_class_is_the_one_predicted_for_the_clean_input(name: str) -> None:
    predicted = NET(X).argmax(1)
    assert torch.equal(make(name).attribute(X, "predicted"), make(name).attribute(X, predicted))


@pins("meaningful_perturbation", '``game="delete"``')
def test_convention_games_hide_or_show_the_smallest_part() -> None:
    for game, shown in (("delete", 1.0), ("preserve", 0.0)):
        seen: list[Tensor] = []
        model = Weighted(*PLACES)
        model.register_forward_hook(lambda _m, args, _o, seen=seen: seen.append(args[0].detach()))
        found = meaningful(model, game=game, baseline="zero", smoothness=0.0, steps=60).attribute(ONES, 0)[0, 0]
        assert float((found * PLACES[0]).sum() / found.sum()) > 0.8
        assert abs(float(seen[-1].mean()) - shown) < 0.2


@pins("meaningful_perturbation", "lowering the score below")
def test_convention_more_than_the_whole_score_is_not_taken() -> None:
    """Raising the score above the clean one earns nothing either: one of two places that double it is left alone."""
    how: dict[str, Any] = {"baseline": "zero", "smoothness": 0.0, "sparsity": 1.0, "steps": 100, "cells": 32}
    found = meaningful(Weighted(2 * PLACES[0] - PLACES[1]), **how).attribute(ONES, 0)[0, 0]
    assert abs(float((found * PLACES[0]).sum() / PLACES[0].sum()) - 0.5) < 0.1
    kept = meaningful(Weighted(2 * PLACES[0] - PLACES[1]), game="preserve", **how).attribute(ONES, 0)[0, 0]
    assert abs(float((kept * PLACES[0]).sum() / PLACES[0].sum()) - 0.5) < 0.1


@pins("meaningful_perturbation", "where hiding everything raises the score")
def test_convention_where_hiding_raises_the_score_a_loss_as_large_counts_as_whole() -> None:
    """A - 2 B: hiding everything raises -113 to 0; so -226 is the whole loss, which hiding A brings about."""
    model = Weighted(PLACES[0] - 2 * PLACES[1])
    how: dict[str, Any] = {"baseline": "zero", "smoothness": 0.0, "sparsity": 1.0, "steps": 100, "cells": 32}
    found = meaningful(model, **how).attribute(ONES, 0)[0, 0]
    assert float((found * PLACES[0]).sum() / PLACES[0].sum()) > 0.9
    assert float((found * PLACES[1]).sum() / PLACES[1].sum()) < 0.05


@pins("meaningful_perturbation", "zeros say that no part is worth its price")
def test_convention_nothing_is_hidden_that_costs_more_than_it_is_worth() -> None:
    """Each cell of the place is worth 1/113 of the score, and costs sparsity / 1024: it pays below 9.06."""
    how: dict[str, Any] = {"baseline": "zero", "smoothness": 0.0, "steps": 100, "cells": 32}
    dear, cheap = (meaningful(Weighted(*PLACES), sparsity=price, **how).attribute(ONES, 0) for price in (11.0, 7.0))
    assert not dear.any()
    assert float((cheap[0, 0] * PLACES[0]).sum() / PLACES[0].sum()) > 0.9


@pytest.mark.parametrize(
    ("name", "options", "forwards", "backwards", "says"),
    [
        (BOTH[0], {"places": 2}, 12 + 5 + 1, 12, "``steps`` forward and backward passes and 1 + ``places`` squared"),
        (BOTH[0], {"places": 2, "variant": "dual"}, 2 * (12 + 5) + 1, 24, "twice as many; plus one forward pass"),
        (BOTH[0], {"places": 2, "areas": (0.1, 0.2)}, 2 * (12 + 5) + 1, 24, "per area and example"),
        (BOTH[0], {"places": 1, "areas": (0.1, 0.2), "reach": 1.0}, 2 * (12 + 2) + 4, 24, "one per area but the last"),
        (BOTH[1], {}, 12 + 3, 12, "``steps`` forward and backward passes per example, plus three forward passes"),
    ],
)  # fmt: skip
def test_a_search_costs_what_it_says(name: str, options: Any, forwards: int, backwards: int, says: str) -> None:
    method = make(name, **options)
    with count() as cost:
        method.attribute(X, 2)
    assert says in " ".join(section(name, "Cost").split())
    assert (cost.forwards, cost.backwards) == (forwards * len(X), backwards * len(X))
