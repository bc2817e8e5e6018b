"""What the page for users of pytorch-grad-cam and torch-cam promises them is so."""

from __future__ import annotations

import copy
import re
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from attrib import METHODS, METRICS, ClassScore, EigenCAM, Fused, GradCAM, GuidedBackprop, LayerCAM, Saliency
from attrib.core.reduce import upsample
from tests import data, nets, realnets

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of what it imports
    peer: Any = pytest.importorskip(
        "pytorch_grad_cam", reason="pytorch-grad-cam is not installed: pip install grad-cam"
    )

newest = pytest.mark.skipif(not hasattr(peer, "RefineCAM"), reason="the page speaks of a newer pytorch-grad-cam")
PAGE = (Path(__file__).parent.parent / "docs" / "how-to" / "come-from-grad-cam.md").read_text(encoding="utf-8")


def stretched(maps: Tensor) -> Tensor:
    low, high = maps.amin((2, 3), keepdim=True), maps.amax((2, 3), keepdim=True)
    return (maps - low) / (high - low + 1e-7)


def net() -> tuple[Any, Tensor, Tensor]:
    found = realnets.load("resnet20_cifar10")
    return copy.deepcopy(found.model), *found.batch(2)  # the peers leave gradients in the weights


def theirs(kind: str, model: Any, x: Tensor, targets: Any, layers: tuple[str, ...] = ("layer3",)) -> Tensor:
    cam = getattr(peer, kind)(model, [model.get_submodule(layer) for layer in layers])
    return torch.from_numpy(cam(x.clone(), targets=targets))[:, None]


def classes(labels: Tensor) -> list[Any]:
    return [peer.utils.model_targets.ClassifierOutputTarget(label) for label in labels.tolist()]


@data.needs_data
@pytest.mark.parametrize("name", ["GradCAM", "HiResCAM", "XGradCAM", "LayerCAM", "AblationCAM"])
def test_a_resized_and_stretched_map_is_what_grad_cam_returns(name: str) -> None:
    model, x, labels = net()
    maps = METHODS[name.lower()](model, "layer3", relu=True, upsample=True).attribute(x, classes(labels))
    assert_close(stretched(maps), theirs(name, model, x, classes(labels)), rtol=0, atol=1e-6)


@data.needs_data
def test_no_targets_are_those_predicted() -> None:
    model, x, _ = net()
    maps = GradCAM(model, "layer3", upsample=True).attribute(x, "predicted")
    assert_close(stretched(maps), theirs("GradCAM", model, x, None), rtol=0, atol=1e-6)


@data.needs_data
def test_grad_cam_stretches_before_it_averages_layers_where_fused_divides() -> None:
    model, x, labels = net()
    layers = ("layer2", "layer3")
    expected = theirs("GradCAM", model, x, classes(labels), layers)
    parts = [GradCAM(model, layer) for layer in layers]
    each = [upsample(stretched(part.attribute(x, labels)), x.shape[2:]) for part in parts]
    assert_close(stretched(torch.stack(each).mean(0)), expected, rtol=0, atol=1e-6)
    apart = float((stretched(Fused(parts, how="mean").attribute(x, labels)) - expected).abs().max())
    assert 0.01 < apart < 0.1


@newest
@data.needs_data
def test_grad_cams_refined_map_is_the_product_of_stretched_maps() -> None:
    model, x, labels = net()
    parts = [LayerCAM(model, layer) for layer in ("layer2", "layer3")]
    cam = peer.RefineCAM(model, [model.layer2, model.layer3], base_method=peer.LayerCAM)
    expected = torch.from_numpy(cam(x.clone(), targets=classes(labels)))[:, None]
    first, second = (upsample(stretched(part.attribute(x, labels)), x.shape[2:]) for part in parts)
    assert_close(stretched(stretched(first) * stretched(second)), expected, rtol=0, atol=1e-5)
    fused = stretched(Fused(parts, how="product").attribute(x, labels))
    assert float((fused - expected).abs().max()) > 0.01


@data.needs_data
def test_its_element_wise_map_is_layercam_where_no_activation_is_negative() -> None:
    model, x, labels = net()
    maps = LayerCAM(model, "layer3", upsample=True).attribute(x, labels)
    assert_close(stretched(maps), theirs("GradCAMElementWise", model, x, classes(labels)), rtol=0, atol=1e-6)


