"""Max-pooling puts values back where they came from; where there is nothing to tell where, coverage says so."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.testing import assert_close

import attrib
from attrib import Channel, Deconvnet, Neuron, coverage
from tests import nets
from tests.conventions import pins
from tests.oracles import deconvnet
from tests.oracles.models import EXACT
from tests.units import X, alexnet, filled, mirror, signed

# --- switches

POOLS: dict[str, nn.Module] = {
    "apart": nn.MaxPool2d(2),
    "overlapping": nn.MaxPool2d(3, 1),
    "overlapping and padded": nn.MaxPool2d(3, 2, padding=1),
    "with what is left over": nn.MaxPool2d(3, 2, ceil_mode=True),
    "padded, with what is left over": nn.MaxPool2d(4, 3, padding=2, ceil_mode=True),
    "with gaps": nn.MaxPool2d(2, 3),
    "adaptive, uneven": nn.AdaptiveMaxPool2d((4, 3)),
}


class WithIndices(nn.Module):
    """A pooling that hands its switches out."""

    def forward(self, x: Tensor) -> Tensor:
        out, indices = F.max_pool2d(x, 3, 2, return_indices=True)
        assert indices.dtype == torch.int64
        return out


@pytest.mark.parametrize("name", POOLS)
def test_max_pooling_puts_values_back_at_the_switches_and_adds_where_windows_share_one(name: str) -> None:
    torch.manual_seed(0)
    model = filled(nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), POOLS[name]))
    x = nets.batch(2, 10, 9, dtype=torch.float64)
    found = signed(model, x, Channel("2", 1, "sum"), start="activation")
    for n, row in enumerate(x.numpy()):
        act, _ = deconvnet.up(mirror(model), row)
        signal = np.zeros_like(act[-1])
        signal[1] = act[-1][1]
        assert_close(found[n], torch.from_numpy(deconvnet.down(mirror(model), row, signal)), **EXACT)


@pytest.mark.parametrize("pool", [nn.MaxPool2d(2, return_indices=True), nn.MaxPool2d(2, 3, return_indices=True)])
def test_where_windows_do_not_overlap_it_is_max_unpooling(pool: nn.MaxPool2d) -> None:
    x = nets.batch(2, 11, 8, channels=4, dtype=torch.float64)
    active = x.relu()
    pooled, switches = pool(active)
    expected = F.max_unpool2d(pooled, switches, pool.kernel_size, pool.stride, output_size=x.shape)

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.act, self.pool, self.last = nn.ReLU(), pool, nn.Identity()

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.last(self.pool(self.act(x))[0])
            return out

    target = attrib.core.Custom(lambda out: out.sum((1, 2, 3)))
    assert_close(signed(Net(), x, target, start="activation"), expected, **EXACT)


@pins("deconvnet", "where max-pooling windows overlap")
def test_windows_that_share_a_maximum_add_up() -> None:
    x = torch.zeros(1, 1, 3, 3)
    x[0, 0, 1, 1] = 2.0
    model = nn.Sequential(nn.ReLU(), nn.MaxPool2d(2, 1))
    found = signed(model, x, Channel("1", 0, "sum"), start="activation")
    assert found[0, 0].tolist() == [[0, 0, 0], [0, 8, 0], [0, 0, 0]]  # four windows of 2
    assert signed(model, x, Neuron("1", 0, 0, 1), start="activation").sum() == 2  # one activation has one switch


def test_pooling_that_hands_its_switches_out_is_followed() -> None:
    model = nn.Sequential(nn.ReLU(), WithIndices())
    x = nets.batch(1, 13, 7, dtype=torch.float64)
    plain = nn.Sequential(nn.ReLU(), nn.MaxPool2d(3, 2))
    for unit in ((0, 0, 0), (1, 2, 1)):
        assert torch.equal(signed(model, x, Neuron("1", *unit)), signed(plain, x, Neuron("1", *unit)))
    assert coverage(Deconvnet(model), x, Neuron("1", 0)).shrunk == {"max-pooling": 1}


class Every(nn.Module):
    """Every other place."""

    def forward(self, x: Tensor) -> Tensor:
        return x[:, :, ::2, ::2]


SHRINKING: dict[str, tuple[nn.Module, str]] = {
    "max": (nn.MaxPool2d(2), "switches of 1 max-pooling"),
    "two": (nn.Sequential(nn.MaxPool2d(2), nn.AdaptiveMaxPool2d(2)), "switches of 2 max-poolings"),
    "average": (nn.AvgPool2d(2), "switches of no max-pooling; none for 1 average pooling"),
    "adaptive average": (nn.AdaptiveAvgPool2d(3), "switches of no max-pooling; none for 1 average pooling"),
    "a blur": (nn.AvgPool2d(3, 1), "no pooling and no strided convolution on the way down"),
    "max without stride": (nn.MaxPool2d(3, 1), "switches of 1 max-pooling"),
    "global average": (nn.AdaptiveAvgPool2d(1), "switches of no max-pooling; none for 1 average pooling"),
    "stride": (nn.Conv2d(4, 4, 3, stride=2), "switches of no max-pooling; none for 1 strided convolution"),
    "a bit of all": (
        nn.Sequential(nn.MaxPool2d(3, 2), nn.Conv2d(4, 4, 1, stride=2), nn.Conv2d(4, 4, 1), nn.AvgPool2d(2)),
        "switches of 1 max-pooling; none for 1 average pooling, 1 strided convolution",
    ),
    "nothing": (nn.Conv2d(4, 4, 3), "no pooling and no strided convolution on the way down"),
    "smaller otherwise": (Every(), "no pooling and no strided convolution on the way down"),
    "growing": (nn.ConvTranspose2d(4, 4, 2, stride=2), "no pooling and no strided convolution on the way down"),
}


@pytest.mark.parametrize("name", SHRINKING)
def test_coverage_says_where_there_are_switches_and_where_not(name: str, caplog: pytest.LogCaptureFixture) -> None:
    part, told = SHRINKING[name]
    model = filled(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), part))
    method = Deconvnet(model)
    assert coverage(method, X, Neuron("2", 1)).switches == told
    with caplog.at_level(logging.INFO, "attrib"):
        method.attribute(X, Neuron("2", 1))
    assert told in caplog.text


def test_only_what_lies_between_the_unit_and_where_it_ends_is_counted() -> None:
    model = filled(alexnet())
    method = Deconvnet(model)
    assert coverage(method, X, Neuron("9", 1)).shrunk == {"max-pooling": 2, "strided convolution": 1}
    assert coverage(method, X, Neuron("5", 1)).shrunk == {"max-pooling": 1, "strided convolution": 1}
    assert coverage(method, X, Neuron("9", 1), layer="3").shrunk == {"max-pooling": 1}


@pytest.mark.parametrize("axes", [(2, 3), (-1, -2), [2]])
def test_a_mean_over_locations_is_an_average_pooling_and_one_over_channels_is_not(axes: Any) -> None:
    class Mean(nn.Module):
        def __init__(self, axes: Any) -> None:
            super().__init__()
            self.axes = axes

        def forward(self, x: Tensor) -> Tensor:
            return x.relu().mean(self.axes).flatten(1).sum(1)

    assert coverage(Deconvnet(Mean(axes)), X).shrunk == {"average pooling": 1}
    assert coverage(Deconvnet(Mean(1)), X).shrunk == {}
