"""What an attack changed: pictures before and after, the perturbation magnified, and what explanations make of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure
from torch import Tensor

from attrib import checks
from attrib.plot.colour import bare
from attrib.plot.layout import SMALL, Place, Sheet
from attrib.plot.maps import paint
from attrib.plot.scale import Floats, Style, as_map, as_picture, fit

if TYPE_CHECKING:
    from attrib.synthesis.attacked import Adversarial
    from attrib.synthesis.change import AttributionChange
    from attrib.synthesis.fooling import Fooling

MOST = 6  # rows of a figure: more do not fit on a page
CHANGED = (
    "From above: the picture, after the attack, and with the same perturbation, its pixels in random order. Each map "
    "on its own scale; below it its rank correlation with the map of the picture as it was."
)
ADDED = "Added: grey is no change; black and white are the largest change of a value in this picture."


def adversarial_panels(found: Adversarial, examples: Sequence[int] | None = None) -> Figure:
    """Draw a row per example: the picture, what was added, magnified, and the sum.

    Convention:
        - above each picture: what the network says of it, and how probable it finds that.
        - the perturbation is centred on grey and magnified so that its largest value is black or white; the factor is
          written above.

    Args:
        found: what `attrib.synthesis.attack` or `attrib.synthesis.smallest_eps` gave.
        examples: which ones; the first six if None.

    Returns:
        A figure; ``savefig`` writes it. pyplot does not know it.

    Example:
        >>> from attrib.core.synth import PixelSpace
        >>> from attrib.synthesis import attack
        >>> figure = adversarial_panels(attack(model, x.sigmoid(), eps=0.2, pixels=PixelSpace()))
        >>> [ax.get_title().split()[0] for ax in figure.axes[:3]]
        ['class', 'added,', 'class']
    """
    rows = range(len(found.clean))[:MOST] if examples is None else examples
    shown = [checks.choice("example", one, range(len(found.clean))) for one in rows]
    pictures = [(_picture(found.picture[i]), _picture(found.changed[i])) for i in shown]
    added = [_magnified(found.perturbation[i]) for i in shown]
    titles: dict[Place, str] = {}
    for row, i in enumerate(shown):
        titles |= {(row, 0): _said(found, i, found.before), (row, 2): _said(found, i, found.after)}
        titles[row, 1] = f"added, {added[row][1]}" + (" (wrong before)" if found.wrong[i] else "")
    notes = {(row, 1): _size(found, i) for row, i in enumerate(shown)}
    high, wide = pictures[0][0].shape[:2]
    sheet = Sheet((len(shown), 3), high / wide, titles=titles, notes=notes, foot=ADDED)
    for row, (before, after) in enumerate(pictures):
        for column, one in enumerate((before, added[row][0], after)):
            ax = sheet.axes((row, column))
            bare(ax)
            ax.imshow(one)
    return sheet.figure


def change_panels(change: AttributionChange, *, example: int = 0) -> Figure:
    """Draw the maps of one example: of the picture, after the attack, and with the perturbation shuffled.

    Convention:
        - a row per picture: the picture, what was added to it, magnified as in `adversarial_panels`, and its maps, each
          on its own scale.
        - below the maps: Spearman's correlation with the map above them, of the picture as it was.

    Args:
        change: what `Adversarial.attribution_change` gave.
        example: which one.

    Returns:
        A figure; ``savefig`` writes it. pyplot does not know it.

    Example:
        >>> from attrib.core.synth import PixelSpace
        >>> from attrib.synthesis import attack
        >>> found = attack(model, x.sigmoid(), eps=0.2, pixels=PixelSpace())
        >>> figure = change_panels(found.attribution_change("saliency", "gradcam"))
        >>> [ax.get_title() for ax in figure.axes[1:3]]
        ['saliency', 'gradcam']
    """
    found = change.found
    checks.choice("example", example, range(len(found.clean)))
    control = found.subject.space.to_picture(change.inputs[example : example + 1])[0]
    pixels = (found.picture[example], found.changed[example], control)
    added = [_magnified(one - pixels[0]) for one in pixels[1:]]
    names, (high, wide) = list(change.before), pixels[0].shape[1:]
    titles = _change_titles(change, example, names) | {(1, 1): f"added, {added[0][1]}", (2, 1): "in random order"}
    notes = {
        (row, 2 + i): f"rank correlation {float(measured[name]['rank correlation'][example]):.2f}"
        for row, measured in ((1, change.attack), (2, change.control))
        for i, name in enumerate(names)
    }
    sheet = Sheet((3, 2 + len(names)), high / wide, titles=titles, notes=notes, foot=CHANGED)
    for row, maps in enumerate((change.before, change.after, change.shuffled)):
        picture = _picture(pixels[row])
        for column, shown in enumerate([picture, *(one for one, _ in added[row - 1 : row])]):
            ax = sheet.axes((row, column))
            bare(ax)
            ax.imshow(shown)
        for column, name in enumerate(names, start=2):
            values, style = as_map(maps[name][example]), Style()
            paint(sheet.axes((row, column)), values, picture, fit([values], style), style, size=SMALL)
    return sheet.figure


def _change_titles(change: AttributionChange, example: int, names: Sequence[str]) -> dict[Place, str]:
    found, kept = change.found, "the same class" if change.kept[example] else "another class"
    titles: dict[Place, str] = {(0, 2 + i): name for i, name in enumerate(names)}
    titles |= {(0, 0): _said(found, example, found.before), (1, 0): _said(found, example, found.after)}
    return titles | {(2, 0): kept}


def fooling_panels(found: Fooling, examples: Sequence[int] | None = None) -> Figure:
    """Draw where each image began, and below it what the network is sure about.

    Args:
        found: what `attrib.synthesis.fool` gave.
        examples: which ones; the first six if None.

    Returns:
        A figure; ``savefig`` writes it. pyplot does not know it.
    """
    columns = range(len(found.images))[:MOST] if examples is None else examples
    shown = [checks.choice("example", one, range(len(found.images))) for one in columns]
    titles: dict[Place, str] = {}
    for column, i in enumerate(shown):
        name, chance = found.subject.label(int(found.target[i])), float(found.probability[i])
        titles |= {(0, column): f"before: {float(found.curve[0, i]):.2g}", (1, column): f"{name} {chance:.3f}"}
    rows = [
        [_picture(one) for one in found.subject.space.to_picture(images)[shown]]
        for images in (found.start, found.images)
    ]
    high, wide = rows[0][0].shape[:2]
    foot = "Above where each image began, below after gradient ascent; with the probability of the class."
    sheet = Sheet((2, len(shown)), high / wide, titles=titles, foot=foot)
    for row, pictures in enumerate(rows):
        for column, one in enumerate(pictures):
            ax = sheet.axes((row, column))
            bare(ax)
            ax.imshow(one)
    return sheet.figure


def _picture(pixels: Tensor) -> Floats:
    return as_picture(pixels.clamp(0, 1))


def _magnified(perturbation: Tensor) -> tuple[Floats, str]:
    """The perturbation around grey, and how many times it was magnified."""
    largest = float(perturbation.abs().max())
    if not largest:
        return as_picture(perturbation + 0.5), "nothing"
    shown: Floats = np.clip(as_picture((0.5 + perturbation / (2 * largest)).clamp(0, 1)), 0, 1)
    return shown, f"x {0.5 / largest:.3g}"


def _said(found: Adversarial, example: int, chances: Tensor) -> str:
    winner = int(chances[example].argmax())
    return f"{found.subject.label(winner)} {float(chances[example, winner]):.2f}"


def _size(found: Adversarial, example: int) -> str:
    return f"largest change {255 * float(found.linf[example]):.2g}/255, L2 {float(found.l2[example]):.2g}"
