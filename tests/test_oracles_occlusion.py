"""Occlusion equals the double loop in float64: see tests/oracles/occlusion.py."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from attrib import Occlusion
from tests import nets
from tests.oracles import occlusion
from tests.oracles.differences import Array
from tests.oracles.models import DOUBLE, EXACT, TARGETS, assert_rows, class_score, head


@pytest.mark.parametrize("sign", ["drop", "score"])
@pytest.mark.parametrize("edge", ["full", "cut"])
@pytest.mark.parametrize(
    ("window", "stride"), [((3, 3), (1, 1)), ((3, 2), (2, 2)), ((5, 4), (3, 1)), ((4, 4), (4, 4)), ((1, 6), (1, 5))]
)
def test_occlusion_puts_a_patch_everywhere_and_looks_at_the_score(
    window: tuple[int, int], stride: tuple[int, int], edge: Any, sign: Any
) -> None:
    model, x = nets.make("module", DOUBLE), nets.batch(2, 8, 7, dtype=DOUBLE)
    maps = Occlusion(model, window=window, stride=stride, edge=edge, sign=sign).attribute(x, TARGETS)
    expected = [
        occlusion.occlusion(class_score(model, t), row, np.zeros_like(row), window, stride, edge, sign)
        for row, t in zip(x.numpy(), TARGETS, strict=True)
    ]
    assert_rows(maps, expected, EXACT)


def test_a_window_larger_than_the_picture_hides_all_of_it() -> None:
    model, x = nets.make("module", DOUBLE), nets.batch(1, 4, 5, dtype=DOUBLE)
    maps = Occlusion(model, window=(9, 2), stride=(9, 1)).attribute(x, 2)
    row = x[0].numpy()
    expected = occlusion.occlusion(class_score(model, 2), row, np.zeros_like(row), (9, 2), (9, 1))
    assert_rows(maps, [expected], EXACT)


@pytest.mark.parametrize(("size", "window", "stride"), [((8, 24), 1, 1), ((40, 16), 2, 1), ((4, 5), 1, 1)])
def test_the_default_window_is_an_eighth_of_the_shorter_side(size: tuple[int, int], window: int, stride: int) -> None:
    model, x = nets.make("module", DOUBLE), nets.batch(1, *size, dtype=DOUBLE)
    given = Occlusion(model, window=window, stride=stride).attribute(x, 2)
    torch.testing.assert_close(Occlusion(model).attribute(x, 2), given, **EXACT)


def test_the_default_stride_is_half_the_window_along_each_axis() -> None:
    model, x = nets.make("module", DOUBLE), nets.batch(1, 9, 7, dtype=DOUBLE)
    given = Occlusion(model, window=(6, 2), stride=(3, 1)).attribute(x, 2)
    torch.testing.assert_close(Occlusion(model, window=(6, 2)).attribute(x, 2), given, **EXACT)


@pytest.mark.parametrize("space", ["logit", "probability", "log_probability", "log_odds"])
def test_occlusion_in_every_score_space(space: Any) -> None:
    model, x = nets.make("residual", DOUBLE), nets.batch(2, 6, 8, dtype=DOUBLE)
    maps = Occlusion(model, window=3, stride=2, score=space).attribute(x, TARGETS)
    expected = [
        occlusion.occlusion(class_score(model, t, space), row, np.zeros_like(row), (3, 3), (2, 2))
        for row, t in zip(x.numpy(), TARGETS, strict=True)
    ]
    assert_rows(maps, expected, EXACT)


COLOURS = torch.tensor([0.5, -1.0, 2.0], dtype=DOUBLE)[:, None, None]
BASELINES: dict[str, tuple[Any, Callable[[Array], Array]]] = {
    "a number": (0.7, lambda x: np.full_like(x, 0.7)),
    "zero": ("zero", np.zeros_like),
    "each channel's mean": ("mean", lambda x: np.broadcast_to(x.mean((1, 2), keepdims=True), x.shape)),
    "blur": ("blur", occlusion.blurred),
    "one colour": (COLOURS, lambda x: np.broadcast_to(COLOURS.numpy(), x.shape)),
    "a callable": (lambda x: x.flip(3), lambda x: x[:, :, ::-1]),
}


@pytest.mark.parametrize("name", BASELINES)
def test_occlusion_shows_the_baseline_in_the_window(name: str) -> None:
    baseline, patch = BASELINES[name]
    model, x = nets.make("residual", DOUBLE), nets.batch(2, 7, 6, dtype=DOUBLE)
    maps = Occlusion(model, window=3, stride=3, baseline=baseline).attribute(x, TARGETS)
    expected = [
        occlusion.occlusion(class_score(model, t), row, patch(row), (3, 3), (3, 3))
        for row, t in zip(x.numpy(), TARGETS, strict=True)
    ]
    assert_rows(maps, expected, EXACT)


def test_each_example_can_have_a_baseline_of_its_own() -> None:
    model, x = nets.make("module", DOUBLE), nets.batch(2, 7, 6, dtype=DOUBLE)
    other = nets.batch(2, 7, 6, seed=9, dtype=DOUBLE)
    maps = Occlusion(model, window=3, stride=3, baseline=other).attribute(x, TARGETS)
    expected = [
        occlusion.occlusion(class_score(model, t), row, patch, (3, 3), (3, 3))
        for row, patch, t in zip(x.numpy(), other.numpy(), TARGETS, strict=True)
    ]
    assert_rows(maps, expected, EXACT)


def test_occlusion_of_a_layer_hides_parts_of_its_activation() -> None:
    model, x = nets.make("module", DOUBLE), nets.batch(2, 10, 8, dtype=DOUBLE)
    with torch.no_grad():
        acts = model.pool(F.relu(model.conv1(x)))
    maps = Occlusion(model, "pool", window=2, stride=1, baseline=0.3).attribute(x, TARGETS)
    expected = [
        occlusion.occlusion(head(model, t), act, np.full_like(act, 0.3), (2, 2), (1, 1))
        for act, t in zip(acts.numpy(), TARGETS, strict=True)
    ]
    assert_rows(maps, expected, EXACT)


def test_each_of_two_inputs_is_occluded_while_the_other_is_kept() -> None:
    model = nets.fill(nets.TwoInputs()).double()
    x, y = nets.batch(1, 6, 5, dtype=DOUBLE), nets.batch(1, 8, 4, seed=3, dtype=DOUBLE)
    first, second = Occlusion(model, window=2, stride=2).attribute((x, y), 2)

    def with_first(a: Array) -> float:
        with torch.no_grad():
            return float(model(torch.from_numpy(a)[None], y)[0, 2])

    def with_second(b: Array) -> float:
        with torch.no_grad():
            return float(model(x, torch.from_numpy(b)[None])[0, 2])

    a, b = x[0].numpy(), y[0].numpy()
    assert_rows(first, [occlusion.occlusion(with_first, a, np.zeros_like(a), (2, 2), (2, 2))], EXACT)
    assert_rows(second, [occlusion.occlusion(with_second, b, np.zeros_like(b), (2, 2), (2, 2))], EXACT)
