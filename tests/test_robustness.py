"""Robustness: literal computations, Captum's sensitivity, closed forms on a linear model, cost, batches."""

from __future__ import annotations

from typing import Any

import captum.metrics
import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from attrib import METHODS, RISE, Attribution, Fused, GradCAM, InputXGradient, Occlusion, Predicted, Saliency, compare
from attrib.benchmark.controls import CentreGaussian, RandomMap
from attrib.core import Query, count
from attrib.errors import InputError, ShapeError
from attrib.metrics import Protocol
from attrib.metrics.sensitivity import neighbours
from attrib.registry import METRICS
from tests import nets
from tests.oracles import again as oracle
from tests.tiny import FEW, Constant

SENSITIVITIES = ["max_sensitivity", "average_sensitivity", "local_lipschitz"]
NAMES = [*SENSITIVITIES, "reproducibility"]
NET, X, TARGETS = nets.make("module"), nets.batch(3), [1, 4, 2]
NAN = float("nan")


def score(name: str, method: Attribution, x: Tensor = X, target: object = None, **made: Any) -> Tensor:
    target = TARGETS if target is None else target
    maps = method.attribute(x, target)
    found: Tensor = METRICS[name](**made).score(method.model, x, target, maps, method=method)
    return found


def plain(values: Tensor) -> list[float]:
    found: list[float] = values.flatten().double().tolist()
    return found


# --- what is computed


@pytest.mark.parametrize("make", [Saliency, GradCAM, InputXGradient])
def test_sensitivity_and_lipschitz_equal_a_literal_computation(make: Any) -> None:
    model, x = nets.make("F.relu").double(), nets.batch(3).double()
    method, options = make(model), {"radius": 0.3, "samples": 4, "seed": 2}
    found = {name: score(name, method, x, **options) for name in SENSITIVITIES}
    for n, (image, target) in enumerate(zip(x, TARGETS, strict=True)):
        original = plain(method.attribute(image[None], target))
        shares, ratios = [], []
        for k in range(4):
            copy = neighbours(image, 0.3, torch.tensor([k]), 2)
            change = oracle.apart(plain(method.attribute(copy, target)), original)
            shares.append(change / oracle.norm(original))
            ratios.append(change / oracle.apart(plain(copy), plain(image)))
        assert float(found["max_sensitivity"][n]) == pytest.approx(max(shares))
        assert float(found["average_sensitivity"][n]) == pytest.approx(sum(shares) / 4)
        assert float(found["local_lipschitz"][n]) == pytest.approx(max(ratios))


@pytest.mark.parametrize("make", [Saliency, InputXGradient])
def test_max_sensitivity_is_captums_for_the_same_changes(make: Any) -> None:
    method = make(NET, channels="none", absolute=False)
    changes = torch.cat([neighbours(image, 0.05, torch.arange(6), 0) for image in X])
    theirs = captum.metrics.sensitivity_max(
        method.attribute, X, lambda inputs, _: changes.to(inputs), n_perturb_samples=6, target=TARGETS
    )
    assert_close(score("max_sensitivity", method, radius=0.05, samples=6), theirs.double(), rtol=1e-5, atol=1e-6)


def test_copies_lie_in_the_box_and_fill_it() -> None:
    found = neighbours(torch.full((3, 20, 20), 5.0, dtype=torch.float64), 0.5, torch.arange(8), 0) - 5
    assert float(found.abs().max()) <= 0.5
    assert float(found.abs().max()) > 0.499
    assert abs(float(found.mean())) < 0.01
    assert abs(float(found.var()) - 1 / 12) < 0.002
    assert not torch.equal(found[0], found[1])


def test_more_samples_add_copies_so_that_the_maximum_can_only_rise() -> None:
    few, many = (score("max_sensitivity", Saliency(NET), samples=k) for k in (3, 9))
    assert (many >= few).all()
    assert (many > few).any()


