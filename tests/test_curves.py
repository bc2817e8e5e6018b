"""Perturbation curves: against slow loops, against algebra, and what no implementation detail may change."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from attrib.core import ClassScore, gaussian_blur
from attrib.core.network.cost import count
from attrib.errors import AttribError, InputError, ModelError, ShapeError, TargetError
from attrib.metrics import Curves, Protocol, curves
from tests import nets
from tests.oracles import curves as oracle
from tests.sweeps import DENSE

DOUBLE = torch.float64
SPACES: dict[str, Callable[[Tensor], Tensor]] = {
    "logit": lambda out: out,
    "probability": lambda out: out.softmax(1),
    "log_probability": lambda out: out.log_softmax(1),
    "log_odds": lambda out: out.softmax(1).logit(),
}


def net() -> nn.Module:
    return nets.fill(nets.Chain()).to(DOUBLE)


def linear(h: int = 8, w: int = 6) -> nets.Linear:
    model = nets.fill(nets.Linear(h, w)).to(DOUBLE)
    assert isinstance(model, nets.Linear)
    return model


def images(n: int = 2, h: int = 8, w: int = 6) -> Tensor:
    return nets.batch(n, h, w, dtype=DOUBLE)


def noise(n: int = 2, h: int = 8, w: int = 6, channels: int = 1, seed: int = 5) -> Tensor:
    return nets.batch(n, h, w, channels, seed=seed, dtype=DOUBLE)


def close(actual: Tensor, expected: Any) -> None:
    torch.testing.assert_close(actual, torch.as_tensor(expected, dtype=DOUBLE), rtol=1e-9, atol=1e-11)


def contributions(model: nets.Linear, x: Tensor, target: int) -> Tensor:
    """What each pixel adds to the logit over the zero baseline, ``(N, H*W)``."""
    return (model.weight(target) * x).sum(1).flatten(1)


# --- a second, independent computation ---------------------------------------------------------------------------

BASELINES: dict[str, tuple[Any, Callable[[Tensor], Tensor]]] = {
    "zero": ("zero", torch.zeros_like),
    "number": (0.7, lambda x: torch.full_like(x, 0.7)),
    "per channel": ((0.1, -0.2, 0.3), lambda x: torch.tensor([0.1, -0.2, 0.3]).to(x).view(1, 3, 1, 1).expand_as(x)),
    "mean": ("mean", lambda x: x.mean((2, 3), keepdim=True).expand_as(x)),
    "blur": ("blur", gaussian_blur),
}
CASES: dict[str, tuple[dict[str, Any], tuple[int, int, int]]] = {
    "every pixel": ({"steps": 200}, (1, 8, 6)),
    "few points": ({"steps": 6}, (1, 8, 6)),
    "only the ends": ({"steps": 2}, (1, 8, 6)),
    "rows": ({"steps": "rows"}, (1, 8, 6)),
    "patches": ({"unit": 2, "steps": 30}, (1, 8, 6)),
    "patches cut at the edges": ({"unit": 4, "steps": 4}, (1, 7, 5)),
    "patches larger than the image": ({"unit": 9, "steps": 4}, (1, 7, 5)),
    "one patch per row of a wide image": ({"unit": 5, "steps": 9}, (1, 5, 11)),
    "low resolution": ({"steps": 11}, (1, 3, 2)),
    "low resolution in patches": ({"steps": 11, "unit": 3}, (1, 3, 2)),
    "absolute": ({"sign": "absolute", "steps": 9}, (1, 8, 6)),
    "positive, half of it tied": ({"sign": "positive", "steps": 9}, (1, 8, 6)),
    "sum of channels": ({"channels": "sum", "steps": 9}, (3, 8, 6)),
    "mean of channels": ({"channels": "mean", "steps": 9, "sign": "absolute"}, (3, 8, 6)),
    "strongest channel": ({"channels": "max", "steps": 9}, (3, 8, 6)),
    "length of channels": ({"channels": "l2", "steps": 9}, (3, 4, 3)),
}


def compare(fields: dict[str, Any], x: Tensor, maps: Tensor, target: int = 3, base: str = "zero") -> None:
    """Our curves of a batch against the loops' of each example."""
    model, (name, fill) = net(), BASELINES[base]
    protocol = Protocol(**{"baseline": name, **fields})
    found = curves(model, x, target, maps, protocol)
    space = SPACES[protocol.score or "logit"]

    def score(picture: Tensor) -> float:
        with torch.no_grad():
            return float(space(model(picture))[0, target])

    for i in range(len(x)):
        slow = oracle.curves(
            score,
            x[i],
            maps[i],
            baselines=(fill(x)[i], fill(x)[i] if protocol.insertion_baseline is None else gaussian_blur(x)[i]),
            side=1 if protocol.unit == "pixel" else protocol.unit,
            steps=x.shape[2] + 1 if protocol.steps == "rows" else protocol.steps,
            sign=protocol.sign,
            channels=protocol.channels,
        )
        for curve, (fractions, scores) in {**slow, "morf": slow["deletion"]}.items():
            close(found.curve(curve)[0][i], fractions)
            close(found.curve(curve)[1][i], scores)
            close(found.auc(curve)[i], oracle.trapezoid(fractions, scores))


