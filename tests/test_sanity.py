"""Sanity: randomised models, other classes, shifted inputs, sums; that each exposes what it is meant to."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.testing import assert_close

from attrib import (
    CAM,
    METHODS,
    Attribution,
    ClassScore,
    EigenCAM,
    GradCAM,
    GuidedBackprop,
    InputXGradient,
    Occlusion,
    Predicted,
    Saliency,
    compare,
)
from attrib.benchmark.controls import CentreGaussian, EdgeMagnitude, RandomMap
from attrib.core import Query, count
from attrib.errors import InputError, ModelError, TargetError
from attrib.metrics import Protocol, randomisation_curve
from attrib.metrics.again import Again
from attrib.metrics.input_shift import shifted
from attrib.metrics.weights import copy_of, renew, weighted_layers
from attrib.registry import METRICS
from attrib.study import Study
from tests import nets, realnets, transformers
from tests.oracles import again as oracle
from tests.tiny import FEW, Constant

NAMES = ["model_randomisation", "random_logit", "input_shift", "completeness"]
NET, X, TARGETS = nets.make("module"), nets.batch(3), [1, 4, 2]


def score(name: str, method: Attribution, x: Tensor = X, target: object = None, **made: Any) -> Tensor:
    target = TARGETS if target is None else target
    maps = method.attribute(x, target)
    found: Tensor = METRICS[name](**made).score(method.model, x, target, maps, method=method)
    return found


def plain(values: Tensor) -> list[float]:
    found: list[float] = values.flatten().double().tolist()
    return found


def state(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


# --- which layers there are


def test_layers_come_in_the_order_in_which_their_weights_are_used() -> None:
    class Backwards(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.last = nn.Linear(4, 5)
            self.unused = nn.Linear(4, 5)
            self.scale = nn.Parameter(torch.ones(1))
            self.functional = nn.Conv2d(4, 4, 1)
            self.first = nn.Conv2d(3, 4, 3)
            self.again = self.first

        def forward(self, x: Tensor) -> Tensor:
            x = F.relu(self.first(x))
            x = F.conv2d(x, self.functional.weight) * self.scale
            out: Tensor = self.last(x.mean((2, 3)))
            return out

    assert weighted_layers(Backwards(), X[:1], ()) == ("first", "functional", "", "last")
    assert weighted_layers(nets.make("residual"), X[:1], ()) == ("stem", "norm", "conv", "fc")


def test_weights_of_attention_and_of_the_model_itself_are_found() -> None:
    model, x = transformers.make(), transformers.batch()
    found = weighted_layers(model, x[:1], ())
    owners = {name.rpartition(".")[0] for name, _ in model.named_parameters()}
    assert set(found) == owners
    assert len(found) == len(owners)


def test_a_model_without_weights_and_one_that_cannot_be_copied_are_refused() -> None:
    with pytest.raises(ModelError, match="the model must use weights; none was seen"):
        weighted_layers(nn.Flatten(), X[:1], ())
    with pytest.raises(ModelError, match=r"must be an nn\.Module to have weights; got function"):
        weighted_layers(lambda x: x.flatten(1), X[:1], ())
    model = nets.make("module")
    model.held = (one for one in ())
    with pytest.raises(ModelError, match=r"copy\.deepcopy can copy; it raised TypeError"):
        copy_of(model)


# --- new weights


@pytest.mark.parametrize("how", ["reset", "permute"])
def test_new_weights_are_those_of_their_seed_and_leave_the_random_state(how: Any) -> None:
    states = []
    before = torch.get_rng_state()
    for words in ((0, "conv1"), (0, "conv1"), (1, "conv1"), (0, "conv2")):
        twin = copy_of(NET)
        renew(twin.get_submodule("conv1"), how, *words)
        states.append(state(twin)["conv1.weight"])
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(states[0], states[1])
    assert not any(torch.equal(states[0], one) for one in (*states[2:], NET.get_submodule("conv1").weight))


def test_a_reset_is_the_modules_own_and_forgets_statistics() -> None:
    twin = copy_of(nets.make("residual"))
    norm: Any = twin.get_submodule("norm")
    assert not torch.equal(norm.running_mean, torch.zeros(4))
    renew(norm, "reset", 0)
    assert torch.equal(norm.running_mean, torch.zeros(4))
    assert torch.equal(norm.running_var, torch.ones(4))
    assert torch.equal(norm.weight, torch.ones(4))
    conv = nn.Conv2d(3, 400, 3)
    with torch.no_grad():
        conv.weight.fill_(7)
    renew(conv, "reset", 0)
    assert float(conv.weight.detach().abs().max()) <= 1 / 27**0.5  # PyTorch's bounds


def test_shuffled_weights_are_the_same_values_elsewhere_and_statistics_stay() -> None:
    model = nets.make("residual")
    twin = copy_of(model)
    for name in ("norm", "conv"):
        renew(twin.get_submodule(name), "permute", 0)
    for name, value in twin.state_dict().items():
        old = model.state_dict()[name]
        assert torch.equal(value.flatten().sort().values, old.flatten().sort().values)
        moved = name.startswith(("norm.weight", "norm.bias", "conv."))
        assert torch.equal(value, old) is not moved, name


def test_modules_that_cannot_reset_themselves_are_shuffled_and_their_children_left_alone() -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Parameter(torch.arange(30.0))
            self.child = nn.Linear(3, 3)

    part = Scaled()
    child = state(part.child)
    renew(part, "reset", 0)
    assert torch.equal(part.table.detach().sort().values, torch.arange(30.0))
    assert not torch.equal(part.table.detach(), torch.arange(30.0))
    assert all(torch.equal(child[name], value) for name, value in part.child.state_dict().items())


# --- model randomisation


@pytest.mark.parametrize("order", ["cascading", "independent"])
@pytest.mark.parametrize("how", ["reset", "permute"])
def test_the_curve_equals_a_literal_computation(order: Any, how: Any) -> None:
    model, x = nets.make("residual").double(), nets.batch(2).double()
    method = InputXGradient(model)
    curve = randomisation_curve(method, x, [1, 3], order=order, how=how, seeds=2, seed=5)
    layers = ["fc", "conv", "norm", "stem"]
    assert curve.layers == tuple(layers)
    trained = method.attribute(x, [1, 3])
    for step in range(4):
        for i, seed in enumerate((5, 6)):
            twin = copy.deepcopy(model)
            for name in layers[: step + 1] if order == "cascading" else [layers[step]]:
                renew(twin.get_submodule(name), how, seed, name)
            maps = InputXGradient(twin).attribute(x, [1, 3])
            expected = [oracle.spearman(plain(a), plain(b)) for a, b in zip(maps, trained, strict=True)]
            assert curve.similarity[step, i].tolist() == pytest.approx(expected)
    settings = {"order": order, "how": how, "seeds": 2, "seed": 5, "steps": None}
    assert_close(score("model_randomisation", method, x, [1, 3], **settings), curve.mean.mean(0))


def test_absolute_compares_sizes() -> None:
    method = InputXGradient(NET)
    signed, sizes = (randomisation_curve(method, X, 2, seeds=1, absolute=one) for one in (False, True))
    twin = copy.deepcopy(NET)
    renew(twin.fc, "reset", 0, "fc")
    maps, trained = InputXGradient(twin).attribute(X, 2), method.attribute(X, 2)
    for found, change in ((signed, lambda m: m), (sizes, torch.abs)):
        expected = [oracle.spearman(plain(change(a)), plain(change(b))) for a, b in zip(maps, trained, strict=True)]
        assert found.similarity[0, 0].tolist() == pytest.approx(expected, abs=1e-6)


def test_steps_are_spread_from_the_last_layer_to_the_first_and_the_weights_between_are_random_too() -> None:
    model = nets.make("residual")
    every = randomisation_curve(Saliency(model), X, 2, seeds=2)
    for steps, kept in ((1, [3]), (2, [0, 3]), (3, [0, 2, 3]), (4, [0, 1, 2, 3]), (9, [0, 1, 2, 3])):
        some = randomisation_curve(Saliency(model), X, 2, seeds=2, steps=steps)
        assert some.layers == tuple(every.layers[i] for i in kept)
        assert torch.equal(some.similarity, every.similarity[kept])


@pytest.mark.parametrize("order", ["cascading", "independent"])
def test_the_model_is_left_as_it_is(order: Any) -> None:
    model = nets.make("regularised").train()
    before, random = state(model), torch.get_rng_state()
    score("model_randomisation", Saliency(model), order=order)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert all(part.training for part in model.modules())
    assert torch.equal(torch.get_rng_state(), random)


def test_a_shared_module_is_randomised_once() -> None:
    model = nets.make("module")
    model.twice = model.conv2
    assert randomisation_curve(Saliency(model), X, 2, seeds=1).layers == ("fc", "conv2", "conv1")


def test_what_ignores_the_model_has_one_and_is_beaten() -> None:
    for control in (CentreGaussian, EdgeMagnitude, RandomMap):
        for name in ("model_randomisation", "random_logit"):
            assert_close(score(name, control(NET)), torch.ones(3).double())
    assert (score("model_randomisation", Saliency(NET)) < 0.8).all()


class Vanishing(Attribution):
    """A map, of the model with these weights only; else a constant."""

    trained = nets.make("module").fc.weight.detach().clone()

    def _attribute(self, query: Query) -> Tensor:
        known = torch.equal(self.model.fc.weight, self.trained)  # type: ignore[attr-defined]
        return query.x[:, :1] if known else torch.ones_like(query.x[:, :1])


def test_a_constant_map_counts_as_not_similar_and_is_undefined_if_the_model_is_as_trained() -> None:
    assert score("model_randomisation", Vanishing(NET)).tolist() == [0, 0, 0]
    curve = randomisation_curve(Vanishing(NET), X, 2, seeds=1)
    assert curve.similarity.isnan().all()
    assert curve.mean.tolist() == [[0, 0, 0]] * 3
    for name in ("model_randomisation", "random_logit"):
        assert score(name, Constant(NET, value=2.0)).isnan().all()


@pytest.mark.parametrize("net", ["resnet20_cifar10", "mnist_cnn"])
def test_guided_backprop_survives_what_the_gradient_does_not(net: str) -> None:
    """Adebayo et al.: with the upper layers random, guided backprop still shows the picture."""
    real = realnets.load(net)
    x, labels = real.batch(12)
    found = {}
    for make in (Saliency, GuidedBackprop):
        method = make(real.model, channels="sum", absolute=True)
        curve = randomisation_curve(method, x, labels, seeds=3, steps=None if net == "mnist_cnn" else 7)
        upper = (len(curve.layers) + 1) // 2
        found[make] = curve.mean[:upper].mean(0)
    difference = found[GuidedBackprop] - found[Saliency]
    error = difference.std() / len(x) ** 0.5
    assert float(difference.mean()) > 0.25  # measured: 0.43 and 0.46
    assert float(difference.mean()) > 4 * float(error)


# --- random logit


def test_random_logit_is_the_mean_similarity_to_maps_of_other_classes() -> None:
    method, maps = InputXGradient(NET), InputXGradient(NET).attribute(X, TARGETS)
    every = torch.stack([method.attribute(X, k) for k in range(5)], 1)
    for absolute, change in ((False, lambda m: m), (True, torch.abs)):
        expected = [
            sum(oracle.spearman(plain(change(every[n, k])), plain(change(maps[n]))) for k in range(5) if k != target)
            / 4
            for n, target in enumerate(TARGETS)
        ]
        assert score("random_logit", method, classes=4, absolute=absolute).tolist() == pytest.approx(expected, abs=1e-6)
        assert score("random_logit", method, classes=99, absolute=absolute).tolist() == pytest.approx(
            expected, abs=1e-6
        )


def test_the_other_class_is_another_one_and_every_one_is_drawn() -> None:
    metric = METRICS["random_logit"](classes=1)
    x = nets.batch(200)
    drawn = metric._others(Again.of(Saliency(NET), x, 2)).flatten()
    assert set(drawn.tolist()) == {0, 1, 3, 4}
    assert min(torch.bincount(drawn)[[0, 1, 3, 4]]) > 25
    assert metric._others(Again.of(Saliency(NET), x[7:8], 2)).tolist() == [[int(drawn[7])]]


def test_methods_that_ignore_the_class_are_exposed() -> None:
    assert_close(score("random_logit", EigenCAM(NET)), torch.ones(3).double())
    assert (score("random_logit", InputXGradient(NET)) < 0.9).all()


def test_the_classes_are_compared_in_the_score_space_of_the_target() -> None:
    goal = ClassScore(2, "probability")
    metric = METRICS["random_logit"](classes=4)
    maps = InputXGradient(NET).attribute(X, goal)
    others = [InputXGradient(NET).attribute(X, ClassScore(k, "probability")) for k in (0, 1, 3, 4)]
    expected = [sum(oracle.spearman(plain(m[n]), plain(maps[n])) for m in others) / 4 for n in range(3)]
    found = metric.score(NET, X, goal, maps, method=InputXGradient(NET))
    assert found.tolist() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("target", [ClassScore(1) - ClassScore(2), lambda out: out[:, 0], "conv1:2"])
def test_a_target_that_is_no_class_is_refused(target: object) -> None:
    with pytest.raises(TargetError, match="one of at least two classes"):
        score("random_logit", Saliency(NET), target=target)


# --- input shift

NETS = ["module", "residual", "regularised", "pre-activation", "changes its input", "shared ReLU", "silu"]


@pytest.mark.parametrize("net", NETS)
def test_the_twin_does_for_the_shifted_input_what_the_model_does_for_the_input(net: str) -> None:
    model, x = nets.make(net).double(), nets.batch(3).double()
    before = state(model)
    twin = shifted(Again.of(Saliency(model), x, 2), 3.0)
    with torch.no_grad():
        assert_close(twin(x.clone() + 3), model(x.clone()))
        assert float((model(x.clone() + 3) - model(x.clone())).abs().max()) > 1e-3
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert twin is not model


def test_the_shift_goes_into_the_bias_of_the_first_layer() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 6 * 4, 5))
    twin: Any = shifted(Again.of(Saliency(nets.fill(model)), X, 2), 2.0)
    assert_close(twin[0].bias, -2 * model[0].weight.sum((1, 2, 3)))  # type: ignore[union-attr,operator]
    assert not twin._forward_pre_hooks
    assert not twin[0]._forward_hooks
    linear: Any = shifted(Again.of(Saliency(nets.fill(nets.Linear())), X, 2), 2.0)
    plain_model: Any = nets.fill(nets.Linear())
    assert_close(linear.fc.bias, plain_model.fc.bias - 2 * plain_model.fc.weight.sum(1))


def test_where_a_bias_cannot_absorb_it_the_shift_is_taken_off_the_input() -> None:
    class Two(nn.Module):
        """Looks at its input twice."""

        def __init__(self) -> None:
            super().__init__()
            self.chain = nets.Chain()

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.chain(x) * x.mean((1, 2, 3))[:, None]
            return out

    class Own(nn.Module):
        """Its weights belong to no layer."""

        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.randn(3, 5))

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = x.square().mean((2, 3)) @ self.weight
            return out

    for model in (
        nets.fill(Two()),
        nets.fill(Own()),
        nets.fill(nn.Sequential(*[nn.Conv2d(3, 3, 1)] * 2, nets.Chain())),
    ):
        twin = shifted(Again.of(Saliency(model), X, 2), 2.0)
        assert_close(twin(X + 2), model(X), atol=1e-5, rtol=1e-4)


def test_what_does_not_care_where_zero_is_stays_and_what_multiplies_by_the_input_does_not() -> None:
    for net in ("module", "residual", "silu"):
        model = nets.make(net)
        baseline: dict[str, Any] = {"window": 3, "baseline": "mean"}
        for method in (Saliency(model), Occlusion(model, **baseline), GradCAM(model, relu=False)):
            assert (score("input_shift", method) < 1e-3).all(), (net, method)
        for method in (InputXGradient(model), METHODS["integrated_gradients"](model), Occlusion(model, window=3)):
            assert (score("input_shift", method) > 0.1).all(), (net, method)


def test_the_number_is_the_change_relative_to_the_map() -> None:
    model, x = nets.fill(nets.Linear()).double(), nets.batch(2).double()
    weight = model.get_submodule("fc").weight[2].detach().reshape(1, 3, 8, 6)  # the map grows by shift * weight
    method = InputXGradient(model, channels="none")
    expected = 0.7 * weight.norm() / (x * weight).flatten(1).norm(dim=1)
    assert_close(score("input_shift", method, x, 2, shift=0.7), expected)
    assert score("input_shift", Constant(model, value=0.0), x, 2).isnan().all()


def test_a_shift_of_nothing_is_refused() -> None:
    with pytest.raises(InputError, match="shift must not be 0"):
        METRICS["input_shift"](shift=0)


# --- completeness


@pytest.mark.parametrize("name", ["integrated_gradients", "deeplift", "deeplift_shap"])
def test_what_is_promised_to_add_up_does_and_what_is_missing_is_measured(name: str) -> None:
    smooth = name == "integrated_gradients"  # the integral, which a sum meets soon where there are no kinks
    model = nets.make("silu" if smooth else "module")
    method = METHODS[name](model, **({"n_steps": 200} if smooth else {}))
    maps = method.attribute(X, TARGETS)
    metric = METRICS["completeness"]()
    assert (metric.score(model, X, TARGETS, maps, method=method) < 0.02).all()
    half = metric.score(model, X, TARGETS, 0.5 * maps, method=method)
    assert_close(half, torch.full((3,), 0.5).double(), atol=0.01, rtol=0)
    none = metric.score(model, X, TARGETS, 0 * maps, method=method)
    assert_close(none, torch.ones(3).double())


def test_the_difference_is_that_to_the_methods_own_baseline() -> None:
    model = nets.make("silu")
    for baseline in (0.5, "mean", X.roll(1, 0)):
        method = METHODS["integrated_gradients"](model, baselines=baseline, n_steps=300)
        assert (score("completeness", method) < 0.05).all()
    exact = METHODS["integrated_gradients"](nets.fill(nets.Linear()), n_steps=1, baselines=0.5)
    assert (score("completeness", exact) < 1e-4).all()


def test_a_tenth_of_the_steps_shows() -> None:
    few, many = (score("completeness", METHODS["integrated_gradients"](NET, n_steps=n)) for n in (3, 300))
    assert (few > 3 * many).all()


@pytest.mark.parametrize(
    "method",
    [
        Saliency(NET),
        InputXGradient(NET),
        GradCAM(NET),
        METHODS["integrated_gradients"](NET, absolute=True),
        METHODS["integrated_gradients"](NET, channels="max"),
        METHODS["integrated_gradients"](NET, layer="conv1"),
        METHODS["integrated_gradients"](NET, multiply_by_inputs=False),
        METHODS["gradient_shap"](NET),
        RandomMap(NET),
    ],
    ids=lambda method: type(method).__name__,
)
def test_what_nobody_promises_is_undefined(method: Attribution) -> None:
    assert score("completeness", method).isnan().all()


def test_a_difference_of_zero_is_undefined() -> None:
    method = METHODS["integrated_gradients"](NET, baselines=X.clone())
    assert score("completeness", method).isnan().all()


def test_of_a_probability_deeplift_promises_nothing_and_integrated_gradients_does() -> None:
    goal = ClassScore(2, "probability")
    assert (score("completeness", METHODS["integrated_gradients"](NET, n_steps=300), target=goal) < 0.02).all()
    assert score("completeness", METHODS["deeplift"](NET), target=goal).isnan().all()


# --- all of them


@pytest.mark.parametrize("name", NAMES)
def test_a_predicted_class_is_that_of_the_trained_model_and_the_input(name: str) -> None:
    classes = NET(X).argmax(1).tolist()
    method = METHODS["integrated_gradients"](NET, n_steps=5)
    expected = score(name, method, target=classes)
    assert torch.equal(score(name, method, target="predicted"), expected)
    assert torch.equal(score(name, method, target=Predicted()), expected)


@pytest.mark.parametrize("name", NAMES)
def test_nothing_of_the_protocol_is_read(name: str) -> None:
    other = Protocol(sign="absolute", channels="l2", score="logit", unit=2, baseline="blur")
    method = METHODS["integrated_gradients"](NET, n_steps=5)
    maps = method.attribute(X, TARGETS)
    expected = METRICS[name]().score(NET, X, TARGETS, maps, method=method)
    assert torch.equal(METRICS[name]().score(NET, X, TARGETS, maps, other, method=method), expected)


@pytest.mark.parametrize(
    ("name", "made", "forwards", "backwards"),
    [
        ("model_randomisation", {}, 3 + 1 + 3 * 3 * 2, 3 * 3 * 2),  # three layers, two seeds
        ("model_randomisation", {"steps": 2, "seeds": 4}, 3 + 1 + 3 * 2 * 4, 3 * 2 * 4),
        ("random_logit", {}, 3 + 3 * 3, 3 * 3),
        ("random_logit", {"classes": 9}, 3 + 4 * 3, 4 * 3),
        ("input_shift", {}, 3 + 3 + 4, 3),
        ("completeness", {}, 3, 0),
    ],
)
def test_a_metric_costs_what_it_says(name: str, made: dict[str, Any], forwards: int, backwards: int) -> None:
    maps = Saliency(NET).attribute(X, TARGETS)
    with count() as cost:
        METRICS[name](**made).score(NET, X, TARGETS, maps, method=Saliency(NET))
    assert (cost.forwards, cost.backwards) == (forwards, backwards)


def test_what_is_due_costs_a_pass_of_the_input_and_one_of_each_baseline() -> None:
    for name, baselines in (("integrated_gradients", 1), ("deeplift_shap", 3)):
        method = METHODS[name](NET)
        maps = method.attribute(X, TARGETS)
        with count() as cost:
            METRICS["completeness"]().score(NET, X, TARGETS, maps, method=method)
        assert (cost.forwards, cost.backwards) == (3 * (2 + baselines), 0)


@pytest.mark.parametrize(
    ("name", "option", "words"),
    [
        ("model_randomisation", {"order": "bottom up"}, "order must be one of"),
        ("model_randomisation", {"how": "zero"}, "how must be one of"),
        ("model_randomisation", {"steps": 0}, "steps must be an integer >= 1"),
        ("model_randomisation", {"seeds": 0}, "seeds must be an integer >= 1"),
        ("random_logit", {"classes": 0}, "classes must be an integer >= 1"),
        ("input_shift", {"shift": float("inf")}, "shift must be a finite number"),
        ("reproducibility", {"distance": "cosine"}, "distance must be one of"),
        ("reproducibility", {"seeds": 0}, "seeds must be an integer >= 1"),
    ],
)
def test_wrong_settings_are_named(name: str, option: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        METRICS[name](**option)


def test_compare_asks_methods_again_and_controls_lose() -> None:
    metrics = ["max_sensitivity", "model_randomisation", "random_logit", "input_shift", "completeness"]
    model = nets.fill(nets.PointHead())
    methods = {"saliency": Saliency, "cam": CAM, "ig": METHODS["integrated_gradients"]}
    found = compare(model, nets.batch(7), methods, metrics, FEW, target=2)
    assert found.failures == ()
    assert found.scores["centre"]["model_randomisation"].tolist() == pytest.approx([1] * 7)
    assert found.unbeaten("saliency") == {"model_randomisation": [], "random_logit": []}
    assert found.scores["ig"]["completeness"].isfinite().all()
    assert found.scores["saliency"]["completeness"].isnan().all()
    again = compare(model, nets.batch(7), methods, metrics, FEW, target=2)
    for row, columns in found.scores.items():
        for name, values in columns.items():
            assert_close(again.scores[row][name], values, equal_nan=True, rtol=0, atol=0)


def test_a_study_hands_methods_over_as_compare_does(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    metrics, methods = ["max_sensitivity", "model_randomisation", "random_logit"], ["saliency", "gradcam"]
    study = Study(NET, list(zip(X, TARGETS, strict=True)), methods, metrics, {"steps": 5})
    result = study.run(tmp_path / "out", show_progress=False)
    found = compare(NET, X, methods, metrics, FEW)
    assert found.failures == ()
    for name in metrics:
        expected = torch.stack([found.scores[row][name] for row in found.rows], 1)
        assert expected.isfinite().any()
        assert_close(torch.from_numpy(result.matrix(name).values), expected, equal_nan=True)
