"""FullGrad takes a score apart without a rest; its map is what the paper makes of the parts."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.testing import assert_close

from attrib import ClassScore, FullGrad
from attrib.core import count
from attrib.core.reduce import upsample
from attrib.core.relevance.biases import biases
from attrib.errors import InputError, LayerError, ModelError, ShapeError
from tests import data, nets, realnets
from tests.conventions import pins
from tests.oracles import fullgrad
from tests.oracles.models import DIFFERENCES, DOUBLE, TARGETS, weights

X = nets.batch(2, 8, 6, dtype=DOUBLE)


# --- against differences


@pins("fullgrad", "each channel of each layer is rescaled")
@pins("fullgrad", "maps are resized bilinearly")
@pytest.mark.parametrize("normalise", ["channel", "layer", "none"])
def test_the_map_adds_up_absolute_contributions_of_input_and_biases(normalise: Any) -> None:
    model, x = nets.make("module in place", DOUBLE), nets.batch(2, 6, 5, dtype=DOUBLE)
    terms = [fullgrad.chain(weights(model), row, t) for row, t in zip(x.numpy(), TARGETS, strict=True)]
    expected = np.stack([fullgrad.saliency(one, normalise) for one in terms])[:, None]
    found = FullGrad(model, normalise=normalise).attribute(x, TARGETS)
    assert_close(found, torch.from_numpy(expected), **DIFFERENCES)


def test_the_parts_are_the_contributions_of_input_and_biases() -> None:
    model, x = nets.make("F.relu in place", DOUBLE), nets.batch(1, 6, 5, dtype=DOUBLE)
    expected = fullgrad.chain(weights(model), x[0].numpy(), 3)
    found = FullGrad(model).decompose(x, 3)
    assert list(found.biases) == ["conv2d#0", "conv2d#1", "linear#0"]
    assert found.located == {"conv2d#0": 1, "conv2d#1": 1}
    for part, name in zip((*found.inputs, *found.biases.values()), expected, strict=True):
        assert_close(part[0], torch.from_numpy(expected[name]), **DIFFERENCES)


# --- the score without a rest


class Mixed(nn.Module):
    """Biases of every kind, in modules and in plain operations."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.up = nn.Conv2d(3, 4, 3, bias=False), nn.ConvTranspose2d(4, 4, 2, stride=2)
        self.norm, self.bare = nn.BatchNorm2d(4), nn.BatchNorm2d(4, affine=False)
        self.offset = nn.Parameter(torch.randn(4, 1, 1))
        self.fc = nn.Linear(4, nets.CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = F.hardswish(self.norm(self.conv(x)))
        x = self.bare(self.up(x)) + self.offset
        x = F.relu6(0.5 - 3 * x) - 0.2
        x = F.max_pool2d(torch.cat([x, x.add(1.0, alpha=0.5)], 1), 2)[:, ::2]
        x = self.offset - x
        out: Tensor = self.fc(x.clamp(-1, 2).sub_(0.1).mean((2, 3)))
        return out


def every_net() -> dict[str, Callable[[], nn.Module]]:
    return {**nets.NETS, **nets.SMOOTH, "mixed": Mixed}


@pytest.mark.parametrize("name", every_net())
def test_input_and_biases_add_up_to_the_score(name: str) -> None:
    model = nets.fill(every_net()[name]()).to(DOUBLE)
    found = FullGrad(model).decompose(X, TARGETS)
    with torch.no_grad():
        logits = model(X.clone())
    assert_close(found.score, logits[torch.arange(2), torch.tensor(TARGETS)])
    assert_close(found.total, found.score, rtol=1e-12, atol=1e-12)
    without = found.inputs[0].flatten(1).sum(1)
    assert float((without - found.score).abs().max()) > 1e-3  # the biases matter


@pins("fullgrad", "the terms add up")
def test_where_activations_are_multiplied_or_normalised_there_is_a_rest_and_it_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Gate(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x * x.mean((2, 3), keepdim=True).sigmoid()

    for part in (Gate(), nn.LayerNorm(6), nn.GroupNorm(1, 3)):
        model = nets.fill(nn.Sequential(part, nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(96, 5))).to(DOUBLE)
        caplog.clear()
        with caplog.at_level(logging.INFO, "attrib"):
            found = FullGrad(model).decompose(X, TARGETS)
        rest = float((found.total - found.score).abs().max())
        assert rest > 1e-3
        assert f"add up to the score but for {rest:.2g}" in caplog.text


def affine(function: Callable[[Tensor], Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
    """The sum of the biases that are noted, and what they must be: the value less the derivative times the input."""
    leaf = x.clone().requires_grad_(True)
    with biases() as seen:
        out = function(leaf * 1)
    total = torch.zeros_like(out)
    for bias in seen.found:
        (grad,) = torch.autograd.grad(out.sum(), bias.edge, retain_graph=True)
        total = total + (bias.value * grad)
    step = 1e-6  # the derivative along the input; none of these is at a kink
    moved = (function(x * (1 + step)) - function(x * (1 - step))) / (2 * step)
    return total, function(x * 1) - moved


CONSTANT = nets.batch(1, 8, 6, seed=9, dtype=DOUBLE)
OPERATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "x + 1": lambda x: x + 1,
    "1 + x": lambda x: 1 + x,
    "x - c": lambda x: x - CONSTANT,
    "c - x": lambda x: CONSTANT - x,
    "1 - x": lambda x: 1 - x,
    "torch.sub(c, x, alpha=3)": lambda x: torch.sub(CONSTANT, x, alpha=3),
    "torch.rsub(x, c, alpha=2)": lambda x: torch.rsub(x, CONSTANT, alpha=2),
    "x.add_(c, alpha=2)": lambda x: x.add_(CONSTANT, alpha=2),
    "x.sub(other=c)": lambda x: x.sub(other=CONSTANT),
    "x - 2 * x": lambda x: x - 2 * x,
    "F.linear": lambda x: F.linear(x, CONSTANT[0, 0], bias=CONSTANT[0, 1, :, 0]),
    "F.conv2d by keyword": lambda x: F.conv2d(input=x, weight=CONSTANT[:, :, :2, :2], bias=CONSTANT[0, 0, 0, :1]),
    "F.batch_norm": lambda x: F.batch_norm(x, CONSTANT[0, :, 0, 0], CONSTANT[0, :, 1, 0].abs()),
    "F.sigmoid": torch.sigmoid,
    "x.tanh_()": lambda x: x.tanh_(),
    "F.elu in place": lambda x: F.elu(x, inplace=True),
    "F.gelu": lambda x: F.gelu(x, approximate="tanh"),
    "F.softplus": F.softplus,
    "nn.Hardsigmoid": nn.Hardsigmoid(),
    "nn.Threshold": nn.Threshold(0.1, -3.0),
    "x.clamp(max=c)": lambda x: x.clamp(max=CONSTANT),
    "nn.PReLU": nn.PReLU(dtype=DOUBLE),
}


@pins("fullgrad", "biases are those of convolutions and linear layers")
@pytest.mark.parametrize("name", OPERATIONS)
def test_the_bias_of_an_operation_is_its_value_less_its_derivative_times_its_input(name: str) -> None:
    found, expected = affine(OPERATIONS[name], X)
    assert_close(found, expected.expand_as(found), rtol=1e-6, atol=1e-8)
    assert bool((expected.abs() > 1e-6).any()) is (name not in ("x - 2 * x", "nn.PReLU"))


def test_batch_norm_with_the_statistics_of_the_batch_has_its_own_bias_only() -> None:
    norm = nn.BatchNorm2d(3, track_running_stats=False)
    with torch.no_grad():
        norm.bias.copy_(torch.tensor([1.0, 2.0, 3.0]))
    x = nets.batch().requires_grad_(True)
    with biases() as seen:
        norm.eval()(x)
    assert [bias.value.flatten().tolist() for bias in seen.found] == [[1, 2, 3]]


# --- the map


@pins("fullgrad", "map: ``(N, 1, H, W)``, not negative")
def test_a_map_is_not_negative_and_blind_to_the_sign_of_the_score() -> None:
    model = nets.make("residual")
    maps = FullGrad(model).attribute(X.float(), 2)
    assert maps.shape == (2, 1, 8, 6)
    assert bool((maps >= 0).all())
    assert_close(FullGrad(model).attribute(X.float(), -ClassScore(2)), maps)


@pins("fullgrad", "biases whose outputs are no maps")
def test_biases_of_scores_and_of_tokens_do_not_change_the_map(caplog: pytest.LogCaptureFixture) -> None:
    model = nets.make("module")
    before = FullGrad(model, normalise="none").attribute(X.float(), 2)
    with torch.no_grad():
        model.fc.bias.add_(5)
    assert torch.equal(FullGrad(model, normalise="none").attribute(X.float(), 2), before)
    tokens = nets.fill(
        nn.Sequential(nn.Conv2d(3, 4, 2, 2), nn.Flatten(2), nn.Linear(12, 7), nn.Flatten(), nn.Linear(28, 5))
    )
    assert FullGrad(tokens).decompose(X.float(), 1).located == {"conv2d#0": 1}
    assert "leaves out" not in caplog.text
    FullGrad(tokens).attribute(X.float(), 1)
    assert "the map leaves out 1 of 3 biases" in caplog.text
    assert "'linear#0', are not known to be maps" in caplog.text


class Turned(nn.Module):
    """A linear layer of the channels at every place, written with channels last, or as a 1x1 convolution."""

    def __init__(self, last: bool) -> None:
        super().__init__()
        self.conv, self.mix, self.last = nn.Conv2d(3, 4, 3, padding=1), nn.Linear(4, 5), last
        self.head = nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        if self.last:
            x = F.gelu(self.mix(x.permute(0, 2, 3, 1))).movedim(-1, 1)
        else:
            x = F.gelu(F.conv2d(x, self.mix.weight[:, :, None, None], self.mix.bias))
        return self.head(x.mean((2, 3)))


def test_channels_that_come_last_are_drawn_as_those_that_come_second() -> None:
    last, second = nets.fill(Turned(last=True).double()), nets.fill(Turned(last=False).double())
    assert FullGrad(last).decompose(X, 1).located == {"conv2d#0": 1, "linear#0": 3, "gelu#0": 3}
    assert_close(FullGrad(last).attribute(X, 1), FullGrad(second).attribute(X, 1))


def test_the_tangents_intercept_of_an_activation_behind_a_convolution_is_drawn() -> None:
    smooth = FullGrad(nets.make("silu", DOUBLE)).decompose(X, 2)
    assert smooth.located == dict.fromkeys(("conv2d#0", "silu#0", "conv2d#1", "silu#1"), 1)
    assert float(smooth.biases["silu#0"].abs().max()) > 1e-3


def test_a_rectifier_that_saturates_has_a_bias_where_it_does() -> None:
    model = nets.fill(nn.Sequential(nn.Conv2d(3, 2, 1), nn.ReLU6(), nn.Flatten(), nn.Linear(96, 5)))
    with torch.no_grad():
        model[0].weight.mul_(40)
        at = model[0](X.float())
    found = FullGrad(model).decompose(X.float(), 2)
    slope = model[3].weight.detach()[2].reshape(2, 8, 6)
    assert_close(found.biases["hardtanh#0"], torch.where(at > 6, 6 * slope, 0))
    assert bool((at > 6).any())


def test_signals_and_volumes_are_explained_in_their_own_shape() -> None:
    for axes, conv in ((1, nn.Conv1d), (3, nn.Conv3d)):
        model = nets.fill(nn.Sequential(conv(2, 3, 3), nn.ReLU(), nn.Flatten(1), nn.Linear(3 * 3**axes, 4)))
        x = torch.randn(2, 2, *(5,) * axes, generator=torch.Generator().manual_seed(0))
        assert FullGrad(model).attribute(x, 1).shape == (2, 1, *(5,) * axes)


def test_what_cannot_be_explained_is_refused() -> None:
    with pytest.raises(LayerError, match="explains the inputs only"):
        FullGrad(nets.make("module"), "pool")
    with pytest.raises(ShapeError, match="must have locations"):
        FullGrad(nn.Linear(3, 2)).attribute(torch.ones(2, 3), 1)
    with pytest.raises(InputError, match="normalise must be one of"):
        FullGrad(nn.ReLU(), normalise="batch")  # type: ignore[arg-type]
    with pytest.raises(ModelError, match="must depend differentiably on the inputs"):
        FullGrad(nn.Sequential(nn.Flatten(), nn.Threshold(9.0, 0.0))).decompose(
            X.detach(), lambda out: out.detach()[:, 0]
        )


def test_taking_a_score_apart_takes_one_pass_each_way() -> None:
    with count() as cost:
        FullGrad(nets.make("residual")).decompose(X.float(), 2)
    assert (cost.forwards, cost.backwards) == (2, 2)


# --- pytorch-grad-cam


def rescaled(maps: Tensor) -> Tensor:
    low, high = maps.amin((2, 3), keepdim=True), maps.amax((2, 3), keepdim=True)
    return (maps - low) / (high - low)


def theirs(model: nn.Module, x: Tensor, labels: list[int], factor: float = 1.0) -> Tensor:
    """pytorch-grad-cam's map of a multiple of the scores."""
    peer = pytest.importorskip("pytorch_grad_cam")
    targets = [lambda out, label=label: out[label] * factor for label in labels]
    return torch.from_numpy(peer.FullGrad(model, [])(x.clone(), targets))


@data.needs_data
@pytest.mark.parametrize("name", ["resnet18", "squeezenet1_0"])
def test_it_is_pytorch_grad_cams_map_before_that_is_rescaled_where_its_epsilon_does_not_show(name: str) -> None:
    net = realnets.load(name)
    x, labels = net.batch(2)
    ours = rescaled(FullGrad(net.model).attribute(x, labels))[:, 0]
    assert_close(ours, theirs(net.model, x, labels.tolist(), 1e9), rtol=0, atol=2e-3)
    if name == "squeezenet1_0":  # channels are divided by their maximum plus 1e-7, and some contributions are as small
        assert float((ours - theirs(net.model, x, labels.tolist())).abs().max()) > 0.05
        many = FullGrad(net.model).attribute(x, 100 * ClassScore(labels))
        assert_close(rescaled(many)[:, 0], ours, rtol=0, atol=1e-4)


def test_pytorch_grad_cam_leaves_out_biases_that_are_no_parameter_of_a_module() -> None:
    x = nets.batch(1)
    for name, same in (("module", True), ("silu", False)):
        model = nets.make(name)
        gap = (rescaled(FullGrad(model).attribute(x, 2))[:, 0] - theirs(model, x, [2], 1e9)).abs().max()
        assert bool(gap < 1e-4) is same


def test_resizing_a_sum_is_the_sum_of_resized_maps() -> None:
    maps = nets.batch(1, 3, 4, 5)
    assert_close(upsample(maps.sum(1, keepdim=True), (7, 9)), upsample(maps, (7, 9)).sum(1, keepdim=True))
