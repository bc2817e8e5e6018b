"""Backward passes that fail, or find no graph, are told in words; and branches that no gradient reaches pass."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import torch.utils.checkpoint
from torch import Tensor, nn

import attrib
from attrib.core import Attribution
from attrib.errors import ModelError, RuleError
from tests import nets

SEARCHES: dict[str, dict[str, Any]] = {
    "meaningful_perturbation": {"steps": 2},
    "extremal_perturbation": {"steps": 2, "areas": 0.2},
}


def net(act: Callable[[Tensor], Tensor]) -> nn.Module:
    """A convolution, ``act``, a mean and a linear layer, of weights that are always the same."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.last, self.fc = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 1), nn.Linear(4, 5)

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.fc(torch.relu(self.last(act(self.conv(x)))).mean((2, 3)))
            return out

    return nets.fill(Net()).float().eval()


class Undifferentiable(nn.Module):
    """A network whose output has no graph, as that of quantised ones."""

    def __init__(self) -> None:
        super().__init__()
        self.net = net(torch.relu)

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.net(x)
        return out


class Elsewhere(Undifferentiable):
    """The same, with a graph that leads to something else than the input."""

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = super().forward(x) * torch.ones((), requires_grad=True)
        return out


X = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("model", [Undifferentiable, Elsewhere])
@pytest.mark.parametrize("name", ["saliency", "fullgrad", *SEARCHES])
def test_a_score_that_no_graph_leads_from_is_refused(name: str, model: type[nn.Module]) -> None:
    method = attrib.METHODS[name](model().eval(), **SEARCHES.get(name, {}))
    with pytest.raises(ModelError, match="must depend differentiably on the inputs; no graph leads there"):
        method.attribute(X, 3)


@pytest.mark.parametrize("name", ["saliency", "guided", "fullgrad", *SEARCHES])
def test_an_operation_without_a_derivative_is_told_as_the_models(name: str) -> None:
    model = net(lambda z: F.relu(z) * torch.heaviside(z, torch.zeros(())))
    with pytest.raises(ModelError, match="backward pass failed: derivative for aten::heaviside is not implemented"):
        attrib.METHODS[name](model, **SEARCHES.get(name, {})).attribute(X, 3)


@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize("layer", ["conv", "last"])
def test_checkpointing_that_stands_in_the_way_is_to_be_turned_off(reentrant: bool, layer: str) -> None:
    model = net(torch.relu)
    within: Any = model.last if layer == "last" else model.conv
    forward = within.forward
    within.forward = lambda x: F.silu(forward(x))
    plain = model.forward

    def checkpointed(x: Tensor) -> Tensor:
        out: Tensor = torch.utils.checkpoint.checkpoint(plain, x, use_reentrant=reentrant)
        return out

    model.forward = checkpointed  # type: ignore[method-assign]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch says that no input of the checkpoint needs a gradient
        with pytest.raises(ModelError, match=r"set_grad_checkpointing\(False\)|reentrant checkpoint"):
            attrib.GradCAM(model, layer).attribute(X, 3)


class Blocked(torch.autograd.Function):
    """A step that passes its input, and no gradient."""

    @staticmethod
    def forward(_ctx: Any, x: Tensor) -> Tensor:
        return x.sign()

    @staticmethod
    def backward(_ctx: Any, _grad: Tensor) -> None:
        return None


@pytest.mark.parametrize("method", [attrib.GuidedBackprop, attrib.Deconvnet])
def test_a_rectifier_that_no_gradient_reaches_passes_none(method: Callable[..., Attribution]) -> None:
    with pytest.warns(UserWarning, match="left 1 Blocked alone"):
        found = method(net(_beside)).attribute(X, 3)
    torch.testing.assert_close(found, method(net(torch.relu)).attribute(X, 3))
    with (
        pytest.warns(UserWarning, match="left 1 Blocked alone"),
        pytest.raises(ModelError, match="must depend differentiably on the inputs"),
    ):
        method(net(lambda z: Blocked.apply(torch.relu(z)))).attribute(X, 3)


def _beside(z: Tensor) -> Tensor:
    """A rectifier, with one beside it whose gradient ends; what it adds is 0."""
    return torch.relu(z) + 0 * Blocked.apply(torch.relu(z))


def test_scripted_rectifiers_are_seen_after_torch_has_fused_them() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit.script says so; scripted models still exist
        scripted = torch.jit.script(nn.Sequential(nn.ReLU(), nn.Hardtanh(-1.0, 1.0)))
    model = net(scripted)
    for _ in range(4):
        model(X.clone().requires_grad_(True)).sum().backward()
    with pytest.raises(RuleError, match="1 compiled region did not"):
        attrib.GuidedBackprop(model).attribute(X, 3)
