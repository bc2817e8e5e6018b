"""Transformers as torchvision and timm build them: layers are picked and laid out, attention is followed or refused."""

from __future__ import annotations

import copy
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from attrib import METHODS, AttentionRollout, Attribution, GradCAM, GradientAttention
from attrib.core import attending, auto_layer, capture
from attrib.core.network.geometry import Layout, layout_of
from attrib.errors import AttribError, ModelError
from benchmarks import matrix
from tests import nets
from tests.oracles import attention as oracle

models = pytest.importorskip("torchvision.models")
with_timm = pytest.mark.skipif(find_spec("timm") is None, reason="needs attrib[timm]")


def wide(n: int = 2, h: int = 64, w: int = 96) -> Tensor:
    return nets.batch(n, h, w)


def square(n: int = 2) -> Tensor:
    return nets.batch(n, 64, 64)


def vit() -> nn.Module:
    return models.VisionTransformer(64, 16, num_layers=3, num_heads=4, hidden_dim=32, mlp_dim=48, num_classes=7)


def swin() -> nn.Module:
    return models.SwinTransformer([4, 4], 24, depths=[2, 2], num_heads=[2, 4], window_size=[3, 3], num_classes=7)


def convnext() -> nn.Module:
    setting = models.convnext.CNBlockConfig
    return models.ConvNeXt([setting(8, 16, 2), setting(16, None, 2)], layer_scale=1.0, num_classes=7)


def timm_vit(name: str = "vit_tiny_patch16_224", **options: Any) -> nn.Module:
    timm = pytest.importorskip("timm")
    size = {"img_size": (64, 96), "depth": 3, "embed_dim": 32, "num_heads": 4, "num_classes": 7}
    model: nn.Module = timm.create_model(name, **{**size, **options})
    return model


def tokens(prefix: int, h: int, w: int) -> Callable[[Tensor], Tensor]:
    """What users of pytorch-grad-cam write."""
    return lambda act: act[:, prefix:].reshape(len(act), h, w, -1).permute(0, 3, 1, 2)


def last(act: Tensor) -> Tensor:
    return act.permute(0, 3, 1, 2)


Case = tuple[Callable[[], nn.Module], Callable[[], Tensor], str, Any, tuple[int, int], str]
# the network, its input, the layer that pytorch-grad-cam recommends, its reshape, the grid, and what "auto" picks
CASES: dict[str, Case] = {
    "torchvision ViT": (vit, square, "encoder.layers.encoder_layer_2.ln_1", tokens(1, 4, 4), (4, 4), ""),
    "torchvision Swin": (swin, wide, "features.3.1.norm1", last, (8, 12), "permute"),
    "torchvision ConvNeXt": (convnext, wide, "features.3.1", None, (8, 12), "features"),
    "timm ViT": (timm_vit, wide, "blocks.2.norm1", tokens(1, 4, 6), (4, 6), ""),
    "timm DeiT, distilled": (
        lambda: timm_vit("deit_tiny_distilled_patch16_224"), wide, "blocks.2.norm1", tokens(2, 4, 6), (4, 6), "",
    ),
    "timm ViT with registers": (
        lambda: timm_vit("vit_small_patch14_reg4_dinov2", patch_size=16), wide, "blocks.2.norm1", tokens(5, 4, 6),
        (4, 6), "",
    ),
    "timm ViT that pools by attention": (
        lambda: timm_vit(global_pool="map", class_token=False), wide, "blocks.2.norm1", tokens(0, 4, 6), (4, 6), "norm",
    ),
}  # fmt: skip
PARAMS = [pytest.param(name, marks=with_timm if name.startswith("timm") else ()) for name in CASES]
CLASS_TOKEN = [name for name, case in CASES.items() if not case[-1]]


