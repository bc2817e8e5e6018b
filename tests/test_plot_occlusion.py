"""The figure of the three maps: values, classes and outlines are where they should be."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgb
from torch import Tensor

from attrib.analysis import CleanValues, OcclusionMaps, occlusion_maps
from attrib.core import Windows
from attrib.errors import InputError, ShapeError
from attrib.plot import occlusion_panels
from tests import nets
from tests.test_sweep_axes import signals

WINDOWS = Windows((8, 6), (2, 2), (2, 2))  # a grid of 4 x 3, each pixel under one window
PHOTO = torch.rand(3, 16, 12, generator=torch.Generator().manual_seed(0))


def made(label: Tensor | None = None, score: Tensor | None = None, **more: Any) -> OcclusionMaps:
    grid = torch.arange(12.0).reshape(1, 4, 3)
    return OcclusionMaps(
        grid / 20 if score is None else score,
        torch.zeros(1, 4, 3, dtype=torch.long) if label is None else label,
        100 - grid,
        {7: grid / 12},
        CleanValues(torch.tensor([0.6]), torch.tensor([0]), torch.tensor([99.0]), {7: torch.tensor([0.1])}),
        **{"channel": torch.tensor([5]), "layer": "conv", "windows": WINDOWS, **more},
    )


def titled(figure: Any, start: str) -> Any:
    return next(ax for ax in figure.axes if ax.get_title().replace("\n", " ").startswith(start))


def blocks(values: Tensor) -> Any:
    return values.repeat_interleave(2, 0).repeat_interleave(2, 1).numpy()


def test_each_panel_shows_its_values_at_the_pixels_that_the_squares_cover() -> None:
    found = made()
    figure = occlusion_panels(found, PHOTO, names={7: "dog"}, target="cat")
    np.testing.assert_allclose(titled(figure, "score of cat").images[0].get_array(), blocks(found.score[0]))
    np.testing.assert_allclose(titled(figure, "total activation").images[0].get_array(), blocks(found.feature[0]))
    np.testing.assert_allclose(titled(figure, "score of dog").images[0].get_array(), blocks(found.classes[7][0]))
    assert "conv channel 5" in titled(figure, "total activation").get_title().replace("\n", " ")
    ends = [[text.get_text() for text in ax.get_xticklabels()] for ax in figure.axes if ax.get_xticklabels()]
    assert ends == [["0", "0.55"], ["89", "100"], ["0", "0.917"]]
    assert "square of 2x2 pixels" in figure.texts[-1].get_text()


def test_below_each_panel_of_numbers_stands_what_it_is_without_a_square() -> None:
    figure = occlusion_panels(made(), PHOTO, names={7: "dog"}, target="cat")
    notes = [ax.texts[0].get_text() for ax in figure.axes if ax.images and ax.get_title()]
    assert notes == ["", "uncovered: 0.6", "uncovered: 99", "uncovered: 0.1", ""]


def test_the_foot_says_of_no_panel_that_what_is_dark_is_needed() -> None:
    """Where another class rises, the bright places matter; classes have no dark."""
    foot = occlusion_panels(made(), PHOTO).texts[-1].get_text().replace("\n", " ")
    assert "dark is the lowest of its panel" in foot
    assert "Where one is below the uncovered number, what is hidden there supports it" in foot


@pytest.mark.parametrize("layer", ["_blocks.9._depthwise_conv", "features.denseblock4.denselayer16.conv2@input"])
def test_titles_with_long_names_stay_within_their_panels(layer: str) -> None:
    figure = occlusion_panels(made(layer=layer), PHOTO, target="a class with a long name, and another")
    figure.draw_without_rendering()
    edge = figure.bbox
    for ax in (ax for ax in figure.axes if ax.get_title()):
        title, panel = ax.title.get_window_extent(), ax.get_window_extent()
        assert panel.x0 <= title.x0
        assert title.x1 <= panel.x1
        assert title.y1 <= edge.y1
    lines = titled(figure, "total").get_title().split("\n")
    assert "".join(lines[1:-1]) == layer
    assert lines[-1] == "channel 5"


def test_the_most_frequent_classes_have_colours_and_names_and_the_others_are_grey() -> None:
    label = torch.tensor([[[3, 3, 3], [8, 8, 1], [3, 3, 3], [3, 3, 3]]])
    figure = occlusion_panels(made(label), PHOTO, names={3: "cat", 8: "dog"})
    shown = titled(figure, "most probable class").images[0].get_array()
    legend = next(ax.get_legend() for ax in figure.axes if ax.get_legend())
    assert [text.get_text() for text in legend.get_texts()] == ["cat", "dog", "class 1"]
    colours = dict(zip((3, 8, 1), (patch.get_facecolor()[:3] for patch in legend.get_patches()), strict=True))
    for y in range(8):
        for x in range(6):
            assert tuple(shown[y, x]) == pytest.approx(colours[int(label[0, y // 2, x // 2])])
    many = torch.arange(12).reshape(1, 4, 3)
    figure = occlusion_panels(made(many), PHOTO)
    legend = next(ax.get_legend() for ax in figure.axes if ax.get_legend())
    assert [text.get_text() for text in legend.get_texts()][-2:] == ["class 8", "3 others"]
    grey = titled(figure, "most probable class").images[0].get_array()[6:, :]
    assert (np.abs(grey - to_rgb("0.8")) < 1e-9).all()


def test_the_photo_is_outlined_where_half_of_the_score_is_lost() -> None:
    score = torch.full((1, 4, 3), 0.6)
    score[0, 1, 1] = 0.1
    figure = occlusion_panels(made(score=score), PHOTO)
    ax = titled(figure, "half of the score is lost")
    np.testing.assert_allclose(ax.images[0].get_array(), PHOTO.permute(1, 2, 0), atol=1e-6)
    (path,) = ax.collections[-1].get_paths()
    low, high = path.vertices.min(0), path.vertices.max(0)
    # the square hides pixels 2 and 3 of 8 x 6; in the photo, which is twice as large, 4 to 7
    np.testing.assert_allclose([low, high], [[3.5, 3.5], [7.5, 7.5]], atol=1)
    untouched = occlusion_panels(made(score=score.clamp(min=0.5)), PHOTO)
    assert not titled(untouched, "the photo").collections


@pytest.mark.parametrize("clean", [-2.0, 0.0])
def test_a_score_that_is_not_positive_has_no_half_and_no_outline(clean: float) -> None:
    score = torch.linspace(-3, 1, 12).reshape(1, 4, 3)  # a log-probability or log-odds under the square
    found = made(score=score)
    found = replace(found, clean=replace(found.clean, score=torch.tensor([clean])))
    figure = occlusion_panels(found, PHOTO)
    assert not titled(figure, "the photo").collections


def test_a_constant_map_and_one_class_can_be_drawn() -> None:
    found = made(score=torch.full((1, 4, 3), 0.6))
    figure = occlusion_panels(replace(found, classes={}), PHOTO)
    assert len([ax for ax in figure.axes if ax.images and ax.get_title()]) == 4


def test_the_example_can_be_chosen_and_must_be_there() -> None:
    model, x = nets.make("module"), nets.batch(2, 8, 6)
    found = occlusion_maps(model, x, 1, layer="conv2", window=2, stride=2)
    figure = occlusion_panels(found, PHOTO, example=1)
    np.testing.assert_allclose(titled(figure, "score").images[0].get_array(), blocks(found.score[1]), rtol=1e-6)
    with pytest.raises(InputError, match="example must be one of 0, 1; got 2"):
        occlusion_panels(found, PHOTO, example=2)


def test_maps_of_signals_are_not_pictures() -> None:
    found = occlusion_maps(signals(), torch.rand(1, 2, 24).double(), 1, layer="2", window=4)
    with pytest.raises(ShapeError, match="these maps have 1 axes of places"):
        occlusion_panels(found, PHOTO)
