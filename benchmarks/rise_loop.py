"""The perturbation loop that RISE published, written anew from its description: nothing of attrib is in it.

Petsiuk, Das, Saenko, "RISE: Randomized Input Sampling for Explanation of Black-box Models", BMVC 2018, section 4.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

BLUR, SIGMA = 11, 5.0  # side of the kernel that insertion starts from, and its deviation, pixels


def blurred(x: Tensor) -> Tensor:
    """``x (N, C, H, W)`` under the published kernel: SciPy's Gaussian of a dot, so its tails are folded back."""
    from scipy.ndimage import gaussian_filter

    dot = np.zeros((BLUR, BLUR))
    dot[BLUR // 2, BLUR // 2] = 1.0
    kernel = torch.from_numpy(gaussian_filter(dot, SIGMA)).to(x).expand(x.shape[1], 1, BLUR, BLUR)
    return F.conv2d(x, kernel, padding=BLUR // 2, groups=x.shape[1])


@torch.no_grad()
def curve(model: nn.Module, x: Tensor, maps: Tensor, begin: Tensor, end: Tensor, step: int) -> Tensor:
    """Probability of the class of ``x`` while ``step`` pixels at a time go from ``begin`` to ``end``, ``(N, K)``.

    All images take a step together, and each step is one pass of the whole batch.
    """
    rows = torch.arange(len(x))
    winner = model(x).argmax(1)
    order = maps.flatten(1).argsort(descending=True)
    canvas, final = begin.clone().flatten(2), end.flatten(2)
    scores = [model(canvas.view_as(x)).softmax(1)[rows, winner]]
    for chosen in order.split(step, 1):
        places = chosen[:, None].expand(-1, x.shape[1], -1)
        canvas.scatter_(2, places, final.gather(2, places))
        scores.append(model(canvas.view_as(x)).softmax(1)[rows, winner])
    return torch.stack(scores, 1)


def area(scores: Tensor) -> Tensor:
    """The published area: equal steps, both ends by half, ``(N,)``."""
    return (scores.sum(1) - scores[:, 0] / 2 - scores[:, -1] / 2) / (scores.shape[1] - 1)


def deletion_and_insertion(model: nn.Module, x: Tensor, maps: Tensor, step: int) -> Tensor:
    """Areas of deletion to zeros and of insertion into a blur, ``(2, N)``."""
    ends: tuple[tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]], ...] = (
        (torch.clone, torch.zeros_like),
        (blurred, torch.clone),
    )
    return torch.stack([area(curve(model, x, maps, begin(x), end(x), step)) for begin, end in ends])


def one_by_one(model: nn.Module, x: Tensor, maps: Tensor, step: int) -> Tensor:
    """The same, an image at a time, as the published code does without a batch."""
    pairs = zip(x.split(1), maps.split(1), strict=True)
    return torch.cat([deletion_and_insertion(model, one, its, step) for one, its in pairs], 1)
