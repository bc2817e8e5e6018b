"""Layers are found, named and addressed; what cannot be explained is refused in words."""

from __future__ import annotations

import copy
import logging

import pytest
import torch
from torch import Tensor, nn

import attrib
from attrib.core import auto_layer, capture, layer_table, resolve, unwrap
from attrib.errors import LayerError, TargetError

X = torch.randn(2, 3, 12, 10, generator=torch.Generator().manual_seed(0))


class Twice(nn.Module):
    """One ReLU module that runs twice, one shared under two names, one that never runs."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)
        self.shared = self.alias = nn.Conv2d(4, 4, 1)
        self.unused = nn.Conv2d(3, 3, 1)
        self.pool = nn.MaxPool2d(2)
        self.body = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4))
        self.fc = nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.conv2(self.relu(self.conv1(x))))
        x = self.pool(self.body(self.shared(x)))
        return self.fc(x.mean((2, 3)))


@pytest.fixture
def net() -> Twice:
    torch.manual_seed(1)
    return Twice().eval()


def test_a_module_and_its_name_give_the_same_map(net: Twice) -> None:
    by_name = attrib.GradCAM(net, "conv2", relu=False).attribute(X, 1)
    assert torch.equal(by_name, attrib.GradCAM(net, net.conv2, relu=False).attribute(X, 1))
    assert torch.equal(by_name, attrib.GradCAM(net, relu=False).attribute(X, 1, "conv2"))
    assert torch.equal(by_name, attrib.GradCAM(net, "body", relu=False).attribute(X, 1, layer=net.conv2))


def test_both_names_of_a_shared_module_are_known(net: Twice) -> None:
    assert resolve(net, "alias") == "alias"
    first = attrib.GradCAM(net, "shared", relu=False).attribute(X, 1)
    assert torch.equal(first, attrib.GradCAM(net, "alias", relu=False).attribute(X, 1))


def test_unknown_names_get_suggestions(net: Twice) -> None:
    with pytest.raises(LayerError, match=r"Twice has no layer 'conv3'\. Did you mean 'conv2' or 'conv1'"):
        attrib.GradCAM(net, "conv3")


def test_modules_of_another_model_are_refused(net: Twice) -> None:
    with pytest.raises(LayerError, match="not part of Twice"):
        attrib.GradCAM(net, copy.deepcopy(net).conv1)


@pytest.mark.parametrize("bad", [3, "relu#x", "conv1@side", ""])
def test_malformed_addresses_are_refused(net: Twice, bad: object) -> None:
    with pytest.raises(LayerError):
        attrib.GradCAM(net, bad).attribute(X, 1)  # type: ignore[arg-type]


def test_a_layer_that_ran_twice_must_be_chosen(net: Twice) -> None:
    with pytest.raises(LayerError, match=r"ran 2 times.*'relu#0', 'relu#1'"):
        attrib.GradCAM(net, "relu").attribute(X, 1)


def test_each_call_of_a_reused_layer_has_its_own_activation(net: Twice) -> None:
    with torch.no_grad(), capture(net, "relu#0", "relu#1", "conv1", "conv2") as acts:
        net(X)
    torch.testing.assert_close(acts["relu#0"], acts["conv1"].relu())
    torch.testing.assert_close(acts["relu#1"], acts["conv2"].relu())


def test_a_call_that_did_not_happen_is_refused(net: Twice) -> None:
    with pytest.raises(LayerError, match="ran 2 times, so calls are 0 to 1; got 'relu#2'"):
        attrib.GradCAM(net, "relu#2").attribute(X, 1)


def test_a_layer_that_did_not_run_is_refused(net: Twice) -> None:
    with pytest.raises(LayerError, match="'unused' did not run"):
        attrib.GradCAM(net, "unused").attribute(X, 1)


def test_the_input_of_a_layer_is_addressed_with_at(net: Twice) -> None:
    with torch.no_grad(), capture(net, "pool@input", "body") as acts:
        net(X)
    assert torch.equal(acts["pool@input"], acts["body"])
    at_input = attrib.GradCAM(net, "pool@input", relu=False).attribute(X, 1)
    torch.testing.assert_close(at_input, attrib.GradCAM(net, "body", relu=False).attribute(X, 1))


def test_an_in_place_operation_after_the_layer_does_not_change_what_was_kept(net: Twice) -> None:
    with torch.no_grad(), capture(net, "conv1") as acts:
        net(X)
    torch.testing.assert_close(acts["conv1"], net.conv1(X))
    assert acts["conv1"].min() < 0  # ReLU in place would have left none


def test_auto_picks_the_last_spatial_layer_before_the_pooling_and_says_so(
    net: Twice, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "attrib"):
        auto = attrib.GradCAM(net, "auto", relu=False).attribute(X, 1)
    assert "picked 'body'" in caplog.text
    assert torch.equal(auto, attrib.GradCAM(net, "body", relu=False).attribute(X, 1))
    assert torch.equal(auto, attrib.GradCAM(net, relu=False).attribute(X, 1))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("alexnet", "features.11"),
        ("vgg11", "features.19"),
        ("resnet18", "layer4"),
        ("squeezenet1_1", "classifier.2"),
        ("densenet121", "features"),
        ("mobilenet_v2", "features"),
        ("mobilenet_v3_small", "features"),
        ("shufflenet_v2_x0_5", "conv5"),
        ("efficientnet_b0", "features"),
        ("regnet_y_400mf", "trunk_output"),
        ("convnext_tiny", "features"),
        ("swin_t", "permute"),
        ("googlenet", "inception5b"),
        ("mnasnet0_5", "layers"),
    ],
)
def test_auto_is_what_people_choose_by_hand_on_torchvision_models(name: str, expected: str) -> None:
    models = pytest.importorskip("torchvision.models")
    options = {"init_weights": False} if name == "googlenet" else {}
    model = models.get_model(name, weights=None, **options).eval()
    size = 64 if name != "alexnet" else 96
    assert auto_layer(model, (torch.zeros(1, 3, size, size),)) == expected


def test_a_model_without_spatial_layers_says_so() -> None:
    with pytest.raises(LayerError, match="no module with a spatial output"):
        attrib.GradCAM(nn.Sequential(nn.Flatten(), nn.Linear(360, 5))).attribute(X, 1)


def test_a_layer_without_locations_says_so(net: Twice) -> None:
    with pytest.raises(LayerError, match=r"'fc' must be spatial, \(N, K, h, w\); it gives \(2, 5\)"):
        attrib.GradCAM(net, "fc").attribute(X, 1)


def test_a_layer_that_returns_a_tuple_says_so() -> None:
    class Pair(nn.Module):
        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            return x, x

    class Uses(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.pair = Pair()

        def forward(self, x: Tensor) -> Tensor:
            return self.pair(x)[0].mean((2, 3))

    with pytest.raises(LayerError, match="'pair' must give one Tensor; its output is a tuple"):
        attrib.GradCAM(Uses(), "pair").attribute(X, 1)


def test_a_layer_after_the_target_says_so(net: Twice) -> None:
    with pytest.raises(LayerError, match="must depend on layer 'body'"):
        attrib.Saliency(net, "body").attribute(X, "conv1:2")


def test_hiding_after_the_target_is_refused(net: Twice) -> None:
    with pytest.raises(LayerError, match="'body' must come before the target; it comes after relu#1"):
        attrib.Occlusion(net, "body").attribute(X, "relu#1:2")
    assert attrib.Occlusion(net, "relu#0").attribute(X, "relu#1:2").any()
    assert attrib.Occlusion(net, "conv2").attribute(X, "relu#1:2").any()
    assert attrib.Occlusion(net, "conv2").attribute(X, "conv2:2").any()


def test_compiled_and_parallel_models_are_unwrapped(net: Twice) -> None:
    expected = attrib.GuidedBackprop(net).attribute(X, 1)
    for wrapper in (torch.compile(net, backend="eager"), nn.DataParallel(net)):
        assert unwrap(wrapper) is net
        assert torch.equal(attrib.GuidedBackprop(wrapper).attribute(X, 1), expected)
        assert attrib.GradCAM(wrapper, "conv2").attribute(X, 1).shape == (2, 1, 12, 10)


def test_compiled_parts_of_a_model_run_eagerly_while_they_are_explained(net: Twice) -> None:
    expected = attrib.GuidedBackprop(net, "conv1").attribute(X, 1)
    part = copy.deepcopy(net)
    part.body = torch.compile(part.body, backend="eager")  # type: ignore[assignment]
    with torch.no_grad():
        part(X)  # warm: compiled code is used from now on
    torch.testing.assert_close(attrib.GuidedBackprop(part, "conv1").attribute(X, 1), expected)


def test_a_plain_function_has_gradients_but_no_layers(net: Twice) -> None:
    expected = attrib.Saliency(net).attribute(X, 1)
    assert torch.equal(attrib.Saliency(net.forward).attribute(X, 1), expected)
    with pytest.raises(LayerError, match="only in an nn"):
        attrib.GradCAM(net.forward).attribute(X, 1)
    with pytest.raises(LayerError, match="only in an nn"):
        attrib.GradCAM(net.forward, "conv1")


def test_the_layer_table_lists_calls_with_shapes(net: Twice) -> None:
    rows = {row.address: row for row in layer_table(net, X)}
    assert [row.address for row in layer_table(net, X)][:4] == ["conv1", "relu#0", "conv2", "relu#1"]
    assert rows["fc"].shape == (5,)
    assert not rows["fc"].spatial
    assert rows["pool"].pooled
    assert (rows["body"].shape, rows["body"].kind) == ((4, 12, 10), "Sequential")
    assert "unused" not in rows


def test_an_edit_replaces_the_activation_and_one_that_never_ran_is_refused(net: Twice) -> None:
    with torch.no_grad():
        with capture(net, edit={"body": torch.zeros_like}):
            edited = net(X)
        torch.testing.assert_close(edited, net.fc.bias.expand(2, 5))
        with pytest.raises(LayerError, match="'unused' did not run"), capture(net, edit={"unused": torch.zeros_like}):
            net(X)


def test_hooks_live_only_inside_the_block(net: Twice) -> None:
    def hooks() -> int:
        return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in net.modules())

    with capture(net, "conv1", "pool@input"):
        assert hooks() == 3  # and what the network is run on
    assert hooks() == 0
    with pytest.raises(ZeroDivisionError), capture(net, "conv1"):
        raise ZeroDivisionError
    assert hooks() == 0


def test_a_neuron_needs_a_map_or_a_vector() -> None:
    model = nn.Sequential(nn.Flatten(2), nn.Flatten(), nn.Linear(360, 5))
    with pytest.raises(LayerError, match=r"layer '0' must give \(N, K\), or have channels and locations"):
        attrib.Saliency(model).attribute(X, attrib.Neuron("0", 1))
    assert attrib.Saliency(model).attribute(X, attrib.Neuron("2", 1)).any()


def test_the_logit_space_asks_nothing_of_a_target_that_is_no_class(net: Twice) -> None:
    plain = attrib.Occlusion(net, window=4).attribute(X, "conv1:2")
    assert torch.equal(attrib.Occlusion(net, window=4, score="logit").attribute(X, "conv1:2"), plain)
    with pytest.raises(TargetError, match="must be asked of a class"):
        attrib.Occlusion(net, window=4, score="probability").attribute(X, "conv1:2")