def test_noise_depends_on_the_values_of_an_example_and_on_the_seed() -> None:
    one, other = (neighbours(image, 0.1, torch.arange(2), 0) - image for image in X[:2])
    assert not torch.allclose(one, other)
    assert torch.equal(neighbours(X[0], 0.1, torch.tensor([1]), 0)[0], neighbours(X[0], 0.1, torch.arange(2), 0)[1])
    assert not torch.equal(neighbours(X[0], 0.1, torch.arange(2), 1), neighbours(X[0], 0.1, torch.arange(2), 0))


def test_of_a_linear_model_the_gradient_never_changes_and_input_x_gradient_changes_by_its_weights() -> None:
    model = nets.fill(nets.Linear()).double()
    x, weight = nets.batch(1).double(), model.get_submodule("fc").weight[2].reshape(1, 3, 8, 6).detach()
    for name in SENSITIVITIES:
        assert_close(score(name, Saliency(model), x, 2), torch.zeros(1).double(), atol=1e-12, rtol=0)
    method = InputXGradient(model, channels="none")
    noise = neighbours(x[0], 0.1, torch.arange(5), 0) - x
    shares = (noise * weight).flatten(1).norm(dim=1) / (x * weight).norm()
    assert_close(score("max_sensitivity", method, x, 2, radius=0.1, samples=5), shares.max()[None])
    assert_close(score("average_sensitivity", method, x, 2, radius=0.1, samples=5), shares.mean()[None])
    slopes = (noise * weight).flatten(1).norm(dim=1) / noise.flatten(1).norm(dim=1)
    assert_close(score("local_lipschitz", method, x, 2, radius=0.1, samples=5), slopes.max()[None])


class Scaled(InputXGradient):
    """A map in another unit."""

    def _attribute(self, query: Query) -> tuple[Tensor, ...]:
        return tuple(100 * one for one in super()._attribute(query))


def test_the_scale_of_a_map_changes_the_lipschitz_constant_only() -> None:
    for name in SENSITIVITIES:
        factor = 100 if name == "local_lipschitz" else 1
        assert_close(score(name, Scaled(NET)), factor * score(name, InputXGradient(NET)), rtol=1e-5, atol=1e-7)


# --- what is asked


def test_a_predicted_class_stays_that_of_the_input() -> None:
    for name in SENSITIVITIES:
        classes = NET(X).argmax(1).tolist()
        options = {"radius": 3.0, "samples": 20}  # far enough for other classes
        moved = torch.cat([neighbours(image, 3.0, torch.arange(20), 0) for image in X])
        assert (NET(moved).argmax(1) != torch.tensor(classes).repeat_interleave(20)).any()
        expected = score(name, Saliency(NET), target=classes, **options)
        assert torch.equal(score(name, Saliency(NET), target="predicted", **options), expected)
        assert torch.equal(score(name, Saliency(NET), target=Predicted(), **options), expected)


@pytest.mark.parametrize("name", NAMES)
def test_further_arguments_follow_their_examples(name: str) -> None:
    model = nets.fill(nets.TwoInputs())
    other, weight = nets.batch(3, seed=5), torch.tensor([0.5, 2.0, -1.0])
    method = Saliency(model)

    def measured(rows: slice) -> Tensor:
        extra = (other[rows], weight[rows])
        maps = method.attribute(X[rows], TARGETS[rows], additional_forward_args=extra)
        metric = METRICS[name]()
        found: Tensor = metric.score(
            model, X[rows], TARGETS[rows], maps, method=method, additional_forward_args=extra, batch_size=4
        )
        return found

    alone = torch.cat([measured(slice(n, n + 1)) for n in range(3)])
    assert_close(measured(slice(0, 3)), alone, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("name", "made", "maps", "passes"),
    [
        ("max_sensitivity", {"samples": 7}, 7, 1),
        ("average_sensitivity", {"samples": 1}, 1, 1),
        ("local_lipschitz", {}, 10, 1),
        ("reproducibility", {}, 3, 1),
    ],
)
def test_a_metric_costs_what_it_says(name: str, made: dict[str, Any], maps: int, passes: int) -> None:
    for method, extra in ((Saliency(NET), 0), (GradCAM(NET), 1)):  # whose layer is found once
        given = method.attribute(X, TARGETS)
        with count() as cost:
            METRICS[name](**made).score(NET, X, TARGETS, given, method=method)
        assert (cost.forwards, cost.backwards) == (3 * (maps + passes + extra), 3 * maps)


