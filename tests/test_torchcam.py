"""torch-cam gives the same numbers where it is right; where it differs, and why."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.testing import assert_close

from attrib import METHODS
from attrib.core.reduce import upsample
from tests import data, realnets

peer: Any = pytest.importorskip("torchcam.methods", reason="torch-cam is not installed: pip install torchcam")
pytestmark = data.needs_data

PEERS = {"gradcam": "GradCAM", "xgradcam": "XGradCAM", "layercam": "LayerCAM"}
LAYERS = ("layer1", "layer3")  # as large as the input, and a quarter of its sides


def pictures() -> tuple[Any, Tensor, list[int]]:
    net = realnets.load("resnet20_cifar10")
    x, labels = net.batch(2)
    return net.model, x, labels.tolist()


def theirs(kind: str, layer: str) -> Tensor:
    """Its rectified map at the layer, before it scales it."""
    model, x, labels = pictures()
    model = copy.deepcopy(model)
    with getattr(peer, kind)(model, layer) as cam:
        scores = model(x.clone().requires_grad_(True))
        return cam(labels, scores, normalized=False)[0].detach()[:, None]


def ours(name: str, layer: str, **options: Any) -> Tensor:
    model, x, labels = pictures()
    maps: Tensor = METHODS[name](model, layer, **options).attribute(x, labels)
    return maps


def at(layer: str) -> tuple[Tensor, Tensor]:
    """Activation and gradient."""
    model, x, labels = pictures()
    with METHODS["gradcam"](model, layer).asking(x, labels) as query:
        found = query.gradient(layer)
    return found.act[0], found.grad[0]


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("name", PEERS)
def test_a_trained_network_gets_the_same_maps(name: str, layer: str) -> None:
    expected = theirs(PEERS[name], layer)
    assert_close(ours(name, layer), expected, rtol=0, atol=1e-5 * float(expected.max()))


@pytest.mark.parametrize("layer", LAYERS)
def test_its_grad_cam_plus_plus_weights_by_cubes_of_positive_gradients_since_its_division_is_lost(layer: str) -> None:
    found = theirs("GradCAMpp", layer)
    act, grad = at(layer)
    cubes = (grad.relu() ** 3).sum((2, 3), keepdim=True)
    assert_close(found, (cubes * act).sum(1, keepdim=True).relu(), rtol=1e-4, atol=1e-6)
    maps = ours("gradcam_plusplus", layer)
    assert float((maps - found).abs().max()) > 0.5 * float(maps.max())


def test_its_score_cam_stretches_masks_before_it_resizes_them() -> None:
    same, expected = ours("scorecam", "layer1"), theirs("ScoreCAM", "layer1")
    assert_close(same, expected, rtol=0, atol=1e-5 * float(expected.max()))
    model, x, labels = pictures()
    act, _ = at("layer3")
    maps = {}
    for order in ("resize first", "stretch first"):
        masks = (
            stretched(upsample(act, x.shape[2:])) if order == "resize first" else upsample(stretched(act), x.shape[2:])
        )
        with torch.no_grad():
            scores = torch.stack([model(x * mask[:, None])[range(2), labels] for mask in masks.unbind(1)], 1)
        maps[order] = (F.softmax(scores, 1)[:, :, None, None] * act).sum(1, keepdim=True)
    for found, order in ((ours("scorecam", "layer3"), "resize first"), (theirs("ScoreCAM", "layer3"), "stretch first")):
        assert_close(found, maps[order], rtol=0, atol=1e-4 * float(found.max()))
    first, second = maps.values()
    assert 0.01 < float((first - second).abs().max() / first.max()) < 0.1


def stretched(act: Tensor) -> Tensor:
    """Each channel to [0, 1]; what is constant to 0."""
    low, high = act.amin((2, 3), keepdim=True), act.amax((2, 3), keepdim=True)
    return (act - low) / (high - low).where(high > low, torch.ones_like(low))
