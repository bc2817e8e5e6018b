"""One map on one axes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from matplotlib.axes import Axes

from attrib import checks
from attrib.core.reduce import upsample
from attrib.errors import InputError
from attrib.plot.colour import QUIET, bar, bare, colours, faded, new_axes, norm
from attrib.plot.scale import Floats, Look, MapLike, Scale, Style, as_channels, as_map, as_picture, fit

if TYPE_CHECKING:
    from typing_extensions import Unpack


def heatmap(
    map: MapLike,
    image: object = None,
    ax: Axes | None = None,
    *,
    colorbar: bool | str = False,
    **look: Unpack[Look],
) -> Axes:
    """Draw a raw map over the picture that the network sees.

    Convention:
        - the picture is grey and faded; zero is transparent, full colour is the scale's end. Only this module scales.
        - the map is resized to the picture bilinearly, as everywhere in attrib; without a picture it is drawn as it is.
        - maps without negative values get sequential colours, others diverging ones with zero in the middle.
        - a map that is zero everywhere is left blank and says so; so is a constant one named.

    Args:
        map: Tensor or array ``(h, w)`` or ``(1, h, w)``, finite, at any resolution.
        image: what the network sees: a PIL image, an array ``(H, W, 3)`` or ``(H, W)``, or a tensor ``(C, H, W)``;
            8 bits, or floats in [0, 1]. None draws the map alone.
        ax: where to draw; a new figure if None.
        colorbar: True draws one, a text labels it, such as ``"drop in probability"``.
        look: see `Look`: ``limits``, ``signed``, ``percentile``, ``alpha``, ``cmap``.

    Returns:
        The axes; ``ax.figure.savefig(...)`` writes the picture.

    Example:
        >>> ax = heatmap(torch.rand(7, 9), torch.rand(3, 70, 90), signed=False)
        >>> ax.images[-1].get_array().shape
        (70, 90)
    """
    style = Style.of(look)
    if style.limits in ("method", "shared"):
        raise InputError(f"limits of a single map must be None, 'range' or (low, high); got {style.limits!r}.")
    values, picture = as_map(map), None if image is None else as_picture(image)
    scale = fit([values], style)
    ax = paint(new_axes() if ax is None else ax, values, picture, scale, style)
    if colorbar is not False:
        bar(ax, scale, style, values, "" if colorbar is True else colorbar)
    return ax


def paint(
    ax: Axes, values: Floats, picture: Floats | None, scale: Scale, style: Style, size: float | None = None
) -> Axes:
    """Draw checked ``values`` at a given scale."""
    bare(ax)
    shown = values
    if picture is not None:
        ax.imshow(faded(picture), cmap="gray", vmin=0, vmax=1)
        shown = upsample(torch.from_numpy(values)[None, None], picture.shape[:2])[0, 0].numpy()
    ax.imshow(
        shown,
        cmap=colours(scale, style, over_white=picture is None),
        norm=norm(scale),
        interpolation="nearest" if picture is None else None,
    )
    if note := scale.note(values):
        box = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "boxstyle": "round"}
        ax.text(0.5, 0.5, note, transform=ax.transAxes, ha="center", va="center", color="black", size=size, bbox=box)
    return ax


def gradient_image(map: MapLike, ax: Axes | None = None, *, percentile: float = 99.0, note: bool = True) -> Axes:
    r"""Draw a gradient in the picture's own colours: grey is zero, as guided backpropagation is usually shown.

    .. math:: p = \tfrac12 + \tfrac12\, \mathrm{clip}(M / s, -1, 1)

    Convention:
        - ``s`` is one number for all channels: the percentile of the non-zero magnitudes. It is written below.
        - the sign is kept: brighter means that more of this colour raises the score.

    Args:
        map: Tensor or array ``(3, h, w)`` or ``(1, h, w)``, as ``channels="none"`` gives it.
        ax: where to draw; a new figure if None.
        percentile: of the non-zero magnitudes, drawn as black or white; what lies above is clipped.
        note: write the normalisation below.

    Returns:
        The axes.

    Example:
        >>> ax = gradient_image(torch.tensor([[[-2.0, 0.0, 2.0]]]))
        >>> ax.get_xlabel(), ax.images[0].get_array()[0, :, 0].tolist()
        ('grey 0, full colour ±2', [0.0, 0.5, 1.0])
    """
    checks.number("percentile", percentile, 0, 100)
    values, ax = as_channels(map), new_axes() if ax is None else ax
    end = fit([values], Style(signed=True, percentile=percentile)).high
    unit = np.clip(values / end, -1, 1) if end else values
    bare(ax)
    ax.imshow(np.repeat(np.moveaxis(0.5 + 0.5 * unit, 0, -1), 3 // len(values), 2))
    if note:
        text = f"grey 0, full colour ±{end:.3g}" if end else "zero everywhere"
        ax.set_xlabel(text, alpha=QUIET)
    return ax
