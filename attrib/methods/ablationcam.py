"""Ablation-CAM: channels weighted by what the score loses without them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from attrib import checks
from attrib.core import Attribution, Baseline, Query, sweep
from attrib.core.channels import most_varied, picked, weighted
from attrib.core.layer_map import LayerMap
from attrib.core.masking.options import SWEEP_OPTIONS, check_options
from attrib.core.network.geometry import Reshape
from attrib.core.objectives.objective import SPACES, Space
from attrib.errors import ShapeError, TargetError
from attrib.registry import METHODS


@dataclass(frozen=True)
class Without:
    """Masks that each hide one of ``channels (N, k)``, which lie on ``axis`` of an activation of ``shape``."""

    shape: tuple[int, ...]
    axis: int
    channels: Tensor

    def __len__(self) -> int:
        return self.channels.shape[1]

    def batch(self, start: int, stop: int, like: Tensor) -> Tensor:
        """Masks ``start`` to ``stop``, ``(k, N, ..., K, ...)``."""
        hidden = self.channels[:, start:stop].T[..., None]
        keep = like.new_ones(*hidden.shape[:2], self.shape[self.axis]).scatter_(2, hidden, 0)
        return keep.reshape(*hidden.shape[:2], *(-1 if i == self.axis else 1 for i in range(1, len(self.shape))))


@METHODS.add("ablationcam")
class AblationCAM(Attribution):
    r"""Where the channels are active without which the score falls.

    .. math:: M_{hw} = \mathrm{ReLU}\Big(\sum_k (S - S_k)\, A_{khw}\Big)

    where :math:`S_k` is the score with channel :math:`k` of the layer replaced by the baseline, zero.

    Convention:
        - map: ``(N, 1, h, w)`` of the layer, or ``(N, 1, H, W)`` bilinear with ``upsample=True``; not normalised.
        - larger supports the goal, whatever the sign of the score; unit: score times activation.
        - ``normalise=True`` divides by the magnitude of S: the paper's weights where S > 0. Where S < 0 those of
          the paper and of pytorch-grad-cam change sign; these do not.
        - a channel is hidden as a whole: at all locations, and in tokens without a location too.
        - ``channels``: the map is made of each example's channels of largest variance alone.
        - ``relu=False`` keeps evidence against the score as negative values.
        - the class is decided once, on the clean input.

    Cost: K forward passes from the layer on per example for K channels, plus one from the input; no gradient.

    Args:
        model: see `Attribution`.
        layer: a spatial layer; the last one if None.
        normalise: divide by the magnitude of the score.
        baseline: what a hidden channel shows, see `resolve_baseline`.
        score: score space (``"logit"``, ``"probability"``, ``"log_probability"``, ``"log_odds"``); None: the target's.
        channels: use so many channels at most; None is all.
        relu: keep only what supports the score.
        upsample: resize to the input.
        reshape: makes ``(N, K, h, w)`` of the layer's activation where the layout is not recognised; keeps the order of
            the channels.
        options: how the sweep runs, see `SweepOptions`: ``batch_size``, ``show_progress``, ...

    Example:
        >>> AblationCAM(model, "conv").attribute(x, target=3).shape
        torch.Size([2, 1, 12, 12])

    References:
        Desai, Ramaswamy, "Ablation-CAM: Visual Explanations for Deep Convolutional Network via Gradient-free
        Localization", WACV 2020, section 3.
    """

    needs_layer = True
    further_options = SWEEP_OPTIONS

    def __init__(  # noqa: PLR0913  the paper's settings, and how they run
        self,
        model: Callable[..., Any],
        layer: str | nn.Module | None = None,
        *,
        normalise: bool = False,
        baseline: Baseline = "zero",
        score: Space | None = None,
        channels: int | None = None,
        relu: bool = True,
        upsample: bool = False,
        reshape: Reshape | None = None,
        **options: Any,
    ) -> None:
        super().__init__(model, layer)
        self.normalise = checks.boolean("normalise", normalise)
        self.baseline = baseline
        self.score: Space | None = None if score is None else checks.choice("score", score, SPACES)
        self.channels = None if channels is None else checks.integer("channels", channels, 1)
        self.at = LayerMap(relu, upsample, reshape)
        self.options = check_options(options, local=False, of=type(self))  # type: ignore[arg-type]

    def _attribute(self, query: Query) -> Tensor:
        query = query.in_space(self.score)
        act, clean = self.at.activation(query), query.clean.score
        channels = most_varied(act, self.channels)
        masks = Without(*self._axis(query, act.shape[1]), channels)
        drop = clean.new_zeros(len(masks), len(clean))
        for positions, score in sweep(query, masks, baseline=self.baseline, at=query.layer, **self.options):
            drop[positions] = clean - score
        if self.normalise:
            drop = drop / _magnitude(clean)
        return self.at.finish(query, weighted(picked(act, channels), drop.T))

    def _axis(self, query: Query, channels: int) -> tuple[tuple[int, ...], int]:
        """Shape of the activation, and the axis of its channels."""
        act = query.clean.acts[str(query.layer)]
        fitting = [i for i, size in enumerate(act.shape) if i and size == channels]
        axis = fitting[0] if self.at.reshape and len(fitting) == 1 else query.layout(act).channels
        if act.shape[axis] != channels:
            raise ShapeError(f"reshape must keep all channels of {tuple(act.shape)}; got {channels} of them.")
        return tuple(act.shape), axis


def _magnitude(score: Tensor) -> Tensor:
    if not score.all():
        raise TargetError("the score must not be zero to be divided by; got 0. Use normalise=False.")
    return score.abs()
