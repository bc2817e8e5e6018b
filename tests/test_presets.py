"""Captum's methods under plain names: Captum's numbers, what their pages promise, and refusals with reasons."""

from __future__ import annotations

import copy
import inspect
import itertools
import re
import subprocess
import sys
from functools import partial
from math import factorial
from pathlib import Path
from typing import Any

import captum.attr as stock
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from captum._utils.models.linear_model import SkLearnRidge
from captum.attr._utils.lrp_rules import EpsilonRule, GammaRule
from torch import Tensor, nn
from torch.testing import assert_close

from attrib import METHODS, ClassScore, InputXGradient
from attrib.core import count, gaussian_blur, resolve_baseline
from attrib.core.masking.superpixels import superpixels
from attrib.errors import InputError, LayerError, MissingDependency, ModelError, RuleError, ShapeError
from attrib.testing import check_attribution
from attrib.testing.probes import probe_inputs
from tests import nets, realnets
from tests.conventions import PINNED, lines, pins, section
from tests.presets import MODULES_ONLY, PRESETS, QUICK, Modules
from tests.test_docs import SECTIONS as PAGE
from tests.test_dropins import quiet

pytest.importorskip("skimage", reason="superpixels need scikit-image")
pytest.importorskip("sklearn", reason="Captum's LIME needs scikit-learn")
AT_LAYERS = [name for name in PRESETS if METHODS[name].takes_layer]
REGIONS = ("feature_ablation", "kernel_shap", "lime", "shapley_sampling")
NOISY = ("smoothgrad", "smoothgrad_squared", "vargrad")
X = nets.batch(2, 8, 6)
OTHERS = nets.batch(5, 8, 6, seed=9)


def quick(name: str) -> Any:
    return partial(METHODS[name], **QUICK[name])