@pytest.mark.parametrize("case", CASES)
def test_curves_equal_those_of_a_loop_over_pixels(case: str) -> None:
    fields, (channels, h, w) = CASES[case]
    size = (8, 6) if h < 5 else (h, w)
    compare(fields, images(2, *size), noise(2, h, w, channels))


@pytest.mark.parametrize("space", SPACES)
def test_every_score_space_equals_that_of_a_loop(space: str) -> None:
    compare({"score": space, "steps": 7}, images(), noise())


@pytest.mark.parametrize("base", BASELINES)
def test_convention_every_baseline_equals_that_of_a_loop(base: str) -> None:
    compare({"steps": 7, "insertion_baseline": "blur"}, images(), noise(), base=base)


def test_convention_ties_are_broken_in_raster_order() -> None:
    compare({"steps": 12}, images(), (noise() * 1.5).round())


def test_a_plateau_of_an_upsampled_map_stays_a_plateau() -> None:
    maps = torch.tensor([[[[0.1, 0.1, 0.1], [0.1, 0.1, 0.3], [0.1, 0.1, 0.1]]]]).expand(2, -1, -1, -1)
    found = curves(net(), images(2, 9, 9), 1, maps, Protocol(steps=10))
    exact = curves(net(), images(2, 9, 9), 1, maps.double().mul(10).round(), Protocol(steps=10))
    close(found.curve("deletion")[1], exact.curve("deletion")[1])
    close(found.tied, exact.tied)


def test_tiny_values_keep_their_order_when_they_are_resized() -> None:
    model, x, maps = net(), images(), noise(2, 4, 3)
    plain, tiny = (curves(model, x, 1, m, Protocol(steps=9)) for m in (maps, maps * 1e-60))
    close(tiny.curve("deletion")[1], plain.curve("deletion")[1])


# --- answers known by algebra ------------------------------------------------------------------------------------


def test_a_linear_model_loses_the_sorted_contributions_one_by_one() -> None:
    model, x = linear(), images()
    parts = contributions(model, x, 2)
    found = curves(model, x, 2, parts.reshape(2, 1, 8, 6), Protocol(score="logit", steps=49))
    fallen = parts.sort(1, descending=True).values.cumsum(1)
    start = model(x)[:, 2].detach()
    close(found.curve("deletion")[1], torch.cat([start[:, None], start[:, None] - fallen], 1))
    close(found.curve("insertion")[1][:, 1:], start[:, None] - parts.sum(1, keepdim=True) + fallen)


def test_removing_linear_contributions_first_is_the_best_order_there_is() -> None:
    model, x = linear(), images()
    maps = {"true": contributions(model, x, 2).reshape(2, 1, 8, 6), **{str(s): noise(seed=s) for s in range(20)}}
    found = curves(model, x, 2, maps, Protocol(score="logit", steps=13))
    best = found.pop("true")
    assert all((best.auc("deletion") <= other.auc("deletion")).all() for other in found.values())
    assert all((best.srg() >= other.srg()).all() for other in found.values())


