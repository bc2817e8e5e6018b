"""Grad-CAM's kin on trained networks: what depth does to the maps, and what fusing layers gains."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from attrib import Fused, GradCAM, HiResCAM, LayerCAM, attribute_all
from attrib.core.reduce import upsample
from tests import data, realnets

pytestmark = data.needs_data
# Behind activations, from shallow to deep.
DEPTHS = {
    "resnet18": ("layer1", "layer2", "layer3", "layer4"),
    "squeezenet1_0": ("features.4", "features.7", "features.9", "features.12"),
    "mobilenet_v2": ("features.3.conv.1", "features.6.conv.1", "features.13.conv.1", "features.18"),
}
KINDS = (GradCAM, LayerCAM, HiResCAM)


@dataclass(frozen=True)
class Seen:
    """What maps of photos are like, on average.

    Attributes:
        rough: total variation, by method and layer, of positive maps at the input's size that sum to one.
        noise: total variation at the layer's own size, as a share of that of the same values in random places.
        share: of the positive map on the object.
        area: share of the photo that the object covers.
    """

    rough: dict[tuple[str, str], float]
    noise: dict[tuple[str, str], float]
    share: dict[tuple[str, str], float]
    area: float


def photos(name: str, count: int = 32) -> tuple[Tensor, list[int], Tensor]:
    """Inputs, classes and object masks ``(N, 1, H, W)``."""
    net, found = realnets.load(name), data.photos(count)
    views = [net.loaded.view(Image.fromarray(photo.mask.astype(np.uint8) * 255).convert("RGB")) for photo in found]
    masks = torch.stack([torch.from_numpy(np.asarray(view)[..., 0] > 127) for view in views])[:, None]
    return net.loaded.inputs([photo.image for photo in found]), [photo.target for photo in found], masks


@cache
def seen(name: str) -> Seen:
    x, targets, masks = photos(name)
    model = realnets.load(name).model
    methods = {(kind.name, layer): kind(model, layer, relu=True) for kind in KINDS for layer in DEPTHS[name]}
    found = attribute_all(methods, x, [targets])
    maps = {label: upsample(one[0], x.shape[2:]) for label, one in found.items()}
    rough = {label: roughness(one) for label, one in maps.items()}
    share = {label: on_object(one, masks) for label, one in maps.items()}
    noise = {label: roughness(one[0]) / roughness(shuffled(one[0])) for label, one in found.items()}
    return Seen(rough, noise, share, float(masks.float().mean()))


def roughness(maps: Tensor) -> float:
    maps = maps[maps.flatten(1).any(1)]
    down, right = (maps.diff(dim=axis).abs().sum((1, 2, 3)) for axis in (2, 3))
    return float(((down + right) / maps.sum((1, 2, 3))).mean())


def shuffled(maps: Tensor) -> Tensor:
    """The same values, in random places: as noisy as a map of this resolution can be."""
    order = torch.randperm(maps[0].numel(), generator=torch.Generator().manual_seed(0))
    return maps.flatten(1)[:, order].reshape(maps.shape)


def on_object(maps: Tensor, masks: Tensor) -> float:
    some = maps.flatten(1).any(1)
    return float(((maps * masks).sum((1, 2, 3)) / maps.sum((1, 2, 3)))[some].mean())


@pytest.mark.parametrize("name", DEPTHS)
@pytest.mark.parametrize("kind", KINDS)
def test_maps_get_finer_and_so_rougher_from_deep_to_shallow(kind: Any, name: str) -> None:
    rough = [seen(name).rough[kind.name, layer] for layer in DEPTHS[name]]
    assert (rough[0], rough[-1]) == (max(rough), min(rough))
    assert rough[0] > 3 * rough[-1]


@pytest.mark.parametrize("name", DEPTHS)
def test_beyond_its_resolution_hirescam_gets_noisier_and_layercam_does_not(name: str) -> None:
    """Gradients of single places are noisy before the last layers; LayerCAM leaves the negative half out."""
    *shallow, last = (seen(name).noise["hirescam", layer] for layer in DEPTHS[name])
    assert min(shallow) > 1.2 * last
    *shallow, last = (seen(name).noise["layercam", layer] for layer in DEPTHS[name])
    assert np.mean(shallow) < 1.2 * last


@pytest.mark.parametrize("name", DEPTHS)
def test_gradcam_finds_the_object_at_the_last_layer_and_loses_it_before(name: str) -> None:
    *shallow, last = (seen(name).share["gradcam", layer] for layer in DEPTHS[name])
    assert last > max(shallow) + 0.05
    assert last - seen(name).area > 2 * (np.mean(shallow) - seen(name).area)


@pytest.mark.parametrize("name", DEPTHS)
@pytest.mark.parametrize("kind", [LayerCAM, HiResCAM])
def test_keeping_the_gradient_of_each_place_finds_the_object_at_every_depth(kind: Any, name: str) -> None:
    share = seen(name).share
    for layer in DEPTHS[name][:-1]:
        assert share[kind.name, layer] > share["gradcam", layer] + 0.05
        assert share[kind.name, layer] > 1.5 * seen(name).area


def test_the_product_of_layers_is_more_on_the_object_than_each_of_them() -> None:
    x, targets, masks = photos("resnet18")
    layers = DEPTHS["resnet18"][1:]
    model = realnets.load("resnet18").model
    fused = Fused([LayerCAM(model, layer) for layer in layers], how="product").attribute(x, targets)
    single = [seen("resnet18").share["layercam", layer] for layer in layers]
    assert on_object(fused, masks) > max(single) + 0.1
