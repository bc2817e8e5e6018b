"""Small networks of the kind that the deconvnet was made for, and their layers as the oracle writes them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from attrib import Deconvnet
from attrib.core import capture
from tests import nets
from tests.oracles import deconvnet


def alexnet() -> nn.Sequential:
    """What the paper explains, small: strided convolution, LRN, overlapping pooling, groups."""
    return nn.Sequential(
        nn.Conv2d(3, 4, 5, stride=2, padding=2),
        nn.ReLU(inplace=True),
        nn.LocalResponseNorm(3, alpha=2.0, beta=0.75, k=1.0),
        nn.MaxPool2d(3, 2),
        nn.Conv2d(4, 6, 3, padding=1, groups=2),
        nn.ReLU(),
        nn.LocalResponseNorm(5, alpha=3.0, beta=0.5, k=2.0),
        nn.MaxPool2d(3, 2, padding=1, ceil_mode=True),
        nn.Conv2d(6, 5, 3, padding=1),
        nn.ReLU(),
    )


def mirror(model: nn.Sequential) -> list[deconvnet.Layer]:
    """The same layers as the oracle writes them."""
    layers: list[deconvnet.Layer] = []
    for part in model:
        match part:
            case nn.Conv2d():
                layers.append(
                    deconvnet.Conv(
                        part.weight.detach().numpy(),
                        part.bias.detach().numpy(),
                        part.stride[0],
                        part.padding[0],
                        part.groups,
                    )
                )
            case nn.MaxPool2d():
                layers.append(deconvnet.Pool(part.kernel_size, part.stride, part.padding, part.ceil_mode))
            case nn.AdaptiveMaxPool2d():
                layers.append(deconvnet.AdaptivePool(part.output_size))
            case nn.LocalResponseNorm():
                layers.append(deconvnet.LRN(part.size, part.alpha, part.beta, part.k))
            case nn.ReLU():
                layers.append(deconvnet.ReLU())
            case _:
                raise AssertionError(part)
    return layers


def filled(model: nn.Module) -> Any:
    return nets.fill(model).double()


def signed(model: nn.Module, x: Tensor, target: object, **options: Any) -> Tensor:
    return Deconvnet(model, channels="none", absolute=False, **options).attribute(x, target)


def top(model: nn.Module, layer: str, x: Tensor) -> Tensor:
    with torch.no_grad(), capture(model, layer) as acts:
        model(x)
    return acts[layer]


X = nets.batch(2, 21, 17, dtype=torch.float64)


def strongest(act: Tensor) -> tuple[int, int, int]:
    c, y, x = np.unravel_index(int(act.argmax()), act.shape)
    return int(c), int(y), int(x)
