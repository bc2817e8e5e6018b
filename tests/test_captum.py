"""Our methods in Captum's hands: equal to its own where it is right, at home in its wrappers, metrics and figures."""

from __future__ import annotations

from typing import Any

import captum.attr as stock
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from captum.attr import visualization
from captum.metrics import infidelity, sensitivity_max
from torch import Tensor, nn

import attrib
import attrib.interop.captum as dropins
from attrib.errors import ShapeError
from attrib.interop.captum import like_input, to_hwc
from tests import nets, realnets
from tests.oracles import noise
from tests.test_dropins import NAMES, PLAIN, build, call, quiet, run

OURS = ("saliency", "input_x_gradient", "guided", "deconvnet", "occlusion", "gradcam", "guided_gradcam")
TARGETS = [2, 4]
KINDS = ("smoothgrad", "smoothgrad_sq", "vargrad")


def ours(name: str, model: nn.Module, **options: Any) -> Any:
    """Our method ``name``, at conv2 where it needs a layer."""
    method = attrib.METHODS[name]
    return method(model, "conv2" if method.needs_layer else None, **options)


def one_by_one(method: Any, **options: Any) -> noise.Explain:
    """The map of one example for its own target."""
    return lambda x, i: method.attribute(x[None].contiguous(), target=TARGETS[i], **options)[0].detach()


# --- equal to Captum where Captum is right ---------------------------------------------------------------------------

SAME: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {  # ours, its options, options of Captum's attribute
    "Saliency": ("saliency", {"channels": "none"}, {}),
    "InputXGradient": ("input_x_gradient", {"channels": "none"}, {}),
    "GuidedBackprop": ("guided", {"channels": "none", "absolute": False}, {}),
    "Deconvolution": ("deconvnet", {"channels": "none", "absolute": False}, {}),
    "LayerGradCam": ("gradcam", {"relu": False}, {}),
    "GuidedGradCam": ("guided_gradcam", {"channels": "none", "absolute": False}, {"interpolate_mode": "bilinear"}),
    "Occlusion": ("occlusion", {"window": (3, 2), "stride": 2, "edge": "cut"}, {}),
}


@pytest.mark.parametrize("net", PLAIN)
@pytest.mark.parametrize("captum_name", SAME)
def test_the_numbers_are_captums_where_captum_is_right(captum_name: str, net: str) -> None:
    name, options, captum_options = SAME[captum_name]
    model, x = nets.make(net), nets.batch(2)
    layer = {"residual": "conv", "regularised": "features.0"}.get(net, "conv2")
    theirs = run(stock, captum_name, model, x, layer, target=TARGETS, **captum_options).detach()
    method = attrib.METHODS[name]
    maps = method(model, layer if method.needs_layer else None, **options).attribute(x, TARGETS)
    tolerance = {"Occlusion": 1e-6}.get(captum_name, 1e-8)  # of scores near 1, and of gradients
    torch.testing.assert_close(maps.expand_as(theirs), theirs, rtol=1e-5, atol=tolerance)


@pytest.mark.parametrize("net", ["resnet18", "squeezenet1_0", "mnist_cnn"])
def test_on_trained_networks_of_modules_everybody_agrees(net: str) -> None:
    model, (x, labels) = realnets.load(net).model, realnets.load(net).batch(2)
    side = x.shape[2] // 3
    window = {"sliding_window_shapes": (x.shape[1], side, side), "strides": (x.shape[1], side, side)}
    for name, options in (("GuidedBackprop", {}), ("Deconvolution", {}), ("Occlusion", window)):
        with quiet():
            theirs = getattr(stock, name)(model).attribute(x.clone(), target=labels, **options)
        mine = getattr(dropins, name)(model).attribute(x.clone(), target=labels, **options)
        if (net, name) != ("squeezenet1_0", "Deconvolution"):  # whose rectified signal dies out on the way down
            assert float(theirs.abs().max()) > 0
        atol = 1e-4 * float(theirs.abs().max()) if name == "Occlusion" else 0
        torch.testing.assert_close(mine, theirs, rtol=0, atol=atol)


