"""RISE: the masks are the paper's, the map is their mean score; unbiased, lazy, the same for any batch size."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from skimage.transform import resize
from torch import Tensor, nn

from attrib.core import count
from attrib.core.masking.random_masks import RandomGrid
from attrib.errors import InputError, ShapeError
from attrib.methods.rise import RISE
from tests import data, nets
from tests.incremental import watched
from tests.oracles import rise
from tests.oracles.models import DOUBLE, EXACT, TARGETS, assert_rows, class_score, head
from tests.test_object_context import on_photos
from tests.test_sweep_axes import noise, signals, volumes

LIKE = torch.empty(0, dtype=DOUBLE)


def drawn(masks: RandomGrid) -> list[Any]:
    """Every mask, read off the cells pixel by pixel."""
    return [rise.mask(masks.size, *masks.draw(i)) for i in range(len(masks))]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("size", "cells"), [((8, 6), (3, 2)), ((7, 9), (7, 4)), ((3, 4), (5, 4)), ((11,), (4,)), ((3, 4, 5), (2, 4, 1))]
)
def test_masks_are_cells_enlarged_bilinearly_and_cut_out_at_a_random_place(size: Any, cells: Any) -> None:
    masks = RandomGrid(size, 12, cells, 0.4, seed=3)
    got = masks.batch(0, 12, LIKE)
    assert got.shape == (12, 1, 1, *size)
    torch.testing.assert_close(got[:, 0, 0], torch.from_numpy(np.stack(drawn(masks))), **EXACT)


def test_masks_are_those_of_the_authors_code_away_from_the_border_of_the_grid() -> None:
    masks = RandomGrid((40, 56), 6, (7, 7), 0.5, seed=0)  # cells of 6 x 8 pixels, enlarged to 48 x 64
    for i, mask in enumerate(masks.batch(0, 6, LIKE)[:, 0, 0].numpy()):
        kept, (y, x) = masks.draw(i)
        theirs = resize(kept.astype(float), (48, 64), order=1, mode="reflect", anti_aliasing=False)
        cut = theirs[y : y + 40, x : x + 56]
        inside = np.zeros((48, 64), dtype=bool)
        inside[4:-4, 5:-5] = True
        inside = inside[y : y + 40, x : x + 56]
        assert inside.mean() > 0.75
        np.testing.assert_allclose(mask[inside], cut[inside], atol=1e-9)


def test_every_place_is_kept_with_probability_p_and_no_place_is_special() -> None:
    for p in (0.2, 0.5):
        mean = RandomGrid((9, 10), 4000, (3, 4), p, seed=1).batch(0, 4000, LIKE).mean(0)
        assert float((mean - p).abs().max()) < 5 * (p * (1 - p) / 4000) ** 0.5  # five standard errors, at most
    exact = sum(chance * keep for chance, keep in rise.every_mask((5, 4), (2, 2), 0.3))
    np.testing.assert_allclose(exact, np.full((5, 4), 0.3))


def test_offsets_lie_within_one_cell_and_all_of_them_come_up() -> None:
    masks = RandomGrid((12, 9), 300, (4, 3), 0.5, seed=0)
    found = {tuple(masks.draw(i)[1].tolist()) for i in range(300)}
    assert found == {(y, x) for y in range(3) for x in range(3)}


def test_a_mask_depends_on_its_number_and_the_seed_only() -> None:
    masks = RandomGrid((8, 6), 100, (3, 3), 0.5, seed=5)
    some = torch.tensor([70, 3, 41])
    torch.testing.assert_close(masks.at(some, LIKE), masks.batch(0, 100, LIKE)[some], rtol=0, atol=0)
    longer = RandomGrid((8, 6), 1000, (3, 3), 0.5, seed=5)
    torch.testing.assert_close(longer.batch(60, 80, LIKE), masks.batch(60, 80, LIKE), rtol=0, atol=0)
    other = RandomGrid((8, 6), 100, (3, 3), 0.5, seed=6).batch(0, 99, LIKE)
    assert not torch.equal(other, masks.batch(0, 99, LIKE))
    assert not torch.equal(other, masks.batch(1, 100, LIKE))  # neighbouring seeds are no shifted copies


@pytest.mark.parametrize("divide", ["p", "coverage"])
@pytest.mark.parametrize("space", ["logit", "probability"])
def test_the_map_is_the_mean_of_masks_weighted_by_their_scores(divide: Any, space: Any) -> None:
    model, x = nets.make("residual", DOUBLE), nets.batch(2, 8, 6, dtype=DOUBLE)
    how: dict[str, Any] = {"n": 20, "cells": (3, 2), "p": 0.4, "seed": 2}
    maps = RISE(model, **how, divide=divide, score=space, baseline="mean").attribute(x, TARGETS)
    masks = drawn(RandomGrid((8, 6), 20, (3, 2), 0.4, 2))
    expected = [
        rise.rise(
            class_score(model, t, space), row, row.mean((1, 2), keepdims=True), masks, 0.4 if divide == "p" else None
        )
        for row, t in zip(x.numpy(), TARGETS, strict=True)
    ]
    assert_rows(maps, expected, EXACT)


@pytest.mark.parametrize(("make", "size"), [(signals, (23,)), (volumes, (5, 4, 6))])
def test_signals_and_volumes_have_maps_of_their_own_axes(make: Any, size: tuple[int, ...]) -> None:
    model, x = make(), noise(2, 2, *size)
    maps = RISE(model, n=15, cells=3, baseline=0.2).attribute(x, TARGETS)
    masks = drawn(RandomGrid(size, 15, (3,) * len(size), 0.5, 0))
    expected = [
        rise.rise(class_score(model, t), row, np.full_like(row, 0.2), masks, 0.5)
        for row, t in zip(x.numpy(), TARGETS, strict=True)
    ]
    assert_rows(maps, expected, EXACT)


def test_a_layer_is_masked_at_its_own_size() -> None:
    model, x = nets.make("module", DOUBLE), nets.batch(2, 10, 8, dtype=DOUBLE)
    with torch.no_grad():
        acts = model.pool(F.relu(model.conv1(x)))
    maps = RISE(model, "pool", n=15, cells=2, baseline=0.3).attribute(x, TARGETS)
    masks = drawn(RandomGrid((5, 4), 15, (2, 2), 0.5, 0))
    expected = [
        rise.rise(head(model, t), act, np.full_like(act, 0.3), masks, 0.5)
        for act, t in zip(acts.numpy(), TARGETS, strict=True)
    ]
    assert_rows(maps, expected, EXACT)


def test_the_map_is_an_unbiased_estimate_of_the_mean_over_all_masks() -> None:
    model, x = nets.make("module", DOUBLE), nets.batch(1, 5, 4, dtype=DOUBLE)
    score, row = class_score(model, 2), x[0].numpy()
    exact = sum(chance * keep * score(row * keep) for chance, keep in rise.every_mask((5, 4), (2, 2), 0.3)) / 0.3
    found = torch.stack([RISE(model, n=50, cells=2, p=0.3, seed=s).attribute(x, 2)[0, 0] for s in range(60)])
    error = found.std(0) / 60**0.5
    assert float(((found.mean(0) - torch.as_tensor(exact)) / error).abs().max()) < 4


def test_the_map_of_a_linear_model_is_what_algebra_says_and_follows_weight_times_input() -> None:
    model = nets.fill(nets.Linear(8, 6)).double()
    weight, bias = model.weight(2), float(model.fc.bias.detach()[2])  # type: ignore[union-attr]
    y, z = torch.linspace(-1, 1, 8, dtype=DOUBLE)[:, None], torch.linspace(-1, 1, 6, dtype=DOUBLE)
    parts = torch.exp(-((y - 0.3) ** 2) - (z + 0.4) ** 2)  # weight times input, summed over the channels
    x = (weight * parts / weight.square().sum(0))[None]
    n, cells = 4000, (4, 3)
    found = torch.stack([RISE(model, n=n // 8, cells=cells, seed=s).attribute(x, 2)[0, 0] for s in range(8)])
    maps = found.mean(0)
    # the masks at two places have the mean product p^2 + p (1 - p) sum over the cells of what both see of them
    product = torch.zeros(48, 48, dtype=DOUBLE)
    for offset in ((i, j) for i in range(2) for j in range(2)):
        axes = [torch.tensor(rise.shares(*at)) for at in zip((8, 6), cells, offset, strict=True)]
        seen = torch.kron(axes[0], axes[1]).double()
        product += (0.25 + 0.25 * seen @ seen.T) / 4
    expected = (product @ parts.flatten() / 0.5 + bias).reshape(8, 6)
    assert float(((maps - expected) / (found.std(0) / 8**0.5)).abs().max()) < 6  # t of seven degrees of freedom
    assert float(torch.corrcoef(torch.stack([maps.flatten(), parts.flatten()]))[0, 1]) > 0.9


def test_dividing_by_coverage_takes_the_noise_of_an_offset_away() -> None:
    class Offset(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return 100 + x.mean((1, 2, 3))[:, None].expand(-1, 2) * 0

    x = nets.batch(1, 8, 6)
    flat = RISE(Offset(), n=30, divide="coverage").attribute(x, 1)
    torch.testing.assert_close(flat, torch.full_like(flat, 100.0))
    rough = RISE(Offset(), n=30).attribute(x, 1)
    assert float(rough.std()) > 5


@pytest.mark.parametrize("batch_size", [1, 5, 64, "auto"])
@pytest.mark.parametrize("exact_dense", [False, True])
def test_the_map_is_the_same_for_any_batch_size_and_with_or_without_replay(batch_size: Any, exact_dense: bool) -> None:
    model, x = nets.make("residual", DOUBLE), nets.batch(2, 8, 6, dtype=DOUBLE)
    reference = RISE(model, n=40, batch_size=7).attribute(x, 2)
    got = RISE(model, n=40, batch_size=batch_size, exact_dense=exact_dense).attribute(x, 2)
    torch.testing.assert_close(got, reference, rtol=1e-10, atol=1e-12)


def test_masks_run_through_a_replay_and_are_made_one_batch_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []
    at = RandomGrid.at

    def noted(masks: RandomGrid, positions: Tensor, like: Tensor) -> Tensor:
        made.append(len(positions))
        return at(masks, positions, like)

    monkeypatch.setattr(RandomGrid, "at", noted)
    model, x = nets.make("module"), nets.batch(2, 8, 6)
    with watched() as ways, count() as cost:
        RISE(model, n=50, batch_size=8).attribute(x, 2)
    assert ways == ["replayed"]
    assert max(made) == 4  # masks, of two examples each
    assert cost.forwards == 2 * (50 + 3)  # clean, recorded, verified


def test_arguments_out_of_range_are_named() -> None:
    model = nets.make("module")
    for p in (0, 1, 1.0):
        with pytest.raises(InputError, match="p must lie between 0 and 1"):
            RISE(model, p=p)
    with pytest.raises(InputError, match=r"p must be a finite number in \[0, 1\]"):
        RISE(model, p=1.5)
    with pytest.raises(InputError, match="n must be an integer >= 1"):
        RISE(model, n=0)
    with pytest.raises(InputError, match="divide must be one of 'p', 'coverage'"):
        RISE(model, divide="n")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="cells must be an int or a tuple of 2"):
        RISE(model, n=2, cells=(3, 3, 3)).attribute(nets.batch(), 1)
    with pytest.raises(InputError, match="tolerance must be left out where masks hide something everywhere"):
        RISE(model, tolerance=0.1)
    with pytest.raises(InputError, match="seed must be an integer >= 0"):
        RISE(model, seed=-1)
    with pytest.raises(ShapeError, match="must have locations to hide"):
        RISE(nn.Linear(4, 2), n=2).attribute(torch.rand(2, 4), 1)


@data.needs_data
def test_maps_of_a_trained_net_are_higher_on_the_object_than_beside_it() -> None:
    net, x, masks, targets = on_photos("mobilenet_v1_025_128", 10)
    maps = RISE(net.model, n=300, score="probability", divide="coverage").attribute(x, targets)[:, 0]
    on, beside = ((maps * part).sum((1, 2)) / part.sum((1, 2)) for part in (masks.float(), (~masks).float()))
    assert int((on > beside).sum()) >= 8
    assert float((on / beside).mean()) > 1.1