def test_the_area_converges_to_that_of_all_pixels() -> None:
    model, x = linear(8, 8), images(2, 8, 8)
    maps = contributions(model, x, 2).reshape(2, 1, 8, 8)
    areas = [curves(model, x, 2, maps, Protocol(score="logit", steps=2**k + 1)).auc("deletion") for k in range(1, 7)]
    errors = [(area - areas[-1]).abs() for area in areas[:-1]]
    assert all((finer < coarser).all() for coarser, finer in pairwise(errors))
    assert (errors[-1] < 1e-2 * errors[0]).all()


@pytest.mark.parametrize("name", ["deletion", "insertion", "lerf", "srg"])
def test_the_area_is_off_by_no_more_than_the_stated_error(name: str) -> None:
    model, x = linear(), images(6).abs() * linear().weight(2).sign()  # every pixel adds to the score
    coarse, fine = (curves(model, x, 2, noise(6), Protocol(score="logit", steps=k)) for k in (7, 49))
    error = (coarse.auc(name) - fine.auc(name)).abs()
    assert (error <= coarse.integration_error(name)).all()
    assert (error > 0).all()
    if name != "srg":  # half a step of the whole fall, as the score only falls
        close(coarse.integration_error(name), (model(x) - model(0 * x))[:, 2].detach() / 12)


def test_random_maps_have_the_expected_area_on_a_linear_model() -> None:
    model, x = linear(), images(1)
    maps = {str(seed): noise(1, seed=seed) for seed in range(200)}
    found = curves(model, x, 2, maps, Protocol(score="logit", steps=9), which=["deletion"])
    areas = torch.cat([one.auc("deletion") for one in found.values()])
    ends = model(torch.cat([x, torch.zeros_like(x)]))[:, 2]
    assert abs(areas.mean() - ends.mean()) < 3 * areas.std() / len(areas) ** 0.5


# --- RISE --------------------------------------------------------------------------------------------------------


def rise_by_hand(model: nn.Module, image: np.ndarray, attribution: np.ndarray, inserting: bool) -> tuple[Any, float]:
    """The published settings, one image at a time: rows of pixels, zeros, SciPy's blur, softmax, equal steps."""
    filters = pytest.importorskip("scipy.ndimage", reason="the published kernel is made by SciPy")
    dot = np.zeros((11, 11))
    dot[5, 5] = 1.0
    kernel = filters.gaussian_filter(dot, 5)
    height, width = attribution.shape
    blurred = np.stack([filters.correlate(channel, kernel, mode="constant") for channel in image])

    def probabilities(picture: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return np.asarray(model(torch.from_numpy(picture)[None]).softmax(1)[0])

    winner = int(probabilities(image).argmax())
    canvas = (blurred if inserting else image).copy().reshape(3, -1)
    final = (image if inserting else np.zeros_like(image)).reshape(3, -1)
    ranked = np.argsort(-attribution.ravel())
    scores = [probabilities(canvas.reshape(image.shape))[winner]]
    for row in range(height):
        chosen = ranked[row * width : (row + 1) * width]
        canvas[:, chosen] = final[:, chosen]
        scores.append(probabilities(canvas.reshape(image.shape))[winner])
    curve = np.array(scores)
    return curve, float((curve.sum() - curve[0] / 2 - curve[-1] / 2) / (len(curve) - 1))


@pytest.mark.parametrize("size", [(16, 16), (14, 20)])
def test_the_numbers_of_rise_are_those_of_its_published_settings(size: tuple[int, int]) -> None:
    model, x, maps = net(), images(2, *size), noise(2, *size)
    found = curves(model, x, "predicted", maps, "rise")
    for i in range(2):
        for name, inserting in (("deletion", False), ("insertion", True)):
            curve, area = rise_by_hand(model, x[i].numpy(), maps[i, 0].numpy(), inserting)
            close(found.curve(name)[1][i], curve)
            close(found.auc(name)[i], area)


# --- what must not change a number -------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([torch.exp, torch.atan, lambda m: 3 * m - 7, lambda m: m**3]))
def test_only_the_order_of_a_map_counts(seed: int, transform: Callable[[Tensor], Tensor]) -> None:
    maps = (noise(seed=seed) * 8).round() / 8  # apart enough to stay apart, with ties
    model, x = net(), images()
    one, other = (curves(model, x, 1, m, Protocol(steps=7)) for m in (maps, transform(maps)))
    for name in one.names:
        close(one.curve(name)[1], other.curve(name)[1])


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 60), st.integers(1, 9), st.sampled_from(["stable", "mean", "bounds"]))
def test_areas_of_probabilities_lie_between_0_and_1(seed: int, steps: int, unit: int, ties: Any) -> None:
    protocol = Protocol(steps=steps, unit=unit, ties=ties, tie_orders=2)
    found = curves(net(), images(), 1, noise(seed=seed).round(), protocol)
    for name in found.names:
        fraction, score = found.curve(name)
        close(fraction[:, [0, -1]], [[0.0, 1.0]] * 2)
        assert (fraction.diff(dim=1) > 0).all()
        assert ((score >= 0) & (score <= 1)).all()
        assert ((found.auc(name) >= 0) & (found.auc(name) <= 1)).all()
        assert (found.bounds(name)[:, 0] <= found.auc(name) + 1e-12).all()
        assert (found.auc(name) <= found.bounds(name)[:, 1] + 1e-12).all()
    assert (found.srg().abs() <= 1).all()


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 60), st.sampled_from([1, 2, 3, 5]))
def test_convention_inserting_the_best_is_removing_the_worst_backwards(seed: int, steps: int, unit: int) -> None:
    found = curves(net(), images(2, 7, 5), 1, noise(2, 7, 5, seed=seed).round(), Protocol(steps=steps, unit=unit))
    (inserted, up), (removed, down) = found.curve("insertion"), found.curve("lerf")
    close(inserted, 1 - removed.flip(1))
    close(up, down.flip(1))


