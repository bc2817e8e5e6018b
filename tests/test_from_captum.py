"""Captum's methods behind our door: the same numbers, every target, right rows, nothing left behind."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from typing import Any

import captum.attr as stock
import numpy as np
import pytest
import torch
from captum.attr._utils.lrp_rules import GammaRule
from torch import Tensor, nn

import attrib
from attrib.core import ClassScore, Neuron, count
from attrib.errors import (
    InputError,
    LayerError,
    MissingDependency,
    ModelError,
    RegistryError,
    RuleError,
    ShapeError,
    TargetError,
)
from attrib.interop.captum import from_captum
from attrib.testing import check_attribution
from attrib.testing.traces import ModelTrace, ProcessTrace
from tests import nets
from tests.test_dropins import quiet

TARGETS = [3, 1, 4]


def rows_of_two(*x: Tensor) -> Tensor:
    """A mask of features: two rows of pixels each, over all channels."""
    height, width = x[0].shape[2:]
    return (torch.arange(height) // 2).reshape(1, 1, height, 1).expand(1, 1, height, width).contiguous()


def two_baselines(x: Any) -> Tensor:
    one = (x[0] if isinstance(x, tuple) else x)[:1]
    return torch.cat([torch.zeros_like(one), torch.ones_like(one)])


MASK: dict[str, Any] = {"feature_mask": rows_of_two}
# Options that make each method expand the batch in its own way, with remainders
METHODS: dict[str, dict[str, Any]] = {
    "Saliency": {},
    "InputXGradient": {},
    "IntegratedGradients": {"n_steps": 7},
    "GradientShap": {"baselines": two_baselines, "n_samples": 4, "stdevs": 0.1},
    "DeepLift": {},
    "DeepLiftShap": {"baselines": two_baselines},
    "LRP": {},
    "FeatureAblation": {**MASK, "perturbations_per_eval": 3},
    "FeaturePermutation": {**MASK, "perturbations_per_eval": 3},
    "Occlusion": {"sliding_window_shapes": (3, 3, 2), "strides": (3, 2, 2), "perturbations_per_eval": 5},
    "ShapleyValueSampling": {**MASK, "n_samples": 3, "perturbations_per_eval": 3},
    "ShapleyValues": {**MASK, "perturbations_per_eval": 5},
    "Lime": {**MASK, "n_samples": 20, "perturbations_per_eval": 3},
    "KernelShap": {**MASK, "n_samples": 20, "perturbations_per_eval": 3},
    "GuidedBackprop": {},
    "Deconvolution": {},
}
LAYER_METHODS: dict[str, dict[str, Any]] = {
    "LayerActivation": {},
    "LayerGradCam": {"relu_attributions": True},
    "LayerGradientXActivation": {},
    "LayerConductance": {"n_steps": 5, "internal_batch_size": 7},
    "InternalInfluence": {"n_steps": 5},
    "LayerIntegratedGradients": {"n_steps": 5},
    "LayerGradientShap": {"baselines": two_baselines, "n_samples": 4},
    "LayerDeepLift": {},
    "LayerDeepLiftShap": {"baselines": two_baselines},
    "LayerLRP": {},
    "GuidedGradCam": {"interpolate_mode": "bilinear"},
}
needs_sklearn = pytest.mark.skipif(find_spec("sklearn") is None, reason="Captum's LIME needs scikit-learn")
RANDOM = ("GradientShap", "LayerGradientShap", "Lime", "KernelShap", "ShapleyValueSampling", "FeaturePermutation")


def each(*names: str) -> list[Any]:
    """Parameters; those that need scikit-learn are skipped where it is missing."""
    return [pytest.param(n, marks=needs_sklearn) if n in {"Lime", "KernelShap"} else n for n in names]


class Plain(nn.Module):
    """Modules that every method of Captum knows."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.relu1 = nn.Conv2d(3, 4, 3, padding=1), nn.ReLU()
        self.conv2, self.relu2 = nn.Conv2d(4, 6, 3, padding=1), nn.ReLU()
        self.pool, self.fc = nn.AdaptiveAvgPool2d(2), nn.Linear(24, 5)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.fc(self.pool(self.relu2(self.conv2(self.relu1(self.conv1(x))))).flatten(1))
        return out


def make(name: str, **options: Any) -> Any:
    """The class under a name of its own, with Captum's channels."""
    return from_captum(getattr(stock, name), name=f"captum_{name}", **{"channels": "none", **options})


