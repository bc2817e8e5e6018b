"""pytorch-grad-cam gives the same numbers where it is right; where it differs, and why.

Its maps are read before it scales them; what it returns cannot be told from another map by scale or offset.
"""

from __future__ import annotations

import copy
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from attrib import METHODS, ClassScore, GradCAM, GradCAMPlusPlus, HiResCAM, LayerCAM, XGradCAM
from tests import data, nets, realnets

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of what it imports
    peer: Any = pytest.importorskip(
        "pytorch_grad_cam", reason="pytorch-grad-cam is not installed: pip install grad-cam"
    )

X = nets.batch(2, 8, 6)
PEERS = {
    "gradcam": peer.GradCAM,
    "gradcam_plusplus": peer.GradCAMPlusPlus,
    "xgradcam": peer.XGradCAM,
    "layercam": peer.LayerCAM,
    "hirescam": peer.HiResCAM,
}


class Scaled:
    """Its target callable: the score of a class, times a number."""

    def __init__(self, index: int, factor: float = 1.0) -> None:
        self.index, self.factor = index, factor

    def __call__(self, output: Tensor) -> Tensor:
        return self.factor * output[self.index]


def theirs(kind: Any, model: nn.Module, layer: str, x: Tensor, targets: list[Any]) -> tuple[Tensor, Tensor]:
    """Its map at the layer before rectifying and scaling, and what it returns."""
    model = copy.deepcopy(model)  # it leaves gradients in the weights
    seen: list[np.ndarray[Any, Any]] = []
    with kind(model, [model.get_submodule(layer)]) as cam:
        compute = cam.get_cam_image
        cam.get_cam_image = lambda *args: seen.append(compute(*args)) or seen[0]
        returned = cam(x.clone(), targets=targets)
    return torch.from_numpy(seen[0])[:, None], torch.from_numpy(returned)


@data.needs_data
@pytest.mark.parametrize("layer", ["layer4", "layer2"])
@pytest.mark.parametrize("name", PEERS)
def test_a_trained_network_gets_the_same_maps(name: str, layer: str) -> None:
    net = realnets.load("resnet18")
    x, labels = net.batch(2)
    factor = 1e4 if name == "gradcam_plusplus" else 1.0  # so large that its constant in the denominator vanishes
    raw, _ = theirs(PEERS[name], net.model, layer, x, [Scaled(label, factor) for label in labels.tolist()])
    maps = METHODS[name](net.model, layer, relu=False).attribute(x, factor * ClassScore(labels))
    assert_close(maps, raw, rtol=1e-3, atol=1e-5 * float(raw.abs().max()))


@data.needs_data
@pytest.mark.parametrize("layer", ["layer3", "layer1"])
def test_a_trained_network_gets_the_same_ablation_cam_but_for_the_score_it_divides_by(layer: str) -> None:
    net = realnets.load("resnet20_cifar10")
    x, labels = net.batch(2)
    raw, _ = theirs(peer.AblationCAM, net.model, layer, x, [Scaled(label) for label in labels.tolist()])
    with torch.no_grad():
        score = net.model(x)[range(2), labels].reshape(-1, 1, 1, 1)
    maps = METHODS["ablationcam"](net.model, layer, relu=False).attribute(x, labels)
    assert_close(maps / score, raw, rtol=0, atol=1e-5 * float(raw.abs().max()))


@data.needs_data
def test_a_trained_network_gets_the_same_score_cam_at_a_layer_as_large_as_the_input_only() -> None:
    net = realnets.load("resnet20_cifar10")
    x, labels = net.batch(2)
    apart = {}
    for layer in ("layer1", "layer3"):
        raw, _ = theirs(peer.ScoreCAM, net.model, layer, x, [Scaled(label) for label in labels.tolist()])
        maps = METHODS["scorecam"](net.model, layer, relu=False).attribute(x, labels)
        apart[layer] = float((maps - raw).abs().max() / raw.abs().max())
    assert apart["layer1"] < 1e-5
    assert 0.05 < apart["layer3"] < 0.2  # it resizes with aligned corners


@data.needs_data
@pytest.mark.parametrize("gradient", [False, True], ids=["EigenCAM", "EigenGradCAM"])
def test_a_trained_network_gets_the_same_eigen_cam_once_means_are_subtracted_but_for_the_sign(gradient: bool) -> None:
    net = realnets.load("resnet20_cifar10")
    x, labels = net.batch(2)
    kind = peer.EigenGradCAM if gradient else peer.EigenCAM
    raw, _ = theirs(kind, net.model, "layer3", x, [Scaled(label) for label in labels.tolist()])
    with METHODS["gradcam"](net.model, "layer3").asking(x, labels) as query:
        found = query.gradient("layer3")
    act = found.act[0] * found.grad[0] if gradient else found.act[0]
    ours = METHODS["eigencam"](net.model, "layer3", gradient=gradient, relu=False).attribute(x, labels)
    for one, other, values in zip(raw[:, 0].double(), ours[:, 0].double(), act.flatten(2).double(), strict=True):
        places = values.T  # (places, channels)
        centred = places - places.mean(0)
        for expected, plain in ((one, centred), (other, places)):
            first = (plain @ torch.linalg.svd(plain, full_matrices=False).Vh[0]).reshape(expected.shape)
            sign = (first * expected).sum().sign()
            assert_close(sign * first, expected, rtol=0, atol=1e-4 * float(expected.abs().max()))


