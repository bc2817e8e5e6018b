"""Pictures are checked by what they show: where the extreme is, which colours, which numbers and which words."""

from __future__ import annotations

from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from attrib.errors import InputError
from attrib.plot import heatmap
from attrib.plot.colour import colours
from attrib.plot.scale import Scale, Style
from tests.pictures import (
    GREY,
    figure_of,
    inside,
    limits,
    peak,
    pixels,
    saturation,
    shown,
    words,
)


@pytest.mark.parametrize("place", [(0, 0), (1, 6), (4, 2)])
def test_the_strongest_colour_lies_where_the_map_is_largest(place: tuple[int, int]) -> None:
    ax = heatmap(peak(*place), GREY)
    everything = pixels(figure_of(ax))
    y, x = np.unravel_index(saturation(everything).argmax(), everything.shape[:2])
    column, row = ax.transData.inverted().transform((x + 0.5, len(everything) - y - 0.5))
    assert (int((row + 0.5) / 40 * 5), int((column + 0.5) / 96 * 8)) == place


def test_convention_the_map_is_resized_bilinearly_to_the_picture() -> None:
    map = torch.tensor([[0.0, 1.0], [2.0, 3.0]])
    expected = torch.nn.functional.interpolate(map[None, None], (40, 96), mode="bilinear", align_corners=False)[0, 0]
    np.testing.assert_allclose(shown(heatmap(map, GREY)), expected, atol=1e-6)


def test_convention_without_a_picture_the_map_keeps_its_resolution() -> None:
    map = torch.rand(5, 8)
    ax = heatmap(map)
    np.testing.assert_allclose(shown(ax), map)
    assert len(ax.images) == 1


def test_convention_zero_is_transparent_and_the_end_of_the_scale_is_not() -> None:
    ax = heatmap(peak(0, 0), GREY, alpha=0.7)
    overlay = ax.images[-1].to_rgba(shown(ax))
    assert overlay[-1, -1, 3] == 0
    assert overlay[0, 0, 3] == pytest.approx(0.7)


def test_alpha_0_shows_the_picture_alone() -> None:
    assert saturation(inside(heatmap(peak(1, 6), GREY, alpha=0.0))).max() == 0


def test_convention_the_picture_is_grey_and_faded() -> None:
    ax = heatmap(torch.zeros(2, 2), torch.rand(3, 40, 96))
    assert saturation(inside(ax)).max() == 0
    assert np.asarray(ax.images[0].get_array()).min() > 0.3


def test_convention_maps_without_negative_values_are_sequential_from_zero() -> None:
    ax = heatmap(torch.tensor([[2.0, 4.0]]), GREY)
    assert limits(ax) == (0, 4)
    assert heatmap(torch.tensor([[2.0, 4.0]])).images[-1].get_cmap()(1.0) == colours(
        Scale(0, 4, signed=False), Style(), over_white=True
    )(1.0)


def test_convention_signed_maps_are_symmetric_around_zero_red_for_and_blue_against() -> None:
    ax = heatmap(torch.tensor([[-1.0, 0.0, 4.0]]))
    against, neither, favour = ax.images[-1].to_rgba(shown(ax))[0, :, :3]
    assert limits(ax) == (-4, 4)
    assert against[2] > against[0]
    assert favour[0] > favour[2]
    np.testing.assert_allclose(neither, 1, atol=0.01)


def test_zero_of_a_signed_map_leaves_the_picture_as_it_is() -> None:
    ax = heatmap(torch.tensor([[-1.0, 0.0, 4.0]]), torch.full((1, 1, 3), 0.5))
    assert ax.images[-1].to_rgba(shown(ax))[0, 1, 3] == 0


@pytest.mark.parametrize(
    ("signed", "map", "expected"),
    [(True, [[0.0, 2.0]], (-2, 2)), (False, [[-3.0, 2.0]], (0, 2)), ("auto", [[-3.0, 2.0]], (-3, 3))],
)
def test_signed_can_be_said_and_is_else_seen(signed: Any, map: list[list[float]], expected: tuple[int, int]) -> None:
    assert limits(heatmap(np.array(map), GREY, signed=signed)) == expected


def test_the_percentile_clips_outliers_of_the_values_that_are_not_zero() -> None:
    map = torch.zeros(100, 200)
    map[0] = torch.arange(1, 201)
    map[0, -1] = 1e6
    assert limits(heatmap(map))[1] == 199
    assert limits(heatmap(map, percentile=50))[1] == 101
    assert limits(heatmap(map, percentile=100))[1] == 1e6


