"""Pictures and their nearest neighbours, one space beside the other."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from attrib import checks
from attrib.errors import InputError
from attrib.plot.colour import QUIET, bare
from attrib.plot.layout import GAP, SMALL, TITLE, WIDTH, Sheet, wrap

if TYPE_CHECKING:
    from attrib.analysis.features.neighbours import Neighbours

SAME, OTHER = "#0072B2", "#E69F00"  # Okabe and Ito's blue and orange, for every kind of colour vision
MOST = 15  # pictures in a row, beside which none could be seen
FRAME = 1.6  # points


def neighbour_rows(found: Neighbours, *, count: int = 5, k: int = 6) -> Figure:
    """Draw queries and their nearest neighbours: one row a query, one block a space.

    Convention:
        - nearest first. With labels, a blue frame is the label of the query, an orange one another.
        - above a block stands its precision over all queries, not only over those that are drawn.

    Args:
        found: what `attrib.analysis.nearest` gave, of banks with pixels.
        count: how many of the queries are drawn, the first ones.
        k: how many neighbours, at most.

    Returns:
        A figure; ``savefig`` writes it. pyplot does not know it.

    Example:
        >>> from attrib.analysis import feature_bank, nearest
        >>> found = nearest([0, 1], feature_bank(model, torch.rand(9, 3, 12, 12), "fc@input"), k=3)
        >>> len([ax for ax in neighbour_rows(found).axes if ax.images])
        14
    """
    checks.integer("count", count, 1)
    spaces = list(found.index)
    shown = min(k, found.k, max(1, (MOST - 1) // len(spaces) - 1))
    rows = min(count, len(found.query))
    pictures = found.asked.pictures(found.query[:rows])
    if pictures is None:
        raise InputError("neighbours must be of banks with pictures to be drawn. Make the bank with pixels=True.")
    columns = 1 + len(spaces) * (shown + 1)
    high, wide = pictures.shape[2:]
    heads = {space: _head(found, space, shown * min(2.0, (WIDTH - GAP) / columns)) for space in spaces}
    titles = {(0, 0): "\n".join(["query", *[" "] * (max(map(len, heads.values())) - 1)])}
    labels = [] if found.query_labels is None else found.query_labels[:rows].tolist()
    called = [wrap(found.asked.name(label), 1.7 * min(2.0, (WIDTH - GAP) / columns), SMALL) for label in labels]
    notes = {(row, 0): "\n".join([" "] * len(lines)) for row, lines in enumerate(called)}  # the room for them
    sheet = Sheet((rows, columns), high / wide, titles=titles, notes=notes, foot=_foot(found))
    for row in range(rows):
        ax = sheet.axes((row, 0))
        _draw(ax, pictures[row], None)
        if called:
            ax.set_xlabel("\n".join(called[row]), size=SMALL, alpha=QUIET, loc="left", labelpad=2, parse_math=False)
        for block, space in enumerate(spaces):
            near = found.index[space][row, :shown]
            for i, picture in enumerate(found.bank.pictures(near)):  # type: ignore[arg-type]  # as its queries
                ax = sheet.axes((row, 2 + block * (shown + 1) + i))
                _draw(ax, picture, _frame(found, row, int(near[i])))
                if row == i == 0:
                    ax.set_title("\n".join(heads[space]), size=TITLE, loc="left", pad=3, parse_math=False)
    return sheet.figure


def _head(found: Neighbours, space: str, room: float) -> list[str]:
    share = f", {float(found.precision(space).mean()):.0%} same label" if found.chance is not None else ""
    return wrap(f"{space}{share}", room, TITLE)


def _frame(found: Neighbours, row: int, neighbour: int) -> str | None:
    if found.labels is None or found.query_labels is None:
        return None
    return SAME if int(found.labels[neighbour]) == int(found.query_labels[row]) else OTHER


def _draw(ax: Axes, picture: Tensor, colour: str | None) -> None:
    bare(ax)
    ax.imshow(np.repeat(picture.permute(1, 2, 0).numpy(), 3 // len(picture), 2), interpolation="nearest")
    for spine in ax.spines.values():
        spine.set(visible=colour is not None, edgecolor=colour or "none", linewidth=FRAME)


def _foot(found: Neighbours) -> str:
    own = ", the query left out" if found.asked is found.bank else ""
    told = f"Nearest of {len(found.bank)} pictures by {found.metric} distance{own}."
    if found.chance is None:
        return told
    return f"{told} Blue: the label of the query. Orange: another. Random neighbours: {float(found.chance.mean()):.0%}."
