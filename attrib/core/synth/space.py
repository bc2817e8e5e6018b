"""Pictures and what the network takes: the same image in [0, 1] and normalised."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from attrib import checks
from attrib.errors import InputError


@dataclass(frozen=True)
class PixelSpace:
    """How a picture ``p`` in [0, 1] becomes an input: ``(p - mean) / std``, channel by channel.

    Args:
        mean: of each channel, or one for all.
        std: likewise.

    Example:
        >>> space = PixelSpace(mean=0.5, std=0.25)
        >>> float(space.to_input(torch.tensor(1.0))), float(space.to_picture(torch.tensor(0.0)))
        (2.0, 0.5)
    """

    mean: float | Sequence[float] = 0.0
    std: float | Sequence[float] = 1.0

    def __post_init__(self) -> None:
        for std in self.std if isinstance(self.std, Sequence) else (self.std,):
            if not checks.number("std", std, 0) > 0:
                raise InputError(f"std must be above 0; got {self.std}.")

    def _as(self, values: float | Sequence[float], like: Tensor) -> Tensor:
        """One value per channel, broadcastable to ``(N, C, ...)``."""
        found = torch.as_tensor(values, dtype=like.dtype, device=like.device)
        if found.ndim == 0:
            return found
        if like.ndim < 2 or len(found) != like.shape[1]:
            raise InputError(f"mean and std must have one value per channel; got {len(found)} for {tuple(like.shape)}.")
        return found.reshape(-1, *(1 for _ in like.shape[2:]))

    def to_input(self, picture: Tensor) -> Tensor:
        """Normalise."""
        return (picture - self._as(self.mean, picture)) / self._as(self.std, picture)

    def to_picture(self, inputs: Tensor) -> Tensor:
        """Undo the normalisation; nothing is clipped."""
        return inputs * self._as(self.std, inputs) + self._as(self.mean, inputs)

    def low(self, like: Tensor) -> Tensor:
        """What black is, as an input."""
        return self.to_input(torch.zeros_like(like[:1]))

    def high(self, like: Tensor) -> Tensor:
        """What white is, as an input."""
        return self.to_input(torch.ones_like(like[:1]))
