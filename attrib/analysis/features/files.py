"""Feature banks on disk: parts that are there whole or not at all, so that a run that is killed goes on."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import Tensor

from attrib import checks
from attrib.core.network.streaming import Batch
from attrib.errors import InputError, OutputError
from attrib.report.facts import SCHEMA, versions
from attrib.report.store import AnyPath, to_json

Part: TypeAlias = Mapping[str, Tensor]
Whole: TypeAlias = "tuple[tuple[Part, ...], Tensor | None, dict[str, Any]]"
MANIFEST, INDEX = "bank.json", "index"
PURPOSE = "a feature bank on disk"


@dataclass(frozen=True, eq=False)
class Rows:
    """Features of a batch by space, the shapes that they had before pooling, and the pictures that they are of."""

    features: dict[str, Tensor]
    shapes: dict[str, list[int]]
    inputs: Tensor
    labels: Tensor | None


class _Digest:
    """Hash of pictures and labels that does not depend on how they are batched."""

    def __init__(self) -> None:
        self.inputs, self.labels = hashlib.sha256(), hashlib.sha256()

    def add(self, inputs: Tensor, labels: Tensor | None) -> None:
        self.inputs.update(_bytes(inputs))
        if labels is not None:
            self.labels.update(_bytes(labels.long()))

    def text(self) -> str:
        return hashlib.sha256(self.inputs.digest() + self.labels.digest()).hexdigest()


def _bytes(values: Tensor) -> memoryview:
    flat = values.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
    data: memoryview = flat.numpy().data
    return data


class BankFiles:
    """Collects rows into parts; with a folder, writes them there, after those that are there already."""

    def __init__(self, folder: AnyPath | None, plan: dict[str, Any], part_bytes: int, part_size: int | None) -> None:
        self.plan, self.part_bytes, self.part_size = plan, part_bytes, part_size
        self.folder = None if folder is None else Path(folder).expanduser()
        self.shapes: dict[str, list[int]] = {}
        self.waiting: list[Rows] = []
        self.labels: list[Tensor] = []
        self.parts: list[Part] = []
        self.begun: list[dict[str, Any]] = []
        if self.folder is not None:
            checks.require("safetensors", PURPOSE, "analysis")
            checks.require("pyarrow", PURPOSE, "analysis")
            self.begun = self._begin(self.folder)

    def _begin(self, folder: Path) -> list[dict[str, Any]]:
        """Facts of the parts that are there; a folder that cannot be written is refused before anything is run."""
        if not (folder / MANIFEST).exists():
            if folder.exists() and (not folder.is_dir() or _strange(folder)):
                raise OutputError(f"directory must be new, empty or a feature bank; got {str(folder)!r}.")
            with _kept(folder, 0):
                (folder / INDEX).mkdir(parents=True, exist_ok=True)
            return []
        manifest = _manifest(folder)
        for name, value in self.plan.items():
            if manifest.get(name) != value:
                raise InputError(
                    f"{name} must be that of the bank in {str(folder)!r}, {manifest.get(name)!r}; got {value!r}. "
                    "Choose another directory."
                )
        self.shapes = manifest["shapes"]
        return [json.loads(_facts(path)) for path in _index_files(folder)]

    def unseen(self, data: Iterator[Batch]) -> Iterator[Any]:
        """What the bank does not hold yet, as batches; what it holds is compared."""
        known = iter(self.begun)
        part = next(known, None)
        digest, left = _Digest(), 0 if part is None else part["rows"]
        for batch in data:
            inputs, labels = batch.inputs, batch.labels
            while left and len(inputs):
                digest.add(inputs[:left], None if labels is None else labels[:left])
                taken = min(left, len(inputs))
                inputs, labels, left = inputs[taken:], None if labels is None else labels[taken:], left - taken
                if not left:
                    _same(part, digest)
                    part, digest = next(known, None), _Digest()
                    left = 0 if part is None else part["rows"]
            if len(inputs):
                self._open()
                yield inputs if labels is None else (inputs, labels)
        if left:
            raise InputError(f"data must be those that the bank holds, {self._total()} pictures; got fewer.")

    def _open(self) -> None:
        if self.folder is not None and self.begun and _manifest(self.folder)["complete"]:
            raise InputError(
                f"data must be those that the finished bank in {str(self.folder)!r} holds, {self._total()} pictures; "
                "got more. Choose another directory."
            )

    def _total(self) -> int:
        return sum(part["rows"] for part in self.begun)

    def add(self, rows: Rows) -> None:
        """Keep a batch; write a part when there is enough for one."""
        if not self.shapes:
            self.shapes = rows.shapes
        elif self.shapes != rows.shapes:
            raise InputError(f"all pictures must give features of one shape, {self.shapes}; got {rows.shapes}.")
        if self.waiting and (rows.labels is None) != (self.waiting[-1].labels is None):
            raise InputError("all batches must have labels, or none; got both.")
        if self.folder is None:  # nothing is compared later: without this, pictures would pile up beside the rows
            rows = replace(rows, inputs=rows.inputs.new_empty(0))
            self.waiting.append(rows)
            return
        self.waiting.append(rows)
        count = sum(len(one.inputs) for one in self.waiting)
        row_bytes = sum(values[0].numel() * values.element_size() for values in rows.features.values())
        if count >= (self.part_size or max(1, self.part_bytes // row_bytes)):
            self._write(self.folder)

    def finish(self) -> Whole:
        """The parts, labels and facts of the whole bank."""
        if self.folder is not None:
            if self.waiting:
                self._write(self.folder)
            self._tell(self.folder, complete=True)
            return read_bank(self.folder)
        features = {name: torch.cat([one.features[name] for one in self.waiting]) for name in self.plan["spaces"]}
        labels = [one.labels for one in self.waiting if one.labels is not None]
        return (features,), torch.cat(labels) if labels else None, {**self.plan, "shapes": self.shapes}

    def _tell(self, folder: Path, *, complete: bool) -> None:
        told = {"schema": SCHEMA, "kind": "Bank", "complete": complete, "versions": versions()}
        with _kept(folder, self._total()):
            _put(folder / MANIFEST, to_json(told | self.plan | {"shapes": self.shapes}).encode())

    def _write(self, folder: Path) -> None:
        """Write what is waiting: the rows first, then the index, which makes them count."""
        from safetensors.torch import save

        waiting, name = self.waiting, f"part-{len(self.begun):05d}"
        content = save({space: torch.cat([one.features[space] for one in waiting]) for space in self.plan["spaces"]})
        digest = _Digest()
        for one in waiting:
            digest.add(one.inputs, one.labels)
        facts = {"rows": sum(len(one.inputs) for one in waiting), "data_sha256": digest.text()}
        facts["part_sha256"] = hashlib.sha256(content).hexdigest()
        labels = [one.labels for one in waiting if one.labels is not None]
        index = _index(f"{name}.safetensors", self._total(), facts, torch.cat(labels) if labels else None)
        if not self.begun:
            self._tell(folder, complete=False)
        with _kept(folder, self._total()):
            _put(folder / f"{name}.safetensors", content)
            _put(folder / INDEX / f"{name}.parquet", index)
        self.begun.append(facts)
        self.waiting = []


def _same(part: dict[str, Any] | None, digest: _Digest) -> None:
    if part is not None and digest.text() != part["data_sha256"]:
        raise InputError(
            "data must be those that the bank was begun with, in the same order; got other pictures or labels. "
            "Choose another directory."
        )


def _index(file: str, start: int, facts: Mapping[str, Any], labels: Tensor | None) -> bytes:
    """The Parquet file of a part: which picture each of its rows is."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    count = facts["rows"]
    columns = {
        "index": pa.array(range(start, start + count), pa.int64()),
        "label": pa.array([None] * count if labels is None else labels.tolist(), pa.int64()),
        "part": pa.array([file] * count, pa.string()),
        "row": pa.array(range(count), pa.int32()),
    }
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(columns).replace_schema_metadata({"attrib": json.dumps(facts)}), sink)
    content: bytes = sink.getvalue().to_pybytes()
    return content


