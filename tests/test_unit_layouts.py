"""Units and maps at layers are read where these have their channels: first, last, or in tokens; of any axes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from torch import Tensor, nn
from torch.testing import assert_close
from torchvision.models.convnext import CNBlockConfig

from attrib import Channel, Deconvnet, GuidedBackprop, InputXGradient, Neuron, Saliency
from attrib.analysis import TrainingWatch
from attrib.core import Layout, Query, as_objective, capture, frozen
from attrib.core.objectives.features import Guided
from attrib.errors import AttribError, InputError, LayerError, ShapeError, TargetError
from tests import nets

ViT = torchvision.models.VisionTransformer


def swin() -> nn.Module:
    return torchvision.models.SwinTransformer([4, 4], 8, [1, 1], [2, 2], [2, 2], num_classes=nets.CLASSES)


def vit() -> nn.Module:
    return ViT(24, 8, 2, 2, 16, 16, num_classes=nets.CLASSES)


def convnext() -> nn.Module:
    return torchvision.models.ConvNeXt([CNBlockConfig(8, None, 2)], num_classes=nets.CLASSES)


X = nets.batch(2, 24, 24)
NETS: dict[str, tuple[nn.Module, str]] = {
    "swin": (nets.fill(swin()), "features.1"),
    "vit": (nets.fill(vit()), "encoder.layers.encoder_layer_0"),
    "convnext": (nets.fill(convnext()), "features.1.0.block.2"),  # the norm inside a block: channels last
}


def maps(name: str, x: Tensor) -> Tensor:
    """The layer as ``(N, K, h, w)``, written down for each network."""
    model, layer = NETS[name]
    with frozen(model), capture(model, layer) as acts:
        model(x)
    return first(name, acts[layer])


def first(name: str, act: Tensor) -> Tensor:
    return act[:, 1:].permute(0, 2, 1).reshape(2, 16, 3, 3) if name == "vit" else act.permute(0, 3, 1, 2)


def gradient(name: str, score: Any) -> Tensor:
    x = X.clone().requires_grad_(True)
    return torch.autograd.grad(score(maps(name, x)).sum(), x)[0]


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize(
    ("unit", "score"),
    [
        (lambda layer: f"{layer}:7", lambda act: act[:, 7].mean((1, 2))),
        (lambda layer: Channel(layer, 7, "sum"), lambda act: act[:, 7].sum((1, 2))),
        (lambda layer: Channel(layer, 7, "max"), lambda act: act[:, 7].amax((1, 2))),
        (lambda layer: Neuron(layer, 7), lambda act: act[:, 7].amax((1, 2))),
        (lambda layer: f"{layer}:7,1,2", lambda act: act[:, 7, 1, 2]),
        (lambda layer: Neuron(layer, 0, [2, 0], 1), lambda act: torch.stack([act[0, 0, 2, 1], act[1, 0, 0, 1]])),
        (lambda layer: [Neuron(layer, 6), Channel(layer, 3)], lambda a: torch.stack([a[0, 6].max(), a[1, 3].mean()])),
    ],
)
def test_a_unit_of_a_transformer_is_read_where_its_channels_are(name: str, unit: Any, score: Any) -> None:
    model, layer = NETS[name]
    found = Saliency(model, channels="none", absolute=False).attribute(X, unit(layer))
    assert_close(found, gradient(name, score))


@pytest.mark.parametrize("name", NETS)
def test_channels_are_counted_where_they_are(name: str) -> None:
    model, layer = NETS[name]
    last = maps(name, X).shape[1] - 1
    Saliency(model).attribute(X, Channel(layer, last))
    with pytest.raises(TargetError, match=rf"channel must lie in \[0, {last}\] for layer '{layer}'; got {last + 1}"):
        Saliency(model).attribute(X, Channel(layer, last + 1))


@pytest.mark.parametrize("name", NETS)
def test_a_guide_is_compared_channel_by_channel(name: str) -> None:
    model, layer = NETS[name]
    with frozen(model):
        x = X.flip(2)
        with capture(model, layer) as acts:
            model(x)
        goal = Guided(layer, acts[layer][1].detach())
        score = Query(model, (X,), goal).clean.score
    like = torch.einsum("nkhw,kij->nhwij", maps(name, X), maps(name, x)[1])
    assert_close(score, like.flatten(3).amax(3).sum((1, 2)).detach())


class Mixed(nn.Module):
    """Locations in one row: nothing tells them from tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.row = nn.Flatten(2)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.row(self.conv(x)).sum(2)
        return out


