"""Signals handed down by excitation: through a function, or from a target to a layer."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from attrib.core import Query, as_objective, frozen
from attrib.core.relevance.excitation import excitation
from attrib.core.relevance.winning import winning


def won(model: nn.Module, x: Tensor, target: object, layer: str, contrastive: bool = False) -> Tensor:
    """Shares by unit, before the channels are added up."""
    with frozen(model):
        return winning(Query(model, (x,), as_objective(target), layer), contrastive=contrastive)


class Down(nn.Module):
    """Layers between activations that are given and class scores; ``start`` is the layer to explain."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.start = nn.Identity()
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layers(self.start(x))
        return out


class Function(nn.Module):
    """A network of one function behind ``start``."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.start, self.function = nn.Identity(), function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self.start(x)).flatten(1).sum(1)


def handed(model: Callable[[Tensor], Tensor], x: Tensor, signal: Tensor) -> Tensor:
    """What a signal at the output gives at the input."""
    x = x.clone().requires_grad_(True)
    with excitation():
        y = model(x)
    (found,) = torch.autograd.grad(y, x, signal)
    return found