def test_other_seeds_cost_a_map_each() -> None:
    method = METHODS["smoothgrad"](NET, n_samples=4)
    maps = method.attribute(X, TARGETS)
    with count() as cost:
        METRICS["reproducibility"](seeds=5).score(NET, X, TARGETS, maps, method=method)
    assert cost.backwards == 3 * (3 + 5) * 4


# --- undefined, and perfect


@pytest.mark.parametrize("name", SENSITIVITIES)
def test_a_zero_map_is_undefined_and_a_constant_one_perfectly_robust(name: str) -> None:
    assert score(name, Constant(NET, value=0.0)).isnan().all()
    assert score(name, Constant(NET, value=2.0)).tolist() == [0, 0, 0]
    assert score(name, CentreGaussian(NET)).tolist() == [0, 0, 0]
    assert (score(name, RandomMap(NET)) > 0.1).all()
    assert METRICS[name].descriptor  # so that nothing is ranked by it


def test_captum_divides_a_zero_map_by_one_where_we_say_undefined() -> None:
    method = Constant(NET, value=0.0)
    theirs = captum.metrics.sensitivity_max(method.attribute, X, target=TARGETS)
    assert theirs.tolist() == [0, 0, 0]
    assert score("max_sensitivity", method).isnan().all()


def test_maps_that_are_not_the_methods_are_refused() -> None:
    maps = torch.ones(3, 1, 4, 3)
    for name in NAMES:
        with pytest.raises(ShapeError, match=r"maps must be what the method gives, \(1, 8, 6\).*got \(1, 4, 3\)"):
            METRICS[name]().score(NET, X, TARGETS, maps, method=Saliency(NET))


@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        ({"method": None}, InputError, "method must be the Attribution that made the maps; got None"),
        ({"method": Saliency(nets.make("residual"))}, InputError, "method must be made with the model that is expl"),
        ({"batch_size": 0}, InputError, "batch_size must be an integer >= 1"),
        ({"autocast": torch.float16}, TypeError, "no option 'autocast'"),
    ],
)
def test_wrong_arguments_are_named(given: dict[str, Any], error: type[Exception], words: str) -> None:
    for name in NAMES:
        with pytest.raises(error, match=words):
            METRICS[name]().score(NET, X, TARGETS, torch.ones(3, 1, 8, 6), **({"method": Saliency(NET)} | given))


@pytest.mark.parametrize("option", [{"radius": 0}, {"radius": -1}, {"samples": 0}, {"seed": -1}])
def test_wrong_settings_are_named(option: dict[str, Any]) -> None:
    (word,) = option
    for name in SENSITIVITIES:
        with pytest.raises(InputError, match=f"{word} must be"):
            METRICS[name](**option)


# --- reproducibility


@pytest.mark.parametrize(
    "method",
    [
        Saliency(NET),
        GradCAM(NET),
        Occlusion(NET, window=3),
        METHODS["integrated_gradients"](NET, n_steps=5),
        Fused([Saliency(NET), GradCAM(NET)]),
    ],
    ids=lambda method: type(method).__name__,
)
def test_deterministic_methods_are_reproducible(method: Attribution) -> None:
    assert (score("reproducibility", method) < 1e-5).all()
    assert (score("reproducibility", method, distance="rank") < 1e-3).all()


