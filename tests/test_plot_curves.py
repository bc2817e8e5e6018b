"""Curves are checked by what the lines are, and by what the words claim about them."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
import torch
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import PolyCollection
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from torch import Tensor

from attrib.errors import InputError
from attrib.metrics import Protocol
from attrib.plot import comparison, curves
from attrib.plot.curves import COLOURS
from tests.pictures import SEEN_BY, linear


@dataclass
class Found:
    """Curves with known numbers, in place of measured ones."""

    fraction: Tensor
    score: Tensor
    protocol: Protocol

    @property
    def names(self) -> tuple[str, ...]:
        return "deletion", "insertion"

    def curve(self, name: str) -> tuple[Tensor, Tensor]:
        return (self.fraction, self.score) if name == "deletion" else (self.fraction, 1 - self.score)

    def auc(self, name: str) -> Tensor:
        fraction, score = self.curve(name)
        return torch.trapezoid(score, fraction, dim=1)


def found(score: Any, fraction: Any = None, protocol: Protocol | None = None) -> Found:
    score = torch.as_tensor(score, dtype=torch.float64)
    even = torch.linspace(0, 1, score.shape[1], dtype=torch.float64).expand_as(score)
    return Found(even if fraction is None else torch.tensor(fraction), score, protocol or Protocol())


def noisy(images: int, height: float = 0.5) -> Found:
    generator = torch.Generator().manual_seed(0)
    return found(height + 0.1 * torch.randn(images, 5, generator=generator, dtype=torch.float64))


def bands(ax: Axes) -> list[PolyCollection]:
    return [item for item in ax.collections if isinstance(item, PolyCollection)]


def edges(band: PolyCollection, points: int) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Lower and upper edge of a band."""
    path = band.get_paths()[0].vertices
    return path[1 : points + 1, 1], path[points + 2 : 2 * points + 2, 1][::-1]


def legend(ax: Axes) -> list[str]:
    return [text.get_text() for text in ax.get_legend().get_texts()]


def test_convention_a_line_is_the_mean_score_over_the_fraction_of_pixels() -> None:
    line = curves({"a": found([[1.0, 0.5, 0.0], [0.0, 1.0, 0.2]])}).get_lines()[0]
    np.testing.assert_allclose(line.get_xdata(), [0, 0.5, 1])
    np.testing.assert_allclose(line.get_ydata(), [0.5, 0.75, 0.1])


def test_images_with_fractions_of_their_own_are_brought_to_common_ones() -> None:
    line = curves({"a": found([[1.0, 0.0, 0.0], [1.0, 0.0, 0.0]], [[0, 0.25, 1], [0, 0.5, 1]])}).get_lines()[0]
    x, y = np.asarray(line.get_xdata()), np.asarray(line.get_ydata())
    expected = (np.clip(1 - 4 * x, 0, None) + np.clip(1 - 2 * x, 0, None)) / 2
    np.testing.assert_allclose(y, expected, atol=1e-9)


def test_convention_the_legend_has_the_mean_area_the_best_on_top() -> None:
    rows = {
        "worst": found([[0.9, 0.9], [0.8, 0.8]]),
        "best": found([[0.1, 0.1]] * 2),
        "middle": found([[0.5, 0.5]] * 2),
    }
    assert legend(curves(rows)) == ["best  0.100", "middle  0.500", "worst  0.850"]
    assert legend(curves(rows, "insertion")) == ["best  0.900", "middle  0.500", "worst  0.150"]
    assert curves(rows, "insertion").get_legend().get_title().get_text() == "insertion area\n(higher is better)"
    assert curves(rows).get_legend().get_title().get_text() == "deletion area\n(lower is better)"


def test_the_area_in_the_legend_is_of_the_real_fractions() -> None:
    assert legend(curves({"a": found([[1.0, 0.0, 0.0]], [[0.0, 0.1, 1.0]])})) == ["a  0.050"]


