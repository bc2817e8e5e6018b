"""Compiled and scripted models, and weights made in inference mode: they are explained, or refused in words."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from copy import deepcopy
from functools import cache

import pytest
import torch
from torch import Tensor, nn

import attrib
from attrib.core import capture, frozen
from attrib.errors import InputError, LayerError, ModelError
from attrib.registry import METHODS
from tests.test_frozen import same, state

X = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
SMALL: dict[str, dict[str, object]] = {
    "occlusion": {"window": 8},
    "rise": {"n": 4, "cells": 3},
    "feature_ablation": {"feature_mask": torch.arange(256).reshape(1, 1, 16, 16) // 64},
    "integrated_gradients": {"n_steps": 4},
}
NEED_NO_HOOK = ["saliency", *SMALL]
NEED_HOOKS = ["cam", "deeplift", "excitation_backprop", "gradcam", "lrp", "scorecam"]


def method(name: str, model: nn.Module) -> attrib.Attribution:
    return METHODS[name](model, **SMALL.get(name, {}))


def make() -> nn.Sequential:
    torch.manual_seed(0)
    first, last = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 8, 3, padding=1)
    head = nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5)
    return nn.Sequential(first, nn.ReLU(), nn.MaxPool2d(2), last, nn.BatchNorm2d(8), nn.ReLU(), *head).eval()


def frozen_for_good(model: nn.Module) -> nn.Module:
    made: nn.Module = torch.jit.freeze(torch.jit.script(model))
    return made


def traced(model: nn.Module) -> nn.Module:
    made: nn.Module = torch.jit.trace(model, X)
    return made


SCRIPTS: dict[str, Callable[[nn.Module], nn.Module]] = {
    "scripted": torch.jit.script,
    "frozen for good": frozen_for_good,
    "traced": traced,
}


def quietly(kind: str, model: nn.Module) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit is deprecated in some versions of torch and Python
        return SCRIPTS[kind](model)


@cache
def script(kind: str) -> nn.Module:
    return quietly(kind, make())


RUNS: list[None] = []  # of compiled code


def counting(graph: nn.Module, _: object) -> Callable[..., object]:
    """A backend of `torch.compile`."""

    def run(*args: object) -> object:
        RUNS.append(None)
        return graph.forward(*args)

    return run


class CompiledForward(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = make()

    @torch.compile(backend=counting)
    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


class Around(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = make()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.net(x)
        return out


def compiled_in_place() -> nn.Module:
    model = Around().eval()
    model.compile(backend=counting)
    return model


@pytest.mark.parametrize("compiled", [compiled_in_place, lambda: CompiledForward().eval()])
def test_compiled_code_is_explained_as_it_was_written_and_compiled_again_afterwards(
    compiled: Callable[[], nn.Module],
) -> None:
    model, before = compiled(), len(RUNS)
    model(X)  # it is compiled here
    runs = len(RUNS)
    for name in ("gradcam", "scorecam", "guided"):
        torch.testing.assert_close(method(name, model).attribute(X, 3), method(name, make()).attribute(X, 3))
    with capture(model, "net.3") as acts:
        model(X)
    assert acts["net.3"].shape == (2, 8, 8, 8)
    assert len(attrib.layer_table(model, X)) >= len(make())
    assert len(RUNS) == runs > before
    model(X)
    assert len(RUNS) > runs


class Inferred(nn.Module):
    """Made in inference mode, with a buffer outside of it that each pass changes."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("seen", torch.zeros(()))
        with torch.inference_mode():
            self.net = make()

    def forward(self, x: Tensor) -> Tensor:
        self.seen += 1
        return self.net(x)


@pytest.mark.parametrize("name", ["cam", "feature_ablation", "occlusion", "rise"])
def test_methods_without_gradient_explain_weights_of_inference_mode_and_leave_no_trace(name: str) -> None:
    model = Inferred()
    before = state(model)
    torch.testing.assert_close(method(name, model).attribute(X, 3), method(name, make()).attribute(X, 3))
    assert [key for key, value in before.items() if not same(value, state(model)[key])] == []


def test_methods_with_gradient_say_what_to_do_about_weights_of_inference_mode_and_leave_no_trace() -> None:
    model = Inferred()
    before = state(model)
    with pytest.raises(ModelError, match=r"made under torch.inference_mode.*copy.deepcopy\(model\)"):
        attrib.Saliency(model).attribute(X, 3)
    assert [key for key, value in before.items() if not same(value, state(model)[key])] == []
    expected = attrib.Saliency(make()).attribute(X, 3)
    torch.testing.assert_close(attrib.Saliency(deepcopy(model)).attribute(X, 3), expected)


def changed(model: nn.Module) -> None:
    for name in ("seen", "last"):
        model.get_buffer(name).add_(1)
    model.get_buffer("shrunk").resize_(1)


def test_what_can_be_put_back_is_put_back_though_something_else_cannot() -> None:
    model = nn.Sequential(make()).train()
    model.register_buffer("seen", torch.zeros(2))
    model.register_buffer("shrunk", torch.zeros(2))
    model.register_buffer("last", torch.zeros(2))
    with pytest.raises(RuntimeError, match="shape"), frozen(model):
        changed(model)
    assert model.training
    assert all(weight.requires_grad for weight in model.parameters())
    assert [model.get_buffer(name).sum().item() for name in ("seen", "last")] == [0, 0]


