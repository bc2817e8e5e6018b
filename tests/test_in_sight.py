"""FullGrad reads every bias, or refuses the network: code that runs out of its sight is found in the graph."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import torch.utils.checkpoint
from torch import Tensor, nn

import attrib
from attrib.core.relevance.biases import biases
from attrib.errors import RuleError
from tests.conventions import pins

X = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))


class Net(nn.Module):
    """Two convolutions, the second of which is a part of its own."""

    def __init__(self, act: Callable[[Tensor], Tensor] = torch.relu, bias: bool = True) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.act = nn.Conv2d(3, 4, 3), act
        self.part: Any = nn.Sequential(nn.Conv2d(4, 4, 3, bias=bias), nn.ReLU())
        self.norm, self.fc = nn.BatchNorm2d(4), nn.Linear(4, 5)
        self.norm.running_mean = torch.rand(4)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.fc(self.norm(self.part(self.act(self.first(x)))).mean((2, 3)))
        return out


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """Torch says that scripts and traces are old; such models still exist."""
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter("ignore")
        yield


class Through(nn.Module):
    """A function as a module."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def parted(make: Callable[[nn.Module], Any], **how: Any) -> nn.Module:
    net = Net(**how).eval()
    net.part = make(net.part)
    return net


def lowered(part: nn.Module) -> Any:
    """As exported programs are after they were decomposed."""
    weight, bias = list(part.parameters())
    how = ([1, 1], [0, 0], [1, 1], False, [0, 0], 1)
    return lambda x: torch.ops.aten.convolution.default(x, weight, bias, *how)


def warmed(part: nn.Module) -> Any:
    scripted = torch.jit.script(part)
    for _ in range(4):
        scripted(torch.rand(2, 4, 6, 6, requires_grad=True)).sum().backward()
    return scripted


def checkpointed(part: nn.Module) -> nn.Module:
    plain = part.forward
    part.forward = lambda x: torch.utils.checkpoint.checkpoint(plain, x, use_reentrant=True)  # type: ignore[method-assign]
    return part


def traced(act: Callable[[Tensor], Tensor]) -> Any:
    return torch.jit.trace(act, torch.rand(2, 4, 6, 6))


HIDDEN: dict[str, Callable[[], nn.Module]] = {
    "traced": lambda: torch.jit.trace(Net().eval(), X),
    "scripted part": lambda: parted(torch.jit.script),
    "scripted part that torch has fused": lambda: parted(warmed),
    "traced part": lambda: parted(lambda part: torch.jit.trace(part, torch.rand(2, 4, 6, 6))),
    "checkpointed part": lambda: parted(checkpointed),
    "operators of a part that was lowered": lambda: parted(lambda part: Through(lowered(part))),
    "traced activation": lambda: Net(traced(lambda z: z * torch.sigmoid(z))).eval(),
    "traced constant": lambda: Net(traced(lambda z: z + 1)).eval(),
}


@pins("fullgrad", "all biases are read, or a RuleError is raised")
@pytest.mark.parametrize("name", HIDDEN)
def test_biases_out_of_sight_are_refused(name: str) -> None:
    with pytest.raises(RuleError, match="every operation that may add a bias must be seen"):
        attrib.FullGrad(HIDDEN[name]()).attribute(X, 3)


SEEN: dict[str, Callable[[], nn.Module]] = {
    "exported": lambda: torch.export.export(Net(F.relu6).eval(), (X,)).module(),
    "symbolically traced": lambda: torch.fx.symbolic_trace(Net(F.relu6).eval()),
    "scripted part without a bias": lambda: parted(torch.jit.script, bias=False, act=F.relu6),
    "traced rectifier": lambda: Net(traced(torch.relu)).eval(),
}


@pytest.mark.parametrize("name", SEEN)
def test_what_is_seen_or_adds_nothing_is_read_as_in_plain_code(name: str) -> None:
    plain = Net(torch.relu if "rectifier" in name else F.relu6, bias="without" not in name).eval()
    found, expected = (attrib.FullGrad(net).decompose(X, 3) for net in (SEEN[name](), plain))
    assert list(found.biases) == list(expected.biases)
    torch.testing.assert_close(found.total, found.score)
    torch.testing.assert_close(attrib.FullGrad(SEEN[name]()).attribute(X, 3), attrib.FullGrad(plain).attribute(X, 3))


def test_what_a_target_adds_is_no_part_of_the_network() -> None:
    net = Net().eval()
    found = attrib.FullGrad(net).decompose(X, lambda out: (out + 1).clamp(-9, 9)[:, 3].sigmoid())
    assert list(found.biases) == list(attrib.FullGrad(net).decompose(X, 3).biases)


CALLS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "torch.batch_norm": lambda x, b: torch.batch_norm(x, 2 * b, b, b, b.abs() + 1, False, 0.1, 1e-5, False),
    "torch.instance_norm": lambda x, b: torch.instance_norm(x, None, b, None, None, True, 0.1, 1e-5, False),
    "addmm": lambda x, b: torch.addmm(b, x, torch.ones(4, 4), beta=3),
    "baddbmm": lambda x, b: torch.baddbmm(b.expand(2, 1, 4), x[:, None], torch.ones(2, 4, 4)),
    "addmm by name": lambda x, b: torch.addmm(input=b, mat1=x, mat2=torch.ones(4, 4)),
}


@pytest.mark.parametrize("name", CALLS)
def test_biases_of_torchs_own_functions_are_what_they_give_for_nothing(name: str) -> None:
    shape = (2, 4, 5) if "instance" in name else (2, 4)
    x, bias = torch.rand(shape, requires_grad=True), torch.tensor([1.0, -2.0, 3.0, 0.5])
    with biases() as seen:
        out = CALLS[name](x, bias)
    (found,) = seen.found
    nothing = bias[:, None] if "instance" in name else CALLS[name](torch.zeros(shape), bias)
    torch.testing.assert_close(found.value.expand(out.shape), nothing.expand(out.shape))