def _put(path: Path, content: bytes) -> None:
    """Write a file that is there whole or not at all."""
    work = path.with_name(f".{path.name}.partial")
    try:
        with work.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        work.replace(path)
    except BaseException:
        with suppress(OSError):
            work.unlink(missing_ok=True)
        raise


@contextmanager
def _kept(folder: Path, rows: int) -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        raise OutputError(
            f"{str(folder)!r} must be writable; got {(exc.strerror or str(exc)).lower()}. "
            f"{rows} pictures are kept there: the same call goes on after them."
        ) from exc


def _strange(folder: Path) -> bool:
    """Whether a folder holds anything but what is left of a bank that did not come to its first part."""
    left = [path for path in folder.iterdir() if path.name != INDEX and not path.name.endswith(".partial")]
    return bool(left or _index_files(folder))


def _index_files(folder: Path) -> list[Path]:
    return sorted((folder / INDEX).glob("part-*.parquet"))


def _facts(path: Path) -> bytes:
    import pyarrow.parquet as pq

    try:
        told: bytes = pq.read_schema(path).metadata[b"attrib"]
    except (OSError, ValueError, KeyError, TypeError) as exc:
        raise OutputError(f"{str(path)!r} must be an index of a feature bank; it is damaged.") from exc
    return told


def _manifest(folder: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except FileNotFoundError as exc:
        raise InputError(f"directory must be a feature bank; got {str(folder)!r}, without {MANIFEST}.") from exc
    except ValueError as exc:
        raise OutputError(f"{str(folder / MANIFEST)!r} must be JSON; it is damaged.") from exc
    if found.get("kind") != "Bank" or found.get("schema") != SCHEMA:
        raise InputError(f"directory must be a feature bank of schema {SCHEMA}; got {str(folder)!r}.")
    return found


def read_bank(directory: AnyPath, *, verify: bool = False) -> Whole:
    """The parts, labels and facts of a finished bank."""
    for package in ("safetensors", "pyarrow"):
        checks.require(package, PURPOSE, "analysis")
    folder = Path(directory).expanduser()
    about = _manifest(folder)
    if not about["complete"]:
        raise InputError(f"bank in {str(folder)!r} must be finished. The call that began it goes on where it stopped.")
    import pyarrow.parquet as pq

    parts, labels = [], []
    for path in _index_files(folder):
        facts = json.loads(_facts(path))
        parts.append(_part(folder / f"{path.stem}.safetensors", about["spaces"], facts, verify=verify))
        labels += pq.read_table(path, columns=["label"])["label"].to_pylist()
    return tuple(parts), None if None in labels else torch.tensor(labels), about


def _part(path: Path, spaces: Sequence[str], facts: Mapping[str, Any], *, verify: bool) -> Part:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in spaces}
        whole = not verify or hashlib.sha256(path.read_bytes()).hexdigest() == facts["part_sha256"]
    except (OSError, SafetensorError) as exc:
        raise OutputError(f"{str(path)!r} must be a part of a feature bank; it is missing or damaged.") from exc
    if not whole or any(len(rows) != facts["rows"] for rows in tensors.values()):
        raise OutputError(f"{str(path)!r} must be the part that its index tells of; it is damaged.")
    return tensors
