"""How operations hand signals down: what moves, what is shared, what is folded, what is written in place."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.testing import assert_close

import attrib
from attrib.errors import ModelError, RuleError
from tests import nets
from tests.oracles.models import EXACT
from tests.signals import handed, won

X = nets.batch(2, 9, 6, dtype=torch.float64)


def test_what_moves_values_moves_signals_back() -> None:
    x, signal = nets.batch(2, 4, 6, 4).abs(), nets.batch(2, 4, 6, 4, seed=3).abs()
    moving: dict[str, Callable[[Tensor], Tensor]] = {
        "flatten": lambda v: v.flatten(1).reshape(2, 6, 16).transpose(1, 2),
        "chunk and cat": lambda v: torch.cat(v.chunk(2, 1)[::-1], 1),
        "stack": lambda v: torch.stack([v[:, 0], v[:, 1], v[:, 2], v[:, 3]], 1),
        "pad": lambda v: F.pad(v, (1, 1)),
        "shuffle": nn.PixelShuffle(2),
        "double": lambda v: v.double(),
    }
    for name, function in moving.items():
        out = function(x)
        up = torch.rand(out.shape, generator=torch.Generator().manual_seed(1), dtype=out.dtype)
        leaf = x.clone().requires_grad_(True)
        (expected,) = torch.autograd.grad(function(leaf), leaf, up)
        assert torch.equal(handed(function, x, up), expected), name
    pooled, places = F.max_pool2d(x, 2, return_indices=True)
    expected = F.max_unpool2d(signal[..., :2, :3], places, 2)
    assert pooled.shape == (2, 4, 2, 3)
    assert torch.equal(handed(nn.MaxPool2d(2), x, signal[..., :2, :3]), expected)
    assert torch.equal(handed(lambda v: F.max_pool2d(v, 2, return_indices=True)[0], x, signal[..., :2, :3]), expected)


def test_averages_are_shared_by_activation() -> None:
    x = torch.tensor([[[[1.0, 3.0], [0.0, 4.0]]]])
    for mean in (
        nn.AvgPool2d(2),
        nn.AdaptiveAvgPool2d(1),
        lambda v: v.mean((2, 3), keepdim=True),
        lambda v: v.sum((2, 3)),
    ):
        assert handed(mean, x, torch.tensor(2.0).expand(mean(x).shape)).flatten().tolist() == [0.25, 0.75, 0.0, 1.0]
    up = nn.Upsample(scale_factor=2, mode="nearest")
    assert torch.equal(handed(up, x, torch.ones(1, 1, 4, 4)), 4 * (x > 0))


def test_a_mean_of_scores_is_shared_by_what_excites_them_and_not_by_what_they_are() -> None:
    """Convolution, mean, no rectifier between: the sum is one sum of the activations below both."""
    conv = nets.fill(nn.Conv2d(3, 4, 3)).double()
    x = X.abs()
    found = handed(lambda v: conv(v).mean((2, 3)), x, torch.ones(2, 4, dtype=torch.float64))
    kernel = conv.weight.detach().clamp(min=0)
    share = torch.zeros_like(x)
    for k in range(4):
        leaf = x.clone().requires_grad_(True)
        total = F.conv2d(leaf, kernel[k : k + 1]).sum((1, 2, 3))
        share += leaf.detach() * torch.autograd.grad((total / total.detach()).sum(), leaf)[0]
    assert_close(found, share, **EXACT)


def test_every_way_to_scale_a_convolution_is_folded_as_batch_norm_is() -> None:
    conv = nets.fill(nn.Conv2d(3, 4, 3)).double()
    x, signal = X.abs(), nets.batch(2, 7, 4, 4, seed=4, dtype=torch.float64).abs()
    scale = torch.tensor([2.0, -1.0, 0.5, -3.0], dtype=torch.float64)[:, None, None]
    norm = nn.BatchNorm2d(4, affine=False).double().eval()
    scaled = nn.Conv2d(3, 4, 3).double()
    with torch.no_grad():
        scaled.weight.copy_(conv.weight * scale[..., None])
    expected = handed(scaled, x, signal)
    ways: list[Callable[[Tensor], Tensor]] = [
        lambda v: conv(v) * scale,
        lambda v: scale * conv(v) + 1,
        lambda v: conv(v).mul_(scale[None]).add_(0.5).sub(1),
        lambda v: conv(v) / (1 / scale),
        lambda v: norm(3 * conv(v).clone() * scale),
        lambda v: F.dropout(conv(v), 0.5, False) * scale,
    ]
    for way in ways:
        assert_close(handed(way, x, signal), expected, **EXACT)
    turned = handed(lambda v: -1 * conv(v), x, signal)
    assert_close(turned, handed(lambda v: conv(v) * -2.0, x, signal), **EXACT)
    assert not torch.allclose(turned, handed(conv, x, signal))


def test_activations_that_are_overwritten_before_the_signal_comes_down_are_noticed() -> None:
    conv = nets.fill(nn.Conv2d(3, 3, 1))

    def model(x: Tensor) -> Tensor:
        active = torch.relu(x)
        y = conv(active)
        active.add_(1.0)
        return y + active

    with pytest.raises(RuleError, match="changed them in place"):
        handed(model, nets.batch(), torch.ones(2, 3, 8, 6))


def test_a_sum_in_place_is_shared_like_any_other() -> None:
    conv = nets.fill(nn.Conv2d(3, 3, 3, padding=1)).double()
    x, signal = X.abs(), nets.batch(2, 9, 6, seed=4, dtype=torch.float64).abs()

    def in_place(v: Tensor) -> Tensor:
        out = conv(v)
        out += v
        return out.relu_()

    def shortcut_first(v: Tensor) -> Tensor:
        out = v.clone()
        out += conv(v)
        return out.relu_()

    expected = handed(lambda v: (conv(v) + v).relu(), x, signal)
    for model in (in_place, shortcut_first, lambda v: v + conv(v)):
        assert_close(handed(model, x, signal), expected, **EXACT)
    broadcast = handed(lambda v: v + v.mean((2, 3), keepdim=True), x, signal)
    assert_close(broadcast.sum((1, 2, 3)), signal.sum((1, 2, 3)))


def test_sums_of_sums_and_of_averages_are_one_sum_of_the_activations_below() -> None:
    one, two = (nets.fill(nn.Conv2d(3, 3, 3, padding=1), seed).double() for seed in (1, 2))
    x = X.abs()

    def positive(v: Tensor) -> Tensor:
        kernels = [conv.weight.detach().clamp(min=0) for conv in (one, two)]
        return F.conv2d(v, kernels[0], padding=1) + v + F.conv2d(v, kernels[1], padding=1)

    wholes: list[tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]] = [
        (lambda v: one(v) + v + two(v), positive),
        (lambda v: F.avg_pool2d(one(v) + v + two(v), 3, 2), lambda v: F.avg_pool2d(positive(v), 3, 2)),
        (
            lambda v: F.avg_pool2d(one(v) + v, 3, 2) + F.avg_pool2d(two(v), 3, 2),
            lambda v: F.avg_pool2d(positive(v), 3, 2),
        ),
    ]
    for model, excites in wholes:
        leaf = x.clone().requires_grad_(True)
        total = excites(leaf)
        signal = nets.batch(2, *total.shape[2:], seed=4, dtype=torch.float64).abs()
        (slope,) = torch.autograd.grad(total, leaf, signal / total.detach())
        assert_close(handed(model, x, signal), x * slope, **EXACT)


def test_the_dual_of_a_sum_gets_nothing_by_its_shortcut() -> None:
    class Head(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.start, self.fc = nn.ReLU(), nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            x = self.start(x)
            out: Tensor = self.fc(x) + x
            return out

    model = nets.fill(Head()).double()
    x = nets.batch(1, 1, 1, 4, dtype=torch.float64)[:, :, 0, 0].abs()
    weight = model.fc.weight.detach()[2]
    plus, minus = x[0] * weight.clamp(min=0), x[0] * (-weight).clamp(min=0)
    plus[2] += x[0, 2]
    assert_close(won(model, x, 2, "start", contrastive=True)[0], plus / plus.sum() - minus / minus.sum(), **EXACT)


class Bag:
    """An output that is no tuple, list or dictionary."""

    def __init__(self, logits: Tensor) -> None:
        self.logits = logits


def test_an_output_that_hides_its_tensors_is_refused() -> None:
    method = attrib.ExcitationBackprop(nets.Packed(Bag), "chain.conv2")
    with pytest.raises(ModelError, match=r"output must hold Tensors in tuples, lists or dicts, .*; it is a Bag. Wrap"):
        method.attribute(nets.batch(), lambda out: out.logits[:, 3])
    method = attrib.ExcitationBackprop(nets.make("module"), "conv2")
    with pytest.raises(ModelError, match="must depend differentiably on the model's output"):
        method.attribute(nets.batch(), lambda out: out[:, 3].detach())
