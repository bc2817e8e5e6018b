"""The top-9 figure of Zeiler and Fergus: the patches that channels respond to most, and their projections."""

from __future__ import annotations

from math import ceil, sqrt
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from attrib import checks
from attrib.errors import InputError, ShapeError
from attrib.plot.colour import bare
from attrib.plot.layout import Sheet
from attrib.plot.scale import Floats, Style, fit
from attrib.report.table import amount

if TYPE_CHECKING:
    from attrib.analysis.patches.patches import TopPatches

SHOWN = 12  # channels, unless others are named: what fits a page
ACROSS = 4  # blocks in a row
BESIDE = 0.85  # grey of what is no picture
GAP = 0.04  # between patches, share of a patch


def patch_panels(found: TopPatches, *, channels: int = SHOWN) -> Figure:
    """Draw the patches of each channel as one block, strongest first, row by row, beside their projections.

    Convention:
        - patches are drawn in their own colours where ``preprocess`` was given; else all are stretched alike, from the
          smallest to the largest value.
        - a projection is grey where it is zero, and is scaled by itself, to the 99th percentile of its magnitudes: how
          strong it is cannot be compared.
        - light grey is beyond the border of the picture. Where patches are whole pictures, a ring marks the unit.

    Args:
        found: what `attrib.analysis.top_patches` gave.
        channels: how many are drawn; ``found.only([...])`` chooses.

    Returns:
        A figure; ``savefig`` writes it. pyplot does not know it.

    Raises:
        InputError: the crops were left out.

    Example:
        >>> from attrib.analysis.patches.patches import top_patches
        >>> figure = patch_panels(top_patches(model, x, "conv3", n=2, channels=[2, 5], project="guided"))
        >>> [ax.get_title() for ax in figure.axes][1::2]
        ['channel 2', 'channel 5']
    """
    checks.integer("channels", channels, 1)
    if found.crops is None or found.inside is None:
        raise InputError("there must be crops to draw; they were left out. .only(channels).read(data) makes some.")
    count = min(channels, len(found.channels))
    each = 1 if found.projections is None else 2
    across = min(count, ACROSS // each)
    places = [(i // across, each * (i % across)) for i in range(count)]
    ends = [(float(value[0]), float(value[-1])) for value in found.value[:count]]
    titles = {place: f"channel {int(found.channels[i])}" for i, place in enumerate(places)}
    notes = {place: f"activation {amount(ends[i][0])} to {amount(ends[i][1])}" for i, place in enumerate(places)}
    if each == 2:
        titles |= {(row, column + 1): notes[row, column] for row, column in places}
    blocks = tiles(shown(found.crops[:count], found.mean, found.std), found.inside[:count])
    shape = (ceil(count / across), each * across)
    foot = _foot(found, count)
    sheet = Sheet(shape, blocks.shape[1] / blocks.shape[2], titles=titles, notes=notes if each == 1 else {}, foot=foot)
    for i, (row, column) in enumerate(places):
        _block(sheet.axes((row, column + each - 1)), blocks[i], found, i)
        if found.projections is not None:
            projected = tiles(_grey(found.projections[i : i + 1]), found.inside[i : i + 1])
            _block(sheet.axes((row, column)), projected[0], found, i)
    return sheet.figure


def _foot(found: TopPatches, count: int) -> str:
    what = "pictures of" if found.distinct else "places in"
    pictures = f"{found.examples}" if found.distinct else f"{found.examples} pictures"
    words = f"{found.layer}: the {found.value.shape[1]} {what} {pictures} with the largest activation"
    words += ", strongest first; numbers: largest to smallest of them."
    if found.projections is not None:
        words += f" Left of each: what {found.project} projects back from that one unit, each scaled by itself."
    if count < len(found.channels):
        words += f" The first {count} of {len(found.channels)} channels."
    return "\n".join([words, *(f"Note: {note}." for note in found.notes)])


def shown(pictures: Tensor, mean: tuple[float, ...] | None, std: tuple[float, ...] | None) -> Floats:
    """Inputs of a network ``(..., C, h, w)`` as pictures ``(..., h, w, 3)`` in [0, 1].

    With mean and standard deviation the normalisation is taken back; without, what exceeds [0, 1] is stretched.

    Example:
        >>> import torch
        >>> shown(torch.tensor([[[-2.0, 0.0, 2.0]]]), None, None)[0, :, 0].tolist()
        [0.0, 0.5, 1.0]
    """
    values = pictures.detach().cpu().double()
    if values.shape[-3] not in (1, 3):
        raise ShapeError(f"pictures must have 1 or 3 channels to be drawn; got {values.shape[-3]}.")
    if mean is not None and std is not None:
        scale, shift = (values.new_tensor(one)[:, None, None] for one in (std, mean))
        values = (values * scale + shift).clamp(0, 1)
    elif values.numel() and (values.min() < 0 or values.max() > 1):
        low, high = float(values.min()), float(values.max())
        values = (values - low) / (high - low or 1)
    return _last(values)


def _last(values: Tensor) -> Floats:
    """Channels last, three of them."""
    array: Floats = np.moveaxis(values.numpy(), -3, -1)
    return np.repeat(array, 3 // array.shape[-1], -1)


def _grey(gradients: Tensor) -> Floats:
    """Gradients ``(..., C, h, w)`` as pictures, each scaled by itself; zero is grey."""
    values = gradients.detach().cpu().double()
    flat = values.flatten(0, -4)
    for one in flat:
        end = fit([one.numpy()], Style(signed=True)).high
        one.div_(end or 1)
    return _last(0.5 + 0.5 * flat.reshape(values.shape).clamp(-1, 1))


def tiles(pictures: Floats, inside: Tensor | None = None) -> Floats:
    """Each row of pictures ``(C, n, h, w, 3)`` as one square block ``(C, H, W, 3)``, row by row, with white between."""
    many, n, high, wide = pictures.shape[:4]
    if inside is not None:
        pictures = np.where(inside.numpy()[..., None], pictures, BESIDE)
    side, zoom = ceil(sqrt(n)), _zoom(high, wide)
    gap = max(1, round(GAP * max(high, wide) * zoom))
    rows = ceil(n / side)
    step = (high * zoom + gap, wide * zoom + gap)
    found = np.ones((many, rows * step[0] - gap, side * step[1] - gap, 3))
    for i in range(n):
        top, left = (i // side) * step[0], (i % side) * step[1]
        large = pictures[:, i].repeat(zoom, 1).repeat(zoom, 2)
        found[:, top : top + high * zoom, left : left + wide * zoom] = large
    return found


def _zoom(high: int, wide: int) -> int:
    """By how much small patches are blown up, so that what is between them stays thin."""
    return max(1, 48 // max(high, wide))


def _block(ax: Axes, block: npt.NDArray[np.float64], found: TopPatches, row: int) -> None:
    bare(ax)
    ax.imshow(block, interpolation="nearest" if _zoom(*_size(found)) > 1 else "antialiased")
    if _size(found) != tuple(found.sees.size) or found.places == (1, 1):
        return
    side, (high, wide) = ceil(sqrt(found.value.shape[1])), _size(found)
    zoom = _zoom(high, wide)
    gap = max(1, round(GAP * max(high, wide) * zoom))
    for i, (y, x) in enumerate(zip(found.y[row].tolist(), found.x[row].tolist(), strict=True)):
        down = (i // side) * (high * zoom + gap) + (y + 0.5) / found.places[0] * high * zoom
        right = (i % side) * (wide * zoom + gap) + (x + 0.5) / found.places[1] * wide * zoom
        for colour, width in (("black", 1.6), ("white", 0.8)):
            ring = ax.plot(right, down, "o", markersize=5, markerfacecolor="none", markeredgecolor=colour)
            ring[0].set_markeredgewidth(width)


def _size(found: TopPatches) -> tuple[int, int]:
    shape = (found.crops if found.crops is not None else found.box).shape
    return shape[-2], shape[-1]
