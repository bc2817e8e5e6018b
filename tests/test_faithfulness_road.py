"""ROAD: what is filled in, against full matrices and pytorch-grad-cam; the numbers, against loops."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from attrib.core import Ranked
from attrib.errors import InputError
from attrib.metrics import ROAD, Protocol, RoadLerf, RoadMorf
from attrib.metrics.impute import _around, _System, impute
from attrib.metrics.road import Imputed
from attrib.registry import METRICS
from tests import nets
from tests.oracles import faithfulness as oracle
from tests.test_faithfulness import DOUBLE, MAPS, X, net, scorer


def keeps(n: int = 3, h: int = 8, w: int = 6, share: float = 0.5, seed: int = 7) -> Tensor:
    return (nets.batch(n, h, w, 1, seed=seed).sigmoid() > share).to(DOUBLE)


def hidden(keep: Tensor) -> oracle.Pixels:
    return [(int(i), int(j)) for i, j in (keep[0] == 0).nonzero()]


# --- filling in --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("share", [0.2, 0.5, 0.8])
def test_pixels_are_filled_in_as_elimination_does(channels: int, share: float) -> None:
    x, keep = nets.batch(3, 8, 6, channels, dtype=DOUBLE), keeps(share=share)
    filled = impute(x, keep)
    exact = impute(x, keep, tolerance=1e-14)
    for i in range(3):
        expected = oracle.imputed(x[i], hidden(keep[i]))
        assert_close(filled[i], expected, rtol=0, atol=1e-5)
        assert_close(exact[i], expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("box", [(0, 4, 0, 6), (2, 7, 1, 4), (0, 8, 0, 5), (5, 8, 3, 6)])
def test_holes_at_borders_and_in_corners_are_filled_in_as_elimination_does(box: tuple[int, ...]) -> None:
    keep = torch.ones(1, 1, 8, 6, dtype=DOUBLE)
    keep[..., box[0] : box[1], box[2] : box[3]] = 0
    assert_close(impute(X[:1], keep)[0], oracle.imputed(X[0], hidden(keep[0])), rtol=0, atol=1e-5)


def test_one_missing_pixel_is_the_weighted_mean_of_its_neighbours() -> None:
    keep = torch.ones(1, 1, 8, 6, dtype=DOUBLE)
    keep[..., 4, 3] = keep[..., 0, 0] = 0
    found, x = impute(X[:1], keep)[0], X[0]
    beside = x[:, 3, 3] + x[:, 5, 3] + x[:, 4, 2] + x[:, 4, 4]
    across = x[:, 3, 2] + x[:, 3, 4] + x[:, 5, 2] + x[:, 5, 4]
    assert_close(found[:, 4, 3], beside / 6 + across / 12)
    assert_close(found[:, 0, 0], (2 * x[:, 0, 1] + 2 * x[:, 1, 0] + x[:, 1, 1]) / 5)


def test_a_ramp_is_filled_in_exactly_and_so_is_one_colour() -> None:
    ramp = (2 * torch.arange(9.0)[:, None] - torch.arange(7.0)).to(DOUBLE).expand(1, 2, 9, 7)
    keep = torch.ones(1, 1, 9, 7, dtype=DOUBLE)
    keep[..., 2:6, 1:6] = 0
    assert_close(impute(ramp, keep, 1e-12), ramp)
    flat = torch.stack([torch.full((9, 7), 3.0), torch.zeros(9, 7)])[None].to(DOUBLE)
    keep[..., :, 1:] = 0
    assert_close(impute(flat, keep, 1e-12), flat)


def test_known_pixels_stay_as_they_are_and_each_picture_is_solved_by_itself() -> None:
    x, keep = X * torch.tensor([1.0, 1e-3, 1e3]).to(DOUBLE)[:, None, None, None], keeps()
    together = impute(x, keep)
    assert torch.equal(together * keep, x * keep)
    for i in range(3):
        assert_close(impute(x[i : i + 1], keep[i : i + 1]), together[i : i + 1], rtol=1e-12, atol=0)


def test_a_picture_without_any_pixel_is_refused() -> None:
    with pytest.raises(InputError, match="keep must show at least one pixel"):
        impute(X, torch.zeros(3, 1, 8, 6))


def test_large_smooth_holes_are_filled_in_to_the_precision_that_is_said() -> None:
    x = nn.functional.interpolate(nets.batch(1, 12, 12, dtype=DOUBLE), (96, 96), mode="bilinear")
    keep = torch.zeros(1, 1, 96, 96, dtype=DOUBLE)
    keep[..., 40:60, 10:30] = 1  # nine tenths of the picture are missing, in one piece
    assert_close(impute(x, keep), impute(x, keep, 1e-13), rtol=0, atol=2e-5 * float(x.abs().max()))


@pytest.mark.parametrize("size", [(64, 64), (65, 63), (5, 200), (200, 5), (1, 30), (30, 2)])
@pytest.mark.parametrize("kind", ["blob", "noise"])
def test_it_takes_some_twenty_rounds_whatever_is_missing(
    size: tuple[int, int], kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rounds = []
    roughly = _System.solved_roughly

    def noted(self: _System, rest: Tensor) -> Tensor:
        rounds.append(self.hole.shape[2:] == size)
        return roughly(self, rest)

    monkeypatch.setattr(_System, "solved_roughly", noted)
    x = nets.batch(1, *size, dtype=DOUBLE)
    order = x[:, :1] if kind == "noise" else nn.functional.interpolate(x[:, :1, :3, :3], size, mode="bilinear")
    for share in (0.1, 0.5, 0.9):
        rounds.clear()
        keep = (order <= order.quantile(1 - share)).to(DOUBLE)
        filled = impute(x, keep)
        assert sum(rounds) <= 25
        left = (1 - keep) * (_around(torch.ones_like(keep)) * filled - _around(filled))
        assert left.norm() <= 2e-6 * ((1 - keep) * _around(x * keep)).norm()


# --- the numbers -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 3])
def test_road_equals_a_loop_over_pixels(channels: int) -> None:
    """The published code for RGB raises IndexError (Quantus), and adds noise without a seed (pytorch-grad-cam)."""
    model = nn.Sequential(nn.Conv2d(channels, 3, 1), nets.Chain())
    nets.fill(model).to(DOUBLE)
    x, maps = nets.batch(3, 8, 6, channels, dtype=DOUBLE), MAPS.round()
    percentiles = (10, 35, 90)
    made: dict[str, Any] = {"percentiles": percentiles, "sigma": 0.2, "seed": 6}
    found = {kind.name: kind(**made).score(model, x, 2, maps) for kind in (ROAD, RoadMorf, RoadLerf)}
    pictures = Imputed(x, Ranked(torch.zeros(3, 8, 6), torch.zeros(3)), range(3), 0.2, 6)
    noise = [pictures._noise(i) for i in range(3)]
    for i in range(3):
        morf, lerf = oracle.road(scorer(model), x[i], maps[i, 0], percentiles, noise)
        assert float(found["road_morf"][i]) == pytest.approx(morf, abs=1e-5)
        assert float(found["road_lerf"][i]) == pytest.approx(lerf, abs=1e-5)
        assert float(found["road"][i]) == pytest.approx((lerf - morf) / 2, abs=1e-5)


def test_road_is_half_of_what_its_sides_differ_by() -> None:
    model = net()
    sides = [kind().score(model, X, 2, MAPS) for kind in (RoadLerf, RoadMorf)]
    assert_close(ROAD().score(model, X, 2, MAPS), (sides[0] - sides[1]) / 2)


def test_the_opposite_map_swaps_the_sides() -> None:
    model = net()
    assert_close(RoadMorf().score(model, X, 2, -MAPS), RoadLerf().score(model, X, 2, MAPS))
    assert_close(ROAD().score(model, X, 2, -MAPS), -ROAD().score(model, X, 2, MAPS))


def test_noise_is_what_the_seed_says_and_the_same_for_all_examples() -> None:
    model = net()
    found = {seed: ROAD(seed=seed, sigma=0.5).score(model, X, 2, MAPS) for seed in (0, 1)}
    assert_close(ROAD(seed=0, sigma=0.5).score(model, X, 2, MAPS), found[0])
    assert not torch.isclose(found[0], found[1]).any()
    twice = X[[0, 0]]
    pictures = Imputed(twice, Ranked(torch.arange(48).view(1, 8, 6).repeat(2, 1, 1), torch.tensor([20, 20])), (0, 1), 0.5, 0)  # fmt: skip  # noqa: E501
    one, other = pictures.pictures(0, 2)
    assert torch.equal(one[0], one[1])
    assert not torch.isclose(one[:, :, :2], other[:, :, :2]).any()
    assert torch.equal(one[:, :, 5:], X[[0, 0]][:, :, 5:])


def test_noise_has_the_strength_that_is_asked_for() -> None:
    x = torch.zeros(1, 3, 64, 64, dtype=DOUBLE)
    rank = torch.arange(64 * 64).view(1, 64, 64)
    pictures = Imputed(x, Ranked(rank, torch.tensor([64 * 63])), (0,), 0.3, 0).pictures(0, 1)
    assert float(pictures[..., :63, :].std()) == pytest.approx(0.3, rel=0.03)


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_a_constant_map_is_measured_by_the_rule_for_ties(value: float) -> None:
    """pytorch-grad-cam removes all pixels at once, and Quantus asserts."""
    model, maps = net(), torch.full_like(MAPS, value)
    raster = torch.arange(48.0, 0, -1).view(1, 1, 8, 6).expand(3, -1, -1, -1)
    stable = ROAD().score(model, X, 2, maps)
    assert_close(stable, ROAD().score(model, X, 2, raster))
    drawn = ROAD().score(model, X, 2, maps, Protocol(ties="mean", tie_orders=16))
    assert drawn.abs().max() < 1e-6  # an order and its reverse are drawn together, so that chance has 0
    assert stable.abs().min() > 1e-4


@pytest.mark.parametrize("unit", [2, 3, 5])
def test_units_may_be_patches(unit: int) -> None:
    model = net()
    ones = torch.arange(-(-8 // unit) * -(-6 // unit))
    from attrib.metrics.ranking import Grid

    grid = Grid((8, 6), unit)
    painted = grid.paint(ones.flip(0)[None].expand(3, -1))[:, None].to(DOUBLE)
    found = RoadMorf(percentiles=(50,), sigma=0).score(model, X, 2, painted, Protocol(unit=unit))
    gone = grid.paint(ones[None])[0] < int(len(ones) / 2 + 0.5)
    for i in range(3):
        picture = oracle.imputed(X[i], [(int(a), int(b)) for a, b in gone.nonzero()])
        assert float(found[i]) == pytest.approx(scorer(model)(picture[None]), abs=1e-5)


def test_at_least_one_unit_is_removed_and_one_is_left() -> None:
    model, x, maps = net(), nets.batch(1, 4, 4, dtype=DOUBLE), nets.batch(1, 4, 4, 1, seed=5, dtype=DOUBLE)
    found = RoadMorf(percentiles=(0.1, 99.9), sigma=0).score(model, x, 2, maps)
    order = maps.flatten().argsort(descending=True)
    ends = [order[:1], order[:15]]
    scores = [scorer(model)(oracle.imputed(x[0], [divmod(int(k), 4) for k in gone])[None]) for gone in ends]
    assert float(found[0]) == pytest.approx(sum(scores) / 2, abs=1e-5)


def test_autocast_and_other_options_are_those_of_sweeps() -> None:
    model, x, maps = net().float(), X.float(), MAPS.float()
    plain = METRICS["road"]().score(model, x, 2, maps)
    assert_close(METRICS["road"]().score(model, x, 2, maps, autocast=torch.bfloat16), plain, rtol=0, atol=0.02)
    assert_close(METRICS["road"]().score(model, x, 2, maps, exact_dense=True, channels_last=False), plain, rtol=0, atol=1e-5)  # fmt: skip  # noqa: E501


# --- pytorch-grad-cam, whose imputer is that of the authors --------------------------------------------------------

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of what it imports
    peer: Any = pytest.importorskip(
        "pytorch_grad_cam.metrics.road", reason="pytorch-grad-cam is not installed: pip install grad-cam"
    )


@pytest.mark.filterwarnings("ignore:__array_wrap__")  # theirs hands tensors to NumPy
def test_pixels_are_filled_in_as_the_authors_code_does() -> None:
    x, keep = nets.batch(1, 24, 18), keeps(1, 24, 18, share=0.7)
    expected = peer.NoisyLinearImputer(noise=0)(x[0], keep[0, 0])
    assert_close(impute(x, keep)[0], expected.double(), rtol=0, atol=1e-5)


@pytest.mark.filterwarnings("ignore:__array_wrap__")
@pytest.mark.parametrize(
    ("percentiles", "theirs"),
    [((10, 20, 30, 40, 50, 60, 70, 80, 90), None), ((20, 80), (20, 80)), ((20, 40), (80, 60)), ((90,), (10,))],
)
def test_road_equals_that_of_pytorch_grad_cam_which_keeps_the_percentile_and_adds_noise(
    percentiles: tuple[int, ...], theirs: tuple[int, ...] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a hundred different pixels their percentiles and our shares remove the same number."""
    model = net().float()
    x, maps = nets.batch(2, 10, 10), torch.stack([torch.randperm(100, generator=torch.Generator().manual_seed(i)) for i in (1, 2)])  # fmt: skip  # noqa: E501
    cams = (maps.view(2, 10, 10) / 99).float()
    monkeypatch.setattr(torch, "randn_like", torch.zeros_like)  # theirs has no seed
    targets = [lambda out: out.softmax(-1)[2]] * 2
    road = peer.ROADCombined() if theirs is None else peer.ROADCombined(percentiles=theirs)
    expected = torch.from_numpy(np.asarray(road(x, cams.numpy(), targets, model.eval()))).double()
    found = ROAD(percentiles=percentiles, sigma=0).score(model, x, 2, cams[:, None])
    assert_close(found, expected, rtol=0, atol=2e-6)
    if set(percentiles) != set(theirs or percentiles):
        same_words = ROAD(percentiles=theirs, sigma=0).score(model, x, 2, cams[:, None])
        assert float((same_words - expected).abs().max()) > 1e-4