@pytest.mark.parametrize("net", ["resnet20_cifar10", "mobilenet_v2", "tiny_darknet"])
def test_on_trained_networks_with_other_activations_captum_alone_gives_the_plain_gradient(net: str) -> None:
    model, (x, labels) = realnets.load(net).model, realnets.load(net).batch(2)
    with quiet():
        theirs = stock.GuidedBackprop(model).attribute(x.clone(), target=labels)
        plain = stock.Saliency(model).attribute(x.clone(), target=labels, abs=False)
    assert torch.equal(theirs, plain)
    mine = dropins.GuidedBackprop(model).attribute(x.clone(), target=labels)
    ours_too = attrib.GuidedBackprop(model, channels="none", absolute=False).attribute(x, labels)
    assert torch.equal(mine, ours_too)
    assert float((mine - plain).abs().max()) > 0.1 * float(plain.abs().max())


# --- NoiseTunnel -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", OURS)
def test_noise_tunnel_around_our_methods_is_what_its_name_says(name: str, kind: str) -> None:
    method, x = ours(name, nets.make("F.relu")), nets.batch(2)
    expected = noise.smooth(one_by_one(method), x, kind, 3, 0.2, seed=5)
    torch.manual_seed(5)
    found = stock.NoiseTunnel(method).attribute(x, nt_type=kind, nt_samples=3, stdevs=0.2, target=TARGETS)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", NAMES)
def test_noise_tunnel_around_the_drop_ins_is_what_it_is_around_captums_classes(name: str, kind: str) -> None:
    x, maps = nets.batch(2), []
    for library in (dropins, stock):
        tunnel = stock.NoiseTunnel(build(library, name, nets.make("module")))
        torch.manual_seed(3)
        with quiet():
            maps.append(tunnel.attribute(x.clone(), nt_type=kind, nt_samples=3, stdevs=0.2, **call(name)))
    torch.testing.assert_close(maps[0], maps[1], rtol=0, atol=1e-6 if name == "Occlusion" else 0)


@pytest.mark.parametrize(
    "target", ["predicted", "conv2:3", lambda out: out[:, 1] - out[:, 2]], ids=["predicted", "channel", "function"]
)
def test_noise_tunnel_takes_our_targets(target: Any) -> None:
    method, x = ours("saliency", nets.make("F.relu")), nets.batch(2)
    silent = stock.NoiseTunnel(method).attribute(x, nt_samples=2, stdevs=0.0, target=target)
    torch.testing.assert_close(silent, method.attribute(x, target))


def test_noise_tunnel_repeats_further_arguments_of_the_model() -> None:
    model, x = nets.fill(nets.TwoInputs()), (nets.batch(2), nets.batch(2, seed=4))
    method, weight = attrib.Saliency(model), torch.tensor([1.0, -2.0])
    silent = stock.NoiseTunnel(method).attribute(x, nt_samples=2, stdevs=0.0, target=1, additional_forward_args=weight)
    plain = method.attribute(x, 1, additional_forward_args=weight)
    for a, b in zip(silent, plain, strict=True):
        torch.testing.assert_close(a, b)


# --- metrics ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", OURS)
def test_sensitivity_max_of_our_methods_is_the_largest_relative_change(name: str) -> None:
    method, x = ours(name, nets.make("F.relu")), nets.batch(2)
    expected = noise.sensitivity(one_by_one(method), x, seed=1)
    torch.manual_seed(1)
    found = sensitivity_max(method.attribute, x, target=TARGETS)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_sensitivity_max_of_the_drop_ins_is_the_largest_relative_change(name: str) -> None:
    method, x, options = build(dropins, name, nets.make("module")), nets.batch(2), call(name)
    options.pop("target", None)
    targets = {} if name.startswith("Neuron") else {"target": TARGETS}

    def explain(example: Tensor, i: int) -> Tensor:
        own = {"target": TARGETS[i]} if targets else {}
        maps: Tensor = method.attribute(example[None].contiguous(), **own, **options)[0].detach()
        return maps

    expected = noise.sensitivity(explain, x, seed=1)
    torch.manual_seed(1)
    found = sensitivity_max(method.attribute, x, **targets, **options)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-5)


def fixed_change(x: Tensor) -> tuple[Tensor, Tensor]:
    change = torch.linspace(-0.1, 0.2, x[0].numel()).reshape(x[0].shape).expand_as(x)
    return change, x - change


