"""The figures of a benchmark are checked by what is drawn, and by what the words claim about it."""

from __future__ import annotations

from math import nan

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from attrib.benchmark import Interval, Ranking, rank_methods
from attrib.errors import InputError
from attrib.plot import cost_and_quality, rank_line, score_grid

SCORES = {
    "deletion": {"a": 0.1, "b": 0.2, "random": 0.3},
    "srg": {"a": 0.1, "b": 0.2, "random": 0.3},
    "gini": {"a": 0.1, "b": 0.2, "random": 0.3},
    "flat": {"a": 0.5, "b": 0.5, "random": 0.5},
    "holes": {"a": nan, "b": 0.2, "random": 0.3},
}
BETTER = {"deletion": False, "srg": True, "gini": None, "flat": True, "holes": True}


def shades(ax: Axes) -> np.ma.MaskedArray:
    return ax.images[0].get_array()  # type: ignore[return-value]


def interval(mean: float, half: float = 0.1, count: int = 9) -> Interval:
    return Interval(mean, mean - half, mean + half, 0.95, count, 0)


# --- methods x metrics


def test_colours_are_standard_scores_turned_so_that_larger_is_better() -> None:
    found = shades(score_grid(SCORES, BETTER, controls=["random"]))
    step = (3 / 2) ** 0.5
    np.testing.assert_allclose(found[:, 1], [-step, 0, step], atol=1e-12)
    np.testing.assert_allclose(found[:, 0], [step, 0, -step], atol=1e-12)


def test_descriptors_equal_and_undefined_scores_have_no_colour() -> None:
    mask = np.ma.getmaskarray(shades(score_grid(SCORES, BETTER)))
    assert mask[:, 2].all()
    assert mask[:, 3].all()
    assert mask[:, 4].tolist() == [True, False, False]


def test_every_number_is_printed_and_directions_are_told() -> None:
    ax = score_grid(SCORES, BETTER, words={"srg": {"b": "0.20 !"}})
    printed = np.reshape([text.get_text() for text in ax.texts], (3, 5)).tolist()
    assert printed[0] == ["0.1", "0.1", "0.1", "0.5", "-"]
    assert printed[1] == ["0.2", "0.20 !", "0.2", "0.5", "0.2"]
    assert [label.get_text() for label in ax.get_xticklabels()] == [
        "deletion ↓", "srg ↑", "gini", "flat ↑", "holes ↑",
    ]  # fmt: skip
    assert [label.get_text() for label in ax.get_yticklabels()] == ["a", "b", "random"]


def test_numbers_can_be_read_on_dark_and_light_shades() -> None:
    many = {"srg": {str(i): float(i) for i in range(12)}}
    ax = score_grid(many, {"srg": True})
    colours = [text.get_color() for text in ax.texts]
    assert colours[0] == colours[-1] == "white"
    assert colours[5] == colours[6] == "black"


def test_controls_are_set_apart_by_a_line() -> None:
    assert [line.get_ydata()[0] for line in score_grid(SCORES, BETTER, controls=["random"]).lines] == [1.5]
    assert not score_grid(SCORES, BETTER).lines


def test_tables_that_cannot_be_drawn_are_refused() -> None:
    with pytest.raises(InputError, match="at least one metric"):
        score_grid({}, {})
    with pytest.raises(InputError, match="same rows"):
        score_grid({"srg": {"a": 1.0}, "flat": {"b": 1.0}}, BETTER)
    with pytest.raises(InputError, match="metric must be one of"):
        score_grid({"sgr": {"a": 1.0}}, BETTER)


# --- ranks


def ranking(critical: float = 0.7) -> Ranking:
    return Ranking(("a", "b", "c", "d"), (1.2, 3.9, 2.0, 2.9), 12, 1, 20.0, 0.001, critical, 0.05)


def thick(ax: Axes) -> list[Line2D]:
    return [line for line in ax.lines if line.get_linewidth() == 3]


def test_every_method_leads_from_its_rank_to_its_name() -> None:
    ax = rank_line(ranking())
    words = [text.get_text() for text in ax.texts]
    assert {"a 1.20", "b 3.90", "c 2.00", "d 2.90"} <= set(words)
    starts = sorted(line.get_xdata()[0] for line in ax.lines if line.get_linewidth() == 0.8)
    assert starts == [1.2, 2.0, 2.9, 3.9]


