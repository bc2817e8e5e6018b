"""Gradient images, the colours of every map, and the manners of every figure."""

from __future__ import annotations

import random
import subprocess
import sys
from itertools import pairwise

import matplotlib as mpl
import numpy as np
import pytest
import torch
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from attrib.errors import ShapeError
from attrib.plot import gradient_image, heatmap, panels
from attrib.plot.colour import colours
from attrib.plot.scale import Scale, Style
from tests.pictures import (
    GREY,
    SEEN_BY,
    inside,
    linear,
    saturation,
    shown,
)

PICTURE = np.random.default_rng(0).integers(0, 256, (6, 9, 3), np.uint8)


def test_convention_grey_is_zero_and_the_sign_of_every_channel_is_kept() -> None:
    map = torch.zeros(3, 2, 4)
    map[0, 0, 1], map[1, 1, 2], map[2, 0, 3] = 1.0, -1.0, 0.5
    drawn = shown(gradient_image(map, percentile=100))
    np.testing.assert_allclose(drawn[0, 0], [0.5, 0.5, 0.5])
    np.testing.assert_allclose(drawn[0, 1], [1.0, 0.5, 0.5])
    np.testing.assert_allclose(drawn[1, 2], [0.5, 0.0, 0.5])
    np.testing.assert_allclose(drawn[0, 3], [0.5, 0.5, 0.75])


def test_convention_one_scale_holds_for_all_channels_and_is_written_below() -> None:
    map = torch.stack([torch.full((9, 9), value) for value in (0.1, 0.2, -0.4)])
    ax = gradient_image(map)
    np.testing.assert_allclose(shown(ax)[0, 0], [0.625, 0.75, 0.0], atol=1e-6)
    assert ax.get_xlabel() == "grey 0, full colour ±0.4"
    assert gradient_image(map, note=False).get_xlabel() == ""


def test_outliers_of_a_gradient_image_are_clipped_at_the_percentile() -> None:
    map = torch.ones(3, 20, 20)
    map[0, 0, 0] = -1e9
    assert shown(gradient_image(map))[0, 0].tolist() == [0.0, 1.0, 1.0]
    assert shown(gradient_image(map, percentile=100))[0, 0].tolist() == [0.0, pytest.approx(0.5), pytest.approx(0.5)]


def test_a_gradient_of_zero_is_grey_and_says_so() -> None:
    ax = gradient_image(torch.zeros(3, 4, 5))
    assert (shown(ax) == 0.5).all()
    assert ax.get_xlabel() == "zero everywhere"


def test_one_channel_is_drawn_in_grey() -> None:
    assert saturation(inside(gradient_image(torch.randn(1, 28, 28)))).max() == 0


def test_a_gradient_image_has_three_channels_or_one() -> None:
    with pytest.raises(ShapeError, match=r"got \(4, 5, 8\)"):
        gradient_image(torch.rand(4, 5, 8))


@pytest.mark.parametrize("eyes", SEEN_BY)
@pytest.mark.parametrize("signed", [False, True])
def test_more_evidence_is_always_darker(eyes: str, signed: bool) -> None:
    shades = colours(Scale(-1 if signed else 0, 1, signed), Style(), over_white=True)(np.linspace(0, 1, 33))[:, :3]
    light = (linear(shades) @ SEEN_BY[eyes].T) @ np.array([0.2126, 0.7152, 0.0722])
    arms = [light[16:], light[16::-1]] if signed else [light]
    assert all(lighter > darker for arm in arms for lighter, darker in pairwise(arm))


def draw_everything() -> None:
    map, image, channels = torch.randn(5, 8), torch.rand(3, 40, 96), torch.randn(3, 40, 96)
    heatmap(map, image, colorbar=True).figure.canvas.draw()
    gradient_image(channels).figure.canvas.draw()
    panels(image, {"a": map, "b": channels}, colorbar=True).canvas.draw()


def test_pyplot_and_its_settings_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def show(*_: object, **__: object) -> None:
        raise AssertionError("nobody asked for a window")

    monkeypatch.setattr(plt, "show", show)
    mine = plt.figure()
    before = (dict(mpl.rcParams), mpl.get_backend(), plt.get_fignums())
    draw_everything()
    assert (dict(mpl.rcParams), mpl.get_backend(), plt.get_fignums()) == before
    assert plt.gcf() is mine
    assert not mine.axes
    plt.close(mine)


def test_random_states_are_left_alone() -> None:
    def states() -> list[object]:
        return [random.getstate(), str(np.random.get_state()), torch.get_rng_state().tolist()]  # noqa: NPY002

    map, image = torch.rand(5, 8), torch.rand(3, 40, 96)
    before = states()
    panels(image, {"a": map})
    assert states() == before


def test_nothing_given_is_changed() -> None:
    map, image, channels = torch.randn(5, 8), torch.rand(3, 40, 96), torch.randn(3, 40, 96)
    array, picture = map.numpy().copy(), PICTURE.copy()
    copies = [given.clone() for given in (map, image, channels)]
    panels(image, {"a": map, "b": channels}, colorbar=True)
    heatmap(array, picture, limits="range")
    gradient_image(channels)
    assert all(torch.equal(given, copy) for given, copy in zip((map, image, channels), copies, strict=True))
    assert (array == map.numpy()).all()
    assert (picture == PICTURE).all()


def test_given_axes_are_drawn_into_and_returned() -> None:
    figure = Figure()
    left, right = figure.subplots(1, 2)
    assert heatmap(torch.rand(2, 2), GREY, left) is left
    assert gradient_image(torch.rand(3, 2, 2), right) is right
    assert figure.axes == [left, right]


def test_figures_are_drawn_without_pyplot() -> None:
    code = """
import sys, torch
from attrib.plot import heatmap, panels
sys.modules["matplotlib.pyplot"] = None
heatmap(torch.rand(3, 3), colorbar=True).figure.savefig(sys.stdout.buffer, format="png")
panels(torch.rand(3, 9, 9), {"a": torch.rand(3, 3)}, colorbar=True).savefig(sys.stdout.buffer, format="png")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    assert done.stdout.startswith(b"\x89PNG")


def test_the_middle_of_a_signed_scale_is_exactly_zero() -> None:
    middle = colours(Scale(-1, 1, signed=True), Style(), over_white=False)(0.5)
    assert middle[3] == 0
