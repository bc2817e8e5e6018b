"""What a shard holds: the columns of its files, and the rows of one image."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from attrib.metrics import Metric
from attrib.report.curves import RowCurves
from attrib.report.facts import tensor_hash
from attrib.report.records import Failure, Spent
from attrib.study.store import PARTS, arrow
from attrib.tasks.measuring import Measured, Measuring, Subject

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pyarrow as pa

# The type of each column by its Arrow name; "[]" is a list.
COLUMNS = {
    "shards": {
        "image": "string", "index": "int32", "label": "string", "target": "int32", "method": "string",
        "kind": "string", "metric": "string", "value": "float64", "status": "string",
    },
    "images": {
        "image": "string", "index": "int32", "label": "string", "target": "int32", "name": "string",
        "score": "float64", "probability": "float64", "sha256": "string", "mask": "float64",
    },
    "curves": {
        "image": "string", "index": "int32", "method": "string", "curve": "string",
        "fraction": "float64[]", "score": "float64[]",
    },
    "costs": {
        "image": "string", "index": "int32", "method": "string", "kind": "string", "maps": "int32",
        "forwards": "int64", "backwards": "int64", "seconds": "float64", "peak_bytes": "int64",
        "shared_forwards": "int64", "shared_backwards": "int64", "shared_seconds": "float64",
    },
    "failures": {
        "image": "string", "index": "int32", "method": "string", "metric": "string", "error": "string",
        "message": "string",
    },
}  # fmt: skip


def schema(part: str) -> pa.Schema:
    """The Arrow schema of one part of a shard."""
    pa = arrow()
    kinds = {"string": pa.string(), "int32": pa.int32(), "int64": pa.int64(), "float64": pa.float64()}
    return pa.schema(
        [
            (name, pa.list_(kinds[kind[:-2]]) if kind.endswith("[]") else kinds[kind])
            for name, kind in COLUMNS[part].items()
        ]
    )


@dataclass
class Rows:
    """The rows of a shard so far, for each part."""

    found: dict[str, list[dict[str, Any]]] = field(default_factory=lambda: {part: [] for part in PARTS})

    def tables(self, facts: Mapping[str, str]) -> dict[str, pa.Table]:
        """As Arrow tables; the costs, which differ from run to run, say by ``facts`` who ran."""
        pa = arrow()
        made = {part: pa.Table.from_pylist(rows, schema=schema(part)) for part, rows in self.found.items()}
        return made | {"costs": made["costs"].replace_schema_metadata(facts)}

    def add(self, part: str, image: tuple[str, int], **values: Any) -> None:
        """Add a row."""
        self.found[part].append({"image": image[0], "index": image[1], **values})

    def add_failures(self, image: tuple[str, int], failures: Sequence[Failure]) -> None:
        """What went wrong."""
        for one in failures:
            told = {"method": one.method, "metric": one.metric, "error": one.error, "message": one.message}
            self.add("failures", image, **told)

    def add_image(
        self,
        image: tuple[str, int],
        label: str | None,
        measuring: Measuring,
        subject: Subject | None,
        found: Measured | None,
    ) -> None:
        """What was found on one image; nothing if it could not be read, which is a row as well."""
        asked = None if subject is None else subject.asked
        target = asked.index if asked is not None and isinstance(asked.index, int) else None
        told: dict[str, Any] = {"label": label, "target": target}
        if subject is not None and asked is not None:
            told |= {"name": asked.name, "score": asked.score, "probability": asked.probability}
            told["sha256"] = tensor_hash(subject.x)
            told["mask"] = None if subject.mask is None else float(subject.mask.double().mean())
        self.add("images", image, **told)
        for row in measuring.rows:
            kind = "control" if row in measuring.controls else "method"
            for name, metric in measuring.metrics.items():
                value = math.nan if found is None else found.scores[row].get(name, math.nan)
                state = status(row, name, metric, subject, found)
                what = {"label": label, "target": target, "method": row, "kind": kind, "metric": name}
                self.add("shards", image, **what, value=value, status=state)
            if found is not None:
                self._add_curves(image, row, measuring, found)
                if found.spent[row]:
                    self._add_cost(image, row, kind, found.spent[row])

    def _add_curves(self, image: tuple[str, int], row: str, measuring: Measuring, found: Measured) -> None:
        drawn = RowCurves(measuring.protocol, [found.curves[row]])
        for name in drawn.names:
            fraction, score = (axis[0].tolist() for axis in drawn.curve(name))
            self.add("curves", image, method=row, curve=name, fraction=fraction, score=score)

    def _add_cost(self, image: tuple[str, int], row: str | None, kind: str, spent: Sequence[Spent]) -> None:
        total = asdict(Spent.total(spent))
        self.add("costs", image, method=row, kind=kind, maps=len(spent), **{k: total[k] for k in total if k != "error"})

    def add_total(self, image: tuple[str, int], spent: Spent) -> None:
        """What an image took in all, measuring included, every pass once."""
        self._add_cost(image, None, "image", [spent])


def status(row: str, name: str, metric: Metric, subject: Subject | None, found: Measured | None) -> str:
    """Why a score is what it is.

    ``"ok"``; ``"constant"`` or ``"zero"``, a map without contrast, measured like any other; or why there is none:
    ``"unreadable"`` (the image), ``"failed"`` (map or metric), ``"no mask"``, ``"undefined"`` (the metric's NaN).
    """
    if subject is None or found is None:
        return "unreadable"
    if not found.maps[row] or name not in found.scores[row]:
        return "failed"
    if "masks" in metric.needs and subject.mask is None:
        return "no mask"
    if math.isnan(found.scores[row][name]):
        return "undefined"
    first = found.maps[row][0]
    if bool(first.min() < first.max()):
        return "ok"
    return "constant" if torch.any(first) else "zero"
