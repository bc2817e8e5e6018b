"""Synthetic ground truth: the truth is proved, true maps score 1, maps that know nothing score chance, errors show."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from attrib import GradCAM, Occlusion, Saliency
from attrib.benchmark.synthetic import (
    Problem,
    Scenes,
    discriminant,
    matched_filter,
    planted,
    score,
    several,
    shortcut,
    suite,
    suppressor,
    textures,
)
from attrib.benchmark.synthetic.scenes import several_seeds
from attrib.benchmark.synthetic.training import small_network
from attrib.errors import InputError, ModelError, ShapeError
from attrib.registry import CONTROLS

MAKERS: dict[str, Callable[..., Scenes]] = {
    "planted": planted,
    "suppressor": suppressor,
    "shortcut": shortcut,
    "object": partial(shortcut, truth="object"),
    "several": several,
    "textures": textures,
}
NAMES = list(MAKERS)


@pytest.fixture(scope="module")
def problems() -> dict[str, Problem]:
    return suite()


def means(found: Mapping[str, Tensor]) -> dict[str, float]:
    return {name: float(values.nanmean()) for name, values in found.items()}


def leaked(problem: Problem, what: Any) -> float:
    """Of the energy on both objects of `several`, the share on the one that was not asked for."""
    found = means(score(problem, what))
    return found["energy: other"] / (found["energy"] + found["energy: other"])


def pattern(problem: Problem, n: int = 4000) -> Tensor:
    """How each pixel varies with the score of class 1 (Haufe's activation pattern), for every scene."""
    x = problem.draw(n, 7).x
    with torch.no_grad():
        values = problem.model(x)[:, 1]
    slope = torch.einsum("n,nhw->hw", values - values.mean(), x[:, 0] - x[:, 0].mean(0)) / n
    return slope.abs().expand(len(problem.scenes), 1, -1, -1)


# --- scenes


def test_the_seeds_of_a_suite_are_the_same_in_every_version_of_torch() -> None:
    assert several_seeds(0, 3) == [398764591, 1478610112, 1537364731]


@pytest.mark.parametrize("name", NAMES)
def test_a_seed_makes_the_same_pictures_and_touches_no_other_random_numbers(name: str) -> None:
    before = torch.get_rng_state()
    one, same, other = MAKERS[name](5, seed=3), MAKERS[name](5, seed=3), MAKERS[name](5, seed=4)
    assert torch.equal(before, torch.get_rng_state())
    assert torch.equal(one.x, same.x)
    assert torch.equal(one.target, same.target)
    assert not torch.equal(one.x, other.x)


@pytest.mark.parametrize("size", [32, (24, 40), (52, 28)])
@pytest.mark.parametrize("name", NAMES)
def test_only_what_is_said_changes_when_something_is_removed_or_drawn_anew(
    name: str, size: int | tuple[int, int]
) -> None:
    scenes = MAKERS[name](16, seed=1, size=size)
    assert scenes.x.shape[2:] == ((size, size) if isinstance(size, int) else size)
    assert scenes.relevant.flatten(1).any(1).all()
    for mask, changed in (
        (scenes.relevant, scenes.removed),
        *((mask, scenes.redrawn[part]) for part, mask in scenes.distractors.items()),
    ):
        differs = (changed != scenes.x).any(1)
        assert not (differs & ~mask).any()
        assert (differs & mask).flatten(1).any(1).all()


@pytest.mark.parametrize("name", NAMES)
def test_pictures_too_small_or_none_are_refused(name: str) -> None:
    with pytest.raises(InputError, match="size must be"):
        MAKERS[name](2, size=16)
    with pytest.raises(InputError, match="number of pictures must be"):
        MAKERS[name](0)


def test_the_truth_of_a_shortcut_and_the_shape_of_a_size_are_checked() -> None:
    with pytest.raises(InputError, match="truth must be"):
        shortcut(2, truth="background")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="multiple of 4"):
        planted(2, size=30)
    with pytest.raises(InputError, match=r"size must be a number of pixels or \(height, width\)"):
        several(2, size=(32, 32, 3))  # type: ignore[arg-type]


def test_scenes_must_say_what_every_pixel_is() -> None:
    scenes = several(2)
    with pytest.raises(InputError, match="either relevant or of one distractor"):
        replace(scenes, relevant=~scenes.relevant)
    with pytest.raises(InputError, match=r"redrawn must hold \['background', 'other'\]"):
        replace(scenes, redrawn={})
    with pytest.raises(ShapeError, match="target must have shape"):
        replace(scenes, target=scenes.target[:1])


def test_the_colour_of_the_ground_goes_with_the_shape_only_where_it_is_the_truth() -> None:
    for truth, low, high in (("ground", 1.0, 1.0), ("object", 0.25, 0.42)):
        scenes = shortcut(600, truth=truth)  # type: ignore[arg-type]
        ground = scenes.relevant if truth == "ground" else scenes.distractors["ground"]
        colour = torch.einsum("nchw,nhw->nc", scenes.x, ground.float()).argmax(1)
        assert low <= float((colour == scenes.target).double().mean()) <= high


