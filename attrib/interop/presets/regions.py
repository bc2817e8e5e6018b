"""What regions of the input contribute: superpixels are hidden, one, some or all but some at a time."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

import captum.attr
import torch
from torch import Tensor, nn

from attrib import checks
from attrib.core import Baseline, Query, resolve_baseline
from attrib.core.masking.superpixels import superpixels
from attrib.core.reduce import Channels
from attrib.errors import LayerError
from attrib.interop.forms import Regions
from attrib.interop.wrapped import FromCaptum
from attrib.registry import METHODS


class RegionMethod(FromCaptum):
    """Options that the methods of this file share. One example at a time: each has regions of its own."""

    together = 1

    def __init__(
        self,
        model: Callable[..., Any],
        layer: str | nn.Module | None = None,
        *,
        feature_mask: Regions = superpixels,
        baselines: Baseline | tuple[Baseline, ...] = "zero",
        batch_size: int = 32,
        channels: Channels = "mean",
        **options: Any,
    ) -> None:
        options = {"perturbations_per_eval": checks.integer("batch_size", batch_size, 1), **options}
        super().__init__(model, layer, feature_mask=feature_mask, baselines=baselines, channels=channels, **options)


@METHODS.add("feature_ablation")
class FeatureAblation(RegionMethod):
    r"""How much of the score is lost when one region is hidden.

    .. math:: M_{hw} = s(x) - s(x \text{ without the region of } (h, w))

    Convention:
        - map: ``(N, 1, H, W)``; signed; unit: score; every pixel has the value of its whole region.
        - regions are superpixels of each example; what is hidden is zero in the model's space, its mean colour.
        - at a layer, ``(N, 1, h, w)``, each location is a region, over all channels; ``feature_mask`` is not used.

    Cost: one forward pass per region, and two.

    Args:
        model: see `Attribution`.
        layer: hide locations of this layer's activations instead of regions of the input.
        feature_mask: labels that broadcast to the input, or a function of the input that gives them.
        baselines: what is put in place of a region, see `resolve_baseline`.
        batch_size: rows in one pass, >= 1; it bounds the memory.
        channels: ``"mean"``; ``"none"`` repeats each value for every channel.
        options: of Captum's class and of `FromCaptum`.

    Example:
        >>> FeatureAblation(model).attribute(x, target=3).shape
        torch.Size([2, 1, 12, 12])

    References:
        Zeiler, Fergus, "Visualizing and Understanding Convolutional Networks", ECCV 2014, section 4.2, with squares;
        regions: Ribeiro, Singh, Guestrin, KDD 2016.
    """

    captum_class = captum.attr.FeatureAblation

    def _options(self, query: Query, rows: Tensor) -> dict[str, Any]:
        if query.layer is None:
            return super()._options(query, rows)
        act = query.clean.acts[query.layer]
        layout = query.layout_of(act)
        if layout is None:
            raise LayerError(
                f"layer must have locations to hide that are known; {query.layer!r} gives {tuple(act.shape)}. Choose "
                "another layer."
            )
        sizes = [1 if axis in (0, layout.channels) else size for axis, size in enumerate(act.shape)]
        locations = torch.arange(prod(sizes), device=act.device).reshape(sizes)
        left = {k: v for k, v in self.given.items() if k not in ("feature_mask", "baselines")}
        hidden = resolve_baseline(self.given["baselines"], act, layout.channels).expand_as(act)[rows]
        return {**self._accepted(query, left), "layer_mask": locations, "layer_baselines": hidden}


@METHODS.add("shapley_sampling")
class ShapleySampling(RegionMethod):
    r"""What each region adds to the score, on average over the orders in which regions can be shown.

    .. math:: M_r = \mathbb{E}_{\pi} \bigl[ s(x \text{ with } r \text{ and those before it in } \pi)
        - s(x \text{ with those before it}) \bigr]

    Convention:
        - map: ``(N, 1, H, W)``; signed; unit: score; every pixel has the value of its whole region.
        - the values of the regions add up to ``S(x) - S(b)``, for any number of samples.
        - regions are superpixels of each example; what is hidden is zero in the model's space, its mean colour.
        - an example gets the same orders alone and in a batch: those of ``seed``.

    Cost: ``n_samples`` forward passes per region, and a few.

    Args:
        model: see `Attribution`.
        layer: refused: Captum explains inputs only.
        feature_mask: labels that broadcast to the input, or a function of the input that gives them.
        baselines: what is put in place of a region, see `resolve_baseline`.
        n_samples: orders, >= 1.
        batch_size: rows in one pass, >= 1; it bounds the memory.
        seed: same seed, same map; the global random states are not touched.
        channels: ``"mean"``; ``"none"`` repeats each value for every channel.
        options: of Captum's class and of `FromCaptum`.

    Example:
        >>> ShapleySampling(model, n_samples=5).attribute(x, target=3).shape
        torch.Size([2, 1, 12, 12])

    References:
        Castro, Gomez, Tejada, "Polynomial calculation of the Shapley value based on sampling", Computers & Operations
        Research 36, 2009.
    """

    captum_class = captum.attr.ShapleyValueSampling
    takes_layer = False

    def __init__(
        self,
        model: Callable[..., Any],
        layer: str | nn.Module | None = None,
        *,
        n_samples: int = 25,
        seed: int = 0,
        **options: Any,
    ) -> None:
        super().__init__(model, layer, n_samples=checks.integer("n_samples", n_samples, 1), seed=seed, **options)