@pytest.mark.parametrize("name", OURS)
def test_infidelity_takes_our_maps_in_the_inputs_shape(name: str) -> None:
    model, x = nets.make("F.relu"), nets.batch(2)
    maps = like_input(ours(name, model).attribute(x, TARGETS), x)
    score = lambda example, i: model(example[None])[0, TARGETS[i]].detach()  # noqa: E731
    expected = noise.infidelity(score, maps, x, fixed_change(x[:1])[0][0])
    found = infidelity(model, fixed_change, x, maps, target=TARGETS, n_perturb_samples=2)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("name", [n for n in NAMES if not n.startswith("Neuron")])
def test_infidelity_takes_the_drop_ins_maps(name: str) -> None:
    model, x = nets.make("module"), nets.batch(2)
    maps = build(dropins, name, model).attribute(x.clone(), **{**call(name), "target": TARGETS}).detach()
    maps = maps if maps.shape == x.shape else like_input(maps, x)
    score = lambda example, i: model(example[None])[0, TARGETS[i]].detach()  # noqa: E731
    expected = noise.infidelity(score, maps, x, fixed_change(x[:1])[0][0])
    found = infidelity(model, fixed_change, x, maps, target=TARGETS)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-7)


def test_infidelity_of_the_gradient_of_a_linear_model_is_zero() -> None:
    model, x = nets.fill(nets.Linear()), nets.batch(3)
    maps = attrib.Saliency(model, channels="none", absolute=False).attribute(x, 1)
    assert float(infidelity(model, fixed_change, x, maps, target=1).max()) < 1e-10


# --- pictures --------------------------------------------------------------------------------------------------------


def assert_peak_is_shown(maps: Tensor, x: Tensor) -> None:
    """The heat map is brightest where the map is largest, and every other view can be drawn."""
    map_, picture = to_hwc(maps), to_hwc((x - x.amin()) / (x.amax() - x.amin()))
    _, axis = visualization.visualize_image_attr(map_, picture, "heat_map", "absolute_value", use_pyplot=False)
    shown = np.asarray(axis.images[0].get_array())
    strength = np.abs(map_.sum(2))
    assert shown.shape == strength.shape
    assert shown[np.unravel_index(strength.argmax(), strength.shape)] == shown.max()
    views = ["original_image", "heat_map", "blended_heat_map", "masked_image", "alpha_scaling"]
    signs = ["all", "positive", "absolute_value", "positive", "absolute_value"]
    visualization.visualize_image_attr_multiple(map_, picture, views, signs, use_pyplot=False)
    plt.close("all")


@pytest.mark.parametrize("name", OURS)
def test_captums_figures_show_our_maps(name: str) -> None:
    x = nets.batch(1, 8, 8)
    maps = ours(name, nets.make("F.relu")).attribute(x, "predicted")
    assert_peak_is_shown(like_input(maps, x)[:, :1], x)


@pytest.mark.parametrize("name", NAMES)
def test_captums_figures_show_the_drop_ins_maps(name: str) -> None:
    x = nets.batch(1, 8, 8)
    maps = build(dropins, name, nets.make("module")).attribute(x.clone(), **call(name, target=1)).detach()
    assert_peak_is_shown(like_input(maps, x) if name == "LayerGradCam" else maps, x)


def test_a_map_gets_the_inputs_shape_by_bilinear_resizing_and_repeating_its_channel() -> None:
    maps = torch.tensor([[[[0.0, 4.0]]]])
    found = like_input(maps, torch.zeros(1, 3, 1, 4))
    assert found.is_contiguous()
    assert found[0].tolist() == [[[0.0, 1.0, 3.0, 4.0]]] * 3  # pixel centres at 1/4, 3/4, 5/4, 7/4
    full = torch.randn(2, 3, 4, 5)
    assert torch.equal(like_input(full, torch.zeros(2, 3, 4, 5)), full)


@pytest.mark.parametrize("shape", [(1, 2, 4, 4), (2, 1, 4, 4), (1, 4, 4)])
def test_maps_that_cannot_have_the_inputs_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError, match="maps must have shape"):
        like_input(torch.zeros(shape), torch.zeros(1, 3, 8, 8))


def test_one_map_becomes_an_array_with_the_channels_last() -> None:
    image = torch.arange(24.0).reshape(2, 3, 4).requires_grad_()
    for given in (image, image[None]):
        array = to_hwc(given)
        assert array.shape == (3, 4, 2)
        assert array[1, 2].tolist() == [6.0, 18.0]
    for wrong in (torch.zeros(2, 3, 4, 4), torch.zeros(4, 4)):
        with pytest.raises(ShapeError, match="one map or image"):
            to_hwc(wrong)
