"""Models that cannot be replayed, or look as if they could not: never silently wrong."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attrib.core import Windows
from tests import nets
from tests.architectures import Block, same
from tests.incremental import agrees, ask, watched

SIZE = (20, 18)
MASKS = Windows(SIZE, (3, 3), (3, 3))


def image(n: int = 2, dtype: Any = torch.float64) -> Tensor:
    return nets.batch(n, *SIZE, dtype=dtype)


class Net(nn.Module):
    """Convolution, ``body(self, x)``, head."""

    def __init__(self, body: Callable[[Any, Tensor], Tensor], **layers: nn.Module) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.fc = nn.Linear(4, nets.CLASSES)
        self.body = Block(body, **layers)

    def forward(self, x: Tensor) -> Any:
        return self.head(self.body(self.stem(x)))

    def head(self, x: Tensor) -> Tensor:
        out: Tensor = self.fc(x.mean((2, 3)))
        return out


def _caught(s: Any, x: Tensor) -> Tensor:
    try:
        scale = float(x.mean())
    except Exception:
        scale = 1.0
    return x * scale


def _slice_in_place(s: Any, x: Tensor) -> Tensor:
    x[:, :1] += 1
    return x


def _assigned(s: Any, x: Tensor) -> Tensor:
    x = x.clone()
    x[..., ::2] = 0
    return x


def _view_alive(s: Any, x: Tensor) -> Tensor:
    part = x[:, :1]
    x = x.relu_()
    return x * part


def _constant_changed(s: Any, x: Tensor) -> Tensor:
    shift = torch.zeros(4, 1, 1, dtype=x.dtype)
    x = x + shift
    shift += 1
    return x * shift


def _per_row(s: Any, x: Tensor) -> Tensor:
    return x + torch.arange(len(x), dtype=x.dtype)[:, None, None, None] * 0


# Body of the net, and why it is not replayed.
REFUSED: dict[str, tuple[Callable[[Any, Tensor], Tensor], str]] = {
    "if on a value": (lambda s, x: x if x.mean() > 0 else -x, "Tensor.__bool__|depends on values"),
    "item": (lambda s, x: x * x.mean().item(), "Tensor.item"),
    "numpy": (lambda s, x: x * float(x.numpy().mean()), "Tensor.numpy"),
    "tolist": (lambda s, x: x * max(x.flatten().tolist()), "Tensor.tolist"),
    "float, caught": (_caught, "Tensor.__float__|depends on values"),
    "equal": (lambda s, x: x if torch.equal(x, x.abs()) else -x, "depends on values"),
    "memory": (lambda s, x: x.clone().set_(x.untyped_storage(), 0, x.shape), "Tensor.untyped_storage"),
    "deepcopy": (lambda s, x: copy.deepcopy(x), "."),
    "random numbers": (lambda s, x: x + 0 * torch.rand(1), "draws random numbers"),
    "dropout in evaluation": (lambda s, x: F.dropout(x, 0.5, training=True), "no rule"),
    "slices changed in place": (_slice_in_place, "in place"),
    "slices assigned": (_assigned, "in place|writes into"),
    "a view of what is changed": (_view_alive, "in place"),
    "out=": (lambda s, x: x + torch.mul(x, 2, out=x), "writes into"),
    "a buffer changed": (lambda s, x: s.buffer.copy_(x.mean((0, 2, 3))[:, None, None]) * x, "outlives|mixes"),
    "a constant changed": (_constant_changed, "a constant that it has used"),
    "a constant for each row": (_per_row, "made for this number of examples"),
    "other dtype": (lambda s, x: x.view(torch.int64).view(x.dtype), "another dtype"),
    "statistics of the batch": (lambda s, x: F.batch_norm(x, None, None, training=True), "statistics"),
    "instance norm": (lambda s, x: F.instance_norm(x), "batch|no rule|examples"),
    "rows depend on each other": (lambda s, x: x - x.mean(0, keepdim=True), "mixes the examples"),
    "rows swapped": (lambda s, x: x.flip(0), "no rule"),
    "broadcast over rows": (lambda s, x: x * x.mean((1, 2, 3)), "mixes the examples"),
    "attention": (lambda s, x: (x.flatten(2) @ x.flatten(2).mT @ x.flatten(2)).view(x.shape), "."),
    "where": (lambda s, x: torch.where(x > 0, x, 0.1 * x), "no rule"),
    "half precision inside": (lambda s, x: x.bfloat16().relu().to(x.dtype), "bfloat16"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_replayed_runs_itself_and_says_why(name: str) -> None:
    body, reason = REFUSED[name]
    model = nets.fill(Net(body)).double()
    model.body.register_buffer("buffer", torch.ones(4, 1, 1, dtype=torch.float64))
    x = image(1 if "broadcast" in name else 2)
    random = "random" in name or "dropout" in name
    with watched() as ways, torch.random.fork_rng():
        torch.manual_seed(0)
        fast = ask(model, x, MASKS, batch_size=1, channels_last=False)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        dense = ask(model, x, MASKS, exact_dense=True, batch_size=1, channels_last=False)
    assert re.search(reason, ways[0]), ways
    assert random or torch.equal(fast, dense)


def _weights_in_place(s: Any, x: Tensor) -> Tensor:
    return F.conv2d(x, s.conv.weight.detach().clone().clamp_(-0.1, 0.1), padding=1)


def _counts(s: Any, x: Tensor) -> Tensor:
    s.calls = getattr(s, "calls", 0) + 1
    s.buffer += 1
    return x


# What looks dangerous and is replayed.
REPLAYED: dict[str, Callable[[Any, Tensor], Tensor]] = {
    "data": lambda s, x: x.data + 0,
    "detached": lambda s, x: x.detach().relu_(),
    "weights changed on the fly": _weights_in_place,
    "state that is not used": _counts,
    "constants of the shape": lambda s, x: x + torch.ones(1, x.shape[1], 1, 1, dtype=x.dtype) / x.shape[2],
    "a longer float, in place": lambda s, x: x.float().sub_(s.buffer).double(),
    "its own input changed": lambda s, x: x.mul_(2).sub_(1),
    "ATen by hand": lambda s, x: torch.ops.aten.relu_(x),
}


@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.parametrize("name", REPLAYED)
def test_what_only_looks_dangerous_is_replayed_and_agrees(name: str, n: int) -> None:
    model = nets.fill(Net(REPLAYED[name], conv=same())).double()
    model.body.register_buffer("buffer", torch.full((4, 1, 1), 0.3, dtype=torch.float64))
    if "longer" in name:  # rounded to single precision inside
        assert (ask(model, image(n), MASKS) - ask(model, image(n), MASKS, exact_dense=True)).abs().max() < 1e-5
        return
    assert agrees(model, image(n), MASKS) in {"local", "replayed"}