def four(*x: Tensor) -> Tensor:
    """A mask of four regions: the quarters of the picture."""
    h, w = x[0].shape[2:]
    return (2 * (torch.arange(h) >= h // 2)[:, None] + (torch.arange(w) >= w // 2)[None])[None, None].long()


def of_regions(maps: Tensor) -> Tensor:
    """The values ``(N, 4)`` of the quarters; each must be one value throughout."""
    mask = four(maps)[0, 0]
    parts = [maps[:, 0, mask == r] for r in range(4)]
    assert all(torch.equal(p, p[:, :1].expand_as(p)) for p in parts)
    return torch.stack([p[:, 0] for p in parts], 1)


# --- the contract, and what they are


def test_every_method_here_has_quick_options() -> None:
    assert set(PRESETS) == set(QUICK)


@pytest.mark.parametrize("layer", [None, "stem", "conv"])
@pytest.mark.parametrize("name", PRESETS)
def test_the_contract_is_kept_at_the_input_and_at_layers(name: str, layer: str | None) -> None:
    if layer and name not in AT_LAYERS:
        pytest.skip("explains inputs only")
    if (layer, name) == ("stem", "feature_ablation"):
        pytest.skip("one pass for each location: the smaller layer is enough")
    model = {"model": Modules(), "inputs": probe_inputs()} if name in MODULES_ONLY else {}
    failed = {check.name: check.message for check in check_attribution(quick(name), layer, **model) if not check.ok}
    if name == "lrp":  # a hook that computes is a function for which LRP has no rule
        assert "got functions: 1 mul_" in failed.pop("a model that writes into its input")
    assert failed == {}


@pytest.mark.parametrize("name", PRESETS)
def test_defaults_explain_one_image_and_a_batch_alike(name: str) -> None:
    net = realnets.load("mnist_cnn")
    x, labels = net.batch(2)
    maps = METHODS[name](net.model).attribute(x, labels)
    assert maps.shape == (2, 1, 28, 28)
    assert (maps.flatten(1).std(1) > 0).all()
    alone = METHODS[name](net.model).attribute(x[1:], labels[1:])
    assert (maps[1:] - alone).abs().mean() < 1e-3 * alone.abs().mean()


@pytest.mark.parametrize("name", PRESETS)
def test_a_method_says_what_it_computes_its_conventions_cost_arguments_example_and_source(name: str) -> None:
    text = METHODS[name].__doc__
    titles = ("Convention", "Cost", "Args", "Example", "References")
    parts = [text.index(".. math::"), *(text.index(f"    {title}:") for title in titles)]
    assert parts == sorted(parts)
    missing = {"model", "layer"} - documented(name)
    assert not missing
    assert re.search(r"\b(19|20)\d\d\b", section(name, "References"))
    METHODS[name](Modules(), **{k: v for k, v in QUICK[name].items() if k in documented(name)})  # and is taken
    assert set(QUICK[name]) <= documented(name)


@pytest.mark.parametrize("name", PRESETS)
def test_every_method_has_a_reference_page(name: str) -> None:
    path = Path(__file__).parents[1] / "docs" / "reference" / "methods" / f"{name}.md"
    page = path.read_text(encoding="utf-8")
    assert [section for section in PAGE if f"## {section}\n" not in page] == []
    assert page.partition("\n")[0].endswith(f"(`{name}`)")


def test_every_line_of_every_convention_is_pinned_by_a_test_here() -> None:
    loose = [f"{m}: {line}" for m in PRESETS for line in lines(m)
             if not any(line.startswith(s) for n, s in PINNED if n == m)]  # fmt: skip
    assert loose == []


def test_unknown_options_are_refused_and_captums_own_are_taken() -> None:
    model = nets.make("module")
    with pytest.raises(TypeError, match=r"no option 'n_step'. Did you mean 'n_steps'"):
        METHODS["integrated_gradients"](model, n_step=3)
    with pytest.raises(InputError, match="batch_size must be an integer >= 1; got 0"):
        METHODS["lime"](model, batch_size=0)
    with pytest.raises(InputError, match="n_samples must be an integer >= 2; got 1"):
        METHODS["vargrad"](model, n_samples=1)
    one, other = (METHODS["integrated_gradients"](model, n_steps=3, method=m).attribute(X, 2)
                  for m in ("gausslegendre", "riemann_left"))  # fmt: skip
    assert not torch.allclose(one, other)


# --- every argument changes something


def halves(*x: Tensor) -> Tensor:
    return four(*x) // 2


Values = tuple[Any, Any]
COMMON: dict[str, Values] = {
    "model": (nets.fill(Modules()), nets.fill(Modules(), seed=5)), "channels": ("sum", "none"),
}  # fmt: skip
LAYER: dict[str, Values] = {"layer": (None, "conv")}
BATCHES: dict[str, Values] = {"batch_size": (1, 7)}
SAMPLES: dict[str, Values] = {**BATCHES, "n_samples": (20, 21), "seed": (0, 1)}
NOISE: dict[str, Values] = {**COMMON, **LAYER, **SAMPLES, "noise": (0.1, 0.2)}
REGION: dict[str, Values] = {**COMMON, **BATCHES, "feature_mask": (four, halves), "baselines": ("zero", 1.0)}
SEVERAL: dict[str, Values] = {"baselines": ("zero", ["zero", "blur"])}
EFFECTS: dict[str, dict[str, Values]] = {
    "deeplift": {**COMMON, **LAYER, "baselines": ("zero", 1.0), "tolerance": (0.01, 0.0)},
    "deeplift_shap": {**COMMON, **LAYER, **SEVERAL, "tolerance": (0.01, 0.0)},
    "feature_ablation": {**REGION, **LAYER},
    "gradient_shap": {**COMMON, **LAYER, **SAMPLES, **SEVERAL, "multiply_by_inputs": (True, False)},
    "integrated_gradients": {**COMMON, **LAYER, **BATCHES, "baselines": ("zero", 1.0), "n_steps": (5, 6)},
    "kernel_shap": {**REGION, **SAMPLES, "n_samples": (8, 9)},
    "lime": {**REGION, **SAMPLES, "width": (0.25, 0.1), "alpha": (1.0, 0.0)},
    "lrp": {**COMMON, **LAYER, "gamma": (0.0, 0.25), "epsilon": (1e-9, 0.1)},
    "shapley_sampling": {**REGION, **SAMPLES, "n_samples": (2, 3)},
    "smoothgrad": {**NOISE, "absolute": (False, True)},
    "smoothgrad_squared": NOISE,
    "vargrad": NOISE,
}
# What an argument needs in order to show, and to be quick.
BESIDES: dict[str, dict[str, Any]] = {
    **{name: {"feature_mask": four} for name in REGIONS}, "kernel_shap": {"feature_mask": four, "n_samples": 9},
    "lime": {"feature_mask": four, "n_samples": 20},
    "smoothgrad": {"channels": "sum"},
}  # fmt: skip


def documented(name: str) -> set[str]:
    return set(re.findall(r"^ {4}(\w+):", f"    {section(name, 'Args')}", re.MULTILINE))


@pytest.mark.parametrize("name", PRESETS)
def test_the_table_of_effects_knows_every_argument(name: str) -> None:
    expected = documented(name) - {"options"} - (set() if METHODS[name].takes_layer else {"layer"})
    assert set(EFFECTS[name]) == expected | {"channels"}
    assert set(inspect.signature(METHODS[name]).parameters) <= documented(name)


def watched(name: str, options: dict[str, Any]) -> tuple[list[float], tuple[int, ...], str]:
    """The maps, the rows of each pass, and a refusal."""
    model, rows, refusal = options.pop("model", COMMON["model"][0]), [], ""
    maps = torch.zeros(0)
    handle = model.stem.register_forward_hook(lambda _, args, out: rows.append(len(args[0])))
    try:
        maps = METHODS[name](model, **options).attribute(X, [2, 3])
    except RuleError as error:
        refusal = str(error)
    finally:
        handle.remove()
    return maps.flatten().tolist(), tuple(rows), refusal


@pytest.mark.parametrize(("name", "argument"), [(name, argument) for name in PRESETS for argument in EFFECTS[name]])
def test_every_argument_changes_something(name: str, argument: str) -> None:
    one, other = (watched(name, {**BESIDES.get(name, {}), argument: v}) for v in EFFECTS[name][argument])
    assert (one[2] != other[2]) == (argument == "tolerance")
    if argument in ("batch_size", "n_samples", "n_steps"):
        assert one[1] != other[1]
    if argument == "batch_size":
        assert_close(torch.tensor(one[0]), torch.tensor(other[0]), rtol=1e-4, atol=1e-6)
    elif argument != "tolerance":
        assert one[0] != other[0]


# --- Captum's numbers, on a trained network


class Clone(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.clone()


def apart(model: nn.Module) -> nn.Module:
    """The same network with something between ReLU and max pooling: there Captum's DeepLift is right."""
    model = copy.deepcopy(model)
    for part in list(model.modules()):
        for name, child in part.named_children():
            if isinstance(child, nn.MaxPool2d):
                setattr(part, name, nn.Sequential(Clone(), child))
    return model


def source(sample: int, seed: int = 0) -> np.random.Generator:
    """Where sample ``sample`` is drawn from."""
    return np.random.Generator(np.random.Philox(key=seed, counter=(0, 0, 0, sample)))


def noises(n: int, shape: Any, seed: int = 0) -> Tensor:
    return torch.from_numpy(np.stack([source(k, seed).standard_normal(shape, np.float32) for k in range(n)]))


def theirs(name: str, model: nn.Module, x: Tensor, target: int) -> Tensor:
    """The same question put to Captum itself, for one example, with the options written out, and the points drawn."""
    spread = float(x.max() - x.min())
    background = torch.cat(usual(x))
    regions = {"feature_mask": superpixels(x), "baselines": 0, "perturbations_per_eval": 8}
    tunnel = {"stdevs": 0.15 * spread, "nt_samples": 3, "abs": False}

    def near(_x: Any, _y: Any, z: Tensor, **_: Any) -> float:
        return float(np.exp(-((1 - float(z.double().mean()) ** 0.5) ** 2) / (2 * 0.25**2)))

    calls: dict[str, Any] = {
        "integrated_gradients": (stock.IntegratedGradients(model), {"n_steps": 5, "internal_batch_size": 4}),
        "gradient_shap": (stock.GradientShap(model), {"baselines": background, "n_samples": 5}),
        "deeplift": (stock.DeepLift(model), {}),
        "deeplift_shap": (stock.DeepLiftShap(model), {"baselines": background}),
        "lrp": (stock.LRP(model), {}),
        "feature_ablation": (stock.FeatureAblation(model), regions),
        "shapley_sampling": (stock.ShapleyValueSampling(model), {**regions, "n_samples": 2}),
        "kernel_shap": (stock.KernelShap(model), {**regions, "n_samples": 70}),
        "lime": (stock.Lime(model, SkLearnRidge(alpha=1.0), near), {**regions, "n_samples": 70}),
        "smoothgrad": (stock.NoiseTunnel(stock.Saliency(model)), {**tunnel, "nt_type": "smoothgrad"}),
        "smoothgrad_squared": (stock.NoiseTunnel(stock.Saliency(model)), {**tunnel, "nt_type": "smoothgrad_sq"}),
        "vargrad": (stock.NoiseTunnel(stock.Saliency(model)), {**tunnel, "nt_type": "vargrad"}),
    }
    if name.startswith("deeplift"):
        model = apart(model)
        calls[name] = (type(calls[name][0])(model), calls[name][1])
    if name == "lrp":
        convolutions = [m for m in model.modules() if isinstance(m, nn.Conv2d)]
        for conv in convolutions:
            conv.rule = EpsilonRule() if conv is convolutions[0] else GammaRule(0.25)
    method, options = calls[name]
    with torch.random.fork_rng(devices=[]), quiet(), pytest.MonkeyPatch.context() as patch:
        torch.manual_seed(0)
        if name in NOISY:
            patch.setattr(torch, "normal", lambda _, deviation: deviation * noises(len(deviation), x.shape[1:]))
        if name == "gradient_shap":
            chosen, ways = zip(*[(int(s.integers(3)), s.random()) for s in map(source, range(5))], strict=True)
            patch.setattr(np.random, "choice", lambda *_: np.array(chosen))
            patch.setattr(np.random, "uniform", lambda *_: np.array(ways))
        maps: Tensor = method.attribute(x.clone(), target=target, **options)
    return maps.detach()


@pytest.mark.parametrize("name", PRESETS)
def test_a_trained_network_gets_captums_numbers(name: str) -> None:
    net = realnets.load("mnist_cnn")
    x, labels = net.batch(2)
    found = METHODS[name](net.model, channels="none", **QUICK[name]).attribute(x, labels)
    for row, target in enumerate(labels.tolist()):
        expected = theirs(name, net.model, x[row : row + 1], target)
        expected = expected.abs() if name == "smoothgrad" else expected
        assert_close(found[row : row + 1], expected, rtol=1e-4, atol=1e-6 * float(expected.abs().max()))


@pytest.mark.parametrize("name", ["integrated_gradients", "gradient_shap", "smoothgrad", "feature_ablation", "lime"])
def test_residual_networks_are_explained(name: str) -> None:
    net = realnets.load("resnet20_cifar10")
    x, labels = net.batch(1)
    maps = quick(name)(net.model).attribute(x, labels)
    assert maps.shape == (1, 1, 32, 32)
    assert maps.std() > 0


# --- shapes and units


for _name in PRESETS:
    pins(_name, "map:")(lambda: None)


@pytest.mark.parametrize("name", PRESETS)
def test_convention_map_has_one_channel_at_the_resolution_of_the_input_or_the_layer(name: str) -> None:
    model = Modules()
    assert quick(name)(model).attribute(X, 2).shape == (2, 1, 8, 6)
    if name in AT_LAYERS:
        assert quick(name)(model, "conv").attribute(X, 2).shape == (2, 1, 4, 3)


@pytest.mark.parametrize("name", PRESETS)
def test_convention_map_has_the_unit_that_it_says(name: str) -> None:
    """Scores ten times as large: the map is ten times as large, or a hundred times where it is a square."""
    model, louder = nets.fill(Modules()), nets.fill(Modules())
    with torch.no_grad():
        louder.fc.weight *= 10
        louder.fc.bias *= 10
    one, ten = (quick(name)(m).attribute(X, 2) for m in (model, louder))
    power = 2 if name in ("smoothgrad_squared", "vargrad") else 1
    assert_close(ten, one * 10**power, rtol=1e-3, atol=1e-4 * float(ten.abs().max()))


@pytest.mark.parametrize("name", [n for n in AT_LAYERS if n not in REGIONS])
def test_signed_methods_have_negative_values_and_squares_have_none(name: str) -> None:
    maps = quick(name)(nets.fill(Modules())).attribute(X, 2)
    assert bool((maps < 0).any()) != (name in NOISY)


# --- sums


def difference(model: nn.Module, x: Tensor, target: int, *baselines: Tensor) -> Tensor:
    with torch.no_grad():
        return model(x)[:, target] - torch.stack([model(b.expand_as(x))[:, target] for b in baselines]).mean(0)


def usual(x: Tensor) -> list[Tensor]:
    return [torch.zeros_like(x), x.mean((2, 3), keepdim=True).expand_as(x), gaussian_blur(x)]


@pins("integrated_gradients", "the sum over the map", "the baseline is zero")
@pins("deeplift", "the sum over the map", "the baseline is zero")
@pytest.mark.parametrize("name", ["integrated_gradients", "deeplift"])
def test_convention_contributions_add_up_to_the_difference_from_zero(name: str) -> None:
    model = nets.fill(Modules())
    maps = METHODS[name](model, **({"n_steps": 400} if name == "integrated_gradients" else {})).attribute(X, 2)
    assert_close(maps.sum((1, 2, 3)), difference(model, X, 2, torch.zeros_like(X)), rtol=1e-2, atol=1e-3)
    other = METHODS[name](model, baselines=1.0).attribute(X, 2)
    assert_close(other.sum((1, 2, 3)), difference(model, X, 2, torch.ones_like(X)), rtol=2e-2, atol=2e-2)


@pins("gradient_shap", "the sum over the map", "the baselines are zero")
@pins("deeplift_shap", "the sum over the map", "the baselines are zero")
@pytest.mark.parametrize("name", ["gradient_shap", "deeplift_shap"])
def test_convention_contributions_add_up_to_the_difference_from_the_usual_baselines(name: str) -> None:
    model = nets.fill(Modules())
    options = {"n_samples": 3000, "batch_size": 500} if name == "gradient_shap" else {}
    maps = METHODS[name](model, **options).attribute(X, 2)
    loose = {"rtol": 0.05, "atol": 0.02} if name == "gradient_shap" else {"rtol": 1e-4, "atol": 1e-5}
    assert_close(maps.sum((1, 2, 3)), difference(model, X, 2, *usual(X)), **loose)


GIVEN: dict[str, tuple[Any, Any]] = {
    "a name": ("mean", lambda x: [x.mean((2, 3), keepdim=True)]),
    "a number": (0.5, lambda x: [torch.full_like(x, 0.5)]),
    "colours": (torch.tensor([0.1, 0.2, 0.3])[:, None, None], lambda x: [torch.tensor([0.1, 0.2, 0.3])[:, None, None]]),
    "one image": (OTHERS[:1], lambda _: [OTHERS[:1]]),
    "images": (OTHERS, lambda _: list(OTHERS.split(1))),
    "a function": (lambda x: x.flip(3), lambda x: [x.flip(3)]),
    "a function of several": (lambda x: torch.cat([x.flip(3), x.flip(2)]), lambda x: [x.flip(3), x.flip(2)]),
    "forms": (["zero", 1.0, lambda x: x.flip(3)], lambda x: [torch.zeros_like(x), torch.ones_like(x), x.flip(3)]),
}


@pytest.mark.parametrize("given", GIVEN)
def test_several_baselines_may_be_a_form_or_many_a_batch_of_images_or_a_function(given: str) -> None:
    model, (baselines, meant) = nets.fill(Modules()), GIVEN[given]
    due = torch.cat([difference(model, x, 2, *meant(x)) for x in X.split(1)])
    maps = METHODS["deeplift_shap"](model, baselines=baselines).attribute(X, 2)
    assert_close(maps.sum((1, 2, 3)), due, rtol=1e-4, atol=1e-5)
    maps = METHODS["gradient_shap"](model, baselines=baselines, n_samples=400, batch_size=400).attribute(X, 2)
    assert_close(maps.sum((1, 2, 3)), due, rtol=0.1, atol=0.05)


@pytest.mark.parametrize("name", ["gradient_shap", "deeplift_shap"])
def test_baselines_that_are_none_are_refused_by_name(name: str) -> None:
    for wrong, message in (([], "at least one; got none"), (OTHERS[:, :2], r"\(B, 3, 8, 6\); got \(5, 2, 8, 6\)"),
                           (("zer",), "baseline must be one of"), ("zer", "baseline must be one of"),
                           (lambda x: (x, x), "one Tensor for each of 1 inputs; got 2")):  # fmt: skip
        with pytest.raises(InputError, match=message):
            METHODS[name](nets.fill(Modules()), baselines=wrong).attribute(X, 2)


@pytest.mark.parametrize(("axes", "kinds"), [(0, 1), (1, 2), (3, 2)])
@pytest.mark.parametrize("name", ["gradient_shap", "deeplift_shap"])
def test_the_usual_baselines_are_those_that_the_input_can_have(name: str, axes: int, kinds: int) -> None:
    model = nets.fill(Signals(axes)) if axes else nets.fill(nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 5)))
    x = torch.rand(2, 2, *[6] * axes)
    expected = ["zero", "mean"][:kinds]
    maps, same = (METHODS[name](model, **b).attribute(x, 2) for b in ({}, {"baselines": expected}))
    assert_close(maps, same)


class TwoModules(nets.TwoInputs):
    """Two inputs, and activations that are modules."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = Modules(), Modules()


@pytest.mark.parametrize("name", ["gradient_shap", "deeplift_shap"])
def test_several_inputs_have_baselines_each(name: str) -> None:
    model, x = nets.fill(TwoModules()), (X, X.flip(2))
    maps = METHODS[name](model, baselines=["zero", "mean"]).attribute(x, 2)
    each = METHODS[name](model, baselines=lambda a, b: tuple(torch.cat([0 * t, t.mean((2, 3), keepdim=True) + 0 * t])
                                                           for t in (a, b))).attribute(x, 2)  # fmt: skip
    for one, other in zip(maps, each, strict=True):
        assert_close(one, other)


RANDOM = ("gradient_shap", "kernel_shap", "lime", "shapley_sampling", *NOISY)


@pins("kernel_shap", "an example gets the same")
@pins("lime", "an example gets the same")
@pins("shapley_sampling", "an example gets the same")
@pytest.mark.parametrize("name", RANDOM)
def test_convention_samples_are_those_of_the_seed_alone_and_in_a_batch(name: str) -> None:
    model = nets.make("module")
    both, alone = (quick(name)(model, seed=5).attribute(x, 2) for x in (X, X[1:]))
    assert_close(both[1:], alone)
    assert not torch.allclose(quick(name)(model, seed=6).attribute(X[1:], 2), alone)


# --- memory


@pytest.mark.parametrize("name", [n for n in PRESETS if "batch_size" in QUICK[n]])
def test_no_pass_has_more_rows_than_batch_size(name: str) -> None:
    model, x, rows = nets.make("module"), nets.batch(5, 8, 6), []
    explain = METHODS[name](model, **{**QUICK[name], "batch_size": 2}).attribute
    handle = model.conv1.register_forward_hook(lambda _, args, out: rows.append(len(args[0])))
    explain(x, 2)
    handle.remove()
    assert rows.pop(0) == 5  # the clean run
    assert max(rows) == 2


@pins("gradient_shap", "sample ``k`` follows")
@pins("smoothgrad", "the noise of copy ``k``")
@pytest.mark.parametrize("layer", [None, "conv2"])
@pytest.mark.parametrize("name", [n for n in PRESETS if "batch_size" in QUICK[n]])
def test_convention_the_size_of_batches_changes_nothing(name: str, layer: str | None) -> None:
    if layer and name not in AT_LAYERS:
        pytest.skip("explains inputs only")
    model = nets.make("module")
    maps = [METHODS[name](model, layer, **{**QUICK[name], "batch_size": b}).attribute(X, 2) for b in (1, 2, 7)]
    for other in maps[1:]:
        assert_close(other, maps[0], rtol=1e-4, atol=1e-6)


def test_costs_are_what_they_say() -> None:
    model = nets.make("module")
    with count() as cost:
        METHODS["integrated_gradients"](model, n_steps=20).attribute(X[:1], 2)
    assert (cost.forwards, cost.backwards) == (21, 20)
    with count() as cost:
        METHODS["smoothgrad"](model, n_samples=20).attribute(X[:1], 2)
    assert (cost.forwards, cost.backwards) == (21, 20)
    with count() as cost:
        METHODS["feature_ablation"](model, feature_mask=four).attribute(X[:1], 2)
    assert (cost.forwards, cost.backwards) == (4 + 2, 0)


# --- noise


@pins("smoothgrad", "signed gradients are averaged", "the noise is measured")
@pins("smoothgrad_squared", "it is the square", "noise and seed")
@pins("vargrad", "the variance is", "noise and seed")
def test_convention_smoothgrad_and_its_kin_are_moments_of_the_same_noisy_gradients() -> None:
    model, n, seed = nets.make("module"), 6, 3
    options = {"n_samples": n, "batch_size": n, "noise": 0.2, "seed": seed, "channels": "none"}
    gradients = []
    for x in X.split(1):
        noisy = (x + 0.2 * (x.max() - x.min()) * noises(n, x.shape[1:], seed)).requires_grad_()
        gradients.append(torch.autograd.grad(model(noisy)[:, 2].sum(), noisy)[0])
    g = torch.stack(gradients)
    assert_close(METHODS["smoothgrad"](model, **options).attribute(X, 2), g.mean(1).abs())
    assert_close(METHODS["smoothgrad"](model, **options, absolute=False).attribute(X, 2), g.mean(1))
    square, variance = (METHODS[k](model, **options).attribute(X, 2) for k in ("smoothgrad_squared", "vargrad"))
    assert_close(square, g.square().mean(1))
    assert_close(variance, g.var(1, correction=0), rtol=1e-3, atol=1e-7)
    assert_close(square, g.mean(1).square() + variance, rtol=1e-4, atol=1e-7)


def test_smoothgrad_is_not_the_mean_of_absolute_gradients() -> None:
    model = nets.make("module")
    ours = METHODS["smoothgrad"](model, noise=1.0, channels="none").attribute(X, 2)
    tunnel = stock.NoiseTunnel(stock.Saliency(model))
    with torch.random.fork_rng(devices=[]), quiet():
        torch.manual_seed(0)
        absolute = tunnel.attribute(X[:1].clone(), target=2, stdevs=float(X[0].max() - X[0].min()), nt_samples=50)
    assert ours[0].mean() < 0.9 * absolute.mean()


@pins("vargrad", "zero where the score is linear")
def test_convention_vargrad_of_a_linear_model_is_zero() -> None:
    model = nets.fill(nets.Linear())
    assert METHODS["vargrad"](model).attribute(X, 2).max() < 1e-6 * model.weight(2).square().max()
    assert_close(METHODS["smoothgrad"](model, channels="none", absolute=False).attribute(X, 2)[0], model.weight(2))


@pytest.mark.parametrize("name", NOISY)
def test_without_noise_the_gradient_remains(name: str) -> None:
    model = nets.make("module")
    maps = METHODS[name](model, noise=0.0, n_samples=2, channels="none").attribute(X, 2)
    x = X.clone().requires_grad_()
    gradient = torch.autograd.grad(model(x)[:, 2].sum(), x)[0]
    expected = {"smoothgrad": gradient.abs(), "smoothgrad_squared": gradient.square(), "vargrad": 0 * gradient}[name]
    assert_close(maps, expected)


# --- regions


for _name in REGIONS:
    pins(_name, "regions are superpixels")(lambda: None)


@pytest.mark.parametrize("name", REGIONS)
def test_convention_regions_are_superpixels_and_what_is_hidden_is_zero(name: str) -> None:
    model = nets.make("module")
    default = quick(name)(model).attribute(X, 2)
    assert torch.equal(quick(name)(model, feature_mask=superpixels, baselines=0.0).attribute(X, 2), default)
    assert not torch.equal(quick(name)(model, baselines=1.0).attribute(X, 2), default)
    assert not torch.equal(quick(name)(model, feature_mask=partial(superpixels, n=9)).attribute(X, 2), default)
    rows = [quick(name)(model, feature_mask=superpixels(x)).attribute(x, 2) for x in X.split(1)]
    assert_close(torch.cat(rows), default)
    assert_close(quick(name)(model, feature_mask=superpixels(X)).attribute(X, 2), default)  # one mask for each example


@pytest.mark.parametrize("name", REGIONS)
def test_regions_of_a_linear_model_get_what_they_contribute(name: str) -> None:
    model = nets.fill(nets.Linear())
    options = {"alpha": 0.0} if name == "lime" else {}
    maps = METHODS[name](model, feature_mask=four, baselines=0.5, **options).attribute(X, 2)
    each = ((X - 0.5) * model.weight(2)).sum(1)
    expected = torch.stack([each[:, four(X)[0, 0] == r].sum(1) for r in range(4)], 1)
    assert_close(of_regions(maps), expected, rtol=1e-3, atol=1e-4)


def shapley(model: nn.Module, x: Tensor, target: int) -> Tensor:
    """Shapley values of the quarters, from all subsets."""
    mask = four(x)[0, 0]

    def score(shown: tuple[int, ...]) -> Tensor:
        keep = sum(((mask == r).float() for r in shown), torch.zeros(mask.shape))
        with torch.no_grad():
            return model(x * keep)[:, target]

    values = []
    for region in range(4):
        rest = [r for r in range(4) if r != region]
        total = torch.zeros(len(x))
        for size in range(4):
            weight = factorial(size) * factorial(3 - size) / factorial(4)
            for shown in itertools.combinations(rest, size):
                total += weight * (score((*shown, region)) - score(shown))
        values.append(total)
    return torch.stack(values, 1)


@pytest.mark.parametrize("name", ["kernel_shap", "shapley_sampling"])
def test_shapley_values_are_those_of_all_subsets(name: str) -> None:
    model = nets.make("module")
    options = {"n_samples": 3000 if name == "kernel_shap" else 750, "batch_size": 250}
    found = of_regions(METHODS[name](model, feature_mask=four, **options).attribute(X, 2))
    exact = shapley(model, X, 2)
    assert (found - exact).abs().max() < 0.1 * exact.abs().max()
    others = of_regions(METHODS["feature_ablation"](model, feature_mask=four).attribute(X, 2))
    assert (others - exact).abs().max() > 0.3 * exact.abs().max()  # what a wrong weighting would look like


@pins("kernel_shap", "the values of the regions add up")
@pins("shapley_sampling", "the values of the regions add up")
@pytest.mark.parametrize("name", ["kernel_shap", "shapley_sampling"])
def test_convention_shapley_values_add_up_for_any_number_of_samples(name: str) -> None:
    model = nets.make("module")
    for n in (15, 40):
        found = of_regions(METHODS[name](model, feature_mask=four, n_samples=n).attribute(X, 2))
        assert_close(found.sum(1), difference(model, X, 2, torch.zeros_like(X)), rtol=1e-3, atol=1e-4)


class Swapped(nn.Module):
    def __init__(self, order: tuple[int, ...]) -> None:
        super().__init__()
        self.order = order

    def forward(self, x: Tensor) -> Tensor:
        return x.permute(self.order)


def test_feature_ablation_puts_the_mean_of_each_channel_wherever_a_layer_has_them() -> None:
    parts = [Swapped((0, 2, 3, 1)), nn.Linear(3, 4), nn.LayerNorm(4), Swapped((0, 3, 1, 2)), nn.Flatten()]
    model = nets.fill(nn.Sequential(*parts, nn.Linear(192, 5)))
    maps = METHODS["feature_ablation"](model, "2", baselines="mean").attribute(X[:1], 2)
    with torch.no_grad():
        act = model[:3](X[:1])
        hidden = act.clone()
        hidden[:, 3, 1] = act.mean((1, 2))
        assert_close(maps[0, 0, 3, 1], (model[3:](act) - model[3:](hidden))[0, 2])


@pins("feature_ablation", "at a layer")
def test_convention_feature_ablation_hides_locations_of_a_layer() -> None:
    model = nets.make("module")
    maps = METHODS["feature_ablation"](model, "pool", baselines=0.25).attribute(X, 2)
    assert maps.shape == (2, 1, 4, 3)
    with torch.no_grad():
        act = model.pool(model.act1(model.conv1(X)))

        def head(a: Tensor) -> Tensor:
            return model.fc(model.act2(model.conv2(a)).mean((2, 3)))[:, 2]

        for i, j in itertools.product(range(4), range(3)):
            hidden = act.clone()
            hidden[:, :, i, j] = 0.25
            assert_close(maps[:, 0, i, j], head(act) - head(hidden), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", ["kernel_shap", "lime", "shapley_sampling"])
def test_methods_that_captum_has_for_inputs_only_refuse_layers(name: str) -> None:
    with pytest.raises(LayerError, match="explains the inputs only; got layer 'conv2'"):
        METHODS[name](nets.make("module"), "conv2")


def lime(model: nn.Module, x: Tensor, target: int, z: Tensor, width: float, alpha: float) -> Tensor:
    """Weighted ridge regression with a free constant, by its normal equations."""
    mask = four(x)[0, 0]
    with torch.no_grad():
        scores = torch.stack([model(x * row[mask])[0, target] for row in z.float()]).double()
    near = torch.exp(-((1 - z.double().mean(1).sqrt()) ** 2) / (2 * width**2))
    design = torch.cat([z.double(), torch.ones(len(z), 1, dtype=torch.float64)], 1)
    penalty = alpha * torch.diag(torch.tensor([1.0, 1, 1, 1, 0], dtype=torch.float64))
    return torch.linalg.solve(design.mT @ (near[:, None] * design) + penalty, design.mT @ (near * scores))[:4]


@pins("lime", "the linear model is a ridge", "nearness is measured")
@pytest.mark.parametrize(("width", "alpha"), [(0.25, 1.0), (0.1, 0.0)])
def test_convention_lime_is_a_ridge_regression_on_what_is_hidden(width: float, alpha: float) -> None:
    model, x = nets.make("module"), X[:1]
    seen: list[Tensor] = []
    handle = model.conv1.register_forward_hook(lambda _, args, out: seen.extend(args[0]))
    maps = METHODS["lime"](model, feature_mask=four, n_samples=40, width=width, alpha=alpha).attribute(x, 2)
    handle.remove()
    shown = torch.stack([one != 0 for one in seen[-40:]])[:, 0]  # the last passes are the samples
    z = torch.stack([shown[:, four(x)[0, 0] == r].all(1) for r in range(4)], 1)
    assert z.float().mean() not in (0, 1)
    assert_close(of_regions(maps)[0].double(), lime(model, x, 2, z, width, alpha), rtol=1e-3, atol=1e-5)


def test_captums_lasso_hides_small_scores_and_ridge_does_not() -> None:
    """The reason for ridge: Captum's default knows no scale, and gives zeros where scores are small."""
    model, x = nets.make("module"), X[:1]
    stock_lime = stock.Lime(lambda t: 1e-3 * model(t))
    torch.manual_seed(0)
    with quiet():
        assert not stock_lime.attribute(x, target=2, feature_mask=four(x), n_samples=40).any()
    assert METHODS["lime"](model, feature_mask=four).attribute(x, ClassScore(2) * 1e-3).any()


@pytest.mark.parametrize("name", REGIONS)
def test_a_picture_without_edges_gets_regions_all_the_same(name: str) -> None:
    flat = torch.full((1, 3, 8, 6), 0.7)
    assert quick(name)(nets.make("module")).attribute(flat, 2).isfinite().all()


@pytest.mark.parametrize("name", ["kernel_shap", "lime"])
def test_fewer_samples_than_regions_are_told_once(name: str) -> None:
    model = nets.make("module")
    with pytest.warns(UserWarning, match=r"has n_samples=4 for 4 regions, too few to tell them apart") as told:
        METHODS[name](model, feature_mask=four, n_samples=4).attribute(X, 2)
    assert len(told) == 1
    METHODS[name](model, feature_mask=four, n_samples=5).attribute(X, 2)  # and no word of five
    with pytest.warns(UserWarning, match=r"n_samples=1 for 48 regions"):
        METHODS[name](model, feature_mask=torch.arange(48).reshape(1, 1, 8, 6), n_samples=1).attribute(X, 2)


class Signals(nn.Module):
    """Signals or volumes, by one or three axes of locations."""

    def __init__(self, axes: int) -> None:
        super().__init__()
        convolution = nn.Conv1d if axes == 1 else nn.Conv3d
        self.conv, self.relu, self.fc = convolution(2, 4, 3, padding=1), nn.ReLU(), nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.fc(self.relu(self.conv(x)).flatten(2).mean(2))
        return out


@pytest.mark.parametrize("axes", [1, 3])
@pytest.mark.parametrize("name", REGIONS)
def test_signals_and_volumes_need_regions_and_are_told_how_to_give_them(name: str, axes: int) -> None:
    model, x = nets.fill(Signals(axes)), torch.rand(2, 2, *[6] * axes)
    for mask in ({}, {"feature_mask": partial(superpixels, n=9)}):
        with pytest.raises(InputError, match=r"feature_mask must be given.*got \(2, 2, 6.*Pass integer labels"):
            METHODS[name](model, **mask).attribute(x, 2)
    halves = (torch.arange(6) >= 3).long().expand(1, 1, *[6] * axes)
    assert METHODS[name](model, feature_mask=halves).attribute(x, 2).flatten(1).unique(dim=1).shape == (2, 2)


@pytest.mark.parametrize("name", REGIONS)
def test_several_inputs_need_regions_for_each(name: str) -> None:
    model, x = nets.fill(nets.TwoInputs()), (X, X.flip(2))
    with pytest.raises(InputError, match=r"feature_mask must be given.*got \(2, 3, 8, 6\), \(2, 3, 8, 6\)"):
        METHODS[name](model).attribute(x, 2)
    with pytest.raises(InputError, match=r"feature_mask must be one Tensor for each of 2 inputs; got Tensor"):
        METHODS[name](model, feature_mask=four(X)).attribute(x, 2)
    maps = METHODS[name](model, feature_mask=lambda a, b: (four(a), four(b) + 4)).attribute(x, 2)
    assert [len(m[0].unique()) for m in maps] == [4, 4]


def test_without_scikit_image_nothing_is_used_in_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "skimage.segmentation", None)
    with pytest.raises(MissingDependency, match=r"superpixels needs? skimage.*pip install 'attrib\[analysis\]'"):
        METHODS["lime"](nets.make("module")).attribute(X, 2)
    assert METHODS["feature_ablation"](nets.make("module"), feature_mask=four).attribute(X, 2).any()


