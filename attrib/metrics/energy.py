"""Energy inside the object: the share of a map's positive part that its mask holds."""

from __future__ import annotations

from torch import Tensor

from attrib.metrics.masked import MaskMetric
from attrib.registry import METRICS


@METRICS.add("energy")
class Energy(MaskMetric):
    r"""Which share of the positive relevance lies inside the object?

    .. math:: s = \frac{\sum_{p \in G} M_p^+}{\sum_p M_p^+}, \qquad
        s_{\mathrm{normalised}} = \frac{s - a}{1 - a}, \quad a = |G| / HW

    Convention:
        - in [0, 1]; higher is better. Known as the energy-based pointing game and as relevance mass accuracy.
        - negative values count as nothing, wherever they are; ``Protocol(sign="absolute")`` counts their size.
        - chance is the area ``a``: a uniform map has exactly that, so numbers of objects of different size compare only
          after ``normalised=True``, where chance is 0, the best is 1 and there is no lowest value.
        - NaN where nothing is positive, and, normalised, where the object fills the image.

    Cost: no pass.

    Args:
        normalised: relative to the area of the mask.

    Example:
        >>> masks = torch.zeros(2, 12, 12, dtype=torch.bool)
        >>> masks[:, :3] = True
        >>> Energy().score(model, x, 3, torch.ones(2, 1, 12, 12), masks=masks)
        tensor([0.2500, 0.2500], dtype=torch.float64)

    References:
        Wang et al., "Score-CAM: Score-Weighted Visual Explanations for Convolutional Neural Networks", CVPRW 2020.
        Arras, Osman, Samek, "CLEVR-XAI: A Benchmark Dataset for the Ground Truth Evaluation of Neural Network
        Explanations", Information Fusion 2022.
    """

    def __init__(self, *, normalised: bool = False) -> None:
        self.normalised = normalised

    def read(self, values: Tensor, where: Tensor) -> Tensor:
        """Positive part inside over positive part."""
        positive = values.clamp(min=0).flatten(1)
        held = (positive * where.flatten(1)).sum(1) / positive.sum(1)
        if not self.normalised:
            return held
        area = where.flatten(1).double().mean(1)
        return ((held - area) / (1 - area)).masked_fill(area == 1, float("nan"))