def captums(name: str, model: nn.Module, x: Tensor, target: Any, options: dict[str, Any], layer: Any = None) -> Tensor:
    """Captum itself, seeded as ours is."""
    options = {k: v(x) if k == "feature_mask" else v for k, v in options.items()}
    method = getattr(stock, name)(model, *(() if layer is None else (layer,)))
    with torch.random.fork_rng(devices=[]), quiet():
        before = np.random.get_state()  # noqa: NPY002
        torch.manual_seed(0)
        np.random.seed(0)  # noqa: NPY002
        maps: Tensor = method.attribute(
            x.clone(), **({} if name == "LayerActivation" else {"target": target}), **options
        )
        np.random.set_state(before)  # noqa: NPY002
    return maps.detach()


# --- the numbers -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", each(*METHODS))
def test_each_example_of_an_input_method_gets_captums_map_for_its_own_target(name: str) -> None:
    model, x = nets.fill(Plain()), nets.batch(3)
    expected = captums(name, model, x, TARGETS, METHODS[name])
    found = make(name, **METHODS[name])(model).attribute(x, TARGETS)
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


@pytest.mark.parametrize("name", LAYER_METHODS)
def test_each_example_of_a_layer_method_gets_captums_map_for_its_own_target(name: str) -> None:
    model, x = nets.fill(Plain()), nets.batch(3)
    expected = captums(name, model, x, TARGETS, LAYER_METHODS[name], model.conv2)
    found = make(name, **LAYER_METHODS[name])(model, "conv2").attribute(x, TARGETS)
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


