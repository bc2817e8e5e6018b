"""Gradients along the way from a baseline to the input."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import captum.attr
import torch
from torch import Tensor, nn

from attrib import checks
from attrib.core import Baseline, Query, resolve_baseline
from attrib.interop.wrapped import FromCaptum
from attrib.registry import METHODS

BASELINES: tuple[Baseline, ...] = ("zero", "mean", "blur")


def several(given: Sequence[Baseline] | Tensor | Callable[..., Any], query: Query, rows: Tensor) -> Any:
    """A distribution of baselines as Captum takes it: ``(B, C, H, W)``, of the one example ``rows``.

    A list or tuple has our forms, one for each baseline; a Tensor or a callable goes to Captum as it is.
    """
    if isinstance(given, Tensor) or callable(given):
        return given
    x = query.x[rows]
    return torch.cat([resolve_baseline(one, x).expand_as(x) for one in given])


def scores_at(query: Query, baselines: tuple[Tensor, ...], rows: Tensor) -> Tensor:
    """Scores of ``baselines``, each for the goal and further arguments of the example in ``rows``."""
    goal = query.clean.goal.rows(rows)
    with torch.no_grad():
        output, acts = query.run(baselines, *goal.layers, extra=query.extra_rows(rows))
        return goal(output, acts)


def scores_at_baselines(query: Query, given: Baseline | tuple[Baseline, ...]) -> Tensor:
    """Score of the baseline of each example, one baseline for all inputs or one for each, ``(N,)``."""
    each = given if isinstance(given, tuple) else (given,) * len(query.inputs)
    filled = tuple(resolve_baseline(b, x).expand_as(x).clone() for b, x in zip(each, query.inputs, strict=True))
    return scores_at(query, filled, torch.arange(len(filled[0]), device=filled[0].device))


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
        options |= {"internal_batch_size": self.together, "n_steps": checks.integer("n_steps", n_steps, 1)}
        super().__init__(model, layer, baselines=baselines, **options)

    def due(self, query: Query) -> Tensor | None:
        """See `Attribution.due`: the score less that of the baseline, at the inputs."""
        whole = self.adds_up and self.given.get("multiply_by_inputs", True) and query.layer is None
        return query.clean.score - scores_at_baselines(query, self.given["baselines"]) if whole else None


@METHODS.add("gradient_shap")
class GradientShap(FromCaptum):
    r"""What each pixel contributes on the ways from several baselines: integrated gradients, in expectation.

    .. math:: M_{hw} = \mathbb{E}_{b, t} \sum_c (x_{chw} - b_{chw})
        \frac{\partial S}{\partial x_{chw}}\bigl(b + t\,(x - b)\bigr)

    Convention:
        - map: ``(N, 1, H, W)``, or the layer's ``(N, 1, h, w)``; signed; unit: score.
        - the baselines are zero, the example's mean colour and the blurred example, each as likely as the others.
        - the sum over the map is ``S(x)`` minus the mean score of the baselines in expectation; a sample is off.
        - an example gets the same samples alone and in a batch: those of ``seed``.

    Cost: ``n_samples`` forward and backward passes, and one forward pass.

    Args:
        model: see `Attribution`.
        layer: explain this layer's activations instead of the inputs.
        baselines: several of `resolve_baseline`'s forms, a Tensor ``(B, C, H, W)`` such as a batch of other images, or
            a function of the input that gives one.
        n_samples: pairs of a baseline and a point on the way, >= 1.
        batch_size: rows in one pass, >= 1; it bounds the memory.
        seed: same seed, same map; the global random states are not touched.
        options: of Captum's class and of `FromCaptum`.

    Example:
        >>> GradientShap(model).attribute(x, target=3).shape
        torch.Size([2, 1, 12, 12])

    References:
        Lundberg, Lee, "A Unified Approach to Interpreting Model Predictions", NeurIPS 2017; the expectation over
        baselines is eq. 3 of Erion, Janizek, Sturmfels, Lundberg, Lee, Nature Machine Intelligence 3, 2021.
    """

    captum_class = captum.attr.GradientShap
    together = 1

    def __init__(
        self,
        model: Callable[..., Any],
        layer: str | nn.Module | None = None,
        *,
        baselines: Sequence[Baseline] | Tensor | Callable[..., Any] = BASELINES,
        n_samples: int = 20,
        batch_size: int = 32,
        seed: int = 0,
        **options: Any,
    ) -> None:
        self.batch_size = checks.integer("batch_size", batch_size, 1)
        options["n_samples"] = checks.integer("n_samples", n_samples, 1)
        super().__init__(model, layer, baselines=baselines, seed=seed, **options)

    def _given(self, query: Query, rows: Tensor) -> dict[str, Any]:
        return {**self.given, "baselines": several(self.given["baselines"], query, rows)}

    def _ask(self, method: Any, inputs: Any, rows: Tensor, options: dict[str, Any]) -> Any:
        """As many samples at a time as fit; Captum takes all at once."""
        n, found = options["n_samples"], []
        for start in range(0, n, self.batch_size):
            share = min(self.batch_size, n - start)
            part = super()._ask(method, inputs, rows, {**options, "n_samples": share})
            found.append([m * (share / n) for m in (part if isinstance(part, tuple) else (part,))])
        return tuple(torch.stack(items).sum(0) for items in zip(*found, strict=True))
