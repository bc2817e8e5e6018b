"""How masked images are run: every one once, in full batches, whatever maps and examples want them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import attrib.metrics.follow
from attrib.core import Ranked
from attrib.core.network.cost import count
from attrib.errors import ShapeError
from attrib.metrics import Protocol, curves
from attrib.metrics.follow import Jobs
from tests import nets
from tests.sweeps import DENSE

DOUBLE = torch.float64
X = nets.batch(2, dtype=DOUBLE)


def noise(n: int = 2, seed: int = 5) -> Tensor:
    return nets.batch(n, 8, 6, 1, seed=seed, dtype=DOUBLE)


class Watched(nn.Module):
    """Notes how many rows each forward pass has."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nets.fill(nets.Chain()).to(DOUBLE)
        self.rows: list[int] = []

    def forward(self, x: Tensor) -> Tensor:
        self.rows.append(len(x))
        out: Tensor = self.body(x)
        return out


# --- masks --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("start", [0, 2])
def test_ranked_masks_follow_the_order_the_count_and_the_direction_of_each_example(start: int) -> None:
    draw = torch.Generator().manual_seed(0)
    rank = torch.stack([torch.randperm(12, generator=draw).reshape(3, 4) for _ in range(6)]).reshape(3, 2, 3, 4)
    counts, order = torch.tensor([[3, 0], [7, 12], [1, 5], [4, 4]]), torch.tensor([[0, 2], [1, 1], [2, 0], [0, 1]])
    keep = torch.tensor([[True, False], [False, True], [True, True], [False, False]])
    masks = Ranked(rank, counts, keep, order)
    assert len(masks) == 4
    found = masks.batch(start, 4, X)
    assert found.dtype == DOUBLE
    for k in range(start, 4):
        for n in range(2):
            for i in range(3):
                for j in range(4):
                    first = int(rank[order[k, n], n, i, j]) < int(counts[k, n])
                    assert bool(found[k - start, n, 0, i, j]) == (first if keep[k, n] else not first)


def test_ranked_masks_may_differ_by_example_in_count_alone() -> None:
    rank = torch.arange(12).reshape(1, 3, 4).expand(2, 3, 4)
    keep = Ranked(rank, torch.tensor([[3, 0], [7, 12]])).batch(0, 2, X)
    assert keep.sum((2, 3, 4)).tolist() == [[9, 12], [5, 0]]
    reverse = Ranked(rank, torch.tensor([[3, 0], [7, 12]]), reverse=True).batch(0, 2, X)
    assert torch.equal(reverse, 1 - keep)


def test_several_orders_need_a_choice() -> None:
    with pytest.raises(ShapeError, match=r"rank must have shape \(N, H, W\)"):
        Ranked(torch.zeros(2, 1, 3, 4), torch.tensor([1]))


# --- batches ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch_size", [4, 7])
def test_batches_are_filled_across_maps_orders_and_both_ends(batch_size: int) -> None:
    model, maps = Watched(), {str(seed): noise(1, seed).round() for seed in range(3)}
    with count() as cost:
        found = curves(
            model, X[:1], 1, maps, Protocol(steps=9, ties="mean", tie_orders=2), batch_size=batch_size, **DENSE
        )
    assert all((one.tied > 0).all() for one in found.values())
    masked = 1 + 3 * 2 * 2 * 7  # the baseline; maps, tie orders, directions, inner points
    full, rest = divmod(masked, batch_size)
    assert model.rows == [1] + [batch_size] * full + [rest] * (rest > 0)
    assert cost.forwards == 1 + masked


