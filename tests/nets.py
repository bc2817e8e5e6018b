"""Tiny nets, each awkward in one way. They take ``(N, 3, h, w)`` of any size from 4 pixels and give 5 classes."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Activation = Callable[[Tensor], Tensor]
CLASSES = 5


def fill(model: nn.Module, seed: int = 0) -> nn.Module:
    """Weights and statistics from a local generator, in evaluation mode."""
    source = torch.Generator().manual_seed(seed)
    for tensor in [*model.parameters(), *(b for b in model.buffers() if b.is_floating_point())]:
        noise = torch.randn(tensor.shape, generator=source, dtype=torch.float64)
        tensor.data.copy_(noise / max(1, tensor[0].numel() if tensor.ndim > 1 else 4) ** 0.5)
    for part in model.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.get_buffer("running_var").abs_().add_(0.5)
    return model.eval()


def batch(n: int = 2, h: int = 8, w: int = 6, channels: int = 3, seed: int = 1, dtype: Any = torch.float32) -> Tensor:
    """``n`` different examples, the same in every dtype."""
    source = torch.Generator().manual_seed(seed)
    return torch.randn(n, channels, h, w, generator=source, dtype=torch.float64).to(dtype)


class Chain(nn.Module):
    """Convolution, activation, max-pooling, convolution, activation, mean, linear: the activation is any function."""

    def __init__(self, act: Activation = F.relu, act2: Activation | None = None) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 3, padding=1)
        self.act1 = act
        self.pool = nn.MaxPool2d(2)
        self.conv2 = nn.Conv2d(4, 6, 3, padding=1)
        self.act2 = act2 or act
        self.fc = nn.Linear(6, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(self.act1(self.conv1(x)))
        out: Tensor = self.fc(self.act2(self.conv2(x)).mean((2, 3)))
        return out


def _statement(x: Tensor) -> Tensor:
    x.relu_()
    return x


def _reused() -> Chain:
    relu = nn.ReLU()
    return Chain(relu, relu)


# The same function and the same weights, so that every method must give the same map.
SPELLINGS: dict[str, Callable[[], Chain]] = {
    "module": lambda: Chain(nn.ReLU(), nn.ReLU()),
    "module in place": lambda: Chain(nn.ReLU(inplace=True), nn.ReLU(inplace=True)),
    "one module used twice": _reused,
    "F.relu": lambda: Chain(F.relu),
    "F.relu in place": lambda: Chain(partial(F.relu, inplace=True)),
    "torch.relu": lambda: Chain(torch.relu),
    "torch.relu_": lambda: Chain(torch.relu_),
    "x.relu()": lambda: Chain(lambda x: x.relu()),
    "x.relu_() as a statement": lambda: Chain(_statement),
    "x.clamp(min=0)": lambda: Chain(lambda x: x.clamp(min=0)),
    "x.clamp_min(0)": lambda: Chain(lambda x: x.clamp_min(0)),
    "torch.clamp(x, 0)": lambda: Chain(lambda x: torch.clamp(x, 0)),
    "torch.maximum(x, 0)": lambda: Chain(lambda x: torch.maximum(x, torch.zeros((), dtype=x.dtype))),
    "F.threshold": lambda: Chain(lambda x: F.threshold(x, 0.0, 0.0)),
}


class SharedReLU(nn.Module):
    """One ReLU module on two parallel branches."""

    def __init__(self) -> None:
        super().__init__()
        self.left = nn.Conv2d(3, 4, 3, padding=1)
        self.right = nn.Conv2d(3, 4, 3, padding=1)
        self.relu = nn.ReLU()
        self.fc = nn.Linear(4, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.fc((self.relu(self.left(x)) + self.relu(self.right(x))).mean((2, 3)))
        return out


class PreActivation(nn.Module):
    """A residual block whose ReLU has an input with a second consumer, as in pre-activation ResNets."""

    def __init__(self, act: Activation = F.relu) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.act = act
        self.conv = nn.Conv2d(4, 4, 3, padding=1)
        self.fc = nn.Linear(4, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = x + self.conv(self.act(x))
        out: Tensor = self.fc(x.mean((2, 3)))
        return out


class Residual(nn.Module):
    """The classical block: one ReLU module runs inside and after the sum, and pooling by strided convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, stride=2, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.relu = nn.ReLU(inplace=True)
        self.conv = nn.Conv2d(4, 4, 3, padding=1)
        self.fc = nn.Linear(4, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.norm(self.stem(x)))
        x = self.relu(x + self.conv(x))
        out: Tensor = self.fc(x.mean((2, 3)))
        return out


