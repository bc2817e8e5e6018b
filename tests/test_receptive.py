"""What units see: arithmetic equal to changing every pixel, gradients inside of it, and why where it cannot tell."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
import torchvision
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from attrib.core import count
from attrib.core.network.geometry import find_layout
from attrib.core.receptive.field import receptive_field
from attrib.errors import InputError, LayerError, ShapeError
from tests import nets
from tests.oracles.patches import seen_by

DOUBLE = torch.float64


class Last(nn.Module):
    """A net whose layer of interest is its last."""

    def __init__(self, *parts: nn.Module) -> None:
        super().__init__()
        self.body = nn.Sequential(*parts)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.body(x)
        return out.flatten(1).sum(1, keepdim=True)


def positive(net: nn.Module) -> nn.Module:
    """Weights of 1, no biases."""
    for weight in net.parameters():
        weight.data.fill_(1.0 if weight.ndim > 1 else 0.0)
    return net.double().eval()


def boxes_are_what_pixels_change(net: nn.Module, size: tuple[int, int], layer: str = "body", **how: Any) -> None:
    x = torch.zeros(1, 1, *size, dtype=DOUBLE)
    found = receptive_field(net, x, layer, **how)
    with torch.no_grad():
        expected = seen_by(net.get_submodule(layer), size, 1, dtype=DOUBLE)
    assert found.method == "arithmetic", found.reason
    for y in range(found.places[0]):
        for z in range(found.places[1]):
            assert found.seen(y, z).tolist() == expected.get((y, z), [0, 0, 0, 0]), (y, z)
            seen, box = found.seen(y, z).tolist(), found.boxes(y, z).tolist()
            assert seen == [0, 0, 0, 0] or (
                all(low <= inner for low, inner in zip(box[::2], seen[::2], strict=True))
                and all(high >= inner for high, inner in zip(box[1::2], seen[1::2], strict=True))
            )


@st.composite
def stacks(draw: st.DrawFn) -> tuple[list[nn.Module], tuple[int, int]]:
    """Convolutions and pools of any geometry that fit a picture."""
    size = (draw(st.integers(9, 16)), draw(st.integers(9, 16)))
    parts: list[nn.Module] = []
    for _ in range(draw(st.integers(1, 4))):
        kernel = (draw(st.integers(1, 3)), draw(st.integers(1, 3)))
        stride, kind = draw(st.integers(1, 2)), draw(st.sampled_from(["conv", "max", "average", "ceil", "relu"]))
        pad = (draw(st.integers(0, kernel[0] // 2)), draw(st.integers(0, kernel[1] // 2)))
        dilation = draw(st.integers(1, 2))
        part: nn.Module = nn.ReLU()
        if kind == "conv":
            part = nn.Conv2d(1, 1, kernel, stride, pad, dilation, bias=False)
        elif kind != "relu":
            make = nn.AvgPool2d if kind == "average" else nn.MaxPool2d
            part = make(kernel, stride, pad, ceil_mode=kind == "ceil")
        with torch.no_grad():
            try:
                nn.Sequential(*parts, part)(torch.zeros(1, 1, *size))
            except RuntimeError:  # the map has become too small
                continue
        parts.append(part)
    return parts, size


def usual(parts: list[nn.Module], size: tuple[int, int]) -> None:
    """Leave out maps so small and long that they look like channels last."""
    layout = find_layout(nn.Sequential(*parts)(torch.zeros(1, 1, *size)).shape, (1, 1, *size), None)
    assume(layout is not None and layout.kind == "channels_first")


@settings(max_examples=25, deadline=None)
@given(stacks())
def test_arithmetic_is_what_every_pixel_changes_in_any_stack_of_positive_weights(
    stack: tuple[list[nn.Module], tuple[int, int]],
) -> None:
    parts, size = stack
    usual(parts, size)
    boxes_are_what_pixels_change(positive(Last(*parts, nn.Identity())), size)


@settings(max_examples=15, deadline=None)
@given(stacks(), st.integers(0, 100))
def test_gradients_of_any_weights_arrive_inside_of_what_arithmetic_says(
    stack: tuple[list[nn.Module], tuple[int, int]], seed: int
) -> None:
    parts, size = stack
    usual(parts, size)
    net = nets.fill(Last(*parts, nn.Identity()), seed).double()
    x = torch.zeros(1, 1, *size, dtype=DOUBLE)
    inner = receptive_field(net, x, "body", method="gradient", draws=1)
    outer = receptive_field(net, x, "body")
    assert inner.method == "gradient"
    for axis in ("seen_rows", "seen_columns"):
        got, limit = getattr(inner, axis), getattr(outer, axis)
        reached = got[:, 1] > 0
        assert (got >= limit)[reached, 0].all()
        assert (got <= limit)[reached, 1].all()


def test_gradients_find_all_of_it_where_nothing_is_rectified_or_pooled_by_maximum() -> None:
    net = positive(
        Last(nn.Conv2d(1, 2, 3, 2, 1, bias=False), nn.AvgPool2d(2), nn.Conv2d(2, 1, 3, dilation=2, padding=2))
    )
    x = torch.zeros(1, 1, 17, 22, dtype=DOUBLE)
    exact, found = receptive_field(net, x, "body"), receptive_field(net, x, "body", method="gradient")
    assert torch.equal(found.seen_rows, exact.seen_rows)
    assert torch.equal(found.seen_columns, exact.seen_columns)
    assert torch.equal(found.rows, found.seen_rows)  # gradients know nothing of padding


class Branches(nn.Module):
    """A sum of a long and a short way, joined with a third one."""

    def __init__(self) -> None:
        super().__init__()
        self.long = nn.Sequential(nn.Conv2d(1, 1, 3, padding=1, bias=False), nn.Conv2d(1, 1, (5, 1), padding=(2, 0)))
        self.short = nn.Conv2d(1, 1, 1, bias=False)
        self.wide = nn.Conv2d(1, 1, (1, 7), padding=(0, 3), bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([F.relu(self.long(x) + self.short(x)), self.wide(x)], 1)


def test_branches_that_are_added_or_joined_see_the_union() -> None:
    net = positive(Last(Branches(), nn.MaxPool2d(2)))
    boxes_are_what_pixels_change(net, (11, 12))
    found = receptive_field(net, torch.zeros(1, 1, 11, 12, dtype=DOUBLE), "body.0")
    assert found.boxes(5, 5).tolist() == [2, 9, 2, 9]  # 7 rows of the long way, 7 columns of the wide one


class Shifted(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return F.pad(x, (0, 1, 2, 0))[:, :, 1::2, ::3]


@pytest.mark.parametrize(
    "part",
    [
        nn.AdaptiveAvgPool2d((3, 4)),
        nn.AdaptiveMaxPool2d(5),
        nn.AdaptiveAvgPool2d(1),
        Shifted(),
        nn.Upsample(scale_factor=2),
    ],
    ids=["adaptive mean", "adaptive maximum", "global mean", "pad and slice", "nearest"],
)
def test_adaptive_pools_slices_and_resizing_read_their_own_windows(part: nn.Module) -> None:
    net = positive(Last(nn.Conv2d(1, 1, 3, padding=1, bias=False), part))
    boxes_are_what_pixels_change(net, (11, 10))


def test_resizing_between_cells_reads_at_most_one_cell_too_many() -> None:
    net = positive(Last(nn.AvgPool2d(2), nn.Upsample(scale_factor=2, mode="bilinear")))
    found = receptive_field(net, torch.zeros(1, 1, 12, 12, dtype=DOUBLE), "body")
    expected = seen_by(net.get_submodule("body"), (12, 12), 1, dtype=DOUBLE)
    for (y, x), box in expected.items():
        seen = found.seen(y, x).tolist()
        assert seen[0] in (box[0], box[0] - 2)
        assert seen[1] in (box[1], box[1] + 2)


class Gated(nn.Module):
    """Squeeze and excitation around a convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.gate = nn.Conv2d(1, 1, 3, padding=1), nn.Conv2d(1, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        out: Tensor = y * torch.sigmoid(self.gate(y.mean((2, 3), keepdim=True)))
        return out


def test_a_gate_sees_everything_unless_it_is_passed_over() -> None:
    net, x = nets.fill(Last(Gated())), torch.zeros(1, 1, 9, 8)
    assert receptive_field(net, x, "body").boxes(4, 4).tolist() == [0, 9, 0, 8]
    assert receptive_field(net, x, "body", gates=False).boxes(4, 4).tolist() == [3, 6, 3, 6]
    assert receptive_field(net, x, "body", method="gradient").boxes(4, 4).tolist() == [0, 9, 0, 8]


@pytest.mark.parametrize(
    ("name", "layer", "side"),
    [
        ("alexnet", "features.12", 195),
        ("resnet18", "layer2", 99),
        ("resnet18", "layer4", 435),
        ("vgg11", "features.20", 150),
    ],
)
def test_known_networks_have_their_known_sizes(name: str, layer: str, side: int) -> None:
    with torch.random.fork_rng(devices=[]):
        net = getattr(torchvision.models, name)(weights=None).eval()
    found = receptive_field(net, torch.zeros(1, 3, 224, 224), layer)
    box = found.boxes(found.places[0] // 2, found.places[1] // 2)
    assert (box[1::2] - box[::2]).tolist() == [side, side]


def test_a_layer_without_places_sees_everything() -> None:
    found = receptive_field(nets.make("module"), nets.batch(h=8, w=6), "fc")
    assert found.places == (1, 1)
    assert found.boxes(0, 0).tolist() == [0, 8, 0, 6]


class Values(nn.Module):
    """A convolution whose stride depends on the picture's brightness."""

    def forward(self, x: Tensor) -> Tensor:
        return F.avg_pool2d(x, 3, 2 if float(x.detach().sum()) > 1e6 else 1, 1)


def test_gradients_answer_where_arithmetic_cannot_and_say_why() -> None:
    found = receptive_field(positive(Last(Values())), torch.zeros(1, 1, 8, 7, dtype=DOUBLE), "body")
    assert found.method == "gradient"
    assert "reads values back" in found.reason
    assert found.boxes(4, 4).tolist() == [3, 6, 3, 6]
    assert found.boxes(0, 0).tolist() == [0, 2, 0, 2]


def test_a_unit_that_reads_padding_only_sees_nothing() -> None:
    net = positive(Last(nn.Conv2d(1, 1, 1, padding=2, bias=False)))
    found = receptive_field(net, torch.zeros(1, 1, 4, 4, dtype=DOUBLE), "body")
    assert found.seen(0, 3).tolist() == [0, 0, 0, 0]
    assert found.seen(2, 3).tolist() == [0, 1, 1, 2]
    assert found.boxes(0, 0).tolist() == [-2, -1, -2, -1]


def test_only_what_comes_before_the_layer_matters_and_one_pass_records_it() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), Values(), nn.Flatten())
    with count() as spent:
        found = receptive_field(nets.fill(net), nets.batch(n=5), "0")
    assert (found.method, found.boxes(2, 1).tolist()) == ("arithmetic", [2, 5, 1, 4])
    assert (spent.forwards, spent.backwards) == (2, 0)


def test_wrong_questions_are_refused() -> None:
    net, x = nets.make("module"), nets.batch()
    with pytest.raises(ShapeError, match=r"inputs must have shape \(N, C, H, W\)"):
        receptive_field(net, torch.zeros(2, 3), "fc")
    with pytest.raises(LayerError, match="no layer 'conv9'"):
        receptive_field(net, x, "conv9")
    with pytest.raises(InputError, match="method must be one of"):
        receptive_field(net, x, "conv1", method="guess")  # type: ignore[arg-type]
    with pytest.raises(ShapeError, match=r"y must lie in \[0, 7\] for layer 'conv1'; got 8"):
        receptive_field(net, x, "conv1").boxes(8, 0)


def test_the_model_and_the_random_state_stay_as_they_were() -> None:
    net, x = nets.make("module"), nets.batch()
    net.train()
    before, state = {name: one.clone() for name, one in net.state_dict().items()}, torch.get_rng_state()
    first, second = (receptive_field(net, x, "conv2", method="gradient", seed=3) for _ in range(2))
    assert torch.equal(first.rows, second.rows)
    assert net.training
    assert all(one.requires_grad for one in net.parameters())
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(before[name], one) for name, one in net.state_dict().items())