def test_a_blurred_start_of_insertion_leaves_the_removal_curves_alone() -> None:
    plain, blurred = (
        curves(net(), images(), 1, noise(), Protocol(steps=7, insertion_baseline=b)) for b in (None, "blur")
    )
    for name in ("deletion", "lerf"):
        close(plain.curve(name)[1], blurred.curve(name)[1])
    assert (plain.auc("insertion") != blurred.auc("insertion")).all()


def test_the_reverse_of_a_map_without_ties_swaps_morf_and_lerf() -> None:
    one, other = (curves(net(), images(), 1, m, Protocol(steps=7)) for m in (noise(), -noise()))
    close(one.srg(), -other.srg())
    assert (one.srg() != 0).all()


@pytest.mark.parametrize("batch_size", [1, 2, 3, 7, "auto"])
@pytest.mark.parametrize("ties", ["stable", "bounds"])
def test_the_batch_size_does_not_matter(batch_size: Any, ties: Any) -> None:
    model, x, maps = net(), images(3), noise(3).round()
    protocol = Protocol(steps=6, ties=ties, tie_orders=2, insertion_baseline="blur")
    one = curves(model, x, [1, 2, 3], maps, protocol, batch_size=64)
    other = curves(model, x, [1, 2, 3], maps, protocol, batch_size=batch_size)
    for name in one.names:
        close(one.auc(name), other.auc(name))
        close(one.bounds(name), other.bounds(name))


@pytest.mark.parametrize("ties", ["stable", "mean", "bounds"])
def test_an_example_does_not_depend_on_its_neighbours(ties: Any) -> None:
    model, x, maps = net(), images(4), noise(4).round()
    maps[2] = noise(1)[0]  # one example without ties among others with
    protocol, turn = Protocol(steps=6, ties=ties, tie_orders=4), [2, 0, 3, 1]
    whole = curves(model, x, "predicted", maps, protocol)
    turned = curves(model, x[turn], "predicted", maps[turn], protocol)
    for name in whole.names:
        close(turned.auc(name), whole.auc(name)[turn])
        for i in range(4):
            alone = curves(model, x[i : i + 1], "predicted", maps[i : i + 1], protocol)
            close(alone.auc(name), whole.auc(name)[i : i + 1])


def test_methods_measured_together_get_the_numbers_they_get_alone() -> None:
    model, x = net(), images()
    maps = {"a": noise(), "b": noise(2, 4, 3), "c": torch.ones(2, 1, 8, 6)}
    together = curves(model, x, "predicted", maps, Protocol(steps=6))
    assert list(together) == ["a", "b", "c"]
    for name, one in maps.items():
        alone = curves(model, x, "predicted", one, Protocol(steps=6))
        close(together[name].srg(), alone.srg())
        close(together[name].auc("insertion"), alone.auc("insertion"))


