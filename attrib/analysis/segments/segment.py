"""From a map to an object's outline without any mask to learn from: two colour models and a graph cut."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import nan
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from attrib import checks
from attrib.analysis.segments.agreement import Agreement, agreement, boxes_of
from attrib.core.reduce import upsample
from attrib.errors import InputError, ShapeError
from attrib.plot.scale import as_picture
from attrib.report.finding import Finding
from attrib.report.table import amount, text_table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Pixels = npt.NDArray[np.uint8]
Pictures = Tensor | Image.Image | Sequence[Any]

COMPONENTS = 5  # of OpenCV's mixtures, for which it has no option
SPECK = 1e-3  # of the picture: smaller than anything that photos are taken of
WHY = "what the map points at has the colours of the rest. Another map, or held seeds (fixed), may help."
_MODEL = (1, 13 * COMPONENTS)  # weight, mean and covariance of each component, as OpenCV lays them out


@dataclass(frozen=True, eq=False)
class Segmentation(Finding):
    """Objects found in pictures.

    Attributes:
        masks: True on the object, ``(N, H, W)``; empty where the cut called nothing foreground.
        boxes: ``x0, y0, x1, y1`` in pixels, the lower right corner outside, ``(N, 4)``; zeros for an empty mask.
        seeds: what the colour models learn from: 1 foreground, 0 background, -1 neither, ``(N, H, W)``.
        shares: share of the picture called foreground after each graph cut, ``(N, 1 + iterations)``; NaN after a cut
            that left one of the two sides without a pixel, where the rounds end.
        pictures: what was cut, ``(N, H, W, 3)``.
        names: of the pictures.
        settings: the options.
    """

    masks: Tensor
    boxes: Tensor
    seeds: Tensor
    shares: Tensor
    pictures: Tensor = field(repr=False, metadata={"saved": False})
    names: tuple[str, ...]
    settings: dict[str, Any]

    @property
    def area(self) -> Tensor:
        """Share of each picture that its mask covers, ``(N,)``."""
        return self.masks.double().mean((1, 2))

    def against(
        self, masks: Tensor, boxes: Sequence[Sequence[Sequence[float]]] | None = None, *, centre: float = 0.7
    ) -> Agreement:
        """Compare with masks of the truth, beside a box in the middle of the picture, see `attrib.analysis.agreement`.

        Example:
            >>> disc = (torch.arange(24) - 12).square()[:, None] + (torch.arange(24) - 12).square() < 40
            >>> picture = disc.float().expand(3, 24, 24)
            >>> found = segment(disc.float()[None, None], [picture])
            >>> found.against(disc[None]).iou.tolist()
            [1.0]
        """
        return agreement(self.masks, masks, boxes, centre=centre)

    def to_text(self, *, markdown: bool = False) -> str:
        """One line for each picture."""
        rows = [
            {
                "picture": name,
                "box": " ".join(map(str, box)) if any(box) else "-",
                "share of the picture": amount(share),
            }
            for name, box, share in zip(self.names, self.boxes.tolist(), self.area.tolist(), strict=True)
        ]
        lost = [name for name, share in zip(self.names, self.area.tolist(), strict=True) if share < SPECK]
        said = f"Next to nothing was found in {', '.join(lost[:5])}{', ...' * (len(lost) > 5)}: {WHY}" if lost else ""
        return "\n\n".join(filter(None, (text_table(rows, markdown=markdown), said)))

    def plot(self) -> Figure:
        """Draw each picture with its seeds and with the outline of what was found."""
        from attrib.plot.segment import segment_panels

        return segment_panels(self)


def segment(
    maps: Tensor,
    images: Pictures,
    *,
    quantiles: tuple[float, float] = (0.3, 0.95),
    iterations: int = 5,
    fixed: bool = False,
    connectivity: Literal[4, 8] = 8,
    seed: int = 0,
    names: Sequence[str] | None = None,
) -> Segmentation:
    r"""Cut the object out of each picture, told by nothing but a map where to look for its colours.

    .. math:: F = \{p : M_p \ge q_{95}(M)\}, \qquad B = \{p : M_p \le q_{30}(M)\}

    A mixture of Gaussians learns the colours of :math:`F`, another those of :math:`B`. A graph cut then calls every
    pixel foreground or background, by these models and by the contrast to its neighbours, and the largest connected
    component of the foreground is the object. GrabCut repeats this: it learns both models anew from the last cut.

    Convention:
        - ``iterations=0`` is the single graph cut of the paper; each further one is a round of GrabCut.
        - the seeds only teach the colours, as the paper says it; the cut may overrule them. ``fixed=True`` holds them.
        - pixels on a quantile belong to the seeds: of a rectified map all zeros are background.
        - maps are taken as they are, with their sign, and resized bilinearly to the picture; quantiles come after that.
        - a component touches through corners with ``connectivity=8``; of several as large one counts, always the same.
        - grey pictures are coloured ones with three equal channels.
        - the models have 5 components, the contrast term has weight 50, neighbours are 8: OpenCV has no options for
          these, and does not tell the energy of a cut.
        - OpenCV's random numbers are set to ``seed`` before every picture, so that no picture depends on another. There
          is no way to read their state and put it back: it stays where the last picture leaves it.

    Cost: no pass of a model. A picture of 224 x 224 pixels takes about a fifth of a second on one core, most of it in
    the rounds.

    Args:
        maps: ``(N, 1, h, w)``, of any method.
        images: what the network sees, as pictures: PIL images, arrays ``(H, W, 3)`` or ``(H, W)``, or tensors
            ``(3, H, W)`` in [0, 1], all of one size; ``net.view(photo)`` of a loaded model.
        quantiles: of the map, up to where pixels are background, and from where on they are foreground.
        iterations: rounds of GrabCut, >= 0.
        fixed: whether the seeds stay what they are.
        connectivity: 4 or 8.
        seed: of the clustering that starts the colour models.
        names: of the pictures, for tables and figures.

    Raises:
        InputError: a map is constant, or has so few different values that its two quantiles are one; or fewer than five
            pixels are foreground, or background.

    Example:
        >>> disc = (torch.arange(24) - 12).square()[:, None] + (torch.arange(24) - 12).square() < 40
        >>> picture = 0.9 * disc.float().expand(3, 24, 24)
        >>> found = segment(disc.float()[None, None], [picture])
        >>> found.boxes.tolist(), bool((found.masks[0] == disc).all())
        ([[6, 6, 19, 19]], True)

    References:
        Simonyan, Vedaldi, Zisserman, "Deep Inside Convolutional Networks", ICLR workshop 2014, section 3.2.
        Rother, Kolmogorov, Blake, "GrabCut: Interactive Foreground Extraction using Iterated Graph Cuts", SIGGRAPH
        2004.
        Boykov, Jolly, "Interactive Graph Cuts for Optimal Boundary & Region Segmentation of Objects in N-D Images",
        ICCV 2001.
    """
    cv2 = checks.require("cv2", "segmentation", "analysis")
    pictures = _pictures(images)
    low, high = _quantiles(quantiles)
    values = _values(maps, pictures)
    cut = _Cut(cv2, checks.integer("iterations", iterations, 0), fixed, checks.integer("seed", seed, 0))
    checks.choice("connectivity", connectivity, (4, 8))
    called = _names(names, len(pictures))
    seeds = np.stack([_seeds(one, low, high, f"map of {called[i]}") for i, one in enumerate(values)])
    found = [cut(picture, one) for picture, one in zip(pictures, seeds, strict=True)]
    masks = torch.from_numpy(np.stack([_largest(cv2, mask, connectivity) for mask, _ in found]))
    shares = torch.tensor([share for _, share in found], dtype=torch.float64)
    settings = {"quantiles": [low, high], "iterations": iterations, "fixed": fixed, "connectivity": connectivity}
    shown = torch.from_numpy(np.stack(pictures))
    boxes, grown = boxes_of(masks), torch.from_numpy(seeds)
    return Segmentation(masks, boxes, grown, shares, shown, called, {**settings, "seed": seed})


def _pictures(images: Pictures) -> list[Pixels]:
    many = [images] if isinstance(images, Image.Image) else list(images)
    found = [np.ascontiguousarray((as_picture(one) * 255).round().astype(np.uint8)) for one in many]
    if not found:
        raise InputError("images must hold at least one picture; got none.")
    if len({one.shape for one in found}) > 1:
        sizes = sorted({one.shape[:2] for one in found})
        raise ShapeError(f"images must have one size (H, W); got {', '.join(map(str, sizes))}. Cut them one by one.")
    return found


def _quantiles(given: object) -> tuple[float, float]:
    pair = tuple(given) if isinstance(given, (tuple, list)) else ()
    if len(pair) != 2 or not all(isinstance(one, (int, float)) for one in pair) or not 0 <= pair[0] < pair[1] <= 1:
        raise InputError(f"quantiles must be (background, foreground) with 0 <= first < second <= 1; got {given!r}.")
    return float(pair[0]), float(pair[1])


def _values(maps: Tensor, pictures: list[Pixels]) -> npt.NDArray[np.float64]:
    """The maps at the size of the pictures, ``(N, H, W)``."""
    if not isinstance(maps, Tensor):
        raise InputError(f"maps must be a Tensor (N, 1, h, w); got {type(maps).__name__}.")
    checks.shape(maps, "n 1 h w", "maps", n=len(pictures))
    if not checks.finite(maps):
        raise InputError("maps must be finite; got NaN or infinite values.")
    grown: npt.NDArray[np.float64] = upsample(maps.detach().cpu().double(), pictures[0].shape[:2])[:, 0].numpy()
    return grown


def _names(names: Sequence[str] | None, count: int) -> tuple[str, ...]:
    found = tuple(f"picture {i}" for i in range(count)) if names is None else tuple(map(str, names))
    if len(found) != count:
        raise InputError(f"names must be one for each of {count} pictures; got {len(found)}.")
    return found


def _seeds(values: npt.NDArray[np.float64], low: float, high: float, what: str) -> npt.NDArray[np.int8]:
    under, over = np.quantile(values, (low, high))
    if under >= over:
        raise InputError(
            f"{what} must tell places apart; its {low:.0%} and {high:.0%} quantiles are both {over:.3g}. A constant "
            "map has no foreground; for a map of few values choose other quantiles."
        )
    seeds = np.where(values >= over, 1, np.where(values <= under, 0, -1)).astype(np.int8)
    for side, name in ((1, "foreground"), (0, "background")):
        count = int((seeds == side).sum())
        if count < COMPONENTS:
            raise InputError(
                f"{what} must have at least {COMPONENTS} {name} pixels, one for each component of its colours; got "
                f"{count}. Choose other quantiles, or a larger picture."
            )
    return seeds


@dataclass(frozen=True)
class _Cut:
    """Colour models from the seeds, and the graph cuts of OpenCV."""

    cv2: ModuleType
    iterations: int
    fixed: bool
    seed: int

    def __call__(self, picture: Pixels, seeds: npt.NDArray[np.int8]) -> tuple[npt.NDArray[np.bool_], list[float]]:
        """The foreground, and its share after each cut."""
        cv2 = self.cv2
        cv2.setRNGSeed(self.seed)
        models = self._learnt(picture, seeds)
        state = np.full(seeds.shape, cv2.GC_PR_BGD, np.uint8)
        if self.fixed:
            state[seeds == 1], state[seeds == 0] = cv2.GC_FGD, cv2.GC_BGD
        shares: list[float] = []
        for mode in (cv2.GC_EVAL_FREEZE_MODEL, *[cv2.GC_EVAL] * self.iterations):
            cv2.grabCut(picture, state, None, *models, 1, mode)
            shares.append(float(self._foreground(state).mean()))
            if shares[-1] in {0.0, 1.0}:  # a side without pixels has no colours to learn
                break
        return self._foreground(state), shares + [nan] * (1 + self.iterations - len(shares))

    def _learnt(self, picture: Pixels, seeds: npt.NDArray[np.int8]) -> tuple[npt.NDArray[np.float64], ...]:
        """Background and foreground models of the seeds alone.

        OpenCV initialises them from all pixels of a picture, so it is given one that consists of the seeds.
        """
        cv2 = self.cv2
        sure = seeds >= 0
        strip = np.ascontiguousarray(picture[sure][None])
        sides = np.where(seeds[sure] == 1, cv2.GC_FGD, cv2.GC_BGD).astype(np.uint8)[None]
        models = np.zeros(_MODEL), np.zeros(_MODEL)
        cv2.grabCut(strip, np.ascontiguousarray(sides), None, *models, 0, cv2.GC_INIT_WITH_MASK)
        return models

    def _foreground(self, state: Pixels) -> npt.NDArray[np.bool_]:
        found: npt.NDArray[np.bool_] = (state == self.cv2.GC_FGD) | (state == self.cv2.GC_PR_FGD)
        return found


def _largest(cv2: ModuleType, mask: npt.NDArray[np.bool_], connectivity: int) -> npt.NDArray[np.bool_]:
    _, labels, about, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=connectivity)
    sizes = about[1:, cv2.CC_STAT_AREA]
    found: npt.NDArray[np.bool_] = labels == 1 + int(sizes.argmax()) if len(sizes) else mask
    return found
