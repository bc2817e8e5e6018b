"""Answers that algebra knows: linear models, one convolution, global-average-pooling heads, positive networks."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.testing import assert_close

from attrib import (
    Channel,
    ClassScore,
    Custom,
    Deconvnet,
    GradCAM,
    GuidedBackprop,
    InputXGradient,
    Neuron,
    Occlusion,
    Saliency,
)
from attrib.core.objectives.objective import SPACES
from tests import nets

DOUBLE = torch.float64


def linear(**options: Any) -> nets.Linear:
    model = nets.fill(nets.Linear(**options)).double()
    assert isinstance(model, nets.Linear)
    return model


def signed(method: type, model: nn.Module, x: Tensor, target: Any, layer: str | None = None) -> Tensor:
    maps: Tensor = method(model, layer, channels="none", absolute=False).attribute(x, target)
    return maps


# --- linear models


@pytest.mark.parametrize("target", [0, 4])
def test_saliency_of_a_linear_model_is_its_largest_absolute_weight(target: int) -> None:
    model = linear()
    maps = Saliency(model).attribute(nets.batch(2, dtype=DOUBLE), target)
    assert_close(maps, model.weight(target).abs().amax(0).expand(2, 1, 8, 6))


def test_input_x_gradient_of_a_linear_model_without_bias_sums_to_the_score() -> None:
    model, x = linear(bias=False), nets.batch(3, dtype=DOUBLE)
    maps = InputXGradient(model).attribute(x, [1, 2, 3])
    assert_close(maps.sum((1, 2, 3)), model(x).detach()[range(3), [1, 2, 3]])
    assert_close(maps[1, 0], (x[1] * model.weight(2)).sum(0))


def test_input_x_gradient_of_a_relu_network_without_bias_sums_to_the_score() -> None:
    """Such a network is linear along the ray through each input (Euler's theorem)."""
    model, x = nets.make("module", DOUBLE), nets.batch(3, dtype=DOUBLE)
    for name, weight in model.named_parameters():
        if name.endswith("bias"):
            weight.data.zero_()
    maps = InputXGradient(model).attribute(x, 2)
    assert_close(maps.sum((1, 2, 3)), model(x).detach()[:, 2])


@pytest.mark.parametrize("baseline", [0.0, 0.4])
def test_occlusion_of_single_pixels_of_a_linear_model_gives_their_contributions(baseline: float) -> None:
    model, x = linear(), nets.batch(2, dtype=DOUBLE)
    maps = Occlusion(model, window=1, stride=1, baseline=baseline).attribute(x, 3)
    assert_close(maps, (model.weight(3) * (x - baseline)).sum(1, keepdim=True))


def test_occlusion_of_tiles_of_a_linear_model_gives_each_pixel_the_sum_of_its_tile() -> None:
    model, x = linear(), nets.batch(2, dtype=DOUBLE)
    parts = (model.weight(1) * x).sum(1, keepdim=True)
    tiles = F.avg_pool2d(parts, (4, 2)) * 8
    maps = Occlusion(model, window=(4, 2), stride=(4, 2)).attribute(x, 1)
    assert_close(maps, tiles.repeat_interleave(4, 2).repeat_interleave(2, 3))


def test_occlusion_of_a_linear_model_by_overlapping_windows_is_an_average_of_window_sums() -> None:
    model, x = linear(), nets.batch(2, dtype=DOUBLE)
    sums = F.avg_pool2d((model.weight(1) * x).sum(1, keepdim=True), 3, 1) * 9
    spread = F.conv_transpose2d(sums, torch.ones(1, 1, 3, 3, dtype=DOUBLE))
    cover = F.conv_transpose2d(torch.ones_like(sums), torch.ones(1, 1, 3, 3, dtype=DOUBLE))
    assert_close(Occlusion(model, window=3, stride=1).attribute(x, 1), spread / cover)


def test_what_a_window_takes_and_what_it_leaves_add_up_to_the_score() -> None:
    model, x = nets.make("residual", DOUBLE), nets.batch(2, dtype=DOUBLE)
    drop, under = (Occlusion(model, window=3, stride=2, sign=sign).attribute(x, 1) for sign in ("drop", "score"))
    assert_close(drop + under, model(x).detach()[:, 1].reshape(2, 1, 1, 1).expand_as(drop))


def test_hiding_everything_loses_the_difference_to_the_baseline() -> None:
    model, x = nets.make("module", DOUBLE), nets.batch(2, dtype=DOUBLE)
    maps = Occlusion(model, window=8, stride=8, baseline=0.2, score="probability").attribute(x, 1)
    p = [model(v).detach().softmax(1)[:, 1] for v in (x, torch.full_like(x, 0.2))]
    assert_close(maps, (p[0] - p[1]).reshape(2, 1, 1, 1).expand_as(maps))


def test_hiding_with_the_input_itself_loses_nothing() -> None:
    model, x = nets.make("module", DOUBLE), nets.batch(2, dtype=DOUBLE)
    maps = Occlusion(model, window=3, stride=3, baseline=lambda v: v).attribute(x, 1)
    assert_close(maps, torch.zeros_like(maps), rtol=0, atol=1e-14)


def test_a_difference_of_classes_of_a_linear_model_has_the_difference_of_the_weights() -> None:
    model, x = linear(), nets.batch(1, dtype=DOUBLE)
    assert_close(signed(Saliency, model, x, ClassScore(3) - ClassScore(1))[0], model.weight(3) - model.weight(1))
    assert_close(signed(Saliency, model, x, 0.5 * ClassScore(2) + ClassScore(0))[0],
                 model.weight(2) / 2 + model.weight(0))  # fmt: skip
    assert_close(signed(Saliency, model, x, -ClassScore(2))[0], -model.weight(2))


# --- score spaces


@pytest.mark.parametrize("space", SPACES)
def test_a_softmax_of_a_linear_model_has_the_gradient_of_the_textbook(space: Any) -> None:
    model, x = linear(), nets.batch(2, dtype=DOUBLE)
    p = model(x).detach().softmax(1)
    w = torch.stack([model.weight(c) for c in range(nets.CLASSES)])
    mean = torch.einsum("nc,c...->n...", p, w)
    own = p[:, 2].reshape(2, 1, 1, 1)
    expected = {
        "logit": w[2].expand(2, 3, 8, 6),
        "probability": own * (w[2] - mean),
        "log_probability": w[2] - mean,
        "log_odds": (w[2] - mean) / (1 - own),
    }[space]
    assert_close(signed(Saliency, model, x, ClassScore(2, space)), expected)


@pytest.mark.parametrize("space", SPACES)
def test_a_model_with_one_output_has_a_sigmoid(space: Any) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 1)).double()
    x = nets.batch(2, 2, 2, dtype=DOUBLE)
    w, p = model[1].weight.detach().reshape(3, 2, 2), model(x).detach().sigmoid().reshape(2, 1, 1, 1)
    factor = {"logit": torch.ones_like(p), "probability": p * (1 - p), "log_probability": 1 - p,
              "log_odds": torch.ones_like(p)}[space]  # fmt: skip
    assert_close(signed(Saliency, model, x, ClassScore(0, space)), w * factor)


