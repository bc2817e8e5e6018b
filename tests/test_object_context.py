"""Object against context: equal to hiding by hand, regions of the same area, trained nets need the object."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from attrib.analysis import object_context
from attrib.core import count
from attrib.errors import InputError, ShapeError, TargetError
from tests import data, nets, realnets
from tests.oracles.models import DOUBLE, EXACT, TARGETS

X = nets.batch(2, 8, 7, dtype=DOUBLE)
MASK = torch.zeros(2, 8, 7, dtype=torch.bool)
MASK[0, 2:5, 1:4] = True
MASK[1, 5:, 3:] = True


def by_hand(model: Any, x: Tensor, hidden: Tensor, target: int, base: float) -> float:
    """Probability of a class with some pixels hidden."""
    shown = x.clone()
    for y in range(x.shape[1]):
        for z in range(x.shape[2]):
            if hidden[y, z]:
                shown[:, y, z] = base
    with torch.no_grad():
        return float(model(shown[None]).softmax(1)[0, target])


def test_the_object_and_all_but_the_object_are_hidden() -> None:
    model = nets.make("module", DOUBLE)
    found = object_context(model, X, MASK, TARGETS, baseline=0.3)
    for i, target in enumerate(TARGETS):
        for got, hidden in (
            (found.clean, torch.zeros_like(MASK[i])),
            (found.object_hidden, MASK[i]),
            (found.context_hidden, ~MASK[i]),
        ):
            assert got[i].item() == pytest.approx(by_hand(model, X[i], hidden, target, 0.3))
    torch.testing.assert_close(found.area, torch.tensor([9 / 56, 12 / 56], dtype=DOUBLE))


def test_random_regions_have_the_area_of_the_object_and_say_how_much_of_it_they_cover() -> None:
    seen: list[Tensor] = []

    class Watching(torch.nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            seen.append(x)
            return x.mean((2, 3))

    found = object_context(Watching(), torch.ones_like(X), MASK, 1, regions=20, baseline=0.0, exact_dense=True)
    rows = torch.cat(seen[1:])[:, 0].reshape(22, 2, 8, 7)  # by mask, then example
    hidden = rows[2:] == 0
    assert hidden.sum((2, 3)).tolist() == [[9, 12]] * 20
    overlap = (hidden & MASK).sum((2, 3)) / MASK.sum((1, 2))
    torch.testing.assert_close(found.overlap, overlap.T.double())
    assert not (hidden == MASK).all(3).all(2).any()  # never where the object is
    assert len({tuple(map(tuple, one.nonzero().tolist())) for one in hidden[:, 0]}) > 10
    shape = MASK[0].nonzero() - MASK[0].nonzero()[0]
    first = hidden[0, 0]
    moved = [first.roll((-y, -x), (0, 1)) for y in range(8) for x in range(7)]
    want = torch.zeros(8, 7, dtype=torch.bool)
    want[shape[:, 0], shape[:, 1]] = True
    assert any(torch.equal(one, want) for one in moved)  # the same shape


def test_an_example_gets_the_same_answer_alone_and_in_any_batch() -> None:
    model = nets.make("module", DOUBLE)
    both = object_context(model, X, MASK, TARGETS, regions=6)
    for i in range(2):
        alone = object_context(model, X[i : i + 1], MASK[i], TARGETS[i], regions=6)
        assert torch.equal(alone.overlap[0], both.overlap[i])
        torch.testing.assert_close(alone.random_hidden[0], both.random_hidden[i], **EXACT)
    some = object_context(model, X, MASK, TARGETS, regions=3)
    assert torch.equal(some.overlap, both.overlap[:, :3])


def test_a_stripe_is_never_left_where_it_was_though_most_sideways_steps_would() -> None:
    stripe = torch.zeros(8, 7, dtype=torch.bool)
    stripe[3:7] = True
    model = nets.make("module", DOUBLE)
    found = object_context(model, X, stripe, 1, regions=49)  # 7 steps up or down, 7 steps sideways
    assert float(found.overlap.max()) < 1
    with pytest.raises(InputError, match="regions must be at most 49, the steps that move this mask; got 50"):
        object_context(model, X, stripe, 1, regions=50)


def test_the_ratio_is_what_the_object_costs_per_what_its_context_costs() -> None:
    class Sees(torch.nn.Module):
        """Three for the object's corner, two for another one; nothing for the rest."""

        def forward(self, x: Tensor) -> Tensor:
            return 3 * x[:, :1, 2, 1] + 2 * x[:, :1, 0, 6]

    x = torch.ones(2, 1, 8, 7, dtype=DOUBLE)
    x[1, 0, 0, 6] = 0
    found = object_context(Sees(), x, MASK[0], 0, baseline=0.0, score="logit")
    assert found.ratio[0].item() == pytest.approx(1.5)
    assert found.ratio[1].isnan()  # nothing is lost with the context
    rows = found.table()
    assert rows[0]["object / context"] == pytest.approx(1.5)
    assert str(found).splitlines()[-1].split()[-1] == "3"  # 3 and 3 are lost, and 2 and 0


