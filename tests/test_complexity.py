"""Sparseness and entropy: literal computations, closed forms, and that nothing is ranked by them."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from attrib import compare
from attrib.errors import InputError
from attrib.metrics import Protocol
from attrib.registry import METRICS
from tests import nets
from tests.conventions import PINNED, lines, pins
from tests.oracles import localisation as oracle
from tests.tiny import FEW

NAMES = ["sparseness", "entropy"]


def score(name: str, maps: Tensor, protocol: Any = "default", *, size: Any = None, **made: Any) -> Tensor:
    x = torch.zeros(len(maps), 3, *(size or maps.shape[2:]))
    found: Tensor = METRICS[name](**made).score(None, x, None, maps, protocol)
    return found


def one_pixel(n: int = 1) -> Tensor:
    maps = torch.zeros(n, 1, 5, 4, dtype=torch.float64)
    maps[:, 0, 3, 1] = -2.0
    return maps


@given(values=st.lists(st.integers(-300, 300), min_size=12, max_size=12).filter(any))
@settings(max_examples=40, deadline=None)
def test_they_equal_a_literal_computation(values: list[int]) -> None:
    maps = torch.tensor(values, dtype=torch.float64).reshape(1, 1, 3, 4) / 100
    assert float(score("sparseness", maps)) == pytest.approx(oracle.gini(maps[0, 0].tolist()), abs=1e-9)
    assert float(score("entropy", maps)) == pytest.approx(oracle.entropy(maps[0, 0].tolist()), abs=1e-9)


@pins("sparseness", "a uniform map has 0")
@pins("entropy", "grows with the number of pixels")
def test_uniform_maps_and_single_pixels_have_known_values() -> None:
    uniform = torch.full((1, 1, 5, 4), -0.7, dtype=torch.float64)
    assert float(score("sparseness", uniform)) == pytest.approx(0, abs=1e-12)
    assert float(score("sparseness", one_pixel())) == pytest.approx(1 - 1 / 20)
    assert float(score("entropy", uniform)) == pytest.approx(math.log(20))
    assert float(score("entropy", one_pixel())) == 0
    assert float(score("entropy", uniform, normalised=True)) == pytest.approx(1)


@pins("entropy", "a uniform map has ``ln n``")
def test_k_equal_pixels_are_as_spread_as_k_pixels() -> None:
    maps = torch.zeros(1, 1, 5, 4)
    maps.view(-1)[[2, 3, 11, 19]] = torch.tensor([1.0, -1.0, 1.0, 1.0])
    assert math.exp(float(score("entropy", maps))) == pytest.approx(4)
    assert float(score("sparseness", maps)) == pytest.approx(1 - 4 / 20)


@pins("sparseness", "does not change with the scale")
@pytest.mark.parametrize("name", NAMES)
def test_scale_and_places_do_not_matter(name: str) -> None:
    maps = torch.randn(3, 1, 6, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert_close(score(name, -1e5 * maps), score(name, maps))
    assert_close(score(name, maps.flip(2).roll(2, 3)), score(name, maps))


@pins("Descriptor", "signs are dropped")
@pytest.mark.parametrize("name", NAMES)
def test_signs_are_dropped_unless_the_protocol_keeps_the_positive_part(name: str) -> None:
    maps = torch.randn(3, 1, 6, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert torch.equal(score(name, maps), score(name, maps.abs()))
    assert torch.equal(score(name, maps, Protocol(sign="absolute")), score(name, maps))
    assert torch.equal(score(name, maps, Protocol(sign="positive")), score(name, maps.clamp(min=0)))
    two = torch.cat([maps, -maps], 1)
    assert_close(score(name, two, Protocol(channels="l2")), score(name, maps))


@pins("Descriptor", "NaN where the map is zero")
@pytest.mark.parametrize("name", NAMES)
def test_a_zero_map_and_one_that_is_not_finite_are_undefined(name: str) -> None:
    maps = torch.ones(4, 1, 5, 4)
    maps[1], maps[2, 0, 0, 0], maps[3, 0, 1, 1] = 0, float("nan"), float("inf")
    assert score(name, maps).isnan().tolist() == [False, True, True, True]
    assert score(name, one_pixel() * -1, Protocol(sign="positive")).isnan().tolist() == [False]
    assert score(name, one_pixel(), Protocol(sign="positive")).isnan().tolist() == [True]


@pins("Descriptor", "maps of a layer are resized")
def test_upsampling_makes_a_map_less_concentrated() -> None:
    coarse = one_pixel().abs()
    assert float(score("sparseness", coarse, size=(50, 40))) < float(score("sparseness", coarse)) - 0.05
    spread = (float(score("entropy", coarse, size=size, normalised=True)) for size in ((50, 40), (5, 4)))
    assert next(spread) > next(spread) + 0.3


@pins("Descriptor", "a descriptor: nothing is ranked by it")
def test_random_spikes_are_sparser_than_the_truth_so_nothing_is_ranked_by_descriptors() -> None:
    truth, spikes = torch.zeros(1, 1, 20, 20), torch.zeros(1, 1, 20, 20)
    truth[..., 5:12, 5:12], spikes.view(-1)[torch.tensor([3, 77, 351])] = 1, 1
    assert score("sparseness", spikes) > score("sparseness", truth)
    found = compare(nets.make("module"), nets.batch(6), ["saliency", "gradcam"], ["srg", "entropy"], FEW)
    assert not found.scores["random"]["entropy"].isnan().any()
    assert all(set(found.verdicts[method]) == {"srg"} for method in found.methods)
    assert all(set(found.unbeaten(method)) == {"srg"} for method in found.methods)
    assert "entropy (descriptor)" in found.to_text()
    assert "entropy:" not in found.to_text()
    assert found.manifest["metrics"]["entropy"]["descriptor"] is True
    with pytest.raises(InputError, match="metric must be one that says which map is better; got 'entropy'"):
        found.best("entropy")


def test_every_line_of_their_conventions_is_pinned() -> None:
    for name in [*NAMES, "Descriptor"]:
        starts = [start for pinned, start in PINNED if pinned == name]
        assert [line for line in lines(name) if not line.startswith(tuple(starts))] == []
        assert [start for start in starts if not any(line.startswith(start) for line in lines(name))] == []
