"""What metrics read off maps without running the model: one number per pixel, and which pixels lie inside."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from attrib import checks
from attrib.errors import InputError
from attrib.metrics.protocol import Protocol, as_protocol
from attrib.metrics.ranking import Ranking


def pixel_values(maps: Tensor, x: Tensor, protocol: Protocol | str | Mapping[str, Any]) -> tuple[Tensor, Tensor]:
    """Maps as every metric sees them: channels and sign as ``protocol`` says, resized to the input's size.

    Returns:
        ``(N, H, W)`` float64 on the CPU, on a scale of its own for each map, and ``(N,)``, whether the map is finite
        (the others are zero).
    """
    (image,) = checks.batch(x)
    checks.shape(image, "n c h w", "x")
    ranking = Ranking.of(maps, image, replace(as_protocol(protocol), unit="pixel"), "")
    finite = torch.tensor([status != "nan" for status in ranking.status])
    return ranking.values.reshape(len(image), *image.shape[2:]), finite


def inside(masks: object, x: Tensor) -> Tensor:
    """Masks as ``(N, H, W)`` bool on the CPU, one for each example of ``x``, of its size."""
    found = torch.from_numpy(masks) if isinstance(masks, np.ndarray) else masks
    if not isinstance(found, Tensor):
        raise InputError(
            f"masks must be a bool Tensor (N, H, W), True inside the object; got {type(masks).__name__}. "
            "Pass masks= for metrics that compare maps with objects."
        )
    if found.dtype != torch.bool:
        raise InputError(f"masks must be bool, True inside the object; got {found.dtype}. Pass masks > 0, say.")
    return checks.shape(found, "n h w", "masks", n=len(x), h=x.shape[2], w=x.shape[3]).cpu()