def test_half_precision_knows_areas_and_shares() -> None:
    x = torch.ones(1, 1, 40, 40, dtype=torch.bfloat16)
    mask = torch.zeros(40, 40, dtype=torch.bool)
    mask[:17, :31] = True
    found = object_context(torch.nn.Flatten(), x, mask, 3, regions=2, score="logit")
    assert found.area.item() == pytest.approx(17 * 31 / 1600)
    assert ((found.overlap * 17 * 31).round() / (17 * 31) - found.overlap).abs().max() < 1e-6


def test_probabilities_that_would_be_squashed_again_are_told() -> None:
    with pytest.warns(UserWarning, match="score='probability' takes a softmax of the outputs"):
        object_context(torch.nn.Sequential(nets.make("module", DOUBLE), torch.nn.Softmax(1)), X, MASK, 1)


def test_places_depend_on_the_seed_alone_and_not_on_torchs_random_state() -> None:
    model = nets.make("module", DOUBLE)
    state = torch.random.get_rng_state()
    first, again, other = (object_context(model, X, MASK, 1, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.equal(first.random_hidden, again.random_hidden)
    assert not torch.equal(first.random_hidden, other.random_hidden)
    assert torch.equal(first.object_hidden, other.object_hidden)
    assert not torch.allclose(first.random_hidden[0], first.random_hidden[1])


def test_one_mask_may_hold_for_all_examples_as_tensor_or_array() -> None:
    model = nets.make("module", DOUBLE)
    each = object_context(model, X, MASK[:1].expand(2, 8, 7), 1)
    for one in (MASK[0], MASK[:1], MASK[0].numpy(), MASK[0].double(), MASK[0].numpy().astype(np.uint8)):
        torch.testing.assert_close(object_context(model, X, one, 1).object_hidden, each.object_hidden, **EXACT)


def test_the_score_may_be_another_one_and_the_class_is_decided_once() -> None:
    model = nets.make("module", DOUBLE)
    logits = object_context(model, X, MASK, 3, score="logit")
    torch.testing.assert_close(logits.clean, model(X)[:, 3].detach())
    own = object_context(model, X, MASK)
    clean = model(X).softmax(1).detach()
    torch.testing.assert_close(own.clean, clean.amax(1))
    same = object_context(model, X, MASK, clean.argmax(1))
    assert torch.equal(own.random_hidden, same.random_hidden)


def test_the_cost_is_what_it_says() -> None:
    with count() as cost:
        object_context(nets.make("module", DOUBLE), X, MASK, 1, regions=5, exact_dense=True)
    assert cost.forwards == 2 * (3 + 5)


def test_the_table_has_a_row_for_each_example_and_prints_their_mean() -> None:
    found = object_context(nets.make("module", DOUBLE), X, MASK, 1)
    rows = found.table()
    assert [row["object hidden"] for row in rows] == found.object_hidden.tolist()
    assert [row["random hidden"] for row in rows] == pytest.approx(found.random_hidden.mean(1).tolist())
    lines = str(found).splitlines()
    assert [line.split()[0] for line in lines] == ["example", "0", "1", "mean"]
    assert "object / context" in lines[0]
    assert float(lines[-1].split()[2]) == pytest.approx(float(found.clean.mean()), rel=1e-2)
    torch.testing.assert_close(found.object_cost, found.random_hidden.mean(1) - found.object_hidden)


def test_masks_and_targets_that_make_no_sense_are_refused() -> None:
    model = nets.make("module", DOUBLE)
    with pytest.raises(ShapeError, match=r"mask must have shape \(N=2, H=8, W=7\) or \(H, W\); got \(7, 8\)"):
        object_context(model, X, MASK[0].T)
    with pytest.raises(ShapeError, match="mask must have shape"):
        object_context(model, X, MASK[[0, 1, 0]])
    with pytest.raises(InputError, match="mask must hold True and False"):
        object_context(model, X, MASK.double() * 0.5)
    for nothing in (torch.zeros(8, 7), torch.ones(8, 7), torch.stack([MASK[0].float(), torch.zeros(8, 7)])):
        with pytest.raises(InputError, match="mask must cover part of every picture"):
            object_context(model, X, nothing)
    with pytest.raises(InputError, match="regions must be an integer >= 1"):
        object_context(model, X, MASK, regions=0)
    with pytest.raises(TargetError, match="target must lie in"):
        object_context(model, X, MASK, 7)
    with pytest.raises(ShapeError, match="inputs must have shape"):
        object_context(model, X[:, :, 0], MASK)
    with pytest.raises(ShapeError, match="inputs must be one Tensor; got 2"):
        object_context(model, (X, X), MASK)  # type: ignore[arg-type]


def on_photos(name: str, count: int) -> tuple[realnets.RealNet, Tensor, Tensor, list[int]]:
    net, photos = realnets.load(name), data.photos(count)
    x = net.loaded.inputs([photo.image for photo in photos])
    views = [net.loaded.view(Image.fromarray(photo.mask.astype(np.uint8) * 255).convert("RGB")) for photo in photos]
    masks = torch.stack([torch.from_numpy(np.asarray(view)[..., 0] > 127) for view in views])
    fits = masks.flatten(1).any(1) & ~masks.flatten(1).all(1)
    return net, x[fits], masks[fits], [photo.target for photo, fit in zip(photos, fits.tolist(), strict=True) if fit]


def untrained(model: torch.nn.Module, seed: int) -> torch.nn.Module:
    """A copy whose weights are the same numbers in another order."""
    model, source = deepcopy(model), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in model.parameters():
            order = torch.randperm(weight.numel(), generator=source)
            weight.copy_(weight.flatten()[order].reshape(weight.shape))
    return model


def looks_at_the_object(model: Any, x: Tensor, masks: Tensor, targets: list[int], baseline: Any) -> bool:
    found = object_context(model, x, masks, targets, baseline=baseline, regions=4, score="logit")
    return float(found.object_cost.mean()) > 0 and int((found.object_cost > 0).sum()) > 0.7 * len(x)


@data.needs_data
@pytest.mark.parametrize("baseline", ["mean", "zero"])
@pytest.mark.parametrize("name", ["mobilenet_v1_025_128", "resnet18"])
def test_trained_nets_lose_more_with_the_object_than_with_as_much_elsewhere(name: str, baseline: Any) -> None:
    net, x, masks, targets = on_photos(name, 12)
    assert len(x) >= 10
    assert looks_at_the_object(net.model, x, masks, targets, baseline)


@data.needs_data
@pytest.mark.parametrize("baseline", ["mean", "zero"])
def test_untrained_nets_do_not_pass_for_trained_ones(baseline: Any) -> None:
    net, x, masks, targets = on_photos("mobilenet_v1_025_128", 12)
    for seed in range(3):
        assert not looks_at_the_object(untrained(net.model, seed), x, masks, targets, baseline)