def test_without_scikit_learn_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(MissingDependency, match=r"scikit-learn: pip install 'attrib\[analysis\]'"):
        METHODS["kernel_shap"](nets.make("module")).attribute(X, 2)


# --- DeepLIFT


class Net(nn.Module):
    """Convolution, activation, pooling, activation again."""

    def __init__(self, one: Any, two: Any, pool: nn.Module | None = None) -> None:
        super().__init__()
        self.conv1, self.conv2, self.fc = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 6, 3, padding=1), nn.Linear(6, 5)
        self.one, self.two, self.pool = one, two, pool or nn.MaxPool2d(2)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.fc(self.two(self.conv2(self.pool(self.one(self.conv1(x))))).mean((2, 3)))
        return out


SHARED = nn.ReLU()


@pins("deeplift", "an activation module that runs twice")
@pytest.mark.parametrize("name", ["deeplift", "deeplift_shap"])
@pytest.mark.parametrize("layer", [None, "conv2"])
def test_convention_a_reused_activation_is_refused_by_name(name: str, layer: str | None) -> None:
    with pytest.raises(RuleError, match=r"must run once for Captum's DeepLift; 'one' ran 2 times.*module of its own"):
        METHODS[name](nets.fill(Net(SHARED, SHARED)), layer).attribute(X, 2)


