"""All pairs of methods: effect sizes, corrected p-values, verdicts; against loops, SciPy and algebra."""

from __future__ import annotations

from itertools import pairwise
from math import isnan, nan, sqrt

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from attrib.benchmark import adjust, compare_pairs, effect_size, paired_permutation_test
from attrib.errors import InputError, ShapeError
from tests.oracles import statistics as oracle

GRID = st.integers(-8, 8).map(lambda v: v / 4)  # exact in binary, so that ties are ties
SIDES = st.lists(st.tuples(GRID, GRID), min_size=1, max_size=9)
CHANCES = st.lists(st.floats(0, 1), min_size=1, max_size=12)


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


# --- effect size


def test_d_z_is_the_mean_difference_over_its_standard_deviation() -> None:
    # Differences 2, 3, 4, -1: mean 2, sum of squares about it 14.
    assert effect_size([3, 4, 5, 1], [1, 1, 1, 2]).d_z == pytest.approx(2 / sqrt(14 / 3))


def test_d_z_is_the_t_statistic_over_the_root_of_n() -> None:
    a, b = normal(30), normal(30, seed=1)
    assert effect_size(a, b).d_z == pytest.approx(scipy.stats.ttest_rel(a, b).statistic / sqrt(30))


def test_convention_equal_differences_have_no_standard_deviation_to_be_measured_by() -> None:
    assert isnan(effect_size([0.1, 0.2, 0.3], [0.0, 0.1, 0.2]).d_z)
    assert isnan(effect_size([1.0], [0.0]).d_z)


@given(SIDES)
def test_the_rank_biserial_correlation_equals_the_loop(sides: list[tuple[float, float]]) -> None:
    a, b = map(list, zip(*sides, strict=True))
    assert effect_size(a, b).rank_biserial == pytest.approx(oracle.rank_biserial(a, b))


def test_the_rank_biserial_correlation_is_that_of_wilcoxons_rank_sums() -> None:
    a, b = normal(25) + 0.3, normal(25, seed=1)
    larger = scipy.stats.wilcoxon(a, b, alternative="greater").statistic  # the sum of positive ranks
    assert effect_size(a, b).rank_biserial == pytest.approx(2 * larger / (25 * 26 / 2) - 1)


@given(SIDES)
def test_convention_swapping_the_sides_changes_the_signs_and_nothing_else(sides: list[tuple[float, float]]) -> None:
    a, b = map(list, zip(*sides, strict=True))
    there, back = effect_size(a, b), effect_size(b, a)
    assert there.rank_biserial == -back.rank_biserial
    assert there.d_z == -back.d_z or (isnan(there.d_z) and isnan(back.d_z))
    assert (there.wins, there.losses, there.ties) == (back.losses, back.wins, back.ties)


@given(SIDES, st.sampled_from([0.25, 2.0, 1024.0]))
def test_convention_the_unit_of_the_metric_does_not_matter(sides: list[tuple[float, float]], unit: float) -> None:
    a, b = (np.array(side) for side in zip(*sides, strict=True))
    assert_allclose(
        [effect_size(unit * a, unit * b).d_z, effect_size(unit * a, unit * b).rank_biserial],
        [effect_size(a, b).d_z, effect_size(a, b).rank_biserial],
    )


@given(SIDES, st.randoms(use_true_random=False))
def test_the_order_of_images_does_not_matter(sides: list[tuple[float, float]], random: object) -> None:
    mixed = list(sides)
    random.shuffle(mixed)  # type: ignore[attr-defined]
    first, second = (effect_size(*map(list, zip(*one, strict=True))) for one in (sides, mixed))
    assert_allclose([first.d_z, first.rank_biserial], [second.d_z, second.rank_biserial], atol=1e-12)


def test_convention_undefined_pairs_are_counted_and_left_out() -> None:
    found, clean = effect_size([3, nan, 5, 1, 2], [1, 1, nan, 2, 2]), effect_size([3, 1, 2], [1, 2, 2])
    assert (found.d_z, found.rank_biserial) == (clean.d_z, clean.rank_biserial)
    assert (found.pairs, found.undefined, found.wins, found.losses, found.ties) == (3, 2, 1, 1, 1)


def test_convention_equal_sides_have_no_effect_and_no_sides_have_none_to_tell() -> None:
    assert effect_size([1, 2], [1, 2]).rank_biserial == 0.0
    assert isnan(effect_size([nan], [1]).rank_biserial)
    with pytest.raises(ShapeError, match="must be paired"):
        effect_size([1, 2], [1])


# --- correction


@given(CHANCES, st.floats(0.001, 0.999))
def test_convention_holm_rejects_what_the_step_down_procedure_rejects(p: list[float], alpha: float) -> None:
    assert [one <= alpha for one in adjust(p)] == oracle.holm(p, alpha)


@given(CHANCES)
def test_convention_bh_is_scipys_and_never_stricter_than_holm(p: list[float]) -> None:
    assert_allclose(adjust(p, "bh"), scipy.stats.false_discovery_control(p))
    assert all(bh <= holm + 1e-12 for bh, holm in zip(adjust(p, "bh"), adjust(p), strict=True))


@given(CHANCES, st.sampled_from(["holm", "bh", "none"]))
def test_convention_adjusted_values_are_chances_not_below_the_raw_ones_and_in_their_order(p, correction) -> None:  # type: ignore[no-untyped-def]
    adjusted = adjust(p, correction)
    assert all(raw <= one <= 1 or one == pytest.approx(raw) for raw, one in zip(p, adjusted, strict=True))
    order = sorted(range(len(p)), key=lambda i: p[i])
    assert all(adjusted[i] <= adjusted[j] + 1e-12 for i, j in pairwise(order))


