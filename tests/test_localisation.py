"""Localisation: slow oracles, known answers, ties, the map of the truth, chance, and what published code gets wrong."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from attrib.core.reduce import upsample
from attrib.errors import InputError, ShapeError
from attrib.metrics import Protocol, iou_curve
from attrib.registry import METRICS
from tests.conventions import PINNED, lines, pins
from tests.oracles import localisation as oracle

NAMES = ["pointing", "energy", "rank_accuracy", "pixel_auc", "iou", "iou_area"]
X = torch.zeros(4, 3, 12, 10)


def some_masks(n: int = 4, height: int = 12, width: int = 10, seed: int = 0) -> Tensor:
    """Rectangles of different sizes."""
    draw = torch.Generator().manual_seed(seed)
    masks = torch.zeros(n, height, width, dtype=torch.bool)
    for mask in masks:
        top, left = (int(torch.randint(0, side - 4, (), generator=draw)) for side in (height, width))
        tall, wide = (int(torch.randint(2, 5, (), generator=draw)) for _ in range(2))
        mask[top : top + tall, left : left + wide] = True
    return masks


def noise(n: int = 4, height: int = 12, width: int = 10, seed: int = 1) -> Tensor:
    return torch.randn(n, 1, height, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def score(name: str, maps: Tensor, masks: Tensor, protocol: Any = "default", **made: Any) -> Tensor:
    x = torch.zeros(len(maps), 3, *masks.shape[1:])
    found: Tensor = METRICS[name](**made).score(None, x, None, maps, protocol, masks=masks)
    return found


# --- oracles


@pins("pointing", "1 for a hit")
@pins("energy", "in [0, 1]; higher is better")
@pins("iou", "in [0, 1]; higher is better. All thresholds")
@pins("MaskMetric", "maps of a layer are resized", "the model is not run")
@pytest.mark.parametrize("coarse", [False, True])
def test_metrics_equal_a_literal_computation(coarse: bool) -> None:
    masks = some_masks()
    maps = noise().round(decimals=1) if not coarse else noise(4, 3, 2) + 1
    seen = upsample(maps, (12, 10)) if coarse else maps
    literal: dict[str, Callable[..., float]] = {
        "energy": oracle.energy,
        "pixel_auc": oracle.pixel_auc,
        "iou": oracle.best_iou,
    }
    for name, one in literal.items():
        expected = [one(m[0].tolist(), mask.tolist()) for m, mask in zip(seen, masks, strict=True)]
        assert_close(score(name, maps, masks), torch.tensor(expected, dtype=torch.float64), atol=1e-6, rtol=1e-6)
    for tolerance in (0, 0.1, 0.21, 0.5):
        expected = [
            oracle.pointing(m[0].tolist(), mask.tolist(), tolerance * 10) for m, mask in zip(seen, masks, strict=True)
        ]
        assert score("pointing", maps, masks, tolerance=tolerance).tolist() == expected


few = st.lists(st.integers(-1, 2), min_size=6, max_size=6)
some = st.lists(st.booleans(), min_size=6, max_size=6).filter(any)


@pins("pointing", "several highest points")
@pins("rank_accuracy", "only the order counts. Equal values")
@pins("iou", "`iou_curve` gives")
@given(values=few, inside=some)
@settings(max_examples=40, deadline=None)
def test_ties_count_by_their_mean_over_all_orders(values: list[int], inside: list[bool]) -> None:
    maps, masks = torch.tensor(values).reshape(1, 1, 2, 3).double(), torch.tensor(inside).reshape(1, 2, 3)
    picture, mask = maps[0, 0].tolist(), masks[0].tolist()
    assert float(score("rank_accuracy", maps, masks)) == pytest.approx(oracle.rank_accuracy(picture, mask))
    share, overlap = iou_curve(torch.zeros(1, 1, 2, 3), maps, masks)
    assert overlap[0].tolist() == pytest.approx(oracle.iou_curve(picture, mask))
    assert share.tolist() == pytest.approx([k / 6 for k in range(7)])
    assert float(score("iou", maps, masks)) == pytest.approx(oracle.best_iou(picture, mask))
    assert float(score("pointing", maps, masks, tolerance=0)) == oracle.pointing(picture, mask, 0)


@pins("pixel_auc", "only the order counts; equal values")
@given(values=few, inside=some)
@settings(max_examples=25, deadline=None)
def test_pixel_auc_is_that_of_scikit_learn(values: list[int], inside: list[bool]) -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    if all(inside):
        return
    maps, masks = torch.tensor(values).reshape(1, 1, 2, 3).double(), torch.tensor(inside).reshape(1, 2, 3)
    assert float(score("pixel_auc", maps, masks)) == pytest.approx(metrics.roc_auc_score(inside, values))


# --- the truth, its inverse, and chance


@pins("iou_area", "in [0, 1]; higher is better")
@pins("rank_accuracy", "in [0, 1]; higher is better")
@pytest.mark.parametrize("name", NAMES)
def test_the_mask_itself_is_the_best_map_and_its_inverse_the_worst(name: str) -> None:
    masks = some_masks(6)
    made = {"tolerance": 0.0} if name == "pointing" else {"normalised": True} if name == "iou_area" else {}
    best = score(name, masks[:, None].double(), masks, **made)
    worst = score(name, (~masks)[:, None].double(), masks, **made)
    assert_close(best, torch.ones(6, dtype=torch.float64))
    area = masks.flatten(1).double().mean(1)
    assert_close(worst, area if name == "iou" else torch.zeros(6, dtype=torch.float64))  # all pixels overlap by that
    others = [noise(6), noise(6).abs(), -noise(6), upsample(noise(6, 4, 4), (12, 10)), torch.ones(6, 1, 12, 10)]
    for maps in others:
        between = score(name, maps, masks, **made)
        assert (between <= best + 1e-12).all()
        assert (between >= worst - 1e-12).all()


def chance(name: str, masks: Tensor) -> Tensor:
    area = masks.flatten(1).double().mean(1)
    return torch.full_like(area, 0.5) if name == "pixel_auc" else area


@pins("pixel_auc", "in [0, 1]; higher is better; chance is 0.5")
@pytest.mark.parametrize("name", ["energy", "rank_accuracy", "pixel_auc"])
def test_random_maps_score_chance(name: str) -> None:
    masks = some_masks(3).repeat_interleave(300, 0)
    found = score(name, noise(900).abs(), masks).reshape(3, 300)
    error = found.std(1) / 300**0.5
    assert ((found.mean(1) - chance(name, some_masks(3))).abs() < 4 * error).all()


def test_a_random_map_points_at_the_object_as_often_as_its_area_says() -> None:
    masks = some_masks(1).expand(2000, -1, -1)
    found = score("pointing", noise(2000), masks, tolerance=0).mean()
    area = masks[0].double().mean()
    assert abs(found - area) < 4 * (area * (1 - area) / 2000) ** 0.5


@pins("pointing", "chance is the area of the mask, widened")
def test_chance_to_point_at_an_object_is_its_area_widened_by_the_tolerance() -> None:
    masks, flat = some_masks(), torch.zeros(4, 1, 12, 10)
    expected = [oracle.pointing(flat[0, 0].tolist(), mask.tolist(), 2) for mask in masks]
    found = score("pointing", flat, masks, tolerance=0.2)
    assert found.tolist() == pytest.approx(expected)
    assert (found > masks.flatten(1).double().mean(1)).all()


@pins("iou", "never below the area of the mask")
@pytest.mark.parametrize("name", ["pointing", "rank_accuracy", "pixel_auc", "energy", "iou"])
def test_a_constant_map_has_exactly_chance(name: str) -> None:
    masks, made = some_masks(), {"tolerance": 0.0} if name == "pointing" else {}
    assert_close(score(name, torch.full((4, 1, 12, 10), 0.3), masks, **made), chance(name, masks))
    if name != "energy":  # in which nothing is positive
        assert_close(score(name, torch.zeros(4, 1, 12, 10), masks, **made), chance(name, masks))


@given(seed=st.integers(0, 1000), power=st.sampled_from([0.5, 1.0, 3.0]))
@settings(max_examples=20, deadline=None)
def test_only_the_order_counts_where_that_is_promised(seed: int, power: float) -> None:
    masks, maps = some_masks(seed=seed), noise(seed=seed).abs()
    for name in ("pointing", "rank_accuracy", "pixel_auc", "iou", "iou_area"):
        assert_close(score(name, maps, masks), score(name, 7 * maps**power, masks))


@given(seed=st.integers(0, 1000))
@settings(max_examples=20, deadline=None)
def test_inside_and_outside_share_the_energy_and_the_pairs(seed: int) -> None:
    masks, maps = some_masks(seed=seed), noise(seed=seed)
    for name in ("energy", "pixel_auc"):
        assert_close(score(name, maps, masks) + score(name, maps, ~masks), torch.ones(4, dtype=torch.float64))


# --- what goes wrong elsewhere


@pins("MaskMetric", "NaN where the mask is empty")
@pytest.mark.parametrize("name", NAMES)
def test_an_empty_mask_is_undefined_and_not_a_hit(name: str) -> None:
    masks = some_masks()
    masks[2] = False
    assert score(name, noise(), masks).isnan().tolist() == [False, False, True, False]
    _, overlap = iou_curve(X, noise(), masks)
    assert overlap.isnan().all(1).tolist() == [False, False, True, False]


@pytest.mark.parametrize("name", NAMES)
def test_a_map_that_is_not_finite_is_undefined_and_the_others_are_as_before(name: str) -> None:
    masks, maps = some_masks(), noise()
    maps[1, 0, 3, 3], maps[3, 0, 0, 0] = float("nan"), float("inf")
    found, whole = score(name, maps, masks), score(name, noise(), masks)
    assert found.isnan().tolist() == [False, True, False, True]
    assert torch.equal(found[::2], whole[::2])


@pytest.mark.parametrize("name", NAMES)
def test_the_size_of_the_batch_changes_nothing(name: str) -> None:
    masks, maps = some_masks(), noise()
    alone = torch.cat([score(name, maps[i : i + 1], masks[i : i + 1]) for i in range(4)])
    assert torch.equal(alone, score(name, maps, masks))


def test_several_highest_points_are_not_a_hit_because_one_of_them_is() -> None:
    maps, masks = torch.zeros(1, 1, 8, 8), torch.zeros(1, 8, 8, dtype=torch.bool)
    masks[0, 0, 0] = True
    maps[0, 0, 0, 0] = maps[0, 0, 7, 7] = maps[0, 0, 7, 0] = maps[0, 0, 0, 7] = 1
    assert float(score("pointing", maps, masks, tolerance=0)) == 0.25


@pins("pointing", "``tolerance`` is a share of the shorter side")
def test_the_default_tolerance_is_fifteen_pixels_of_224_and_scales_with_the_image() -> None:
    masks, maps = torch.zeros(2, 224, 224, dtype=torch.bool), torch.zeros(2, 1, 224, 224)
    masks[:, 100, 100] = True
    maps[0, 0, 100 + 9, 100 - 12], maps[1, 0, 100 + 9, 100 + 13] = 1, 1  # 15 pixels away, and a little more
    assert score("pointing", maps, masks).tolist() == [1, 0]
    assert score("pointing", maps, masks, tolerance=0.08).tolist() == [1, 1]
    small, spot = torch.zeros(2, 1, 56, 60), torch.zeros(2, 56, 60, dtype=torch.bool)
    spot[:, 20, 20], small[0, 0, 23, 22], small[1, 0, 23, 23] = True, 1, 1  # of 3.75 allowed: 3.6 and 4.2
    assert score("pointing", small, spot).tolist() == [1, 0]


@pins("energy", "negative values count as nothing")
@pins("MaskMetric", "maps of a layer are resized")
@pytest.mark.parametrize("sign", ["signed", "positive", "absolute"])
def test_sign_and_channels_are_those_of_the_protocol(sign: str) -> None:
    masks = some_masks()
    maps = torch.cat([noise(), noise(seed=2)], 1)
    one = {"signed": lambda m: m, "positive": lambda m: m.clamp(min=0), "absolute": torch.abs}[sign]
    for name in NAMES:
        by_hand = score(name, one(maps.mean(1, keepdim=True)), masks)
        assert_close(score(name, maps, masks, Protocol(sign=sign, channels="mean")), by_hand)  # type: ignore[arg-type]
        same = score(name, maps, masks, {"sign": sign, "channels": "mean"})
        assert torch.equal(same, score(name, maps, masks, Protocol(sign=sign, channels="mean")))  # type: ignore[arg-type]


@pins("energy", "chance is the area ``a``")
def test_energy_normalised_is_zero_by_chance_and_one_at_best() -> None:
    masks = some_masks()
    assert_close(score("energy", torch.ones(4, 1, 12, 10), masks, normalised=True), torch.zeros(4).double())
    assert_close(score("energy", masks[:, None].double(), masks, normalised=True), torch.ones(4).double())
    area = masks.flatten(1).double().mean(1)
    assert_close(score("energy", (~masks)[:, None].double(), masks, normalised=True), -area / (1 - area))


@pins("pixel_auc", "NaN also where the object fills")
@pins("energy", "NaN where nothing is positive")
@pins("iou_area", "normalised, NaN also")
def test_what_an_object_that_fills_the_image_leaves_defined() -> None:
    whole = torch.ones(4, 12, 10, dtype=torch.bool)
    for name in ("pointing", "energy", "rank_accuracy", "iou"):
        assert score(name, noise(), whole).tolist() == [1, 1, 1, 1]
    assert score("pixel_auc", noise(), whole).isnan().all()
    assert score("energy", noise(), whole, normalised=True).isnan().all()
    assert score("iou_area", noise(), whole, normalised=True).isnan().all()
    assert_close(score("iou_area", noise(), whole), torch.full((4,), 0.5).double())
    assert score("energy", -noise().abs(), some_masks()).isnan().all()


@pins("iou_area", "even a map equal to the mask stays below 1")
def test_the_area_under_the_overlap_of_a_perfect_map_is_known() -> None:
    masks = torch.zeros(1, 100, 100, dtype=torch.bool)
    masks[:, :20] = True
    found = float(score("iou_area", masks[:, None].double(), masks))
    a = 0.2  # up to the object's size the overlap grows like f / a, then it falls like a / f
    assert found == pytest.approx(a / 2 + a * math.log(1 / a), abs=1e-4)


@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        ({"masks": None}, InputError, "masks must be a bool Tensor .*; got NoneType"),
        ({"masks": torch.ones(4, 12, 10)}, InputError, "masks must be bool, True inside the object; got torch.float32"),
        ({"masks": some_masks(3)}, ShapeError, r"masks must have shape \(N=4, H=12, W=10\); got \(3, 12, 10\)"),
        ({"masks": some_masks(4, 10, 12)}, ShapeError, r"masks must have shape"),
        ({"maps": noise(3)}, ShapeError, r"maps must have shape \(N=4"),
        ({"maps": noise(4, 24, 20)}, ShapeError, "at most the input's"),
        ({"protocol": "rice"}, InputError, "protocol must be one of"),
        ({"batchsize": 3}, TypeError, "no option 'batchsize'. Did you mean 'batch_size'"),
    ],
)
def test_wrong_arguments_are_named(given: dict[str, Any], error: type[Exception], words: str) -> None:
    arguments = {"x": X, "maps": noise(), "masks": some_masks(), "protocol": "default"} | given
    for name in NAMES:
        with pytest.raises(error, match=words):
            METRICS[name]().score(None, target=None, **arguments)


def test_a_negative_tolerance_is_refused() -> None:
    with pytest.raises(InputError, match="tolerance must be a finite number"):
        METRICS["pointing"](tolerance=-0.1)


def test_every_line_of_their_conventions_is_pinned() -> None:
    for name in [*NAMES, "MaskMetric"]:
        starts = [start for pinned, start in PINNED if pinned == name]
        assert [line for line in lines(name) if not line.startswith(tuple(starts))] == []
        assert [start for start in starts if not any(line.startswith(start) for line in lines(name))] == []