def test_probabilities_saturate_where_log_odds_do_not() -> None:
    model, x = linear().float(), nets.batch(1)
    model.fc.bias.data[2] = 100.0
    assert Occlusion(model, window=3, stride=3, score="probability").attribute(x, 2).abs().max() == 0
    assert Occlusion(model, window=3, stride=3, score="log_odds").attribute(x, 2).abs().min() > 1e-3


# --- units inside a network


def one_conv() -> nn.Sequential:
    layers = OrderedDict(conv=nn.Conv2d(3, 4, 3, padding=1, bias=False), relu=nn.ReLU(), pool=nn.MaxPool2d(2),
                         flatten=nn.Flatten(), fc=nn.Linear(48, 5))  # fmt: skip
    model = nets.fill(nn.Sequential(layers)).double()
    assert isinstance(model, nn.Sequential)
    return model


def one_hot(k: int, y: int, x: int, size: tuple[int, int] = (8, 6)) -> Tensor:
    hot = torch.zeros(1, 4, *size, dtype=DOUBLE)
    hot[0, k, y, x] = 1
    return hot


def test_deconvnet_of_one_convolution_is_the_transposed_convolution() -> None:
    model, x = one_conv(), nets.batch(1, dtype=DOUBLE)
    expected = F.conv_transpose2d(one_hot(2, 4, 3), model.conv.weight.detach(), padding=1)
    assert_close(signed(Deconvnet, model, x, Neuron("relu", 2, 4, 3)), expected)


def test_deconvnet_puts_a_pooled_value_back_where_its_maximum_was() -> None:
    model, x = one_conv(), nets.batch(1, dtype=DOUBLE)
    act = model.conv(x).detach().relu()
    window = act[0, 1, 4:6, 2:4]
    assert window.max() > 0  # or the switch would be arbitrary
    y, z = divmod(int(window.argmax()), 2)
    expected = F.conv_transpose2d(one_hot(1, 4 + y, 2 + z), model.conv.weight.detach(), padding=1)
    assert_close(signed(Deconvnet, model, x, Neuron("pool", 1, 2, 1)), expected)


def test_a_neuron_of_a_convolution_sees_its_kernel_in_its_receptive_field() -> None:
    model, x = one_conv(), nets.batch(2, dtype=DOUBLE)
    maps = signed(Saliency, model, x, Neuron("conv", 1, 5, 2))
    expected = torch.zeros_like(x)
    expected[:, :, 4:7, 1:4] = model.conv.weight.detach()[1]
    assert_close(maps, expected)


