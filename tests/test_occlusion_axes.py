"""Occlusion of signals, volumes, tokens and layers with channels last equals the literal loops, and Captum's."""

from __future__ import annotations

from typing import Any

import captum.attr
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from attrib import Occlusion
from attrib.core import Windows, count, explain_plan
from attrib.errors import InputError, ShapeError
from tests import nets
from tests.oracles.models import DOUBLE, EXACT, TARGETS, assert_rows, class_score
from tests.oracles.occlusion_axes import occlusion
from tests.test_sweep_axes import noise, signals, volumes

SIGNAL, VOLUME = noise(2, 2, 23), noise(2, 2, 5, 4, 6)
CASES: dict[str, tuple[nn.Module, Tensor, tuple[int, ...], tuple[int, ...]]] = {
    "signal": (signals(), SIGNAL, (5,), (3,)),
    "signal, one step": (signals(), SIGNAL, (2,), (1,)),
    "volume": (volumes(), VOLUME, (2, 3, 4), (1, 2, 3)),
    "volume of one slice": (volumes(), VOLUME, (5, 2, 2), (5, 2, 2)),
}


@pytest.mark.parametrize("edge", ["full", "cut"])
@pytest.mark.parametrize("name", CASES)
def test_occlusion_of_signals_and_volumes_hides_one_box_after_the_other(name: str, edge: Any) -> None:
    model, x, window, stride = CASES[name]
    maps = Occlusion(model, window=window, stride=stride, edge=edge, baseline="mean").attribute(x, TARGETS)
    axes = tuple(range(1, x.ndim - 1))
    expected = [
        occlusion(
            class_score(model, t), row, np.broadcast_to(row.mean(axes, keepdims=True), row.shape), window, stride, edge
        )
        for row, t in zip(x.numpy(), TARGETS, strict=True)
    ]
    assert_rows(maps, expected, EXACT)


@pytest.mark.parametrize("name", CASES)
def test_occlusion_of_signals_and_volumes_equals_captums(name: str) -> None:
    model, x, window, stride = CASES[name]
    theirs = captum.attr.Occlusion(model).attribute(x, (2, *window), strides=(2, *stride), target=TARGETS)
    ours = Occlusion(model, window=window, stride=stride, edge="cut").attribute(x, TARGETS)
    # Captum collects in float32, whatever the model computes in
    torch.testing.assert_close(ours, theirs[:, :1].to(ours), rtol=1e-4, atol=1e-6)


def test_a_layer_of_a_signal_or_a_volume_is_occluded_along_its_own_axes() -> None:
    for model, x, window in ((signals(), SIGNAL, (3,)), (volumes(), VOLUME, (1, 2, 2))):
        rest = model[3:]  # type: ignore[index]
        maps = Occlusion(model, "2", window=window, stride=1).attribute(x, TARGETS)
        acts = model[:3](x).detach().numpy()  # type: ignore[index]
        steps = (1,) * len(window)
        expected = [
            occlusion(class_score(rest, t), act, np.zeros_like(act), window, steps)
            for act, t in zip(acts, TARGETS, strict=True)
        ]
        assert_rows(maps, expected, EXACT)


def test_a_layer_with_channels_last_is_occluded_as_its_twin_with_channels_first() -> None:
    class Last(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Conv2d(3, 9, 3, stride=2, padding=1)
            self.last, self.act = nn.Identity(), nn.Identity()
            self.fc = nn.Linear(9, 5)

        def forward(self, x: Tensor) -> Tensor:
            x = self.last(self.act(self.first(x).relu()).permute(0, 2, 3, 1))
            out: Tensor = self.fc(torch.tanh(x * x).mean((1, 2)))
            return out

    model, x = nets.fill(Last()).double(), nets.batch(2, 24, 16, dtype=DOUBLE)
    for baseline in (0.4, "mean", "blur"):
        how: dict[str, Any] = {"window": (3, 2), "stride": (2, 1), "baseline": baseline}
        first, last = (Occlusion(model, at, **how).attribute(x, 2) for at in ("act", "last"))
        torch.testing.assert_close(last, first, rtol=1e-9, atol=1e-12)


def test_refinement_works_along_every_axis() -> None:
    class Spot(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x[:, :, 20:26].mean((1, 2))[:, None] if x.ndim == 3 else x[:, :, 2:6, 2:6, 5:9].mean((2, 3, 4))

    for x in (noise(2, 1, 64).abs(), noise(2, 1, 8, 8, 12).abs()):
        passes, maps = [], []
        for refine in (1, 3):
            with count() as cost:
                maps.append(Occlusion(Spot(), window=2, stride=1, refine=refine, exact_dense=True).attribute(x, 0))
            passes.append(cost.forwards)
        assert passes[1] < 0.7 * passes[0]
        assert float((maps[1] - maps[0]).abs().max()) <= 0.2 * float(maps[0].abs().max())


def test_windows_and_strides_need_one_number_per_axis() -> None:
    with pytest.raises(InputError, match=r"window must be an int or a tuple of 1, one per axis; got \(3, 4\)"):
        Occlusion(signals(), window=(3, 4)).attribute(SIGNAL, 1)
    with pytest.raises(InputError, match=r"stride must be an int or a tuple of 3, one per axis"):
        Occlusion(volumes(), window=4, stride=(2, 2)).attribute(VOLUME, 1)
    with pytest.raises(InputError, match=r"got stride 4 for a window of 3 along z"):
        Occlusion(volumes(), window=3, stride=(4, 3, 3)).attribute(VOLUME, 1)
    with pytest.raises(InputError, match="window must be an integer >= 1"):
        Occlusion(signals(), window=(0,))
    with pytest.raises(InputError, match="window must be an int or a tuple of one per axis"):
        Occlusion(signals(), window=())


def test_the_default_window_of_a_volume_is_an_eighth_of_each_side_and_of_a_signal_an_eighth() -> None:
    assert Windows.usual((16, 48, 40)).window == (2, 6, 5)
    assert Windows.usual((16, 48, 40)).stride == (1, 3, 2)
    assert Windows.usual((160,)).window == (20,)
    assert Windows.usual((160,)).grid == (15,)


def test_vectors_have_no_places_to_occlude_and_plans_are_made_for_pictures() -> None:
    with pytest.raises(ShapeError, match=r"must have locations to hide.*got \(2, 7\)"):
        Occlusion(nn.Linear(7, 5)).attribute(torch.rand(2, 7), 1)
    with pytest.raises(ShapeError, match=r"inputs must have shape \(N, C, H, W\)"):
        explain_plan(signals(), SIGNAL)