@data.needs_data
def test_its_grad_cam_plus_plus_adds_a_constant_that_outweighs_small_gradients() -> None:
    net = realnets.load("resnet18")
    x, labels = net.batch(2)
    raw, _ = theirs(peer.GradCAMPlusPlus, net.model, "layer4", x, [Scaled(label) for label in labels.tolist()])
    with GradCAMPlusPlus(net.model, "layer4").asking(x, labels) as query:
        found = query.gradient("layer4")
    act, grad = found.act[0], found.grad[0]
    for constant, maps in ((1e-6, raw), (0.0, GradCAMPlusPlus(net.model, "layer4").attribute(x, labels))):
        alpha = grad**2 / (2 * grad**2 + act.sum((2, 3), keepdim=True) * grad**3 + constant)
        weight = (alpha * grad.relu()).sum((2, 3), keepdim=True)
        assert_close(maps, (weight * act).sum(1, keepdim=True), rtol=1e-3, atol=1e-4)
    small = [Scaled(label, 1e-3) for label in labels.tolist()]
    lost, _ = theirs(peer.GradCAMPlusPlus, net.model, "layer4", x, small)
    kept = GradCAMPlusPlus(net.model, "layer4").attribute(x, 1e-3 * ClassScore(labels))
    assert lost.max() < 1e-3 * kept.max()


class Unit(nn.Module):
    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        return x * self.factor


def test_its_xgradcam_depends_on_the_unit_of_the_activations() -> None:
    def net(unit: float) -> nn.Module:
        parts = (nn.Conv2d(3, 4, 3), nn.ReLU(), Unit(unit), Unit(1 / unit), nn.Flatten(), nn.Linear(4 * 24, 5))
        return nets.fill(nn.Sequential(*parts))

    ours = [XGradCAM(net(unit), "2", relu=False).attribute(X, 2) for unit in (1.0, 2.0**-30)]
    raw = [theirs(peer.XGradCAM, net(unit), "2", X, [Scaled(2)] * 2)[0] for unit in (1.0, 2.0**-30)]
    assert_close(ours[1], ours[0])
    assert_close(raw[0], ours[0], rtol=1e-4, atol=1e-6)
    assert raw[1].abs().max() < 0.5 * raw[0].abs().max()


@pytest.mark.parametrize("name", PEERS)
def test_it_rectifies_and_scales_every_map_to_one(name: str) -> None:
    model = nets.make("module")
    for factor in (1e4, 1e5):
        raw, returned = theirs(PEERS[name], model, "act2", X, [Scaled(2, factor)] * 2)
        shown = raw.relu().flatten(1)
        assert_close(returned.amax((1, 2)), torch.ones(2), rtol=0, atol=1e-2)
        assert returned.min() >= 0
        assert shown.amax(1).min() > 1
    assert (HiResCAM(model, "act2").attribute(X, 2) < 0).any()


def test_it_explains_the_first_run_of_a_module_that_runs_twice_without_telling() -> None:
    model = nets.make("one module used twice")
    raw, _ = theirs(peer.LayerCAM, model, "act1", X, [Scaled(2)] * 2)
    assert_close(raw, LayerCAM(model, "act1#0").attribute(X, 2))
    assert raw.shape != LayerCAM(model, "act1#1").attribute(X, 2).shape


def test_it_refuses_signals() -> None:
    model = nets.fill(nn.Sequential(nn.Conv1d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 18, 5)))
    x = torch.randn(2, 1, 20, generator=torch.Generator().manual_seed(0))
    with pytest.raises(ValueError, match="Only 2D or 3D images are supported"):
        theirs(peer.LayerCAM, model, "1", x, [Scaled(2)] * 2)
    assert LayerCAM(model, "1").attribute(x, 2).any()


def test_it_leaves_gradients_in_the_weights() -> None:
    model = nets.make("module")
    with peer.GradCAM(model, [model.act1]) as cam:
        cam(X.clone(), targets=[Scaled(2)] * 2)
    assert model.conv1.weight.grad is not None
    model.zero_grad()
    GradCAM(model, "act1").attribute(X, 2)
    assert model.conv1.weight.grad is None
