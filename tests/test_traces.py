"""The traces that the contract compares show every change of a model, a tensor and the process."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from attrib.testing.probes import ProbeNet, in_use
from attrib.testing.traces import ModelTrace, ProcessTrace, TensorTrace


def swap_relu(model: Any) -> None:
    model.relu = nn.ReLU(inplace=True)


def flip_inplace(model: Any) -> None:
    model.relu.inplace = False


def replace_forward(model: Any) -> None:
    model.conv.forward = lambda x: x


def new_parameter(model: Any) -> None:
    model.conv.weight = nn.Parameter(model.conv.weight.detach())


def train(model: Any) -> None:
    model.norm.train(not model.norm.training)


def other_statistics(model: Any) -> None:
    model.norm.running_mean += 1


def set_gradient(model: Any) -> None:
    model.conv.weight.grad = torch.zeros_like(model.conv.weight)


def hook_parameter(model: Any) -> None:
    model.conv.weight.register_hook(lambda g: g)


def hook_backward(model: Any) -> None:
    model.conv.register_full_backward_hook(lambda *_: None)


def add_module(model: Any) -> None:
    model.extra = nn.Identity()


@pytest.mark.parametrize(
    "change",
    [swap_relu, flip_inplace, replace_forward, new_parameter, train, other_statistics, set_gradient, hook_parameter,
     hook_backward, add_module],
)  # fmt: skip
def test_a_trace_shows_each_change_of_a_model(change: Callable[[Any], None]) -> None:
    model = in_use(ProbeNet())
    trace = ModelTrace(model)
    assert trace.changes() == []
    change(model)
    assert trace.changes() != []


def test_a_trace_shows_each_change_of_the_process() -> None:
    trace = ProcessTrace()
    with torch.random.fork_rng(devices=[]):
        torch.rand(1)
        assert trace.changes() == ["torch's random state changed"]
    state = np.random.get_state()  # noqa: NPY002
    np.random.rand()  # noqa: NPY002
    assert trace.changes() == ["NumPy's random state changed"]
    np.random.set_state(state)  # noqa: NPY002
    with torch.no_grad():
        assert trace.changes() == ["grad mode changed"]
    handle = nn.modules.module.register_module_forward_hook(lambda *_: None)
    assert trace.changes() == ["global module hooks changed"]
    handle.remove()
    assert trace.changes() == []


def test_a_trace_shows_each_change_of_a_tensor() -> None:
    x = torch.ones(2)
    trace = TensorTrace(x)
    x.requires_grad_(True)
    assert trace.changes() == ["requires_grad changed"]
    x.requires_grad_(False)
    x[0] = 2
    assert trace.changes() == ["values changed"]
