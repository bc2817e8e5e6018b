"""What a study found: read from its files, as far as it got."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from os import PathLike
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch

from attrib import checks
from attrib.benchmark.stats import Interval, Verdict, beats, bootstrap_interval
from attrib.errors import OutputError
from attrib.metrics import Protocol
from attrib.study.records import schema
from attrib.study.store import Store, arrow

if TYPE_CHECKING:
    import pyarrow as pa

Numbers = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Matrix:
    """Scores of one metric.

    Attributes:
        images: names of the rows, in the order of the data.
        methods: labels of the columns, methods first, then controls.
        values: ``(images, methods)``, float64, NaN where there is no score.
    """

    images: tuple[str, ...]
    methods: tuple[str, ...]
    values: Numbers


@dataclass(frozen=True, eq=False)
class StudyResult:
    """Scores of every image, method and metric, with curves, costs and failures; tables are read when asked for.

    Convention:
        - every image of a finished shard has a row for each method and metric, NaN where there is no score; its
          ``status`` says why. Intervals leave NaN out and count it.
        - a control with several seeds has their mean, image by image.

    Attributes:
        store: where the files are.
        manifest: what the study was begun with.
    """

    store: Store
    manifest: Mapping[str, Any] = field(repr=False)

    @property
    def spec(self) -> Mapping[str, Any]:
        """What was asked."""
        spec: Mapping[str, Any] = self.manifest["spec"]
        return spec

    @property
    def methods(self) -> tuple[str, ...]:
        """Labels of the methods."""
        return tuple(one["label"] for one in self.spec["methods"])

    @property
    def controls(self) -> tuple[str, ...]:
        """Labels of the control rows."""
        return tuple(self.manifest["controls"])

    @property
    def rows(self) -> tuple[str, ...]:
        """Labels of all rows, the controls last."""
        return (*self.methods, *self.controls)

    @property
    def metrics(self) -> tuple[str, ...]:
        """Labels of the metrics."""
        return tuple(self.manifest["metrics"])

    @property
    def protocol(self) -> Protocol:
        """How curves were measured."""
        return Protocol.from_dict(self.spec["protocol"])

    @property
    def seed(self) -> int:
        """Of random controls and of intervals."""
        seed: int = self.spec["seed"]
        return seed

    @property
    def images(self) -> tuple[str, ...]:
        """Names of the images that are done, unreadable ones included."""
        return tuple(self.images_table["image"].to_pylist())

    @cached_property
    def missing(self) -> tuple[int, ...]:
        """Shards that are not finished."""
        return tuple(shard for shard in range(self.manifest["shards"]) if not self.store.done(shard))

    def higher_is_better(self, metric: str) -> bool:
        """The direction of a metric."""
        checks.choice("metric", metric, self.metrics)
        return bool(self.manifest["metrics"][metric]["higher_is_better"])

    def descriptor(self, metric: str) -> bool:
        """Whether a metric only describes maps, so that nothing is better by it."""
        checks.choice("metric", metric, self.metrics)
        return bool(self.manifest["metrics"][metric].get("descriptor", False))

    @cached_property
    def scores(self) -> pa.Table:
        """A row for each image, method and metric: image, index, label, target, method, kind, metric, value, status."""
        return self._read("shards")

    @cached_property
    def images_table(self) -> pa.Table:
        """A row for each image: what was explained, a hash of the model's input, the share of the mask."""
        return self._read("images")

    @cached_property
    def costs(self) -> pa.Table:
        """A row for each image and method: what its maps took; and for each image, without a method: what all took."""
        return self._read("costs")

    @cached_property
    def failures(self) -> pa.Table:
        """A row for everything that failed, with what it said."""
        return self._read("failures")

    def _read(self, part: str, filters: Any = None) -> pa.Table:
        parquet = checks.require("pyarrow.parquet", "a study", "study")
        kind = schema(part)
        files = self.store.read(part, self.manifest["shards"])
        try:
            read = [parquet.read_table(file, schema=kind, filters=filters, partitioning=None) for file in files]
        except (OSError, ValueError) as exc:  # Arrow's own errors are ValueErrors
            raise OutputError(
                f"the files of {str(self.store.folder)!r} must be whole; got {exc}. Remove the damaged ones and run "
                "the study again."
            ) from exc
        return arrow().concat_tables([one.replace_schema_metadata(None) for one in read] or [kind.empty_table()])

    def matrix(self, metric: str) -> Matrix:
        """The scores of one metric, ready for statistics."""
        checks.choice("metric", metric, self.metrics)
        pc = checks.require("pyarrow.compute", "a study", "study")
        found = self.scores.filter(pc.equal(self.scores["metric"], metric))
        place = {int(index): i for i, index in enumerate(self.images_table["index"].to_numpy())}
        column = {row: i for i, row in enumerate(self.rows)}
        values = np.full((len(place), len(column)), np.nan)
        down = [place[index] for index in found["index"].to_pylist()]
        across = [column[row] for row in found["method"].to_pylist()]
        values[down, across] = found["value"].to_numpy()
        return Matrix(self.images, self.rows, values)

    @property
    def curve_names(self) -> tuple[str, ...]:
        """The curves that were measured."""
        pc = checks.require("pyarrow.compute", "a study", "study")
        return tuple(sorted(pc.unique(self._read("curves")["curve"]).to_pylist()))

    def curves(self, method: str, name: str) -> tuple[Numbers, Numbers]:
        """Fractions and scores ``(images, points)`` of one curve; NaN for images without one.

        Curves with fewer points than others repeat their last one, which adds no area.
        """
        checks.choice("method", method, self.rows)
        found = self._read("curves", [("method", "==", method), ("curve", "==", name)])
        if not len(found):
            raise OutputError(
                f"curve must have been measured, {', '.join(self.curve_names)}; got {name!r} of {method!r}."
            )
        place = {index: i for i, index in enumerate(self.images_table["index"].to_pylist())}
        points = max(len(one) for one in found["score"])
        both = np.full((2, len(place), points), np.nan)
        for index, fraction, score in zip(
            *(found[one].to_pylist() for one in ("index", "fraction", "score")), strict=True
        ):
            for axis, line in zip(both, (fraction, score), strict=True):
                axis[place[index], : len(line)] = line
                axis[place[index], len(line) :] = line[-1]
        return both[0], both[1]

    @cached_property
    def intervals(self) -> dict[str, dict[str, Interval]]:
        """Mean and bootstrap interval of each row and metric, over images."""
        found: dict[str, dict[str, Interval]] = {row: {} for row in self.rows}
        for metric in self.metrics:
            values = torch.from_numpy(self.matrix(metric).values)
            for i, row in enumerate(self.rows):
                found[row][metric] = bootstrap_interval(values[:, i], seed=self.seed)
        return found

    @cached_property
    def verdicts(self) -> dict[str, dict[str, dict[str, Verdict]]]:
        """For each method, metric and control: does the method beat it on these images? None for descriptors."""
        found: dict[str, dict[str, dict[str, Verdict]]] = {method: {} for method in self.methods}
        for metric in self.metrics:
            controls = () if self.descriptor(metric) else self.controls
            better, values = self.higher_is_better(metric), torch.from_numpy(self.matrix(metric).values)
            column = dict(zip(self.rows, values.T, strict=True))
            for method in self.methods:
                found[method][metric] = {
                    control: beats(column[method], column[control], higher_is_better=better, seed=self.seed)
                    for control in controls
                }
        return found

    def unbeaten(self, method: str) -> dict[str, list[str]]:
        """For each metric the controls that ``method`` does not beat; with too few images, is not better than."""
        return {
            metric: [name for name, found in row.items() if found.sign == "!"]
            for metric, row in self.verdicts[method].items()
        }

    def table(self) -> list[dict[str, Any]]:
        """One row per method and control: means over images, but the median of seconds and the peak of memory."""
        return [self._row(row) for row in self.rows]

    def _row(self, row: str) -> dict[str, Any]:
        told: dict[str, Any] = {"method": row, "kind": "control" if row in self.controls else "method"}
        for metric, one in self.intervals[row].items():
            told |= {metric: one.mean, f"{metric}_low": one.low, f"{metric}_high": one.high}
            told |= {f"{metric}_undefined": one.undefined}
        told["not_better_than"] = self.unbeaten(row) if row in self.methods else None
        return told | self.cost(row)

    def cost(self, row: str) -> dict[str, float | None]:
        """Passes and seconds for each map, and the highest memory in MB."""
        pc = checks.require("pyarrow.compute", "a study", "study")
        found = self.costs.filter(pc.equal(self.costs["method"], row)).to_pydict()
        maps = found["maps"]
        share = max(1, sum(maps))
        peaks = [peak for peak in found["peak_bytes"] if peak is not None]
        return {
            "forwards": sum(found["forwards"]) / share,
            "backwards": sum(found["backwards"]) / share,
            "seconds": median([s / n for s, n in zip(found["seconds"], maps, strict=True)]) if maps else None,
            "memory_mb": max(peaks) / 1e6 if peaks else None,
        }

    def counts(self, metric: str) -> dict[str, dict[str, int]]:
        """For each row how many scores of ``metric`` have which status."""
        pc = checks.require("pyarrow.compute", "a study", "study")
        checks.choice("metric", metric, self.metrics)
        found = self.scores.filter(pc.equal(self.scores["metric"], metric)).group_by(["method", "status"])
        told: dict[str, dict[str, int]] = {row: {} for row in self.rows}
        for one in found.aggregate([("status", "count")]).to_pylist():
            told[one["method"]][one["status"]] = one["status_count"]
        return told

    def to_text(self, *, markdown: bool = False) -> str:
        """The protocol, the table with its notes, and what failed or is missing."""
        from attrib.study.wording import study_text

        return study_text(self, markdown=markdown)


def load_study(out: str | PathLike[str]) -> StudyResult:
    """Read what `Study.run` wrote, as far as it got.

    Raises:
        OutputError: the directory holds no study.
    """
    arrow()
    store = Store.at(out)
    manifest = store.manifest
    if manifest is None:
        raise OutputError(f"{str(out)!r} must be the directory of a study; got one without a manifest.json.")
    return StudyResult(store, manifest)


def totals(found: StudyResult) -> dict[str, Any]:
    """What a study took in all, measuring included, and a hash over its images."""
    pc = checks.require("pyarrow.compute", "a study", "study")
    images, costs = found.images_table, found.costs
    every = costs.filter(pc.equal(costs["kind"], "image"))
    shas = "\n".join(one or "" for one in images["sha256"].to_pylist())
    return {
        "images": len(images),
        "unreadable": images["sha256"].null_count,
        "images_sha256": hashlib.sha256(shas.encode()).hexdigest(),
        "failures": len(found.failures),
        "forwards": pc.sum(every["forwards"]).as_py(),
        "backwards": pc.sum(every["backwards"]).as_py(),
        "seconds": pc.sum(every["seconds"]).as_py(),
        "peak_bytes": pc.max(costs["peak_bytes"]).as_py(),
    }
