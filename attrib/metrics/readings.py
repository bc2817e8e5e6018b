"""What is read off perturbation curves: per-image curves, areas, SRG, bounds over ties, and what is undefined."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from attrib.errors import InputError
from attrib.metrics.protocol import Protocol
from attrib.metrics.ranking import STATUSES, Status


@dataclass(frozen=True, eq=False)
class Curve:
    """One curve of each example, under each order of its ties: ``T`` orders, ``N`` examples, ``K`` points.

    Attributes:
        fraction: share of the pixels removed (or inserted), ``(T, N, K)``, from 0 to 1.
        score: ``(T, N, K)``; NaN for maps that are not finite.
        averaged: the first so many orders are averaged; the others only widen the bounds.
        inserts: whether the curve starts at the baseline and ends at the clean image.
        unseen: ``(T, N)``, how far the area may be from that of all possible points; None if all were measured.
    """

    fraction: Tensor
    score: Tensor
    averaged: int
    inserts: bool = False
    unseen: Tensor | None = None

    @property
    def areas(self) -> Tensor:
        """Trapezoid over the fractions, ``(T, N)``."""
        return torch.trapezoid(self.score, self.fraction, dim=-1)

    @property
    def slack(self) -> Tensor:
        """Most that the area can be off, ``(T, N)``: `unseen`, or if the score is monotone between the points."""
        return (
            self.unseen
            if self.unseen is not None
            else (self.score.diff(dim=-1).abs() * self.fraction.diff(dim=-1)).sum(-1) / 2
        )

    @property
    def clean(self) -> Tensor:
        """Score of the clean image, ``(N,)``."""
        return self.score[0, :, -1 if self.inserts else 0]

    @property
    def floor(self) -> Tensor:
        """Score of the baseline image, ``(N,)``."""
        return self.score[0, :, 0 if self.inserts else -1]


@dataclass(frozen=True, eq=False)
class Curves:
    r"""Perturbation curves of one method on ``N`` images, and the numbers read off them.

    .. math::
        \mathrm{AUC} = \sum_i \tfrac{1}{2} (s_i + s_{i+1}) (p_{i+1} - p_i), \qquad
        \mathrm{SRG} = \mathrm{AUC}_{\mathrm{LeRF}} - \mathrm{AUC}_{\mathrm{MoRF}}

    Convention:
        - tensors are float64, on the CPU, one row per example, never averaged over examples, none left out.
        - ``"deletion"`` and ``"morf"`` are the same curve; so are ``"insertion"`` and the reversed ``"lerf"`` where the
          two baselines are equal. Each is measured once.
        - the x-axis is the fraction of pixels really removed (or, for insertion, inserted); both ends are points.
        - with ``steps="adaptive"`` every curve has its own points; shorter ones repeat an end, which adds no area.
        - deletion and MoRF: lower is better; insertion, LeRF and SRG: higher is better.
        - ``normalised=True``: ``(AUC - s(baseline)) / (s(x) - s(baseline))``; SRG is divided by the same denominator,
          that of the removal baseline. Undefined, NaN, unless the image scores higher than its baseline by more than
          rounding (relative to them, the square root of the machine epsilon).
        - ``bounds``: lowest and highest area over the tie orders that were tried; see ``ties`` of `Protocol`.
        - a map with a NaN or infinite value has NaN curves; constant and all-zero maps are measured like any others.

    Attributes:
        protocol: how all of it was measured.
        found: the curves by name.
        status: ``"ok"``, ``"constant"``, ``"zero"`` or ``"nan"`` of each map, after the protocol's channels and sign.
        tied: ``(N,)``, share of the pixels that have the value of another across a step boundary.
        epsilon: machine epsilon of the inputs, the relative rounding error of a score.
    """

    protocol: Protocol
    found: Mapping[str, Curve] = field(repr=False)
    status: tuple[Status, ...]
    tied: Tensor
    epsilon: float = field(repr=False)

    @property
    def names(self) -> tuple[str, ...]:
        """The curves that were measured."""
        return tuple(self.found)

    def curve(self, name: str) -> tuple[Tensor, Tensor]:
        """Fractions and scores ``(N, K)`` of one curve, averaged over tie orders."""
        curve = self._get(name)
        return curve.fraction[: curve.averaged].mean(0), curve.score[: curve.averaged].mean(0)

    def auc(self, name: str, normalised: bool = False) -> Tensor:
        """Area under one curve, ``(N,)``; or SRG, which is a difference of two."""
        curve = self._get("morf" if name == "srg" else name)
        area = self._areas(name)[: curve.averaged].mean(0)
        if not normalised:
            return area
        gap = curve.clean - curve.floor
        rounding = self.epsilon**0.5 * torch.maximum(curve.clean.abs(), curve.floor.abs())
        share = (area if name == "srg" else area - curve.floor) / gap
        return share.where(gap > rounding, float("nan"))

    def srg(self, normalised: bool = False) -> Tensor:
        """Symmetric relevance gain, ``(N,)``."""
        return self.auc("srg", normalised)

    def bounds(self, name: str) -> Tensor:
        """Lowest and highest area over the tie orders that were tried, ``(N, 2)``; ``name`` may be ``"srg"``."""
        areas = self._areas(name)
        return torch.stack([areas.amin(0), areas.amax(0)], 1)

    def integration_error(self, name: str) -> Tensor:
        """Most that too few points can have moved the area, ``(N,)``, if the score is monotone between them.

        A score that collapses within the first of 25 steps leaves an area of 0.02, give or take 0.02: two such methods
        cannot be told apart with so few points.

        With ``steps="adaptive"``: what was brought below the tolerance, the most that the area can be off that of all
        ``max_steps`` points, if between its points the score is monotone or a tent no steeper than its surroundings.
        """
        read = [self._get(one) for one in (("morf", "lerf") if name == "srg" else (name,))]
        return torch.stack([curve.slack[: curve.averaged].mean(0) for curve in read]).sum(0)

    def counts(self) -> dict[str, int]:
        """How many maps have each status, and how many have a curve without a normalised value."""
        undefined = torch.stack([self.auc(name, normalised=True).isnan() for name in self.names]).any(0)
        return {**{name: self.status.count(name) for name in STATUSES}, "undefined": int(undefined.sum())}

    def _areas(self, name: str) -> Tensor:
        return self._get("lerf").areas - self._get("morf").areas if name == "srg" else self._get(name).areas

    def _get(self, name: str) -> Curve:
        if name not in self.found:
            raise InputError(
                f"curve must be one of those measured, {', '.join(self.found)}; got {name!r}. "
                "`which` and the protocol's `order` decide what is measured."
            )
        return self.found[name]
