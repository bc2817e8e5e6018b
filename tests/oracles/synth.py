"""Images made by a network, as the papers write them: one image, plain loops, nothing shared with the library."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor


def slope(score: Callable[[Tensor], Tensor], image: Tensor) -> Tensor:
    leaf = image.clone().requires_grad_()
    score(leaf).backward()
    assert leaf.grad is not None
    return leaf.grad


def simonyan(
    score: Callable[[Tensor], Tensor], shape: tuple[int, ...], weight: float, rate: float, steps: int
) -> Tensor:
    """I = 0; repeat: I <- I + rate * d(S(I) - weight * |I|^2) / dI."""
    image = torch.zeros(shape)
    for _ in range(steps):
        image = image + rate * slope(lambda i: score(i) - weight * (i * i).sum(), image)
    return image


def yosinski(
    score: Callable[[Tensor], Tensor],
    start: Tensor,
    rate: float,
    steps: int,
    thetas: tuple[float, float, int, float, float],
) -> Tensor:
    """Unit-norm steps, each followed by decay, blur, small norms to zero, small contributions to zero."""
    decay, width, every, small, contribution = thetas
    image = start.clone()
    for step in range(steps):
        g = slope(score, image)
        image = image + rate * g / math.sqrt(float((g * g).sum()))
        if decay:
            image = (1 - decay) * image
        if width and (step + 1) % every == 0:
            image = blur(image, width)
        if small:
            norms = np.sqrt((image[0].numpy() ** 2).sum(0))
            image = image * torch.from_numpy((norms >= np.percentile(norms, small)).astype(np.float32))
        if contribution:
            benefit = np.abs((image[0].numpy() * g[0].numpy()).sum(0))
            image = image * torch.from_numpy((benefit >= np.percentile(benefit, contribution)).astype(np.float32))
    return image


def blur(image: Tensor, width: float) -> Tensor:
    """Every pixel the Gaussian mean of its surroundings, the edge pixel repeated beyond the edge."""
    reach = max(1, round(4 * width))
    _, channels, high, wide = image.shape
    weight = [math.exp(-(d * d) / (2 * width * width)) for d in range(-reach, reach + 1)]
    total = sum(weight)
    found = torch.zeros_like(image)
    for c in range(channels):
        for y in range(high):
            for x in range(wide):
                for i, down in enumerate(range(-reach, reach + 1)):
                    for j, across in enumerate(range(-reach, reach + 1)):
                        value = image[0, c, min(max(y + down, 0), high - 1), min(max(x + across, 0), wide - 1)]
                        found[0, c, y, x] += weight[i] * weight[j] / total**2 * value
    return found


def total_variation(image: Tensor, beta: float) -> float:
    total = 0.0
    channels, high, wide = image.shape
    for c in range(channels):
        for y in range(high):
            for x in range(wide):
                across = float(image[c, y, x + 1] - image[c, y, x]) if x + 1 < wide else 0.0
                down = float(image[c, y + 1, x] - image[c, y, x]) if y + 1 < high else 0.0
                total += (across**2 + down**2) ** (beta / 2)
    return total


def dream_octave(
    layer: Callable[[Tensor], Tensor],
    image: Tensor,
    rate: float,
    shifts: list[tuple[int, int]],
    low: float,
    high: float,
) -> Tensor:
    """Shift, gradient equal to twice the activation, step over the mean size of the gradient, shift back, clip."""
    for down, across in shifts:
        leaf = torch.roll(image, (down, across), (-2, -1)).requires_grad_()
        activation = layer(leaf)
        (g,) = torch.autograd.grad(activation, leaf, grad_outputs=2 * activation.detach())
        moved = leaf.detach() + rate * g / g.abs().mean()
        image = torch.roll(moved, (-down, -across), (-2, -1)).clamp(low, high)
    return image


def adam(gradient: Callable[[Tensor], Tensor], start: Tensor, rate: float, steps: int) -> Tensor:
    """torch's own, uphill."""
    leaf = start.clone().requires_grad_()
    optimiser: Any = torch.optim.Adam([leaf], lr=rate, maximize=True)
    for _ in range(steps):
        leaf.grad = gradient(leaf.detach())
        optimiser.step()
    return leaf.detach()