BREAKS: dict[str, Any] = {
    "a functional ReLU": lambda: Net(nn.ReLU(), F.relu, nn.AvgPool2d(2)),
    "a smooth activation": lambda: Net(nn.SiLU(), nn.ReLU(), nn.AvgPool2d(2)),
    "pooling windows that overlap": lambda: Net(nn.Identity(), nn.ReLU(), nn.MaxPool2d(3, 1)),
}


@pytest.mark.parametrize("name", ["deeplift", "deeplift_shap"])
@pytest.mark.parametrize("net", BREAKS)
def test_contributions_that_do_not_add_up_are_an_error_though_captum_gives_them(name: str, net: str) -> None:
    model = nets.fill(BREAKS[net]())
    for layer in (None, "conv1"):
        with pytest.raises(RuleError, match=r"must add up.*for example \d\. Its rules reach modules of ReLU"):
            METHODS[name](model, layer).attribute(X, 2)
    taken = METHODS[name](model, tolerance=None, channels="none").attribute(X[:1], 2)
    baselines = {} if name == "deeplift" else {"baselines": torch.cat(usual(X[:1]))}
    with quiet():
        captum = getattr(stock, "DeepLift" if name == "deeplift" else "DeepLiftShap")(model)
        assert_close(taken, captum.attribute(X[:1].clone(), target=2, **baselines).detach())


