"""Targets and inputs that cannot be meant are refused with a message that names the remedy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import attrib
from attrib import Channel, ClassScore, GradCAM, Neuron, Occlusion, Predicted, Saliency
from attrib.core import Objective, as_objective
from attrib.errors import InputError, LayerError, ModelError, ShapeError, TargetError
from tests import nets

X = nets.batch(2, 8, 6)
NET = nets.make("module")
PIXELS = nets.fill(nn.Conv2d(3, 4, 3, padding=1))  # (N, 4, 8, 6): a segmentation


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (99, r"target must lie in \[0, 4\] for a model with 5 outputs; got 99. Pass 'predicted'"),
        ([0, -1], r"target must lie in \[0, 4\] .* got -1"),
        ([0, 1, 2], r"one entry per example \(N=2\); got 3"),
        (None, r"target is required for a model with outputs of shape \(2, 5\)"),
        (True, "got the boolean True. Use int"),
        ([0, True], r"got a boolean in \[0, True\]"),
        (torch.tensor([True, False]), "got dtype torch.bool"),
        (np.array([0.5, 1.0]), "got dtype torch.float64. Convert one-hot rows with .argmax"),
        (torch.eye(5)[:2].long(), "target must|target tensor must"),
        ([0, 1.5], r"whole numbers; got 1.5 in \[0, 1.5\]"),
        ([], r"one entry per example; got \[\]"),
        ([(0, 1), (2,)], "positions of one length"),
        ((1, 2, 3), r"target must give one index for outputs of shape \(2, 5\); got 3"),
        ("cat", "'predicted', 'layer:channel', 'layer:channel,y,x' or 'layer:channel:how' with .* got 'cat'"),
        ("pool:1:median", "mean, sum, max or strongest; got 'pool:1:median'"),
        ("pool:1,2,2:max", "mean, sum, max or strongest; got 'pool:1,2,2:max'"),
        ("pool:1,,2", "mean, sum, max or strongest; got 'pool:1,,2'"),
        (":1", "mean, sum, max or strongest; got ':1'"),
        ("3", "For class 3 pass the number 3, not a string"),
        ("pool:1,2", r"place must have a number for each of 2 axes of layer 'pool', \(4, 3\); got 1"),
        ("pool:1,", "mean, sum, max or strongest; got 'pool:1,'"),
        ("pool:99", r"channel must lie in \[0, 3\] for layer 'pool'; got 99"),
        ("pool:1,4,0", r"y must lie in \[0, 3\] for layer 'pool'"),
        (object(), "a class index, a list, tuple, array or tensor"),
        (lambda out: 3.0, r"a callable target must return a Tensor of shape \(N,\); got float"),
        (lambda out: out, r"must return a Tensor of shape \(N,\); got \(2, 5\)"),
        (lambda out: out[:1, 0], r"one number per example, shape \(2,\); got \(1,\)"),
        (Neuron("fc", 1, 0, 0), "layer 'fc' must have locations for a place"),
    ],
)
def test_a_target_that_cannot_be_meant_is_refused(target: Any, message: str) -> None:
    for method in (Saliency(NET), Occlusion(NET)):
        with pytest.raises((TargetError, ShapeError), match=message):
            method.attribute(X, target)


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (3, r"target must give 3 indices for outputs of shape \(2, 4, 8, 6\); got 1"),
        ((3, 8, 0), r"target must lie in \[0, 7\]"),
        ("predicted", r"'predicted' needs an output of shape \(N, C\)"),
    ],
)
def test_a_pixel_of_a_segmentation_needs_a_full_position(target: Any, message: str) -> None:
    with pytest.raises(TargetError, match=message):
        Saliency(PIXELS).attribute(X, target)


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("pool:1", Channel("pool", 1)),
        ("pool:1:mean", Channel("pool", 1)),
        ("pool:1:sum", Channel("pool", 1, "sum")),
        ("pool:1:max", Channel("pool", 1, "max")),
        ("pool:1:strongest", Neuron("pool", 1)),
        ("pool: 1, 2, 0", Neuron("pool", 1, 2, 0)),
    ],
)
def test_a_text_says_what_of_a_channel_is_explained(text: str, same: Objective) -> None:
    assert torch.equal(Occlusion(NET, window=3).attribute(X, text), Occlusion(NET, window=3).attribute(X, same))
    assert type(as_objective(text)) is type(same)


def test_positions_may_be_given_for_each_example_as_a_tensor() -> None:
    positions = torch.tensor([[1, 5, 2], [0, 3, 3]])
    by_list = Saliency(PIXELS).attribute(X, [(1, 5, 2), (0, 3, 3)])
    assert torch.equal(Saliency(PIXELS).attribute(X, ClassScore(positions)), by_list)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: ClassScore(1, "odds"), "score space must be one of .*; got 'odds'. Did you mean 'log_odds'"),  # type: ignore[arg-type]
        (lambda: Predicted("odds"), "score space must be one of"),  # type: ignore[arg-type]
        (lambda: Channel("conv2", 1, "median"), "reduce must be one of"),  # type: ignore[arg-type]
        (lambda: Channel("conv2", -1), "channel must be an integer >= 0; got -1"),
        (lambda: Neuron("conv2", 1.5), "channel must be an integer >= 0; got 1.5"),  # type: ignore[arg-type]
        (lambda: Neuron("conv2", 1, y=2), "both y and x, or neither; got y=2, x=None"),
        (lambda: Neuron("conv2", 1, 1.5, 2), "y must hold whole numbers; got 1.5"),  # type: ignore[arg-type]
        (lambda: Neuron("conv2", 1, 2, True), "x must hold whole numbers; got True"),
        (lambda: 2 * ClassScore(1) * float("nan"), "objective factor must be a finite number"),
        (lambda: ClassScore(1) * ClassScore(2), "objective factor must be a finite number"),  # type: ignore[operator]
        (lambda: Channel("conv2", 1).in_space("probability"), "'probability' must be asked of a class; got Channel"),
    ],
)
def test_an_objective_that_makes_no_sense_cannot_be_built(build: Any, message: str) -> None:
    with pytest.raises((InputError, TargetError), match=message):
        build()


@pytest.mark.parametrize("other", [3, 1.0, None, "predicted"])
def test_an_objective_adds_only_to_objectives(other: Any) -> None:
    for combine in (lambda: ClassScore(1) + other, lambda: ClassScore(1) - other, lambda: other + ClassScore(1)):
        with pytest.raises(TypeError, match=r"unsupported operand|can only concatenate"):
            combine()


def test_a_list_of_places_must_fit_the_batch() -> None:
    with pytest.raises(TargetError, match="one entry per example"):
        Saliency(NET).attribute(X, Neuron("conv2", 1, torch.tensor([0, 1, 2]), torch.tensor([0, 1, 2])))


def test_a_bound_goal_refuses_another_batch() -> None:
    bound = ClassScore(torch.tensor([1, 2])).bind(NET(X), {})
    with pytest.raises(TargetError, match="got 2 entries for 4 examples"):
        bound(NET(torch.cat([X, X])), {})


def test_an_unbound_goal_answers_as_if_it_were_bound() -> None:
    out = NET(X).detach()
    acts = {"conv2": NET.conv2(NET.pool(NET.act1(NET.conv1(X)))).detach()}
    for goal in (ClassScore(2), ClassScore(2, "log_odds"), Predicted(), Neuron("conv2", 1), Neuron("conv2", 1, 0, 2)):
        assert torch.equal(goal(out, acts), goal.bind(out, acts)(out, acts))


@pytest.mark.parametrize("space", ["probability", "log_odds"])
def test_a_sum_takes_its_score_space_to_its_parts(space: Any) -> None:
    out = NET(X).detach()
    goal = (ClassScore(1) - 2 * Predicted()).in_space(space)
    expected = ClassScore(1, space)(out, {}) - 2 * Predicted(space)(out, {})
    torch.testing.assert_close(goal.bind(out, {})(out, {}), expected)


def test_the_target_none_reads_one_number_per_example() -> None:
    for one in (nn.Flatten(0), nn.Identity()):
        model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 6, 1), one)
        assert torch.equal(Saliency(model).attribute(X), Saliency(model).attribute(X, lambda out: out.reshape(-1)))
    assert type(as_objective(None)).__name__ == "Output"


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ((), "a Tensor or a non-empty tuple of Tensors; got ()"),
        (X.numpy(), "got ndarray. Convert it with torch.from_numpy"),
        (X.int(), "floating point; got torch.int32"),
        (X[0], r"\(N, C, H, W\); got \(3, 8, 6\). One image needs a batch axis"),
        (X[:0], "no empty axis"),
        (X / 0, "must be finite; got 288 NaN or infinite values of 288"),
        ((X, X[:1]), r"share one batch size; got \[2, 1\]"),
        (X.double(), r"the model failed on inputs \(2, 3, 8, 6\) torch.float64"),
        (X[:, :2], r"the model failed on inputs \(2, 2, 8, 6\)"),
    ],
)
def test_inputs_that_cannot_be_meant_are_refused(inputs: Any, message: str) -> None:
    for method in (Saliency(NET), GradCAM(NET, "conv2")):
        with pytest.raises((InputError, ModelError), match=message):
            method.attribute(inputs, 2)


@pytest.mark.parametrize("method", [GradCAM, attrib.GuidedGradCAM])
def test_a_method_of_one_picture_refuses_two(method: Any) -> None:
    model = nets.fill(nets.TwoInputs())
    with pytest.raises(ShapeError, match=r"this method explains one input; got 2\. Pass the rest as additional"):
        method(model, "left.conv2", **({"upsample": True} if method is GradCAM else {})).attribute((X, X), 2)


def test_a_model_must_be_callable_and_a_layer_needs_a_module() -> None:
    with pytest.raises(InputError, match=r"model must be an nn\.Module or a callable; got 'resnet18'"):
        Saliency("resnet18")  # type: ignore[arg-type]
    with pytest.raises(LayerError, match=r"only in an nn\.Module"):
        Saliency(lambda x: x.mean((2, 3)), "conv")
    with pytest.raises(LayerError, match=r"only in an nn\.Module"):
        GradCAM(lambda x: x.mean((2, 3))).attribute(X, 0)


def test_a_second_input_that_is_not_used_gets_zeros_and_a_model_that_uses_none_is_refused() -> None:
    def first_only(x: Tensor, y: Tensor) -> Tensor:
        return x.mean((2, 3))

    used, unused = Saliency(first_only).attribute((X, X), 1)
    assert (bool(used.any()), bool(unused.any())) == (True, False)
    weight = torch.ones(2, 5, requires_grad=True)
    with pytest.raises((LayerError, ModelError), match="depend"):
        Saliency(lambda x: weight * 2).attribute(X, 1)


def test_a_target_in_a_layer_that_does_not_exist_is_told_as_a_layer_is() -> None:
    for target in ("conv9:1", Channel("conv9", 1), Neuron("conv9", 1, 0, 0)):
        with pytest.raises(LayerError, match=r"has no layer 'conv9'\. Did you mean 'conv2'"):
            Saliency(NET).attribute(X, target)


def test_what_captum_leaves_open_is_left_open() -> None:
    with pytest.raises(NotImplementedError, match="attribute_future is not implemented for Saliency"):
        Saliency(NET).attribute_future()