def test_the_noise_of_random_masks_shows_and_falls_with_their_number() -> None:
    few, many = (score("reproducibility", RISE(NET, n=n, cells=4, divide="coverage")) for n in (200, 4000))
    assert (few > 0.2).all()
    assert (many < few / 3).all(), (few, many)
    ranks = score("reproducibility", RISE(NET, n=20, cells=4), distance="rank")
    assert (ranks > 0.02).all()
    inside = score("reproducibility", Fused([Saliency(NET), RISE(NET, n=20, cells=4)], scale="none", how="mean"))
    assert (inside > 0.01).all()


def test_the_distance_is_that_of_a_literal_computation() -> None:
    method = RISE(NET, n=20, cells=4)
    found = score("reproducibility", method, seeds=2, seed=40)
    ranks = score("reproducibility", method, seeds=2, seed=40, distance="rank")
    maps = method.attribute(X, TARGETS)
    others = [RISE(NET, n=20, cells=4, seed=seed).attribute(X, TARGETS) for seed in (40, 41)]
    for n in range(3):
        values = plain(maps[n])
        mean = sum(values) / len(values)
        spread = oracle.norm([value - mean for value in values])
        expected = sum(oracle.apart(plain(other[n]), values) for other in others) / 2 / spread
        assert float(found[n]) == pytest.approx(expected, rel=1e-4)
        expected = sum(1 - oracle.spearman(plain(other[n]), values) for other in others) / 2
        assert float(ranks[n]) == pytest.approx(expected, abs=1e-4)


class Coupled(Attribution):
    """Divides by the largest value of the whole batch, as Quantus normalises."""

    def _attribute(self, query: Query) -> Tensor:
        grad = query.gradient().grad[0].abs().sum(1, keepdim=True) * query.x.abs().amax(1, keepdim=True)
        return grad * torch.arange(1, len(grad) + 1).max()


class Forgetful(Attribution):
    """Another map at every call."""

    calls = 0

    def _attribute(self, query: Query) -> Tensor:
        type(self).calls += 1
        return query.x[:, :1] * type(self).calls


def test_a_method_that_couples_the_batch_or_keeps_a_state_is_exposed() -> None:
    assert (score("reproducibility", Coupled(NET)) > 0.3).all()
    assert (score("reproducibility", Forgetful(NET)) > 0.3).all()


def test_a_constant_map_has_no_scale_to_be_reproducible_on() -> None:
    for distance in ("l2", "rank"):
        assert score("reproducibility", Constant(NET, value=2.0), distance=distance).isnan().all()


# --- in a comparison


def test_compare_hands_methods_over_and_ranks_nothing_by_robustness() -> None:
    found = compare(NET, X, ["saliency", "gradcam"], ["srg", "max_sensitivity", "reproducibility"], FEW, target=2)
    assert found.failures == ()
    for label, make in (("saliency", Saliency), ("gradcam", GradCAM)):
        expected = score("max_sensitivity", make(NET), target=2)
        assert_close(found.scores[label]["max_sensitivity"], expected, atol=1e-5, rtol=1e-4)
    assert found.scores["centre"]["max_sensitivity"].tolist() == [0, 0, 0]
    assert set(found.verdicts["saliency"]) == {"srg"}
    assert "max_sensitivity (descriptor)" in found.to_text()


def test_nothing_of_the_protocol_is_read() -> None:
    other = Protocol(sign="absolute", channels="l2", score="logit", unit=2, baseline="blur")
    for name in NAMES:
        method = InputXGradient(NET)
        maps = method.attribute(X, TARGETS)
        expected = METRICS[name]().score(NET, X, TARGETS, maps, method=method)
        assert torch.equal(METRICS[name]().score(NET, X, TARGETS, maps, other, method=method), expected)


def test_signals_are_measured_like_images() -> None:
    model = nn.Sequential(nn.Conv1d(2, 3, 3), nn.ReLU(), nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(3, 5))
    nets.fill(model)
    x = torch.randn(2, 2, 20, generator=torch.Generator().manual_seed(0))
    for name in NAMES:
        assert score(name, Saliency(model), x, 2).isfinite().all()
