"""The figure of features during training: a row for each feature, a column for each epoch."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from attrib import checks
from attrib.plot.colour import QUIET, bare
from attrib.plot.layout import SMALL, Sheet
from attrib.plot.maps import gradient_image
from attrib.plot.scale import Floats

if TYPE_CHECKING:
    from attrib.analysis.training.result import Evolution

JUMP = "#d62728"
MOST = 24  # features in a figure
FAINT = 1e-3  # of the largest magnitude: what is below does not count for the size of a window


def evolution_panels(found: Evolution, features: Sequence[int] | None = None) -> Figure:
    """Draw what leads to the strongest activation of each feature at each epoch, as the paper's figure 4 does.

    Convention:
        - panels show a window of the input around the projection, as large as the largest one of the layer.
        - each panel has its own scale: grey is 0, black and white are the 99th percentile of the non-zero magnitudes.
        - "all alike" stands for a feature without a strongest example, such as a dead one.
        - a red edge marks a jump: another example than at the epoch before.
        - inputs that have neither one nor three channels are averaged over them.

    Args:
        found: what `attrib.analysis.TrainingWatch` or `attrib.analysis.evolution` gave.
        features: which of ``found.features``, by number; if None the first ones of each layer, 24 in all.

    Returns:
        A figure; ``savefig`` writes it. pyplot does not know it.

    Example:
        >>> from attrib.analysis import evolution
        >>> found = evolution(model, [model.state_dict()], torch.randn(4, 3, 12, 12), ["relu"], channels=2)
        >>> [ax.get_title() for ax in evolution_panels(found).axes]
        ['', 'epoch 1', '', '']
    """
    chosen = _first(found) if features is None else list(features)
    for one in chosen:
        checks.choice("features", one, range(len(found.features)))
    maps = _maps(found)[chosen]
    titles = {(0, 1 + e): f"epoch {epoch}" for e, epoch in enumerate(found.epochs)}
    layers = [found.features[f][0] for f in chosen]
    heads = {f: layer for f, layer in enumerate(layers) if f == 0 or layers[f - 1] != layer}
    sheet = Sheet(
        (len(layers), 1 + len(found.epochs)),
        maps.shape[-2] / maps.shape[-1],
        heads,
        titles,
        foot=_foot(found, len(chosen)),
    )
    share = {layer: _share(maps[[f for f, other in enumerate(layers) if other == layer]]) for layer in set(layers)}
    jumped, image = found.jumped[chosen], found.image[chosen]
    for f, (layer, channel) in enumerate(found.features[one] for one in chosen):
        moves = int(jumped[f].sum())
        _words(sheet.axes((f, 0)), f"channel {channel}\n{moves} jump{'s' * (moves != 1)}")
        for e in range(len(found.epochs)):
            ax = sheet.axes((f, 1 + e))
            if image[f, e] < 0:
                _words(ax, "all alike")
                continue
            gradient_image(_window(maps[f, e], share[layer]), ax, note=False)
            if jumped[f, e]:
                ax.spines["left"].set(visible=True, color=JUMP, linewidth=2.5)
    return sheet.figure


def _first(found: Evolution) -> list[int]:
    """The first features of each layer, as many of each as fit on a figure."""
    layers = [layer for layer, _ in found.features]
    each = max(1, MOST // len(set(layers)))
    return [f for f, layer in enumerate(layers) if f - layers.index(layer) < each][:MOST]


def _maps(found: Evolution) -> Floats:
    """The projections as float64 ``(F, E, 1 | 3, H, W)``."""
    maps: Floats = found.projection.double().numpy()
    return maps if maps.shape[2] in {1, 3} else maps.mean(2, keepdims=True)


def _words(ax: Axes, text: str) -> None:
    bare(ax)
    ax.text(0.5, 0.5, text, transform=ax.transAxes, size=SMALL, alpha=QUIET, ha="center", va="center", parse_math=False)


def _strong(values: Floats) -> Floats:
    """Where a map ``(C, H, W)`` is not next to nothing, ``(H, W)``."""
    size: Floats = np.abs(values).max(0)
    strong: Floats = size > FAINT * size.max()
    return strong


def _extent(strong: Floats, axis: int) -> tuple[int, int]:
    """First and one after the last index of what is strong; nothing at all is nowhere."""
    found = np.flatnonzero(strong.any(axis))
    return (int(found[0]), int(found[-1]) + 1) if len(found) else (0, 0)


def _share(maps: Floats) -> float:
    """The share of a side that holds the largest projection of a layer."""
    most = 0.0
    for values in maps.reshape(-1, *maps.shape[2:]):
        strong = _strong(values)
        for axis, side in ((1, maps.shape[-2]), (0, maps.shape[-1])):
            first, last = _extent(strong, axis)
            most = max(most, (last - first) / side)
    return most


def _window(values: Floats, share: float) -> Floats:
    """The part of a map around what is strong in it, of the same size for all of a layer."""
    strong, cut = _strong(values), [slice(None)]
    for axis, side in ((1, values.shape[1]), (0, values.shape[2])):
        first, last = _extent(strong, axis)
        size = max(1, ceil(share * side))
        start = min(max((first + last - size) // 2, 0), side - size)
        cut.append(slice(start, start + size))
    return values[tuple(cut)]


def _foot(found: Evolution, shown: int) -> str:
    most = f" {shown} of {len(found.features)} features." if shown < len(found.features) else ""
    return (
        f"What {found.method} leads the strongest activation over {found.response.shape[2]} examples back to. Each "
        f"panel on its own scale: 0 is grey. A red edge: another example than at the epoch before.{most}"
    )
