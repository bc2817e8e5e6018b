"""Eigen-CAM, Score-CAM and Ablation-CAM equal their papers and closed forms; what is degenerate stays finite."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.testing import assert_close

from attrib import AblationCAM, Attribution, EigenCAM, ScoreCAM
from attrib.errors import InputError, TargetError
from attrib.methods import scorecam
from attrib.methods.eigencam import principal
from attrib.testing import assert_attribution
from tests import nets
from tests.oracles import differences, perturbed_cams
from tests.oracles.models import DIFFERENCES, DOUBLE, EXACT, TARGETS, assert_rows, class_score, head

X = nets.batch(2, 8, 6, dtype=DOUBLE)


def pooled(model: Any, x: Tensor = X) -> Tensor:
    """What ``pool`` gives in a chain."""
    with torch.no_grad():
        act: Tensor = model.pool(F.relu(model.conv1(x)))
    return act


# --- oracles and closed forms


@pytest.mark.parametrize("seed", range(3))
def test_eigencam_is_what_power_iteration_finds(seed: int) -> None:
    model: Any = nets.fill(nets.Chain(), seed).double()
    expected = [perturbed_cams.eigen_cam(act) for act in pooled(model).numpy()]
    assert_rows(EigenCAM(model, "pool").attribute(X, TARGETS), expected, EXACT)
    with torch.no_grad():
        signed = [perturbed_cams.eigen_cam(act) for act in model.conv1(X).numpy()]
    assert_rows(EigenCAM(model, "conv1").attribute(X, TARGETS), signed, {"rtol": 1e-6, "atol": 1e-8})


def test_eigengradcam_is_that_of_activation_times_gradient() -> None:
    model = nets.make("module", DOUBLE)
    acts = pooled(model).numpy()
    expected = [
        perturbed_cams.eigen_cam(act * differences.gradient(head(model, target), act))
        for act, target in zip(acts, TARGETS, strict=True)
    ]
    assert_rows(EigenCAM(model, "pool", gradient=True).attribute(X, TARGETS), expected, DIFFERENCES)


@pytest.mark.parametrize("space", ["logit", "probability"])
@pytest.mark.parametrize("weights", ["softmax", "increase"])
@pytest.mark.parametrize("baseline", [0.0, 0.5])
def test_scorecam_is_the_algorithm_of_the_paper(baseline: float, weights: Any, space: Any) -> None:
    model = nets.make("module", DOUBLE)
    expected = [
        perturbed_cams.score_cam(class_score(model, target, space), x, act, weights, baseline)
        for x, act, target in zip(X.numpy(), pooled(model).numpy(), TARGETS, strict=True)
    ]
    method = ScoreCAM(model, "pool", weights=weights, baseline=baseline, score=space)
    assert_rows(method.attribute(X, TARGETS), expected, EXACT)


@pytest.mark.parametrize("baseline", [0.0, 0.5])
def test_ablationcam_is_the_loop_over_channels(baseline: float) -> None:
    model = nets.make("module in place", DOUBLE)
    expected = [
        perturbed_cams.ablation_cam(head(model, target), act, baseline)
        for act, target in zip(pooled(model).numpy(), TARGETS, strict=True)
    ]
    assert_rows(AblationCAM(model, "pool", baseline=baseline).attribute(X, TARGETS), expected, EXACT)


def test_ablationcam_on_a_gap_head_weights_channels_by_what_they_contribute() -> None:
    model: Any = nets.fill(nets.GapHead()).double()
    with torch.no_grad():
        act = model.conv(X)
        weight = model.fc.weight[TARGETS] * act.mean((2, 3))
    expected = torch.einsum("nk,nkhw->nhw", weight, act)[:, None]
    assert_close(AblationCAM(model, "conv", relu=False).attribute(X, TARGETS), expected)
    assert_close(AblationCAM(model, "conv").attribute(X, TARGETS), expected.relu())


def test_eigencam_of_one_pattern_is_the_pattern() -> None:
    """All channels are multiples of one picture, so that there is one singular value only."""
    picture, weight = torch.randn(1, 1, 4, 3, dtype=DOUBLE).abs(), torch.tensor([3.0, 0.0, 4.0], dtype=DOUBLE)
    assert_close(principal(picture * weight.reshape(1, 3, 1, 1)), 5 * picture)
    assert_close(principal(-picture * weight.reshape(1, 3, 1, 1)), -5 * picture)


# --- what is degenerate


def test_eigencam_of_equal_singular_values_does_not_depend_on_the_order_of_channels() -> None:
    act = torch.zeros(1, 3, 2, 2)
    act[0, 0, 0, 0] = act[0, 1, 1, 1] = 2.0
    act[0, 2, 0, 1] = 1.0
    expected = torch.tensor([[[[2.0, 0.0], [0.0, 2.0]]]]) / 2**0.5
    for order in ([0, 1, 2], [1, 0, 2], [2, 1, 0]):
        assert_close(principal(act[:, order]), expected)


def test_eigencam_of_nothing_is_zero_and_of_a_constant_is_constant() -> None:
    assert torch.equal(principal(torch.zeros(2, 3, 2, 2)), torch.zeros(2, 1, 2, 2))
    assert_close(principal(torch.full((1, 4, 2, 2), 3.0)), torch.full((1, 1, 2, 2), 6.0))
    assert_close(principal(torch.ones(1, 4, 1, 1)), torch.full((1, 1, 1, 1), 2.0))  # one location
    assert_close(principal(torch.ones(1, 1, 2, 2)), torch.ones(1, 1, 2, 2))  # one channel


@pytest.mark.parametrize(
    "method", [EigenCAM, partial(ScoreCAM, exact_dense=True), partial(AblationCAM, exact_dense=True)]
)
def test_half_precision_is_explained(method: Callable[..., Attribution]) -> None:
    maps = method(nets.make("module", torch.bfloat16), "pool").attribute(X.to(torch.bfloat16), 2)
    assert maps.dtype == torch.bfloat16
    assert_close(maps.double(), method(nets.make("module", DOUBLE), "pool").attribute(X, 2), rtol=0.1, atol=0.02)


class Dead(nn.Module):
    """Channel 0 is zero everywhere, channel 1 is 0.3 everywhere; the others answer to the input."""

    def __init__(self, live: int = 2) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 2 + live, 2, 2)
        self.fc = nn.Linear(2 + live, nets.CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.fc(self.conv(x).square().mean((2, 3)))
        return out


def dead(live: int = 2) -> Any:
    model: Any = nets.fill(Dead(live))
    model.conv.weight.data[:2] = 0
    model.conv.bias.data[:2] = torch.tensor([0.0, 0.3])
    return model


@pytest.mark.parametrize("weights", ["softmax", "increase"])
def test_channels_that_show_nothing_have_no_weight_in_scorecam(weights: Any) -> None:
    model, x = dead(), X.float()
    maps = ScoreCAM(model, "conv", weights=weights, relu=False).attribute(x, 2)
    live = ScoreCAM(model, "conv", weights=weights, relu=False, reshape=lambda act: act[:, 2:]).attribute(x, 2)
    assert maps.std() > 0
    assert_close(maps, live)
    with torch.no_grad():
        model.conv.bias[1] = 1000.0  # its map would drown the others
    assert_close(ScoreCAM(model, "conv", weights="softmax").attribute(x, 2).amax() < 10, torch.tensor(True))


def test_rounding_does_not_make_a_mask_of_a_constant_channel() -> None:
    noise = torch.randn(1, 1, 4, 3).sign() * torch.finfo(torch.float32).eps
    act = torch.cat([0.3 * (1 + noise), torch.randn(1, 1, 4, 3)], 1)
    masks = scorecam.Shown(act, (8, 6))
    assert masks.flat.tolist() == [[True, False]]
    keep = masks.batch(0, 2, act)
    assert keep.shape == (2, 1, 1, 8, 6)
    assert not keep[0].any()
    assert (float(keep[1].min()), float(keep[1].max())) == (0.0, 1.0)


@pytest.mark.parametrize("weights", ["softmax", "increase"])
def test_scorecam_of_a_layer_without_any_pattern_is_zero(weights: Any) -> None:
    maps = ScoreCAM(dead(0), "conv", weights=weights).attribute(X.float(), 2)
    assert torch.equal(maps, torch.zeros(2, 1, 4, 3))


def test_ablationcam_cannot_divide_by_a_score_of_zero() -> None:
    model = nets.make("module")
    model.fc.weight.data[2] = model.fc.bias.data[2] = 0
    with pytest.raises(TargetError, match=r"must not be zero .* Use normalise=False"):
        AblationCAM(model, "pool", normalise=True).attribute(X.float(), 2)
    assert not AblationCAM(model, "pool").attribute(X.float(), 2).any()


# --- memory


def test_scorecam_makes_its_masks_batch_by_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []

    def watched(maps: Tensor, size: tuple[int, ...]) -> Tensor:
        made.append(maps.shape[0] * maps.shape[1])
        return resized(maps, size)

    resized = scorecam.resized
    monkeypatch.setattr(scorecam, "resized", watched)
    model = nets.make("module")
    few = ScoreCAM(model, "conv2", batch_size=4).attribute(X.float(), 2)
    assert max(made) == 4
    assert sum(made) >= 7 * 2
    assert_close(few, ScoreCAM(model, "conv2", batch_size=64).attribute(X.float(), 2))


# --- options


@pytest.mark.parametrize(
    "method",
    [
        partial(EigenCAM, gradient=True, relu=True, upsample=True),
        partial(ScoreCAM, weights="increase", channels=3, score="log_odds", relu=False, upsample=True, baseline="blur"),
        partial(AblationCAM, normalise=True, baseline="mean", score="probability", relu=False, upsample=True),
    ],
    ids=lambda method: method.func.__name__,
)
def test_options_keep_the_contract(method: Callable[..., Attribution]) -> None:
    assert_attribution(method)


@pytest.mark.parametrize(
    ("cls", "options", "message"),
    [
        (ScoreCAM, {"weights": "relu"}, "weights must be one of 'softmax', 'increase'"),
        (ScoreCAM, {"channels": 0}, "channels must be an integer >= 1"),
        (ScoreCAM, {"score": "p"}, "score must be one of"),
        (ScoreCAM, {"batch_size": 0}, "batch_size must be an integer >= 1"),
        (AblationCAM, {"score": "p"}, "score must be one of"),
        (AblationCAM, {"channels": 1.5}, "channels must be an integer >= 1"),
        (AblationCAM, {"tolerance": 0.1}, "tolerance must be left out"),
        (AblationCAM, {"reshape": 3}, "reshape must be a function"),
    ],
)
def test_wrong_options_are_named(cls: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        cls(nets.make("module"), **options)


@pytest.mark.parametrize("cls", [ScoreCAM, AblationCAM])
def test_an_unknown_sweep_option_is_refused(cls: Any) -> None:
    with pytest.raises(TypeError, match="no option 'batchsize'"):
        cls(nets.make("module"), batchsize=3)


@pytest.mark.parametrize("cls", [ScoreCAM, AblationCAM])
def test_more_channels_than_there_are_is_all_of_them(cls: Any) -> None:
    model = nets.make("module", DOUBLE)
    some, every = (cls(model, "pool", channels=c).attribute(X, 2) for c in (99, None))
    assert_close(some, every)
