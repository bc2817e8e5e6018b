"""One test per line of the Conventions, and of the costs, of Grad-CAM's kin."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.testing import assert_close

from attrib import METHODS, ClassScore, GradCAM, GradCAMPlusPlus, HiResCAM, LayerCAM, XGradCAM
from attrib.core import count
from tests import nets
from tests.conventions import pins, section

X = nets.batch(2, 8, 6)
NET = nets.make("module")
FAMILY = ("gradcam_plusplus", "hirescam", "layercam", "xgradcam")


def is_of_the_layer_or_bilinear(method: Any, layer: str = "pool") -> Tensor:
    """The first line of all four; returns the map at the layer."""
    maps: Tensor = method(NET, layer).attribute(X, 2)
    assert maps.shape == (2, 1, 4, 3)
    large = method(NET, layer, upsample=True).attribute(X, 2)
    assert_close(large, F.interpolate(maps, (8, 6), mode="bilinear", align_corners=False))
    return maps


@pins("hirescam", "map:")
@pins("layercam", "map:")
@pins("xgradcam", "map:")
def test_convention_maps_are_the_layers_or_bilinear_and_proportional_to_the_score() -> None:
    for method in (HiResCAM, LayerCAM, XGradCAM):
        maps = is_of_the_layer_or_bilinear(method)
        assert_close(method(NET, "pool").attribute(X, 7.0 * ClassScore(2)), 7 * maps)  # not normalised


@pins("gradcam_plusplus", "map:")
def test_convention_gradcam_plusplus_map_is_not_normalised() -> None:
    maps = is_of_the_layer_or_bilinear(GradCAMPlusPlus)
    more = GradCAMPlusPlus(NET, "pool").attribute(X, 7.0 * ClassScore(2))
    assert (more > 2 * maps)[maps > 0].all()  # less than 7 times: alpha falls with the gradient
    assert (more < 7 * maps)[maps > 0].all()


@pins("gradcam_plusplus", "the paper explains ``exp(S)``")
def test_convention_gradcam_plusplus_does_not_change_with_a_constant_added_to_the_score() -> None:
    class Raised(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x + 500.0  # exp(500) is infinite in float32

    raised = nn.Sequential(NET, Raised())
    assert_close(
        GradCAMPlusPlus(raised, "0.pool").attribute(X, 2),
        GradCAMPlusPlus(NET, "pool").attribute(X, 2),
        rtol=1e-4,
        atol=1e-6,
    )


class Pole(nn.Module):
    """Activations that sum to -2 and 0, and gradients of 1 and 0: alpha is 1 / 0 and 0 / 0."""

    def __init__(self, slope: float) -> None:
        super().__init__()
        self.act = nn.Identity()
        self.slope = slope

    def forward(self, x: Tensor) -> Tensor:
        return self.slope * self.act(x).sum((1, 2, 3))[:, None].expand(-1, 2)


@pins("gradcam_plusplus", "alpha is 0 where the gradient is 0")
@pytest.mark.parametrize(("total", "slope"), [(-2.0, 1.0), (0.0, 0.0), (3.0, 0.0), (-4.0, 0.5)])
def test_convention_gradcam_plusplus_alpha_is_zero_where_it_is_not_defined(total: float, slope: float) -> None:
    x = torch.full((1, 1, 2, 2), total / 4)
    x[0, 0, 0] += 0.25
    x[0, 0, 1] -= 0.25
    maps = GradCAMPlusPlus(Pole(slope), "act", relu=False).attribute(x, 1)
    assert torch.equal(maps, torch.zeros_like(maps))
    near = GradCAMPlusPlus(Pole(slope + 0.25), "act", relu=False).attribute(x, 1)
    assert near.all()


@pins("gradcam_plusplus", "where no activation is negative")
@pins("layercam", "where no activation is negative")
@pytest.mark.parametrize("method", [GradCAMPlusPlus, LayerCAM])
def test_convention_weights_are_positive_so_that_only_negative_activations_give_negative_values(method: Any) -> None:
    assert method(NET, "act2", relu=False).attribute(X, 2).min() >= 0
    unrectified = nets.fill(nets.GapHead())
    signed = method(unrectified, "conv", relu=False).attribute(X, 2)
    assert signed.min() < 0 < signed.max()
    assert torch.equal(method(unrectified, "conv").attribute(X, 2), signed.relu())


@pins("layercam", "negative gradients count as 0")
def test_convention_layercam_does_not_show_what_speaks_against_the_score() -> None:
    model = nets.make("module")
    model.fc.weight.data[:, :3].abs_()
    model.fc.weight.data[:, 3:].abs_().neg_()
    maps = LayerCAM(model, "act2").attribute(X, 2)
    model.fc.weight.data[:, 3:] = 0
    assert torch.equal(LayerCAM(model, "act2").attribute(X, 2), maps)
    assert maps.any()


@pins("layercam", "the gradient keeps its place")
def test_convention_layercam_is_zero_where_the_score_does_not_look() -> None:
    model = nets.fill(nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 48, 5)))
    model[3].weight.data.reshape(5, 4, 8, 6)[:, :, 2:] = 0  # type: ignore[index,union-attr,operator]
    maps = LayerCAM(model, "1").attribute(X, 2)
    assert not maps[:, :, 2:].any()
    assert maps[:, :, :2].flatten(1).any(1).all()


@pins("xgradcam", "``relu=False`` keeps evidence against the score")
def test_convention_xgradcam_without_relu_has_both_signs() -> None:
    maps = XGradCAM(NET, "act2", relu=False).attribute(X, 2)
    assert maps.min() < 0 < maps.max()
    assert torch.equal(XGradCAM(NET, "act2").attribute(X, 2), maps.relu())


class Biasless(nn.Module):
    """Given activations; behind them a convolution, with or without ReLU, and a linear layer, without biases."""

    def __init__(self, rectified: bool) -> None:
        super().__init__()
        self.act = nn.Identity()
        self.conv = nn.Conv2d(3, 4, 3, bias=False)
        self.rectify = nn.ReLU() if rectified else nn.Identity()
        self.fc = nn.Linear(4 * 24, 5, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.fc(self.rectify(self.conv(self.act(x))).flatten(1))
        return out


@pins("xgradcam", "conservation:")
def test_convention_xgradcam_sums_to_the_score_behind_which_there_are_no_biases() -> None:
    model, x = nets.fill(Biasless(rectified=True)), X.abs()
    assert_close(XGradCAM(model, "act", relu=False).attribute(x, 2).sum((1, 2, 3)), model(x)[:, 2].detach())
    other = GradCAM(model, "act", relu=False).attribute(x, 2).sum((1, 2, 3)) - model(x)[:, 2].detach()
    assert other.abs().min() > 1e-3  # Grad-CAM does not


@pins("xgradcam", "sensitivity:")
def test_convention_xgradcam_a_channel_adds_what_its_removal_takes_off() -> None:
    model, x = nets.fill(Biasless(rectified=False)), X.abs()
    for k in range(3):
        alone, without = torch.zeros_like(x), x.clone()
        alone[:, k], without[:, k] = x[:, k], 0
        added = XGradCAM(model, "act", relu=False).attribute(alone, 2).sum((1, 2, 3))  # the tail is linear
        assert_close(added, (model(x) - model(without))[:, 2].detach(), rtol=1e-4, atol=1e-5)


@pins("xgradcam", "a channel whose sum is 0 has weight 0")
def test_convention_xgradcam_leaves_out_channels_that_sum_to_zero() -> None:
    model = nets.fill(Biasless(rectified=False))
    x = X.abs()
    x[:, 0, ::2], x[:, 0, 1::2] = 0.5, -0.5  # cancels exactly
    x[:, 1] = 0
    without = x.clone()
    without[:, 0] = 0
    method = XGradCAM(model, "act", relu=False)
    assert_close(method.attribute(x, 2), method.attribute(without, 2))
    x[:, 0, 0] += 1e-3  # nearly cancels
    assert method.attribute(x, 2).abs().max() > 10 * method.attribute(without, 2).abs().max()


@pins("hirescam", "signed, as in the paper")
def test_convention_hirescam_is_signed_unless_rectified() -> None:
    maps = HiResCAM(NET, "conv2").attribute(X, 2)
    assert maps.min() < 0 < maps.max()
    assert torch.equal(HiResCAM(NET, "conv2", relu=True).attribute(X, 2), maps.relu())
    assert_close(HiResCAM(NET, "conv2").attribute(X, -ClassScore(2)), -maps)


@pins("hirescam", "completeness:")
def test_convention_hirescam_and_bias_sum_to_the_score_of_one_linear_layer() -> None:
    model = nets.fill(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 24, 5)))
    total = HiResCAM(model, "1").attribute(X, 2).sum((1, 2, 3)) + model.get_parameter("3.bias")[2]
    assert_close(total.detach(), model(X)[:, 2].detach())


@pins("hirescam", "where a mean over places and one linear layer follow")
def test_convention_hirescam_is_gradcam_behind_a_mean_over_places() -> None:
    maps = HiResCAM(NET, "act2").attribute(X, 2)
    assert_close(maps, GradCAM(NET, "act2", relu=False).attribute(X, 2))
    assert_close(METHODS["cam"](NET, "act2").attribute(X, 2), 12 * maps)
    assert not torch.allclose(HiResCAM(NET, "pool").attribute(X, 2), GradCAM(NET, "pool", relu=False).attribute(X, 2))


@pytest.mark.parametrize(("layer", "forwards"), [("conv2", 1), ("auto", 2)])
@pytest.mark.parametrize("name", FAMILY)
def test_a_method_of_the_family_costs_what_it_says(name: str, layer: str, forwards: int) -> None:
    with count() as cost:
        METHODS[name](NET, layer).attribute(X, 2)
    says = section(name, "Cost")
    assert "one forward pass and the backward pass" in says
    assert '``layer="auto"`` one more forward' in says
    assert (cost.forwards, cost.backwards) == (forwards * 2, 2)
