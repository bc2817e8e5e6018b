"""What hiding the same part of different pictures gave: distances, beside those of random places, and the table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import isnan
from typing import TYPE_CHECKING, Any

from torch import Tensor

from attrib import checks
from attrib.report.finding import Finding
from attrib.report.table import escape_latex, latex_table, text_table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RANDOM = "random"


@dataclass(frozen=True, eq=False)
class Correspondence(Finding):
    """How alike pictures change when the same part of each is hidden.

    Attributes:
        distances: for each layer the share of features whose change differs in sign, ``(parts, pairs)``.
        random: the same with as much hidden at random places, ``(parts, draws, pairs)``.
        pairs: which two pictures, ``(pairs, 2)``, the first index the smaller.
        parts: what was hidden, True inside, ``(N, H, W)`` each.
        places: what was hidden at random, ``x0, y0, x1, y1``, ``(draws, N, 4)`` for each part.
        settings: the options.
    """

    distances: Mapping[str, Tensor]
    random: Mapping[str, Tensor]
    pairs: Tensor
    parts: Mapping[str, Tensor] = field(repr=False)
    places: Mapping[str, Tensor] = field(repr=False)
    settings: dict[str, Any]

    @property
    def layers(self) -> tuple[str, ...]:
        """Addresses of the layers."""
        return tuple(self.distances)

    def total(self, part: str, layer: str) -> float:
        """The paper's sum over all ordered pairs of different pictures, of normalised distances."""
        return 2 * float(self.distances[layer][self._row(part)].sum())

    def lower_than(self, part: str, layer: str) -> float:
        """Share of the random draws of the same size whose mean distance is above the part's.

        Pairs with nothing to compare are left out of the means; NaN where nothing is left.
        """
        row = self._row(part)
        mine, draws = self.distances[layer][row].nanmean(), self.random[layer][row].nanmean(1)
        draws = draws[~draws.isnan()]
        return float("nan") if bool(mine.isnan()) else float((draws > mine).double().mean())

    def table(self) -> list[dict[str, Any]]:
        """A row per part and layer.

        ``mean`` and ``sd`` are over pairs (which share pictures, so they are not independent), ``random`` and
        ``random sd`` the same over pairs and draws of the part's size, ``lower than`` is `lower_than`.
        """
        rows = []
        for part in self.parts:
            for layer in self.layers:
                row = self._row(part)
                mean, sd = _spread(self.distances[layer][row])
                chance, spread = _spread(self.random[layer][row])
                told = {"part": part, "layer": layer, "mean": mean, "sd": sd, "random": chance, "random sd": spread}
                rows.append({**told, "lower than": self.lower_than(part, layer)})
        return rows

    def to_text(self, *, markdown: bool = False) -> str:
        """The table of the paper, and how often each part is below random places."""
        draws = len(next(iter(self.random.values()))[0])
        about = (
            f"{len(next(iter(self.parts.values())))} pictures, {len(self.pairs)} pairs; mean ± standard deviation of "
            "the share of features whose change differs in sign; "
            f"{RANDOM}: {draws} draws of places as large as each part"
            + (", the same in all pictures." if self.settings["aligned"] else ", other ones in each picture.")
        )
        shares = [
            {"lower than random places": part} | {one: self._below(part, one) for one in self.layers}
            for part in self.parts
        ]
        tables = (text_table(rows, markdown=markdown) for rows in (self._cells("±"), shares))
        return f"\n\n{about}\n\n".join(tables)

    def to_latex(self) -> str:
        r"""The table of the paper, for LaTeX.

        Example:
            >>> from attrib.analysis import correspondence
            >>> found = correspondence(model, torch.rand(3, 3, 12, 12), {"eye": [2, 2, 5, 5]}, ["relu"], draws=2)
            >>> print(found.to_latex())
            \begin{tabular}{lc}
            hidden & relu \\
            \hline
            eye & $0... \pm 0...$ \\
            random & $0... \pm 0...$ \\
            \end{tabular}
        """
        cells = self._cells(r"\pm")
        rows = [[escape_latex(row["hidden"]), *(f"${row[layer]}$" for layer in self.layers)] for row in cells]
        return latex_table(list(map(escape_latex, cells[0])), rows)

    def plot(self) -> Figure:
        """Draw every part beside the random places of its size, one panel for each layer."""
        from attrib.plot.correspondence import correspondence_scores

        return correspondence_scores(self)

    def _below(self, part: str, layer: str) -> str:
        share = self.lower_than(part, layer)
        known = int((~self.random[layer][self._row(part)].isnan()).any(1).sum())
        return "-" if isnan(share) else f"{round(known * share)} of {known}"

    def _row(self, part: str) -> int:
        return list(self.parts).index(checks.choice("part", part, list(self.parts)))

    def _cells(self, sign: str) -> list[dict[str, str]]:
        """A line for each part, and one for all random places together."""
        named = [(part, {one: self.distances[one][i] for one in self.layers}) for i, part in enumerate(self.parts)]
        rows = []
        for name, values in [*named, (RANDOM, self.random)]:
            spread = {layer: _spread(values[layer]) for layer in self.layers}
            rows.append({"hidden": name} | {layer: _told(*one, sign) for layer, one in spread.items()})
        return rows


def _told(mean: float, sd: float, sign: str) -> str:
    """A mean with its deviation, without it where there is a single pair."""
    known = f"{mean:.3f}" if isnan(sd) else f"{mean:.3f} {sign} {sd:.3f}"
    return "-" if isnan(mean) else known


def _spread(values: Tensor) -> tuple[float, float]:
    """Mean and standard deviation of a sample; NaN is left out, and the deviation is NaN of a single value."""
    known = values[~values.isnan()]
    return (
        float(known.mean()) if len(known) else float("nan"),
        float(known.std()) if len(known) > 1 else float("nan"),
    )
