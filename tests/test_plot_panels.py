"""Many maps in one figure: each in its place, on the scale that was asked for, with words that can be read."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg

from attrib.errors import InputError
from attrib.plot import panels
from tests.pictures import (
    GREY,
    limits,
    maps_drawn,
    peak,
    pixels,
    saturation,
    shown,
    words,
)

PICTURE = np.random.default_rng(0).integers(0, 256, (6, 9, 3), np.uint8)


TWO = {
    "gradcam": {"cat": peak(1, 6, value=2.0), "dog": peak(3, 1, value=8.0)},
    "occlusion": {"cat": torch.tensor([[-1.0, 4.0]]), "dog": torch.tensor([[1.0, 0.5]])},
}


@pytest.mark.parametrize("columns", [None, 1, 2, "classes"])
def test_every_panel_shows_its_own_map(columns: Any) -> None:
    methods = {name: {"cat": peak(row, 1), "dog": peak(row, 6)} for row, name in enumerate("abcd")}
    figure = panels(GREY, methods, columns=columns)
    found = [np.unravel_index(shown(ax).argmax(), (40, 96)) for ax in maps_drawn(figure)]
    rows, columns_ = zip(*[(int(y) // 8, int(x) // 12) for y, x in found], strict=True)
    expected = {(row, column) for row in range(4) for column in (1, 6)}
    assert set(zip(rows, columns_, strict=True)) == expected


def test_panels_stand_where_their_words_say() -> None:
    figure = panels(GREY, TWO, names={"cat": "a cat"})
    centre = {ax.get_title(): ax.get_position().x0 for ax in figure.axes[:3]}
    heads = {text.get_text(): text.get_position()[1] for text in figure.texts}
    cat, dog = figure.axes[:3], figure.axes[3:]
    assert list(centre) == ["input", "gradcam", "occlusion"]
    assert [ax.get_position().x0 for ax in dog] == pytest.approx(list(centre.values()))
    assert heads["a cat"] > cat[0].get_position().y1 > cat[0].get_position().y0 > heads["dog"]
    assert heads["dog"] > dog[0].get_position().y1
    assert limits(cat[1]) == (0, 2)
    assert limits(dog[1]) == (0, 8)


def test_one_column_per_class_has_its_name_above_the_picture() -> None:
    figure = panels(GREY, TWO, columns="classes", names={"cat": "a cat"})
    titles = [[ax.get_title() for ax in figure.axes[row : row + 2]] for row in (0, 2, 4)]
    assert titles == [["a cat", "dog"], ["gradcam", "gradcam"], ["occlusion", "occlusion"]]
    assert figure.axes[0].get_position().x0 < figure.axes[1].get_position().x0
    assert limits(figure.axes[2]) == (0, 2)
    assert limits(figure.axes[3]) == (0, 8)


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        (None, [(0, 2), (-4, 4), (0, 8), (0, 1)]),
        ("method", [(0, 8), (-4, 4), (0, 8), (-4, 4)]),
        ("shared", [(-8, 8)] * 4),
        ((0, 3), [(0, 3)] * 4),
        ("range", [(0, 2), (-1, 4), (0, 8), (0.5, 1)]),
    ],
)
def test_scales_are_shared_as_asked(choice: Any, expected: list[tuple[float, float]]) -> None:
    assert [limits(ax) for ax in maps_drawn(panels(GREY, TWO, limits=choice))] == expected


@pytest.mark.parametrize(
    ("look", "said"),
    [
        ({}, "Each map on its own scale: transparent at 0, full colour at the 99th percentile"),
        ({"percentile": 100}, "full colour at the largest magnitude; in maps with blue, red speaks for the target"),
        ({"limits": "method"}, "One scale per method"),
        ({"limits": "shared"}, "One scale for all maps: transparent at 0"),
        ({"limits": (0, 3)}, "One scale for all maps: 0 to 3."),
        ({"limits": "range"}, "transparent at its smallest value"),
    ],
)
def test_convention_the_figure_says_how_numbers_became_colours(look: dict[str, Any], said: str) -> None:
    assert said in panels(GREY, TWO, **look).texts[-1].get_text().replace("\n", " ")


def said(maps: Any, **look: Any) -> str:
    text: str = panels(GREY, maps, **look).texts[-1].get_text()
    return text.replace("\n", " ")


def test_only_what_is_drawn_is_explained() -> None:
    text = said({"gradcam": torch.rand(7, 7)})
    assert "blue" not in text
    assert "Grey" not in text


def test_red_is_said_to_speak_for_the_target_only_in_maps_with_both_signs() -> None:
    signed, amount = torch.tensor([[-1.0, 4.0]]), torch.tensor([[0.0, 4.0]])
    for_and_against = "; in maps with blue, red speaks for the target and blue against"
    assert said({"occlusion": signed}).endswith(f"{for_and_against}.")
    mixed = f"{for_and_against}, in the others colour is how much, without a sign."
    assert said({"occlusion": signed, "saliency": amount}).endswith(mixed)
    assert said({"occlusion": signed, "saliency": amount}, limits="shared").endswith(mixed)  # drawn in red alone
    assert "target" not in said({"occlusion": signed}, signed=False)


def test_convention_maps_with_three_channels_are_gradient_images() -> None:
    map = torch.zeros(3, 40, 96)
    map[0, 10, 70] = 1
    figure = panels(GREY, {"guided": map})
    assert np.unravel_index(saturation(shown(figure.axes[1])).argmax(), (40, 96)) == (10, 70)
    assert "Grey panels" in figure.texts[-1].get_text()
    assert "transparent" not in figure.texts[-1].get_text()


def test_convention_a_missing_map_leaves_an_empty_panel_that_says_so() -> None:
    figure = panels(GREY, {"a": {"cat": torch.rand(2, 2), "dog": torch.rand(2, 2)}, "b": {"dog": torch.rand(2, 2)}})
    assert words(figure.axes[2]) == ["no map"]
    assert not figure.axes[2].images
    assert len(maps_drawn(figure)) == 3


def test_notes_stand_below_their_panels() -> None:
    figure = panels(GREY, TWO, notes={"gradcam": "layer4", "occlusion": {"dog": "deletion 0.12"}})
    assert [words(ax) for ax in figure.axes] == [[], ["layer4"], [], [], ["layer4"], ["deletion 0.12"]]


def test_a_map_without_a_target_needs_no_name() -> None:
    figure = panels(GREY, {"gradcam": torch.rand(7, 7)})
    assert [ax.get_title() for ax in figure.axes] == ["input", "gradcam"]
    assert [text.get_text() for text in figure.texts[:-1]] == [""]


def test_the_input_is_drawn_as_it_is() -> None:
    figure = panels(PICTURE, {"gradcam": torch.rand(7, 7)})
    np.testing.assert_allclose(shown(figure.axes[0]), PICTURE / 255)


def test_the_look_reaches_every_panel() -> None:
    plain, bold = (maps_drawn(panels(GREY, TWO, alpha=alpha)) for alpha in (0.2, 1.0))
    opacity = [[ax.images[-1].get_cmap()(1.0)[3] for ax in axes] for axes in (plain, bold)]
    assert opacity == [[0.2] * 4, [1.0] * 4]


def test_colour_bars_below_the_panels_have_raw_numbers() -> None:
    figure = panels(GREY, {"gradcam": torch.tensor([[0.0, 125.0]]), "guided": torch.rand(3, 40, 96)}, colorbar=True)
    bars = [ax for ax in figure.axes if not ax.images and ax.get_xticklabels()]
    assert [[label.get_text() for label in ax.get_xticklabels()] for ax in bars] == [["0", "1.2e+02"]]
    assert bars[0].get_position().y1 < figure.axes[1].get_position().y0
    assert len(panels(GREY, {"gradcam": torch.rand(7, 7)}).axes) == 2


LONG = "a_method_with_a_very_long_name_indeed, and_words"
LAYOUTS: dict[str, tuple[tuple[int, int], int, list[str], dict[str, Any]]] = {
    "six": ((224, 224), 5, ["tiger cat (282), p=0.39", "Egyptian cat (285), p=0.36"], {}),
    "many": ((224, 224), 14, ["cat"], {"colorbar": True}),
    "wide": ((40, 200), 5, ["a", "b", "c"], {"colorbar": True}),
    "tall": ((300, 50), 5, ["a", "b"], {}),
    "tiny": ((32, 32), 3, ["a" * 300, "Old English sheepdog, bobtail, " * 8], {}),
    "columns": ((224, 224), 3, [f"{LONG} {i}" for i in range(7)], {"columns": "classes", "colorbar": True}),
}


@pytest.mark.parametrize("case", LAYOUTS)
def test_no_words_overlap_and_nothing_is_cut_off(case: str) -> None:
    size, methods, targets, look = LAYOUTS[case]
    maps = {f"{LONG} {i}": {target: torch.rand(3, 4) for target in targets} for i in range(methods)}
    notes = {name: {target: f"deletion 0.{i}23 {LONG}" for i, target in enumerate(targets)} for name in maps}
    figure = panels(torch.rand(1, *size), maps, notes=notes, **look)
    renderer = FigureCanvasAgg(figure).get_renderer()
    figure.canvas.draw()
    drawn = [*figure.texts, *(ax.title for ax in figure.axes), *(text for ax in figure.axes for text in ax.texts)]
    ticks = [label for ax in figure.axes for label in ax.get_xticklabels() if ax.get_xticks().size]
    boxes = [text.get_window_extent(renderer) for text in (*drawn, *ticks) if text.get_text()]
    boxes += [ax.get_window_extent() for ax in figure.axes]
    page = figure.bbox.padded(1)
    assert [box for box in boxes if not (page.contains(*box.min) and page.contains(*box.max))] == []
    assert [(a, b) for a, b in combinations([box.padded(-1) for box in boxes], 2) if a.overlaps(b)] == []


@pytest.mark.parametrize("methods", [1, 5, 12])
def test_a_figure_fits_a_page(methods: int) -> None:
    width, height = panels(GREY, {str(i): torch.rand(2, 2) for i in range(methods)}).get_size_inches() * 200
    assert width <= 1600
    assert height < 4000


def test_dollars_in_names_are_not_mathematics() -> None:
    figure = panels(GREY, {"$\\alpha$": {"5$ note, $": torch.rand(2, 2)}}, notes={"$\\alpha$": "$^$"})
    assert pixels(figure).shape[2] == 3


@pytest.mark.parametrize(
    ("maps", "options", "message"),
    [
        ({}, {}, "at least one map"),
        ({"gradcam": {}}, {}, "at least one map"),
        ([torch.rand(2, 2)], {}, "dict of maps by method; got list"),
        ({"gradcam": torch.rand(2, 1, 7, 7)}, {}, "Choose one example"),
        (TWO, {"notes": {"gradcm": "x"}}, "Did you mean 'gradcam'"),
        (TWO, {"columns": 0}, "columns"),
        (TWO, {"columns": "class"}, "columns, unless 'classes'"),
    ],
)
def test_panels_that_cannot_be_drawn_are_refused(maps: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        panels(GREY, maps, **options)