@pytest.mark.parametrize("name", ["deeplift", "deeplift_shap"])
def test_tolerance_is_the_share_of_the_difference_that_may_be_missing(name: str) -> None:
    model, baseline = nets.fill(BREAKS["a functional ReLU"]()), torch.ones_like(X[:1])
    options = {"baselines": 1.0, "channels": "none"}
    due = difference(model, X[:1], 2, baseline)
    off = float((METHODS[name](model, tolerance=None, **options).attribute(X[:1], 2).sum() - due).abs() / due.abs())
    assert off > 0.01
    METHODS[name](model, tolerance=1.01 * off, **options).attribute(X[:1], 2)
    with pytest.raises(RuleError, match="must add up"):
        METHODS[name](model, tolerance=0.99 * off, **options).attribute(X[:1], 2)


def test_a_miss_where_scores_hardly_differ_is_told_with_what_is_allowed() -> None:
    """A score that the baseline has too: what may be missing is a share of what cancels, which is more than 1% of 0."""
    model, x = nets.fill(BREAKS["a functional ReLU"]()), X[:1]
    with torch.no_grad():  # the difference is made nil by an input of its own, which no rule concerns
        gap = (model(x) - model(torch.zeros_like(x)))[:, 2]

    class Level(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, t: Tensor) -> Tensor:
            out: Tensor = self.model(t) - gap * t[:, 0, 0, :1] / x[:, 0, 0, :1]
            return out

    with pytest.raises(RuleError, match=r"difference of scores, -?\d\S*, give or take \d\.?\d*e-\d+; Captum's") as told:
        METHODS["deeplift"](Level()).attribute(x, 2)
    assert "take 0" not in str(told.value)


