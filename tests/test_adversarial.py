"""Attacks: equal to the loop written out, exact on linear networks, within their ball, and honest about failures."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from attrib.core import as_objective, count
from attrib.core.synth import Ball, Bounds, Move, PixelSpace, Search, synthesize
from attrib.errors import InputError, ModelError, ShapeError, TargetError
from attrib.io import LoadedModel, Preprocess
from attrib.synthesis import Adversarial, attack, smallest_eps
from tests import nets
from tests.oracles import adversarial as oracle
from tests.oracles.models import DOUBLE

SPACE = PixelSpace(mean=0.4, std=0.05)  # so steep that small changes matter to an untrained network
COLOURS = PixelSpace(mean=(0.5, 0.4, 0.3), std=(0.1, 0.2, 0.4))
PICTURES = nets.batch(3, 6, 5, dtype=DOUBLE).sigmoid()
X = SPACE.to_input(PICTURES)
NET = nets.make("module", DOUBLE)
SAID = NET(X).argmax(1).tolist()
OTHERS = [(said + 2) % nets.CLASSES for said in SAID]


class Two(nn.Module):
    """Scores of two classes that are linear in the pixels; class 0 leads by ``w . p + b``."""

    def __init__(self, weight: Tensor, bias: float) -> None:
        super().__init__()
        self.weight, self.bias = weight, bias

    def forward(self, x: Tensor) -> Tensor:
        margin = (SPACE.to_picture(x) * self.weight).flatten(1).sum(1) + self.bias
        return torch.stack([0.7 * margin, -0.3 * margin], 1)


WEIGHT = nets.batch(1, 6, 5, seed=3, dtype=DOUBLE)[0]
MIDDLE = 0.5 + 0.02 * nets.batch(2, 6, 5, seed=4, dtype=DOUBLE)  # far from black and white
BIAS = 0.3 - float((MIDDLE * WEIGHT).flatten(1).sum(1).min())  # class 0 leads by at least 0.3
LINEAR = Two(WEIGHT, BIAS)


def margins() -> Tensor:
    return (MIDDLE * WEIGHT).flatten(1).sum(1) + BIAS


@pytest.mark.parametrize("towards", [False, True])
@pytest.mark.parametrize(("norm", "eps"), [("linf", 0.03), ("l2", 0.2)])
@pytest.mark.parametrize("steps", [1, 4])
def test_the_search_is_the_loop_written_out(norm: Any, eps: float, steps: int, towards: bool) -> None:
    found = attack(NET, X, OTHERS if towards else None, eps=eps, pixels=SPACE, norm=norm, steps=steps, step=0.6)
    for i, (said, other) in enumerate(zip(SAID, OTHERS, strict=True)):
        how: dict[str, Any] = {"eps": eps, "steps": steps, "step": 0.6 * eps, "norm": norm, "mean": 0.4, "std": 0.05}
        by_hand = oracle.attacked(NET, PICTURES[i], other if towards else said, towards=towards, **how)
        torch.testing.assert_close(found.changed[i], by_hand)


@pytest.mark.parametrize(("norm", "move"), [("linf", "sign"), ("l2", "unit")])
def test_the_search_is_the_one_loop_with_a_ball_and_bounds(norm: Any, move: Any) -> None:
    std, eps, steps = 0.05, 0.3, 6
    found = attack(NET, X, eps=eps, pixels=SPACE, norm=norm, steps=steps)
    goal = -as_objective(SAID).in_space("log_odds")
    rate, projections = eps * 2.5 / steps / std, [Ball(X, eps / std, norm), Bounds(SPACE)]
    again = synthesize(NET, goal, X, Search(steps, Move(rate, move), projections=projections))
    torch.testing.assert_close(found.adversarial, again.image)


def test_channels_may_be_normalised_each_on_its_own() -> None:
    x = COLOURS.to_input(PICTURES)
    inside = nn.Sequential(Normalised(COLOURS), NET)
    for norm in ("linf", "l2"):
        found = attack(NET, x, eps=0.1, pixels=COLOURS, norm=norm, steps=3)
        pixels = attack(inside, PICTURES, eps=0.1, pixels=PixelSpace(), norm=norm, steps=3)
        torch.testing.assert_close(found.changed, pixels.adversarial)


class Normalised(nn.Module):
    def __init__(self, space: PixelSpace) -> None:
        super().__init__()
        self.space = space

    def forward(self, x: Tensor) -> Tensor:
        return self.space.to_input(x)


def test_one_step_on_a_linear_network_is_the_best_there_is() -> None:
    x = SPACE.to_input(MIDDLE)
    found = attack(LINEAR, x, eps=0.1, pixels=SPACE, steps=1)
    torch.testing.assert_close(found.perturbation, (-0.1 * WEIGHT.sign()).expand_as(x))
    found = attack(LINEAR, x, eps=0.1, pixels=SPACE, steps=1, norm="l2")
    torch.testing.assert_close(found.perturbation, (-0.1 * WEIGHT / WEIGHT.norm()).expand_as(x))
    many = attack(LINEAR, x, eps=0.1, pixels=SPACE, steps=30, step=1.0, norm="l2", random_start=True)
    torch.testing.assert_close(many.perturbation, found.perturbation, rtol=0, atol=1e-8)


@pytest.mark.parametrize(("norm", "dual"), [("linf", 1), ("l2", 2)])
def test_the_smallest_radius_of_a_linear_network_is_its_margin_over_the_dual_norm(norm: Any, dual: int) -> None:
    expected = margins() / torch.linalg.vector_norm(WEIGHT, dual)
    found = smallest_eps(LINEAR, SPACE.to_input(MIDDLE), most=1.0, within=0.001, pixels=SPACE, norm=norm)
    assert found.success.all()
    assert bool((found.eps >= expected).all())  # what is found did succeed
    torch.testing.assert_close(found.eps, expected, rtol=0.001, atol=0)
    torch.testing.assert_close(found.linf if norm == "linf" else found.l2, found.eps)


def test_what_the_smallest_radius_cannot_reach_is_counted_as_infinite() -> None:
    expected = margins() / WEIGHT.abs().sum()
    most = float(expected.mean())  # enough for one of the two
    found = smallest_eps(LINEAR, SPACE.to_input(MIDDLE), most=most, pixels=SPACE)
    assert found.success.tolist() == (expected < most).tolist()
    assert found.eps.isinf().tolist() == (expected > most).tolist()
    assert found.rate == 0.5
    assert "1 of 2 taken for another class" in found.to_text()
    assert sorted(row["outcome"] for row in found.table()) == ["failure", "success"]
    assert None in [row["eps"] for row in found.manifest["examples"]]  # JSON has no infinity


def test_the_targets_of_a_batch_may_differ_and_success_means_reaching_them() -> None:
    found = attack(NET, X, OTHERS, eps=0.4, pixels=SPACE, steps=20)
    said = NET(found.adversarial).argmax(1)
    assert found.success.tolist() == [int(one) == other for one, other in zip(said, OTHERS, strict=True)]
    assert found.success.any()
    torch.testing.assert_close(found.after, NET(found.adversarial).softmax(1))
    torch.testing.assert_close(found.before, NET(X).softmax(1))


def test_a_sure_network_is_attacked_where_the_cross_entropy_has_no_slope_left() -> None:
    sure = nn.Sequential(nets.make("module"), Times(1e4))
    x = X.float()
    logits = x.clone().requires_grad_()
    loss = nn.functional.cross_entropy(sure(logits), torch.tensor(SAID), reduction="none")
    slope = torch.autograd.grad(loss.sum(), logits)[0]
    assert not slope.any()  # p is 1 in float32
    found = attack(sure, x, eps=0.03, pixels=SPACE, steps=1)
    torch.testing.assert_close(found.linf, torch.full((3,), 0.03), rtol=0, atol=1e-6)
    lead = [sure(one).topk(2).values.diff()[:, 0].abs() for one in (x, found.adversarial)]
    assert bool(((lead[1] < lead[0]) | found.success).all())


class Times(nn.Module):
    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        return x * self.factor


@settings(deadline=None, max_examples=25)
@given(
    eps=st.floats(1e-3, 2.0),
    norm=st.sampled_from(["linf", "l2"]),
    steps=st.integers(1, 4),
    step=st.none() | st.floats(0.01, 5),
    random_start=st.booleans(),
    seed=st.integers(0, 9),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
def test_nothing_leaves_the_ball_or_the_picture(
    eps: float, norm: Any, steps: int, step: Any, random_start: bool, seed: int, dtype: Any
) -> None:
    pictures = nets.batch(2, 5, 4, seed=seed).mul(3).sigmoid().to(dtype)  # some values near black and white
    model = nets.make("module", dtype)
    how: dict[str, Any] = {"norm": norm, "steps": steps, "step": step, "random_start": random_start, "seed": seed}
    found = attack(model, SPACE.to_input(pictures), eps=eps, pixels=SPACE, **how)
    assert float(found.changed.min()) >= -1e-5
    assert float(found.changed.max()) <= 1 + 1e-5
    assert bool(((found.linf if norm == "linf" else found.l2) <= eps + 1e-5).all())


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("how", [attack, smallest_eps])
def test_every_example_is_searched_on_its_own(how: Any, norm: Any) -> None:
    options: dict[str, Any] = {"pixels": SPACE, "norm": norm, "random_start": True, "seed": 4, "steps": 4}
    whole = how(NET, X, **options)
    for i in (2, 0):
        alone = how(NET, X[i : i + 1], **options)
        torch.testing.assert_close(alone.changed[0], whole.changed[i], rtol=0, atol=1e-9)
        assert float(alone.eps) == pytest.approx(float(whole.eps[i]))


def test_the_random_start_follows_the_seed_and_nothing_else_is_touched() -> None:
    model = nets.make("regularised").train()
    x = X.float().requires_grad_()
    state, weights, kept = torch.random.get_rng_state(), [w.clone() for w in model.state_dict().values()], x.clone()
    first, again, other = (
        attack(model, x, eps=0.1, pixels=SPACE, random_start=True, seed=seed, steps=2) for seed in (0, 0, 1)
    )
    assert torch.equal(first.adversarial, again.adversarial)
    assert not torch.equal(first.adversarial, other.adversarial)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), weights, strict=True))
    assert all(part.training for part in model.modules())
    assert all(w.requires_grad and w.grad is None for w in model.parameters())
    assert torch.equal(x, kept)
    assert x.grad is None
    assert not first.adversarial.requires_grad


def test_what_the_network_gets_wrong_before_is_left_alone_and_not_counted() -> None:
    labels = [SAID[0], OTHERS[1], SAID[2]]
    found = attack(NET, X, eps=0.4, pixels=SPACE, labels=labels, steps=20)
    assert found.wrong.tolist() == [False, True, False]
    assert torch.equal(found.adversarial[1], X[1])
    assert not found.success[1]
    assert found.eps.tolist() == [0.4, 0, 0.4]
    assert found.rate == float(found.success[[0, 2]].double().mean())
    assert "1 more, wrong before, left as they are" in found.to_text()
    assert found.table()[1]["outcome"] == "wrong before"
    least = smallest_eps(NET, X, pixels=SPACE, labels=labels, most=0.4)
    assert least.eps[1] == 0


def test_further_arguments_follow_their_example() -> None:
    class Shifted(nn.Module):
        def forward(self, x: Tensor, shift: Tensor) -> Tensor:
            out: Tensor = NET(x + shift.reshape(-1, 1, 1, 1))
            return out

    shift = torch.tensor([0.0, 0.3, -0.2], dtype=DOUBLE)
    labels = (Shifted()(X, shift).argmax(1)).tolist()
    labels[0] = (labels[0] + 1) % nets.CLASSES  # so that the others are rows of the batch
    for how in (attack, smallest_eps):
        found: Adversarial = how(Shifted(), X, pixels=SPACE, labels=labels, additional_forward_args=shift)
        alone = how(Shifted(), X[2:], pixels=SPACE, labels=labels[2:], additional_forward_args=shift[2:])
        torch.testing.assert_close(found.adversarial[2], alone.adversarial[0])


def test_further_arguments_that_all_examples_meet_are_refused() -> None:
    def model(x: Tensor, texts: Tensor) -> Tensor:  # every picture with every text
        out: Tensor = NET(x)[:, :4] @ texts.T
        return out

    texts = torch.rand(5, 4).double()
    with pytest.raises(InputError, match="must have one entry for each example; the number of classes depends on"):
        attack(model, torch.cat([X, X[:2]]), eps=0.1, pixels=SPACE, additional_forward_args=texts, batch_size=3)


def test_no_pass_has_more_examples_than_a_batch_and_what_is_found_does_not_depend_on_it() -> None:
    sizes: list[int] = []

    def model(x: Tensor, shift: Tensor) -> Tensor:
        sizes.append(len(x))
        out: Tensor = NET(x) + shift
        return out

    how: dict[str, Any] = {"pixels": SPACE, "additional_forward_args": torch.rand(3, 5).double(), "steps": 4}
    whole, parts = (attack(model, X, eps=0.1, **how, batch_size=size) for size in (3, 2))
    assert sizes == [3] * 6 + [2, 1] * 6
    torch.testing.assert_close(parts.adversarial, whole.adversarial)
    sizes.clear()
    least = smallest_eps(model, X, most=0.5, **how, batch_size=2)
    torch.testing.assert_close(least.eps, smallest_eps(model, X, most=0.5, **how).eps)
    assert max(sizes[: sizes.index(3)]) == 2
    sizes.clear()
    changed = [one.attribution_change("saliency", target=one.labels) for one in (parts, whole)]
    assert sizes[:8] == [2, 1] * 4
    torch.testing.assert_close(*(one.after["saliency"] for one in changed))


def test_a_loaded_model_brings_its_normalisation_and_names() -> None:
    net = LoadedModel(NET, Preprocess(8, 8, mean=(0.4,) * 3, std=(0.05,) * 3), categories=tuple("abcde"))
    found, bare = attack(net, X, eps=0.1), attack(NET, X, eps=0.1, pixels=SPACE)
    torch.testing.assert_close(found.adversarial, bare.adversarial)
    assert [row["before"] for row in found.table()] == ["abcde"[said] for said in SAID]
    assert bare.table()[0]["before"] == f"class {SAID[0]}"


def test_the_cost_is_what_it_says() -> None:
    with count() as cost:
        attack(NET, X, eps=0.1, pixels=SPACE, steps=7)
    assert (cost.forwards, cost.backwards) == (3 * (7 + 2), 3 * 7)


class Step(nn.Module):
    """Piecewise constant: it has a gradient, which is zero."""

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = NET(x.round() + 0 * x)
        return out


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"eps": 0}, InputError, "eps must be above 0, in pixels of a picture in [0, 1]; got 0."),
        ({"eps": -0.1}, InputError, "eps must be a finite number in [0, inf]; got -0.1."),
        ({"norm": "l1"}, InputError, "norm must be one of 'linf', 'l2'; got 'l1'."),
        ({"steps": 0}, InputError, "steps must be an integer >= 1; got 0."),
        ({"step": 0}, InputError, "step must be above 0, a share of eps; got 0."),
        ({"seed": -1}, InputError, "seed must be an integer >= 0; got -1."),
        ({"epsilon": 1}, TypeError, "an attack has no option 'epsilon'."),
        ({"target": SAID}, InputError, "examples [0, 1, 2] are taken for it already. Choose another class"),
        ({"target": 5}, TargetError, "target must lie in [0, 4] for a model with 5 outputs; got 5."),
        ({"target": [1, 2]}, TargetError, "target must have one entry per example (N=3); got 2 entries."),
        ({"labels": 7}, TargetError, "labels must lie in [0, 4] for a model with 5 outputs; got 7."),
        ({"labels": OTHERS}, InputError, "labels must be what the network says of at least one picture; got"),
        ({"pixels": PixelSpace()}, InputError, "inputs must be pictures, with pixels in [0, 1]; got ["),
        ({"pixels": None}, InputError, "pixels must be a PixelSpace, which says how inputs are normalised; got None."),
        ({"inputs": X[0, 0, 0]}, ShapeError, "inputs must have shape (N, C, H, W)"),
        ({"model": 3}, InputError, "model must be a LoadedModel, an nn.Module or a callable; got int."),
        ({"model": lambda x: x.mean((1, 2, 3))}, ModelError, "scores (N, C) of at least two classes; got (3,)"),
        ({"model": lambda x: NET(x)[:, :1]}, ModelError, "scores (N, C) of at least two classes"),
        ({"model": lambda x: NET(x.detach())}, ModelError, "must depend differentiably on the inputs"),
        ({"model": Step()}, ModelError, "the gradient must not be zero for every picture"),
        ({"model": nn.Sequential(NET, Times(float("nan")))}, ModelError, "scores must be finite"),
    ],
)  # fmt: skip
def test_questions_without_an_answer_are_refused(options: dict[str, Any], error: Any, says: str) -> None:
    given_ = {"model": NET, "inputs": X, "pixels": SPACE} | options
    with pytest.raises(error) as caught:
        attack(given_.pop("model"), given_.pop("inputs"), **given_)
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("options", "says"),
    [({"most": 0}, "most must be above 0"), ({"within": 0}, "within must be a finite number in [0.001, 1]; got 0.")],
)
def test_the_smallest_radius_refuses_what_makes_no_sense(options: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError) as caught:
        smallest_eps(NET, X, pixels=SPACE, **options)
    assert says in str(caught.value)


def test_a_smallest_radius_is_found_below_any_that_was_tried_before() -> None:
    found = smallest_eps(NET, X, most=1.0, pixels=SPACE, steps=5)
    assert found.success.all()
    again = [attack(NET, X[i : i + 1], eps=float(found.eps[i]), pixels=SPACE, steps=5) for i in range(3)]
    assert all(one.rate == 1 for one in again)
    below = [attack(NET, X[i : i + 1], eps=0.9 * float(found.eps[i]) * 0.99, pixels=SPACE, steps=5) for i in range(3)]
    assert all(one.rate == 0 for one in below)
    assert math.isfinite(float(found.eps.sum()))