def test_a_single_test_needs_no_correction() -> None:
    assert adjust([0.03]) == adjust([0.03], "bh") == adjust([0.03], "none") == [0.03]
    assert adjust([]) == adjust([], "bh") == []


def test_what_is_no_chance_is_refused() -> None:
    for wrong in ([1.2], [-0.1], [nan]):
        with pytest.raises(InputError, match=r"p must lie in \[0, 1\]"):
            adjust(wrong)
    with pytest.raises(InputError, match="correction must be one of"):
        adjust([0.5], "bonferoni")  # type: ignore[arg-type]


# --- all pairs

METHODS = ["a", "b", "c"]


def scores(images: int = 12, seed: int = 0) -> np.ndarray:
    return normal(images, 3, seed=seed) + np.array([0, 0, 3])


def test_each_pair_is_tested_on_the_images_where_both_have_a_score() -> None:
    values = scores()
    values[[0, 1], [0, 1]] = nan
    found = compare_pairs(values, METHODS, higher_is_better=True)
    assert [(pair.a, pair.b, pair.test.pairs, pair.test.undefined) for pair in found.every] == [
        ("a", "b", 10, 2),
        ("a", "c", 11, 1),
        ("b", "c", 11, 1),
    ]
    assert found.find("c", "a").test == paired_permutation_test(values[:, 0].tolist(), values[:, 2].tolist())
    assert found.find("c", "a").effect == effect_size(values[:, 0], values[:, 2])


def test_testing_all_pairs_together_changes_no_p_value() -> None:
    values = normal(40, 3)
    values[[0, 1], [0, 1]] = nan
    for pair in compare_pairs(values, METHODS, higher_is_better=True, seed=4, n=500).every:
        a, b = (values[:, METHODS.index(label)].tolist() for label in (pair.a, pair.b))
        assert pair.test == paired_permutation_test(a, b, seed=4, n=500)
        assert not pair.test.exact


def test_p_values_are_corrected_for_the_number_of_pairs() -> None:
    raw = [pair.test.p for pair in compare_pairs(scores(), METHODS, higher_is_better=True).every]
    for correction in ("holm", "bh", "none"):
        found = compare_pairs(scores(), METHODS, higher_is_better=True, correction=correction)
        assert [pair.p for pair in found.every] == adjust(raw, correction)


def test_the_direction_of_the_metric_decides_who_is_better() -> None:
    up, down = (compare_pairs(scores(), METHODS, higher_is_better=higher) for higher in (True, False))
    assert up.find("a", "c").better == "c"
    assert down.find("a", "c").better == "a"
    assert up.find("a", "c").effect.d_z == -down.find("a", "c").effect.d_z
    assert up.not_worse() == ("c",)
    assert down.not_worse() == ("a", "b")


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(GRID, GRID, GRID), min_size=1, max_size=7), st.randoms(use_true_random=False))
def test_neither_the_order_of_images_nor_that_of_methods_matters(rows: list[tuple[float, ...]], random: object) -> None:
    mixed = list(rows)
    random.shuffle(mixed)  # type: ignore[attr-defined]
    found = compare_pairs(rows, METHODS, higher_is_better=True)
    other = compare_pairs([row[::-1] for row in mixed], METHODS[::-1], higher_is_better=True)
    for pair in found.every:
        same = other.find(pair.a, pair.b)
        assert (same.p, same.better, same.possible) == (pair.p, pair.better, pair.possible)
        assert same.test.difference == pytest.approx(-pair.test.difference)
        assert 0 <= pair.p <= 1


@pytest.mark.parametrize(("images", "possible"), [(5, False), (6, False), (7, True)])
def test_convention_too_few_images_for_so_many_pairs_are_told(images: int, possible: bool) -> None:
    # Two-sided and exact, p is at least 2 / 2^n; Holm asks three pairs for less than 0.05 / 3.
    values = np.arange(images)[:, None] * [[0.0, 0.0, 0.0]] + [[0.0, 1.0, 2.0]]
    found = compare_pairs(values, METHODS, higher_is_better=True)
    assert {pair.possible for pair in found.every} == {possible}
    assert ("too few images" in str(found.every[0])) != possible
    assert {pair.better for pair in found.every} == ({"b", "c"} if possible else {None})


def test_methods_without_a_common_image_are_not_told_apart() -> None:
    found = compare_pairs([[1.0, nan], [nan, 2.0]], ["a", "b"], higher_is_better=True).find("a", "b")
    assert (found.p, found.better, found.possible, found.test.pairs, found.test.undefined) == (1.0, None, False, 0, 2)


def test_methods_that_are_alike_are_rarely_called_different() -> None:
    wrong = sum(
        any(pair.better for pair in compare_pairs(normal(12, 4, seed=seed), "abcd", higher_is_better=True).every)
        for seed in range(200)
    )
    assert wrong <= 20  # 5 % of 200, and three standard deviations


def test_wrong_tables_are_refused() -> None:
    with pytest.raises(ShapeError, match="values must have shape"):
        compare_pairs(scores(), ["a", "b"], higher_is_better=True)
    with pytest.raises(InputError, match="different labels"):
        compare_pairs(scores(), ["a", "b", "a"], higher_is_better=True)
    with pytest.raises(InputError, match="at least 2"):
        compare_pairs([[1.0]], ["a"], higher_is_better=True)
    with pytest.raises(InputError, match="infinite"):
        compare_pairs([[1.0, float("inf")]], ["a", "b"], higher_is_better=True)
    with pytest.raises(InputError, match="a pair must have two methods"):
        compare_pairs(scores(), METHODS, higher_is_better=True).find("a", "a")
