"""Eigen-CAM, Score-CAM and Ablation-CAM at every layout of a layer, and beside pytorch-grad-cam on trained nets."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.testing import assert_close

from attrib import AblationCAM, Attribution, EigenCAM, ScoreCAM
from attrib.errors import LayerError, ShapeError
from attrib.methods.eigencam import principal
from tests import data, nets, realnets
from tests.oracles.models import DOUBLE, TARGETS
from tests.test_geometry import Patches
from tests.test_real_methods import share_on_object

X = nets.batch(2, 8, 6, dtype=DOUBLE)


# --- layouts, signals, volumes, transformers


@pytest.mark.parametrize("method", [EigenCAM, partial(EigenCAM, gradient=True), ScoreCAM, AblationCAM])
def test_channels_last_and_tokens_give_the_map_of_channels_first(method: Callable[..., Attribution]) -> None:
    model = nets.fill(Patches(prefix=0)).double()
    first, last, tokens = (method(model, at).attribute(X, TARGETS) for at in ("relu", "last", "tokens"))
    assert first.abs().amax((1, 2, 3)).min() > 0
    assert_close(last, first)
    assert_close(tokens, first)


def test_ablationcam_hides_a_channel_of_the_class_token_too() -> None:
    model: Any = nets.fill(Patches(prefix=1, read="class")).double()
    maps = AblationCAM(model, "tokens", relu=False).attribute(X, TARGETS)
    with torch.no_grad():
        act = model.relu(model.embed(X))
        drop = model.fc.weight[TARGETS] * act.mean((2, 3)).square()
    assert_close(maps, torch.einsum("nk,nkhw->nhw", drop, act)[:, None])


def test_reshape_tells_ablationcam_which_axis_holds_the_channels() -> None:
    model = nets.fill(Patches(0)).double()
    expected = AblationCAM(model, "relu").attribute(X, TARGETS)
    grid = AblationCAM(model, "tokens", reshape=lambda act: act.transpose(1, 2).unflatten(2, (4, 3)))
    assert_close(grid.attribute(X, TARGETS), expected)
    model.embed = nn.Sequential(nn.Conv2d(3, 5, 1), nn.AvgPool2d(2))  # the size of a token is not known any more
    nets.fill(model).double()
    with pytest.raises(LayerError, match="reshape= maps other layouts"):
        AblationCAM(model, "tokens").attribute(X, TARGETS)
    assert_close(grid.attribute(X, TARGETS), AblationCAM(model, "relu").attribute(X, TARGETS))
    five = AblationCAM(model, "tokens", reshape=lambda act: act.transpose(1, 2)[:, :, None])
    with pytest.raises(ShapeError, match=r"reshape must keep all channels of \(2, 5, 4, 3\); got 2 of them"):
        AblationCAM(model, "relu", reshape=lambda act: act[:, :2]).attribute(X, TARGETS)
    with pytest.raises(LayerError, match="must be spatial"):  # five tokens of five channels each
        five.attribute(nets.batch(2, 2, 10, dtype=DOUBLE), TARGETS)


class OneAxis(nn.Module):
    """A signal, or a volume."""

    def __init__(self, conv: Any) -> None:
        super().__init__()
        self.conv, self.fc = conv(1, 4, 3, padding=1), nn.Linear(4, nets.CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.fc(self.conv(x).relu().flatten(2).mean(2))
        return out


@pytest.mark.parametrize(("conv", "size"), [(nn.Conv1d, (9,)), (nn.Conv3d, (4, 5, 6))])
def test_signals_and_volumes_are_explained(conv: Any, size: tuple[int, ...]) -> None:
    model: Any = nets.fill(OneAxis(conv)).double()
    x = torch.randn(2, 1, *size, dtype=DOUBLE, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        act = model.conv(x)
        rows = act.flatten(2)
        drop = model.fc.weight[TARGETS] * rows.relu().mean(2)
        masks = (rows - rows.amin(2, True)) / (rows.amax(2, True) - rows.amin(2, True))
        scores = torch.stack([model(x * masks[:, k].reshape(x.shape))[[0, 1], TARGETS] for k in range(4)], 1)
    expected = {AblationCAM: drop, ScoreCAM: scores.softmax(1), EigenCAM: torch.linalg.svd(rows)[0][:, :, 0]}
    expected[EigenCAM] = expected[EigenCAM] * expected[EigenCAM].sum(1, keepdim=True).sign()
    for cls, weight in expected.items():
        maps = cls(model, "conv", relu=False, upsample=True).attribute(x, TARGETS)
        assert_close(maps, torch.einsum("nk,nk...->n...", weight, act)[:, None])


def test_a_transformer_is_explained_at_its_tokens() -> None:
    vision = pytest.importorskip("torchvision.models.vision_transformer")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = vision.VisionTransformer(
            image_size=32, patch_size=8, num_layers=2, num_heads=2, hidden_dim=16, mlp_dim=32, num_classes=5
        ).eval()
        nn.init.normal_(model.heads.head.weight)
    x = nets.batch(2, 32, 32)
    maps = AblationCAM(model, relu=False).attribute(x, [3, 1])
    layer = "encoder.layers.encoder_layer_1.ln_1"
    assert_close(maps, AblationCAM(model, layer, relu=False).attribute(x, [3, 1]))
    seen: list[Tensor] = []
    norm = model.get_submodule(layer)

    def without(channel: int | None) -> Tensor:
        def hide(_module: nn.Module, _args: Any, out: Tensor) -> Tensor:
            seen.append(out.detach())
            return out if channel is None else out.index_fill(2, torch.tensor([channel]), 0)

        handle = norm.register_forward_hook(hide)
        with torch.no_grad():
            out = model(x)
        handle.remove()
        return torch.stack([out[0, 3], out[1, 1]])

    drop = torch.stack([without(None) - without(k) for k in range(16)], 1)
    act = seen[0][:, 1:].transpose(1, 2).reshape(2, 16, 4, 4)
    assert_close(maps, torch.einsum("nk,nkhw->nhw", drop, act)[:, None], rtol=1e-4, atol=1e-5)
    for cls in (EigenCAM, ScoreCAM):
        assert cls(model).attribute(x, [3, 1]).std((1, 2, 3)).min() > 0


# --- peers


def scaled(maps: Tensor) -> Tensor:
    """What pytorch-grad-cam makes of a map in the end."""
    low = maps.relu() - maps.relu().amin((2, 3), keepdim=True)
    return low[:, 0] / (1e-7 + low.amax((2, 3), keepdim=True)[:, 0])


def theirs(name: str, model: nn.Module, layer: str, x: Tensor, labels: Tensor) -> Tensor:
    peer = pytest.importorskip("pytorch_grad_cam")
    targets = [peer.utils.model_targets.ClassifierOutputTarget(int(label)) for label in labels]
    with getattr(peer, name)(model=model, target_layers=[model.get_submodule(layer)]) as method:
        return torch.from_numpy(np.float32(method(x, targets)))


@data.needs_data
@pytest.mark.parametrize("name", ["ScoreCAM", "AblationCAM"])
def test_trained_nets_give_the_numbers_of_pytorch_grad_cam(name: str) -> None:
    """At a layer of the size of the input, because its resizing is another one; scores are above zero."""
    net = realnets.load("resnet20_cifar10")
    x, labels = net.batch(2)
    with torch.no_grad():
        assert net.model(x)[[0, 1], labels].min() > 0
    ours = {"ScoreCAM": ScoreCAM, "AblationCAM": AblationCAM}[name](net.model, "layer1").attribute(x, labels)
    assert ours.shape[2:] == x.shape[2:]
    assert_close(scaled(ours), theirs(name, net.model, "layer1", x, labels), rtol=1e-3, atol=1e-4)


@data.needs_data
def test_eigencam_of_a_trained_net_is_pytorch_grad_cams_but_for_its_centring_and_sign() -> None:
    peer = pytest.importorskip("pytorch_grad_cam.utils.svd_on_activations")
    net = realnets.load("resnet20_cifar10")
    x, labels = net.batch(2)
    act = net.model.get_submodule("layer1")(F.relu(net.model.bn1(net.model.conv1(x)))).detach()
    projected = torch.from_numpy(peer.get_2d_projection(act.numpy()))[:, None]
    centred = principal(act - act.mean((2, 3), keepdim=True))
    assert_close(centred.abs(), projected.abs(), rtol=1e-3, atol=1e-3)
    maps = EigenCAM(net.model, "layer1").attribute(x, labels)
    assert_close(maps, principal(act))
    assert maps.min() >= 0  # rectified activations have a first singular vector without negative entries
    assert centred.amin((1, 2, 3)).max() < 0


@data.needs_data
@pytest.mark.parametrize("cls", [EigenCAM, partial(ScoreCAM, channels=16), AblationCAM])
def test_maps_of_the_true_class_lie_on_the_object(cls: Any) -> None:
    net = realnets.load("mobilenet_v1_025_128")
    share, area = share_on_object(net, cls(net.model), data.photos(8))
    assert share.mean() > 1.15 * area.mean()
