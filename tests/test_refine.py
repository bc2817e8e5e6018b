"""Coarse occlusion that is refined where it matters, plans that explain themselves, estimates, and the best batch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from torch import Tensor, nn

import attrib
from attrib import ClassScore, Occlusion, cli
from attrib.core import Query, Windows, as_objective, count, explain_plan, sweep
from attrib.core.masking.pace import Pace, _found, steady
from attrib.errors import InputError
from attrib.report import load_explanation
from tests import nets
from tests.incremental import watched


class Blob(nn.Module):
    """Looks at one small region only, so that nearly all windows do nothing."""

    def forward(self, x: Tensor) -> Tensor:
        return x[:, :, 20:26, 10:15].mean((1, 2, 3))[:, None] * torch.tensor([[1.0, 2.0]])


def smooth() -> nn.Module:
    """A sum with weights that vary slowly over the picture: linear interpolation is nearly right."""

    class Ramp(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            y, z = torch.linspace(-1, 1, x.shape[2])[:, None], torch.linspace(-1, 1, x.shape[3])[None]
            return (x * torch.exp(-4 * (y**2 + z**2))).mean((1, 2, 3))[:, None] * torch.ones(1, 2)

    return Ramp()


X = torch.rand(2, 3, 40, 36, generator=torch.Generator().manual_seed(0)) + 0.5


@pytest.mark.parametrize("model", [Blob(), smooth()], ids=["blob", "ramp"])
def test_refined_occlusion_says_how_far_it_is_from_all_windows(model: nn.Module) -> None:
    how: dict[str, Any] = {"window": 6, "stride": 2, "sign": "score"}
    every = Occlusion(model, **how).attribute(X, 1)
    with count() as cost:
        refined = Occlusion(model, **how, refine=3).attribute(X, 1)
    (found,) = cost.deviations
    assert (found.what, found.masks) == ("refine", 8)
    effect = float((every - model(X)[:, 1, None, None, None]).abs().max())
    assert float((refined - every).abs().max()) <= 0.2 * effect
    assert found.error <= 0.2


def test_refined_occlusion_computes_fewer_windows() -> None:
    passes = []
    for refine in (1, 4):
        with count() as cost:
            Occlusion(Blob(), window=6, stride=2, refine=refine, exact_dense=True).attribute(X[:1], 0)
        passes.append(cost.forwards)
    assert passes[1] < 0.5 * passes[0]


def test_refined_occlusion_is_exact_where_nothing_is_interpolated() -> None:
    net = nets.make("module")
    every = Occlusion(net, window=3, stride=3).attribute(X, 2)
    torch.testing.assert_close(Occlusion(net, window=3, stride=3, refine=1).attribute(X, 2), every, rtol=0, atol=0)
    small = torch.rand(1, 3, 8, 8)  # 2 x 2 windows: the coarse grid is the fine one
    fine = Occlusion(net, window=4, stride=4, refine=2).attribute(small, 2)
    torch.testing.assert_close(fine, Occlusion(net, window=4, stride=4).attribute(small, 2))


def test_refinement_needs_a_whole_number() -> None:
    with pytest.raises(InputError, match="refine must be"):
        Occlusion(Blob(), refine=0)


def test_tolerance_cuts_windows_and_tells_the_truth_about_it() -> None:
    torch.manual_seed(0)
    parts: list[nn.Module] = []
    for i in range(6):
        parts += [nn.Conv2d(3 if i == 0 else 8, 8, 5, padding=2), nn.ReLU()]
        nn.init.kaiming_normal_(parts[-2].weight)  # type: ignore[arg-type]
    net = nn.Sequential(*parts, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4)).eval()
    x = torch.rand(1, 3, 64, 64)
    exact = Occlusion(net, window=4, stride=4).attribute(x, 1)
    off = []
    for tolerance in (0.02, 0.5):
        with count() as cost, watched():
            cut = Occlusion(net, window=4, stride=4, tolerance=tolerance).attribute(x, 1)
        (found,) = cost.deviations
        assert (found.what, found.allowed) == ("tolerance", tolerance)
        true = float((cut - exact).abs().max() / exact.abs().max())
        assert true <= 2 * tolerance  # eight sampled windows cannot promise all of them
        assert found.error <= true * 1.01 + 1e-4
        off.append(true)
    assert off[0] < off[1]
    with pytest.raises(InputError, match="tolerance must be a finite number"):
        Occlusion(net, tolerance=2.0)


def test_a_plan_explains_itself_layer_by_layer() -> None:
    net = nets.make("residual")
    report = explain_plan(net, torch.rand(1, 3, 32, 24), window=2, stride=2)
    assert report.masks == 16 * 12
    assert report.reason is None
    stem = report.layers[0]
    assert (stem.layer, stem.size) == ("stem", (16, 12))  # stride 2, kernel 3
    assert stem.window[0] == pytest.approx(2 - 1 / 16)  # two rows read a window, one at the lower edge
    assert 0 < report.share < 1
    assert stem.box(0) == (0, 2, 0, 2)
    assert "192 masks" in str(report)
    whole = explain_plan(net, torch.rand(1, 3, 8, 8), window=8)
    assert whole.dense_from == "stem"
    assert whole.share == 1


def test_a_plan_says_why_a_model_cannot_be_replayed() -> None:
    class Choosy(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.mean((2, 3)) if bool(x.mean() > 0) else x.amax((2, 3))

    report = explain_plan(Choosy(), X, window=6)
    assert report.reason is not None
    assert "each through the model itself: " in str(report)
    assert "Python" in report.reason
    assert report.share == 1


def test_a_plan_takes_masks_or_windows() -> None:
    masks = Windows((40, 36), (5, 5), (5, 5))
    given = explain_plan(nets.make("module"), X, masks=masks)
    assert given == explain_plan(nets.make("module"), X, window=5, stride=5)
    with pytest.raises(InputError, match="masks must come without window"):
        explain_plan(nets.make("module"), X, masks=masks, window=5)
    assert explain_plan(nets.make("module"), X, layer="pool", window=2).layers[0].layer == "conv2"


def test_an_estimate_counts_positions_and_arithmetic() -> None:
    net = nets.make("module")
    found = attrib.estimate(net, X[:1], window=4, stride=2, images=3)
    plan = explain_plan(net, X[:1], window=4, stride=2)
    assert (found.positions, found.images) == (plan.masks, 3)
    assert (found.macs, found.dense_macs) == (3 * plan.macs, 3 * plan.dense_macs)
    assert 0 < found.seconds < 60
    assert f"{plan.masks} per image" in str(found)


def test_an_estimate_of_a_model_that_cannot_be_replayed_says_why() -> None:
    class Item(nn.Module):
        def forward(self, x: Tensor) -> tuple[Tensor, ...]:
            return (x.mean((2, 3)) * x.sum().item(),)

    found = attrib.estimate(Item(), X[:1], window=9)
    assert found.macs is None
    assert found.seconds == found.dense_seconds > 0
    assert "no shortcut" in str(found)


def test_the_command_estimates(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("torchvision")
    assert cli.main(["estimate", "squeezenet1_1", "--window", "64", "--stride", "64", "--json", "--quiet"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["positions"] == 16
    assert told["macs"] < told["dense_macs"]
    assert cli.main(["estimate", "squeezenet1_1", "--window", "64", "--stride", "64", "--plan", "--quiet"]) == 0
    assert "features.0" in capsys.readouterr().out


def times(pace: Pace, per_row: dict[int, float]) -> list[int]:
    sizes = []
    while pace.key is not None:
        sizes.append(pace.rows)
        pace._learn(per_row[pace.rows])
    return sizes


def test_the_batch_doubles_as_long_as_that_pays_and_is_remembered() -> None:
    pace = Pace(8, key="a test of doubling")
    try:
        assert times(pace, {8: 1.0, 16: 0.7, 32: 0.69}) == [8, 8, 16, 16, 32, 32]
        assert pace.rows == 16
        assert Pace(8, key="a test of doubling").rows == 16
    finally:
        del _found["a test of doubling"]


def test_the_search_ends_at_sixteen_times_the_first_batch() -> None:
    pace = Pace(1, key="a test of the end")
    try:
        assert times(pace, {2**i: 1 / 2**i for i in range(6)})[-1] == 16
    finally:
        del _found["a test of the end"]


def test_the_best_batch_is_looked_for_with_the_masks_of_the_sweep_itself() -> None:
    net = nets.make("module")
    with count() as cost:
        Occlusion(net, window=2, stride=1).attribute(X[:1, :, :8, :6], 1)
    with count() as again:
        Occlusion(net, window=2, stride=1).attribute(X[:1, :, :8, :6], 1)
    assert cost == again  # no row runs only to be timed


def test_windows_run_in_halves_when_memory_runs_out(monkeypatch: pytest.MonkeyPatch) -> None:
    from attrib.core.incremental.tiles import Tiles

    monkeypatch.setattr("attrib.core.incremental.local._STEP", 0)  # else whole maps are quicker on so small a network
    net, sizes, run = nets.make("module"), [], Tiles.run
    expected = Occlusion(net, window=4, stride=2).attribute(X[:1], 1)

    def short(self: Tiles, group: Any, source: Tensor, stop: int) -> dict[int, Tensor]:
        sizes.append(len(group.positions))
        if len(group.positions) > 20:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return run(self, group, source, stop)

    monkeypatch.setattr(Tiles, "run", short)
    torch.testing.assert_close(Occlusion(net, window=4, stride=2).attribute(X[:1], 1), expected)
    assert max(sizes) > 20
    monkeypatch.setattr(Tiles, "run", lambda *_: (_ for _ in ()).throw(torch.OutOfMemoryError("CUDA out of memory")))
    with pytest.raises(torch.OutOfMemoryError):
        Occlusion(net, window=4, stride=2).attribute(X[:1], 1)


def test_the_error_of_an_approximation_is_that_of_the_goal_it_hurts_most() -> None:
    net = nets.make("module")
    with count() as cost, attrib.frozen(net):
        query = Query(net, (X[:1],), as_objective(1), None, ())
        goals = [ClassScore(3) * 100.0]
        found = list(sweep(query, Windows.usual((40, 36), 6, 3), goals=goals, autocast=torch.bfloat16))
        exact = list(sweep(query, Windows.usual((40, 36), 6, 3), goals=goals, exact_dense=True))
    ours, theirs = (torch.cat([s for _, s in f], 1)[:, torch.cat([p for p, _ in f]).argsort()] for f in (found, exact))
    clean = torch.stack([net(X[:1])[:, 1], 100 * net(X[:1])[:, 3]])[:, None].detach()
    true = (ours - theirs).abs().amax((1, 2)) / (ours - clean).abs().amax((1, 2))
    (deviation,) = cost.deviations
    assert 0 < deviation.error <= float(true.max()) * 1.001


def test_the_measured_error_reaches_the_record_of_what_was_spent(tmp_path: Path) -> None:
    net = nets.make("module")
    methods = {"all": Occlusion(net, window=6, stride=2), "few": Occlusion(net, window=6, stride=2, refine=3)}
    found = attrib.explain(net, X, methods, target=1)
    assert found.costs["all"].error is None
    assert found.costs["few"].error is not None
    assert found.total.error == found.costs["few"].error
    found.write(tmp_path / "out", figures=False)
    assert load_explanation(tmp_path / "out").costs["few"].error == found.costs["few"].error


def test_windows_are_left_alone_where_whole_maps_are_quicker() -> None:
    net = nets.make("module")  # a few thousand multiply-adds: all overhead
    with mock.patch("attrib.core.incremental.local._run", side_effect=AssertionError):
        Occlusion(net, window=4, stride=4).attribute(X[:1, :, :12, :12], 1)


def test_a_steady_batch_is_neither_looked_for_nor_remembered() -> None:
    _found["a test of steadiness"] = 64
    try:
        with steady():
            pace = Pace(8, key="a test of steadiness")
        assert (pace.rows, pace.key) == (8, None)
        assert Pace(8, key="a test of steadiness").rows == 64
    finally:
        del _found["a test of steadiness"]