def test_batches_of_an_adaptive_round_are_filled_across_maps_and_directions(monkeypatch: pytest.MonkeyPatch) -> None:
    x = nets.batch(1, 16, 14, dtype=DOUBLE)
    model, maps = Watched(), {str(seed): nets.batch(1, 16, 14, 1, seed=seed, dtype=DOUBLE) for seed in range(4)}
    sizes: list[int] = []
    real = attrib.metrics.follow.sweep

    def sweep(query: Any, masks: Any, **options: Any) -> Any:
        sizes.append(len(masks))
        return real(query, masks, **options)

    monkeypatch.setattr(attrib.metrics.follow, "sweep", sweep)
    curves(model, x, 1, maps, Protocol(steps="adaptive"), batch_size=8, **DENSE)
    assert sizes[0] == 1 + 4 * 2 * 27  # one sweep for the baseline and the first points of all
    assert sum(sizes) + 1 == sum(model.rows)
    assert len(model.rows) == 1 + sum(-(-size // 8) for size in sizes)  # at most one short batch per round
    assert len(sizes) < 15


def test_examples_that_want_more_than_others_fill_batches_of_their_own() -> None:
    model, maps = Watched(), noise(2).round()
    maps[0] = noise(1)[0]  # nothing tied: one order is all there is
    curves(model, X, 1, maps, Protocol(steps=9, ties="mean", tie_orders=4), batch_size=4, **DENSE)
    shared, more = 1 + 2 * 7, 3 * 2 * 7  # masks of both examples, and of the second alone
    full, rest = divmod(more, 4)
    assert model.rows == [2] + [4] * (shared // 2) + [2] * (shared % 2) + [4] * full + [rest] * (rest > 0)


def test_a_map_without_a_curve_and_an_order_without_ties_cost_nothing() -> None:
    model, x, maps = nets.fill(nets.Chain()).to(DOUBLE), nets.batch(3, dtype=DOUBLE), noise(3).round()
    maps[0, 0, 2, 2], maps[1] = float("nan"), noise(1)[0]
    protocol = Protocol(steps=9, ties="mean", tie_orders=4)
    with count() as cost:
        found = curves(model, x, 1, maps, protocol, **DENSE)
    orders = 1 + 4  # of the second example, where nothing is tied, and of the third
    assert cost.forwards == 3 + 2 + orders * 2 * 7
    assert found.auc("srg").isnan().tolist() == [True, False, False]
    assert torch.equal(found.bounds("srg")[1, 0], found.bounds("srg")[1, 1])
    for i in (1, 2):
        alone = curves(model, x[i : i + 1], 1, maps[i : i + 1], protocol)
        torch.testing.assert_close(found.bounds("srg")[i], alone.bounds("srg")[0], rtol=1e-9, atol=1e-12)


def test_maps_that_are_all_broken_cost_the_clean_pass_alone() -> None:
    with count() as cost:
        found = curves(nets.fill(nets.Chain()), X.float(), 1, torch.full((2, 1, 8, 6), float("nan")), **DENSE)
    assert cost.forwards == 2
    assert found.auc("deletion").isnan().all()


def test_no_maps_cost_nothing_and_give_nothing() -> None:
    with count() as cost:
        assert curves(nets.fill(nets.Chain()), X.float(), 1, {}) == {}
    assert cost.forwards == 0


@pytest.mark.parametrize("baseline", ["zero", "mean", "blur", (0.1, 0.2, 0.3)])
@pytest.mark.parametrize("batch_size", [1, 3, 200])
def test_an_example_on_its_own_has_its_own_baseline_and_arguments(baseline: Any, batch_size: int) -> None:
    model = nets.fill(nets.TwoInputs()).to(DOUBLE)
    x, y, weight = nets.batch(3, dtype=DOUBLE), noise(3, 1).expand(3, 3, 8, 6), torch.tensor([0.5, 2.0, 1.0]).double()
    maps, protocol = noise(3).round(), Protocol(baseline=baseline, score="logit", ties="mean", tie_orders=4, steps=7)
    maps[1] = noise(1)[0]
    found = curves(model, x, 1, maps, protocol, additional_forward_args=(y, weight), batch_size=batch_size)
    for i in range(3):
        one = slice(i, i + 1)
        alone = curves(model, x[one], 1, maps[one], protocol, additional_forward_args=(y[one], weight[one]))
        torch.testing.assert_close(found.bounds("srg")[one], alone.bounds("srg"), rtol=1e-9, atol=1e-12)


def test_jobs_go_in_whole_rows_as_far_as_every_example_has_one() -> None:
    example = torch.tensor([0, 1, 1, 0, 1, 1])
    jobs = Jobs(example, example, example, example.bool())
    rows, rest = jobs.table(2)
    assert rows.tolist() == [[0, 1], [3, 2]]
    assert rest.tolist() == [4, 5]
    rows, rest = jobs.table(3)
    assert rows.shape == (0, 3)
    assert rest.tolist() == list(range(6))