# --- networks that were built


def test_the_matched_filter_depends_on_the_patch_and_on_nothing_else_by_finite_differences() -> None:
    scenes, net = planted(3, seed=5), matched_filter().double()
    for x, target, relevant in zip(scenes.x.double(), scenes.target, scenes.relevant, strict=True):
        step = 0.1 * torch.eye(32 * 32, dtype=torch.float64).reshape(-1, 1, 32, 32)
        with torch.no_grad():
            slope = ((net(x + step) - net(x - step))[:, target] / 0.2).reshape(32, 32)
        assert (slope[~relevant].abs() < 1e-9).all()
        torch.testing.assert_close(slope[relevant], (x[0] * 40 / 49)[relevant])  # 10 / (1 - 0.75), 49 pixels


def test_the_matched_filter_scores_ten_for_the_planted_class_and_nothing_for_the_others() -> None:
    scenes = planted(64, seed=2, size=(28, 44))
    expected = 10.0 * torch.nn.functional.one_hot(scenes.target, 4)
    net = matched_filter((28, 44))
    for x in (scenes.x, *scenes.redrawn.values()):
        torch.testing.assert_close(net(x), expected, rtol=0, atol=1e-4)
    assert not net(scenes.removed).any()


def test_the_discriminant_is_the_inverse_covariance_times_the_difference_of_means() -> None:
    h, w = 24, 28
    scenes, net = suppressor(1, size=(h, w)), discriminant((h, w)).double()
    signal = scenes.relevant[0].double().flatten()
    spread = 3 * (signal + scenes.distractors["suppressor"][0].flatten() / 2)
    covariance = spread[:, None] * spread + torch.eye(h * w) / 4
    weight = torch.linalg.solve(covariance, signal)
    maps = Saliency(net, absolute=False).attribute(torch.randn(1, 1, h, w, dtype=torch.float64), target=1)[0]
    torch.testing.assert_close(maps.flatten() / maps.max(), weight / weight.max(), rtol=1e-4, atol=1e-6)


def test_the_suppressor_is_independent_of_the_class_and_the_signal_is_not() -> None:
    scenes = suppressor(20_000)
    y = scenes.target * 2.0 - 1
    for mask, low, high in ((scenes.relevant, 0.25, 0.4), (scenes.distractors["suppressor"], -0.03, 0.03)):
        seen = (scenes.x[:, 0] * mask).sum((1, 2)) / mask[0].sum()
        assert low < float(torch.corrcoef(torch.stack([seen, y]))[0, 1]) < high


# --- the suite


@pytest.mark.parametrize("name", NAMES)
def test_each_network_does_what_is_said_of_it(name: str, problems: dict[str, Problem]) -> None:
    problem = problems[name]
    found = problem.check(400, seed=11)
    assert found.accuracy >= 0.98
    assert found.removed <= problem.chance + 0.1
    assert {part for part, share in found.redrawn.items() if share < 0.97} == set(problem.uses)
    assert all(found.redrawn[part] < 0.7 for part in problem.uses)
    assert not problem.model.training


def test_a_network_that_does_something_else_is_refused(problems: dict[str, Problem]) -> None:
    untrained = replace(problems["several"], model=small_network(4).eval())
    with pytest.raises(ModelError, match=r"'several' must do what is said of it; got accuracy"):
        untrained.check()
    with pytest.raises(ModelError, match="right with another suppressor"):
        replace(problems["suppressor"], uses=()).check()
    with pytest.raises(ModelError, match="right with another decoy"):
        replace(problems["planted"], uses=("decoy",)).check()
    # the network of one truth, asked for the other
    with pytest.raises(ModelError, match="accuracy"):
        replace(problems["object"], model=problems["shortcut"].model).check()
    with pytest.raises(ModelError, match="right without the relevant pixels"):
        replace(problems["shortcut"], model=problems["object"].model).check()


def test_training_is_the_same_on_any_number_of_threads_and_leaves_no_trace() -> None:
    threads, random = torch.get_num_threads(), torch.get_rng_state()
    try:
        weights = []
        for number in (1, 2):
            torch.set_num_threads(number)
            weights.append(suite(3, n=1, names=["shortcut"])["shortcut"].model.state_dict())
            assert torch.get_num_threads() == number
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(random, torch.get_rng_state())
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])


def test_an_unknown_problem_is_named() -> None:
    with pytest.raises(InputError, match=r"no problem named 'planed'\. Did you mean 'planted'"):
        suite(names=["planed"])


# --- scores


