"""Gradients along the way from a baseline to the input."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import captum.attr
import numpy as np
import torch
from torch import Tensor, nn

from attrib import checks
from attrib.core import Baseline, Query
from attrib.interop.forms import Several, distribution, filled, usual
from attrib.interop.presets.sampled import Sampled, drawn
from attrib.interop.wrapped import FromCaptum
from attrib.registry import METHODS


def scores_at(query: Query, baselines: tuple[Tensor, ...], rows: Tensor) -> Tensor:
    """Scores of ``baselines``, each for the goal and further arguments of the example in ``rows``."""
    goal = query.clean.goal.rows(rows)
    with torch.no_grad():
        output, acts = query.run(baselines, *goal.layers, extra=query.extra_rows(rows))
        return goal(output, acts)


def scores_at_baselines(query: Query, given: Baseline | tuple[Baseline, ...]) -> Tensor:
    """Score of the baseline of each example, one baseline for all inputs or one for each, ``(N,)``."""
    return scores_at(
        query, filled(given, query.inputs), torch.arange(len(query.inputs[0]), device=query.inputs[0].device)
    )


@METHODS.add("integrated_gradients")
class IntegratedGradients(FromCaptum):
    r"""What each pixel contributes on the straight way from a baseline to the input.

    .. math:: M_{hw} = \sum_c (x_{chw} - b_{chw}) \int_0^1
        \frac{\partial S}{\partial x_{chw}}\bigl(b + t\,(x - b)\bigr)\, dt

    Convention:
        - map: ``(N, 1, H, W)``, or the layer's ``(N, 1, h, w)``; signed; unit: score.
        - the sum over the map is ``S(x) - S(b)``, up to the error of the sum that stands for the integral.
        - the baseline is zero in the model's space: the mean colour after normalisation.

    Cost: ``n_steps`` forward and backward passes, and one forward pass.

    Args:
        model: see `Attribution`.
        layer: explain this layer's activations instead of the inputs.
        baselines: see `resolve_baseline`.
        n_steps: points at which the gradient is taken, >= 1.
        batch_size: rows in one pass, >= 1; it bounds the memory.
        options: of Captum's class and of `FromCaptum`.

    Example:
        >>> IntegratedGradients(model).attribute(x, target=3).shape
        torch.Size([2, 1, 12, 12])

    References:
        Sundararajan, Taly, Yan, "Axiomatic Attribution for Deep Networks", ICML 2017, eq. 1.
    """

    captum_class = captum.attr.IntegratedGradients

    def __init__(
        self,
        model: Callable[..., Any],
        layer: str | nn.Module | None = None,
        *,
        baselines: Baseline | tuple[Baseline, ...] = "zero",
        n_steps: int = 50,
        batch_size: int = 32,
        **options: Any,
    ) -> None:
        self.together = checks.integer("batch_size", batch_size, 1)
        options = {"internal_batch_size": self.together, "n_steps": checks.integer("n_steps", n_steps, 1), **options}
        super().__init__(model, layer, baselines=baselines, **options)

    def due(self, query: Query) -> Tensor | None:
        """See `Attribution.due`: the score less that of the baseline, at the inputs."""
        whole = self.adds_up and self.given.get("multiply_by_inputs", True) and query.layer is None
        return query.clean.score - scores_at_baselines(query, self.given["baselines"]) if whole else None


@METHODS.add("gradient_shap")
class GradientShap(Sampled):
    r"""What each pixel contributes on the ways from several baselines: integrated gradients, in expectation.

    .. math:: M_{hw} = \mathbb{E}_{b, t} \sum_c (x_{chw} - b_{chw})
        \frac{\partial S}{\partial x_{chw}}\bigl(b + t\,(x - b)\bigr)

    Convention:
        - map: ``(N, 1, H, W)``, or the layer's ``(N, 1, h, w)``; signed; unit: score.
        - the baselines are zero, the example's mean colour and the blurred example, each as likely as the others.
        - the sum over the map is ``S(x)`` minus the mean score of the baselines in expectation; a sample is off.
        - sample ``k`` follows from ``seed`` and ``k`` alone: the same for every example, at any ``batch_size``.

    Cost: ``n_samples`` forward and backward passes, and one forward pass; at a layer ``n_samples`` forward passes more.

    Args:
        model: see `Attribution`.
        layer: explain this layer's activations instead of the inputs.
        baselines: one of `resolve_baseline`'s forms or a list of them, a Tensor ``(B, C, H, W)`` such as a batch of
            other images, or a function of the input that gives one. Without two axes of locations nothing is blurred.
        n_samples: pairs of a baseline and a point on the way, >= 1.
        batch_size: rows in one pass, >= 1; it bounds the memory.
        multiply_by_inputs: whether gradients are multiplied by ``x - b``.
        seed: same seed, same map; the global random states are not touched.
        options: ``channels`` and ``absolute``, see `FromCaptum`.

    Example:
        >>> GradientShap(model).attribute(x, target=3).shape
        torch.Size([2, 1, 12, 12])

    References:
        Lundberg, Lee, "A Unified Approach to Interpreting Model Predictions", NeurIPS 2017; the expectation over
        baselines is eq. 3 of Erion, Janizek, Sturmfels, Lundberg, Lee, Nature Machine Intelligence 3, 2021.
    """

    def __init__(
        self,
        model: Callable[..., Any],
        layer: str | nn.Module | None = None,
        *,
        baselines: Several = usual,
        n_samples: int = 20,
        batch_size: int = 32,
        multiply_by_inputs: bool = True,
        seed: int = 0,
        **options: Any,
    ) -> None:
        super().__init__(model, layer, n_samples=n_samples, batch_size=batch_size, seed=seed, **options)
        self.baselines = baselines
        self.multiply_by_inputs = checks.boolean("multiply_by_inputs", multiply_by_inputs)

    @property
    def multiplies_by_inputs(self) -> bool:  # noqa: D102
        return self.multiply_by_inputs

    def _terms(self, query: Query, row: Tensor, sources: Sequence[np.random.Generator]) -> tuple[Tensor, ...]:
        inputs = tuple(x[row] for x in query.inputs)
        several = distribution(self.baselines, inputs)
        chosen = [int(source.integers(len(several[0]))) for source in sources]
        starts = tuple(b[chosen] for b in several)
        way = [source.random() for source in sources]
        points = tuple(b + drawn(way, b).reshape(-1, *[1] * (b.ndim - 1)) * (x - b)
                       for x, b in zip(inputs, starts, strict=True))  # fmt: skip
        slopes = self._slopes(query, row, points)
        if not self.multiply_by_inputs:
            return slopes
        return tuple(g * d for g, d in zip(slopes, self._differences(query, row, starts), strict=True))

    @staticmethod
    def _differences(query: Query, row: Tensor, starts: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """How far the example ``row (1,)``, or its activation at the layer, is from each of the baselines."""
        if query.layer is None:
            return tuple(x[row] - b for x, b in zip(query.inputs, starts, strict=True))
        with torch.no_grad():
            extra = query.extra_rows(row.expand(len(starts[0])))
            _, acts = query.run(tuple(b.clone() for b in starts), query.layer, extra=extra)
        return (query.clean.acts[query.layer][row] - acts[query.layer],)
