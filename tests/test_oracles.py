"""Every method equals the paper, written out slowly in float64 by hand: see tests/oracles."""

from __future__ import annotations

import ast
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attrib import (
    Deconvnet,
    GradCAM,
    GuidedBackprop,
    GuidedGradCAM,
    InputXGradient,
    Neuron,
    Saliency,
)
from tests import nets
from tests.oracles import backprop, differences, gradcam
from tests.oracles.differences import Array
from tests.oracles.models import DIFFERENCES, DOUBLE, EXACT, TARGETS, assert_rows, class_score, head, weights


def test_an_oracle_shares_no_code_with_the_package() -> None:
    for path in (Path(__file__).parent / "oracles").glob("*.py"):
        nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
        modules = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
        modules += [str(node.module) for node in nodes if isinstance(node, ast.ImportFrom)]
        assert {name.split(".")[0] for name in modules} & {"attrib", "captum"} == set(), path


# --- gradients


@pytest.mark.parametrize("name", [*nets.NETS, *nets.SMOOTH])
def test_saliency_is_the_largest_absolute_derivative(name: str) -> None:
    model, x = nets.make(name, DOUBLE), nets.batch(2, 6, 4, dtype=DOUBLE)
    expected = [differences.saliency(class_score(model, t), row) for row, t in zip(x.numpy(), TARGETS, strict=True)]
    assert_rows(Saliency(model).attribute(x, TARGETS), expected, DIFFERENCES)


@pytest.mark.parametrize("space", ["probability", "log_probability", "log_odds"])
def test_input_x_gradient_multiplies_values_with_derivatives_in_every_score_space(space: Any) -> None:
    from attrib import ClassScore

    model, x = nets.make("regularised", DOUBLE), nets.batch(2, 5, 7, dtype=DOUBLE)
    expected = [
        differences.input_x_gradient(class_score(model, t, space), row)
        for row, t in zip(x.numpy(), TARGETS, strict=True)
    ]
    maps = InputXGradient(model).attribute(x, ClassScore(torch.tensor(TARGETS), space))
    assert_rows(maps, expected, DIFFERENCES)


def test_saliency_of_a_layer_differentiates_to_its_activation() -> None:
    model, x = nets.make("module in place", DOUBLE), nets.batch(2, 8, 6, dtype=DOUBLE)
    with torch.no_grad():
        acts = model.pool(F.relu(model.conv1(x)))
    expected = [differences.saliency(head(model, t), act) for act, t in zip(acts.numpy(), TARGETS, strict=True)]
    assert_rows(Saliency(model, "pool").attribute(x, TARGETS), expected, DIFFERENCES)


# --- guided backpropagation and deconvnet

RULES = {"guided": GuidedBackprop, "deconv": Deconvnet}
BY_HAND: dict[str, Callable[..., dict[str, Array]]] = {
    **dict.fromkeys(nets.SPELLINGS, backprop.chain),
    "shared ReLU": backprop.shared,
    "pre-activation": backprop.pre_activation,
    "pre-activation in place": backprop.pre_activation,
    "residual": backprop.residual,
}


def signed(method: Any, model: nn.Module, x: Tensor, target: Any, layer: str | None = None) -> Tensor:
    maps: Tensor = method(model, layer, channels="none", absolute=False).attribute(x, target)
    return maps


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("name", BY_HAND)
def test_a_rule_equals_the_backward_pass_written_by_hand(name: str, rule: str) -> None:
    model, x = nets.make(name, DOUBLE), nets.batch(2, 9, 6, dtype=DOUBLE)
    p = weights(model)
    expected = [BY_HAND[name](p, row, t, rule)["input"] for row, t in zip(x.numpy(), TARGETS, strict=True)]
    maps = signed(RULES[rule], model, x, TARGETS)
    torch.testing.assert_close(maps, torch.from_numpy(np.stack(expected)), **EXACT)


@pytest.mark.parametrize("name", BY_HAND)
def test_the_hand_written_pass_without_a_rule_is_the_true_gradient(name: str) -> None:
    model, x = nets.make(name, DOUBLE), nets.batch(1, 6, 5, dtype=DOUBLE)[0].numpy()
    by_hand = BY_HAND[name](weights(model), x, 3, "plain")["input"]
    np.testing.assert_allclose(by_hand, differences.gradient(class_score(model, 3), x), **DIFFERENCES)


@pytest.mark.parametrize("name", BY_HAND)
def test_both_rules_change_the_gradient_of_every_net(name: str) -> None:
    model, x = nets.make(name, DOUBLE), nets.batch(1, 8, 6, dtype=DOUBLE)
    plain, guided, deconv = (signed(m, model, x, 3) for m in (Saliency, GuidedBackprop, Deconvnet))
    assert min(float((a - b).abs().max()) for a, b in ((plain, guided), (plain, deconv), (guided, deconv))) > 1e-3


@pytest.mark.parametrize("layer", ["pool", "conv1"])
@pytest.mark.parametrize("rule", RULES)
def test_a_rule_can_stop_at_a_layer(rule: str, layer: str) -> None:
    model, x = nets.make("module in place", DOUBLE), nets.batch(2, 8, 6, dtype=DOUBLE)
    p = weights(model)
    expected = [backprop.chain(p, row, t, rule)[layer] for row, t in zip(x.numpy(), TARGETS, strict=True)]
    maps = signed(RULES[rule], model, x, TARGETS, layer)
    torch.testing.assert_close(maps, torch.from_numpy(np.stack(expected)), **EXACT)


