"""`Attribution.on` and `reseeded`: the same method for another model, or with other random numbers."""

from __future__ import annotations

import copy
from inspect import signature
from typing import Any

import captum.attr
import pytest
import torch
from torch import Tensor, nn

from attrib import METHODS, RISE, Attribution, ExtremalPerturbation, Fused, GradCAM, LayerCAM, Saliency
from attrib.errors import InputError, LayerError
from attrib.interop.captum import from_captum
from attrib.testing.probes import ProbeNet, probe_inputs
from tests import nets
from tests.made_for import MADE_FOR
from tests.presets import OURS, PRESETS, QUICK, Modules

pytestmark = pytest.mark.usefixtures("few_steps")

FAST: dict[str, dict[str, Any]] = {
    **QUICK,
    "extremal_perturbation": {"steps": 3},
    "meaningful_perturbation": {"steps": 3},
    "occlusion": {"window": 5, "stride": 4},
    "rise": {"n": 20},
}


def other_weights(model: nn.Module) -> nn.Module:
    """A model of the same architecture."""
    twin = copy.deepcopy(model)
    draw = torch.Generator().manual_seed(9)
    with torch.no_grad():
        for weight in twin.parameters():
            weight.add_(0.3 * weight.abs().mean() * torch.randn(weight.shape, generator=draw))
    return twin


def setting(name: str) -> tuple[nn.Module, Tensor]:
    if name in MADE_FOR:
        return MADE_FOR[name].model(), MADE_FOR[name].inputs()
    return (Modules() if name in PRESETS else ProbeNet()).eval(), probe_inputs()


@pytest.mark.parametrize("name", [*OURS, *PRESETS])
def test_a_method_moved_to_another_model_is_the_method_made_with_it(name: str) -> None:
    model, x = setting(name)
    twin = other_weights(model)
    made = FAST.get(name, {})
    method = METHODS[name](model, **made)
    before = method.attribute(x, target=1)
    moved = method.on(twin)
    assert torch.equal(moved.attribute(x, target=1), METHODS[name](twin, **made).attribute(x, target=1))
    assert not torch.equal(moved.attribute(x, target=1), before)
    assert method.model is model
    assert torch.equal(method.attribute(x, target=1), before)


def test_settings_and_layer_go_along() -> None:
    model, x = nets.make("module"), nets.batch()
    twin = other_weights(model)
    moved = GradCAM(model, model.conv1, relu=False, upsample=True).on(twin)
    assert moved.layer == "conv1"
    expected = GradCAM(twin, "conv1", relu=False, upsample=True)
    assert torch.equal(moved.attribute(x, 2), expected.attribute(x, 2))


def test_every_part_of_a_fused_map_goes_along() -> None:
    model, x = nets.make("module"), nets.batch()
    twin = other_weights(model)

    def fused(net: nn.Module) -> Attribution:
        return Fused([LayerCAM(net, "act1"), GradCAM(net)], how="mean", scale="none")

    moved = fused(model).on(twin)
    assert moved.model is twin
    assert torch.equal(moved.attribute(x, 2), fused(twin).attribute(x, 2))


def test_a_wrapped_method_of_captum_with_noise_around_it_goes_along() -> None:
    noisy = from_captum(captum.attr.Saliency, name="noisy_here", nt_samples=3, nt_type="smoothgrad", seed=4)
    try:
        model, x = nets.make("module"), nets.batch()
        twin = other_weights(model)
        assert torch.equal(noisy(model).on(twin).attribute(x, 2), noisy(twin).attribute(x, 2))
    finally:
        METHODS.remove("noisy_here")


def test_a_model_without_the_layer_is_refused() -> None:
    with pytest.raises(LayerError, match="no layer 'conv2'"):
        GradCAM(nets.make("module"), "conv2").on(nets.make("residual"))


def test_a_wrapped_model_is_unwrapped() -> None:
    model = nets.make("module")
    assert Saliency(model).on(nn.DataParallel(model)).model is model


def test_another_seed_changes_the_map_and_leaves_the_method() -> None:
    model, x = nets.make("module"), nets.batch()
    method = RISE(model, n=20, seed=3)
    other = method.reseeded(5)
    assert other is not None
    assert torch.equal(other.attribute(x, 2), RISE(model, n=20, seed=5).attribute(x, 2))
    assert torch.equal(method.attribute(x, 2), RISE(model, n=20, seed=3).attribute(x, 2))
    assert Saliency(model).reseeded(5) is None
    with pytest.raises(InputError, match="seed must be an integer >= 0"):
        method.reseeded(-1)


@pytest.mark.parametrize("name", [name for name in METHODS if "seed" in signature(METHODS[name]).parameters])
def test_every_method_with_a_seed_can_be_given_another(name: str) -> None:
    jitter = {"jitter": 2} if name == "extremal_perturbation" else {}
    method = METHODS[name](nets.make("module"), seed=3, **jitter)
    other = method.reseeded(5)
    assert other is not None
    assert vars(other) != vars(method)
    with pytest.raises(InputError, match="seed must be an integer >= 0; got -1"):
        METHODS[name](nets.make("module"), seed=-1, **jitter)


def test_a_search_without_jitter_has_nothing_random() -> None:
    assert ExtremalPerturbation(nets.make("module")).reseeded(5) is None
    model, x = nets.make("module"), nets.batch()
    shaken = ExtremalPerturbation(model, steps=6, places=1, jitter=2, seed=3)
    other = shaken.reseeded(5)
    assert other is not None
    expected = ExtremalPerturbation(model, steps=6, places=1, jitter=2, seed=5).attribute(x, 2)
    assert torch.equal(other.attribute(x, 2), expected)
    assert not torch.equal(shaken.attribute(x, 2), expected)


def test_the_random_parts_of_a_fused_map_are_reseeded() -> None:
    model, x = nets.make("module"), nets.batch()

    def fused(seed: int) -> Attribution:
        return Fused([Saliency(model), RISE(model, n=20, seed=seed)], scale="none", how="mean")

    other = fused(0).reseeded(5)
    assert other is not None
    assert torch.equal(other.attribute(x, 2), fused(5).attribute(x, 2))
    assert Fused([Saliency(model)]).reseeded(5) is None
