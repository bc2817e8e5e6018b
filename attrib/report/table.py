"""Rows to text: aligned for a terminal, Markdown or LaTeX."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

Row = Mapping[str, str]
_LATEX = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "%": r"\%", "_": r"\_",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", "[": "{[}", "]": "{]}",  # a row that begins with a bracket would be an option of the last one
}  # fmt: skip


def text_table(rows: Sequence[Row], *, markdown: bool = False) -> str:
    """Align ``rows`` under their keys: the first column to the left, the others to the right.

    Args:
        rows: one mapping per row, all with the keys of the first.
        markdown: draw the lines that Markdown wants.

    Example:
        >>> print(text_table([{"method": "saliency", "score": "0.5"}, {"method": "gradcam", "score": "12.25"}]))
        method    score
        saliency    0.5
        gradcam   12.25
    """
    if not rows:
        return ""
    heads = list(rows[0])
    lines = [heads, *([row[head] for head in heads] for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(heads))]
    cells = [[_pad(cell, width, i) for i, (cell, width) in enumerate(zip(line, widths, strict=True))] for line in lines]
    if not markdown:
        return "\n".join("  ".join(line).rstrip() for line in cells)
    rule = ["-" * width if i == 0 else "-" * (max(width, 2) - 1) + ":" for i, width in enumerate(widths)]
    return "\n".join(f"| {' | '.join(line)} |" for line in [cells[0], rule, *cells[1:]])


def _pad(cell: str, width: int, column: int) -> str:
    return cell.ljust(width) if column == 0 else cell.rjust(width)


def escape_latex(text: str) -> str:
    r"""Text as LaTeX shows it, with every special character taken literally.

    Example:
        >>> print(escape_latex("guided_gradcam & 5 %"))
        guided\_gradcam \& 5 \%
    """
    return "".join(_LATEX.get(letter, letter) for letter in text)


def latex_table(head: Sequence[str], *blocks: Sequence[Sequence[str]]) -> str:
    r"""A table for LaTeX: the first column to the left, the others centred, a rule before every block of rows.

    Example:
        >>> print(latex_table(["layer", "accuracy"], [["fc", "$0.5$"]]))
        \begin{tabular}{lc}
        layer & accuracy \\
        \hline
        fc & $0.5$ \\
        \end{tabular}
    """
    parts = ["\n".join(" & ".join(row) + r" \\" for row in rows) for rows in ([head], *blocks)]
    columns = "l" + "c" * (len(head) - 1)
    return "\n".join([rf"\begin{{tabular}}{{{columns}}}", "\n\\hline\n".join(parts), r"\end{tabular}"])


def amount(value: float | None, digits: int = 3) -> str:
    """Write a number with ``digits`` significant digits, whole numbers whole; ``-`` where there is none.

    Example:
        >>> amount(12.0), amount(0.01234), amount(1234.5), amount(None)
        ('12', '0.0123', '1234', '-')
    """
    if value is None or math.isnan(value):
        return "-"
    if float(value).is_integer() or abs(value) >= 10**digits:
        return f"{value:.0f}"
    return f"{value:.{digits}g}"


def decimals(values: Iterable[float]) -> int | None:
    """How many decimals show three digits of the largest value of a column; None where that takes an exponent.

    Example:
        >>> decimals([0.25, -0.004]), decimals([12.5, 0.1]), decimals([2e-7])
        (3, 1, None)
    """
    top = max((abs(value) for value in values), default=0.0)
    if top == 0:
        return 3
    size = math.floor(math.log10(top))
    return max(0, 2 - size) if -4 <= size <= 5 else None


def fixed(value: float, digits: int | None) -> str:
    """A number with so many `decimals`, without a sign where it rounds to zero.

    Example:
        >>> fixed(-0.0001, 3), fixed(12.345, 1), fixed(2e-7, None)
        ('0.000', '12.3', '2.00e-07')
    """
    return f"{value:.2e}" if digits is None else f"{round(value, digits) + 0.0:.{digits}f}"