def test_the_percentile_never_hides_the_peak_of_a_coarse_map() -> None:
    map = torch.rand(7, 7)
    assert limits(heatmap(map))[1] == pytest.approx(float(map.max()))


def test_a_single_hot_pixel_among_zeros_is_visible() -> None:
    ax = heatmap(peak(100, 200, (224, 224)))
    assert ax.images[-1].to_rgba(shown(ax))[100, 200, 1] < 0.5


def test_given_limits_are_used_as_they_are() -> None:
    assert limits(heatmap(torch.rand(3, 3), GREY, limits=(0.25, 8))) == (0.25, 8)
    assert limits(heatmap(torch.rand(3, 3) - 0.5, limits=(-2, 2))) == (-2, 2)
    assert limits(heatmap(torch.rand(3, 3) - 0.5, limits=(0, 2))) == (0, 2)


def test_the_range_of_a_map_in_which_zero_means_nothing_can_be_its_scale() -> None:
    ax = heatmap(torch.tensor([[0.4, 0.6, 0.9]], dtype=torch.float64), limits="range")
    assert limits(ax) == (0.4, 0.9)


def test_another_colour_map_can_be_chosen() -> None:
    green = heatmap(torch.tensor([[0.0, 1.0]]), cmap="Greens").images[-1].get_cmap()(1.0)
    same = heatmap(torch.tensor([[0.0, 1.0]]), cmap=mpl.colormaps["Greens"]).images[-1].get_cmap()(1.0)
    assert green == same
    assert green[1] > green[0]


@pytest.mark.parametrize(
    ("map", "look", "note"),
    [
        (torch.zeros(7, 7), {}, "no positive evidence"),
        (torch.zeros(7, 7), {"signed": True}, "no evidence"),
        (-torch.rand(7, 7), {"signed": False}, "no positive evidence"),
        (torch.full((7, 7), 0.25), {}, "constant 0.25"),
        (torch.full((7, 7), -3.0), {}, "constant -3"),
        (torch.full((1, 1), 5.0), {"limits": "range"}, "constant 5"),
    ],
)
def test_convention_a_map_that_tells_nothing_apart_says_so(map: Tensor, look: dict[str, Any], note: str) -> None:
    assert words(heatmap(map, GREY, **look)) == [note]


def test_a_map_with_something_to_say_carries_no_words() -> None:
    assert words(heatmap(torch.rand(7, 7), GREY)) == []


def test_a_zero_map_has_no_colour_at_all() -> None:
    assert saturation(inside(heatmap(torch.zeros(7, 7), GREY))).max() == 0


def test_a_constant_map_is_drawn_in_full_colour() -> None:
    ax = heatmap(torch.full((7, 7), 0.25), GREY)
    assert np.median(saturation(inside(ax))) > 0.3


def test_the_colour_bar_has_raw_numbers_and_a_label() -> None:
    ax = heatmap(torch.tensor([[-1.0, 250.0]]), GREY, colorbar="drop in logit")
    bar = figure_of(ax).axes[1]
    assert bar.get_ylabel() == "drop in logit"
    assert bar.get_ylim() == (-250, 250)


def test_there_is_no_colour_bar_unless_asked_for() -> None:
    assert len(figure_of(heatmap(torch.rand(3, 3))).axes) == 1
    assert len(figure_of(heatmap(torch.rand(3, 3), colorbar=True)).axes) == 2


@pytest.mark.parametrize(
    ("look", "ends"),
    [
        ({"percentile": 100}, "neither"),
        ({"limits": (0, 0.5)}, "max"),
        ({"limits": (0.1, 0.5), "signed": False}, "both"),
    ],
)
def test_the_colour_bar_marks_what_lies_beyond_its_ends(look: dict[str, Any], ends: str) -> None:
    ax = heatmap(torch.tensor([[0.0, 1.0]]), colorbar=True, **look)
    drawn = ax.figure.axes[1]._colorbar  # type: ignore[attr-defined]
    assert drawn.extend == ends


PICTURE = np.random.default_rng(0).integers(0, 256, (6, 9, 3), np.uint8)