class Regularised(nn.Module):
    """BatchNorm and Dropout, which behave differently in training."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.5))
        self.fc = nn.Linear(4, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.fc(self.features(x).mean((2, 3)))
        return out


class ChangesItsInput(nn.Module):
    """Normalises in place, so it writes into what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.chain = Chain()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.chain(x.sub_(0.1).mul_(2.0))
        return out


class Packed(nn.Module):
    """Returns its scores inside something else."""

    def __init__(self, pack: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.chain = Chain()
        self.pack = pack

    def forward(self, x: Tensor) -> Any:
        return self.pack(self.chain(x))


class TwoInputs(nn.Module):
    """Two pictures and a number per example."""

    def __init__(self) -> None:
        super().__init__()
        self.left = Chain()
        self.right = Chain(torch.relu)

    def forward(self, x: Tensor, y: Tensor, weight: Tensor | float = 1.0) -> Tensor:
        out: Tensor = self.left(x) + torch.as_tensor(weight).reshape(-1, 1) * self.right(y)
        return out


class GapHead(nn.Module):
    """Convolution, global mean, linear without anything between: class activation mapping is exact here."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 3, padding=1)
        self.fc = nn.Linear(6, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.fc(self.conv(x).mean((2, 3)))
        return out


class PointHead(nn.Module):
    """Scores at every place by a 1x1 convolution, and their mean: the head may be read at two layers."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 6, 3)
        self.act1 = nn.ReLU()
        self.head = nn.Conv2d(6, CLASSES, 1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.act1(self.conv1(x))).mean((2, 3))
        return out


class Linear(nn.Module):
    """One linear layer on pixels of a fixed size."""

    def __init__(self, h: int = 8, w: int = 6, bias: bool = True) -> None:
        super().__init__()
        self.fc = nn.Linear(3 * h * w, CLASSES, bias=bias)
        self.size = (3, h, w)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.fc(x.flatten(1))
        return out

    def weight(self, target: int) -> Tensor:
        return self.fc.weight.detach()[target].reshape(self.size)


# Other activations: the first group rectifies, the second is smooth.
RECTIFIERS: dict[str, Callable[[], Chain]] = {
    "relu6": lambda: Chain(F.relu6),
    "leaky_relu": lambda: Chain(partial(F.leaky_relu, negative_slope=0.2)),
    "prelu": lambda: Chain(nn.PReLU(), nn.PReLU()),
    "elu": lambda: Chain(F.elu),
}
SMOOTH: dict[str, Callable[[], Chain]] = {
    "silu": lambda: Chain(F.silu),
    "gelu": lambda: Chain(F.gelu),
    "hardswish": lambda: Chain(F.hardswish),
}

# What gives one Tensor of class scores for one picture, by name.
NETS: dict[str, Callable[[], nn.Module]] = {
    **SPELLINGS,
    "shared ReLU": SharedReLU,
    "pre-activation": PreActivation,
    "pre-activation in place": lambda: PreActivation(lambda x: F.relu(x.clone(), inplace=True)),
    "residual": Residual,
    "regularised": Regularised,
    "changes its input": ChangesItsInput,
    **RECTIFIERS,
}
PACKED: dict[str, Callable[[], nn.Module]] = {
    "list": lambda: Packed(lambda out: [out, out * 2]),
    "tuple": lambda: Packed(lambda out: (out, None)),
    "dict": lambda: Packed(lambda out: {"out": out, "aux": out * 2}),
}


def make(name: str, dtype: Any = torch.float32) -> Any:
    """A net by name, filled; the spellings get the same weights."""
    return fill({**NETS, **SMOOTH, **PACKED}[name]()).to(dtype)