@pytest.mark.parametrize("kind", SCRIPTS)
@pytest.mark.parametrize("name", NEED_NO_HOOK)
def test_scripted_models_are_explained_by_methods_that_need_no_hook(name: str, kind: str) -> None:
    torch.testing.assert_close(method(name, script(kind)).attribute(X, 3), method(name, make()).attribute(X, 3))


@pytest.mark.parametrize("kind", SCRIPTS)
@pytest.mark.parametrize("name", NEED_HOOKS)
def test_methods_that_need_hooks_refuse_scripted_models_in_words(name: str, kind: str) -> None:
    with pytest.raises((LayerError, ModelError), match=r"hooks\. Pass the module that it was made of"):
        method(name, script(kind)).attribute(X, 3)


def test_a_scripted_part_is_left_out_where_layers_are_looked_for_and_refused_where_it_is_named() -> None:
    model, whole = make(), make()
    model[3] = quietly("scripted", model[3])
    for name in ("gradcam", "cam", "eigencam"):
        torch.testing.assert_close(method(name, model).attribute(X, 3), method(name, whole).attribute(X, 3))
    with pytest.raises(LayerError, match="layer '3' must run in Python; it is scripted or traced"):
        attrib.GradCAM(model, "3").attribute(X, 3)
    assert not any(part._forward_hooks for part in model.modules() if not isinstance(part, torch.jit.ScriptModule))


def without_statistics() -> nn.Sequential:
    model = make()
    model[4] = nn.BatchNorm2d(8, track_running_stats=False).eval()
    return model


@pytest.mark.parametrize("name", ["gradcam", "integrated_gradients", "occlusion", "saliency"])
def test_examples_that_would_change_each_others_scores_are_refused(name: str) -> None:
    with pytest.raises(ModelError, match=r"'4' has none \(track_running_stats=False\).*pass one example"):
        method(name, without_statistics()).attribute(X, 3)


def test_one_example_at_a_time_needs_no_running_statistics() -> None:
    model = without_statistics()
    saliency, occlusion = attrib.Saliency(model), attrib.Occlusion(model, window=8, batch_size=1)
    for one in (saliency, occlusion):
        assert one.attribute(X[:1], 3).abs().sum() > 0
    with pytest.raises(ModelError, match="batch_size=1"):
        attrib.Occlusion(model, window=8, batch_size=4).attribute(X[:1], 3)


def test_a_batch_in_training_mode_is_the_users_own_choice() -> None:
    assert len(attrib.layer_table(without_statistics().train(), X)) == len(make())


def test_weights_on_the_meta_device_and_weights_that_are_not_there_yet_are_refused_in_words() -> None:
    with pytest.raises(ModelError, match="meta is not on the expected device"):
        attrib.Saliency(make().to("meta")).attribute(X, 3)
    lazy = nn.Sequential(nn.LazyConv2d(4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    with pytest.raises(ModelError, match=r"those of a LazyConv2d are made in its first forward pass\. Run the model"):
        attrib.Saliency(lazy).attribute(X, 3)
    assert type(lazy[0]) is nn.LazyConv2d


@pytest.mark.parametrize(
    ("x", "kind"),
    [
        (X.to("meta"), "without values, on the meta device"),
        (X.to_sparse(), "torch.sparse_coo"),
        (torch.nested.nested_tensor([X[0], X[1, :, :8]], layout=torch.jagged), "nested"),
    ],
)
def test_inputs_that_are_not_dense_are_refused_in_words(x: Tensor, kind: str) -> None:
    with pytest.raises(InputError, match=f"^inputs must be dense tensors with values; got one that is {kind}"):
        attrib.Saliency(make()).attribute(x, 3)


class Failing(nn.Module):
    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error

    def forward(self, x: Tensor) -> Tensor:
        raise self.error


@pytest.mark.parametrize(
    "error",
    [AssertionError("Guard failed"), AttributeError("no"), IndexError(), KeyError("key"), TypeError("3"), ValueError()],
)
def test_a_usual_error_of_the_model_is_told_with_its_kind_and_inputs_and_as_the_cause(error: Exception) -> None:
    kind = type(error).__name__
    with pytest.raises(ModelError, match=rf"inputs \(2, 3, 16, 16\) torch.float32 on cpu: {kind}: ") as caught:
        attrib.Saliency(Failing(error)).attribute(X, 3)
    assert caught.value.__cause__ is error


class Registering(nn.Module):
    """Has a buffer from its first pass on, and remembers that it has it."""

    def __init__(self) -> None:
        super().__init__()
        self.net, self.ready = make(), False

    def forward(self, x: Tensor) -> Tensor:
        if not self.ready:
            self.register_buffer("mean", x.detach().mean((0, 2, 3), keepdim=True))
            self.ready = True
        return self.net(x - self.mean)


def test_a_buffer_that_the_model_registers_stays_so_that_it_can_run_again() -> None:
    model = Registering()
    first = attrib.Saliency(model).attribute(X, 3)
    torch.testing.assert_close(attrib.Saliency(model).attribute(X, 3), first)
