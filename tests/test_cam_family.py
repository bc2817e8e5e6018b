"""Grad-CAM++, XGrad-CAM, LayerCAM and HiResCAM equal their papers, and each other where algebra says so."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import torchvision
from captum.attr import LayerGradientXActivation
from torch import Tensor, nn
from torch.testing import assert_close

from attrib import METHODS, ClassScore, GradCAM, GradCAMPlusPlus, HiResCAM, LayerCAM, XGradCAM
from tests import nets
from tests.oracles import cam_family
from tests.oracles.models import DIFFERENCES, DOUBLE, TARGETS, assert_rows
from tests.test_geometry import Patches
from tests.test_oracles import PARTS, activation, tail

X = nets.batch(2, 8, 6)
FAMILY: dict[str, Any] = {
    "gradcam_plusplus": cam_family.plus_plus,
    "xgradcam": cam_family.x_grad_cam,
    "layercam": cam_family.layer_cam,
    "hirescam": cam_family.hires_cam,
}


@pytest.mark.parametrize("layer", PARTS)
@pytest.mark.parametrize("name", FAMILY)
def test_a_method_equals_its_paper_with_derivatives_by_differences(name: str, layer: str) -> None:
    model, x = nets.make("module", DOUBLE), nets.batch(2, 8, 6, dtype=DOUBLE)
    acts = activation(model, layer, x)
    expected = [FAMILY[name](tail(model, layer, t), act) for act, t in zip(acts, TARGETS, strict=True)]
    assert_rows(METHODS[name](model, layer, relu=False).attribute(x, TARGETS), expected, DIFFERENCES)
    rectified = METHODS[name](model, layer, relu=True).attribute(x, TARGETS)
    assert_rows(rectified, [np.maximum(one, 0) for one in expected], DIFFERENCES)


def flat(bias: bool = True, dtype: Any = torch.float32) -> Any:
    """Convolution, ReLU, flattening, linear: each place has weights of its own."""
    conv, fc = nn.Conv2d(3, 4, 3, padding=1), nn.Linear(4 * 8 * 6, nets.CLASSES, bias=bias)
    return nets.fill(nn.Sequential(conv, nn.ReLU(), nn.Flatten(), fc)).to(dtype)


def test_grad_cam_plus_plus_is_derived_from_the_exponential_of_the_score() -> None:
    """Eq. 19 and the factor left out, from derivatives of exp(S) of second and third order."""
    model, x = flat(dtype=DOUBLE), nets.batch(2, 8, 6, dtype=DOUBLE)
    with torch.no_grad():
        acts = model[:2](x).numpy()
        score = model(x)[range(2), TARGETS]
    tails = [lambda act, t=t: float(model[2:](torch.from_numpy(act)[None])[0, t].detach()) for t in TARGETS]
    expected = [cam_family.plus_plus_of_exp(one, act) for one, act in zip(tails, acts, strict=True)]
    maps = GradCAMPlusPlus(model, "1").attribute(x, TARGETS)
    assert_rows(maps * score.exp().reshape(2, 1, 1, 1), expected, {"rtol": 1e-4, "atol": 1e-6})


def test_grad_cam_plus_plus_is_half_of_positive_gradients_where_the_score_is_small() -> None:
    """Lerma and Lucas: alpha is nearly constant; with a score near 0 it is one half."""
    model = nets.make("module")
    with GradCAM(model, "pool").asking(X, 1e-6 * ClassScore(2)) as query:
        found = query.gradient("pool")
    positive = found.grad[0].relu().sum((2, 3), keepdim=True)
    expected = (positive * found.act[0]).sum(1, keepdim=True) / 2
    assert_close(GradCAMPlusPlus(model, "pool").attribute(X, 1e-6 * ClassScore(2)), expected, rtol=1e-4, atol=0)


@pytest.mark.parametrize("factor", [1e-25, 1e-12, 1e12])
def test_grad_cam_plus_plus_survives_gradients_whose_powers_leave_the_range_of_numbers(factor: float) -> None:
    maps = GradCAMPlusPlus(nets.make("module"), "pool", relu=False).attribute(X, factor * ClassScore(2))
    exact = GradCAMPlusPlus(nets.make("module", DOUBLE), "pool", relu=False)
    expected = exact.attribute(X.double(), factor * ClassScore(2)).float()
    assert_close(maps, expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))
    assert expected.any()


class Behind(nn.Module):
    """Given activations, and what follows them: convolution, ReLU and a linear layer without biases, or one linear."""

    def __init__(self, linear: bool, bias: bool = False) -> None:
        super().__init__()
        self.act = nn.Identity()
        body = [nn.Conv2d(3, 4, 3, padding=1, bias=bias)] + ([] if linear else [nn.ReLU(), nn.MaxPool2d(2)])
        self.tail = nn.Sequential(*body, nn.Flatten(), nn.Linear(4 * 48 // (1 if linear else 4), 5, bias=bias))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.tail(self.act(x))
        return out


@pytest.mark.parametrize("linear", [True, False])
@pytest.mark.parametrize("name", ["xgradcam", "hirescam"])
def test_maps_sum_to_the_score_behind_which_no_bias_stands(name: str, linear: bool) -> None:
    """The axiom of conservation: rectified linear layers are homogeneous, so activation times gradient is the score."""
    model, x = nets.fill(Behind(linear)), X.abs()
    maps = METHODS[name](model, "act", relu=False).attribute(x, TARGETS)
    assert_close(maps.sum((1, 2, 3)), model(x)[range(2), TARGETS].detach())
    biased = nets.fill(Behind(linear, bias=True))
    off = METHODS[name](biased, "act", relu=False).attribute(x, TARGETS).sum((1, 2, 3)) - biased(x)[range(2), TARGETS]
    assert off.abs().min() > 0.01


def test_xgradcam_gives_a_channel_what_removing_it_takes_off_a_linear_score() -> None:
    """The axiom of sensitivity, for every channel; without linearity it holds in part only."""
    gaps = []
    for linear in (True, False):
        model, x = nets.fill(Behind(linear)), X.abs()
        with XGradCAM(model, "act").asking(x, 2) as query:
            given = (query.gradient("act").grad[0] * x).sum((2, 3))
        maps = XGradCAM(model, "act", relu=False).attribute(x, 2)
        weights = given / x.sum((2, 3))
        assert_close(maps, torch.einsum("nk,nkhw->nhw", weights, x)[:, None])
        for k in range(3):
            without = x.clone()
            without[:, k] = 0
            gaps.append((model(x)[:, 2] - model(without)[:, 2] - given[:, k]).abs().max().item())
    assert max(gaps[:3]) < 1e-5
    assert min(gaps[3:]) > 1e-3


def test_hirescam_is_captums_gradient_times_activation_summed_over_channels() -> None:
    model = nets.make("module")
    theirs = LayerGradientXActivation(model, model.conv2).attribute(X, 2).sum(1, keepdim=True).detach()
    assert_close(HiResCAM(model, "conv2").attribute(X, 2), theirs)
    assert theirs.min() < 0 < theirs.max()


def test_hirescam_adds_up_to_the_score_of_one_linear_layer_and_its_bias() -> None:
    model = flat()
    maps = HiResCAM(model, "1").attribute(X, TARGETS)
    assert_close(maps.sum((1, 2, 3)) + model[3].bias[TARGETS], model(X)[range(2), TARGETS])


def test_behind_a_mean_over_places_three_methods_are_cam_by_the_number_of_places() -> None:
    model = nets.fill(nets.GapHead())
    with torch.no_grad():
        cam = torch.einsum("k,nkhw->nhw", model.fc.weight[2], model.conv(X))[:, None]  # type: ignore[operator,index]
    for method in (HiResCAM, XGradCAM, GradCAM):
        assert_close(method(model, "conv", relu=False).attribute(X, 2) * 48, cam, rtol=1e-4, atol=1e-5)
    positive = nets.fill(nets.GapHead())
    positive.fc.weight.data.abs_()  # type: ignore[union-attr,operator]
    layer_cam = LayerCAM(positive, "conv", relu=False).attribute(X, 2)
    assert_close(layer_cam, HiResCAM(positive, "conv").attribute(X, 2))


def test_hirescam_is_layercam_for_the_class_less_layercam_against_it() -> None:
    model = nets.make("module")
    for_it, against = (LayerCAM(model, "pool", relu=False).attribute(X, sign * ClassScore(2)) for sign in (1, -1))
    assert_close(for_it - against, HiResCAM(model, "pool").attribute(X, 2))
    assert for_it.any()
    assert against.any()


def test_grad_cam_alone_highlights_places_that_the_score_does_not_depend_on() -> None:
    """The counterexample of Draelos and Carin: the last layer reads the left half only."""
    model = flat()
    model[3].weight.data.reshape(nets.CLASSES, 4, 8, 6)[..., 3:] = 0
    unread = {
        name: METHODS[name](model, "1", relu=False).attribute(X, 2)[..., 3:].abs().max().item()
        for name in ("gradcam", *FAMILY)
    }
    assert {name for name, value in unread.items() if value > 0} == {"gradcam", "gradcam_plusplus", "xgradcam"}


@pytest.mark.parametrize("name", ["layercam", "hirescam"])
@pytest.mark.parametrize("skips", [nn.MaxPool2d(2), nn.Conv2d(2, 2, 1, stride=2)])
def test_before_a_step_that_skips_places_maps_are_full_of_holes(skips: nn.Module, name: str) -> None:
    head = nn.Linear(2 * 12, nets.CLASSES)
    model = nets.fill(nn.Sequential(nn.Conv2d(3, 2, 3, padding=1), nn.Sigmoid(), skips, nn.Flatten(), head))
    head.weight.data.abs_()
    before, behind = (METHODS[name](model, layer, relu=False).attribute(X, 2) for layer in ("1", "2"))
    assert behind.all()
    assert float((before == 0).float().mean()) >= 0.5  # of four places one or, in two channels, two are kept


@pytest.mark.parametrize("name", FAMILY)
def test_a_module_that_runs_twice_is_explained_at_either_run(name: str) -> None:
    twice, plain = nets.make("one module used twice"), nets.make("module")
    method = METHODS[name](twice)
    assert_close(method.attribute(X, 2, "act1#0"), METHODS[name](plain, "act1").attribute(X, 2))
    assert_close(method.attribute(X, 2, "act1#1"), METHODS[name](plain, "act2").attribute(X, 2))


@pytest.mark.parametrize("name", FAMILY)
def test_maps_can_be_resized_to_the_input(name: str) -> None:
    model = nets.make("module")
    small = METHODS[name](model, "pool").attribute(X, 2)
    assert_close(
        METHODS[name](model, "pool", upsample=True).attribute(X, 2),
        F.interpolate(small, (8, 6), mode="bilinear", align_corners=False),
    )


@pytest.mark.parametrize("name", FAMILY)
def test_channels_last_and_tokens_give_the_maps_of_channels_first(name: str) -> None:
    model, x = nets.fill(Patches(prefix=0)), nets.batch(2, 8, 12)
    first, last, tokens = (METHODS[name](model, at, relu=False).attribute(x, 2) for at in ("relu", "last", "tokens"))
    assert first.any()
    assert_close(last, first)
    assert_close(tokens, first)
    asked = METHODS[name](model, "tokens", relu=False, reshape=lambda act: act.mT.unflatten(2, (4, 6)))
    assert_close(asked.attribute(x, 2), first)


def transformers() -> dict[str, tuple[nn.Module, str, Any]]:
    """Small ones of torchvision's, random but for their zero head, with a layer and the reshape that users write."""
    vit = torchvision.models.VisionTransformer(32, 8, 3, 2, 16, 32, num_classes=nets.CLASSES)
    swin = torchvision.models.SwinTransformer([4, 4], 8, [1, 1], [1, 2], [2, 2], num_classes=nets.CLASSES)
    return {
        "vit": (nets.fill(vit), "encoder.layers.encoder_layer_2.ln_1", lambda a: a[:, 1:].mT.unflatten(2, (4, 4))),
        "swin": (nets.fill(swin), "norm", lambda a: a.permute(0, 3, 1, 2)),
    }


