"""The table of a study, methods x metrics, as text, Markdown and LaTeX: the same cells in three forms."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from attrib import checks
from attrib.report.table import escape_latex, fixed, text_table
from attrib.report.wording import means_decimals
from attrib.study.summary import Column, Summary

Form = Literal["text", "markdown", "latex"]

FORMS: tuple[Form, ...] = ("text", "markdown", "latex")
_ARROW = {True: "↑", False: "↓", None: "·"}
_LATEX_ARROW = {True: r" $\uparrow$", False: r" $\downarrow$", None: ""}


def escape_markdown(text: str) -> str:
    r"""Text as Markdown shows it in a table.

    Example:
        >>> print(escape_markdown("a|b *c*"))
        a\|b \*c\*
    """
    return re.sub(r"([\\`*_|<>\[\]])", r"\\\1", text)


def summary_table(found: Summary, form: Form = "text") -> str:
    """Means with their intervals, one row per method and control, one column per metric.

    Convention:
        - ↑ higher is better, ↓ lower is; a descriptor, by which nothing is ranked, has neither (``·`` in plain text).
        - the best mean of the methods is bold, in plain text starred; controls and descriptors never are.
        - ``!`` is not better than a control; ``?`` is better than all, on too few images for a test.
        - a cell says n where it has fewer images than the study; ``-`` has none.
        - LaTeX needs the package booktabs; labels are escaped, and every row stands on one line.
        - the same scores give the same bytes.

    Args:
        found: what to show.
        form: ``"text"``, ``"markdown"`` or ``"latex"``.

    Example:
        >>> from attrib.study.summary import summarise_scores
        >>> table = [[0.9, 0.4, 0.2], [0.8, 0.5, 0.3], [0.7, 0.6, 0.1], [0.9, 0.5, 0.2], [0.8, 0.4, 0.3]]
        >>> labels = ["gradcam", "saliency", "random"]
        >>> print(summary_table(summarise_scores({"srg": table}, labels, better={"srg": True}, controls=["random"])))
        method                              srg ↑
        gradcam           0.820 [0.760, 0.880] *
        saliency          0.480 [0.420, 0.540]
        random (control)  0.220 [0.160, 0.280]
    """
    look = _LOOKS[checks.choice("form", form, FORMS)]
    digits = {column.metric: _digits(column) for column in found.columns}
    rows = [
        {"method": look.label(row, row in found.controls)}
        | {look.head(column): look.cell(column, row, digits[column.metric], found.images) for column in found.columns}
        for row in found.rows
    ]
    if form == "latex":
        return _latex([list(rows[0]), *(list(row.values()) for row in rows)], len(found.controls))
    return text_table(rows, markdown=form == "markdown")


def short_number(column: Column, value: float) -> str:
    """A number with as many decimals as the table gives those of its column."""
    return fixed(value, _digits(column))


def _digits(column: Column) -> int | None:
    return means_decimals(column.intervals.values())


@dataclass(frozen=True)
class _Look:
    """How a form writes its words."""

    escape: Callable[[str], str]
    number: Callable[[str], str]
    arrow: dict[bool | None, str]
    best: tuple[str, str]
    note: Callable[[str], str]

    def label(self, row: str, control: bool) -> str:
        return self.escape(row) + " (control)" * control

    def head(self, column: Column) -> str:
        return f"{self.escape(column.metric)}{self.arrow[column.higher_is_better]}"

    def cell(self, column: Column, row: str, digits: int | None, images: int) -> str:
        interval = column.intervals[row]
        if not interval.count:
            return "-"
        text = self.number(fixed(interval.mean, digits))
        if row in column.best:
            text = f"{self.best[0]}{text}{self.best[1]}"
        if interval.count > 1:
            text += f" [{', '.join(self.number(fixed(end, digits)) for end in (interval.low, interval.high))}]"
        if interval.count < images:
            text += self.note(f"n={interval.count}")
        return text + self._flags(column, row)

    def _flags(self, column: Column, row: str) -> str:
        return f" {column.flag(row)}".rstrip()


class _Plain(_Look):
    """Numbers stay below each other: every cell of a column has room for the same flags."""

    def _flags(self, column: Column, row: str) -> str:
        every = [(column.flag(one) or " ") + ("*" if one in column.best else " ") for one in column.rows]
        room = [i for i in range(2) if any(flag[i] != " " for flag in every)]
        mine = (column.flag(row) or " ") + ("*" if row in column.best else " ")
        return " " * bool(room) + "".join(mine[i] for i in room)


def _latex_number(text: str) -> str:
    digits, _, power = text.partition("e")
    return f"${digits} \\times 10^{{{int(power)}}}$" if power else f"${digits}$"


_LOOKS: dict[str, _Look] = {
    "text": _Plain(str, str, {key: f" {arrow}" for key, arrow in _ARROW.items()}, ("", ""), lambda text: f" {text}"),
    "markdown": _Look(
        escape_markdown,
        str,
        {True: " ↑", False: " ↓", None: ""},
        ("**", "**"),
        lambda text: f" ({text})",
    ),
    "latex": _Look(
        escape_latex,
        _latex_number,
        _LATEX_ARROW,
        (r"\textbf{\boldmath ", "}"),
        lambda text: rf" {{\scriptsize {text}}}",
    ),
}


def _latex(lines: Sequence[Sequence[str]], controls: int) -> str:
    """A booktabs table; a rule sets the controls apart."""
    columns = "l" + "r" * (len(lines[0]) - 1)
    body = [" & ".join(line) + r" \\" for line in lines]
    methods = len(body) - controls
    parts = [body[:1], body[1:methods], body[methods:]]
    ruled = "\n\\midrule\n".join("\n".join(part) for part in parts if part)
    return f"\\begin{{tabular}}{{{columns}}}\n\\toprule\n{ruled}\n\\bottomrule\n\\end{{tabular}}"
