"""Captum's attacks: equal to ours where they are right, and shown to be wrong where they are."""

from __future__ import annotations

import warnings
from typing import Any

import captum.robust as stock
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from attrib.core.synth import PixelSpace
from attrib.synthesis import attack, smallest_eps
from tests import nets
from tests.oracles.models import DOUBLE

PIXELS = PixelSpace()
X = nets.batch(3, 6, 5, dtype=DOUBLE).sigmoid()
EPS = 0.05


class Steep(nn.Module):
    """A network of pixels that small changes matter to."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nets.make("module", DOUBLE)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.net((x - 0.4) / 0.05)
        return out


NET = Steep()
SAID = NET(X).argmax(1)
OTHERS = (SAID + 2) % nets.CLASSES


def cross_entropy(output: Tensor, target: Tensor) -> Tensor:
    return F.cross_entropy(output, target, reduction="none")


def captums(kind: Any, *arguments: Any, loss: Any = cross_entropy, thresh: float = 0.0, **options: Any) -> Tensor:
    """What Captum's attack gives, without the warnings that it gives at every step."""
    made = kind(NET, loss, lower_bound=0.0, upper_bound=1.0)
    (made.fgsm if kind is stock.PGD else made).zero_thresh = thresh
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found: Tensor = made.perturb(X.clone(), *arguments, **options)
    return found.detach()


@pytest.mark.parametrize("targeted", [False, True])
def test_fgsm_and_pgd_in_the_largest_norm_are_captums(targeted: bool) -> None:
    goal = OTHERS if targeted else SAID
    how: dict[str, Any] = {"eps": EPS, "pixels": PIXELS}
    aim = OTHERS if targeted else None
    one = attack(NET, X, aim, steps=1, **how).adversarial
    torch.testing.assert_close(one, captums(stock.FGSM, EPS, goal, targeted=targeted))
    many = attack(NET, X, aim, steps=6, step=0.5, **how).adversarial
    torch.testing.assert_close(many, captums(stock.PGD, EPS, EPS / 2, 6, goal, targeted=targeted))


def test_captum_leaves_pixels_with_a_slope_below_a_millionth_alone() -> None:
    class Sure(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = 400 * NET(x)
            return out

    made = stock.FGSM(Sure(), cross_entropy, 0.0, 1.0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = made.perturb(X.clone(), EPS, SAID)
    ours = attack(Sure(), X, eps=EPS, pixels=PIXELS, steps=1)
    lead = NET(X).topk(2).values.diff()[:, 0].abs()
    surest = int(lead.argmax())
    assert torch.equal(theirs[surest], X[surest])  # it says nothing, and moves nothing
    assert float(ours.linf[surest]) == pytest.approx(EPS)


def test_captums_steps_in_the_euclidean_ball_miss_the_best_point_of_a_linear_network() -> None:
    weight = nets.batch(1, 6, 5, seed=3, dtype=DOUBLE)[0]
    middle = 0.5 + 0 * X[:1]

    def linear(x: Tensor) -> Tensor:
        score = (x * weight).flatten(1).sum(1)
        return torch.stack([score + 3, -score - 3], 1) / 10

    made = stock.PGD(linear, cross_entropy, 0.0, 1.0)
    made.fgsm.zero_thresh = 0.0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = made.perturb(middle.clone(), 0.1, 0.05, 40, torch.tensor([0]), norm="L2") - middle
    said = int(linear(middle).argmax())
    best = (-1 if said == 0 else 1) * 0.1 * weight / weight.norm()
    ours = attack(linear, middle, eps=0.1, pixels=PIXELS, norm="l2").perturbation[0]
    torch.testing.assert_close(ours, best)
    signs = -0.1 * weight.sign() / weight.sign().norm()
    torch.testing.assert_close(theirs[0], signs, rtol=0, atol=1e-6)  # however many steps: signs, not the gradient
    assert float((theirs[0] * best).sum() / 0.01) < 0.9


def test_captums_random_start_moves_torchs_random_state_and_breaks_in_the_euclidean_ball() -> None:
    state = torch.random.get_rng_state()
    captums(stock.PGD, EPS, EPS / 2, 1, SAID, random_start=True)
    assert not torch.equal(torch.random.get_rng_state(), state)
    with pytest.raises(RuntimeError, match="must match the size"):
        captums(stock.PGD, EPS, EPS / 2, 1, SAID, random_start=True, norm="L2")
    torch.random.set_rng_state(state)
    attack(NET, X, eps=EPS, pixels=PIXELS, random_start=True, norm="l2")
    assert torch.equal(torch.random.get_rng_state(), state)


def test_captums_default_loss_walks_away_from_a_target_with_a_negative_score() -> None:
    scores = NET(X)
    target = scores.argmin(1)
    assert bool((scores.amin(1) < 0).all())
    theirs = captums(stock.FGSM, 0.01, target, loss=None, targeted=True)  # the slope of log z is 1 / z
    ours = attack(NET, X, target, eps=0.01, pixels=PIXELS, steps=1)
    before, away, there = (NET(x).gather(1, target[:, None])[:, 0] for x in (X, theirs, ours.adversarial))
    assert bool((away < before).all())
    assert bool((ours.after > ours.before).gather(1, target[:, None]).all())
    assert bool((there > before).all())


def test_captums_smallest_parameter_is_one_for_the_whole_batch() -> None:
    ours = smallest_eps(NET, X, most=0.4, within=0.01, pixels=PIXELS, steps=1)
    assert ours.success.all()
    assert len(set(ours.eps.tolist())) == 3
    step = 0.0005
    for i in range(3):
        made = stock.FGSM(NET, cross_entropy, 0.0, 1.0)
        made.zero_thresh = 0.0
        search = stock.MinParamPerturbation(NET, made, "epsilon", step, 0.4, step)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            _, least = search.evaluate(
                X[i : i + 1].clone(),
                target=SAID[i : i + 1],
                perturbations_per_eval=1,
                attack_kwargs={"target": SAID[i : i + 1]},
            )
        assert float(least) == pytest.approx(float(ours.eps[i]), rel=0.02, abs=2 * step)