@data.needs_data
def test_the_principal_component_of_gradient_times_activation_is_near_its_eigen_smooth_map() -> None:
    model, x, labels = net()
    seen: list[Any] = []
    cam = peer.GradCAM(model, [model.layer3])
    compute = cam.get_cam_image
    cam.get_cam_image = lambda *args: seen.append(compute(*args)) or seen[0]
    cam(x.clone(), targets=classes(labels), eigen_smooth=True)
    found = EigenCAM(model, "layer3", gradient=True).attribute(x, labels)
    for one, other in zip(found.flatten(1), torch.from_numpy(seen[0]).flatten(1), strict=True):
        assert float(torch.corrcoef(torch.stack([one, other.to(one)]))[0, 1].abs()) > 0.9


@newest
@data.needs_data
def test_the_targets_of_finer_cam_can_be_passed() -> None:
    model, x, _ = net()
    ranks = model(x).detach()
    order = (ranks - ranks.amax(1, keepdim=True)).abs().argsort(1).tolist()
    targets = [peer.utils.model_targets.FinerWeightedTarget(row[0], row[1:4], 1) for row in order]
    maps = GradCAM(model, "layer3", upsample=True).attribute(x, targets)
    assert_close(stretched(maps), theirs("FinerCAM", model, x, None), rtol=0, atol=1e-6)


@data.needs_data
@pytest.mark.parametrize(("name", "options"), [("GradCAM", {}), ("CAM", {"fc_layer": "linear"})])
def test_a_stretched_map_is_what_torch_cam_returns(name: str, options: dict[str, str]) -> None:
    methods = pytest.importorskip("torchcam.methods", reason="torch-cam is not installed: pip install torchcam")
    model, x, labels = net()
    with getattr(methods, name)(model, "layer3", **options) as cam:
        expected = cam(labels.tolist(), model(x.clone().requires_grad_(True)))[0].detach()[:, None]
    assert_close(stretched(METHODS[name.lower()](model, "layer3").attribute(x, labels)), expected, rtol=0, atol=1e-5)


@data.needs_data
def test_torch_cams_finer_cam_subtracts_a_share_of_the_mean_of_the_nearest_classes() -> None:
    methods = pytest.importorskip("torchcam.methods", reason="torch-cam is not installed: pip install torchcam")
    model, x, labels = net()
    with methods.FinerCAM(model, "layer3") as cam:
        scores = model(x.clone().requires_grad_(True))
        expected = cam(labels.tolist(), scores)[0].detach()[:, None]
    targets = []
    for row, label in zip(scores.detach(), labels.tolist(), strict=True):
        a, b, c = [k for k in (row - row[label]).abs().argsort().tolist() if k != label][:3]
        targets.append(ClassScore(label) - 0.6 / 3 * (ClassScore(a) + ClassScore(b) + ClassScore(c)))
    maps = GradCAM(model, "layer3").attribute(x, targets)
    assert_close(stretched(maps), expected, rtol=0, atol=1e-5)


@newest
@pytest.mark.parametrize(("kind", "method"), [("module", GuidedBackprop), ("F.relu", Saliency)])
def test_its_guided_backpropagation_reaches_modules_only(kind: str, method: Any) -> None:
    model, x = nets.make(kind), nets.batch(1, 8, 6)
    returned = peer.GuidedBackpropReLUModel(copy.deepcopy(model))(x.clone(), 2)
    expected = torch.from_numpy(returned).permute(2, 0, 1)[None]
    assert_close(method(model, channels="none", absolute=False).attribute(x, 2), expected)


@newest
def test_every_name_on_the_page_is_there_and_what_has_no_counterpart_has_none() -> None:
    for owner, table in (("METHODS", METHODS), ("METRICS", METRICS)):
        assert set(re.findall(rf'{owner}\["(\w+)"\]', PAGE)) <= set(table)
    missing, _, torch_cam = PAGE[PAGE.index("`KPCA_CAM`") : PAGE.index("have no counterpart\n")].partition(
        "of grad-cam"
    )
    names = re.findall(r"`(\w+)`", missing)
    assert [name for name in names if not hasattr(peer, name)] == []
    assert not {name.lower() for name in [*names, *re.findall(r"`(\w+)`", torch_cam)]} & set(METHODS)