@pytest.mark.parametrize("name", ["LayerFeatureAblation"])
def test_a_target_per_example_works_where_captum_itself_fails(name: str) -> None:
    model, x = nets.fill(Plain()), nets.batch(3)
    with pytest.raises(AssertionError, match="Target list length"):
        captums(name, model, x, TARGETS, {"perturbations_per_eval": 4}, model.conv2)
    rows = [captums(name, model, x[i : i + 1], t, {}, model.conv2)[0] for i, t in enumerate(TARGETS)]
    found = make(name, perturbations_per_eval=4)(model, "conv2").attribute(x, TARGETS)
    torch.testing.assert_close(found, torch.stack(rows), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", [n for n in METHODS if n not in RANDOM])
def test_rows_stay_with_their_examples_whatever_else_is_in_the_batch(name: str) -> None:
    method = make(name, **METHODS[name])(nets.fill(Plain()))
    x = nets.batch(3)
    together = method.attribute(x, TARGETS)
    for i, target in enumerate(TARGETS):
        torch.testing.assert_close(
            together[i : i + 1], method.attribute(x[i : i + 1], target), rtol=1e-3, atol=1e-6
        )  # other kernels for other batch sizes


# --- targets ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", each("IntegratedGradients", "FeatureAblation", "DeepLift", "KernelShap"))
def test_our_targets_are_captums_method_on_a_wrapped_model(name: str) -> None:
    model, x = nets.fill(Plain()), nets.batch(3)
    method = make(name, **METHODS[name])(model)

    class Wrapped(nn.Module):
        def __init__(self, pick: Any) -> None:
            super().__init__()
            self.model, self.pick = model, pick

        def forward(self, t: Tensor) -> Tensor:
            out: Tensor = self.pick(model(t))
            return out

    with torch.no_grad():
        predicted = model(x).argmax(1).tolist()
    assert torch.equal(method.attribute(x, "predicted"), captums(name, model, x, predicted, METHODS[name]))
    for target, pick in (
        (lambda out: out[:, 1] * 2, lambda out: out[:, 1] * 2),
        (ClassScore(1) - ClassScore(3), lambda out: torch.stack([out[:, 1], -out[:, 3]]).sum(0)),
        (ClassScore(2, "probability"), lambda out: out.softmax(1)[:, 2]),
    ):
        expected = captums(name, Wrapped(pick), x, None, METHODS[name])
        torch.testing.assert_close(method.attribute(x, target), expected, rtol=1e-3, atol=1e-6)


def test_the_strongest_location_of_a_unit_is_decided_once_for_each_example() -> None:
    model, x = nets.fill(Plain()), nets.batch(3)
    with torch.no_grad():
        act = model.conv2(model.relu1(model.conv1(x)))[:, 4].flatten(1)
    places = [divmod(int(p), 6) for p in act.argmax(1)]
    assert len(set(places)) > 1
    method = make("IntegratedGradients", n_steps=5)(model)
    rows = [method.attribute(x[i : i + 1], Neuron("conv2", 4, *place))[0] for i, place in enumerate(places)]
    torch.testing.assert_close(method.attribute(x, Neuron("conv2", 4)), torch.stack(rows), rtol=1e-4, atol=1e-7)


def test_arguments_of_each_example_are_repeated_with_it_and_others_are_not() -> None:
    model, x = nets.fill(nets.TwoInputs()), nets.batch(2)
    y, weight = nets.batch(2, seed=7), torch.tensor([1.0, -2.0])
    method = make("IntegratedGradients", n_steps=5)(model)
    together = method.attribute(x, [1, 4], additional_forward_args=(y, weight))
    for i, target in enumerate((1, 4)):
        one = slice(i, i + 1)
        alone = method.attribute(x[one], target, additional_forward_args=(y[one], weight[one]))
        torch.testing.assert_close(together[one], alone, rtol=1e-4, atol=1e-7)
    shared = method.attribute(x, 1, additional_forward_args=(y, 0.5))
    torch.testing.assert_close(shared, method.attribute(x, 1, additional_forward_args=(y, torch.tensor([0.5, 0.5]))))


def test_two_inputs_give_two_maps() -> None:
    model, x = nets.fill(nets.TwoInputs()), (nets.batch(2), nets.batch(2, seed=7))
    expected = stock.IntegratedGradients(model).attribute(x, target=[1, 4], n_steps=5)
    found = make("IntegratedGradients", n_steps=5)(model).attribute(x, [1, 4])
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def test_lrp_is_given_class_scores_only() -> None:
    method, x = make("LRP")(nets.fill(Plain())), nets.batch(2)
    for target in (ClassScore(1, "probability"), ClassScore(1) - ClassScore(2), "conv2:1"):
        with pytest.raises(TargetError, match="one class score"):
            method.attribute(x, target)


# --- layers ----------------------------------------------------------------------------------------------------------


def test_a_layer_can_be_named_chosen_per_call_and_picked() -> None:
    model, x = nets.fill(Plain()), nets.batch(2)
    method = make("LayerGradientXActivation")
    named = method(model, "conv2").attribute(x, 1)
    assert torch.equal(method(model).attribute(x, 1, "conv2"), named)
    assert torch.equal(method(model).attribute(x, 1, model.conv2), named)
    assert torch.equal(method(model).attribute(x, 1), method(model, "relu2").attribute(x, 1))  # the last spatial one


def test_the_input_of_a_layer_is_an_address() -> None:
    model, x = nets.fill(Plain()), nets.batch(2)
    expected = stock.LayerGradientXActivation(model, model.conv2).attribute(x, 1, attribute_to_layer_input=True)
    assert torch.equal(make("LayerGradientXActivation")(model, "conv2@input").attribute(x, 1), expected)


@pytest.mark.parametrize("layer", ["act1", "act1#0"])
def test_a_layer_that_runs_twice_is_refused(layer: str) -> None:
    with pytest.raises(LayerError, match=r"run once.*'act1' ran 2 times"):
        make("LayerGradCam")(nets.make("one module used twice"), layer).attribute(nets.batch(1), 1)


def test_layers_where_the_method_has_none_are_refused() -> None:
    with pytest.raises(LayerError, match=r"there is no LayerGuidedBackprop; got layer 'conv2'"):
        make("GuidedBackprop")(nets.fill(Plain()), "conv2").attribute(nets.batch(1), 1)
    with pytest.raises(LayerError, match="outputs of layers only"):
        make("LayerFeaturePermutation")(nets.fill(Plain()), "conv2@input").attribute(nets.batch(2), 1)
    with pytest.raises(InputError, match="feature_mask must be left out at a layer; Captum's LayerFeatureAblation"):
        make("FeatureAblation", **MASK)(nets.fill(Plain()), "conv2").attribute(nets.batch(2), 1)


class Boxed(nn.Module):
    """What stands at ``pick`` takes a dictionary, and has no weights, as the pooling of regions in a detector."""

    class Pick(nn.Module):
        def forward(self, maps: dict[str, Tensor]) -> Tensor:
            return maps["low"].repeat_interleave(self.boxes, 0)

        boxes = 1

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.pick, self.fc = nn.Conv2d(3, 4, 3, padding=1), self.Pick(), nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        picked = self.pick({"low": self.conv(x)})
        out: Tensor = self.fc(picked.relu().mean((2, 3))).reshape(len(x), -1, 5).mean(1)
        return out


@pytest.mark.parametrize("name", ["integrated_gradients", "feature_ablation"])
def test_a_layer_whose_input_captum_cannot_read_is_refused_by_name(name: str) -> None:
    with pytest.raises(LayerError, match=r"must take and give Tensors.*at 'pick' it says: 'dict'.*Choose a module"):
        attrib.METHODS[name](nets.fill(Boxed()), "pick").attribute(nets.batch(2), 1)


@pytest.mark.parametrize("name", ["smoothgrad", "vargrad", "gradient_shap"])
def test_a_layer_of_boxes_is_refused_where_samples_are_averaged(name: str) -> None:
    model = nets.fill(Boxed())
    options = {"multiply_by_inputs": False} if name == "gradient_shap" else {}
    assert attrib.METHODS[name](model, "pick", n_samples=2, **options).attribute(nets.batch(2), 1).any()
    model.pick.boxes = 3
    with pytest.raises(LayerError, match=r"one row for each example; 'pick' gives 6 for 2"):
        attrib.METHODS[name](model, "pick", n_samples=2, **options).attribute(nets.batch(2), 1)


AT_LAYERS: dict[str, dict[str, Any]] = {
    "IntegratedGradients": {"n_steps": 5, "baselines": 0.1},
    "GradientShap": {"baselines": two_baselines, "n_samples": 4},
    "DeepLift": {"baselines": 0.1},
    "DeepLiftShap": {"baselines": two_baselines},
    "LRP": {},
    "FeatureAblation": {"perturbations_per_eval": 2},
}


@pytest.mark.parametrize("name", AT_LAYERS)
def test_at_a_layer_an_input_method_is_captums_method_for_layers(name: str) -> None:
    model, x, options = nets.fill(Plain()), nets.batch(3), AT_LAYERS[name]
    expected = captums(f"Layer{name}", model, x, 2, options, model.conv2)
    method = make(name, **options)
    assert torch.equal(method(model, "conv2").attribute(x, 2), expected)
    assert torch.equal(method(model).attribute(x, 2, "conv2"), expected)


@pytest.mark.parametrize("layer", ["conv2", "conv2@input"])
def test_gradients_at_a_layer_are_captums_gradient_x_activation_with_and_without_the_activation(layer: str) -> None:
    model, x, side = nets.fill(Plain()), nets.batch(3), {"attribute_to_layer_input": layer.endswith("@input")}
    for name, times in (("Saliency", False), ("InputXGradient", True)):
        captum = stock.LayerGradientXActivation(model, model.conv2, multiply_by_inputs=times)
        expected = captum.attribute(x, target=TARGETS, **side).detach()
        method = make(name)
        found = method(model, layer, **({} if times else {"abs": False})).attribute(x, TARGETS)
        assert torch.equal(found, expected)
        assert torch.equal(method(model, layer).attribute(x, TARGETS), expected if times else expected.abs())


@pytest.mark.parametrize("layer", ["conv2", "conv2@input", "relu1"])
def test_our_gradient_methods_at_a_layer_are_captums(layer: str) -> None:
    """Captum has no guided backpropagation at layers: there its input method explains the rest of the network."""
    model, x, raw = nets.fill(Plain()), nets.batch(3), {"channels": "none", "absolute": False}
    name, _, side = layer.partition("@")
    for method, times in ((attrib.Saliency, False), (attrib.InputXGradient, True)):
        captum = stock.LayerGradientXActivation(model, model.get_submodule(name), multiply_by_inputs=times)
        expected = captum.attribute(x, target=TARGETS, attribute_to_layer_input=bool(side)).detach()
        assert torch.equal(method(model, layer, **raw).attribute(x, TARGETS), expected)
    below = {"relu1": [model.conv1, model.relu1], "conv2": [model.conv1, model.relu1, model.conv2]}
    lower = below["conv2"] if layer == "conv2" else below["relu1"]
    rest = [model.conv2, model.relu2, model.pool, nn.Flatten(), model.fc]
    upper = nn.Sequential(*[part for part in rest if part not in lower])
    act = nn.Sequential(*lower)(x).detach()
    for ours, theirs in ((attrib.GuidedBackprop, stock.GuidedBackprop), (attrib.Deconvnet, stock.Deconvolution)):
        with quiet():
            expected = theirs(upper).attribute(act.clone(), target=TARGETS).detach()
        torch.testing.assert_close(ours(model, layer, **raw).attribute(x, TARGETS), expected)


class InPlace(Plain):
    """What follows the second convolution, and the second ReLU itself, changes its input."""

    def __init__(self) -> None:
        super().__init__()
        self.relu1, self.relu2 = nn.ReLU(inplace=True), nn.ReLU(inplace=True)


@pytest.mark.parametrize("name", [*LAYER_METHODS, *AT_LAYERS])
@pytest.mark.parametrize("layer", ["conv2", "relu2@input"])
def test_a_layer_is_explained_also_where_what_follows_changes_it_in_place(name: str, layer: str) -> None:
    if layer.endswith("@input") and name in {"GuidedGradCam", "LRP", "LayerLRP"}:
        pytest.skip("needs a rule, or an image, there")
    method = make(name, **(LAYER_METHODS | AT_LAYERS)[name])
    x, target = nets.batch(2), [3, 1]
    expected = method(nets.fill(Plain()), layer).attribute(x, target)
    torch.testing.assert_close(method(nets.fill(InPlace()), layer).attribute(x, target), expected)


def test_a_noise_tunnel_goes_around_a_layers_method_too() -> None:
    model, x, noise = nets.fill(Plain()), nets.batch(2), {"nt_samples": 5, "stdevs": 0.3, "nt_type": "smoothgrad"}
    tunnel = stock.NoiseTunnel(stock.LayerGradientXActivation(model, model.conv2, multiply_by_inputs=False))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        expected = tunnel.attribute(x.clone(), target=1, **noise).detach()
    assert torch.equal(make("Saliency", abs=False, **noise)(model, "conv2").attribute(x, 1), expected)


# --- options ---------------------------------------------------------------------------------------------------------


def test_options_reach_the_constructor_and_the_call_and_can_be_changed() -> None:
    model, x = nets.fill(Plain()), nets.batch(2)
    method = make("IntegratedGradients", multiply_by_inputs=False, n_steps=4, method="riemann_trapezoid")
    captum = stock.IntegratedGradients(model, multiply_by_inputs=False)
    for steps, maps in ((4, method(model)), (9, method(model, n_steps=9))):
        expected = captum.attribute(x, target=1, n_steps=steps, method="riemann_trapezoid")
        assert torch.equal(maps.attribute(x, 1), expected)
    assert method(model).multiplies_by_inputs is False
    assert make("DeepLift")(model).multiplies_by_inputs is True


def test_channels_are_reduced_as_in_our_methods() -> None:
    model, x = nets.fill(Plain()), nets.batch(2)
    method = from_captum(stock.IntegratedGradients, n_steps=4)
    full = method(model, channels="none").attribute(x, 1)
    assert torch.equal(method(model).attribute(x, 1), full.sum(1, keepdim=True))
    assert torch.equal(method(model, channels="max", absolute=True).attribute(x, 1), full.abs().amax(1, keepdim=True))


@pytest.mark.parametrize(
    ("name", "wrong", "message"),
    [
        ("IntegratedGradients", {"n_step": 5}, "no option 'n_step'. Did you mean 'n_steps'"),
        ("Saliency", {"layer": "conv2"}, "no option 'layer'"),
        ("DeepLift", {"return_convergence_delta": True}, "no option 'return_convergence_delta'"),
        ("Lime", {"return_input_shape": False}, "no option 'return_input_shape'"),
    ],
)
def test_unknown_options_are_refused_at_once(name: str, wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(TypeError, match=message):
        make(name, **wrong)


def test_unknown_options_of_the_class_are_refused() -> None:
    with pytest.raises(TypeError, match=r"no option 'n_step'\. Did you mean 'n_steps'"):
        make("IntegratedGradients")(nets.fill(Plain()), n_step=5)


def test_what_captum_needs_must_be_given() -> None:
    with pytest.raises(InputError, match="sliding_window_shapes must be given for Captum's Occlusion"):
        make("Occlusion")(nets.fill(Plain()))


@pytest.mark.parametrize(
    ("baselines", "tensor"),
    [
        ("zero", torch.zeros_like),
        ("mean", lambda x: x.mean((2, 3), keepdim=True).expand_as(x).contiguous()),
        (0.5, lambda x: torch.full_like(x, 0.5)),
        (lambda x: x.flip(3), lambda x: x.flip(3).contiguous()),
        (torch.ones(3, 1, 1), torch.ones_like),
    ],
)
def test_baselines_take_our_forms(baselines: Any, tensor: Any) -> None:
    model, x = nets.fill(Plain()), nets.batch(2)
    expected = stock.IntegratedGradients(model).attribute(x, tensor(x), target=1, n_steps=4)
    found = make("IntegratedGradients", n_steps=4, baselines=baselines)(model).attribute(x, 1)
    torch.testing.assert_close(found, expected)


def test_a_noise_tunnel_goes_around_the_method_when_its_options_are_given() -> None:
    model, x = nets.fill(Plain()), nets.batch(2)
    method = make("IntegratedGradients", n_steps=4, nt_type="vargrad", nt_samples=3, stdevs=0.2, baselines=0.1, seed=7)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        tunnel = stock.NoiseTunnel(stock.IntegratedGradients(model))
        expected = tunnel.attribute(
            x, nt_type="vargrad", nt_samples=3, stdevs=0.2, baselines=0.1, n_steps=4, target=[3, 1]
        )
    torch.testing.assert_close(method(model).attribute(x, [3, 1]), expected, rtol=0, atol=0)
    layer = make("LayerGradCam", nt_samples=2, stdevs=0.0)(model, "conv2").attribute(x, [3, 1])
    torch.testing.assert_close(layer, stock.LayerGradCam(model, model.conv2).attribute(x, [3, 1]).detach())


@pytest.mark.parametrize("name", each(*RANDOM[:5]))
def test_the_seed_decides_and_the_global_state_does_not(name: str) -> None:
    model, x = nets.fill(Plain()), nets.batch(2)
    is_layer = name.startswith("Layer")
    method, layer = make(name, **{**METHODS, **LAYER_METHODS}[name]), "conv2" if is_layer else None
    state = ProcessTrace()
    first = method(model, layer).attribute(x, 1)
    assert state.changes() == []
    torch.rand(5)
    np.random.rand(5)  # noqa: NPY002
    assert torch.equal(method(model, layer).attribute(x, 1), first)
    assert not torch.equal(method(model, layer, seed=1).attribute(x, 1), first)


def test_cost_is_counted_in_examples() -> None:
    model, x = nets.fill(Plain()), nets.batch(3)
    with count() as cost:
        make("IntegratedGradients", n_steps=7)(model).attribute(x, 1)
    assert (cost.forwards, cost.backwards) == (3 + 21, 21)  # the clean pass, and 7 steps
    with count() as cost:
        make("FeatureAblation", **METHODS["FeatureAblation"])(model).attribute(x, 1)
    assert (cost.forwards, cost.backwards) == (3 + 3 + 12, 0)  # the clean pass, Captum's own, and 4 features


# --- nothing is left behind ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["LRP", "LayerLRP", "DeepLift"])
def test_rules_attributes_and_storage_of_the_model_are_as_before(name: str) -> None:
    model = nets.fill(Plain()).train()
    model.conv1.rule = GammaRule()  # which changes weights, and Captum takes it away
    places = [weight.data_ptr() for weight in model.parameters()]
    trace = ModelTrace(model)
    make(name)(model, "conv2" if name == "LayerLRP" else None).attribute(nets.batch(2), 1)
    assert trace.changes() == []
    assert [weight.data_ptr() for weight in model.parameters()] == places


def test_they_are_as_before_also_when_captum_fails() -> None:
    model = nets.fill(Plain())
    model.conv1.rule, model.fc.rule = GammaRule(), "not a rule"
    trace = ModelTrace(model)
    with pytest.raises(ModelError, match="select propagation rules"):
        make("LRP")(model).attribute(nets.batch(2), 1)
    assert trace.changes() == []


def test_captum_itself_leaves_activations_on_modules_and_takes_the_users_rule_away() -> None:
    model = nets.fill(Plain())
    model.conv1.rule = GammaRule()
    with quiet():
        stock.LRP(model).attribute(nets.batch(2), target=1)
    assert "activations" in model.conv1.__dict__
    assert "rule" not in model.conv1.__dict__


# shares random numbers among the examples of a batch, so that one alone gets others
SHARES = {"each example on its own", "order of the batch", "captum can wrap it"}
SAME_FOR_ALL = {"LayerActivation": {"target matters"}}


@pytest.mark.parametrize(
    "name",
    each("IntegratedGradients", "DeepLift", "LRP", "FeatureAblation", "ShapleyValueSampling", "KernelShap",
         "LayerGradientXActivation", "LayerDeepLift", "LayerIntegratedGradients", "LayerActivation"),
)  # fmt: skip
def test_what_comes_out_keeps_our_contract(name: str) -> None:
    method = make(name, **{**METHODS, **LAYER_METHODS}[name])
    checks = check_attribution(method, "conv" if method.needs_layer else None)
    allowed = SAME_FOR_ALL.get(name, SHARES if name == "KernelShap" else set())
    assert {check.name: check.message for check in checks if not check.ok and check.name not in allowed} == {}


# --- the registry, and what is refused -------------------------------------------------------------------------------


def test_the_class_is_registered_under_a_readable_name_of_its_own() -> None:
    method = from_captum(stock.InternalInfluence, n_steps=5)
    assert attrib.METHODS["internal_influence"] is method
    assert method.name == "internal_influence"
    assert method.__name__ == "InternalInfluence"
    preset = attrib.METHODS["kernel_shap"]
    assert from_captum(stock.KernelShap).name == "captum_kernel_shap"
    assert attrib.METHODS["kernel_shap"] is preset
    assert from_captum(stock.IntegratedGradients, name="ig").name == "ig"


def test_taken_names_are_refused() -> None:
    with pytest.raises(RegistryError, match=r"'saliency' is already.*name='my_saliency'"):
        from_captum(stock.Saliency, name="saliency")
    from_captum(stock.DeepLift)
    from_captum(stock.DeepLift, name="another")
    for _ in range(2):
        with pytest.raises(RegistryError, match="'another' is already"):
            from_captum(stock.DeepLift, name="another")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (attrib.Saliency, "method of attrib already"),
        (stock.NeuronGradient, "target='layer:7'"),
        (stock.NoiseTunnel, "nt_samples="),
        (stock.DataLoaderAttribution, "explains something else"),
        (stock.GradientAttribution, "explains something else"),
        (nn.ReLU, "must be a class of captum.attr"),
        ("Saliency", "must be a class of captum.attr"),
    ],
)
def test_what_is_no_input_or_layer_method_is_refused(wrong: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        from_captum(wrong)


def test_methods_that_hook_modules_need_one() -> None:
    forward = nets.fill(Plain()).forward
    make("IntegratedGradients", n_steps=3)(forward).attribute(nets.batch(1), 1)
    with pytest.raises(ModelError, match=r"nn\.Module for Captum's DeepLift"):
        make("DeepLift")(forward)


def test_what_captum_refuses_is_told_on_one_line() -> None:
    model, x = nets.fill(Plain()), nets.batch(2)
    with pytest.raises(InputError, match="must suit Captum's Occlusion; it says: Sliding window"):
        make("Occlusion", sliding_window_shapes=(3, 99, 2))(model).attribute(x, 1)
    with pytest.raises(InputError, match=r"The samples in input and baseline .* \.\.\.$") as told:
        make("GradientShap", baselines=torch.zeros(2, 3, 9, 9))(model).attribute(x, 1)
    assert len(str(told.value)) < 400  # Captum prints both tensors
    with pytest.raises(InputError, match="one for each of 1 inputs; got 2"):
        make("IntegratedGradients", baselines=(0, 1))(model).attribute(x, 1)
    with pytest.raises(ModelError, match=r"Captum's LRP failed: Module of type .*LeakyReLU"):
        make("LRP")(nets.fill(nets.Chain(nn.LeakyReLU(), nn.LeakyReLU()))).attribute(x, 1)


def test_scikit_learn_is_named_when_lime_misses_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(MissingDependency, match="Captum's Lime needs scikit-learn"):
        make("Lime", **METHODS["Lime"])(nets.fill(Plain())).attribute(nets.batch(1), 1)


def test_our_own_errors_come_through_as_they_are() -> None:
    model = nets.fill(Plain())
    method = make("IntegratedGradients", n_steps=3)(model)
    with pytest.raises(TargetError, match=r"\[0, 4\]"):
        method.attribute(nets.batch(1), 7)
    with pytest.raises(ShapeError, match="no empty axis"):
        method.attribute(nets.batch(1)[:0], 1)
    refuses = lambda out: (_ for _ in ()).throw(RuleError("mine"))  # noqa: E731
    with pytest.raises(RuleError, match="mine"):
        method.attribute(nets.batch(1), refuses)
