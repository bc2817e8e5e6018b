"""Rank accuracy and pixel AUC: do the pixels of the object come first in the order of a map?"""

from __future__ import annotations

import torch
from torch import Tensor

from attrib.metrics.masked import MaskMetric
from attrib.registry import METRICS


def found_inside(values: Tensor, where: Tensor) -> Tensor:
    """Expected pixels inside among the ``k`` highest, ``(N, HW + 1)`` for k from 0 on; equal ones in random order."""
    ranked, order = values.flatten(1).sort(dim=1, descending=True)
    hits = torch.nn.functional.pad(where.flatten(1).gather(1, order).double().cumsum(1), (1, 0))
    fallen = -ranked
    first, last = (torch.searchsorted(fallen, fallen, right=right) for right in (False, True))  # of the equal ones
    below, above = hits.gather(1, first), hits.gather(1, last)
    taken = torch.arange(1, ranked.shape[1] + 1) - first
    found = below + (above - below) * taken / (last - first)
    return torch.nn.functional.pad(found, (1, 0))


@METRICS.add("rank_accuracy")
class RankAccuracy(MaskMetric):
    r"""Of the ``k`` most relevant pixels, which share lies inside the object of ``k`` pixels?

    .. math:: s = \frac{|\mathrm{top}_k(M) \cap G|}{k}, \qquad k = |G|

    Convention:
        - in [0, 1]; higher is better; chance is the area of the mask.
        - only the order counts. Equal values at the edge of the top count by their share inside, which is the mean over
          all orders of them: a constant map has exactly chance.

    Cost: no pass.

    Example:
        >>> masks = torch.zeros(2, 12, 12, dtype=torch.bool)
        >>> masks[:, :3] = True
        >>> RankAccuracy().score(model, x, 3, masks[:, None].float(), masks=masks)
        tensor([1., 1.], dtype=torch.float64)

    References:
        Arras, Osman, Samek, "CLEVR-XAI: A Benchmark Dataset for the Ground Truth Evaluation of Neural Network
        Explanations", Information Fusion 2022.
    """

    def read(self, values: Tensor, where: Tensor) -> Tensor:
        """Expected pixels inside among the highest ones."""
        size = where.flatten(1).sum(1, keepdim=True)
        return (found_inside(values, where).gather(1, size) / size).squeeze(1)


@METRICS.add("pixel_auc")
class PixelAUC(MaskMetric):
    r"""How likely is a pixel of the object above one that is not of it? The area under the ROC curve of pixels.

    .. math:: s = \frac{R - \tfrac{1}{2} |G| (|G| + 1)}{|G| (HW - |G|)}, \qquad R = \sum_{p \in G} \mathrm{rank}(M_p)

    Convention:
        - in [0, 1]; higher is better; chance is 0.5 whatever the area of the object.
        - only the order counts; equal values have their middle rank, so that each pair of equals counts one half.
        - NaN also where the object fills the image, which leaves no pixel to be above.

    Cost: no pass.

    Example:
        >>> masks = torch.zeros(2, 12, 12, dtype=torch.bool)
        >>> masks[:, :3] = True
        >>> PixelAUC().score(model, x, 3, torch.ones(2, 1, 12, 12), masks=masks)
        tensor([0.5000, 0.5000], dtype=torch.float64)

    References:
        Fawcett, "An introduction to ROC analysis", Pattern Recognition Letters 2006.
    """

    def read(self, values: Tensor, where: Tensor) -> Tensor:
        """Of all pairs, those in the right order."""
        flat, object_ = values.flatten(1), where.flatten(1)
        ranked = flat.sort(dim=1).values
        middle = sum(torch.searchsorted(ranked, flat.contiguous(), right=right) for right in (False, True)) + 1
        size = object_.sum(1)
        pairs = size * (flat.shape[1] - size)
        return ((middle * object_).sum(1) - size * (size + 1)).double() / (2 * pairs)  # middle is twice the rank
