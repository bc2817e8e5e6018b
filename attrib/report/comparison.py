"""What `compare` returns: a score per method, metric and image, with the curves, costs and control rows behind it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from torch import Tensor

from attrib.benchmark.stats import Interval, Verdict, beats, bootstrap_interval
from attrib.errors import InputError
from attrib.metrics import Protocol
from attrib.registry import METRICS
from attrib.report.curves import RowCurves
from attrib.report.explanation import Explanation
from attrib.report.facts import described
from attrib.report.records import Asked, Failure, Spent
from attrib.report.store import AnyPath, new_directory

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, eq=False)
class Comparison:
    """Methods and controls on the same images under one protocol.

    Convention:
        - scores are one number per image, NaN where the map or the number failed; nothing is left out of ``images``.
        - a control with several seeds has their mean, image by image.
        - descriptors (see `attrib.metrics.Metric`) are shown, and no method is better than another by one.
        - intervals are 95 % bootstrap intervals of the mean over images, drawn from ``seed``.

    Attributes:
        protocol: how scores were measured.
        seed: of random controls and of intervals.
        images: names of the images that could be read.
        asked: what was explained in each.
        metrics: registry names.
        controls: which rows are controls.
        scores: for each row and metric ``(N,)``, float64; methods first, then controls.
        curves: the curves of each row.
        costs: for each row what its maps took, one entry per map made.
        layers: where each method looked.
        explanations: one per image, with the maps of the methods; empty if they were not kept.
        failures: what is missing, and why.
        about: facts for the manifest.
    """

    protocol: Protocol
    seed: int
    images: tuple[str, ...]
    asked: tuple[Asked, ...] = field(repr=False)
    metrics: tuple[str, ...]
    controls: tuple[str, ...]
    scores: Mapping[str, Mapping[str, Tensor]] = field(repr=False)
    curves: Mapping[str, RowCurves] = field(repr=False)
    costs: Mapping[str, tuple[Spent, ...]] = field(repr=False)
    layers: Mapping[str, str | None]
    explanations: tuple[Explanation, ...] = field(repr=False)
    failures: tuple[Failure, ...]
    about: Mapping[str, Any] = field(repr=False)

    @property
    def rows(self) -> tuple[str, ...]:
        """Labels of all rows, the controls last."""
        return tuple(self.scores)

    @property
    def methods(self) -> tuple[str, ...]:
        """Labels of the methods."""
        return tuple(row for row in self.scores if row not in self.controls)

    @property
    def judging(self) -> tuple[str, ...]:
        """The metrics that say which map is better: all but descriptors."""
        return tuple(name for name in self.metrics if not METRICS[name].descriptor)

    @cached_property
    def intervals(self) -> dict[str, dict[str, Interval]]:
        """Mean and interval of each row and metric."""
        return {
            row: {metric: bootstrap_interval(values, seed=self.seed) for metric, values in found.items()}
            for row, found in self.scores.items()
        }

    @cached_property
    def verdicts(self) -> dict[str, dict[str, dict[str, Verdict]]]:
        """For each method, judging metric and control: does the method beat it on these images?"""
        return {
            method: {
                metric: {control: self._verdict(method, metric, control) for control in self.controls}
                for metric in self.judging
            }
            for method in self.methods
        }

    def _verdict(self, method: str, metric: str, control: str) -> Verdict:
        better = METRICS[metric].higher_is_better
        mine, other = self.scores[method][metric], self.scores[control][metric]
        return beats(mine, other, higher_is_better=better, seed=self.seed)

    def unbeaten(self, method: str) -> dict[str, list[str]]:
        """For each judging metric the controls that ``method`` does not beat.

        With too few images for a test, those are the controls whose mean is at least as good.
        """
        return {
            metric: [name for name, found in row.items() if found.sign == "!"]
            for metric, row in self.verdicts[method].items()
        }

    def table(self) -> list[dict[str, Any]]:
        """One row per method and control: means over images, but the median of seconds and the peak of memory."""
        return [self._row(row) for row in self.rows]

    def _row(self, row: str) -> dict[str, Any]:
        told: dict[str, Any] = {"method": row, "kind": "control" if row in self.controls else "method"}
        told |= {"layer": self.layers.get(row)}
        for metric, interval in self.intervals[row].items():
            told |= {metric: interval.mean, f"{metric}_low": interval.low, f"{metric}_high": interval.high}
        told["not_better_than"] = self.unbeaten(row) if row in self.methods else None
        told |= Spent.total(self.costs[row]).row(len(self.costs[row]))
        told["seconds"] = median([spent.seconds for spent in self.costs[row]]) if self.costs[row] else None
        return told | {"tied": self.curves[row].tied()} | self.curves[row].counts()

    def to_text(self, *, markdown: bool = False) -> str:
        """The protocol, what was explained, the table with its notes, and what failed."""
        from attrib.report.wording import comparison_text

        return comparison_text(self, markdown=markdown)

    def best(self, metric: str) -> str:
        """Label of the method with the best mean; the first of equals."""
        if METRICS[metric].descriptor:
            raise InputError(f"metric must be one that says which map is better; got {metric!r}, a descriptor.")
        sign = 1 if METRICS[metric].higher_is_better else -1
        return max(self.methods, key=lambda method: sign * self.intervals[method][metric].mean)

    @property
    def manifest(self) -> dict[str, Any]:
        """All facts as JSON holds them; `save` adds the files."""
        return {
            **described(self.about),
            "seed": self.seed,
            "protocol": {**self.protocol.to_dict(), "words": str(self.protocol)},
            "images": [{"image": name, **asdict(asked)} for name, asked in zip(self.images, self.asked, strict=True)],
            "metrics": {name: self._about(name) for name in self.metrics},
            "table": self.table(),
            "failures": [asdict(failure) for failure in self.failures],
        }

    @staticmethod
    def _about(metric: str) -> dict[str, bool]:
        kind = METRICS[metric]
        return {"higher_is_better": kind.higher_is_better, "descriptor": kind.descriptor}

    def plot_curves(self, names: Sequence[str] = ("deletion", "insertion")) -> Figure:
        """Draw the mean curves of every row, with bands over images, one axes for each of ``names``."""
        from attrib.plot.curves import comparison

        found = {row: curve for row, curve in self.curves.items() if curve.names}
        controls = [row for row in found if row in self.controls]
        return comparison(found, names, controls=controls, seed=self.seed)

    def save(self, directory: AnyPath, *, figures: bool = False) -> Path:
        """Write a new directory, whole or not at all.

        It holds ``manifest.json``, ``scores.json`` (every image), ``table.md``, ``curves/*.npy`` and, if maps were
        kept, ``maps/IMAGE/METHOD.npy``.

        Args:
            directory: must not exist, or be empty.
            figures: also draw the curves, and each image with its maps.

        Raises:
            OutputError: the directory is taken or cannot be written.
        """
        with new_directory(directory) as folder:
            self.write(folder, figures=figures)
        return Path(directory)

    def write(self, folder: Path, *, figures: bool = False) -> None:
        """Write the files of `save` into a directory that exists."""
        from attrib.report.files import write_comparison

        write_comparison(self, folder, figures=figures)
