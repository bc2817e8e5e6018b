"""Intervals and paired tests, against enumeration, simulation and algebra."""

from __future__ import annotations

from itertools import product
from math import isnan, nan
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from attrib.benchmark.stats import beats, bootstrap_interval, paired_permutation_test, worst_sign
from attrib.errors import InputError, ShapeError

VALUES = st.lists(st.floats(-5, 5).map(lambda v: round(v, 2)), min_size=1, max_size=7)


def normal(n: int, mean: float = 0.0, seed: int = 0) -> Tensor:
    return torch.randn(n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) + mean


# --- bootstrap ---------------------------------------------------------------------------------------------------


def test_the_interval_of_two_values_is_known() -> None:
    # Means of resamples: 0, 1/2, 1 with probability 1/4, 1/2, 1/4.
    assert [getattr(bootstrap_interval([0.0, 1.0], 0.6), name) for name in ("low", "mean", "high")] == [0.0, 0.5, 1.0]
    assert [getattr(bootstrap_interval([0.0, 1.0], 0.4), name) for name in ("low", "mean", "high")] == [0.5, 0.5, 0.5]


def test_the_interval_approaches_that_of_the_normal_mean() -> None:
    values = normal(400)
    found = bootstrap_interval(values, 0.9, n=20_000)
    half = 1.645 * float(values.std(correction=0)) / 20
    assert found.low == pytest.approx(float(values.mean()) - half, abs=0.1 * half)
    assert found.high == pytest.approx(float(values.mean()) + half, abs=0.1 * half)


def test_the_interval_covers_the_true_mean_as_often_as_it_says() -> None:
    covered = 0
    for seed in range(300):
        found = bootstrap_interval(normal(50, 2.0, seed), 0.8, n=400, seed=seed)
        covered += found.low <= 2.0 <= found.high
    assert 0.73 < covered / 300 < 0.85


def test_a_higher_level_gives_a_wider_interval() -> None:
    narrow, wide = (bootstrap_interval(normal(30), level) for level in (0.5, 0.99))
    assert wide.low < narrow.low < narrow.mean < narrow.high < wide.high


def test_the_same_seed_gives_the_same_interval_and_leaves_the_random_state() -> None:
    random = torch.get_rng_state()
    first, again, other = (bootstrap_interval(normal(30), seed=s) for s in (4, 4, 5))
    assert first == again
    assert first != other
    assert torch.equal(torch.get_rng_state(), random)


def test_splitting_the_work_does_not_bias_the_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = bootstrap_interval(normal(40))
    monkeypatch.setattr("attrib.benchmark.stats._CHUNK", 1000)
    parts = bootstrap_interval(normal(40))
    assert parts.low == pytest.approx(whole.low, abs=0.02)
    assert parts.high == pytest.approx(whole.high, abs=0.02)


def test_convention_undefined_values_are_counted_and_left_out() -> None:
    found = bootstrap_interval([1.0, nan, 2.0, nan, 3.0])
    clean = bootstrap_interval([1.0, 2.0, 3.0])
    assert (found.count, found.undefined) == (3, 2)
    assert (found.mean, found.low, found.high) == (clean.mean, clean.low, clean.high)
    assert "n=3, 2 undefined" in str(found)


@pytest.mark.parametrize(("values", "mean"), [([2.0], 2.0), ([2.0, nan], 2.0), ([], nan), ([nan], nan)])
def test_too_few_values_have_no_interval(values: list[float], mean: float) -> None:
    found = bootstrap_interval(values)
    assert found.mean == mean or (isnan(found.mean) and isnan(mean))
    assert isnan(found.low)
    assert isnan(found.high)


# --- paired test -------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(VALUES, st.sampled_from(["greater", "less", "two-sided"]))
def test_convention_a_small_test_equals_the_enumeration_of_all_signs(gaps: list[float], alternative: Any) -> None:
    seen, hits = sum(gaps), 0
    for signs in product((1, -1), repeat=len(gaps)):
        total = sum(s * g for s, g in zip(signs, gaps, strict=True))
        extreme = {"greater": total - seen, "less": seen - total, "two-sided": abs(total) - abs(seen)}[alternative]
        hits += extreme >= -1e-9
    found = paired_permutation_test(gaps, [0.0] * len(gaps), alternative=alternative)
    assert found.exact
    assert found.p == hits / 2 ** len(gaps)
    assert found.difference == pytest.approx(seen / len(gaps))


@settings(max_examples=30, deadline=None)
@given(VALUES, VALUES)
def test_swapping_the_sides_swaps_the_direction(a: list[float], b: list[float]) -> None:
    n = min(len(a), len(b))
    up = paired_permutation_test(a[:n], b[:n], alternative="greater")
    down = paired_permutation_test(b[:n], a[:n], alternative="less")
    assert up.p == down.p
    assert up.difference == pytest.approx(-down.difference)