def test_the_best_rank_is_on_the_right() -> None:
    ax = rank_line(ranking())
    low, high = ax.get_xlim()
    assert low > high


def test_bars_join_what_is_not_told_apart() -> None:
    assert not thick(rank_line(ranking()))
    first, second = thick(rank_line(ranking(0.95)))
    for bar, ends in ((first, (1.2, 2.0)), (second, (2.0, 2.9))):
        low, high = sorted(bar.get_xdata())
        assert low < ends[0] < ends[1] < high


def test_the_note_says_how_many_images_and_whether_ranks_differ_at_all() -> None:
    note = rank_line(ranking()).texts[-1].get_text()
    assert "over 12 images, 1 without every score" in note
    assert "no method is shown to differ" not in note
    alike = rank_methods(np.random.default_rng(0).normal(size=(20, 3)), "abc", higher_is_better=True)
    assert "no method is shown to differ" in rank_line(alike).texts[-1].get_text()


def test_two_methods_and_none_can_be_drawn() -> None:
    two = rank_methods([[1.0, 2.0], [1.0, 3.0]], "ab", higher_is_better=True)
    assert "b 1.00" in [text.get_text() for text in rank_line(two).texts]
    none = rank_methods([[nan, 2.0]], "ab", higher_is_better=True)
    assert "over 0 images" in rank_line(none).texts[-1].get_text()


# --- cost and quality

SCORE = {"cheap": interval(0.2), "poor": interval(0.1), "dear": interval(0.6), "random": interval(0.0)}
COST = {"cheap": 1, "poor": 100, "dear": 1000}


def points(ax: Axes) -> dict[str, tuple[float, float]]:
    return {
        line.get_label(): (float(line.get_xdata()[0]), float(line.get_ydata()[0]))
        for line in ax.lines
        if line.get_marker() not in ("None", None) and line.get_linestyle() == "None"
    }


def test_points_stand_at_their_cost_and_mean_with_their_interval() -> None:
    ax = cost_and_quality(COST, SCORE, better=True, controls=["random"])
    assert points(ax) == {"cheap": (1, 0.2), "poor": (100, 0.1), "dear": (1000, 0.6)}
    bars = [(list(line.get_xdata()), list(line.get_ydata())) for line in ax.lines]
    assert ([100, 100], [0.0, 0.2]) in bars
    assert ax.get_xscale() == "log"


@pytest.mark.parametrize("better", [True, False])
def test_the_line_joins_what_no_cheaper_method_beats(better: bool) -> None:
    sign = 1 if better else -1
    score = {row: interval(sign * one.mean) for row, one in SCORE.items()}
    ax = cost_and_quality(COST, score, better=better, controls=["random"])
    (front,) = [line for line in ax.lines if line.get_color() == "0.7"]
    assert list(front.get_xdata()) == [1, 1000]
    low, high = ax.get_ylim()
    assert (low < high) == better  # up is better


def test_methods_of_equal_cost_stand_side_by_side_and_free_ones_at_the_edge() -> None:
    score = {row: interval(0.1) for row in "abcd"}
    ax = cost_and_quality({"a": 10, "b": 10, "c": 10, "d": 0}, score, better=True)
    found = points(ax)
    assert found["a"][0] < found["b"][0] == 10 < found["c"][0]
    assert found["a"][0] * found["c"][0] == pytest.approx(100)
    assert found["d"][0] == pytest.approx(10 / 3)
    assert [text.get_text() for text in ax.texts] == ["0"]


def test_controls_are_dashed_lines_and_what_has_no_score_is_not_drawn() -> None:
    score = {**SCORE, "lost": Interval(nan, nan, nan, 0.95, 0, 9)}
    ax = cost_and_quality({**COST, "lost": 1}, score, better=True, controls=["random"])
    legend = ax.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == ["cheap", "poor", "dear", "random"]
    assert cost_and_quality(COST, SCORE, better=True, controls=["random"], legend=False).get_legend() is None


def test_many_methods_can_be_told_apart() -> None:
    score = {str(i): interval(i / 20) for i in range(20)}
    ax = cost_and_quality({row: 1 for row in score}, score, better=True)
    looks = {(line.get_color(), line.get_marker()) for line in ax.lines if line.get_marker() not in ("None", None)}
    assert len(looks) == 20


def test_a_method_without_a_cost_is_refused() -> None:
    with pytest.raises(InputError, match="row must be one of"):
        cost_and_quality({"cheap": 1}, SCORE, better=True, controls=["random"])
