"""Tables of pictures: CSV, JSON and JSON lines, a record for each picture."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from attrib import checks
from attrib.errors import InputError, did_you_mean
from attrib.io.images import load_image
from attrib.io.samples import Sample, Samples, plain_label, read_mask

FIELDS = ("image", "label", "mask", "boxes", "name")


def from_table(table: Path, columns: Mapping[str, str]) -> Samples:
    """The pictures of a table; files in it are relative to its folder.

    Columns: ``image`` (a file), and optionally ``label``, ``mask`` (a file), ``boxes`` or ``box``, and ``name``.
    """
    rows = records(table)
    known = sorted({key for record in rows for key in record})
    column = named_columns(columns, known)
    if "image" not in column:
        raise InputError(
            f"a table of pictures must have a column 'image'; {table.name} has {', '.join(map(repr, known))}. Say "
            "which holds the files: columns={'image': ...}."
        )

    def value(index: int, what: str) -> Any:
        found = rows[index].get(column[what]) if what in column else None
        return None if found == "" else found

    def read(index: int) -> Sample:
        image = load_image(table.parent / str(value(index, "image")))
        mask = value(index, "mask")
        file = table.parent / str(mask) if mask is not None else None
        return Sample(image, labels[index], read_mask(image, file, value(index, "boxes")))

    count = range(len(rows))
    labels = tuple(plain_label(value(i, "label")) for i in count)
    names = tuple(str(value(i, "name") or value(i, "image")) for i in count)
    masked = any(value(i, what) for i in count for what in ("mask", "boxes"))
    spec = {"path": str(table)} | ({"columns": dict(columns)} if columns else {})
    return Samples(names, read, spec, labels, masked)


def named_columns(columns: Mapping[str, str], known: list[str]) -> dict[str, str]:
    """For each field that is there, the column that holds it."""
    for field, column in columns.items():
        checks.choice("columns must map fields, and a field", field, FIELDS)
        if column not in known:
            raise InputError(f"columns must name columns that are there; got {column!r}.{did_you_mean(column, known)}")
    usual = {field: field for field in FIELDS if field in known}
    if "boxes" not in usual and "box" in known:
        usual["boxes"] = "box"
    return {**usual, **columns}


def records(table: Path) -> list[dict[str, Any]]:
    """Read a table of any of the three kinds, a mapping of columns to values for each row."""
    try:
        text = table.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        siblings = [one.name for one in table.parent.iterdir()] if table.parent.is_dir() else []
        hint = did_you_mean(table.name, siblings)
        raise InputError(f"data must be an existing table; got {str(table)!r}.{hint}") from None
    except (OSError, UnicodeDecodeError) as exc:
        what = "a folder" if table.is_dir() else str(exc)
        raise InputError(f"data must be a table, CSV, JSON or JSON lines; got {str(table)!r}: {what}.") from exc
    found: Any
    try:
        if table.suffix.lower() == ".csv":
            return list(csv.DictReader(text.splitlines()))
        if table.suffix.lower() == ".jsonl":
            found = [json.loads(line) for line in text.splitlines() if line.strip()]
        else:
            found = json.loads(text)
    except (ValueError, csv.Error) as exc:
        raise InputError(f"data must be a table; {str(table)!r} cannot be read: {exc}.") from exc
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise InputError(f"data must be a list of records; {str(table)!r} is not.")
    return found