@pytest.mark.parametrize("rule", RULES)
def test_a_rule_projects_one_unit_of_a_layer_down(rule: str) -> None:
    model, x = nets.make("F.relu", DOUBLE), nets.batch(2, 8, 6, dtype=DOUBLE)
    p = weights(model)
    expected = [backprop.chain(p, row, (5, 2, 1), rule)["input"] for row in x.numpy()]
    maps = signed(RULES[rule], model, x, Neuron("conv2", 5, 2, 1))
    torch.testing.assert_close(maps, torch.from_numpy(np.stack(expected)), **EXACT)


@pytest.mark.parametrize("rule", RULES)
def test_without_a_location_each_example_takes_its_own_strongest_unit(rule: str) -> None:
    model, x = nets.make("F.relu", DOUBLE), nets.batch(3, 10, 6, dtype=DOUBLE)
    p = weights(model)
    expected, where = [], set()
    for row in x.numpy():
        with torch.no_grad():
            act = model.conv2(model.pool(F.relu(model.conv1(torch.from_numpy(row)[None]))))[0, 4].numpy()
        y, z = np.unravel_index(act.argmax(), act.shape)
        where.add((y, z))
        expected.append(backprop.chain(p, row, (4, int(y), int(z)), rule)["input"])
    assert len(where) > 1  # or the test would not tell an example's own place from the first one's
    maps = signed(RULES[rule], model, x, Neuron("conv2", 4))
    torch.testing.assert_close(maps, torch.from_numpy(np.stack(expected)), **EXACT)


@pytest.mark.parametrize("name", nets.RECTIFIERS)
def test_another_rectifier_passes_the_positive_part_of_its_own_gradient(name: str) -> None:
    """One activation between two weights: the gradient on both sides of it is known by differences."""
    model, x = nets.make(name, DOUBLE), nets.batch(1, 6, 4, dtype=DOUBLE)
    with torch.no_grad():
        before = model.conv2(model.pool(model.act1(model.conv1(x))))
    one = lambda v: float(model.act2(torch.from_numpy(v)).detach())  # noqa: E731
    values = before.flatten().tolist()
    slope = np.array([differences.gradient(one, np.array([v]))[0] for v in values]).reshape(before.shape)
    above = backprop.spread(weights(model)["fc.weight"][3], before[0].numpy())[None]
    found = signed(GuidedBackprop, model, x, 3, "conv2"), signed(Deconvnet, model, x, 3, "conv2")
    torch.testing.assert_close(found[0], torch.from_numpy(np.maximum(above * slope, 0)), **DIFFERENCES)
    torch.testing.assert_close(found[1], torch.from_numpy(np.maximum(above, 0)), **DIFFERENCES)


# --- Grad-CAM

PARTS: dict[str, Callable[[nets.Chain, Tensor], Tensor]] = {
    "conv1": lambda m, a: m.fc(F.relu(m.conv2(m.pool(F.relu(a)))).mean((2, 3))),
    "pool": lambda m, a: m.fc(F.relu(m.conv2(a)).mean((2, 3))),
    "conv2": lambda m, a: m.fc(F.relu(a).mean((2, 3))),
    "act2": lambda m, a: m.fc(a.mean((2, 3))),
}


def tail(model: nets.Chain, layer: str, target: int) -> Callable[[Array], float]:
    def run(act: Array) -> float:
        with torch.no_grad():
            return float(PARTS[layer](model, torch.from_numpy(act.copy())[None])[0, target])

    return run


def activation(model: nets.Chain, layer: str, x: Tensor) -> Array:
    kept = []
    handle = model.get_submodule(layer).register_forward_hook(lambda _m, _a, out: kept.append(out.clone()))
    with torch.no_grad():
        model(x)
    handle.remove()
    return kept[0].numpy()


def cams(model: nets.Chain, layer: str, x: Tensor, **options: bool) -> list[Array]:
    acts = activation(model, layer, x)
    return [gradcam.grad_cam(tail(model, layer, t), a, **options) for a, t in zip(acts, TARGETS, strict=True)]


@pytest.mark.parametrize("layer", PARTS)
@pytest.mark.parametrize("name", ["module", "module in place"])
def test_grad_cam_weights_channels_by_their_mean_derivative(name: str, layer: str) -> None:
    model, x = nets.make(name, DOUBLE), nets.batch(2, 8, 6, dtype=DOUBLE)
    expected = cams(model, layer, x, relu=False)
    assert_rows(GradCAM(model, layer, relu=False).attribute(x, TARGETS), expected, DIFFERENCES)


@pytest.mark.parametrize("negative", [False, True])
def test_grad_cam_keeps_one_sign_of_the_evidence_and_resizes_it_bilinearly(negative: bool) -> None:
    model, x = nets.make("module", DOUBLE), nets.batch(2, 9, 7, dtype=DOUBLE)
    small = cams(model, "pool", x, negative=negative)
    method = GradCAM(model, "pool", negative=negative)
    assert_rows(method.attribute(x, TARGETS), small, DIFFERENCES)
    method = GradCAM(model, "pool", negative=negative, upsample=True)
    assert_rows(method.attribute(x, TARGETS), [gradcam.bilinear(m, 9, 7) for m in small], DIFFERENCES)


def test_guided_grad_cam_multiplies_the_two() -> None:
    model, x = nets.make("module in place", DOUBLE), nets.batch(2, 9, 7, dtype=DOUBLE)
    p = weights(model)
    expected = [
        backprop.chain(p, row, t, "guided")["input"] * gradcam.bilinear(cam, 9, 7)
        for row, t, cam in zip(x.numpy(), TARGETS, cams(model, "conv2", x), strict=True)
    ]
    maps = GuidedGradCAM(model, "conv2", channels="none", absolute=False).attribute(x, TARGETS)
    assert float(maps.abs().max()) > 0
    torch.testing.assert_close(maps, torch.from_numpy(np.stack(expected)), **DIFFERENCES)
