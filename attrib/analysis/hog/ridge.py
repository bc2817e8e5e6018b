"""The best linear guess of a picture from features, in closed form."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from attrib import checks
from attrib.analysis.hog.grid import Pair
from attrib.analysis.hog.inverter import Inverter, Source, read_pairs
from attrib.core.network.streaming import Data
from attrib.errors import InputError


@dataclass(frozen=True, eq=False)
class RidgeInverter(Inverter):
    """What `fit_ridge` found; see `Inverter` for what it can do.

    Attributes:
        mean_window: of the features, ``(D,)``.
        mean_patch: of the pixels, ``(P,)``.
        weight: ``(D, P)``.
    """

    mean_window: Tensor = field(repr=False)
    mean_patch: Tensor = field(repr=False)
    weight: Tensor = field(repr=False)

    def patches(self, windows: Tensor) -> Tensor:
        """Mean patch plus what the features add to it."""
        mean, added, weight = (one.to(windows) for one in (self.mean_window, self.mean_patch, self.weight))
        return (windows - mean) @ weight + added


def fit_ridge(  # noqa: PLR0913  what is inverted, how, and how the data are read
    images: Data,
    model: nn.Module | None = None,
    layer: str | nn.Module | None = None,
    *,
    window: int | Pair | None = None,
    strength: float = 0.3,
    colour: bool = False,
    shrink: int = 1,
    batch_size: int = 8,
    show_progress: bool = False,
) -> RidgeInverter:
    r"""Learn from your pictures to turn features of any layer back into pictures, by ridge regression.

    .. math:: \hat x(y) = \mu_x + \Sigma_{xy} \big(\Sigma_{yy} + \lambda I\big)^{-1} (y - \mu_y)

    where *y* are the features of a window of locations and *x* the pixels behind it: the mean of *x* given *y*, if both
    were jointly Gaussian.

    Convention:
        - :math:`\lambda` is ``strength`` times the mean variance of the features, whatever their unit.
        - of `attrib.models.HOG` it is known which pixels lie behind a location. Of other layers it is taken that
          locations share the picture in equal parts about its centre; a vector's only location is the whole picture.
        - pixels are those that the model gets: of a network with normalised inputs, normalised ones.
        - features that do not know which side of an edge is light, as HOG's unless ``signed``, have next to no linear
          relation to pixels, and the picture is grey.

    Cost: one forward pass per picture, one solution of *D* equations where *D* are the numbers in a window of
    features. Memory holds one batch, ``D x D`` and ``D x P`` numbers.

    Args:
        images: a Tensor ``(N, C, H, W)``, a data set, or batches; batches may differ in size.
        model: the network; `attrib.models.HOG()` if None.
        layer: of it; may be left out for HOG.
        window: locations in a window, or (height, width); 4 for HOG, 1 otherwise.
        strength: at least 0; 0 is least squares.
        colour: give the channels of the inputs, otherwise their luma.
        shrink: average squares of so many pixels into one, for layers that know no finer ones.
        batch_size: for a Tensor or a data set.
        show_progress: progress bar on standard error.

    Example:
        >>> from attrib.models import HOG
        >>> inverter = fit_ridge(torch.rand(8, 3, 16, 16), HOG(signed=True, pixels_per_cell=4, cells_per_block=1))
        >>> inverter.of(torch.rand(2, 3, 16, 20)).shape
        torch.Size([2, 1, 16, 20])

    References:
        Vondrick, Khosla, Malisiewicz, Torralba, "HOGgles: Visualizing Object Detection Features", ICCV 2013:
        the ridge regression it compares with.
    """
    checks.number("strength", strength, 0)
    source = Source.of(model, layer, colour=colour, shrink=shrink)
    moments = _Moments()
    about: dict[str, Any] = {}
    for one in read_pairs(source, images, window, batch_size=batch_size, show_progress=show_progress):
        moments.add(one.windows.flatten(0, 1), one.patches.flatten(0, 1))
        about = one.about
    return RidgeInverter(source, **about, **moments.solve(strength))


class _Moments:
    """Means and covariances, about values like theirs so that nothing cancels."""

    def __init__(self) -> None:
        self.count = 0

    def _begin(self, y: Tensor, x: Tensor) -> None:
        self.dtype, self.about = x.dtype, (y[0].double(), x[0].double())
        self.sum_y, self.sum_x = (torch.zeros_like(one) for one in self.about)
        self.yy, self.yx = (torch.outer(self.sum_y, one) for one in (self.sum_y, self.sum_x))

    def add(self, y: Tensor, x: Tensor) -> None:
        """Count windows ``(n, D)`` and patches ``(n, P)`` in."""
        if self.count == 0:
            self._begin(y, x)
        y, x = (one.double() - mean for one, mean in zip((y, x), self.about, strict=True))
        self.count += len(y)
        self.sum_y += y.sum(0)
        self.sum_x += x.sum(0)
        self.yy.addmm_(y.T, y)
        self.yx.addmm_(y.T, x)

    def solve(self, strength: float) -> dict[str, Any]:
        """The means and the weight of a `RidgeInverter`."""
        if self.count < 2 or (strength == 0 and self.count <= len(self.yy)):
            least = 2 if strength else len(self.yy) + 1
            raise InputError(
                f"images must hold at least {least} windows to learn from; got {self.count}. Give more or larger ones."
            )
        y, x = self.sum_y / self.count, self.sum_x / self.count
        yy, yx = self.yy / self.count - torch.outer(y, y), self.yx / self.count - torch.outer(y, x)
        ridge = strength * yy.diagonal().mean()
        if ridge > 0:
            weight = torch.linalg.solve(yy + ridge * torch.eye(len(yy)).to(yy), yx)
        else:  # features may be constant or copies of one another
            weight = torch.linalg.pinv(yy, hermitian=True) @ yx
        means = {"mean_window": self.about[0] + y, "mean_patch": self.about[1] + x}
        return {name: one.to(self.dtype) for name, one in (means | {"weight": weight}).items()}
