"""Average ranks, Friedman and Nemenyi, and the stability of rankings; against loops, SciPy and published tables."""

from __future__ import annotations

import sys
from dataclasses import replace
from math import isnan, nan

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from attrib.benchmark import Ranking, critical_difference, image_ranks, rank_methods, rank_stability
from attrib.errors import InputError, MissingDependency
from tests.oracles import statistics as oracle

LABELS = ["a", "b", "c", "d"]
GRID = st.integers(0, 4).map(float)
ROWS = st.lists(st.lists(GRID, min_size=4, max_size=4), min_size=2, max_size=8)
MEANS = st.lists(GRID, min_size=4, max_size=4)


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


# --- ranks


@given(ROWS, st.booleans())
def test_ranks_equal_the_loop_and_add_up(rows: list[list[float]], higher: bool) -> None:
    found = image_ranks(rows, LABELS, higher_is_better=higher)
    assert found.tolist() == [oracle.ranks(row, higher_is_better=higher) for row in rows]
    assert found.sum(1).tolist() == [10.0] * len(rows)


@given(ROWS)
def test_ranks_do_not_depend_on_the_unit_and_turn_round_with_the_direction(rows: list[list[float]]) -> None:
    up = image_ranks(rows, LABELS, higher_is_better=True)
    assert (image_ranks(np.exp(rows), LABELS, higher_is_better=True) == up).all()
    assert (5 - image_ranks(rows, LABELS, higher_is_better=False) == up).all()


def test_convention_images_without_a_score_of_every_method_have_no_ranks() -> None:
    found = image_ranks([[1.0, nan], [1.0, 2.0]], ["a", "b"], higher_is_better=True)
    assert np.isnan(found[0]).all()
    assert found[1].tolist() == [2.0, 1.0]


# --- Friedman and Nemenyi


@settings(deadline=None)
@given(ROWS, st.booleans())
def test_friedmans_statistic_equals_the_loop_with_ties(rows: list[list[float]], higher: bool) -> None:
    found = rank_methods(rows, LABELS, higher_is_better=higher)
    if all(len(set(row)) == 1 for row in rows):
        assert (found.statistic, found.p) == (0.0, 1.0)
    else:
        assert found.statistic == pytest.approx(oracle.friedman(rows, higher_is_better=higher), abs=1e-9)
        assert found.p == pytest.approx(scipy.stats.chi2.sf(found.statistic, 3))
    assert_allclose(found.ranks, np.mean([oracle.ranks(row, higher_is_better=higher) for row in rows], 0))


@pytest.mark.parametrize(
    ("methods", "q05", "q10"),  # Demsar 2006, table 5(a)
    [(2, 1.960, 1.645), (3, 2.343, 2.052), (4, 2.569, 2.291), (5, 2.728, 2.459), (6, 2.850, 2.589), (10, 3.164, 2.920)],
)
def test_the_critical_difference_is_that_of_the_published_table(methods: int, q05: float, q10: float) -> None:
    per_image = (methods * (methods + 1) / 6 / 14) ** 0.5
    assert critical_difference(methods, 14) == pytest.approx(q05 * per_image, abs=1e-3)
    assert critical_difference(methods, 14, 0.1) == pytest.approx(q10 * per_image, abs=1e-3)


def test_the_example_of_the_paper_is_found_again() -> None:
    # Demsar 2006, table 6: AUC of C4.5 and its variants with tuned m, cf, and both, on 14 data sets.
    auc = [
        [0.763, 0.768, 0.771, 0.798], [0.599, 0.591, 0.590, 0.569], [0.954, 0.971, 0.968, 0.967],
        [0.628, 0.661, 0.654, 0.657], [0.882, 0.888, 0.886, 0.898], [0.936, 0.931, 0.916, 0.931],
        [0.661, 0.668, 0.609, 0.685], [0.583, 0.583, 0.563, 0.625], [0.775, 0.838, 0.866, 0.875],
        [1.000, 1.000, 1.000, 1.000], [0.940, 0.962, 0.965, 0.962], [0.619, 0.666, 0.614, 0.669],
        [0.972, 0.981, 0.9751, 0.975], [0.957, 0.978, 0.946, 0.970],
    ]  # fmt: skip
    found = rank_methods(auc, LABELS, higher_is_better=True)
    assert_allclose(found.ranks, [3.143, 2.000, 2.893, 1.964], atol=5e-4)
    assert found.critical == pytest.approx(1.25, abs=0.005)
    assert found.p < 0.05
    assert found.best_first == ("d", "b", "c", "a")
    assert found.groups == (("d", "b", "c", "a"),)  # 3.143 - 1.964 = 1.18 is within 1.25


def test_groups_are_the_largest_sets_within_the_critical_difference() -> None:
    found = rank_methods(normal(200, 4) + np.array([0.0, 0.2, 2.0, 5.0]), LABELS, higher_is_better=True)
    ranks = dict(zip(LABELS, found.ranks, strict=True))
    assert found.best_first[:2] == ("d", "c")
    assert abs(ranks["a"] - ranks["b"]) <= found.critical < ranks["b"] - ranks["c"]
    assert found.groups == (("b", "a"),)


def test_groups_may_overlap_and_list_no_smaller_set() -> None:
    ranks = {"far": 4.6, "c": 2.6, "a": 1.0, "b": 1.9}
    found = Ranking(tuple(ranks), tuple(ranks.values()), 9, 0, 0.0, 1.0, critical=1.0, alpha=0.05)
    assert found.groups == (("a", "b"), ("b", "c"))
    assert replace(found, critical=1.7).groups == (("a", "b", "c"),)


