"""Explaining leaves no trace: flags, gradients, buffers, random state and the user's tensors are as they were."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import attrib
from attrib.core import frozen
from attrib.errors import ModelError

X = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))


class Restless(nn.Module):
    """Changes everything it can on each forward pass, and fails at a given one."""

    def __init__(self, fail_at: int | None = None) -> None:
        super().__init__()
        self.conv, self.bn = nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.drop, self.fc = nn.Dropout(0.5), nn.Linear(4, 5)
        self.register_buffer("seen", torch.zeros(()))
        self.register_buffer("replaced", torch.zeros(()))
        self.calls, self.fail_at = 0, fail_at

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        x -= 0.1  # its own input, in place
        self.seen += 1
        self.replaced = self.replaced + 1
        torch.rand(3)
        x = self.bn(self.conv(x)).relu_()
        if self.calls == self.fail_at:
            raise RuntimeError("boom")
        return self.fc(self.drop(x).mean((2, 3)))

    def train(self, mode: bool = True) -> Restless:
        if not mode:
            raise AssertionError("train() and eval() may be overridden to change weights: they are not called")
        return super().train(mode)


def state(model: nn.Module) -> dict[str, Any]:
    return {
        "modes": [m.training for m in model.modules()],
        "requires_grad": [p.requires_grad for p in model.parameters()],
        "grad": [None if p.grad is None else p.grad.clone() for p in model.parameters()],
        "hooks": [len(m._forward_hooks) + len(m._forward_pre_hooks) + len(m._backward_hooks) for m in model.modules()],
        "values": {k: v.clone() for k, v in model.state_dict().items()},
        "buffers": [id(b) for b in model.buffers()],
        "rng": torch.get_rng_state(),
        "grad mode": torch.is_grad_enabled(),
    }


def same(a: Any, b: Any) -> bool:
    if isinstance(a, Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(same(u, v) for u, v in zip(a, b, strict=True))
    return bool(a == b)


METHODS: dict[str, Callable[[nn.Module], attrib.Attribution]] = {
    "saliency": attrib.Saliency,
    "input_x_gradient": attrib.InputXGradient,
    "guided": attrib.GuidedBackprop,
    "deconvnet": attrib.Deconvnet,
    "gradcam": attrib.GradCAM,
    "guided_gradcam": attrib.GuidedGradCAM,
    "occlusion": lambda model: attrib.Occlusion(model, window=4, batch_size=4, exact_dense=True),  # it draws numbers
}


PASSES = {name: 1 for name in METHODS} | {"gradcam": 2, "guided_gradcam": 2, "occlusion": 3}  # at least


@pytest.fixture
def model() -> Iterator[Restless]:
    torch.manual_seed(1)
    model = Restless().train()
    model.bn.training = False  # a frozen part inside a model in training mode
    model.fc.weight.requires_grad_(False)
    model.conv.weight.grad = torch.ones_like(model.conv.weight)
    return model


@pytest.mark.parametrize("fail_at", [None, 1, 2, 3])
@pytest.mark.parametrize("name", METHODS)
def test_nothing_changes_whether_the_model_fails_or_not(model: Restless, name: str, fail_at: int | None) -> None:
    model.fail_at = fail_at
    x, before = X.clone(), state(model)
    fails = pytest.raises(ModelError, match="boom") if fail_at and fail_at <= PASSES[name] else nullcontext()
    with fails:
        METHODS[name](model).attribute(x, 1)
    assert [key for key, value in before.items() if not same(value, state(model)[key])] == []
    assert torch.equal(x, X)
    assert not x.requires_grad
    assert x.grad is None


def test_the_users_own_input_gradient_survives(model: Restless) -> None:
    x = X.clone().requires_grad_(True)
    x.grad = torch.ones_like(x)
    attrib.Saliency(model).attribute(x, 1)
    assert x.requires_grad
    assert torch.equal(x.grad, torch.ones_like(x))


def test_a_model_in_training_mode_is_explained_in_evaluation_mode(model: Restless) -> None:
    trained = attrib.Saliency(model).attribute(X, 1)
    model.drop.training = False
    assert torch.equal(trained, attrib.Saliency(model).attribute(X, 1))


def test_it_works_under_no_grad_and_says_why_not_under_inference_mode(model: Restless) -> None:
    expected = attrib.Saliency(model).attribute(X, 1)
    with torch.no_grad():
        assert torch.equal(attrib.Saliency(model).attribute(X, 1), expected)
    with torch.inference_mode():
        made_there = X.clone()
        with pytest.raises(ModelError, match="inference_mode"):
            attrib.Saliency(model).attribute(X, 1)
    assert torch.equal(attrib.Saliency(model).attribute(made_there, 1), expected)


def test_other_exceptions_of_the_model_come_through_as_they_are() -> None:
    class Odd(Exception):
        pass

    class Bad(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            raise Odd

    with pytest.raises(Odd):
        attrib.Saliency(Bad()).attribute(X, 1)


def test_a_bound_method_freezes_its_module(model: Restless) -> None:
    with frozen(model.forward):
        assert not any(m.training for m in model.modules())
    assert model.training


def test_a_detached_model_says_that_there_is_no_gradient() -> None:
    class Detached(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.detach().mean((2, 3))

    with pytest.raises(ModelError, match="must depend differentiably on the inputs"):
        attrib.Saliency(Detached()).attribute(X, 1)


def test_a_map_that_is_not_finite_is_an_error() -> None:
    class Root(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return (x * 0).sqrt().mean((2, 3))

    with pytest.raises(ModelError, match="NaN or infinite"):
        attrib.Saliency(Root()).attribute(X, 1)


@pytest.mark.parametrize("name", METHODS)
def test_maps_keep_the_dtype_of_the_inputs_under_autocast(model: Restless, name: str) -> None:
    with torch.autocast("cpu", torch.bfloat16):
        assert METHODS[name](model).attribute(X, 1).dtype == torch.float32
