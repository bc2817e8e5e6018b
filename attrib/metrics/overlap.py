"""Intersection over union of the mask and a map cut at a threshold: at its best, and over all thresholds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from attrib.metrics.masked import MaskMetric
from attrib.metrics.protocol import Protocol
from attrib.metrics.ranked import found_inside
from attrib.metrics.values import inside, pixel_values
from attrib.registry import METRICS


def iou_curve(
    x: Tensor, maps: Tensor, masks: Tensor, protocol: Protocol | str | Mapping[str, Any] = "default"
) -> tuple[Tensor, Tensor]:
    r"""Overlap of the object and the ``k`` highest pixels of a map, for every ``k``.

    .. math:: \mathrm{IoU}_k = \frac{|\mathrm{top}_k(M) \cap G|}{k + |G| - |\mathrm{top}_k(M) \cap G|}

    Equal values are taken at once at a real threshold; between two thresholds the intersection grows evenly, which is
    its mean over all orders of the equal ones.

    Args:
        x: the explained inputs ``(N, C, H, W)``.
        maps: the explanations ``(N, C, h, w)``.
        masks: ``(N, H, W)`` bool, True inside the object.
        protocol: its channels and sign are used.

    Returns:
        The share of pixels taken, ``(HW + 1,)``, and the overlap at each, ``(N, HW + 1)``; NaN for an empty mask or a
        map that is not finite.

    Example:
        >>> masks = torch.zeros(2, 12, 12, dtype=torch.bool)
        >>> masks[:, :3] = True
        >>> share, overlap = iou_curve(x, masks[:, None].float(), masks)
        >>> share[overlap[0].argmax()], overlap[0].max()
        (tensor(0.2500, dtype=torch.float64), tensor(1., dtype=torch.float64))
    """
    values, finite = pixel_values(maps, x, protocol)
    where = inside(masks, x)
    undefined = ~finite | ~where.flatten(1).any(1)
    points = values[0].numel() + 1
    return torch.arange(points).double() / (points - 1), _overlap(values, where).masked_fill(
        undefined[:, None], float("nan")
    )


def _overlap(values: Tensor, where: Tensor) -> Tensor:
    common = found_inside(values, where)
    return common / (torch.arange(common.shape[1]) + where.flatten(1).sum(1, keepdim=True) - common)


@METRICS.add("iou")
class IoU(MaskMetric):
    r"""How well does the map outline the object, cut at the threshold that suits it best?

    .. math:: s = \max_t \frac{|\{M \ge t\} \cap G|}{|\{M \ge t\} \cup G|}

    Convention:
        - in [0, 1]; higher is better. All thresholds are tried, each map has its own best one: an upper bound of what
          any rule for choosing one can reach.
        - never below the area of the mask, which is what taking every pixel gives, and what a constant map has.
        - `iou_curve` gives the overlap at every threshold.

    Cost: no pass.

    Example:
        >>> masks = torch.zeros(2, 12, 12, dtype=torch.bool)
        >>> masks[:, :3] = True
        >>> IoU().score(model, x, 3, torch.stack([masks[0], ~masks[0]])[:, None].float(), masks=masks)
        tensor([1.0000, 0.2500], dtype=torch.float64)

    References:
        Choe et al., "Evaluating Weakly Supervised Object Localization Methods Right", CVPR 2020: results turn on the
        threshold, so all of them are to be looked at.
    """

    def read(self, values: Tensor, where: Tensor) -> Tensor:
        """The highest point of the curve; between real thresholds it is monotone, so that is at one of them."""
        return _overlap(values, where).amax(1)


@METRICS.add("iou_area")
class IoUArea(MaskMetric):
    r"""How well does the map outline the object, on average over all thresholds?

    .. math:: s = \int_0^1 \mathrm{IoU}(f)\, df, \qquad
        s_{\mathrm{normalised}} = \frac{s - s_{\mathrm{worst}}}{s_{\mathrm{best}} - s_{\mathrm{worst}}}

    over the share :math:`f` of pixels above the threshold, by the trapezoid rule over all pixels.

    Convention:
        - in [0, 1]; higher is better. Only the order counts, and no threshold is chosen.
        - even a map equal to the mask stays below 1, at a height that depends on the object's size; ``normalised=True``
          puts that map at 1 and its inverse at 0.
        - normalised, NaN also where the object fills the image: all maps are equal there.

    Cost: no pass.

    Args:
        normalised: between the worst and the best map for this mask.

    Example:
        >>> masks = torch.zeros(2, 12, 12, dtype=torch.bool)
        >>> masks[:, :3] = True
        >>> maps = torch.stack([masks[0], ~masks[0]])[:, None].float()
        >>> IoUArea(normalised=True).score(model, x, 3, maps, masks=masks)
        tensor([1., 0.], dtype=torch.float64)

    References:
        Choe et al., "Evaluating Weakly Supervised Object Localization Methods Right", CVPR 2020.
    """

    def __init__(self, *, normalised: bool = False) -> None:
        self.normalised = normalised

    def read(self, values: Tensor, where: Tensor) -> Tensor:
        """Mean height of the curve."""
        area = _area(values, where)
        if not self.normalised:
            return area
        best, worst = _area(where.double(), where), _area(-where.double(), where)
        return ((area - worst) / (best - worst)).masked_fill(where.flatten(1).all(1), float("nan"))


def _area(values: Tensor, where: Tensor) -> Tensor:
    return torch.trapezoid(_overlap(values, where), dim=1) / values[0].numel()