def test_convention_images_without_a_curve_are_counted_and_in_no_mean() -> None:
    nan = float("nan")
    ax = curves({"a": found([[1.0, 0.5], [nan, nan], [0.0, 0.5]]), "b": found([[nan, nan]] * 3)})
    assert legend(ax) == ["a  0.500 (1 of 3 undefined)", "b  nan (3 of 3 undefined)"]
    np.testing.assert_allclose(ax.get_lines()[0].get_ydata(), [0.5, 0.5])
    assert np.isnan(np.asarray(ax.get_lines()[1].get_ydata())).all()


def test_convention_the_band_is_a_percentile_interval_of_the_resampled_mean() -> None:
    one = noisy(40)
    low, high = edges(bands(curves({"a": one}, resamples=4000))[0], 5)
    mean, error = one.score.mean(0).numpy(), one.score.std(0).numpy() / 40**0.5
    np.testing.assert_allclose(low, mean - 1.96 * error, atol=0.2 * error.max())
    np.testing.assert_allclose(high, mean + 1.96 * error, atol=0.2 * error.max())


def test_a_lower_level_gives_a_narrower_band() -> None:
    wide, narrow = (edges(bands(curves({"a": noisy(20)}, level=level))[0], 5) for level in (0.99, 0.5))
    assert (wide[0] < narrow[0]).all()
    assert (narrow[1] < wide[1]).all()


def test_the_same_seed_gives_the_same_band() -> None:
    first, again, other = (edges(bands(curves({"a": noisy(20)}, seed=seed))[0], 5)[0] for seed in (3, 3, 4))
    assert (first == again).all()
    assert (first != other).any()


@pytest.mark.parametrize(("rows", "options"), [(noisy(1), {}), (noisy(9), {"resamples": 0})])
def test_there_is_no_band_without_images_to_resample(rows: Found, options: dict[str, int]) -> None:
    ax = curves({"a": rows}, **options)
    assert bands(ax) == []
    assert "bootstrap" not in ax.texts[0].get_text()


def test_convention_controls_are_dashed_grey_and_without_bands() -> None:
    ax = curves({"method": noisy(5), "random": noisy(5), "centre": noisy(5)}, controls=["random", "centre"])
    method, random, centre = ax.get_lines()
    assert method.get_linestyle() == "-"
    assert {random.get_linestyle(), centre.get_linestyle()} == {"--"}
    assert random.get_color() == centre.get_color()
    assert np.ptp(to_rgb(random.get_color())) == 0
    assert random._dash_pattern != centre._dash_pattern  # type: ignore[attr-defined]
    assert np.ptp(to_rgb(method.get_color())) > 0
    assert len(bands(ax)) == 1


@pytest.mark.parametrize("eyes", SEEN_BY)
def test_method_colours_differ_for_everybody(eyes: str) -> None:
    seen = [np.clip(SEEN_BY[eyes] @ linear(np.array(to_rgb(colour))), 0, 1) ** (1 / 2.2) for colour in COLOURS]
    assert (
        min(float(np.linalg.norm(a - b)) for a, b in combinations(seen, 2)) > 0.1
    )  # several steps that the eye can just tell apart


def test_many_methods_are_told_apart_by_dashes() -> None:
    ax = curves({str(i): noisy(2) for i in range(20)})
    looks = {(line.get_color(), str(line._dash_pattern)) for line in ax.get_lines()}  # type: ignore[attr-defined]
    assert len(looks) == 20


@pytest.mark.parametrize(
    ("space", "label"), [("probability", "probability"), ("log_odds", "log-odds"), (None, "score")]
)
def test_the_axes_say_what_is_measured(space: Any, label: str) -> None:
    rows = {"a": found([[1.0, 0.0]], protocol=Protocol(score=space))}
    assert curves(rows).get_ylabel() == label
    assert curves(rows).get_xlabel() == "fraction of pixels removed"
    assert curves(rows, "insertion").get_xlabel() == "fraction of pixels inserted"


