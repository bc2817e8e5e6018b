"""The figure of Zeiler and Fergus: a photo, and what the network says with a square at every place of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize, to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from torch import Tensor

from attrib import checks
from attrib.errors import ShapeError
from attrib.plot.colour import bare
from attrib.plot.layout import SMALL, Sheet, wrap
from attrib.plot.scale import Floats, as_picture

if TYPE_CHECKING:
    from attrib.analysis.occlusion.maps import OcclusionMaps, PixelMaps

FIELD = "viridis"  # dark is low, as where the paper's figure is blue; it can be read with any colour vision
CLASSES, OTHER = "tab10", "0.8"
SHOWN = 9  # classes with a colour of their own: more could not be told apart
LABELS = "most probable class"
PATCH = 0.35  # inches that the coloured patch of a class and the gaps beside it take from its name
HALF = 0.5  # the outline in the photo: where less than this share of the clean score is left


def occlusion_panels(
    found: OcclusionMaps,
    image: object,
    *,
    names: Mapping[int, str] | None = None,
    target: str = "the target",
    example: int = 0,
) -> Figure:
    """Draw all maps of one example beside its photo.

    Convention:
        - values are those *with* a square at this place, averaged over the windows that cover the pixel. Each panel has
          its own scale, dark at its lowest value, bright at its highest; below it stands the value without a square.
        - the outline in the photo holds the places where less than half of the clean score is left; there is none
          where that score is not positive, as a log-probability, of which nothing is a half.
        - the nine most frequent of the most probable classes have colours, all others are grey.

    Args:
        found: what `attrib.occlusion_maps` gave.
        image: what the network sees, see `heatmap`.
        names: what to call the classes, by number.
        target: what to call the target.
        example: which one.

    Returns:
        A figure; ``savefig`` writes it. pyplot does not know it.

    Example:
        >>> from attrib.analysis import occlusion_maps
        >>> figure = occlusion_panels(occlusion_maps(model, x, 3, window=4, stride=2), torch.rand(3, 12, 12))
        >>> [ax.get_title().split(",")[0] for ax in figure.axes if ax.get_title()]
        ['the photo', 'score of the target', 'total activation', 'most probable class']
    """
    if len(found.windows.size) != 2:
        raise ShapeError(f"occlusion_panels draws pictures; these maps have {len(found.windows.size)} axes of places.")
    checks.choice("example", example, range(len(found.score)))
    picture, called = as_picture(image), names or {}
    pixels = found.upsampled()
    fields = _fields(found, pixels, called, target, example)
    shape = (1, 3 + len(fields))
    level = HALF * float(found.clean.score[example])
    # Matplotlib warns of contours that are nowhere
    outlined = level > 0 and fields[0].values.min() < level < fields[0].values.max()
    titles = {(0, 1 + i): one.title for i, one in enumerate(fields)}
    photo = "half of the score is lost inside the line" if outlined else "the photo"
    titles |= {(0, 0): photo, (0, 1 + len(fields)): LABELS}
    bars = [(0, 1 + i) for i in range(len(fields))]
    notes = {place: f"uncovered: {one.clean:.3g}" for place, one in zip(bars, fields, strict=True)}
    sheet = Sheet(shape, picture.shape[0] / picture.shape[1], {}, titles, notes, _foot(found), bars)
    _photo(sheet.axes((0, 0)), picture, fields[0].values, [level] if outlined else [])
    for place, one in zip(bars, fields, strict=True):
        _field(sheet.axes(place), sheet.bar(place), one.values)
    _labels(sheet, 1 + len(fields), _array(pixels.label[example, 0]).astype(int), called)
    return sheet.figure


@dataclass(frozen=True)
class _Field:
    title: str
    values: Floats
    clean: float


def _array(values: Tensor) -> Floats:
    return values.detach().cpu().double().numpy()


def _fields(
    found: OcclusionMaps, pixels: PixelMaps, names: Mapping[int, str], target: str, example: int
) -> list[_Field]:
    where, clean = f"total activation, {found.layer}\nchannel {int(found.channel[example])}", found.clean
    given = [(f"score of {target}", pixels.score, clean.score), (where, pixels.feature, clean.feature)]
    for index, score in pixels.classes.items():
        given.append((f"score of {names.get(index, f'class {index}')}", score, clean.classes[index]))
    return [_Field(title, _array(values[example, 0]), float(whole[example])) for title, values, whole in given]


def _photo(ax: Axes, picture: Floats, score: Floats, levels: list[float]) -> None:
    bare(ax)
    ax.imshow(picture)
    (high, wide), (rows, columns) = score.shape, picture.shape[:2]
    across, down = (np.arange(wide) + 0.5) * columns / wide - 0.5, (np.arange(high) + 0.5) * rows / high - 0.5
    for level in levels:
        for colour, width in (("white", 2.5), ("black", 1.0)):  # readable on any photo
            ax.contour(across, down, score, levels=[level], colors=colour, linewidths=width)


def _field(ax: Axes, bar: Axes, values: Floats) -> None:
    low, high = float(values.min()), float(values.max())
    top = high if high > low else low + 1
    norm = Normalize(low, top)
    bare(ax)
    ax.imshow(values, cmap=FIELD, norm=norm, interpolation="nearest")
    drawn = ax.figure.colorbar(ScalarMappable(norm, FIELD), cax=bar, orientation="horizontal")
    drawn.set_ticks([low, top], labels=[f"{end:.3g}" for end in (low, top)], size=SMALL)
    first, last = bar.get_xticklabels()  # drawn inwards: neighbours must not meet
    first.set_horizontalalignment("left")
    last.set_horizontalalignment("right")
    drawn.ax.tick_params(length=0, pad=1)
    drawn.outline.set_visible(False)


def _labels(sheet: Sheet, column: int, labels: Floats, names: Mapping[int, str]) -> None:
    """The label map, and beside it which colour is which class, most frequent first."""
    found, counts = np.unique(labels, return_counts=True)
    order = found[np.argsort(-counts, kind="stable")]
    palette = matplotlib.colormaps[CLASSES]
    colours = {int(index): palette(i)[:3] for i, index in enumerate(order[:SHOWN])}
    shown = np.array([[colours.get(int(index), to_rgb(OTHER)) for index in row] for row in labels])
    ax, legend = sheet.axes((0, column)), sheet.axes((0, column + 1))
    bare(ax)
    bare(legend)
    ax.imshow(shown, interpolation="nearest")
    wide = legend.get_window_extent().width / sheet.figure.dpi - PATCH
    words = {index: "\n".join(wrap(names.get(index, f"class {index}"), wide, SMALL)) for index in colours}
    handles = [Patch(color=colour, label=words[index]) for index, colour in colours.items()]
    if len(order) > SHOWN:
        handles.append(Patch(color=OTHER, label=f"{len(order) - SHOWN} others"))
    legend.legend(handles=handles, loc="upper left", frameon=False, fontsize=SMALL, handlelength=1, borderpad=0)


def _foot(found: OcclusionMaps) -> str:
    window, stride = ("x".join(map(str, one)) for one in (found.windows.window, found.windows.stride))
    return (
        f"With a square of {window} pixels at each place, step {stride}. Numbers are averaged over the squares that "
        "cover the pixel: dark is the lowest of its panel, bright the highest. Where one is below the uncovered "
        "number, what is hidden there supports it; where it is above, opposes it."
    )
