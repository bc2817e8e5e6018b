"""The grid game: what stands where, what is asked, and what it takes to win."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from attrib.benchmark import make_grids
from attrib.errors import InputError, ShapeError
from attrib.registry import METRICS


def tiles(n: int = 7) -> Tensor:
    return torch.rand(n, 3, 4, 5, generator=torch.Generator().manual_seed(0))


LABELS = [0, 0, 1, 2, 3, 3, 4]


def test_each_row_asks_for_the_class_of_the_tile_that_stands_inside() -> None:
    x = tiles()
    game = make_grids(x, torch.tensor(LABELS), number=5, seed=3)
    assert game.x.shape == (20, 3, 8, 10)
    assert len(game) == 20
    for row in range(20):
        tile = int(game.tiles[row // 4, row % 4])
        y, left = (int(places.min()) for places in game.inside[row].nonzero(as_tuple=True))
        assert torch.equal(game.x[row, :, y : y + 4, left : left + 5], x[tile])
        assert int(game.inside[row].sum()) == 20
        assert int(game.targets[row]) == LABELS[tile]
    for grid in game.targets.reshape(5, 4):
        assert len(grid.unique()) == 4
    assert torch.equal(game.inside.reshape(5, 4, 8, 10).sum(1), torch.ones(5, 8, 10, dtype=torch.int64))


def test_the_seed_decides_and_nothing_global_does() -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    one, same, other = (make_grids(tiles(), LABELS, number=4, seed=seed).tiles for seed in (1, 1, 2))
    assert torch.equal(before, torch.get_rng_state())
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_grids_of_three_by_three_take_nine_classes() -> None:
    game = make_grids(tiles(9), range(9), side=3, number=1)
    assert game.x.shape == (9, 3, 12, 15)
    assert sorted(game.targets.tolist()) == list(range(9))


def test_a_map_of_the_cell_wins_and_a_uniform_one_has_a_quarter() -> None:
    game = make_grids(tiles(), LABELS, number=2)
    energy = METRICS["energy"]()
    best = energy.score(None, game.x, game.targets, game.inside[:, None].float(), masks=game.inside)
    even = energy.score(None, game.x, game.targets, torch.ones(8, 1, 8, 10), masks=game.inside)
    assert best.tolist() == [1] * 8
    assert even.tolist() == [0.25] * 8


def test_too_few_classes_and_labels_that_do_not_fit_are_refused() -> None:
    with pytest.raises(InputError, match="labels must hold 4 classes or more; got 3"):
        make_grids(tiles(4), [0, 1, 2, 2])
    with pytest.raises(ShapeError, match=r"labels must have shape \(N=7\)"):
        make_grids(tiles(), [0, 1, 2])
    with pytest.raises(InputError, match="side must be an integer >= 2"):
        make_grids(tiles(), LABELS, side=1)