def test_a_channel_is_the_sum_mean_or_maximum_of_its_neurons() -> None:
    model, x = one_conv(), nets.batch(2, dtype=DOUBLE)
    neurons = sum(signed(Saliency, model, x, Neuron("relu", 3, i, j)) for i in range(8) for j in range(6))
    assert isinstance(neurons, Tensor)
    assert_close(signed(Saliency, model, x, Channel("relu", 3, "sum")), neurons)
    assert_close(signed(Saliency, model, x, Channel("relu", 3)), neurons / 48)
    assert_close(signed(Saliency, model, x, Channel("relu", 3, "max")), signed(Saliency, model, x, Neuron("relu", 3)))


def test_text_targets_name_channels_and_neurons() -> None:
    model, x = one_conv(), nets.batch(2, dtype=DOUBLE)
    assert_close(signed(Saliency, model, x, "relu:3"), signed(Saliency, model, x, Channel("relu", 3)))
    assert_close(signed(Saliency, model, x, "relu:3,4,5"), signed(Saliency, model, x, Neuron("relu", 3, 4, 5)))


def test_a_neuron_without_locations_is_a_class_score() -> None:
    model, x = one_conv(), nets.batch(2, dtype=DOUBLE)
    assert_close(signed(Saliency, model, x, Neuron("fc", 3)), signed(Saliency, model, x, 3))
    assert_close(signed(Saliency, model, x, Channel("fc", 3)), signed(Saliency, model, x, 3))


def test_one_pixel_of_a_segmentation_depends_on_its_receptive_field() -> None:
    model, x = nn.Conv2d(3, 4, 3, padding=1).double(), nets.batch(2, dtype=DOUBLE)
    maps = signed(Saliency, model, x, [(1, 5, 2), (0, 3, 3)])
    assert_close(maps[0, :, 4:7, 1:4], model.weight.detach()[1])
    assert_close(maps[1, :, 2:5, 2:5], model.weight.detach()[0])
    assert int((maps != 0).sum()) == 2 * 27
    assert_close(maps, signed(Saliency, model, x, Custom(lambda out: torch.stack([out[0, 1, 5, 2], out[1, 0, 3, 3]]))))


# --- Grad-CAM and class activation maps


def test_grad_cam_of_a_gap_head_is_the_class_activation_map_over_its_area() -> None:
    model, x = nets.fill(nets.GapHead()).double(), nets.batch(2, dtype=DOUBLE)
    act = model.get_submodule("conv")(x).detach()
    weight = model.get_parameter("fc.weight").detach()[3]
    cam = torch.einsum("k,nkhw->nhw", weight, act)[:, None]
    assert_close(GradCAM(model, "conv", relu=False).attribute(x, 3), cam / 48)
    assert_close(GradCAM(model, "conv").attribute(x, 3), cam.relu() / 48)
    assert_close(GradCAM(model, "conv", negative=True).attribute(x, 3), (-cam).relu() / 48)


def test_the_mean_of_the_class_activation_map_and_the_bias_make_the_score() -> None:
    model, x = nets.fill(nets.GapHead()).double(), nets.batch(2, dtype=DOUBLE)
    maps = GradCAM(model, "conv", relu=False).attribute(x, 3)
    assert_close(maps.sum((1, 2, 3)) + model.get_parameter("fc.bias").detach()[3], model(x).detach()[:, 3])


def test_input_x_gradient_at_the_last_layer_of_a_gap_head_is_its_grad_cam() -> None:
    model, x = nets.fill(nets.GapHead()).double(), nets.batch(2, dtype=DOUBLE)
    assert_close(InputXGradient(model, "conv").attribute(x, 3), GradCAM(model, "conv", relu=False).attribute(x, 3))


# --- where the rules have nothing to do


@pytest.mark.parametrize("method", [GuidedBackprop, Deconvnet])
@pytest.mark.parametrize("name", ["module", "shared ReLU", "pre-activation", "residual", "elu"])
def test_in_a_positive_network_the_rules_give_the_gradient(method: type, name: str) -> None:
    model, x = nets.make(name, DOUBLE), nets.batch(2, dtype=DOUBLE).abs()
    for tensor in (*model.parameters(), *model.buffers()):
        tensor.data.abs_()
    for part in model.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.get_buffer("running_mean").zero_()
    maps = signed(method, model, x, 3)
    assert float(maps.min()) > 0
    assert_close(maps, signed(Saliency, model, x, 3))


def test_guided_backprop_gives_nothing_where_all_evidence_is_negative() -> None:
    model, x = nets.make("module", DOUBLE), nets.batch(2, dtype=DOUBLE)
    model.fc.weight.data.abs_().neg_()
    assert not GuidedBackprop(model).attribute(x, 3).any()
    assert not Deconvnet(model).attribute(x, 3).any()
    assert not GradCAM(model, "act2").attribute(x, 3).any()
