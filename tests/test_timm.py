"""timm's networks: made without the network, with their own transforms, explained by methods of every kind."""

from __future__ import annotations

import socket

import pytest
import torch
from torch import Tensor, nn

from attrib import METHODS, explain
from attrib.core import auto_layer
from attrib.errors import LayerError
from attrib.io import LoadedModel, load_model
from attrib.testing.traces import ModelTrace
from tests.presets import QUICK
from tests.tiny import picture

timm = pytest.importorskip("timm", reason="timm is not installed")

# One small network of each kind: residual, depthwise, attention, windows of attention, channels last, mixers.
NAMES = (
    "resnet10t",
    "mobilenetv3_small_050",
    "efficientnet_lite0",
    "vit_tiny_patch16_224",
    "deit_tiny_distilled_patch16_224",
    "swin_tiny_patch4_window7_224",
    "convnext_atto",
    "mixer_s32_224",
)
BLACK_BOX = ("occlusion", "saliency", "input_x_gradient")


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object) -> None:
        raise AssertionError("random weights need no network")

    monkeypatch.setattr(socket.socket, "connect", refuse)


def woken(loaded: LoadedModel) -> LoadedModel:
    """Random weights with heads that are not zero."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for part in loaded.model.modules():
            if isinstance(part, nn.Linear) and part.weight.std() < 0.01:
                nn.init.normal_(part.weight, std=0.1)
    return loaded


@pytest.mark.parametrize("name", NAMES)
def test_a_network_of_timm_is_explained_as_it_is(name: str) -> None:
    loaded = woken(load_model(f"timm:{name}", weights="none"))
    settings = timm.data.resolve_model_data_config(loaded.model)
    image = picture(size=(300, 260))
    x = loaded.inputs([image])
    assert torch.equal(x[0], timm.data.create_transform(**settings, is_training=False)(image))
    assert x.shape[1:] == settings["input_size"]
    assert loaded.categories is None  # random outputs have no names
    before, half = ModelTrace(loaded.model), x.shape[2] // 2
    for method in BLACK_BOX:
        options = {"window": half, "stride": half, "baseline": "mean"} if method == "occlusion" else {}
        maps = METHODS[method](loaded.model, **options).attribute(x, "predicted")
        assert maps.shape == (1, 1, *x.shape[2:]), method
        assert maps.std() > 0, method
    assert before.changes() == []


# Where Grad-CAM looks by itself, the grid of locations there, and where the channels are: tokens other than patches.
GRIDS: dict[str, tuple[str, tuple[int, int], str | int]] = {
    "resnet10t": ("layer4", (6, 6), "first"),
    "mobilenetv3_small_050": ("blocks", (7, 7), "first"),
    "efficientnet_lite0": ("bn2", (7, 7), "first"),
    "convnext_atto": ("norm_pre", (7, 7), "first"),
    "vit_tiny_patch16_224": ("blocks.11.norm1", (14, 14), 1),
    "deit_tiny_distilled_patch16_224": ("blocks.11.norm1", (14, 14), 2),
    "swin_tiny_patch4_window7_224": ("norm", (7, 7), "last"),
}


def first(act: Tensor, grid: tuple[int, int], channels: str | int) -> Tensor:
    """The activation as ``(K, h, w)``."""
    if isinstance(channels, int):
        return act[0, channels:].T.reshape(-1, *grid)
    return act[0] if channels == "first" else act[0].permute(2, 0, 1)


@pytest.mark.parametrize("name", GRIDS)
def test_grad_cam_finds_a_layer_with_locations(name: str) -> None:
    loaded = woken(load_model(f"timm:{name}", weights="none"))
    x = loaded.inputs([picture(size=(300, 260))])
    layer, grid, channels = GRIDS[name]
    assert auto_layer(loaded.model, (x,)) == layer
    maps = METHODS["gradcam"](loaded.model, relu=False).attribute(x, 7)
    kept: list[Tensor] = []
    handle = loaded.model.get_submodule(layer).register_forward_hook(lambda _m, _a, out: kept.append(out))
    grad = torch.autograd.grad(loaded.model.eval()(x)[0, 7], kept[0])[0]
    handle.remove()
    act, weights = first(kept[0].detach(), grid, channels), first(grad, grid, channels).mean((1, 2), keepdim=True)
    assert maps.shape == (1, 1, *grid)
    assert maps.std() > 0
    torch.testing.assert_close(maps[0, 0], (act * weights).sum(0), rtol=1e-3, atol=1e-4 * float(maps.abs().max()))


# The last layers have tokens in an order of their own, or of a grid that overlapping convolutions make.
UNREAD = {
    "hiera_tiny_224": (r"'blocks.11', \(49, 768\)", "patch_embed.proj"),
    "levit_128s": (r"'stages', \(16, 384\)", "stem"),
    "vit_tiny_r_s16_p8_224": (r"'norm', \(50, 192\)", "patch_embed.proj"),
}


@pytest.mark.parametrize("name", UNREAD)
def test_no_stem_is_picked_where_the_last_layers_are_not_understood(name: str) -> None:
    loaded = load_model(f"timm:{name}", weights="none")
    unread, stem = UNREAD[name]
    with pytest.raises(LayerError, match=f"in the output of {unread} for each.*spatial is {stem!r}.*reshape="):
        METHODS["gradcam"](loaded.model).attribute(loaded.inputs([picture(size=(300, 260))]), 7)


@pytest.mark.parametrize("name", ["resnet10t", "vit_tiny_patch16_224"])
def test_methods_of_captum_explain_the_input_and_a_layer(name: str) -> None:
    loaded = woken(load_model(f"timm:{name}", weights="none"))
    x = loaded.inputs([picture(size=(300, 260))])
    layer, grid, _ = GRIDS[name]
    for method in ("integrated_gradients", "gradient_shap"):
        maps = METHODS[method](loaded.model, **QUICK[method]).attribute(x, "predicted", layer)
        assert maps.shape == (1, 1, *grid)
        assert maps.std() > 0
    pytest.importorskip("skimage", reason="superpixels need scikit-image")
    assert METHODS["feature_ablation"](loaded.model, batch_size=8).attribute(x, "predicted").std() > 0


def test_a_network_of_timm_goes_through_explain_by_name() -> None:
    found = explain(load_model("timm:resnet10t", weights="none"), [picture(), picture(1)], ["saliency", "gradcam"])
    assert found.maps["saliency"]["predicted"].shape == (2, 1, 176, 176)
    assert found.failures == ()
