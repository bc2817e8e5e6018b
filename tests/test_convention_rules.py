"""One test per line of the Convention of guided backpropagation and deconvnet."""

from __future__ import annotations

from typing import Any

import captum.attr
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.testing import assert_close

from attrib import METHODS, Deconvnet, GuidedBackprop, Neuron, coverage
from attrib.errors import RuleError
from tests import nets
from tests.conventions import pins

X = nets.batch(2, 8, 6)
SMOOTH = {"silu": F.silu, "gelu": F.gelu, "hardswish": F.hardswish, "mish": F.mish}
GATES = {"guided": lambda above, slope: (above * slope).clamp(min=0), "deconvnet": lambda above, _: above.clamp(min=0)}


def signed(name: str, model: nn.Module, x: Tensor, target: Any, layer: str | None = None, **options: Any) -> Tensor:
    maps: Tensor = METHODS[name](model, layer, channels="none", absolute=False, **options).attribute(x, target)
    return maps


def down(out: Tensor, x: Tensor, signal: Tensor) -> Tensor:
    """The true gradient of ``out`` for ``x``, with ``signal`` coming from above."""
    return torch.autograd.grad(out, x, signal, retain_graph=True)[0]


@pins("guided", "map:")
@pins("deconvnet", "map:")
@pytest.mark.parametrize("name", GATES)
def test_convention_map_is_of_the_input_or_the_layer_and_all_channels_are_captums(name: str) -> None:
    model = nets.make("module")
    theirs = {"guided": captum.attr.GuidedBackprop, "deconvnet": captum.attr.Deconvolution}[name](model)
    assert METHODS[name](model).attribute(X, 2).shape == (2, 1, 8, 6)
    assert METHODS[name](model, "pool").attribute(X, 2).shape == (2, 1, 4, 3)
    assert_close(signed(name, model, X, 2), theirs.attribute(X, 2).detach())