def test_random_signs_approach_the_exact_test(monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = normal(12, 0.4), normal(12, 0.0, 1)
    exact = paired_permutation_test(a, b)
    monkeypatch.setattr("attrib.benchmark.stats._EXACT_UP_TO", 0)
    sampled = paired_permutation_test(a, b, n=40_000)
    assert exact.exact
    assert not sampled.exact
    assert sampled.p == pytest.approx(exact.p, abs=0.01)
    assert sampled.smallest == 1 / 40_001


def test_convention_a_sampled_p_is_never_zero_and_depends_on_the_seed_only() -> None:
    strong = paired_permutation_test(normal(60, 5.0), normal(60, 0.0, 1), n=999)
    assert strong.p == strong.smallest == 1 / 1000
    first, again, other = (paired_permutation_test(normal(30, 0.2), normal(30, 0, 1), seed=s) for s in (1, 1, 2))
    assert first == again
    assert first != other


def test_the_test_rejects_a_true_null_as_often_as_it_says() -> None:
    small = sum(paired_permutation_test(normal(10, 0, s), normal(10, 0, 500 + s)).p <= 0.2 for s in range(400))
    assert 0.15 < small / 400 < 0.25


def test_convention_pairs_with_an_undefined_value_are_counted_and_left_out() -> None:
    found = paired_permutation_test([1.0, nan, 3.0, 4.0], [0.0, 0.0, nan, 0.0])
    assert (found.pairs, found.undefined, found.difference) == (2, 2, 2.5)
    nothing = paired_permutation_test([nan], [1.0])
    assert (nothing.pairs, nothing.p, nothing.smallest) == (0, 1.0, 1.0)
    assert isnan(nothing.difference)


# --- verdict -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("higher_is_better", [True, False])
def test_a_clearly_better_method_beats_the_control_and_a_worse_one_does_not(higher_is_better: bool) -> None:
    good, bad = normal(20, 2.0), normal(20, 0.0, 1)
    method, control = (good, bad) if higher_is_better else (bad, good)
    assert beats(method, control, higher_is_better=higher_is_better).beats is True
    assert beats(control, method, higher_is_better=higher_is_better).beats is False
    assert beats(method, method, higher_is_better=higher_is_better).beats is False


@pytest.mark.parametrize(("n", "answer"), [(0, None), (1, None), (4, None), (5, True)])
def test_too_few_images_give_no_answer_rather_than_no(n: int, answer: bool | None) -> None:
    verdict = beats([1.0] * n, [0.0] * n, higher_is_better=True)
    assert verdict.beats is answer
    assert ("too few images to tell" in str(verdict)) == (answer is None)


def test_the_sign_in_tables_is_for_what_is_not_better_or_not_sure_and_not_for_nothing() -> None:
    found = {
        name: beats(method, [0.0] * len(method), higher_is_better=True)
        for name, method in {"": [1.0] * 5, "?": [1.0], "!": [-1.0], " !": [-1.0] * 5, " ": [nan, nan]}.items()
    }
    assert {name: verdict.sign for name, verdict in found.items()} == {name: name.strip() for name in found}
    assert worst_sign(found) == "!"
    assert worst_sign({name: found[name] for name in ("", "?", " ")}) == "?"
    assert worst_sign({}) == worst_sign({"": found[""]}) == ""


def test_too_few_sign_patterns_give_no_answer_either() -> None:
    verdict = beats(normal(30, 3.0), normal(30), higher_is_better=True, alpha=0.01, n=50)
    assert verdict.beats is None
    assert "too few sign patterns" in str(verdict)


def test_a_stricter_level_can_change_the_verdict() -> None:
    method, control = normal(12, 0.8), normal(12, 0.0, 1)
    p = beats(method, control, higher_is_better=True).test.p
    assert beats(method, control, higher_is_better=True, alpha=p * 1.01).beats is True
    assert beats(method, control, higher_is_better=True, alpha=p * 0.99).beats is False


def test_a_method_that_is_worse_on_average_beats_nothing_at_any_level() -> None:
    worse = beats([0.0, 0.1, 0.0, 0.2, 0.0], [0.1, 0.0, 0.1, 0.1, 0.1], higher_is_better=True, alpha=0.99)
    assert worse.test.difference < 0
    assert worse.test.p < 0.99
    assert worse.beats is False


def test_convention_the_seeds_of_a_control_are_averaged_image_by_image() -> None:
    method, control = normal(10, 1.0), torch.stack([normal(10, 0.0, s) for s in range(3)])
    assert beats(method, control, higher_is_better=True) == beats(method, control.mean(0), higher_is_better=True)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: bootstrap_interval([1.0, float("inf")]), InputError, "values must be finite or NaN .* got 1 infinite"),
        (lambda: bootstrap_interval([[1.0]]), ShapeError, r"values must have shape \(N\)"),  # type: ignore[list-item]
        (lambda: bootstrap_interval([1.0], 1.0), InputError, r"level must lie between 0 and 1; got 1\.0"),
        (lambda: bootstrap_interval([1.0, 2.0], n=0), InputError, "n must be an integer >= 1"),
        (lambda: paired_permutation_test([1.0], [1.0, 2.0]), ShapeError, "one value per example each; got 1 and 2"),
        (lambda: paired_permutation_test([1.0], [1.0], alternative="more"), InputError, "alternative must be one of"),  # type: ignore[arg-type]
        (lambda: beats([1.0], [1.0], higher_is_better=True, alpha=0.0), InputError, "alpha must lie between 0 and 1"),
        (lambda: beats([1.0], 1.0, higher_is_better=True), ShapeError, r"control must have shape \(N\)"),  # type: ignore[arg-type]
    ],
)
def test_bad_arguments_are_refused_in_words(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()
