"""What HOG keeps of a photo: scikit-image's glyphs, and pictures made from the features, beside the photo."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from attrib import checks
from attrib.errors import ShapeError
from attrib.plot.colour import bare
from attrib.plot.layout import Sheet
from attrib.plot.scale import Floats, MapLike, as_map, as_picture

if TYPE_CHECKING:
    from attrib.analysis.hog.views import HOGViews

ENDS = (1.0, 99.0)  # percentiles of an inversion that become black and white: its contrast means little


def hog_glyph(image: object, *, orientations: int = 9, pixels_per_cell: int | tuple[int, int] = 8) -> Tensor:
    """Draw the star of each cell as scikit-image does, ``(H, W)``: a line along the edges of each orientation.

    Convention:
        - the brightness of a line is the mean gradient magnitude of its orientation in the cell, before blocks are
          normalised; where lines cross they add up.

    Args:
        image: the picture, see `attrib.plot.heatmap`.
        orientations: number of bins from 0 to 180 degrees.
        pixels_per_cell: side of a cell, or (height, width); less than 6 leaves dots of its lines.

    Raises:
        MissingDependency: scikit-image is not installed.

    Example:
        >>> hog_glyph(torch.rand(3, 32, 40)).shape
        torch.Size([32, 40])
    """
    picture = as_picture(image)
    cell = checks.sides("pixels_per_cell", pixels_per_cell, axes=2)
    if any(side < one for side, one in zip(picture.shape[:2], cell, strict=True)):
        raise ShapeError(
            f"image must be at least {cell[0]} x {cell[1]} pixels, one cell; got {picture.shape[0]} x "
            f"{picture.shape[1]}. Choose smaller cells, or a larger picture."
        )
    draw = checks.require("skimage.feature", "a HOG glyph", "analysis").hog
    bins = checks.integer("orientations", orientations, 1)
    _, drawn = draw(picture, bins, cell, (1, 1), visualize=True, channel_axis=-1)
    return torch.from_numpy(np.asarray(drawn))


def hog_panels(found: HOGViews) -> Figure:
    """Draw a row for each photo: the photo, its HOG glyphs, and what each way of inverting makes of its features.

    Convention:
        - glyphs are white at the brightest of a hundred pixels; an inversion is black and white at its own 1st and 99th
          percentile, so that only what stands beside what may be read from it, not how bright it is.
        - below each inversion is its correlation with the photo, in grey.

    Returns:
        A figure; ``savefig`` writes it. pyplot does not know it.
    """
    rows = list(found.pictures)
    columns = ["photo", "HOG", *found.views]
    pictures = {name: as_picture(one) for name, one in found.pictures.items()}
    aspect = max(one.shape[0] / one.shape[1] for one in pictures.values())
    titles = {(0, column): title for column, title in enumerate(columns)}
    notes = {
        (row, 2 + column): f"correlation {score[name]:.2f}"
        for column, score in enumerate(found.correlation[view] for view in found.views)
        for row, name in enumerate(rows)
    }
    sheet = Sheet((len(rows), len(columns)), aspect, titles=titles, notes=notes, foot=_foot(found))
    for row, name in enumerate(rows):
        shown = [found.glyphs[name], *(view[name] for view in found.views.values())]
        _row(sheet, row, pictures[name], [stretched(one) for one in shown])
    return sheet.figure


def stretched(values: MapLike) -> Floats:
    """A grey picture, ``(H, W)`` in [0, 1], whose 1st percentile is black and whose 99th is white."""
    grey = as_map(values)
    low, high = np.percentile(grey, ENDS)
    if high <= low:
        return np.full_like(grey, 0.5)
    unit: Floats = np.clip((grey - low) / (high - low), 0, 1)
    return unit


def _row(sheet: Sheet, row: int, picture: Floats, greys: Sequence[Floats]) -> None:
    shown: list[tuple[Floats, Mapping[str, object]]] = [(picture, {})]
    shown += [(grey, {"cmap": "gray", "vmin": 0, "vmax": 1}) for grey in greys]
    for column, (one, how) in enumerate(shown):
        ax = sheet.axes((row, column))
        bare(ax)
        ax.imshow(one, **how)  # type: ignore[arg-type]  # a colour map and its ends


def _foot(found: HOGViews) -> str:
    return (
        f"Inversions of a HOG of {found.settings['orientations']} orientations in cells of "
        f"{found.settings['pixels_per_cell']} pixels; what is learned is learned from {found.examples} other photos. "
        "Each inversion has a contrast of its own."
    )