def test_convention_only_images_with_every_score_count() -> None:
    values = normal(20, 4)
    holes = values.copy()
    holes[[3, 3, 7], [0, 1, 2]] = nan
    found, clean = (
        rank_methods(one, LABELS, higher_is_better=True) for one in (holes, np.delete(values, [3, 7], axis=0))
    )
    assert (found.ranks, found.statistic, found.p, found.critical) == (
        clean.ranks, clean.statistic, clean.p, clean.critical,
    )  # fmt: skip
    assert (found.images, found.undefined) == (18, 2)
    assert "n=18, 2 undefined" in str(found)


def test_too_little_for_a_test_is_said_by_nan() -> None:
    two = rank_methods(normal(9, 2), ["a", "b"], higher_is_better=True)
    assert isnan(two.p)
    assert two.critical > 0
    none = rank_methods([[nan] * 3], LABELS[:3], higher_is_better=True)
    assert all(map(isnan, (*none.ranks, none.p, none.critical)))
    assert none.groups == ()


# --- stability


@given(MEANS, MEANS)
def test_tau_equals_the_loop(one: list[float], other: list[float]) -> None:
    found = rank_stability({"one": [one], "other": [other]}, LABELS, higher_is_better=True)
    if len(set(one)) == 1 or len(set(other)) == 1:
        assert isnan(found.tau[0, 1])
    else:
        assert found.tau[0, 1] == pytest.approx(oracle.tau_b(one, other))
        assert found.tau[1, 0] == found.tau[0, 1]


def test_convention_equal_and_reversed_rankings_are_the_ends_of_the_scale() -> None:
    up = [[1.0, 2.0, 3.0, 4.0]]
    found = rank_stability({"up": up, "more": np.square(up), "down": np.negative(up)}, LABELS, higher_is_better=True)
    assert_allclose(found.tau, [[1, 1, -1], [1, 1, -1], [-1, -1, 1]])
    assert_allclose(found.swapped, [[0, 0, 1], [0, 0, 1], [1, 1, 0]])
    assert found.share == 1.0
    assert found.least == ("up", "down", pytest.approx(-1))


def test_tau_without_ties_is_one_minus_twice_the_share_that_swaps() -> None:
    values = {setting: normal(5, 4, seed=seed) for seed, setting in enumerate("pqr")}
    found = rank_stability(values, LABELS, higher_is_better=True)
    assert_allclose(found.tau, 1 - 2 * found.swapped)


def test_swaps_say_where_which_method_is_better() -> None:
    zero, blur, noise = [[0.1, 0.2, 0.9, 0.3]], [[0.2, 0.1, 0.9, 0.3]], [[0.2, 0.2, 0.9, 0.1]]
    found = rank_stability({"zero": zero, "blur": blur, "noise": noise}, LABELS, higher_is_better=False)
    swap = found.swaps[0]
    assert (swap.a, swap.b, swap.a_better, swap.b_better) == ("a", "b", ("zero",), ("blur",))  # equal in noise
    assert [(one.a, one.b) for one in found.swaps] == [("a", "b"), ("a", "d"), ("b", "d")]
    assert found.share == 0.5
    assert found.swapped[0, 1] == pytest.approx(1 / 6)


def test_convention_all_settings_look_at_the_same_images() -> None:
    one, other = normal(9, 4), normal(9, 4, seed=1)
    holes = other.copy()
    holes[2, 1] = nan
    found = rank_stability({"one": one, "other": holes}, LABELS, higher_is_better=True)
    clean = rank_stability(
        {"one": np.delete(one, 2, 0), "other": np.delete(other, 2, 0)}, LABELS, higher_is_better=True
    )
    assert_allclose(found.means, clean.means)
    assert (found.images, found.undefined) == (8, 1)
    with pytest.raises(InputError, match="same images"):
        rank_stability({"one": one, "other": other[:5]}, LABELS, higher_is_better=True)


def test_settings_may_have_directions_of_their_own() -> None:
    deletion, insertion = [[0.1, 0.2, 0.3, 0.4]], [[0.9, 0.8, 0.7, 0.6]]
    found = rank_stability(
        {"deletion": deletion, "insertion": insertion},
        LABELS,
        higher_is_better={"deletion": False, "insertion": True},
    )
    assert found.tau[0, 1] == pytest.approx(1)
    assert_allclose(found.means, [deletion[0], insertion[0]])
    with pytest.raises(InputError, match="setting must be one of"):
        rank_stability({"deletion": deletion, "srg": insertion}, LABELS, higher_is_better={"deletion": False})


def test_settings_without_common_images_have_no_order() -> None:
    found = rank_stability({"one": [[1.0, nan]], "other": [[1.0, 2.0]]}, ["a", "b"], higher_is_better=True)
    assert isnan(found.tau[0, 1])
    assert isnan(found.swapped[0, 1])
    assert (found.images, found.undefined, found.swaps) == (0, 1, ())


@settings(max_examples=30, deadline=None)
@given(ROWS, st.randoms(use_true_random=False))
def test_the_order_of_images_does_not_matter(rows: list[list[float]], random: object) -> None:
    mixed = list(rows)
    random.shuffle(mixed)  # type: ignore[attr-defined]
    first, second = (rank_methods(one, LABELS, higher_is_better=True) for one in (rows, mixed))
    assert_allclose(first.ranks, second.ranks)
    assert_allclose(first.p, second.p)


def test_one_setting_is_no_comparison() -> None:
    with pytest.raises(InputError, match="two settings or more"):
        rank_stability({"one": [[1.0, 2.0]]}, ["a", "b"], higher_is_better=True)


def test_without_scipy_it_is_said_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "scipy.stats", None)
    with pytest.raises(MissingDependency, match=r"ranking needs scipy.stats: pip install 'attrib\[analysis\]'"):
        image_ranks([[1.0, 2.0]], ["a", "b"], higher_is_better=True)
