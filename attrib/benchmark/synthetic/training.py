"""A small convolutional network, trained in seconds, the same on every run."""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attrib.benchmark.synthetic.scenes import one_thread, source

RATE = 1e-2  # the highest learning rate


def small_network(classes: int, *, seed: int = 0, width: int = 16) -> nn.Sequential:
    """Three convolutions, global average pooling, a linear layer; colour in, one score per class out."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = nn.Sequential()
        net.add_module("conv1", _convolution(3, width, 5, gain=2))  # pictures are mostly ground, which is 0
        net.add_module("relu1", nn.ReLU())
        net.add_module("pool1", nn.MaxPool2d(2))
        net.add_module("conv2", _convolution(width, 2 * width, 3))
        net.add_module("relu2", nn.ReLU())
        net.add_module("pool2", nn.MaxPool2d(2))
        net.add_module("conv3", _convolution(2 * width, 2 * width, 3))
        net.add_module("relu3", nn.ReLU())
        net.add_module("gap", nn.AdaptiveAvgPool2d(1))
        net.add_module("flatten", nn.Flatten())
        net.add_module("classes", nn.Linear(2 * width, classes))
    return net


def _convolution(ins: int, outs: int, side: int, gain: float = 1.0) -> nn.Conv2d:
    """As large as its input, times ``gain``; PyTorch's own first weights shrink what they see, and learn slowly."""
    conv = nn.Conv2d(ins, outs, side, padding=side // 2)
    nn.init.normal_(conv.weight, std=gain * (2 / (ins * side**2)) ** 0.5)
    nn.init.zeros_(cast("Tensor", conv.bias))
    return conv


def train(x: Tensor, present: Tensor, *, steps: int, seed: int = 0, batch: int = 64) -> nn.Sequential:
    """Train a network to say which classes are there; it comes back in evaluation mode.

    Args:
        x: pictures ``(N, 3, H, W)``.
        present: ``(N, K)``, 1 for each class of a picture. With one class each, classes compete (softmax); with more,
            each has a yes or no of its own (sigmoid).
        steps: of AdamW, with one cycle of rates.
        seed: of the first weights, and of the order of pictures.
        batch: pictures per step.
    """
    net, order = small_network(present.shape[1], seed=seed), source(seed)
    loss_of = F.cross_entropy if (present.sum(1) == 1).all() else F.binary_cross_entropy_with_logits
    optimiser = torch.optim.AdamW(net.parameters(), RATE, weight_decay=1e-3)
    cycle = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, total_steps=steps, pct_start=0.2)
    with torch.enable_grad(), one_thread():
        for _ in range(steps):
            some = torch.randint(len(x), (batch,), generator=order)
            optimiser.zero_grad()
            loss_of(net(x[some]), present[some]).backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            cycle.step()
    return net.eval()