# --- what it costs -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "which", "maps", "passes"),
    [
        ({}, None, 1, 2 + 2 * 8),
        ({}, ["deletion", "morf"], 1, 2 + 8),
        ({}, ["insertion", "lerf"], 1, 2 + 8),
        ({"insertion_baseline": "blur"}, None, 1, 3 + 3 * 8),
        ({"insertion_baseline": "blur"}, ["insertion"], 1, 2 + 8),
        ({"order": "morf"}, None, 1, 2 + 2 * 8),
        ({"order": "lerf"}, None, 1, 2 + 8),
        ({}, None, 3, 2 + 3 * 2 * 8),
        ({"ties": "mean"}, None, 1, 2 + 2 * 8),
    ],
)
def test_masked_images_are_shared_and_not_scored_twice(
    fields: dict[str, Any], which: Any, maps: int, passes: int
) -> None:
    several = {str(i): noise(seed=i) for i in range(maps)}
    with count() as cost:
        curves(net(), images(), 1, several, Protocol(steps=10, **fields), which=which, **DENSE)
    assert cost.forwards == 2 * passes
    assert cost.backwards == 0


# --- the score ---------------------------------------------------------------------------------------------------


def test_convention_the_predicted_class_is_decided_once_on_the_clean_image() -> None:
    model, x = linear(), images(6)
    winners = model(x).argmax(1)
    assert (model(torch.zeros_like(x)).argmax(1) != winners).any()
    bound = curves(model, x, winners, noise(6), Protocol(steps=6))
    predicted = curves(model, x, "predicted", noise(6), Protocol(steps=6))
    close(predicted.curve("deletion")[1], bound.curve("deletion")[1])


def test_convention_the_protocol_decides_the_score_space_unless_it_leaves_it_to_the_target() -> None:
    model, x = net(), images()
    asked = curves(model, x, ClassScore(1, "log_odds"), noise(), Protocol(steps=6, score="logit"))
    close(asked.curve("deletion")[1][:, 0], model(x)[:, 1].detach())
    own = curves(model, x, ClassScore(1, "log_odds"), noise(), Protocol(steps=6, score=None))
    close(own.curve("deletion")[1][:, 0], model(x).softmax(1)[:, 1].logit().detach())


def test_any_number_per_example_can_be_followed() -> None:
    model, x = net(), images()
    found = curves(model, x, lambda out: out[:, 1] - out[:, 2], noise(), Protocol(steps=6, score=None))
    close(found.curve("deletion")[1][:, 0], (model(x)[:, 1] - model(x)[:, 2]).detach())
    with pytest.raises(TargetError, match="score space 'probability' must be asked of a class"):
        curves(model, x, lambda out: out[:, 1], noise())


def test_further_arguments_follow_their_example() -> None:
    model = nets.fill(nets.TwoInputs()).to(DOUBLE)
    x, y, weight = images(), noise(channels=3), torch.tensor([0.5, 2.0], dtype=DOUBLE)
    found = curves(model, x, 1, noise(), Protocol(steps=6, score="logit"), additional_forward_args=(y, weight))
    for i in range(2):
        one = slice(i, i + 1)
        extra = (y[one], weight[one])
        alone = curves(model, x[one], 1, noise()[one], Protocol(steps=6, score="logit"), additional_forward_args=extra)
        close(found.srg()[one], alone.srg())


# --- Convention of Curves ----------------------------------------------------------------------------------------


def test_convention_results_are_float64_on_the_cpu_and_one_row_per_example() -> None:
    found = curves(nets.fill(nets.Chain()), images().float(), 1, noise().float(), Protocol(steps=6))
    for tensor in (found.auc("deletion"), found.srg(normalised=True), found.tied, *found.curve("lerf")):
        assert tensor.dtype == DOUBLE
        assert tensor.device.type == "cpu"
        assert len(tensor) == 2


def test_convention_deletion_is_morf() -> None:
    found = curves(net(), images(), 1, noise(), Protocol(steps=6, insertion_baseline="blur"))
    assert torch.equal(found.curve("deletion")[1], found.curve("morf")[1])


