"""What the contract is tried on: a small network with the usual awkward parts, and a way to make any network fail."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn


class ProbeNet(nn.Module):
    """BatchNorm, Dropout, an in-place ReLU, a functional one, pooling; any size of input, 5 classes.

    Layers to name: ``"stem"`` and ``"conv"``, both spatial.
    """

    def __init__(self, channels: int = 3) -> None:
        super().__init__()
        self.stem = nn.Conv2d(channels, 6, 3, padding=1)
        self.norm = nn.BatchNorm2d(6)
        self.relu = nn.ReLU(inplace=True)
        self.pool = nn.MaxPool2d(2)
        self.conv = nn.Conv2d(6, 8, 3, padding=1)
        self.drop = nn.Dropout(0.5)
        self.shrink = nn.AdaptiveAvgPool2d(2)
        self.fc = nn.Linear(32, 5)
        self._fill()

    def _fill(self) -> None:
        """Weights and statistics of a network in use; with this seed every class has evidence in every example."""
        source = torch.Generator().manual_seed(28)
        with torch.no_grad():
            for weight in self.parameters():
                weight.copy_(torch.randn(weight.shape, generator=source) / max(1, weight[0].numel()) ** 0.5)
            self.norm.weight.abs_().add_(0.5)
            self.norm.get_buffer("running_mean").copy_(torch.randn(6, generator=source) / 4)

    def forward(self, x: Tensor) -> Tensor:  # noqa: D102
        x = self.pool(self.relu(self.norm(self.stem(x))))
        x = F.relu(self.conv(x))
        out: Tensor = self.fc(self.shrink(self.drop(x)).flatten(1))
        return out


def probe_inputs(channels: int = 3, height: int = 12, width: int = 10) -> Tensor:
    """Three different examples."""
    return torch.randn(3, channels, height, width, generator=torch.Generator().manual_seed(1))


def in_use(model: nn.Module) -> nn.Module:
    """Give ``model`` what a model in the middle of training has, so that a change of it shows.

    Modes that differ between modules, one frozen parameter, gradients on the others, a hook of the user's.
    """
    model.train()
    for part in list(model.modules())[1::2]:
        part.training = False
    for number, weight in enumerate(model.parameters()):
        weight.requires_grad_(number != 0)
        weight.grad = torch.ones_like(weight) if number else None
    model.register_forward_hook(_no_operation)
    return model


def _no_operation(_module: nn.Module, _args: object, _out: object) -> None:
    """Stand for a hook of the user's."""


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Set the global random states inside the block, and put them back."""
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()  # noqa: NPY002
    torch.default_generator.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    try:
        yield
    finally:
        torch.set_rng_state(before[0])
        random.setstate(before[1])
        np.random.set_state(before[2])  # noqa: NPY002


class Fuse:
    """Counts module calls, forwards and then backwards, and raises at one of them."""

    def __init__(self, blow_at: int = 0, error: Callable[[], BaseException] = RuntimeError) -> None:
        self.blow_at = blow_at
        self.error = error
        self.calls = 0
        self.blown: BaseException | None = None

    def _count(self) -> None:
        self.calls += 1
        if self.calls == self.blow_at:
            self.blown = self.error()
            raise self.blown

    def _forward(self, _module: nn.Module, _args: object, out: object) -> None:
        self._count()
        if isinstance(out, Tensor) and out.requires_grad:
            out.register_hook(lambda _: self._count())  # type: ignore[no-untyped-call]

    @contextmanager
    def inside(self, model: nn.Module) -> Iterator[Fuse]:
        """Put the fuse behind every module of ``model``."""
        handles = [part.register_forward_hook(self._forward) for part in model.modules()]
        try:
            yield self
        finally:
            # it, its traceback and this would keep each other, and the model, until garbage is collected
            self.blown = None
            for handle in handles:
                handle.remove()
