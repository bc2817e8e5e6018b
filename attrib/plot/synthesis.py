"""Images that a network made, and how the search for them went."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import ceil

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from attrib import checks
from attrib.errors import InputError
from attrib.plot.colour import bare, new_axes
from attrib.plot.layout import Sheet
from attrib.plot.scale import Floats, as_picture

SPREAD = 99.5  # percentile of the distance from the mean colour that is drawn as black or white


def images(
    pictures: Tensor | Sequence[Tensor],
    titles: Sequence[str],
    *,
    columns: int = 5,
    stretch: bool = False,
    heads: Mapping[int, str] | None = None,
    foot: str = "",
) -> Figure:
    """Draw images in rows, a title above each.

    Convention:
        - without ``stretch`` pictures must lie in [0, 1] and are drawn as they are. With it each is drawn with its mean
          colour as grey and its 99.5th percentile of deviations as black and white: images that no bounds held back
          have no brightness of their own. The line below the figure says so.

    Args:
        pictures: ``(N, C, H, W)``, with 1 or 3 channels, or a list of images of their own sizes.
        titles: one per image.
        columns: images in a row.
        stretch: see above.
        heads: words above a row, by row.
        foot: words below the figure.

    Returns:
        A figure; ``savefig`` writes it. pyplot does not know it.

    Example:
        >>> len(images(torch.rand(3, 3, 8, 8), ["a", "b", "c"], columns=2).axes)
        3
    """
    shown = [stretched(one) if stretch else as_picture(one) for one in pictures]
    if len(shown) != len(titles) or not shown:
        raise InputError(f"titles must be one per image, and at least one; got {len(titles)} for {len(shown)} images.")
    across = min(checks.integer("columns", columns, 1), len(shown))
    places = {(i // across, i % across): picture for i, picture in enumerate(shown)}
    note = "Each image is drawn about its mean colour, on its own scale." if stretch else ""
    sheet = Sheet(
        (ceil(len(shown) / across), across),
        max(one.shape[0] / one.shape[1] for one in shown),
        heads=heads or {},
        titles=dict(zip(places, titles, strict=True)),
        foot=" ".join(filter(None, (foot, note))),
    )
    for place, picture in places.items():
        ax = sheet.axes(place)
        bare(ax)
        ax.imshow(picture, interpolation="nearest" if max(picture.shape[:2]) < 64 else "antialiased")
    return sheet.figure


def stretched(image: Tensor) -> Floats:
    """An image of any range as a picture ``(H, W, 3)`` in [0, 1], grey where it has its mean colour."""
    values: Floats = image.detach().cpu().double().numpy()
    away = values - values.mean((1, 2), keepdims=True)
    limit = float(np.percentile(np.abs(away), SPREAD))
    away = away / (2 * limit) if limit > 0 else away
    return as_picture(np.moveaxis((0.5 + away).clip(0, 1), 0, -1))


def traces(values: Mapping[str, Tensor], ax: Axes | None = None, *, ylabel: str = "score", log: bool = False) -> Axes:
    """Draw numbers over the steps of a search, a line each.

    Args:
        values: by name, ``(steps + 1,)``.
        ax: where to; new axes if None.
        ylabel: what the numbers are.
        log: draw them on a logarithmic scale.

    Example:
        >>> traces({"flamingo": torch.arange(4.0)}).get_xlabel()
        'step'
    """
    ax = new_axes() if ax is None else ax
    for name, line in values.items():
        shown = f" {name}" if name.startswith("_") else name  # matplotlib leaves such names out of legends
        ax.plot(line.detach().cpu().numpy(), label=shown, linewidth=1.5)
    ax.set_xlabel("step")
    ax.set_ylabel(ylabel)
    if log:
        ax.set_yscale("log")
    if len(values) > 1:
        ax.legend(frameon=False, fontsize="small")
    ax.spines[["top", "right"]].set_visible(False)
    return ax