def test_a_unit_of_a_layer_whose_channels_are_unknown_is_refused_unless_they_are_told() -> None:
    model = nets.fill(Mixed())
    for unit in (Channel("row", 2), Neuron("row", 2), Neuron("row", 2, place=(3,))):
        with pytest.raises(LayerError, match=r"'row' must give \(N, K\), or have .* known; it gives \(2, 4, 484\)"):
            Saliency(model).attribute(X, unit)
    told = Channel("row", 2, "sum", layout=Layout("channels_first", (484,)))
    assert_close(Saliency(model).attribute(X, told), Saliency(model).attribute(X, Channel("conv", 2, "sum")))


def volume(axes: int) -> tuple[nn.Module, Tensor]:
    conv = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}[axes]
    model = nn.Sequential(conv(2, 4, 3), nn.ReLU(), nn.Flatten(), nn.LazyLinear(3))
    x = torch.randn(2, 2, *(7, 6, 5)[:axes], generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        model(x)
    return nets.fill(model), x


@pytest.mark.parametrize("axes", [1, 2, 3])
@pytest.mark.parametrize("method", [Saliency, GuidedBackprop, Deconvnet])
def test_units_of_signals_images_and_volumes_have_a_place(axes: int, method: Any) -> None:
    model, x = volume(axes)
    act = model[:2](x).detach()[:, 1]
    strongest = [np.unravel_index(int(one.argmax()), one.shape) for one in act]
    found = method(model).attribute(x, Neuron("1", 1))
    given = torch.tensor(np.array(strongest))
    assert torch.equal(found, method(model).attribute(x, Neuron("1", 1, place=given)))
    one = tuple(int(i) for i in strongest[0])
    text = method(model).attribute(x[:1], "1:1," + ",".join(map(str, one)))
    assert torch.equal(text, found[:1])
    assert torch.equal(text, method(model).attribute(x[:1], Neuron("1", 1, place=one)))
    assert bool(found.any())


@pytest.mark.parametrize("kind", [list, np.array, torch.tensor, lambda rows: torch.tensor(rows).int()])
def test_places_of_examples_come_in_every_form_that_classes_do(kind: Any) -> None:
    model, x = volume(2)
    found = Saliency(model).attribute(x, Neuron("1", 1, kind([1, 2]), kind([0, 3])))
    for n, (row, column) in enumerate([(1, 0), (2, 3)]):
        assert torch.equal(found[n : n + 1], Saliency(model).attribute(x[n : n + 1], f"1:1,{row},{column}"))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Neuron("1", 1, torch.tensor([1.5]), torch.tensor([0.0])), "y must hold whole numbers; got tensor"),
        (lambda: Neuron("1", 1, 1, [True, False]), r"x must hold whole numbers; got \[True, False\]"),
        (lambda: Neuron("1", 1, 1, "2"), "x must hold whole numbers; got '2'"),  # type: ignore[arg-type]
        (lambda: Neuron("1", 1, [[1]], [2]), "y must have 0 or 1 axes"),  # type: ignore[list-item]
        (lambda: Neuron("1", 1, [1, 2], [1, 2, 3]), r"y must have one entry per example \(N=3\)"),
        (lambda: Neuron("1", 1, -1, 0), r"place of a neuron must be at least 0; got \[\[-1, 0\]\]"),
        (lambda: Neuron("1", 1, place=(1.5, 2)), r"place must hold whole numbers; got \(1.5, 2\)"),  # type: ignore[arg-type]
        (lambda: Neuron("1", 1, 1, 2, place=(1, 2)), r"y and x, or neither; got y=1, x=2, place=\(1, 2\)"),
        (lambda: Neuron("1", 1.0), "channel must be an integer >= 0"),  # type: ignore[arg-type]
        (lambda: Channel("1", [1, 2]), "channel must be an integer >= 0"),  # type: ignore[arg-type]
        (lambda: Channel(nn.ReLU(), 1), "layer of a unit must be a dotted name; got ReLU"),  # type: ignore[arg-type]
    ],
)
def test_a_unit_that_cannot_be_meant_cannot_be_built(build: Any, message: str) -> None:
    with pytest.raises((InputError, TargetError, LayerError), match=message):
        build()