def build(name: str) -> tuple[nn.Module, Tensor, str, Any, tuple[int, int], str]:
    make, inputs, layer, reshape, grid, auto = CASES[name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = make().eval()
        for part in model.modules():
            if isinstance(part, nn.Linear):
                nn.init.normal_(part.weight, std=part.in_features**-0.5)  # heads of zeros have no gradient
        for gamma in (p for n, p in model.named_parameters() if n.endswith("gamma")):
            nn.init.ones_(gamma)  # layer scales of 1e-5 leave nothing to compare
    return model, inputs(), layer, reshape, grid, auto or layer


# --- Grad-CAM


@pytest.mark.parametrize("name", PARAMS)
def test_grad_cam_is_that_of_pytorch_grad_cam_with_its_recommended_layer_and_reshape(name: str) -> None:
    peer = pytest.importorskip("pytorch_grad_cam")
    targets = pytest.importorskip("pytorch_grad_cam.utils.model_targets")
    model, x, layer, reshape, grid, _ = build(name)
    theirs = copy.deepcopy(model)
    with peer.GradCAM(theirs, [theirs.get_submodule(layer)], reshape_transform=reshape) as cam:
        ask = [targets.ClassifierOutputTarget(t) for t in (3, 5)]
        cam(x, ask)
        seen = cam.activations_and_grads
        act, grad = seen.activations[0].numpy(), seen.gradients[0].numpy()
        raw = cam.get_cam_image(x, theirs.get_submodule(layer), ask, act, grad)  # before it is cut and normalised
    found = GradCAM(model, layer, relu=False).attribute(x, [3, 5])
    assert found.shape == (2, 1, *grid)
    assert float(found.std((1, 2, 3)).min()) > 0
    assert_close(found, torch.from_numpy(raw)[:, None], rtol=1e-4, atol=1e-4 * float(found.abs().max()))
    if reshape:
        assert_close(GradCAM(model, layer, relu=False, reshape=reshape).attribute(x, [3, 5]), found)


@pytest.mark.parametrize("name", PARAMS)
def test_auto_picks_a_layer_whose_patches_reach_the_score(name: str) -> None:
    model, x, _, _, grid, auto = build(name)
    assert auto_layer(model, (x,)) == auto
    maps = GradCAM(model, relu=False).attribute(x, [3, 5])
    assert maps.shape[2:] == grid
    assert float(maps.abs().amax((1, 2, 3)).min()) > 0


@pytest.mark.parametrize("name", PARAMS)
def test_a_place_of_the_map_is_that_place_of_the_image(name: str) -> None:
    model, x, *_ = build(name)
    first = next(m for n, m in model.named_modules() if isinstance(m, nn.Conv2d))
    address = next(n for n, m in model.named_modules() if m is first)
    behind = {"torchvision ViT": "encoder.dropout", "torchvision Swin": "features.0", "torchvision ConvNeXt": address}
    layer = behind.get(name, "blocks.0.norm1")  # before anything mixes the places
    row, column = 1, 2
    cell = tuple(first.stride)
    other = x.clone()
    other[..., row * cell[0] : (row + 1) * cell[0], column * cell[1] : (column + 1) * cell[1]] += 1
    acts = []
    for image in (x, other):
        with torch.no_grad(), capture(model, layer) as seen:
            model(image)
        layout = layout_of(model, layer, seen[layer].shape, image.shape)
        assert layout is not None
        acts.append(layout.maps(seen[layer]))
    assert acts[0].shape[2:] == tuple(side // step for side, step in zip(x.shape[2:], cell, strict=True))
    changed = (acts[1] - acts[0]).abs().amax(1)[0] > 1e-6
    assert changed.nonzero().tolist() == [[row, column]]


@with_timm
def test_patches_that_are_filled_up_at_the_rim_have_a_place() -> None:
    model = timm_vit(img_size=64, dynamic_img_size=True, dynamic_img_pad=True).eval()
    x = nets.batch(2, 64, 70)
    with torch.no_grad(), capture(model, "blocks.0.norm1") as acts:
        model(x)
    assert layout_of(model, "blocks.0.norm1", acts["blocks.0.norm1"].shape, x.shape) == Layout("tokens", (4, 5), 1)
    assert AttentionRollout(model).attribute(x, 3).shape == (2, 1, 4, 5)


@with_timm
@pytest.mark.parametrize("name", ["cait_xxs24_224", "convit_tiny"])
def test_auto_knows_attention_by_its_other_names(name: str) -> None:
    timm = pytest.importorskip("timm")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = timm.create_model(name, img_size=64, depth=3, num_classes=7).eval()
    maps = GradCAM(model, relu=False).attribute(square(), [3, 5])
    assert maps.shape == (2, 1, 4, 4)
    assert float(maps.abs().amax((1, 2, 3)).min()) > 0


# --- attention


@pytest.mark.parametrize("name", [pytest.param(n, marks=with_timm if "timm" in n else ()) for n in CLASS_TOKEN])
def test_attention_is_followed_to_the_grid_of_patches(name: str) -> None:
    model, x, *_, grid, _ = build(name)
    rollout, follow = (method(model).attribute(x, [3, 5]) for method in (AttentionRollout, GradientAttention))
    assert rollout.shape == follow.shape == (2, 1, *grid)
    assert bool((rollout.sum((1, 2, 3)) < 1).all())
    assert bool((follow.std((1, 2, 3)) > 0.05 * follow.mean((1, 2, 3))).all())
    assert not torch.allclose(GradientAttention(model).attribute(x, [5, 3]), follow)


def test_weights_are_those_that_torchvisions_modules_give_when_asked() -> None:
    model, x, *_ = build("torchvision ViT")
    names = [f"encoder.layers.encoder_layer_{i}" for i in range(3)]
    with torch.no_grad(), capture(model, *(f"{name}.ln_1" for name in names)) as acts, attending() as seen:
        model(x)
    layers = []
    for name, weights in zip(names, seen.layers(2), strict=True):
        module, rows = model.get_submodule(f"{name}.self_attention"), acts[f"{name}.ln_1"]
        layers.append(module(rows, rows, rows, average_attn_weights=False)[1].detach())
        assert_close(weights, layers[-1])
    rows = [torch.from_numpy(oracle.rollout([w[i].double().numpy() for w in layers])[0, 1:]) for i in range(2)]
    expected = torch.stack(rows).reshape(2, 1, 4, 4)
    assert_close(AttentionRollout(model).attribute(x, 3).double(), expected, rtol=1e-4, atol=1e-6)


@with_timm
def test_fused_and_plain_attention_of_timm_are_one() -> None:
    model, x, *_ = build("timm ViT")
    plain = copy.deepcopy(model)
    for block in plain.blocks:  # type: ignore[union-attr]
        assert block.attn.fused_attn
        block.attn.fused_attn = False
    for method in (AttentionRollout, GradientAttention):
        assert_close(method(plain).attribute(x, [3, 5]), method(model).attribute(x, [3, 5]))


@with_timm
def test_of_averaged_patches_behind_registers_no_register_is_read() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = timm_vit(reg_tokens=4, class_token=False, global_pool="avg").eval()
    x = wide()
    with torch.no_grad(), attending() as seen:
        model(x)
    steps = [torch.eye(28) / 2 + w.mean(1) / 2 for w in seen.layers(2)]
    expected = (steps[2] @ steps[1] @ steps[0])[:, 4:, 4:].mean(1).reshape(2, 1, 4, 6)
    assert_close(AttentionRollout(model).attribute(x, 3), expected)


REASONS = {
    "torchvision Swin": "attention in windows",
    "torchvision ConvNeXt": "none was seen in its forward pass",
    "timm ViT that pools by attention": r"got \(2, 4, 1, 24\): queries and keys are different tokens",
}


@pytest.mark.parametrize("name", [pytest.param(n, marks=with_timm if "timm" in n else ()) for n in REASONS])
@pytest.mark.parametrize("method", [AttentionRollout, GradientAttention])
def test_networks_without_attention_among_all_patches_are_refused(method: type[Attribution], name: str) -> None:
    model, x, *_ = build(name)
    with pytest.raises(ModelError, match=REASONS[name]):
        method(model).attribute(x, 3)


# --- every method

RECTIFIERS = {"deconvnet", "guided", "guided_gradcam"}  # GELU is none
RULES = {"deeplift", "deeplift_shap", "excitation_backprop", "lrp"}  # none for LayerNorm or attention
REFUSING = {
    "torchvision ViT": {"cam"},
    "torchvision Swin": {"attention_rollout", "gradient_attention"},
    "torchvision ConvNeXt": {"attention_rollout", "cam", "gradient_attention"},
    "timm ViT": {"cam"},
}
FEW = {**matrix.QUICK, "occlusion": {"window": 16, "stride": 16}}


def outcome(model: nn.Module, x: Tensor, key: str) -> Tensor | str:
    try:
        maps: Tensor = METHODS[key](model, **FEW.get(key, {})).attribute(x, "predicted")
    except AttribError as refusal:
        return str(refusal)
    return maps


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # what Captum warns of
@pytest.mark.parametrize("name", [pytest.param(n, marks=with_timm if "timm" in n else ()) for n in REFUSING])
def test_every_method_answers_or_says_why_it_cannot(name: str) -> None:
    model, x, *_ = build(name)
    outcomes = {key: outcome(model, x[:1], key) for key in METHODS}
    flat = [key for key, maps in outcomes.items() if isinstance(maps, Tensor) and not float(maps.std()) > 0]
    assert flat == []
    refusing = {key for key, reason in outcomes.items() if isinstance(reason, str)}
    assert refusing == REFUSING[name] | RECTIFIERS | RULES, {key: outcomes[key] for key in refusing}
