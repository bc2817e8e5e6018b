"""Every method on every trained net: right where it can be checked, and looking at the object."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from captum import attr
from PIL import Image
from torch import Tensor

import attrib
from attrib.core.masking.random_masks import RandomGrid
from attrib.core.reduce import upsample
from attrib.errors import AttribError
from benchmarks import matrix
from tests import data, realnets
from tests.test_torchvision import trace

pytestmark = [data.needs_data, pytest.mark.usefixtures("few_steps")]
ACTIVATIONS = {
    "squeezenet1_0": "overrode 26 of 26 ReLU",
    "tiny_darknet": "overrode 15 of 15 LeakyReLU",
    "mobilenet_v2": "overrode 35 of 35 ReLU6",
    "resnet18": "overrode 17 of 17 ReLU",
    "mobilenet_v1_025_128": "overrode 27 of 27 ReLU6",
    "resnet20_cifar10": "overrode 19 of 19 ReLU",
    "resnet56_cifar10": "overrode 55 of 55 ReLU",
    "mnist_cnn": "overrode 4 of 4 ReLU",
}
CIFAR = ("resnet20_cifar10", "resnet56_cifar10")
# What cannot be explained, and why; everything else must be.
REFUSED = {
    "attention_rollout": {"must use attention; none was seen": tuple(ACTIVATIONS)},
    "cam": {"one linear layer on the mean of a layer": ("mnist_cnn",)},
    "deeplift": {
        "contributions must add up": ("squeezenet1_0", "mobilenet_v2", "mobilenet_v1_025_128", *CIFAR),
        "every activation module must run once": ("resnet18",),
    },
    "excitation_backprop": {"never negative; got values down to": ("tiny_darknet",)},
    "gradient_attention": {"must use attention; none was seen": tuple(ACTIVATIONS)},
    "lrp": {
        "LeakyReLU at 'features.2' has none": ("tiny_darknet",),
        "ReLU6 at": ("mobilenet_v2", "mobilenet_v1_025_128"),
        "whatever computes must be a module": ("resnet18", *CIFAR),
    },
}
REFUSED["deeplift_shap"] = REFUSED["deeplift"]


def refusal(name: str, key: str) -> str | None:
    """The words with which a method refuses a net, or None."""
    return next((words for words, nets in REFUSED.get(key, {}).items() if name in nets), None)


def test_every_net_has_a_row() -> None:
    assert set(ACTIVATIONS) == set(realnets.NAMES)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_every_activation_of_a_trained_net_is_overridden(name: str) -> None:
    net = realnets.load(name)
    x, labels = net.batch(1)
    assert str(attrib.coverage(attrib.GuidedBackprop(net.model), x, labels)) == ACTIVATIONS[name]


@pytest.mark.parametrize("key", attrib.METHODS)
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_every_method_answers_each_example_on_its_own_or_says_why_not_and_leaves_no_trace(name: str, key: str) -> None:
    model, x, labels = matrix.trained(name)
    before = trace(model)
    method, words = matrix.make(key, model), refusal(name, key)
    if words:
        with pytest.raises(AttribError, match=re.escape(words)):
            method.attribute(x, labels)
    else:
        maps = method.attribute(x, labels)
        alone = method.attribute(x[1:], labels[1:])
        assert maps.any()
        # On average: in float32 the order of summation decides which side of 0 a few activations fall.
        assert (maps[1:] - alone).abs().mean() <= 1e-3 * alone.abs().mean()
    assert trace(model) == before


def test_the_matrix_of_the_docs_says_the_same_of_trained_nets() -> None:
    rows = {row["net"]: row["outcomes"] for row in json.loads(matrix.RESULTS.read_text())["rows"]}
    for name in ACTIVATIONS:
        for key, said in rows[f"trained.{name}"].items():
            assert (refusal(name, key) or "map") in said, (name, key)


def test_rise_is_the_papers_loop_on_a_trained_net() -> None:
    """Enlarge random cells, cut out the picture's size at random, and add up masks times probabilities."""
    net = realnets.load("resnet20_cifar10")
    x, labels = net.batch(2)
    masks = []
    drawn = RandomGrid((32, 32), 40, (7, 7), 0.3, 5)  # cells and offsets; the random numbers are the package's own
    for position in range(40):
        kept, (top, left) = drawn.draw(position)
        large = F.interpolate(torch.from_numpy(kept)[None, None].float(), (8 * 5, 8 * 5), mode="bilinear")
        masks.append(large[..., top : top + 32, left : left + 32])
    with torch.no_grad():
        scores = torch.stack([net.model(x * mask).softmax(1)[range(2), labels] for mask in masks])
    expected = sum(score[:, None, None, None] * mask for score, mask in zip(scores, masks, strict=True)) / (40 * 0.3)
    maps = attrib.METHODS["rise"](net.model, n=40, p=0.3, seed=5, score="probability").attribute(x, labels)
    torch.testing.assert_close(maps, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", ["squeezenet1_0", "resnet18"])  # nn.ReLU modules, on one branch each: Captum is right
def test_trained_nets_give_captums_numbers_where_captum_is_right(name: str) -> None:
    net = realnets.load(name)
    x, labels = net.batch(2)
    layer = {"squeezenet1_0": "features.12", "resnet18": "layer4"}[name]
    module = net.model.get_submodule(layer)
    raw = {"channels": "none", "absolute": False}
    pairs = [
        (attrib.Saliency(net.model, **raw), attr.Saliency(net.model), {"abs": False}),
        (attrib.InputXGradient(net.model, channels="none"), attr.InputXGradient(net.model), {}),
        (attrib.GuidedBackprop(net.model, **raw), attr.GuidedBackprop(net.model), {}),
        (attrib.Deconvnet(net.model, **raw), attr.Deconvolution(net.model), {}),
        (attrib.GradCAM(net.model, layer, relu=False), attr.LayerGradCam(net.model, module), {}),
        (
            attrib.GuidedGradCAM(net.model, layer, **raw),
            attr.GuidedGradCam(net.model, module),
            {"interpolate_mode": "bilinear"},
        ),
    ]
    for ours, theirs, options in pairs:
        expected = theirs.attribute(x.clone(), target=labels, **options).detach()
        got = ours.attribute(x, labels)
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-6 * float(expected.abs().max()))