@pytest.mark.parametrize(
    "image",
    [
        Image.fromarray(PICTURE),
        PICTURE,
        PICTURE / 255.0,
        (PICTURE / 255.0).astype(np.float32),
        torch.from_numpy(PICTURE).permute(2, 0, 1),
        torch.from_numpy(PICTURE).permute(2, 0, 1)[None] / 255,
    ],
    ids=["PIL", "uint8", "float64", "float32", "tensor uint8", "batch of one"],
)
def test_a_picture_looks_the_same_in_every_form(image: Any) -> None:
    expected = np.asarray(heatmap(torch.rand(2, 2), PICTURE).images[0].get_array())
    np.testing.assert_allclose(np.asarray(heatmap(torch.rand(2, 2), image).images[0].get_array()), expected, atol=1e-6)


@pytest.mark.parametrize("image", [PICTURE[..., 0], PICTURE[..., :1], torch.from_numpy(PICTURE[None, ..., 0])])
def test_a_picture_may_have_one_channel(image: Any) -> None:
    colour = np.repeat(PICTURE[..., :1], 3, 2)
    expected = np.asarray(heatmap(torch.rand(2, 2), colour).images[0].get_array())
    np.testing.assert_allclose(np.asarray(heatmap(torch.rand(2, 2), image).images[0].get_array()), expected, atol=1e-12)


@pytest.mark.parametrize("map", [torch.rand(5, 8), torch.rand(1, 5, 8), torch.rand(1, 1, 5, 8), np.ones((5, 8), int)])
def test_leading_axes_of_one_map_are_dropped(map: Any) -> None:
    np.testing.assert_allclose(shown(heatmap(map)), np.asarray(map).reshape(5, 8))


def test_a_map_may_still_be_part_of_a_graph_and_of_any_float_type() -> None:
    map = torch.rand(3, 3, dtype=torch.bfloat16, requires_grad=True)
    np.testing.assert_allclose(shown(heatmap(map)), map.detach().float().numpy())


@pytest.mark.parametrize(
    ("map", "message"),
    [
        (torch.tensor([[0.0, float("nan")]]), "must be finite; got 1 NaN or infinite values of 2"),
        (torch.tensor([[0.0, float("inf")]]), "must be finite"),
        (torch.rand(2, 1, 5, 8), r"got \(2, 1, 5, 8\). Choose one example: maps\[0\]"),
        (torch.rand(3, 5, 8), "one channel to be a heatmap; got 3. .* gradient_image"),
        (torch.rand(2, 5, 8), r"\(3, h, w\); got \(2, 5, 8\)"),
        (torch.rand(8), r"got \(8,\)"),
        (torch.rand(0, 8), "non-empty"),
        (np.array([["a"]]), "numbers"),
    ],
)
def test_a_map_that_cannot_be_drawn_is_refused(map: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        heatmap(map, GREY)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (torch.randn(3, 5, 8), r"floats in \[0, 1\]; got .* normalised"),
        (torch.full((3, 5, 8), float("nan")), "image must be finite"),
        (torch.rand(4, 5, 8), r"got shape \(4, 5, 8\)"),
        (np.zeros((5, 8, 4), np.uint8), r"got shape \(5, 8, 4\)"),
        (np.zeros((0, 8, 3), np.uint8), r"got shape \(0, 8, 3\)"),
        ("cat.png", "got str"),
    ],
)
def test_a_picture_that_cannot_be_drawn_is_refused(image: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        heatmap(torch.rand(2, 2), image)


@pytest.mark.parametrize(
    ("look", "message"),
    [
        ({"limits": (2, 1)}, "low < high"),
        ({"limits": (0, 1, 2)}, "a pair"),
        ({"limits": (0, float("nan"))}, "upper limit must be a finite number"),
        ({"limits": "share"}, "Did you mean 'shared'"),
        ({"limits": "shared"}, "single map"),
        ({"limits": "method"}, "single map"),
        ({"limits": (-1, 2)}, r"symmetric around 0, such as \(-2.0, 2.0\)"),
        ({"limits": (0, 2), "signed": True}, "symmetric"),
        ({"limits": "range", "signed": True}, "got 'range'"),
        ({"percentile": 101}, "percentile"),
        ({"alpha": -0.1}, "alpha"),
        ({"signed": "yes"}, "signed must be True, False or 'auto'; got 'yes'"),
        ({"cmap": "YlOrRr"}, "got 'YlOrRr'. Did you mean .*'YlOrRd'"),
    ],
)
def test_a_look_that_makes_no_sense_is_refused(look: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        heatmap(torch.rand(2, 2), **look)


def test_an_unknown_option_is_refused_with_a_suggestion() -> None:
    with pytest.raises(TypeError, match=r"no option 'percentil'\. Did you mean 'percentile'"):
        heatmap(torch.rand(2, 2), percentil=5)  # type: ignore[call-arg]
