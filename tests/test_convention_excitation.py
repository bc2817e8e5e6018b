"""Excitation backprop against loops; what it keeps of a signal; what it refuses."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import torch.utils.checkpoint
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.testing import assert_close

from attrib import Channel, ClassScore, ExcitationBackprop, Neuron
from attrib.errors import LayerError, RuleError, TargetError
from attrib.testing.traces import ModelTrace
from tests import data, nets, realnets
from tests.conventions import pins
from tests.oracles import excitation as by_hand
from tests.oracles.models import EXACT, TARGETS, weights
from tests.signals import Down, Function, handed, won

X = nets.batch(2, 9, 6, dtype=torch.float64)
ONE = ClassScore(0)


# --- against loops


@pytest.mark.parametrize("name", [*nets.SPELLINGS])
@pytest.mark.parametrize("layer", ["act2", "pool", "act1"])
def test_it_equals_the_definition_one_pair_of_units_at_a_time(name: str, layer: str) -> None:
    if layer != "pool" and name not in ("module", "module in place"):
        layer = "conv1" if layer == "act1" else "conv2"  # the rectifier is no module: the place before it
    model, p = nets.make(name, torch.float64), weights(nets.make(name, torch.float64))
    place = {"conv1": "act1", "conv2": "act2"}.get(layer, layer)
    expected = [by_hand.chain(p, row, t)[place] for row, t in zip(X.numpy(), TARGETS, strict=True)]
    assert_close(won(model, X, TARGETS, layer), torch.from_numpy(np.stack(expected)), **EXACT)


@pytest.mark.parametrize("layer", ["pool", "act1"])
@pins("excitation_backprop", "``contrastive=True`` takes off what the dual gets")
def test_the_contrast_takes_off_what_the_class_with_negated_weights_gets(layer: str) -> None:
    model = nets.make("module", torch.float64)
    p = weights(model)
    pairs = [[by_hand.chain(p, row, t, sign)[layer] for sign in (1, -1)] for row, t in zip(X.numpy(), TARGETS)]  # noqa: B905
    expected = np.stack([np.maximum((for_it - against).sum(0), 0) for for_it, against in pairs])[:, None]
    found = ExcitationBackprop(model, layer, contrastive=True).attribute(X, TARGETS)
    assert_close(found, torch.from_numpy(expected), **EXACT)
    assert bool((found.flatten(1) > 0).any(1).all())
    assert bool((found.flatten(1) == 0).any(1).all())


@pins("excitation_backprop", "a residual sum is shared")
def test_a_residual_sum_is_shared_by_what_excites_each_branch() -> None:
    model = nets.make("residual", torch.float64)
    p = weights(model)
    expected = [by_hand.residual(p, row, t) for row, t in zip(X.numpy(), TARGETS, strict=True)]
    assert_close(won(model, X, TARGETS, "relu#0"), torch.from_numpy(np.stack(expected)), **EXACT)


@pins("excitation_backprop", "biases take no part")
@pytest.mark.parametrize("in_place", [False, True])
def test_batch_norm_behind_a_convolution_is_folded_into_its_weights_and_biases_take_no_part(in_place: bool) -> None:
    model = nets.fill(
        nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(inplace=in_place))
    ).double()
    assert bool((model.get_parameter("1.weight") < 0).any())  # then the negative weights excite
    x, signal = X.abs(), nets.batch(2, 9, 6, 4, seed=4, dtype=torch.float64).abs()
    expected = [by_hand.folded(weights(model), row, s) for row, s in zip(x.numpy(), signal.numpy(), strict=True)]
    assert_close(handed(model, x, signal), torch.from_numpy(np.stack(expected)), **EXACT)
    with torch.no_grad():
        for name in ("0.bias", "1.bias", "1.running_mean"):
            model.state_dict()[name].add_(3)
    assert_close(handed(model, x, signal), torch.from_numpy(np.stack(expected)), **EXACT)


# --- what passes


@pins("excitation_backprop", "activations, softmax, response normalisation and other BatchNorms")
def test_one_input_for_one_output_gets_it_all() -> None:
    x, signal = nets.batch(1, 5, 4, 4), nets.batch(1, 5, 4, 4, seed=3).abs()
    passing: list[Callable[[Tensor], Tensor]] = [
        torch.relu, F.relu6, F.silu, torch.sigmoid, nn.Hardtanh(), nn.LeakyReLU(), nn.LocalResponseNorm(3),
        nn.Softmax(1),
        lambda v: v.clamp(0, 2), lambda v: torch.maximum(v, torch.zeros(())), lambda v: F.relu(v.clone(), True),
        lambda v: v + 3, lambda v: v - torch.ones(4, 1, 1), lambda v: 2 * v, lambda v: v.div(3), nn.Dropout().eval(),
    ]  # fmt: skip
    for function in passing:
        assert torch.equal(handed(function, x, signal), signal)
    norm = nets.fill(nn.BatchNorm2d(4))
    scale = norm.weight.detach()[:, None, None]
    assert bool((scale < 0).any())
    assert torch.equal(handed(norm, x, signal), torch.where(scale > 0, signal, 0))  # a negative weight excites nothing
    assert torch.equal(handed(lambda v: v * scale, x, signal), torch.where(scale > 0, signal, 0))


# --- how much is kept


def random_net(seed: int, widths: list[int], residual: bool, bias: bool) -> nn.Module:
    """ReLU layers with weights of both signs, of which every unit has a positive one."""

    class Block(nn.Module):
        def __init__(self, width: int) -> None:
            super().__init__()
            self.conv, self.norm = nn.Conv2d(width, width, 3, padding=1, bias=bias), nn.BatchNorm2d(width)

        def forward(self, x: Tensor) -> Tensor:
            return F.relu(x + self.norm(self.conv(x)))

    layers: list[nn.Module] = []
    for width, wider in pairwise(widths):
        layers += [nn.Conv2d(width, wider, 3, padding=1, bias=bias), nn.ReLU(inplace=True)]
        layers += [Block(wider)] if residual else [nn.MaxPool2d(3, 2, 1)]
    model = nets.fill(nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(widths[-1], 3)), seed)
    for part in model.modules():
        if isinstance(part, nn.BatchNorm2d) and not bias:
            nn.init.zeros_(part.bias)
            nn.init.zeros_(part.get_buffer("running_mean"))
    return model.double()


@pins("excitation_backprop", "map: ``(N, 1, h, w)`` of the layer")
@given(
    seed=st.integers(0, 10_000),
    widths=st.lists(st.integers(2, 5), min_size=2, max_size=4),
    residual=st.booleans(),
    bias=st.booleans(),
)
def test_shares_are_not_negative_and_add_up_to_1_but_for_units_that_nothing_excites(
    seed: int, widths: list[int], residual: bool, bias: bool
) -> None:
    model = random_net(seed, [3, *widths], residual, bias)
    x = nets.batch(2, 7, 6, seed=seed, dtype=torch.float64)
    layers = [name for name, part in model.named_children() if isinstance(part, (nn.ReLU, nn.MaxPool2d))]
    for layer in layers:
        maps = ExcitationBackprop(model, layer).attribute(x, 1)
        total = maps.sum((1, 2, 3))
        assert bool((maps >= 0).all())
        assert bool((total <= 1 + 1e-9).all())
        if not bias:  # a unit that fires was excited
            alive = ExcitationBackprop(model, layers[-1]).attribute(x, 1).sum((1, 2, 3)) > 0
            assert_close(total, alive.double())


def test_what_passes_the_layer_by_is_missing_from_its_map() -> None:
    model = nets.make("residual", torch.float64)
    at_branch = ExcitationBackprop(model, "conv").attribute(X, TARGETS).sum((1, 2, 3))
    assert 0.01 < float(at_branch.min()) < 0.99
    assert_close(ExcitationBackprop(model, "relu#0").attribute(X, TARGETS).sum((1, 2, 3)), torch.ones(2).double())


def test_a_class_that_nothing_excites_hands_nothing_down() -> None:
    model = nets.make("module", torch.float64)
    with torch.no_grad():
        model.fc.weight.copy_(-model.fc.weight.abs())
    assert not ExcitationBackprop(model, "pool").attribute(X, 2).any()


# --- targets


@pins("excitation_backprop", "the signal starts with 1 at the class")
def test_the_signal_starts_with_the_positive_part_of_the_targets_gradient() -> None:
    model = nets.make("module", torch.float64)
    one, two = (won(model, X, t, "pool") for t in (1, 3))
    assert_close(won(model, X, ClassScore(1) * 3 + ClassScore(3), "pool"), 0.75 * one + 0.25 * two)
    for target in (ClassScore(1, "probability"), ClassScore(1) - ClassScore(3), 5 * ClassScore(1)):
        assert_close(won(model, X, target, "pool"), one)
    unit = won(model, X, Neuron("act2", 2), "pool")
    assert_close(unit.sum((1, 2, 3)), torch.ones(2).double())
    assert torch.equal(won(model, X, Neuron("act2", 2), "act2").sum((1, 2, 3)), torch.ones(2).double())
    mean, total = (won(model, X, Channel("act2", 2, r), "pool") for r in ("mean", "sum"))
    assert_close(mean, total)
    assert not torch.allclose(mean, unit)


def test_a_target_that_only_falls_is_refused() -> None:
    with pytest.raises(TargetError, match=r"must rise .* \[0, 1\].*contrastive=True"):
        ExcitationBackprop(nets.make("module"), "pool").attribute(X.float(), -ClassScore(2))


@pytest.mark.parametrize(
    ("target", "layer", "contrastive", "message"),
    [
        (Neuron("pool", 1), "act2", False, "must depend on layer 'act2'"),
        (Neuron("act2", 1), "act2", True, "needs a convolution or linear layer between 'act2' and the target"),
        (Neuron("act2", 1), "conv2", True, "needs a convolution or linear layer between 'conv2' and the target"),
    ],
)
def test_a_layer_that_does_not_fit_the_target_is_refused(
    target: object, layer: str, contrastive: bool, message: str
) -> None:
    with pytest.raises(LayerError, match=message):
        ExcitationBackprop(nets.make("module"), layer, contrastive=contrastive).attribute(X.float(), target)


# --- what is refused


class Checkpointed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.start, self.conv = nn.Identity(), nn.Conv2d(3, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = torch.utils.checkpoint.checkpoint(self.conv, self.start(x), use_reentrant=True)
        return out.sum((1, 2, 3))


REFUSED: dict[str, tuple[nn.Module, str]] = {
    "LayerNorm": (Down(nn.LayerNorm(6), nn.Flatten()), "'layer_norm' is not"),
    "attention": (Function(lambda x: x @ x.transpose(2, 3)), "'matmul' is not"),
    "a gate": (Function(lambda x: x * x.mean((2, 3), keepdim=True).sigmoid()), "a product or quotient of two"),
    "a quotient": (Function(lambda x: 1 / (1 + x.abs())), "'abs' is not"),
    "a reciprocal": (Function(lambda x: 3 / x), "a product or quotient"),
    "a difference": (Function(lambda x: x - x.mean((2, 3), keepdim=True)), "a difference of two"),
    "a constant less activations": (Function(lambda x: torch.ones(()) - x), "a difference of two"),
    "negative inputs": (
        Down(nn.Conv2d(3, 4, 3), nn.SiLU(), nn.Conv2d(4, 4, 3), nn.Flatten()),
        r"never negative; got values down to -0\.\d",
    ),
    "cubic interpolation": (Function(lambda x: F.interpolate(x, scale_factor=2, mode="bicubic")), "mode 'bicubic'"),
    "statistics of the batch": (Down(nn.BatchNorm2d(3, track_running_stats=False), nn.Flatten()), "takes the batch's"),
    "checkpointed code": (Checkpointed(), "was not. It runs in scripted, compiled or checkpointed code"),
}


@pins("excitation_backprop", "what is no sum of activations")
@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_sum_of_activations_is_refused_with_the_reason(name: str) -> None:
    model, message = REFUSED[name]
    x = nets.batch(1 if name == "statistics of the batch" else 2, 9, 6).abs()  # more are refused by the pass itself
    before = ModelTrace(model)
    with pytest.raises(RuleError, match=message):
        ExcitationBackprop(model, "start").attribute(x, 0 if isinstance(model, Down) else None)
    assert before.changes() == []


# --- a trained net


@data.needs_data
def test_the_contrast_tells_the_cat_from_the_dog_in_one_photo() -> None:
    net = realnets.load("resnet18")
    x = net.loaded.inputs([data.open_photo("dog_cat_both")])
    maps: dict[Any, Tensor] = {}
    for contrastive in (False, True):
        method = ExcitationBackprop(net.model, "layer3", contrastive=contrastive)
        for name, target in (("cat", 281), ("dog", 242)):
            found = method.attribute(x, target)[0, 0]
            maps[name, contrastive] = found[7:].sum() / found.sum()  # the cat lies in the lower half
    assert maps["cat", True] > 0.9
    assert maps["dog", True] < 0.1
    assert maps["cat", True] > maps["cat", False] > maps["dog", False] > maps["dog", True]
