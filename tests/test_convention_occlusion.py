"""The Convention lines of methods that hide parts: occlusion beside pictures, RISE."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from attrib import ClassScore, Occlusion
from attrib.core.masking.random_masks import RandomGrid
from attrib.methods.rise import RISE
from tests import nets
from tests.conventions import pins
from tests.oracles.models import DOUBLE, EXACT
from tests.test_geometry import Patches
from tests.test_occlusion_axes import SIGNAL, VOLUME
from tests.test_sweep_axes import signals, volumes


@pins("occlusion", "signals ``(N, C, L)``")
def test_convention_occlusion_of_tokens_hides_patches_and_keeps_the_class_token() -> None:
    x = nets.batch(2, 6, 4, dtype=DOUBLE)
    model = nets.fill(Patches()).double()
    maps = Occlusion(model, "tokens", window=1, stride=1, baseline=0.7).attribute(x, 2)
    rows = model.relu(model.embed(x)).detach()
    expected = torch.zeros(2, 1, 3, 2, dtype=DOUBLE)
    for i in range(3):
        for j in range(2):
            hidden = rows.clone()
            hidden[:, :, i, j] = 0.7
            lost = model.fc(rows.square().mean((2, 3))) - model.fc(hidden.square().mean((2, 3)))
            expected[:, 0, i, j] = lost.detach()[:, 2]
    torch.testing.assert_close(maps, expected, **EXACT)
    reads_class_token = nets.fill(Patches(read="class")).double()
    nothing = Occlusion(reads_class_token, "tokens", window=3, stride=1, baseline=0.7).attribute(x, 2)
    torch.testing.assert_close(nothing, torch.zeros_like(nothing), **EXACT)
    assert Occlusion(signals(), window=3).attribute(SIGNAL, 1).shape == (2, 1, 23)
    assert Occlusion(volumes(), window=2).attribute(VOLUME, 1).shape == (2, 1, 5, 4, 6)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("sign", ["drop", "score"])
def test_hundreds_of_windows_over_a_pixel_are_averaged_in_half_precision(dtype: torch.dtype, sign: Any) -> None:
    class First(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x[:, 0, :1, :1].flatten(1) - 1.0

    x = torch.full((1, 1, 40, 40), 0.25, dtype=dtype)
    maps = Occlusion(First(), window=20, stride=1, sign=sign).attribute(x, 0)
    truth = Occlusion(First(), window=20, stride=1, sign=sign).attribute(x.double(), 0)
    torch.testing.assert_close(maps.double(), truth, rtol=2 * torch.finfo(dtype).eps, atol=1e-6)


# --- RISE


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("divide", ["p", "coverage"])
def test_hundreds_of_masks_are_averaged_in_half_precision(dtype: torch.dtype, divide: Any) -> None:
    class Constant(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.flatten(1)[:, :1] * 0 + 200.0

    x = torch.ones(1, 1, 8, 6, dtype=dtype)
    maps = RISE(Constant(), n=2000, cells=2, divide=divide).attribute(x, 0)
    truth = RISE(Constant(), n=2000, cells=2, divide=divide).attribute(x.double(), 0)
    torch.testing.assert_close(maps.double(), truth, rtol=0.02, atol=0)


X = nets.batch(2, 8, 6)
NET = nets.make("module")


@pins("rise", "map:")
def test_convention_rise_map_has_the_unit_of_the_score_and_hides_all_channels_together() -> None:
    maps = RISE(NET, n=20, cells=2).attribute(X, 2)
    assert maps.shape == (2, 1, 8, 6)
    assert RISE(NET, "pool", n=20, cells=2).attribute(X, 2).shape == (2, 1, 4, 3)
    tripled = RISE(NET, n=20, cells=2).attribute(X, 3 * ClassScore(2))
    torch.testing.assert_close(tripled, 3 * maps)
    seen: list[Tensor] = []
    handle = NET.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    RISE(NET, n=6, cells=2, baseline=9.0, exact_dense=True).attribute(torch.zeros_like(X), 2)
    handle.remove()
    hidden = torch.cat(seen[1:])
    assert len(hidden) == 12
    torch.testing.assert_close(hidden, hidden[:, :1].expand_as(hidden))


@pins("rise", "larger supports the goal")
def test_convention_rise_is_large_where_the_score_is_and_elsewhere_the_mean_score_under_masks() -> None:
    class Corner(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x[:, :, :4, :4].mean((1, 2, 3))[:, None].expand(-1, 2)

    x = torch.ones(1, 1, 16, 16)
    maps = RISE(Corner(), n=4000, cells=4).attribute(x, 1)[0, 0]
    assert divmod(int(maps.argmax()), 16) < (4, 4)
    assert float(maps[:4, :4].mean()) > 0.7
    torch.testing.assert_close(maps[8:, 8:].mean(), torch.tensor(0.5), atol=0.03, rtol=0)  # of scores from 0 to 1


@pins("rise", "``score=None`` is the target's own space")
def test_convention_rise_takes_the_targets_space_unless_told_and_the_papers_is_the_probability() -> None:
    how: dict[str, Any] = {"n": 12, "cells": 2}
    own = RISE(NET, **how).attribute(X, ClassScore(2, "probability"))
    torch.testing.assert_close(RISE(NET, **how, score="probability").attribute(X, 2), own)
    assert 0 < float(own.min()) < float(own.max()) < 2
    assert not torch.allclose(RISE(NET, **how).attribute(X, 2), own)


@pins("rise", "masks are soft")
def test_convention_rise_masks_are_soft_and_the_same_for_every_example() -> None:
    class Sees(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            seen.append(x)
            return x.mean((2, 3))

    seen: list[Tensor] = []
    RISE(Sees(), n=30, cells=2, batch_size=5, exact_dense=True).attribute(torch.ones_like(X), 1)
    values = torch.cat(seen[1:])
    assert 0 <= float(values.min()) < float(values.max()) <= 1 + 1e-6
    assert bool(((values > 0.05) & (values < 0.95)).any())
    pairs = torch.cat(seen[1:])
    torch.testing.assert_close(pairs[0::2], pairs[1::2])  # rows go by mask, then example
    alone = RISE(NET, n=30, cells=2, batch_size=3).attribute(X[1:], 2)
    torch.testing.assert_close(alone, RISE(NET, n=30, cells=2).attribute(X, 2)[1:])


@pins("rise", '``divide="p"``')
def test_convention_rise_divides_by_the_probability_or_by_what_was_shown() -> None:
    class One(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.ones(len(x), 2) + 0 * x.mean((1, 2, 3))[:, None]

    masks = RandomGrid((8, 6), 25, (3, 3), 0.4, seed=0).batch(0, 25, X).mean(0)[0]
    by_p = RISE(One(), n=25, cells=3, p=0.4).attribute(X, 1)
    torch.testing.assert_close(by_p, (masks / 0.4).expand(2, 1, 8, 6))
    torch.testing.assert_close(
        RISE(One(), n=25, cells=3, p=0.4, divide="coverage").attribute(X, 1), torch.ones(2, 1, 8, 6)
    )


@pins("rise", "signals and volumes")
def test_convention_rise_of_signals_volumes_and_tokens_has_their_places() -> None:
    assert RISE(signals(), n=5, cells=2).attribute(SIGNAL, 1).shape == (2, 1, 23)
    assert RISE(volumes(), n=5, cells=2).attribute(VOLUME, 1).shape == (2, 1, 5, 4, 6)
    x = nets.batch(2, 6, 4, dtype=DOUBLE)
    reads_class_token = nets.fill(Patches(read="class")).double()
    maps = RISE(reads_class_token, "tokens", n=9, cells=2, divide="coverage", baseline=5.0).attribute(x, 2)
    clean = reads_class_token(x).detach()[:, 2].reshape(2, 1, 1, 1)
    torch.testing.assert_close(maps, clean.expand(2, 1, 3, 2), **EXACT)  # nothing that it reads was hidden