def test_convention_the_axis_is_the_share_of_pixels_really_removed() -> None:
    maps = torch.zeros(1, 1, 5, 5)
    maps[..., 4, 4] = 1  # the smallest of nine patches of side 2: one pixel
    found = curves(net(), images(1, 5, 5), 1, maps, Protocol(unit=2, steps=10))
    close(found.curve("deletion")[0][0, :3], [0, 1 / 25, 5 / 25])
    close(found.curve("lerf")[0][0, -2:], [24 / 25, 1])


def test_convention_srg_is_lerf_minus_morf() -> None:
    found = curves(net(), images(), 1, noise(), Protocol(steps=6))
    close(found.srg(), found.auc("lerf") - found.auc("morf"))
    close(found.bounds("srg")[:, 0], found.srg())


def test_convention_normalised_areas_count_from_the_baseline_to_the_image() -> None:
    model, x = linear(), images(6)
    found = curves(model, x, 2, noise(6), Protocol(score="logit", steps=9, insertion_baseline=0.5))
    clean, zero, half = (model(v)[:, 2].detach() for v in (x, 0 * x, 0 * x + 0.5))
    for name, floor in (("deletion", zero), ("lerf", zero), ("insertion", half)):
        expected = ((found.auc(name) - floor) / (clean - floor)).where(clean > floor, float("nan"))
        torch.testing.assert_close(found.auc(name, normalised=True), expected, equal_nan=True)
    expected = (found.srg() / (clean - zero)).where(clean > zero, float("nan"))
    torch.testing.assert_close(found.srg(normalised=True), expected, equal_nan=True)
    lost = (clean <= zero) | (clean <= half)
    assert 0 < int(lost.sum()) < 6
    assert found.counts()["undefined"] == int(lost.sum())


def test_convention_a_gap_within_rounding_is_undefined() -> None:
    found = curves(lambda x: 1 + 1e-11 * x.sum((1, 2, 3)), images().abs(), None, noise(), Protocol(score=None, steps=6))
    assert found.auc("deletion", normalised=True).isnan().all()
    assert found.counts()["undefined"] == 2
    assert found.auc("deletion").isfinite().all()


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_convention_a_broken_map_is_counted_and_has_no_number(bad: float) -> None:
    model, x, maps = net(), images(4), noise(4)
    maps[1, 0, 2, 3], maps[2], maps[3] = bad, 0.0, 0.1
    found = curves(model, x, 1, maps, Protocol(steps=6))
    assert found.status == ("ok", "nan", "zero", "constant")
    assert found.auc("deletion").isnan().tolist() == [False, True, False, False]
    assert found.srg().isnan().tolist() == [False, True, False, False]
    assert found.tied.isnan().tolist() == [False, True, False, False]
    assert {k: v for k, v in found.counts().items() if k != "undefined"} == {
        "ok": 1,
        "constant": 1,
        "zero": 1,
        "nan": 1,
    }
    close(found.auc("lerf")[[0, 2]], curves(model, x[[0, 2]], 1, maps[[0, 2]], Protocol(steps=6)).auc("lerf"))


# --- nothing is left behind, and bad input is refused ------------------------------------------------------------


class Breaks(nn.Module):
    """Fails in the n-th forward pass; has state that a pass changes in training mode."""

    def __init__(self, after: int) -> None:
        super().__init__()
        self.body, self.norm, self.drop = nets.Chain(), nn.BatchNorm2d(3), nn.Dropout()
        self.left = after

    def forward(self, x: Tensor) -> Tensor:
        self.left -= 1
        if self.left == 0:
            raise RuntimeError("out of luck")
        out: Tensor = self.body(self.drop(self.norm(x)))
        return out


@pytest.mark.parametrize("after", [1, 2, 4, 1000])
@pytest.mark.parametrize("ties", ["stable", "bounds"])
def test_model_images_maps_and_random_state_are_left_as_found(after: int, ties: Any) -> None:
    model, x, maps = Breaks(after).train(), images().float().requires_grad_(), noise().round()
    model.norm.eval()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    flags, values, ranks = [m.training for m in model.modules()], x.detach().clone(), maps.clone()
    random = torch.get_rng_state()
    try:
        curves(model, x, 1, maps, Protocol(steps=6, ties=ties, tie_orders=2), batch_size=2)
    except ModelError:
        assert after < 1000
    assert [m.training for m in model.modules()] == flags
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert all(p.requires_grad and p.grad is None for p in model.parameters())
    assert torch.equal(x.detach(), values)
    assert x.requires_grad
    assert x.grad is None
    assert torch.equal(maps, ranks)
    assert torch.equal(torch.get_rng_state(), random)


