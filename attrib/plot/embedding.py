"""A feature space in the plane: pictures on a grid, or a point for each."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, sqrt
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from PIL import Image
from torch import Tensor

from attrib.errors import InputError
from attrib.plot.colour import QUIET, bare
from attrib.plot.layout import DPI, GAP, SMALL, TITLE, WIDTH, wrap

if TYPE_CHECKING:
    from attrib.analysis.features.bank import Bank
    from attrib.analysis.features.embedding import Embedding

# Okabe and Ito's colours but black, which dark pictures hide, and three that stay apart from them
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#F0E442", "#8B5A2B", "#999999", "#7B3FA0")
NONE = "0.5"
CALLED = {"pca": "Principal components", "tsne": "t-SNE"}
CELL = 96  # pixels: a picture is never blown up beyond it
READ = 64  # pictures at a time
PIXELS = int(WIDTH * DPI)
LINE = SMALL * 1.4 / 72  # inches


def picture_grid(found: Embedding, *, shape: tuple[int, int] | None = None) -> Figure:
    """Draw the pictures on a grid, each as near as can be to its point.

    Convention:
        - neighbours on the grid are near each other in the plane; distances on the grid mean nothing more.
        - frames tell the labels, if there are at most ten.

    Args:
        found: what `attrib.analysis.pca` or `tsne` gave, of a bank with pixels.
        shape: rows and columns; the smallest square if None.

    Returns:
        A figure; ``savefig`` writes it. pyplot does not know it.

    Example:
        >>> from attrib.analysis import feature_bank, pca
        >>> figure = picture_grid(pca(feature_bank(model, torch.rand(9, 3, 12, 12), "fc@input")))
        >>> figure.axes[0].get_images()[0].get_array().shape
        (288, 288, 3)
    """
    places = found.grid(shape)
    frames = _colours(found.labels)
    size = shape or (ceil(sqrt(len(places))),) * 2
    canvas = _canvas(found.bank, places, size, None if frames is None else frames[1])
    figure, ax = _page(found, canvas.shape[0] / canvas.shape[1], frames)
    bare(ax)
    ax.imshow(canvas, interpolation="nearest" if canvas.shape[1] <= PIXELS else "antialiased")
    return figure


def scatter(found: Embedding) -> Figure:
    """Draw a point for each picture, coloured by its label if there are at most ten.

    Args:
        found: what `attrib.analysis.pca` or `tsne` gave.

    Returns:
        A figure; ``savefig`` writes it. pyplot does not know it.

    Example:
        >>> from attrib.analysis import feature_bank, pca
        >>> figure = scatter(pca(feature_bank(model, torch.rand(9, 3, 12, 12), "fc@input", pixels=False)))
        >>> figure.axes[0].collections[0].get_offsets().shape
        (9, 2)
    """
    frames = _colours(found.labels)
    figure, ax = _page(found, 0.75, frames)
    x, y = found.points.numpy().T
    ax.scatter(x, y, s=min(30.0, 20000 / len(x)), c=NONE if frames is None else frames[1], linewidths=0, alpha=0.8)
    ax.set_aspect("equal", adjustable="datalim")
    bare(ax)
    return figure


def _colours(labels: Tensor | None) -> tuple[dict[int, str], list[str]] | None:
    """Colour by label, and of each picture; None without labels, or with too many."""
    found = [] if labels is None else sorted(set(labels.tolist()))
    if labels is None or not 1 < len(found) <= len(COLOURS):
        return None
    key = dict(zip(found, COLOURS, strict=False))
    return key, [key[label] for label in labels.tolist()]


def _canvas(bank: Bank, places: Tensor, shape: tuple[int, ...], frames: list[str] | None) -> npt.NDArray[np.uint8]:
    """All pictures in one, each shrunk to its cell, with a frame if it has a colour."""
    high, wide = _bytes(bank, [0]).shape[1:3]
    cell = max(8, min(CELL, PIXELS // shape[1]))
    size = (round(cell * high / max(high, wide)), round(cell * wide / max(high, wide)))
    canvas = np.full((shape[0] * size[0], shape[1] * size[1], 3), 255, np.uint8)
    edge = 0 if frames is None else max(1, cell // 24)
    for i, (row, column) in enumerate(places.tolist()):
        if i % READ == 0:  # a few at a time: all of a large bank at full size would fill the memory
            read = _bytes(bank, range(i, min(i + READ, len(places))))
        image = Image.fromarray(read[i % READ])
        inner = (size[1] - 2 * edge, size[0] - 2 * edge)
        up = inner[0] > wide
        small = image.resize(inner, Image.Resampling.NEAREST if up else Image.Resampling.BOX)
        block = canvas[row * size[0] : (row + 1) * size[0], column * size[1] : (column + 1) * size[1]]
        if frames is not None:
            block[:] = np.round(np.array(to_rgb(frames[i])) * 255).astype(np.uint8)
        block[edge : size[0] - edge, edge : size[1] - edge] = np.asarray(small)
    return canvas


def _bytes(bank: Bank, index: Sequence[int]) -> npt.NDArray[np.uint8]:
    """Pictures of a bank as colours, ``(k, H, W, 3)``."""
    pictures = bank.pictures(index)
    if pictures is None:
        raise InputError("an embedding must be of a bank with pictures for a grid. Use scatter, or pixels=True.")
    colours = (pictures * 255).round().byte().permute(0, 2, 3, 1).numpy()
    return np.repeat(colours, 3 // colours.shape[3], 3)


def _page(found: Embedding, aspect: float, frames: tuple[dict[int, str], list[str]] | None) -> tuple[Figure, Axes]:
    """A page with one panel, a title above, the labels and how it was made below."""
    told = wrap(_foot(found), WIDTH - 2 * GAP, SMALL)
    key = {} if frames is None else frames[0]
    legend = 2 * LINE * -(-len(key) // 5)
    top, bottom = 2 * GAP + TITLE * 1.4 / 72, 2 * GAP + LINE * len(told) + legend
    inner = WIDTH - 2 * GAP
    total = inner * aspect + top + bottom
    figure = Figure(figsize=(WIDTH, total), dpi=DPI)
    ax = figure.add_axes((GAP / WIDTH, bottom / total, inner / WIDTH, inner * aspect / total))
    figure.text(0.5, 1 - GAP / total, f"{CALLED[found.method]} of {found.space}", size=TITLE, va="top", ha="center")
    figure.text(0.5, GAP / total, "\n".join(told), size=SMALL, alpha=QUIET, va="bottom", ha="center", parse_math=False)
    if key:
        patches = [Patch(color=colour, label=found.bank.name(i)) for i, colour in key.items()]
        place = (0.5, (2 * GAP + LINE * len(told)) / total)
        figure.legend(handles=patches, ncol=5, loc="lower center", bbox_to_anchor=place, frameon=False, fontsize=SMALL)
    return figure, ax


def _foot(found: Embedding) -> str:
    count = f"{len(found.points)} pictures"
    if found.explained is not None:
        across, up = (f"{float(share):.0%}" for share in found.explained)
        return f"{count}. The axes hold {across} (to the right) and {up} (upwards) of the variance."
    told = found.settings
    return (
        f"{count}, perplexity {told['perplexity']:g}, seed {told['seed']}, KL {found.divergence:.3g}. Neighbours are "
        "alike; distances between groups, and their sizes, say little."
    )