@pytest.mark.parametrize("name", FAMILY)
@pytest.mark.parametrize("kind", ["vit", "swin"])
def test_transformers_are_explained_as_with_a_reshape_by_hand(kind: str, name: str) -> None:
    with torch.random.fork_rng(devices=[]):
        model, layer, reshape = transformers()[kind]
    x = nets.batch(2, 32, 32)
    options = {"relu": False}
    maps = METHODS[name](model, layer, **options).attribute(x, 2)
    assert maps.shape == (2, 1, 4, 4)
    assert maps.flatten(1).std(1).min() > 0
    assert_close(maps, METHODS[name](model, layer, reshape=reshape, **options).attribute(x, 2))
    assert_close(maps, METHODS[name](model, **options).attribute(x, 2))  # "auto" finds the same layer


@pytest.mark.parametrize("name", FAMILY)
@pytest.mark.parametrize(("conv", "size"), [(nn.Conv1d, (48,)), (nn.Conv3d, (4, 3, 4))])
def test_signals_and_volumes_are_explained_as_a_picture_of_the_same_numbers(
    conv: Any, size: tuple[int, ...], name: str
) -> None:
    """With 1x1 convolutions the axes do not matter."""

    def net(kind: Any) -> nn.Module:
        return nets.fill(nn.Sequential(kind(3, 4, 1), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 48, nets.CLASSES)))

    expected = METHODS[name](net(nn.Conv2d), "1").attribute(X, 2)
    maps = METHODS[name](net(conv), "1").attribute(X.reshape(2, 3, *size), 2)
    assert maps.shape == (2, 1, *size)
    assert_close(maps.reshape(2, 1, 8, 6), expected)
