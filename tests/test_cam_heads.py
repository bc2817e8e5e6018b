"""CAM finds what the mean is taken of, accepts nothing else, and says why there is no map where there is none."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.testing import assert_close

from attrib import CAM, Channel, ClassScore, Saliency, attribute_all, class_maps, explain
from attrib.core import count
from attrib.errors import LayerError, ModelError, TargetError
from tests import nets

X = nets.batch(3, 8, 6)


class Net(nn.Module):
    """A convolution, what stands between it and the linear layer, and what is done to the scores."""

    def __init__(
        self,
        between: Callable[[Tensor], Tensor] = lambda act: act.mean((2, 3)),
        behind: Callable[[Tensor, Tensor], Any] = lambda scores, act: scores,
        width: int = 6,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 3)
        self.between, self.behind = between, behind
        self.fc = nn.Linear(width, nets.CLASSES)

    def forward(self, x: Tensor) -> Any:
        act = self.conv(x)
        return self.behind(self.fc(self.between(act)), act)


def mean(act: Tensor) -> Tensor:
    return act.mean((2, 3))


def near(share: float) -> nn.Module:
    """A head that reads the mean and, of another size, the largest value."""
    return nets.fill(Net(lambda act: mean(act) + share * act.abs().mean((2, 3))))


def identity(model: nn.Module, x: Tensor, layer: str | None = None) -> None:
    """The mean of the map and the bias are the score, for every class."""
    bias = model.get_parameter("fc.bias").detach()
    maps = class_maps(CAM(model, layer), x, "all").maps
    assert_close(maps.flatten(2).mean(2) + bias, model(x).detach())


# --- nothing is accepted in which the identity does not hold


@pytest.mark.parametrize(("dtype", "share"), [(torch.float32, 5e-3), (torch.float64, 1e-6)])
@pytest.mark.parametrize("layer", [None, "conv"])
def test_a_near_miss_is_refused_and_rounding_is_not(dtype: torch.dtype, share: float, layer: str | None) -> None:
    with pytest.raises(LayerError, match="CAM needs scores"):
        CAM(near(share).to(dtype), layer).attribute(X.to(dtype), 1)
    CAM(near(0.0).to(dtype), layer).attribute(X.to(dtype), 1)
    moved = nets.fill(Net(behind=lambda scores, act: scores + share * act.amax((2, 3))[:, : nets.CLASSES]))
    with pytest.raises(LayerError, match="something behind it changes them"):
        CAM(moved.to(dtype), layer).attribute(X.to(dtype), 1)


@pytest.mark.parametrize("layer", [None, "conv"])
def test_what_an_example_is_compared_with_does_not_depend_on_its_neighbours(layer: str | None) -> None:
    added = nets.fill(Net(behind=lambda scores, act: scores + 0.2 * act.amax((2, 3))[:, : nets.CLASSES].tanh()))
    loud = torch.cat([X[:1], 3000 * X[:1]])
    for x in (X[:1], loud):
        with pytest.raises(LayerError, match="something behind it changes them"):
            CAM(added, layer).attribute(x, 0)
    identity(nets.fill(Net()), loud, layer)


@pytest.mark.parametrize("bias", [0.0, 300.0, 3000.0])
@pytest.mark.parametrize("layer", [None, "conv"])
def test_a_large_bias_hides_nothing(bias: float, layer: str | None) -> None:
    normed, plain = nets.fill(Net(lambda act: F.layer_norm(mean(act), (6,)))), nets.fill(Net())
    for model in (normed, plain):
        model.get_parameter("fc.bias").data += bias
    with pytest.raises(LayerError, match="'fc' reads something else than the mean of layer 'conv'"):
        CAM(normed, layer).attribute(X, 0)
    CAM(plain, layer).attribute(X, 0)


@pytest.mark.parametrize("layer", [None, "conv"])
def test_a_head_without_weights_is_not_explained_by_empty_maps(layer: str | None) -> None:
    model = nets.fill(Net())
    model.get_parameter("fc.weight").data.zero_()
    with pytest.raises(ModelError, match="Is the head untrained"):
        CAM(model, layer).attribute(X, 0)


# --- why not


@pytest.mark.parametrize(
    ("model", "layer", "says"),
    [
        (Net(lambda act: act.flatten(1), width=144), None, r"'fc' reads 144 numbers, and layers .* \[3, 6\] channels"),
        (Net(lambda act: act.amax((2, 3))), None, r"else than the mean of layer 'conv': it is up to [\d.]+ off, where"),
        (Net(lambda act: 0.5 * mean(act)), None, "'fc' reads 0.5 times the mean of layer 'conv'"),
        (
            Net(nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.LayerNorm(6))),
            None,
            r"'between.2' \(LayerNorm\)",
        ),
        (Net(behind=lambda scores, _: scores.softmax(1)), None, "scores are not what 'fc' gives: something behind it"),
        (
            Net(behind=lambda scores, _: {"out": scores, "aux": 0}),
            "conv",
            r"output is a dict with keys \['aux', 'out'\]",
        ),
        (Net(behind=lambda scores, _: scores[:, :, None]), "conv", r"output has shape \(3, 5, 1\)"),
        (Net(behind=lambda scores, _: scores[:, :3]), "conv", "no linear layer or 1x1 convolution gives 3 scores"),
        (nets.make("module"), "pool", r"'fc' reads 6 numbers.*\[4\] channels. Choose layer 'act2', or"),
    ],
)
def test_the_reason_is_named_where_there_is_no_map(model: Any, layer: str | None, says: str) -> None:
    def pick(out: Any) -> Tensor:
        out = out["out"] if isinstance(out, dict) else out
        return out.flatten(1)[:, 1]  # type: ignore[no-any-return]

    with pytest.raises(LayerError, match=f"CAM needs scores.*{says}.*GradCAM, which needs no such head"):
        CAM(nets.fill(model), layer).attribute(X, pick)


@pytest.mark.parametrize("target", ["conv:3", lambda out: out.detach()[:, 0], "sum"])
def test_a_target_that_is_no_function_of_the_scores_is_refused(target: Any) -> None:
    goal = ClassScore(1) + Channel("conv", 3) if target == "sum" else target
    with pytest.raises(TargetError, match="must depend on the class scores and on nothing else"):
        CAM(nets.fill(Net())).attribute(X, goal)


# --- where the mean is taken


class Block(nn.Module):
    """A residual block whose sum and ReLU are no modules, and a pooling behind it."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, 6, 3, padding=1)
        self.pool, self.fc = nn.AdaptiveAvgPool2d(1), nn.Linear(6, nets.CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        out: Tensor = self.fc(self.pool(F.relu(x + self.b(x))).flatten(1))
        return out


class Aside(nn.Module):
    """A second head with places, which runs last."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.fc, self.seg = nn.Conv2d(3, 6, 3), nn.Linear(6, nets.CLASSES), nn.Conv2d(6, 6, 1)

    def forward(self, x: Tensor) -> Tensor:
        act = self.conv(x)
        out: Tensor = self.fc(mean(act))
        self.beside = self.seg(act)
        return out


class Twice(nn.Module):
    """One convolution and one linear layer that run twice."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 3, 3, padding=1), nn.Linear(3, nets.CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        first = self.conv(x)
        self.beside = self.fc(mean(first))
        out: Tensor = self.fc(mean(self.conv(first)))
        return out


@pytest.mark.parametrize(("make", "layer"), [(Block, "pool@input"), (Aside, "conv"), (Twice, "conv#1")])
def test_the_layer_is_found_by_its_mean_wherever_it_is(make: Any, layer: str) -> None:
    model = nets.fill(make())
    identity(model, X)
    found = CAM(model).attribute(X, 1)
    assert torch.equal(found, CAM(model, layer).attribute(X, 1))
    together = attribute_all({"saliency": Saliency(model), "cam": CAM(model)}, X, [1])
    assert torch.equal(together["cam"][0], found)
    task = explain(model, X, ["saliency", "cam"], target=1)
    assert torch.equal(task.maps["cam"]["1"], found)
    assert task.layers["cam"] == layer
    assert not task.failures


def test_finding_the_layer_takes_one_forward_pass() -> None:
    model = nets.fill(Block())
    with count() as cost:
        CAM(model).attribute(X, 1)
    assert (cost.forwards, cost.backwards) == (2 * len(X), 0)


@pytest.mark.parametrize("axes", [1, 2, 3])
@pytest.mark.parametrize("pool", [torch.mean, torch.sum])
def test_signals_pictures_and_volumes_with_pointwise_heads_behind_means_and_sums(axes: int, pool: Any) -> None:
    conv = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[axes - 1]

    class Pointed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.fc = conv(3, 6, 3), conv(6, nets.CLASSES, 1)

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.fc(pool(self.conv(x), tuple(range(2, x.ndim)), keepdim=True))
            return out.flatten(1)

    model, x = nets.fill(Pointed()), torch.rand(2, 3, *(7, 8, 9)[:axes], generator=torch.Generator().manual_seed(0))
    identity(model, x)


def test_the_head_of_half_precision_is_found() -> None:
    model, x = nets.fill(Net()).to(torch.bfloat16), X.to(torch.bfloat16)
    maps = CAM(model).attribute(x, 1)
    wide = CAM(nets.fill(Net())).attribute(X, 1)
    assert_close(maps.float(), wide, rtol=0.05, atol=0.05 * float(wide.abs().max()))