def test_the_protocol_stands_below() -> None:
    said = curves({"a": noisy(7)}, level=0.9).texts[0].get_text().replace("\n", " ")
    assert said == f"7 images, band: 90% bootstrap interval of the mean. {Protocol()}"
    assert curves({"a": noisy(1)}).texts[0].get_text().startswith("1 image. ")


def test_comparison_has_one_panel_for_each_curve_and_one_protocol() -> None:
    rows = {"a": noisy(6), "random": noisy(6)}
    figure = comparison(rows, controls=["random"], level=0.8)
    assert [ax.get_xlabel() for ax in figure.axes] == ["fraction of pixels removed", "fraction of pixels inserted"]
    assert [len(bands(ax)) for ax in figure.axes] == [1, 1]
    assert figure._supxlabel.get_text().replace("\n", " ").startswith("6 images, band: 80%")  # type: ignore[attr-defined]
    assert figure.get_size_inches()[0] * figure.dpi == 1600
    assert len(comparison(rows, ["insertion"]).axes) == 1


def test_a_comparison_of_nothing_is_refused() -> None:
    with pytest.raises(InputError, match="at least one curve"):
        comparison({"a": noisy(2)}, [])


def test_comparison_draws_the_same_bands_as_curves() -> None:
    rows = {"a": noisy(6)}
    alone, panel = curves(rows, seed=5, resamples=50), comparison(rows, ["deletion"], seed=5, resamples=50).axes[0]
    np.testing.assert_array_equal(edges(bands(alone)[0], 5), edges(bands(panel)[0], 5))


@pytest.mark.parametrize(("label", "rows"), [("guided_gradcam", 10), ("$a$ method_with_a_long_name", 3), ("a", 40)])
def test_no_words_of_a_comparison_overlap_or_are_cut_off(label: str, rows: int) -> None:
    figure = comparison({f"{label} {i}": noisy(3) for i in range(rows)})
    renderer = FigureCanvasAgg(figure).get_renderer()
    figure.draw(renderer)
    parts = [part for ax in figure.axes for part in (ax.xaxis.label, ax.yaxis.label, ax.get_legend())]
    boxes = [part.get_window_extent(renderer) for part in (*parts, figure._supxlabel)]  # type: ignore[attr-defined]
    boxes += [ax.get_window_extent() for ax in figure.axes]
    assert [(a, b) for a, b in combinations([box.padded(-1) for box in boxes], 2) if a.overlaps(b)] == []
    assert [
        box for box in boxes if not (box.x0 >= 0 and box.y0 >= 0 and box.x1 <= 1600 and box.y1 <= figure.bbox.y1)
    ] == []


@pytest.mark.parametrize(
    ("rows", "options", "message"),
    [
        ({}, {}, "at least one method"),
        ({"a": noisy(2)}, {"name": "delete"}, "Did you mean 'deletion'"),
        ({"random": noisy(2)}, {"controls": ["randm"]}, "Did you mean 'random'"),
        ({"a": noisy(2)}, {"level": 1.5}, "level"),
        ({"a": noisy(2)}, {"resamples": -1}, "resamples"),
        ({"a": noisy(2)}, {"seed": 0.5}, "seed"),
    ],
)
def test_curves_that_cannot_be_drawn_are_refused(rows: dict[str, Found], options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        curves(rows, **options)


def test_given_axes_are_drawn_into_and_nothing_else_is_touched() -> None:
    figure, one = Figure(), noisy(6)
    ax, before = figure.add_subplot(), one.score.clone()
    state = (dict(mpl.rcParams), plt.get_fignums(), str(np.random.get_state()), torch.get_rng_state().tolist())  # noqa: NPY002
    assert curves({"a": one}, ax=ax) is ax
    comparison({"a": one})
    after = (dict(mpl.rcParams), plt.get_fignums(), str(np.random.get_state()), torch.get_rng_state().tolist())  # noqa: NPY002
    assert after == state
    assert torch.equal(one.score, before)
