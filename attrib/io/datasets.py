"""Data sets of other libraries: torchvision's and anything like them, and Hugging Face's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from attrib import checks
from attrib.errors import InputError
from attrib.io.images import as_image, as_rgb, load_image
from attrib.io.samples import Label, Sample, Samples, plain_label, read_mask
from attrib.io.tables import named_columns


def from_hub(name: str, columns: Mapping[str, str]) -> Samples:
    """``"hf:NAME"`` or ``"hf:NAME:SPLIT"``; the split is ``test`` unless given."""
    library = checks.require("datasets", f"the data set {name!r}", "datasets")
    place, _, split = name.removeprefix("hf:").partition(":")
    try:
        found = library.load_dataset(place, split=split or "test")
    except Exception as exc:  # no network, no such name, no such split: each has an error of its own
        raise InputError(f"data must be a data set that can be had; {name!r}: {type(exc).__name__}: {exc}") from exc
    return _from_columns(found, columns, {"path": name})


def from_disk(folder: Path, columns: Mapping[str, str]) -> Samples:
    """What ``Dataset.save_to_disk`` of Hugging Face wrote."""
    library = checks.require("datasets", f"the data set in {str(folder)!r}", "datasets")
    return _from_columns(library.load_from_disk(str(folder)), columns, {"path": str(folder)})


def _from_columns(found: Any, columns: Mapping[str, str], spec: dict[str, Any]) -> Samples:
    """A data set that knows its columns; pictures are decoded when they are read."""
    features = {name: type(kind).__name__ for name, kind in found.features.items()}
    column = named_columns(columns, list(features))
    pictures = [name for name, kind in features.items() if kind == "Image" and name not in column.values()]
    classes = [name for name, kind in features.items() if kind == "ClassLabel" and name not in column.values()]
    column = {"image": next(iter(pictures), "image"), **({"label": classes[0]} if classes else {}), **column}
    if column["image"] not in features:
        raise InputError(f"data must have a column of pictures; it has {features}. Say columns={{'image': ...}}.")
    kept = found[column["label"]] if "label" in column else [-1] * len(found)
    labels = tuple(None if one == -1 else plain_label(one) for one in kept)  # -1 means not labelled
    names = tuple(map(str, found[column["name"]])) if "name" in column else _numbered(len(found))

    def read(index: int) -> Sample:
        record = found[index]
        item = _sample({what: record[name] for what, name in column.items()})
        return replace(item, label=labels[index])

    told = {**spec, **({"columns": dict(columns)} if columns else {})}
    return Samples(names, read, told, labels, bool({"mask", "boxes"} & set(column)), portable="path" in spec)


def from_sequence(data: Any, columns: Mapping[str, str]) -> Samples:
    """Anything with a length and positions: pictures, tuples or mappings."""
    if type(data).__module__.split(".")[0] == "datasets":
        told = {"dataset": _kind(data), "length": len(data), "fingerprint": str(getattr(data, "_fingerprint", ""))}
        return _from_columns(data, columns, told)
    if not hasattr(data, "__getitem__") or not hasattr(data, "__len__"):
        raise InputError(
            "data must be a folder, files, a table, names to pictures or a sequence of pictures with labels; "
            f"got {type(data).__name__}."
        )
    count = len(data)
    first = _sample(data[0], columns) if count else None
    labels = _labels(data, count)

    def read(index: int) -> Sample:
        return _sample(data[index], columns)

    spec = {"dataset": _kind(data), "length": count}
    masked = None if first is None else first.mask is not None or None
    return Samples(_numbered(count), read, spec, labels, masked, portable=False)


def _kind(data: object) -> str:
    return f"{type(data).__module__}.{type(data).__qualname__}"


def _numbered(count: int) -> tuple[str, ...]:
    return tuple(f"example {i}" for i in range(count))


def _labels(data: Any, count: int) -> tuple[Label, ...] | None:
    """The labels of torchvision's data sets, which keep them apart from the pictures."""
    kept = getattr(data, "targets", None)
    if kept is None or not hasattr(kept, "__len__") or len(kept) != count:
        return None
    return tuple(map(plain_label, kept.tolist() if isinstance(kept, Tensor) else kept))


def _sample(item: Any, columns: Mapping[str, str] | None = None) -> Sample:
    """An item as data sets give it: a mapping, a tuple of picture, label and mask, or a picture alone."""
    if isinstance(item, Mapping):
        known = named_columns(columns or {}, list(item))
        if "image" not in known:
            raise InputError(f"an item must have an 'image'; got {', '.join(map(repr, item))}. Say which: columns=...")
        fields = {what: item[name] for what, name in known.items()}
    else:
        parts: Sequence[Any] = item if isinstance(item, (tuple, list)) else (item,)
        fields = dict(zip(("image", "label", "mask"), parts, strict=False))
    image = _picture(fields["image"])
    label = fields.get("label")
    plain = label.item() if isinstance(label, (Tensor, np.generic)) else label
    return Sample(image, plain_label(plain), read_mask(image, fields.get("mask"), fields.get("boxes")))


def _picture(value: Any) -> Image.Image | Tensor:
    if isinstance(value, Image.Image):
        return as_rgb(value)
    if isinstance(value, np.ndarray):
        return as_image(value)
    if isinstance(value, Tensor):
        return checks.shape(value.detach(), "c h w", "a picture as a Tensor")
    if isinstance(value, (str, PathLike)):
        return load_image(value)
    raise InputError(f"a picture must be a PIL image, a file, a uint8 array or a Tensor; got {type(value).__name__}.")