@pytest.mark.parametrize("name", ["deeplift", "deeplift_shap"])
def test_maps_of_zeros_are_warned_of(name: str) -> None:
    """An untrained head adds up to zero, whatever the rules reach."""
    model = nets.fill(BREAKS["a smooth activation"]())
    nn.init.zeros_(model.fc.weight)
    with pytest.warns(UserWarning, match=r"map is zero.*for examples \[0, 1\]\. Is the head untrained") as told:
        assert not METHODS[name](model).attribute(X, 2).any()
    assert len(told) == 1


@pytest.mark.parametrize("baseline", ["mean", "blur", 1.0])
def test_relu_that_feeds_max_pooling_is_right_here_though_captum_loses_the_rule_of_the_pooling(baseline: Any) -> None:
    model = nets.fill(Modules())
    filled = resolve_baseline(baseline, X).expand_as(X).contiguous()
    due = difference(model, X, 2, filled)
    ours = METHODS["deeplift"](model, baselines=baseline, channels="none", tolerance=1e-3).attribute(X, 2)
    with quiet():
        captum, right = (
            stock.DeepLift(m).attribute(X.clone(), filled, target=2).detach() for m in (model, apart(model))
        )
    assert_close(ours, right, rtol=1e-4, atol=1e-6)
    assert_close(ours.sum((1, 2, 3)), due, rtol=1e-4, atol=1e-6)
    assert ((captum.sum((1, 2, 3)) - due).abs() > 0.02 * due.abs()).all()