@pins("guided", "the gate is strict")
def test_convention_guided_passes_nothing_at_an_activation_of_exactly_zero() -> None:
    class Sum(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.relu().sum((1, 2, 3))

    x = torch.tensor([0.0, 1e-30, -1.0, 2.0]).reshape(1, 1, 2, 2)
    assert GuidedBackprop(Sum()).attribute(x).flatten().tolist() == [0, 1, 0, 1]


class Weighted(nn.Module):
    """An activation, then a weighted sum: the gradient above and the slope are plain to see."""

    def __init__(self, act: Any, weight: Tensor) -> None:
        super().__init__()
        self.act = act
        self.weight = weight

    def forward(self, x: Tensor) -> Tensor:
        return (self.act(x) * self.weight).sum((1, 2, 3))


@pins("guided", "rectifiers other than ReLU")
@pytest.mark.parametrize("act", [F.relu6, lambda x: F.leaky_relu(x, 0.2), nn.PReLU(init=0.5), F.elu, F.selu, F.celu])
def test_convention_guided_passes_the_positive_part_of_another_rectifiers_gradient(act: Any) -> None:
    x = 4 * nets.batch(1, 4, 5)
    above = nets.batch(1, 4, 5, seed=8)
    leaf = x.clone().requires_grad_(True)
    slope = down(act(leaf), leaf, torch.ones_like(x))
    assert_close(signed("guided", Weighted(act, above), x, None), (above * slope).clamp(min=0))


@pins("guided", "smooth activations")
@pins("deconvnet", "smooth activations")
@pytest.mark.parametrize("family", SMOOTH)
@pytest.mark.parametrize("name", GATES)
def test_convention_smooth_activations_keep_their_gradient_unless_all_are_asked_for(name: str, family: str) -> None:
    model = nets.fill(nets.Chain(SMOOTH[family], F.relu))
    at_pool = signed(name, model, X, 2, "pool")
    leaf = X.clone().requires_grad_(True)
    before = model.get_submodule("conv1")(leaf)
    after = SMOOTH[family](before)
    above = down(F.max_pool2d(after, 2), after, at_pool)
    true = down(after, before, above)
    ruled = GATES[name](above, true / torch.where(above == 0, torch.ones_like(above), above))
    with pytest.warns(UserWarning, match="left 1 .* alone"):
        maps = signed(name, model, X, 2)
    assert_close(maps, down(before, leaf, true))
    overridden = signed(name, model, X, 2, activations="all")
    assert_close(overridden, down(before, leaf, ruled))
    assert not torch.allclose(overridden, maps)


@pins("guided", "a model in which nothing was overridden is refused")
@pins("deconvnet", "a model in which nothing was overridden is refused")
@pytest.mark.parametrize(
    ("net", "found", "told"),
    [("linear", "no activation", "overrode nothing"), ("silu", "2 SiLU", "overrode nothing; left 2 SiLU alone")],
)
@pytest.mark.parametrize("name", GATES)
def test_convention_a_model_in_which_nothing_is_overridden_is_refused_and_coverage_tells(
    name: str, net: str, found: str, told: str
) -> None:
    method = METHODS[name](nets.fill(nets.Linear()) if net == "linear" else nets.make(net))
    with pytest.raises(RuleError, match=f"no activation was overridden .*{found}"):
        method.attribute(X, 2)
    assert str(coverage(method, X, 2)) == told
    assert str(coverage(METHODS[name](nets.make("residual")), X, 2)) == "overrode 2 of 2 ReLU"


@pytest.mark.parametrize("name", GATES)
def test_coverage_of_a_layer_counts_what_lies_behind_it(name: str) -> None:
    model = nets.make("module")
    assert str(coverage(METHODS[name](model, "pool"), X, 2)) == "overrode 1 of 1 ReLU"
    assert str(coverage(METHODS[name](model, "act2"), X, 2)) == "overrode nothing"
    assert str(coverage(METHODS["guided_gradcam"](model, "act2"), X, 2)) == "overrode 2 of 2 ReLU"  # at the input


def hot(shape: tuple[int, ...], *place: int) -> Tensor:
    signal = torch.zeros(shape)
    signal[(0, *place)] = 1
    return signal


@pins("deconvnet", "average pooling and strided convolution")
def test_convention_deconvnet_transposes_average_pooling_and_strided_convolution() -> None:
    conv = nn.Conv2d(3, 4, 3, stride=2, padding=1)
    model = nn.Sequential(nn.ReLU(), conv, nn.AvgPool2d(2))
    x = nets.batch(1, 8, 8)
    signal = F.conv_transpose2d(hot((1, 4, 4, 4), 1, 2, 2), conv.weight.detach(), None, 2, 1, output_padding=1)
    assert_close(signed("deconvnet", model, x, Neuron("1", 1, 2, 2)), signal.clamp(min=0))
    spread = F.interpolate(hot((1, 4, 2, 2), 3, 0, 1), scale_factor=2) / 4
    signal = F.conv_transpose2d(spread, conv.weight.detach(), None, 2, 1, output_padding=1)
    assert_close(signed("deconvnet", model, x, Neuron("2", 3, 0, 1)), signal.clamp(min=0))


@pins("deconvnet", "normalisation layers are differentiated")
@pytest.mark.parametrize("norm", [nn.BatchNorm2d(4), nn.LocalResponseNorm(3, alpha=0.5), nn.GroupNorm(2, 4)])
def test_convention_deconvnet_differentiates_normalisation(norm: nn.Module) -> None:
    model = nets.fill(nn.Sequential(nn.ReLU(), norm))
    x = nets.batch(1, 5, 4, channels=4)
    active = x.relu().requires_grad_(True)
    true = down(norm(active), active, hot((1, 4, 5, 4), 2, 3, 1))
    assert_close(Deconvnet(model, channels="none").attribute(x, Neuron("1", 2, 3, 1)), true.clamp(min=0))