def share_on_object(
    net: realnets.RealNet, method: attrib.Attribution, photos: list[data.Photo]
) -> tuple[Tensor, Tensor]:
    """How much of the positive map lies on the object, and how much of the image the object covers."""
    x = net.loaded.inputs([photo.image for photo in photos])
    maps = method.attribute(x, [photo.target for photo in photos])
    maps = upsample(maps, x.shape[2:])[:, 0].clamp(min=0)
    views = [net.loaded.view(Image.fromarray(photo.mask.astype(np.uint8) * 255).convert("RGB")) for photo in photos]
    masks = torch.stack([torch.from_numpy(np.asarray(view)[..., 0] > 127) for view in views])
    return (maps * masks).sum((1, 2)) / maps.sum((1, 2)), masks.float().mean((1, 2))


@pytest.mark.parametrize("key", ["gradcam", "guided", "guided_gradcam", "input_x_gradient", "occlusion", "saliency"])
def test_maps_of_the_true_class_lie_on_the_object(key: str) -> None:
    net = realnets.load("mobilenet_v1_025_128")
    options = {"window": 32, "stride": 16} if key == "occlusion" else {}
    share, area = share_on_object(net, attrib.METHODS[key](net.model, **options), data.photos(12))
    assert (share > area).sum() >= 10
    assert share.mean() > 1.2 * area.mean()


def test_two_classes_in_one_photo_are_found_in_their_places() -> None:
    net = realnets.load("resnet18")
    photo = data.open_photo("dog_cat_both")
    assert photo.size == (224, 224)
    x = net.loaded.inputs([photo])
    boxes = {243: (78, 14, 165, 119), 282: (45, 148, 198, 224)}  # bull mastiff above, tiger cat below; no overlap
    for own, other in ((243, 282), (282, 243)):
        maps = attrib.GradCAM(net.model, upsample=True).attribute(x, own)[0, 0]
        mean = {c: float(maps[top:bottom, left:right].mean()) for c, (left, top, right, bottom) in boxes.items()}
        assert mean[own] > 2 * mean[other]
