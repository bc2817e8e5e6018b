"""The report of a study: tables to paste, numbers to read by machine, figures; written anew from what is stored."""

from __future__ import annotations

import json
import secrets
import shutil
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from attrib.benchmark.pairs import Correction
from attrib.errors import OutputError
from attrib.report.store import new_directory, to_json, write_text, writing
from attrib.study.place import is_remote, place_of
from attrib.study.report_words import costs, findings, legend
from attrib.study.summary import Summary, summarise
from attrib.study.tables import summary_table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from attrib.metrics import Protocol
from attrib.study.result import StudyResult

KIND = "study report"
SCHEMA = 1


def write_report(
    found: StudyResult,
    folder: str | PathLike[str] | None = None,
    *,
    correction: Correction = "holm",
    alpha: float = 0.05,
    figures: bool = True,
) -> Path:
    """Write ``table.txt``, ``table.md``, ``table.tex``, ``summary.json`` and ``figures/*.png``.

    All of it follows from what is stored, whole or as far as it got, and takes no pass through the model: the same
    study gives the same bytes. An older report in ``folder`` is replaced.

    Args:
        found: the study.
        folder: where to write, a directory or a URL; ``report`` in the directory of the study if None.
        correction: for the number of pairs of methods, see `attrib.benchmark.adjust`.
        alpha: level of tests; intervals are of ``1 - alpha``.
        figures: draw curves, metrics, ranks, and cost against quality.

    Returns:
        The folder.

    Raises:
        OutputError: ``folder`` holds something that is not a report, or cannot be written.
    """
    place = found.store.folder / "report" if folder is None else place_of(folder)
    _refuse_others(place)
    summary = summarise(found, correction=correction, alpha=alpha)
    with ExitStack() as undo:
        home = place.parent if not is_remote(place) else Path(undo.enter_context(TemporaryDirectory()))
        made = home / f".{place.name}.{secrets.token_hex(4)}.new"
        with new_directory(made) as work:
            for name, text in _texts(found, summary).items():
                write_text(work, name, text)
            if figures:
                _draw(found, summary, work / "figures")
        with writing(str(place)):
            (_send if is_remote(place) else _put)(made, place)
    return place


def _send(made: Path, place: Path) -> None:
    """Copy, file by file, to where nothing can be renamed whole; the file that says what it is comes last."""
    for path in sorted(made.rglob("*"), key=lambda one: (one.name == "summary.json", one)):
        if path.is_file():
            there = place / path.relative_to(made).as_posix()
            there.parent.mkdir(parents=True, exist_ok=True)
            there.write_bytes(path.read_bytes())


def _refuse_others(place: Path) -> None:
    """An older report is replaced; anything else is not touched."""
    if not place.exists() or (place.is_dir() and not any(place.iterdir())) or _is_report(place):
        return
    raise OutputError(
        f"folder must be new, empty or a report; got {str(place)!r}, which holds other files. Choose another name."
    )


def _is_report(place: Path) -> bool:
    try:
        return bool(json.loads((place / "summary.json").read_text(encoding="utf-8")).get("kind") == KIND)
    except (OSError, ValueError):
        return False


def _put(made: Path, place: Path) -> None:
    """Rename; of several processes that report the same study, any may win."""
    old = made.with_suffix(".old")
    with suppress(FileNotFoundError):
        place.rename(old)
    try:
        made.rename(place)
    except OSError:
        if not _is_report(place):
            raise
    finally:
        shutil.rmtree(old, ignore_errors=True)
        shutil.rmtree(made, ignore_errors=True)


def _texts(found: StudyResult, summary: Summary) -> dict[str, str]:
    above = [f"protocol: {found.protocol}"]
    if found.missing:
        above.append(f"not finished: {len(found.missing)} of {found.manifest['shards']} shards are missing.")
    notes, said = legend(summary), findings(summary)
    plain = [above, [summary_table(summary)], notes, said, [costs(found)]]
    marked = [above, [summary_table(summary, "markdown")], [f"- {line}" for line in notes]]
    comments = [f"% {line}" for line in [*above, *notes]]
    return {
        "table.txt": "\n\n".join("\n".join(part) for part in plain if part) + "\n",
        "table.md": "\n\n".join("\n".join(part) for part in marked if part) + "\n",
        "table.tex": "\n".join([*comments, "% \\usepackage{booktabs}", summary_table(summary, "latex")]) + "\n",
        "summary.json": to_json(_facts(found, summary)),
    }


def _facts(found: StudyResult, summary: Summary) -> dict[str, Any]:
    return {
        "kind": KIND,
        "schema": SCHEMA,
        "study": found.manifest["hash"],
        "protocol": {**found.protocol.to_dict(), "words": str(found.protocol)},
        "seed": found.seed,
        "shards": found.manifest["shards"],
        "missing_shards": list(found.missing),
        "failures": len(found.failures),
        **summary.to_dict(),
        "costs": {row: found.cost(row) for row in found.rows},
    }


def _draw(found: StudyResult, summary: Summary, folder: Path) -> None:
    from attrib.study.report_figures import cost_figures, curve_figure, grid_figure, rank_figures

    made: dict[str, Figure | None] = {
        "curves.png": curve_figure(stored_curves(found), found.controls, found.seed),
        "metrics.png": grid_figure(summary),
        **rank_figures(summary),
        **cost_figures(summary, {row: found.cost(row) for row in found.rows}),
    }
    for name, figure in made.items():
        if figure is not None:
            path = folder / name
            with writing(path.name):
                path.parent.mkdir(parents=True, exist_ok=True)
                figure.savefig(path)


@dataclass(frozen=True, eq=False)
class StoredCurves:
    """The curves of one row as `attrib.plot.curves` draws them.

    Attributes:
        protocol: how they were measured.
        found: fractions and scores ``(N, points)`` by name.
    """

    protocol: Protocol
    found: dict[str, tuple[Tensor, Tensor]]

    @property
    def names(self) -> tuple[str, ...]:
        """The curves that there are."""
        return tuple(self.found)

    def curve(self, name: str) -> tuple[Tensor, Tensor]:
        """Fractions and scores; NaN for images without a curve."""
        return self.found[name]

    def auc(self, name: str) -> Tensor:
        """Area below the curve of each image."""
        fraction, score = self.found[name]
        return torch.trapezoid(score, fraction, dim=1)


def stored_curves(found: StudyResult) -> dict[str, StoredCurves]:
    """The curves of every row that has all of them."""
    names = found.curve_names
    rows = {}
    for row in found.rows:
        try:
            every = {name: found.curves(row, name) for name in names}
        except OutputError:  # every map of this row failed
            continue
        told = {name: (torch.from_numpy(x), torch.from_numpy(y)) for name, (x, y) in every.items()}
        rows[row] = StoredCurves(found.protocol, told)
    return rows if names else {}
