"""What regions of the input contribute, by a regression over random subsets of them."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import captum.attr
import torch
from captum._utils.models.linear_model import SkLearnRidge
from torch import Tensor, nn

from attrib import checks
from attrib.core import Query
from attrib.interop.forms import regions
from attrib.interop.presets.regions import RegionMethod
from attrib.registry import METHODS


class _Regression(RegionMethod):
    """A regression has an answer for any number of samples, also where they cannot tell the regions apart."""

    def _verify(self, query: Query, maps: tuple[Tensor, ...]) -> None:  # noqa: ARG002
        n_samples, given = self.given["n_samples"], self.given["feature_mask"]
        examples = torch.arange(len(query.inputs[0]), device=query.inputs[0].device)[:, None]
        most = max(regions(given, query.inputs, row) for row in examples)
        if n_samples <= most:
            warnings.warn(
                f"{type(self).__name__} has n_samples={n_samples} for {most} regions, too few to tell them apart; the "
                "map can look right all the same. Take several times as many samples as regions, or fewer regions.",
                stacklevel=2,
            )


@METHODS.add("kernel_shap")
class KernelShap(_Regression):
    r"""What each region adds to the score, on average: Shapley values by one weighted regression.

    .. math:: \min_{M} \sum_{z} \pi(z) \Bigl( s(x_z) - s(b) - \sum_r z_r M_r \Bigr)^2, \qquad
        \pi(z) = \frac{R - 1}{\binom{R}{|z|}\, |z|\, (R - |z|)}

    Convention:
        - map: ``(N, 1, H, W)``; signed; unit: score; every pixel has the value of its whole region.
        - the values of the regions add up to ``S(x) - S(b)``, up to the 1e6 that Captum puts for infinite weight.
        - regions are superpixels of each example; what is hidden is zero in the model's space, its mean colour.
        - an example gets the same samples alone and in a batch: those of ``seed``.

    Cost: ``n_samples`` forward passes, and one; scikit-learn solves the regression.

    Args:
        model: see `Attribution`.
        layer: refused: Captum explains inputs only.
        feature_mask: labels that broadcast to the input, or a function of the input that gives them.
        baselines: what is put in place of a region, see `resolve_baseline`.
        n_samples: subsets ``z``, >= 1; a warning says where they are no more than the regions, which they then cannot
            tell apart.
        batch_size: rows in one pass, >= 1; it bounds the memory.
        seed: same seed, same map; the global random states are not touched.
        channels: ``"mean"``; ``"none"`` repeats each value for every channel.
        options: of Captum's class and of `FromCaptum`.

    Example:
        >>> KernelShap(model, n_samples=100).attribute(x, target=3).shape
        torch.Size([2, 1, 12, 12])

    References:
        Lundberg, Lee, "A Unified Approach to Interpreting Model Predictions", NeurIPS 2017, theorem 2.
    """

    captum_class = captum.attr.KernelShap
    takes_layer = False

    def __init__(
        self,
        model: Callable[..., Any],
        layer: str | nn.Module | None = None,
        *,
        n_samples: int = 500,
        seed: int = 0,
        **options: Any,
    ) -> None:
        super().__init__(model, layer, n_samples=checks.integer("n_samples", n_samples, 1), seed=seed, **options)


@METHODS.add("lime")
class Lime(_Regression):
    r"""The weights of a linear model that imitates the score when regions are hidden at random, near the input.

    .. math:: \min_{M, c} \sum_{z} k(z) \Bigl( s(x_z) - c - \sum_r z_r M_r \Bigr)^2 + \alpha \lVert M \rVert^2, \qquad
        k(z) = \exp \frac{-(1 - \cos(z, 1))^2}{2\, \mathrm{width}^2}

    Convention:
        - map: ``(N, 1, H, W)``; signed; unit: score; every pixel has the value of its whole region.
        - the linear model is a ridge regression, so the map scales with the score; Captum's Lasso does not.
        - nearness is measured on what is hidden, not on colours.
        - regions are superpixels of each example; what is hidden is zero in the model's space, its mean colour.
        - an example gets the same samples alone and in a batch: those of ``seed``.

    Cost: ``n_samples`` forward passes, and one; scikit-learn solves the regression.

    Args:
        model: see `Attribution`.
        layer: refused: Captum explains inputs only.
        feature_mask: labels that broadcast to the input, or a function of the input that gives them.
        baselines: what is put in place of a region, see `resolve_baseline`.
        n_samples: random subsets, >= 1; a warning says where they are no more than the regions, which they then cannot
            tell apart.
        width: of the kernel, > 0; a small one counts only inputs of which little is hidden.
        alpha: how much large weights are held back, >= 0.
        batch_size: rows in one pass, >= 1; it bounds the memory.
        seed: same seed, same map; the global random states are not touched.
        channels: ``"mean"``; ``"none"`` repeats each value for every channel.
        options: of Captum's class and of `FromCaptum`.

    Example:
        >>> Lime(model, n_samples=100).attribute(x, target=3).shape
        torch.Size([2, 1, 12, 12])

    References:
        Ribeiro, Singh, Guestrin, "Why Should I Trust You?", KDD 2016, eq. 2; ridge, width and the distance are those
        that the authors' code takes for images.
    """

    captum_class = captum.attr.Lime
    takes_layer = False

    def __init__(
        self,
        model: Callable[..., Any],
        layer: str | nn.Module | None = None,
        *,
        n_samples: int = 500,
        width: float = 0.25,
        alpha: float = 1.0,
        seed: int = 0,
        **options: Any,
    ) -> None:
        self.width = checks.number("width", width, 1e-6)
        options = {
            "interpretable_model": SkLearnRidge(alpha=checks.number("alpha", alpha, 0)),
            "similarity_func": self._nearness,
            **options,
        }
        super().__init__(model, layer, n_samples=checks.integer("n_samples", n_samples, 1), seed=seed, **options)

    def _nearness(self, _input: object, _perturbed: object, z: Tensor, **_: object) -> float:
        shown = float((z != 0).double().mean())
        return float(torch.tensor(-((1 - shown**0.5) ** 2) / (2 * self.width**2)).exp())
