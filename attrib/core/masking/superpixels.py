"""Superpixels: small regions of like colour, the parts that people see in a picture."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from attrib import checks

_NOTHING = 1e-6  # an image whose values span less has no edges to follow
_STEPS = 12  # doublings of the compactness, after which regions are squares


def superpixels(x: Tensor, *, n: int = 50, compactness: float = 0.3) -> Tensor:
    """Cut each example of ``x (N, C, H, W)`` into about ``n`` connected regions of like colour (SLIC).

    Colours are what the model sees, scaled to span 0 to 1 in each example: normalised inputs of any number of
    channels will do, and adding to ``x`` or multiplying it changes nothing. The same image gives the same regions.

    Args:
        x: images.
        n: about how many regions, >= 1; the image decides how many there are in the end.
        compactness: how much being near counts beside being alike; > 0. Large values give squares. It is doubled for an
            example as often as fewer than ``n / 2`` regions come out, as they do of noise.

    Returns:
        Labels ``(N, 1, H, W)``, int64, on the device of ``x``: 0, 1, 2 ... without gaps, for each example anew.

    Raises:
        MissingDependency: scikit-image is not installed.

    Example:
        >>> labels = superpixels(x, n=4)
        >>> labels.shape, labels.unique().tolist()
        (torch.Size([2, 1, 12, 12]), [0, 1, 2, 3])
    """
    checks.shape(x, "n c h w", "x")
    checks.integer("n", n, 1)
    checks.number("compactness", compactness, 1e-6)
    slic = checks.require("skimage.segmentation", "superpixels", "analysis").slic
    labels = [_labelled(slic, image, n, compactness) for image in x.detach().cpu().double().numpy()]
    return torch.from_numpy(np.stack(labels)[:, None]).to(x.device)


def _labelled(slic: Any, image: NDArray[np.float64], n: int, compactness: float) -> NDArray[np.int64]:
    span = float(np.ptp(image))
    colours = (image - image.min()) / span if span > _NOTHING else np.zeros_like(image)
    n = min(n, image.shape[1] * image.shape[2])
    for step in range(_STEPS):  # noise falls to pieces that SLIC then joins to very few; squares never do
        found = slic(
            np.moveaxis(colours, 0, -1),
            n_segments=n,
            compactness=compactness * 2**step,
            convert2lab=False,  # meant for red, green and blue between 0 and 1, which a model's inputs are not
            channel_axis=-1,
            start_label=0,
        )
        labels = np.unique(found, return_inverse=True)[1].reshape(found.shape).astype(np.int64)
        if 2 * (labels.max() + 1) >= n:
            break
    return labels