class Biased(nn.Module):
    """An activation of weights alone, as in the position biases of Swin v2: shape (1, 4), whatever the batch."""

    def __init__(self, biased: bool) -> None:
        super().__init__()
        self.conv, self.relu, self.fc, self.bend = nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Linear(4, 5), nn.ReLU()
        self.places = nn.Parameter(torch.ones(1, 4))
        self.biased = biased

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.fc(self.relu(self.conv(x)).mean((2, 3)) + (self.bend(self.places) if self.biased else 0))
        return scores


@pytest.mark.parametrize("name", ["deeplift", "deeplift_shap"])
def test_activations_that_no_input_reaches_change_nothing(name: str) -> None:
    with_bias, without = (nets.fill(Biased(biased)) for biased in (True, False))
    maps = [METHODS[name](model).attribute(X, 2) for model in (with_bias, without)]
    assert maps[0].any()
    assert_close(*maps)


class TwoWays(nn.Module):
    """A second way leads past ``conv``."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.conv, self.relu, self.fc = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1), nn.ReLU(), nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        out: Tensor = self.fc(self.relu(self.conv(x) + x).mean((2, 3)))
        return out


def test_a_layer_past_which_other_ways_lead_is_explained() -> None:
    model = nets.fill(TwoWays())
    maps = METHODS["deeplift"](model, "conv", channels="none").attribute(X, 2)
    with quiet():
        assert_close(maps, stock.LayerDeepLift(model, model.conv).attribute(X.clone(), target=2).detach())


@pins("deeplift", "the rule is Rescale")
def test_convention_the_rule_of_deeplift_is_rescale() -> None:
    """One ReLU with an input on each side of its kink: Rescale splits the difference in proportion."""
    model = nn.Sequential(nn.Linear(2, 1), nn.ReLU())
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[1.0, -3.0]]))
        model[0].bias.zero_()
    # 2 - 3 * 1 = -1 against 0: nothing changes, so Rescale gives nothing; RevealCancel would give +-1.
    assert_close(METHODS["deeplift"](model, tolerance=None).attribute(torch.tensor([[2.0, 1.0]])), torch.zeros(1, 2))
    found = METHODS["deeplift"](model).attribute(torch.tensor([[5.0, 1.0]]))
    assert_close(found, torch.tensor([[5.0, -3.0]]))


def test_probabilities_are_not_checked_and_contrasts_are() -> None:
    model = nets.fill(Net(nn.ReLU(), F.relu))
    assert METHODS["deeplift"](model).attribute(X, ClassScore(2, "probability")).any()
    with pytest.raises(RuleError, match="must add up"):
        METHODS["deeplift"](model).attribute(X, ClassScore(2) - ClassScore(1))


# --- LRP


@pins("lrp", "with ``gamma=0``")
def test_convention_lrp_without_gamma_is_input_x_gradient_on_a_relu_network() -> None:
    net = realnets.load("mnist_cnn")
    x, labels = net.batch(2)
    plain = METHODS["lrp"](net.model, gamma=0.0).attribute(x, labels)
    product = InputXGradient(net.model).attribute(x, labels)
    assert_close(plain, product, rtol=1e-3, atol=1e-4 * float(product.abs().max()))
    assert not torch.allclose(METHODS["lrp"](net.model).attribute(x, labels), plain, rtol=0.1)


@pins("lrp", "the rule of convolutions", "biases take relevance away")
def test_convention_lrp_splits_by_positive_weights_in_all_convolutions_but_the_first() -> None:
    """Two convolutions and a linear layer by hand, on one pixel."""
    model = nn.Sequential(nn.Conv2d(2, 2, 1), nn.ReLU(), nn.Conv2d(2, 2, 1), nn.ReLU(), nn.Flatten(), nn.Linear(2, 1))
    source = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for weight in model.parameters():
            weight.copy_(torch.rand(weight.shape, generator=source) - 0.2)
    x = torch.tensor([1.0, 2.0]).reshape(1, 2, 1, 1)

    def share(a: Tensor, layer: Any, relevance: Tensor, gamma: float) -> Tensor:
        w = layer.weight.detach().flatten(1)
        w = w + gamma * w.clamp(min=0)
        return ((a * w) / (a * w).sum(1, keepdim=True).add(layer.bias.detach()[:, None]) * relevance[:, None]).sum(0)

    with torch.no_grad():
        first = model[1](model[0](x)).flatten()
        second = model[3](model[2](first.reshape(1, 2, 1, 1))).flatten()
        score = model(x).flatten()
    gamma = 0.5
    relevance = share(second, model[5], score, 0.0)
    relevance = share(first, model[2], relevance, gamma)
    relevance = share(x.flatten(), model[0], relevance, 0.0)
    found = METHODS["lrp"](model, gamma=gamma, channels="none").attribute(x, 0).flatten()
    assert_close(found, relevance, rtol=1e-4, atol=1e-6)
    assert abs(float(found.sum() - score)) > 0.05


class Backwards(nn.Module):
    """The convolution that is defined first runs second."""

    def __init__(self) -> None:
        super().__init__()
        self.second, self.first = nn.Conv2d(4, 6, 3), nn.Conv2d(3, 4, 3)
        self.one, self.two, self.flat, self.fc = nn.ReLU(), nn.ReLU(), nn.Flatten(), nn.Linear(48, 5)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.fc(self.flat(self.two(self.second(self.one(self.first(x))))))
        return out


def test_the_first_convolution_of_lrp_is_the_one_that_runs_first() -> None:
    model = nets.fill(Backwards())
    inner = [model.first, model.one, model.second, model.two, model.flat, model.fc]
    assert_close(METHODS["lrp"](model).attribute(X, 2), METHODS["lrp"](nn.Sequential(*inner)).attribute(X, 2))


@pins("lrp", "a module's own")
def test_convention_a_rule_of_the_users_goes_before_ours_and_stays() -> None:
    model = nets.fill(Modules())
    chosen = model.conv.rule = GammaRule(5.0)
    one = METHODS["lrp"](model).attribute(X, 2)
    assert model.conv.rule is chosen
    del model.conv.rule
    assert not torch.allclose(METHODS["lrp"](model).attribute(X, 2), one)
    assert not any(hasattr(m, "rule") for m in model.modules())


class Sum(Net):
    def forward(self, x: Tensor) -> Tensor:
        x = self.one(self.conv1(x))
        out: Tensor = self.fc((x + x.flip(3)).mean((2, 3)).repeat(1, 2)[:, :6])
        return out


@pins("lrp", "a module without a rule")
@pytest.mark.parametrize(
    ("model", "message"),
    [
        (lambda: Net(nn.ReLU(), nn.GELU()), r"must have a rule for LRP; GELU at 'two' has none\. Set its attribute"),
        (lambda: Net(nn.ReLU(), nn.ReLU()), r"must be a module for LRP.*got functions: 1 mean\. Make them modules"),
        (lambda: Sum(nn.ReLU(), nn.ReLU()), r"got functions: 1 add, 1 flip, 1 mean, 1 repeat\. .*Addition_Module"),
        (lambda: nn.Sequential(c := nn.Conv2d(3, 3, 1), nn.ReLU(), c, nn.Flatten()), r"run once.*; '0' ran 2 times"),
    ],
)
def test_convention_lrp_refuses_what_has_no_rule_by_name(model: Any, message: str) -> None:
    with pytest.raises(RuleError, match=message):
        METHODS["lrp"](nets.fill(model())).attribute(X, 2)


@pytest.mark.parametrize("layer", ["relu", "relu2", "norm@input"])
def test_lrp_explains_layers_that_have_a_rule(layer: str) -> None:
    model = nets.fill(Modules())
    if layer == "norm@input":
        before, after = (METHODS["lrp"](model, at, channels="none").attribute(X, 2) for at in ("stem", layer))
        assert_close(before, after, rtol=1e-4, atol=1e-6)
        return
    with pytest.raises(LayerError, match=rf"one module with a rule for LRP.*'{layer}' is ReLU\. Name the convolution"):
        METHODS["lrp"](model, layer).attribute(X, 2)


def test_lrp_leaves_graphs_of_the_users_usable() -> None:
    model = nets.fill(Modules()).requires_grad_()
    score = model(X)[:, 2].sum()
    METHODS["lrp"](model).attribute(X, 2)
    score.backward()
    assert model.conv.weight.grad.any()


def test_a_rule_given_to_an_unknown_module_makes_lrp_work() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.GELU(), nn.Flatten(), nn.Linear(96, 5))
    model[1].rule = EpsilonRule()
    assert METHODS["lrp"](nets.fill(model)).attribute(X, 2).any()


def test_methods_that_hang_rules_on_modules_need_a_module() -> None:
    for name in MODULES_ONLY:
        with pytest.raises(ModelError, match=r"must be an nn\.Module"):
            METHODS[name](lambda x: x.sum((2, 3)))


# --- superpixels


def test_superpixels_number_regions_from_zero_without_gaps_for_each_example() -> None:
    x = torch.cat([nets.batch(2, 24, 32), torch.zeros(1, 3, 24, 32)])
    labels = superpixels(x, n=12)
    assert labels.shape == (3, 1, 24, 32)
    assert labels.dtype == torch.int64
    for one in labels:
        assert one.unique().tolist() == list(range(int(one.max()) + 1))
        assert 6 <= int(one.max()) + 1 <= 24  # of noise, too


def test_superpixels_follow_edges() -> None:
    x = torch.zeros(1, 3, 30, 40)
    x[:, 0, :, 17:], x[:, 2, 11:] = 1.0, -2.0
    labels = superpixels(x, n=20)[0, 0]
    for region in range(int(labels.max()) + 1):
        colours = x[0, :, labels == region]
        assert torch.equal(colours, colours[:, :1].expand_as(colours))


@pytest.mark.parametrize("channels", [1, 3, 5])
def test_superpixels_take_any_channels_and_any_scale_and_are_the_same_each_time(channels: int) -> None:
    x = F.avg_pool2d(nets.batch(1, 40, 40, channels), 9, 1)
    labels = superpixels(x, n=10)
    assert torch.equal(superpixels(x, n=10), labels)
    assert torch.equal(superpixels(x.double() * 4 - 8, n=10), labels)
    assert torch.equal(superpixels(torch.cat([x.flip(2), x]), n=10)[1:], labels)


def test_compactness_makes_rectangles_and_n_their_number() -> None:
    x = nets.batch(1, 32, 32)
    labels = superpixels(x, n=16, compactness=1e4)[0, 0]
    boxes = [(labels == r).nonzero() for r in range(16)]
    assert [len(box) for box in boxes] == [int((box.amax(0) - box.amin(0) + 1).prod()) for box in boxes]
    assert int(labels.max()) == 15
    assert not torch.equal(superpixels(x, n=16)[0, 0], labels)


def test_superpixels_of_what_is_no_image_are_refused() -> None:
    with pytest.raises(ShapeError, match=r"x must have shape \(N, C, H, W\); got \(3, 8, 6\)"):
        superpixels(X[0])
    for wrong in ({"n": 0}, {"compactness": 0.0}):
        with pytest.raises(InputError):
            superpixels(X, **wrong)


def test_importing_the_presets_loads_no_optional_package() -> None:
    code = "import sys, attrib.interop.presets; print({'skimage', 'sklearn'} & set(sys.modules))"
    here = Path(__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=here, check=False)
    assert done.stdout.strip() == "set()", done.stderr