@pytest.mark.parametrize("name", NAMES)
def test_the_true_map_scores_one_and_maps_that_know_nothing_score_chance(
    name: str, problems: dict[str, Problem]
) -> None:
    problem = problems[name]
    truth = score(problem, problem.relevant[:, None].float())
    assert all((truth[key] == 1).all() for key in ("auc", "energy"))
    assert all(not truth[f"energy: {part}"].any() for part in problem.distractors)
    area = problem.relevant.double().mean((1, 2))
    constant = score(problem, torch.ones_like(problem.scenes.x[:, :1]))
    assert (constant["auc"] == 0.5).all()
    torch.testing.assert_close(constant["energy"], area)
    random = means(score(problem, "random"))
    assert abs(random["auc"] - 0.5) < 0.03
    assert abs(random["energy"] - float(area.mean())) < 0.02


# Where a map that knows nothing of the network is right all the same, and why.
RIGHT = {
    ("edges", "object"): "nothing else has an outline",
    ("edges", "several"): "nothing but the two objects has an outline",
    ("edges", "textures"): "stripes are edges",
    ("edges", "suppressor"): "common noise makes outlines around it",
    ("centre", "object"): "an object above a strip of ground is near the centre",
}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("control", ["centre", "edges"])
def test_controls_score_no_better_than_chance_but_where_the_scene_makes_them_right(
    control: str, name: str, problems: dict[str, Problem]
) -> None:
    found = means(score(problems[name], control))["auc"]
    assert (found > 0.65) is ((control, name) in RIGHT)


def test_the_gradient_is_exposed_by_a_suppressor_and_the_pattern_is_not(problems: dict[str, Problem]) -> None:
    problem = problems["suppressor"]
    gradient, true = means(score(problem, "saliency")), means(score(problem, pattern(problem)))
    assert gradient["energy: suppressor"] > 0.6
    assert gradient["energy"] < 0.4
    assert true["auc"] > 0.99
    assert true["energy: suppressor"] < 0.1
    assert true["energy"] > 5 * true["energy: suppressor"]


def test_the_gradient_is_right_about_what_the_network_uses(problems: dict[str, Problem]) -> None:
    used = means(score(problems["suppressor"], "saliency", truth="used"))
    assert used["auc"] == pytest.approx(1)
    assert used["energy"] == pytest.approx(1)
    assert torch.equal(problems["planted"].used, problems["planted"].relevant)


def test_the_gradient_finds_a_planted_patch_and_the_deconvnet_does_not(problems: dict[str, Problem]) -> None:
    problem = problems["planted"]
    for name in ("saliency", "guided", "integrated_gradients"):
        found = means(score(problem, name))
        assert found["auc"] == pytest.approx(1, abs=1e-6)
        assert found["energy"] == pytest.approx(1, abs=1e-5)
    assert means(score(problem, "deconvnet"))["auc"] < 0.7


def test_guided_backpropagation_and_the_deconvnet_show_the_other_object_too(problems: dict[str, Problem]) -> None:
    problem = problems["several"]
    for name in ("gradcam", "cam", "occlusion"):
        assert leaked(problem, name) < 0.1, name
    for name in ("guided", "deconvnet", "saliency"):
        assert leaked(problem, name) > 0.2, name
    assert leaked(problem, "deconvnet") > 0.35  # one half is not knowing them apart


def test_one_method_follows_two_networks_to_what_each_of_them_reads(problems: dict[str, Problem]) -> None:
    for name in ("occlusion", "gradcam"):
        ground = means(score(problems["shortcut"], name))
        shape = means(score(problems["object"], name))
        assert min(ground["energy"], shape["energy"]) > 0.35, name
        assert ground["energy: object"] < 0.15, name  # chance is 0.15
        assert shape["energy: ground"] < 0.15, name  # chance is 0.25


def test_a_method_may_be_given_by_name_class_instance_or_its_maps(problems: dict[str, Problem]) -> None:
    problem = problems["planted"]
    scenes = problem.scenes
    maps = Occlusion(problem.model, window=7, stride=7).attribute(scenes.x, scenes.target)
    expected = score(problem, maps)
    for what in (
        partial(Occlusion, window=7, stride=7),
        Occlusion(problem.model, window=7, stride=7),
        lambda model: Occlusion(model, window=7, stride=7),
    ):
        found = score(problem, what)
        assert all(torch.equal(found[key], expected[key]) for key in expected)
    assert torch.equal(score(problem, GradCAM)["auc"], score(problem, "gradcam")["auc"])
    with pytest.raises(InputError, match="must explain the model of 'planted'"):
        score(problem, Saliency(matched_filter()))
    with pytest.raises(InputError, match="truth must be"):
        score(problem, maps, truth="both")  # type: ignore[arg-type]


def test_an_empty_map_has_no_energy_and_chance_for_auc(problems: dict[str, Problem]) -> None:
    found = score(problems["object"], torch.zeros_like(problems["object"].scenes.x[:, :1]))
    assert found["energy"].isnan().all()
    assert (found["auc"] == 0.5).all()


def test_every_control_has_a_row() -> None:
    assert {control for control, _ in RIGHT} | {"random"} == set(CONTROLS)
