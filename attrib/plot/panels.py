"""Many maps of one picture in one figure: a block of rows, or a column, for each class."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from attrib import checks
from attrib.errors import InputError
from attrib.plot.colour import bar_below, bare
from attrib.plot.layout import SMALL, Place, Sheet
from attrib.plot.maps import gradient_image, paint
from attrib.plot.scale import Floats, Look, MapLike, Scale, Style, as_channels, as_picture, fit

if TYPE_CHECKING:
    from typing_extensions import Unpack

ACROSS = 6  # panels in a row before it is broken: more are too small to read

Maps: TypeAlias = "Mapping[str, MapLike | Mapping[Any, MapLike]]"
Words: TypeAlias = Mapping[str, str | Mapping[Any, str]]
Table: TypeAlias = dict[str, dict[Any, Floats]]
Which: TypeAlias = "tuple[str | None, Any]"  # label and target


def panels(
    image: object,
    maps: Maps,
    *,
    names: Mapping[Any, str] | None = None,
    notes: Words | None = None,
    columns: int | Literal["classes"] | None = None,
    colorbar: bool = False,
    **look: Unpack[Look],
) -> Figure:
    """Draw the picture and every map of it, for one class or several.

    Convention:
        - each map has its own scale unless ``limits`` says otherwise; the line below the figure states which.
        - maps with three channels are drawn as `gradient_image`, each on its own scale; others as `heatmap`.
        - a map that is missing for one of the classes leaves an empty panel that says so.

    Args:
        image: what the network sees, see `heatmap`.
        maps: for each method its map, or its maps by target.
        names: what to call the targets; themselves if None.
        notes: small print below the panels, for each method or for each method and target: a score, a unit.
        columns: panels in a row; ``"classes"``: one column per target and one row per method; None chooses.
        colorbar: draw one below each heatmap, with raw numbers.
        look: see `Look`.

    Returns:
        A figure at most 1600 pixels wide; ``savefig`` writes it. pyplot does not know it.

    Example:
        >>> maps = {"gradcam": {"cat": torch.rand(7, 7), "dog": torch.rand(7, 7)}}
        >>> figure = panels(torch.rand(3, 70, 90), maps, limits="method")
        >>> [ax.get_title() for ax in figure.axes]
        ['input', 'gradcam', '', '']
    """
    style, table, picture = Style.of(look), _table(maps), as_picture(image)
    plan = _plan(table, names or {}, columns)
    scales = _scales(table, style)
    aspect = picture.shape[0] / picture.shape[1]
    words = (plan.heads, plan.titles, plan.notes(notes or {}), _foot(table, style, scales))
    bars = [place for place, which in plan.places.items() if colorbar and which in scales]
    sheet = Sheet(plan.shape, aspect, *words, bars)
    for place, (label, target) in plan.places.items():
        ax = sheet.axes(place)
        if label is None:
            _plain(ax, picture)
        elif target not in table[label]:
            _plain(ax, None)
        elif (label, target) in scales:
            values, scale = table[label][target][0], scales[label, target]
            paint(ax, values, picture, scale, style, size=SMALL)
            if place in bars:
                bar_below(sheet.bar(place), scale, style, values, size=SMALL)
        else:
            gradient_image(table[label][target], ax, percentile=style.percentile, note=False)
    return sheet.figure


@dataclass(frozen=True)
class _Plan:
    """Which map stands where; the label None is the picture itself."""

    shape: Place
    heads: Mapping[int, str]
    titles: Mapping[Place, str]
    places: Mapping[Place, Which]

    def notes(self, notes: Words) -> dict[Place, str]:
        """The notes by place; one for a method that is not drawn is refused."""
        for method in notes:
            checks.choice("method of a note", method, [drawn for drawn, _ in self.places.values() if drawn])
        found = {}
        for place, (label, target) in self.places.items():
            note = notes.get(label or "", "")
            found[place] = note if isinstance(note, str) else note.get(target, "")
        return found


def _plan(table: Table, names: Mapping[Any, str], columns: int | Literal["classes"] | None) -> _Plan:
    targets = dict.fromkeys(target for found in table.values() for target in found)
    called = {target: names.get(target, "" if target is None else str(target)) for target in targets}
    if columns == "classes":
        return _by_class([None, *table], called)
    across = _across(1 + len(table)) if columns is None else checks.integer("columns, unless 'classes',", columns, 1)
    return _in_rows([None, *table], called, across)


def _by_class(labels: list[str | None], called: Mapping[Any, str]) -> _Plan:
    """One column per target, its name above the picture."""
    places: dict[Place, Which] = {
        (row, column): (label, t) for row, label in enumerate(labels) for column, t in enumerate(called)
    }
    titles = {place: called[target] if label is None else label for place, (label, target) in places.items()}
    return _Plan((len(labels), len(called)), {}, titles, places)


def _in_rows(labels: list[str | None], called: Mapping[Any, str], across: int) -> _Plan:
    """A block of rows per target, its name above the block."""
    rows = ceil(len(labels) / across)
    places: dict[Place, Which] = {
        (block * rows + i // across, i % across): (label, target)
        for block, target in enumerate(called)
        for i, label in enumerate(labels)
    }
    once = rows == 1  # the titles of the first row hold for all
    titles = {
        place: "input" if label is None else label for place, (label, _) in places.items() if place[0] == 0 or not once
    }
    heads = {block * rows: name for block, name in enumerate(called.values())}
    return _Plan((rows * len(called), min(across, len(labels))), heads, titles, places)


def _across(panels: int) -> int:
    """The fewest columns for as few rows as are readable."""
    return ceil(panels / ceil(panels / ACROSS))


def _table(maps: Maps) -> Table:
    given: object = maps
    if not isinstance(given, Mapping):
        raise InputError(f"maps must be a dict of maps by method; got {type(given).__name__}.")
    table = {
        str(label): {target: as_channels(one) for target, one in found.items()}
        if isinstance(found, Mapping)
        else {None: as_channels(found)}
        for label, found in maps.items()
    }
    if not any(table.values()):
        raise InputError("maps must hold at least one map; got none for any method.")
    return table


def _scales(table: Table, style: Style) -> dict[Which, Scale]:
    """One scale for each heatmap, shared as ``style.limits`` says."""
    heat = {(label, t): v for label, found in table.items() for t, v in found.items() if len(v) == 1}
    every = list(heat.values())
    scales: dict[Which, Scale] = {}
    for (label, target), values in heat.items():
        mine = [v for (other, _), v in heat.items() if other == label]
        group = {"shared": every, "method": mine}.get(str(style.limits), [values])
        scales[label, target] = fit(group, style)
    return scales


def _foot(table: Table, style: Style, scales: Mapping[Which, Scale]) -> str:
    """Say how the numbers became colours."""
    end = (
        "largest magnitude" if style.percentile == 100 else f"{style.percentile:g}th percentile of non-zero magnitudes"
    )
    whose = {"method": "One scale per method", "shared": "One scale for all maps"}.get(str(style.limits))
    said = f"{whose or 'Each map on its own scale'}: transparent at 0, full colour at the {end}"
    if style.limits == "range":
        said = "Each map on its own scale: transparent at its smallest value, full colour at its largest"
    elif isinstance(style.limits, tuple):
        said = "One scale for all maps: {:g} to {:g}".format(*style.limits)
    elif style.cmap is None and any(scale.signed for scale in scales.values()):
        said += "; in maps with blue, red speaks for the target and blue against"
        if any(len(v) == 1 and v.min() >= 0 for found in table.values() for v in found.values()):
            said += ", in the others colour is how much, without a sign"
    grey = f"Grey panels, each on its own scale: 0 is grey, black and white are the {end}"
    kinds = {len(values) for found in table.values() for values in found.values()}
    return ". ".join([said] * (1 in kinds) + [grey] * (3 in kinds)) + "."


def _plain(ax: Axes, picture: Floats | None) -> None:
    """The picture as it is, or an empty panel where a map is missing."""
    bare(ax)
    if picture is None:
        ax.text(0.5, 0.5, "no map", transform=ax.transAxes, size=SMALL, ha="center", va="center")
    else:
        ax.imshow(picture)
