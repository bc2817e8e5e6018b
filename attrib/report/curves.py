"""The curves of one row of a comparison: image by image, averaged over seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from attrib.metrics import Curves, Protocol
from attrib.metrics.ranking import STATUSES


def padded(pairs: Sequence[Tensor]) -> list[Tensor]:
    """Curves ``(..., K)`` with as many points as the longest: the others repeat their last one."""
    points = max(pair.shape[-1] for pair in pairs)
    return [torch.cat([pair, pair[..., -1:].expand(*pair.shape[:-1], points - pair.shape[-1])], -1) for pair in pairs]


@dataclass(frozen=True, eq=False)
class RowCurves:
    """What was measured for one method or control.

    Attributes:
        protocol: how.
        found: for each image the curves of one image, one for each seed; none where the map failed.
    """

    protocol: Protocol
    found: Sequence[Sequence[Curves]] = field(repr=False)

    @property
    def names(self) -> tuple[str, ...]:
        """The curves that were measured; none if every map failed."""
        return next((many[0].names for many in self.found if many), ())

    def curve(self, name: str) -> tuple[Tensor, Tensor]:
        """Fractions and scores ``(N, K)``; scores are NaN where an image has none.

        Curves with fewer points than others repeat their last one, which adds no area.
        """
        pairs = [self._mean(many, name) if many else None for many in self.found]
        first = next(pair for pair in pairs if pair is not None)
        whole = [torch.stack([first[0], first[1] * torch.nan]) if pair is None else pair for pair in pairs]
        fraction, score = torch.stack(padded(whole), 1)
        return fraction, score

    def _mean(self, many: Sequence[Curves], name: str) -> Tensor:
        """Fraction and score ``(2, K)``."""
        curves = [one.curve(name) for one in many]
        if self.protocol.steps == "adaptive" and len(curves) > 1:
            # Each has points of its own: between them it is a straight line, as its area says too.
            lines = [(fraction[0].numpy(), score[0].numpy()) for fraction, score in curves]
            x = np.unique(np.concatenate([fraction for fraction, _ in lines]))
            return torch.from_numpy(np.stack([x, np.mean([np.interp(x, *line) for line in lines], 0)]))
        return torch.stack([torch.cat(axis).mean(0) for axis in zip(*curves, strict=True)])

    def auc(self, name: str, normalised: bool = False) -> Tensor:
        """Area ``(N,)``, raw or relative to the scores of image and baseline; NaN where an image has no curve."""
        return torch.tensor(
            [
                float(torch.cat([one.auc(name, normalised) for one in many]).mean()) if many else float("nan")
                for many in self.found
            ],
            dtype=torch.float64,
        )

    def counts(self) -> dict[str, int]:
        """Images by what became of their map: ``"ok"``, ``"constant"``, ``"zero"``, ``"nan"`` or ``"failed"``."""
        states = [many[0].status[0] if many else "failed" for many in self.found]
        return {name: states.count(name) for name in (*STATUSES, "failed")}

    def tied(self) -> float | None:
        """Mean share of pixels whose order is arbitrary; None if every map failed."""
        shares = [float(one.tied.mean()) for many in self.found for one in many]
        return sum(shares) / len(shares) if shares else None