def test_a_place_that_is_not_in_the_layer_is_refused() -> None:
    model, x = volume(3)
    for unit, error, message in (
        ("1:1,4,3,3", TargetError, r"x must lie in \[0, 2\] for layer '1'; got \[3, 3\]"),
        ("1:1,5,3,0", TargetError, r"z must lie in \[0, 4\]"),
        ("1:1,4,3", ShapeError, r"a number for each of 3 axes of layer '1', \(5, 4, 3\); got 2"),
        (Neuron("1", 1, place=torch.zeros(3, 3).long()), TargetError, r"one entry per example \(N=2\)"),
    ):
        with pytest.raises(error, match=message):
            Saliency(model).attribute(x, unit)


def test_of_places_that_share_the_maximum_a_channel_and_a_neuron_take_the_first() -> None:
    model = nets.fill(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()))
    with torch.no_grad():
        model[0].bias[1] = -100.0  # silent: all its places share a maximum of 0
    by_channel = Saliency(model[:1]).attribute(X, Channel("0", 2, "max"))
    assert torch.equal(by_channel, Saliency(model[:1]).attribute(X, Neuron("0", 2)))
    silent = [Deconvnet(model).attribute(X, unit) for unit in (Channel("1", 1, "max"), Neuron("1", 1))]
    assert torch.equal(*silent)
    assert bool((silent[0][:, :, 3:] == 0).all())
    assert bool(silent[0][:, :, :3, :3].any())


def test_units_that_differ_are_not_equal() -> None:
    assert Channel("a", 1) == Channel("a", 1) != Channel("a", 2)
    assert Neuron("a", 1, 0, 0) != Neuron("a", 1, 2, 2)


def test_a_bound_unit_keeps_its_place_in_other_batches() -> None:
    model, x = volume(2)
    with frozen(model):
        goal = Query(model, (x,), as_objective(Neuron("1", 1))).clean.goal
        again = goal.rows(torch.tensor([1, 0, 1]))
        with capture(model, "1") as acts:
            model(x[[1, 0, 1]])
        assert_close(again(None, acts), acts["1"][:, 1].flatten(1).amax(1))
    with pytest.raises(AttribError):
        goal(None, {"1": torch.rand(3, 4, 5, 4)})


METHODS: dict[str, Any] = {
    "saliency": Saliency,
    "input_x_gradient": InputXGradient,
    "guided": lambda model, **options: GuidedBackprop(model, activations="all", **options),
    "deconvnet": lambda model, **options: Deconvnet(model, activations="all", **options),
}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", NETS)
def test_a_map_at_a_layer_reduces_its_channels_wherever_they_are(name: str, method: str) -> None:
    model, layer = NETS[name]
    as_it_is = METHODS[method](model, channels="none", absolute=False).attribute(X, 3, layer)
    by_hand = first(name, as_it_is)
    for channels, expected in (("sum", by_hand.sum(1, keepdim=True)), ("l2", by_hand.norm(dim=1, keepdim=True))):
        assert_close(METHODS[method](model, channels=channels, absolute=False).attribute(X, 3, layer), expected)
    largest = METHODS[method](model, channels="max", absolute=True).attribute(X, 3, layer)
    assert torch.equal(largest, by_hand.abs().amax(1, keepdim=True))


def test_a_layer_whose_channels_are_unknown_keeps_its_values_or_is_refused() -> None:
    model = nets.fill(Mixed())
    assert Saliency(model, channels="none").attribute(X, 1, "row").shape == (2, 4, 484)
    with pytest.raises(LayerError, match=r"'row' must have channels .* known; it gives \(2, 4, 484\)\. Pass channels="):
        Saliency(model).attribute(X, 1, "row")


def test_a_map_that_only_the_class_token_would_make_is_refused() -> None:
    model, _ = NETS["vit"]
    with pytest.raises(LayerError, match="behind it only the class token is read"):
        Saliency(model).attribute(X, 1, "encoder.layers.encoder_layer_1")


@pytest.mark.parametrize("name", NETS)
def test_features_in_training_are_channels_wherever_a_layer_has_them(name: str) -> None:
    model, layer = NETS[name]
    watch = TrainingWatch(X, [layer], channels=99, epochs=None, method="saliency")
    watch(model, 1)
    found = watch.found()
    act = maps(name, X).detach()
    assert_close(found.response[:, 0], act.flatten(2).amax(2).T)
    image, (y, x) = int(found.image[7, 0]), found.place[7, 0].tolist()
    assert act[image, 7, y, x] == act[:, 7].max()
    signed = Saliency(model, channels="none", absolute=False)
    assert_close(found.projection[7, 0], signed.attribute(X[image : image + 1], f"{layer}:7,{y},{x}")[0])