def test_it_works_without_gradients_and_on_plain_functions() -> None:
    with torch.no_grad():
        one = curves(net(), images(), 1, noise(), Protocol(steps=6))
    other = curves(net().forward, images(), 1, noise(), Protocol(steps=6))
    close(one.srg(), other.srg())


def test_images_made_in_inference_mode_are_welcome() -> None:
    with torch.inference_mode():
        x = images()
    maps, protocol = torch.ones(2, 1, 8, 6), Protocol(steps=6, ties="bounds", tie_orders=2)
    close(curves(net(), x, 1, maps, protocol).bounds("srg"), curves(net(), images(), 1, maps, protocol).bounds("srg"))


X = images()
REFUSED: dict[str, tuple[Callable[[], Any], type[AttribError], str]] = {
    "another batch size": (lambda: curves(net(), X, 1, noise(3)), ShapeError, r"maps must have shape \(N=2"),
    "no channel axis": (lambda: curves(net(), X, 1, noise()[:, 0]), ShapeError, r"maps must have shape \(N=2"),
    "which map": (lambda: curves(net(), X, 1, {"cam": noise(3)}), ShapeError, r"maps\['cam'\] must have shape"),
    "too large": (lambda: curves(net(), X, 1, noise(2, 9, 6)), ShapeError, r"at most the input's \(8, 6\)"),
    "no tensor": (lambda: curves(net(), X, 1, [1.0]), InputError, "must be a real Tensor .* got list"),  # type: ignore[call-overload]
    "complex": (
        lambda: curves(net(), X, 1, noise() * 1j),
        InputError,
        r"must be a real Tensor \(N, C, h, w\); got torch\.complex128",
    ),
    "NaN image": (lambda: curves(net(), X / 0, 1, noise()), InputError, "inputs must be finite"),
    "no picture": (lambda: curves(net(), X.flatten(1), 1, noise()), ShapeError, r"x must have shape \(N, C, H, W\)"),
    "two inputs": (lambda: curves(net(), (X, X), 1, noise()), ShapeError, "x must be one Tensor; got 2"),  # type: ignore[call-overload]
    "target": (lambda: curves(net(), X, 5, noise()), TargetError, r"target must lie in \[0, 4\]"),
    "channels": (
        lambda: curves(net(), X, 1, noise(), Protocol(baseline=(0.0, 0.1))),
        ShapeError,
        "one number for each of 3 channels; got 2",
    ),
    "curve": (lambda: curves(net(), X, 1, noise(), which=["roc"]), InputError, "which curve.* got 'roc'"),
    "order": (
        lambda: curves(net(), X, 1, noise(), Protocol(order="lerf"), which=["insertion"]),
        InputError,
        "which curve, for a protocol of order lerf, must be one of 'lerf'; got 'insertion'",
    ),
    "no curve": (lambda: curves(net(), X, 1, noise(), which=[]), InputError, "at least one curve"),
    "not measured": (
        lambda: curves(net(), X, 1, noise(), which=["lerf"]).srg(),
        InputError,
        "one of those measured, lerf; got 'morf'",
    ),
    "protocol": (lambda: curves(net(), X, 1, noise(), 7), InputError, "protocol must be a Protocol"),  # type: ignore[call-overload]
}


@pytest.mark.parametrize("case", REFUSED)
def test_bad_input_is_refused_in_words(case: str) -> None:
    call, error, message = REFUSED[case]
    with pytest.raises(error, match=message):
        call()


def test_an_unknown_option_is_refused_before_the_model_runs() -> None:
    def never(x: Tensor) -> Tensor:
        raise AssertionError("ran")

    with pytest.raises(TypeError, match=r"no option 'batchsize'\. Did you mean 'batch_size'"):
        curves(never, images(), 1, noise(), batchsize=3)


def test_results_cannot_be_changed_by_accident() -> None:
    found: Curves = curves(net(), images(), 1, noise(), Protocol(steps=4))
    with pytest.raises(AttributeError):
        found.protocol = replace(found.protocol, steps=5)  # type: ignore[misc]
