"""Score-CAM: channels weighted by the score of what they show of the input."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from attrib import checks
from attrib.core import Attribution, Baseline, Query, sweep
from attrib.core.channels import most_varied, picked, weighted
from attrib.core.layer_map import LayerMap
from attrib.core.masking.options import SWEEP_OPTIONS, check_options
from attrib.core.network.geometry import Reshape
from attrib.core.objectives.objective import SPACES, Space
from attrib.core.reduce import upsample as resized
from attrib.registry import METHODS


@dataclass(frozen=True)
class Shown:
    """One mask per channel of ``maps (N, K, ...)``, of ``size``: the input shows where the channel is high."""

    maps: Tensor
    size: tuple[int, ...]

    def __len__(self) -> int:
        return self.maps.shape[1]

    @property
    def flat(self) -> Tensor:
        """Channels ``(N, K)`` that have one value everywhere, but for rounding: they show nothing."""
        rows = self.maps.flatten(2)
        return rows.amax(2) - rows.amin(2) <= 8 * torch.finfo(rows.dtype).eps * rows.abs().amax(2)

    def batch(self, start: int, stop: int, like: Tensor) -> Tensor:
        """Masks ``start`` to ``stop``, ``(k, N, 1, *size)`` in [0, 1]: resized, then stretched."""
        part = Shown(self.maps[:, start:stop], self.size)
        large = resized(part.maps, self.size)
        places = tuple(range(2, large.ndim))
        low, high = large.amin(places, True), large.amax(places, True)
        keep = ((large - low) / (high - low)).masked_fill(part.flat.reshape(low.shape), 0)
        return keep.transpose(0, 1)[:, :, None].to(like)


@METHODS.add("scorecam")
class ScoreCAM(Attribution):
    r"""Where the channels are active that, used as masks of the input, keep the score.

    .. math:: M_{hw} = \mathrm{ReLU}\Big(\sum_k \alpha_k A_{khw}\Big), \quad \alpha = \mathrm{softmax}_k(C), \quad
              C_k = s(x \odot H_k + b \odot (1 - H_k)) - s(b)

    where :math:`H_k` is the channel :math:`A_k`, resized to the input and then stretched to [0, 1].

    Convention:
        - map: ``(N, 1, h, w)`` of the layer, or ``(N, 1, H, W)`` bilinear with ``upsample=True``; not normalised.
        - ``weights="softmax"``: weights are positive and sum to 1; the map has the unit of the activation.
        - ``weights="increase"``: the weights are the increases C, of either sign; unit: score times activation.
        - the score is the target's own, a logit for a class; ``score="probability"`` takes the model's softmax first.
        - a channel that is the same everywhere shows nothing and has weight zero, also in the softmax.
        - ``channels``: the map is made of each example's channels of largest variance alone.
        - the class is decided once, on the clean input.

    Cost: K forward passes per example for K channels, plus two (clean, baseline); no gradient.

    Args:
        model: see `Attribution`.
        layer: a spatial layer; the last one if None.
        weights: ``"softmax"`` or ``"increase"``.
        baseline: what the masks hide the input with, see `resolve_baseline`.
        score: score space (``"logit"``, ``"probability"``, ``"log_probability"``, ``"log_odds"``); None: the target's.
        channels: use so many channels at most; None is all.
        relu: keep positive values only.
        upsample: resize to the input.
        reshape: makes ``(N, K, h, w)`` of the layer's activation where the layout is not recognised.
        options: how the sweep runs, see `SweepOptions`: ``batch_size``, ``show_progress``, ...

    Example:
        >>> ScoreCAM(model, "conv").attribute(x, target=3).shape
        torch.Size([2, 1, 12, 12])

    References:
        Wang et al., "Score-CAM: Score-Weighted Visual Explanations for Convolutional Neural Networks", CVPR Workshops
        2020, section 3 and algorithm 1.
    """

    needs_layer = True
    further_options = SWEEP_OPTIONS

    def __init__(  # noqa: PLR0913  the paper's settings, and how they run
        self,
        model: Callable[..., Any],
        layer: str | nn.Module | None = None,
        *,
        weights: Literal["softmax", "increase"] = "softmax",
        baseline: Baseline = "zero",
        score: Space | None = None,
        channels: int | None = None,
        relu: bool = True,
        upsample: bool = False,
        reshape: Reshape | None = None,
        **options: Any,
    ) -> None:
        super().__init__(model, layer)
        self.weights = checks.choice("weights", weights, ("softmax", "increase"))
        self.baseline = baseline
        self.score: Space | None = None if score is None else checks.choice("score", score, SPACES)
        self.channels = None if channels is None else checks.integer("channels", channels, 1)
        self.at = LayerMap(relu, upsample, reshape)
        self.options = check_options(options, local=False, of=type(self))  # type: ignore[arg-type]

    def _attribute(self, query: Query) -> Tensor:
        query = query.in_space(self.score)
        act = self.at.activation(query)
        act = picked(act, most_varied(act, self.channels))
        return self.at.finish(query, weighted(act, self._weights(query, act)))

    def _weights(self, query: Query, act: Tensor) -> Tensor:
        """Weights ``(N, K)``; the last mask shows nothing, so that its score is the baseline's."""
        masks = Shown(torch.cat([act, torch.zeros_like(act[:, :1])], 1), query.size)
        score = query.clean.score.new_zeros(len(masks), len(act))
        for positions, found in sweep(query, masks, baseline=self.baseline, **self.options):
            score[positions] = found
        increase, flat = (score[:-1] - score[-1]).T, masks.flat[:, :-1]
        if self.weights == "increase":
            return increase.masked_fill(flat, 0)
        return increase.masked_fill(flat, -torch.inf).softmax(1).masked_fill(flat, 0)
