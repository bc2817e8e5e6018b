"""Pictures with labels and object masks, read one at a time: folders, lists, tables, data sets."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from os import PathLike, fspath
from pathlib import Path
from typing import Any, TypeAlias

from PIL import Image
from torch import Tensor

from attrib import checks
from attrib.errors import InputError
from attrib.io.images import SUFFIXES, AnyPath, list_images, load_image
from attrib.io.masks import drawn_boxes, load_mask

Label: TypeAlias = "int | str | None"
TABLES = frozenset({".csv", ".json", ".jsonl"})


@dataclass(frozen=True, eq=False)
class Sample:
    """One picture, read, with what is known of it.

    Attributes:
        image: a picture, or a model-ready Tensor ``(C, H, W)``.
        label: number or name of its class; None if it is not known.
        mask: where the object is: a picture of the size of ``image``, white inside; for a Tensor a bool ``(H, W)``;
            None if it is not known.
    """

    image: Image.Image | Tensor
    label: Label = None
    mask: Image.Image | Tensor | None = None


@dataclass(frozen=True, eq=False)
class Samples(Sequence[Sample]):
    """A sequence of `Sample` that is read item by item, again each time it is asked for.

    Convention:
        - a label is a number (an output of the model) or a name of a class, as the data have it.
        - masks and boxes are in pixels of the upright picture; where there are both, the mask counts. Boxes are
          ``x0, y0, x1, y1``, the lower right corner outside.

    Attributes:
        names: of the pictures, all different.
        read: gives the item at a position.
        spec: in plain values where they come from, see `samples_again`.
        labels: of all pictures, where that is known without reading any.
        masked: whether there are masks; None if that is not known without reading.
        portable: whether another process can read the same from ``spec``.
    """

    names: tuple[str, ...] = field(repr=False)
    read: Callable[[int], Sample] = field(repr=False)
    spec: Mapping[str, Any]
    labels: tuple[Label, ...] | None = field(default=None, repr=False)
    masked: bool | None = None
    portable: bool = True

    def __post_init__(self) -> None:
        if not self.names:
            raise InputError(f"data must hold at least one picture; got none in {dict(self.spec)}.")
        object.__setattr__(self, "names", _different(self.names))

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: Any) -> Any:
        """The sample at ``index``; of a slice, a list of them, all read."""
        if isinstance(index, slice):
            return [self.read(i) for i in range(len(self))[index]]
        return self.read(range(len(self))[index])

    def __iter__(self) -> Iterator[Sample]:
        return map(self.read, range(len(self)))

    def __reduce__(self) -> tuple[Any, ...]:
        return samples_again, (dict(self.spec),)  # read again: what lives in one process only says so

    @property
    def digest(self) -> str:
        """SHA-256 over names and known labels: equal for equal lists of pictures."""
        told = json.dumps([self.names, self.labels], ensure_ascii=False)
        return hashlib.sha256(told.encode()).hexdigest()

    def first(self, limit: int) -> Samples:
        """The first ``limit`` of them."""
        count = min(len(self), checks.integer("limit", limit, 1))
        labels = None if self.labels is None else self.labels[:count]
        return replace(self, names=self.names[:count], labels=labels, spec={**self.spec, "limit": limit})


def open_samples(data: object, *, columns: Mapping[str, str] | None = None, limit: int | None = None) -> Samples:
    """Open what users have: nothing is read but lists of files and tables.

    Args:
        data: a folder of pictures (with one folder inside for each class: labelled by these), a list of files, names
            to pictures, a ``.csv``, ``.json`` or ``.jsonl`` table, ``"hf:NAME:SPLIT"`` or a folder that Hugging Face
            ``datasets`` saved, or any sequence of pictures, ``(picture, label)``, ``(picture, label, mask)`` or
            mappings with ``image``, ``label``, ``mask`` and ``boxes``, such as a torchvision data set.
        columns: what a table or mapping calls ``image``, ``label``, ``mask``, ``boxes`` and ``name``, where it has
            names of its own. Files in a table are relative to it.
        limit: only the first so many.

    Example:
        >>> found = open_samples([(Image.new("RGB", (8, 6)), 3)])
        >>> len(found), found[0].label, found.portable
        (1, 3, False)
    """
    found = data if isinstance(data, Samples) else _opened(data, dict(columns or {}))
    return found if limit is None else found.first(limit)


def samples_again(spec: Mapping[str, Any]) -> Samples:
    """Open what ``spec`` of other samples says, in another process say.

    Raises:
        InputError: they came from an object that lives in one process only.
    """
    data = spec.get("path", spec.get("files"))
    if data is None:
        raise InputError(
            f"data must be files, a table or a name to be read again elsewhere; got {dict(spec)}. Save them first."
        )
    return open_samples(data, columns=spec.get("columns"), limit=spec.get("limit"))


def _opened(data: object, columns: dict[str, str]) -> Samples:
    from attrib.io import datasets

    if isinstance(data, (str, PathLike)):
        return _from_path(fspath(data), columns)
    if isinstance(data, Mapping):
        return _from_named(data)
    if isinstance(data, (list, tuple)) and data and all(isinstance(one, (str, PathLike)) for one in data):
        return _from_files([Path(fspath(one)) for one in data], {"files": [fspath(one) for one in data]})
    return datasets.from_sequence(data, columns)


def _from_path(path: str, columns: dict[str, str]) -> Samples:
    from attrib.io import datasets, tables

    place = Path(path)
    if path.startswith("hf:"):
        return datasets.from_hub(path, columns)
    if place.suffix.lower() in TABLES:
        return tables.from_table(place, columns)
    if (place / "dataset_info.json").is_file():
        return datasets.from_disk(place, columns)
    if columns:
        raise InputError(f"columns must be for a table or a data set; got {columns} for {path!r}.")
    return _from_folder(place) if place.is_dir() else _from_files([place], {"path": path})


def _from_files(files: Sequence[Path], spec: Mapping[str, Any]) -> Samples:
    found = list_images(files)
    names = tuple(file.name for file in found)
    return Samples(names, lambda i: Sample(load_image(found[i])), spec, (None,) * len(names), masked=False)


def _from_folder(folder: Path) -> Samples:
    kinds = sorted(one for one in folder.iterdir() if one.is_dir() and not one.name.startswith("."))
    inside = {kind: [one for one in sorted(kind.iterdir()) if one.suffix.lower() in SUFFIXES] for kind in kinds}
    if any(one.suffix.lower() in SUFFIXES for one in folder.iterdir() if one.is_file()) or not any(inside.values()):
        return _from_files([folder], {"path": str(folder)})
    pairs = [(kind.name, file) for kind, files in inside.items() for file in files if not file.name.startswith(".")]
    labels = tuple(plain_label(kind) for kind, _ in pairs)
    names = tuple(f"{kind}/{file.name}" for kind, file in pairs)
    return Samples(names, lambda i: Sample(load_image(pairs[i][1]), labels[i]), {"path": str(folder)}, labels, False)


def _from_named(pictures: Mapping[Any, Any]) -> Samples:
    """Names to files or pictures."""
    found = list(pictures.values())
    for one in found:
        if not isinstance(one, (str, PathLike, Image.Image)):
            raise InputError(f"data must map names to files or PIL images; got {type(one).__name__}.")

    def read(index: int) -> Sample:
        one = found[index]
        return Sample(one if isinstance(one, Image.Image) else load_image(one))

    names = tuple(map(str, pictures))
    labels = (None,) * len(names)
    return Samples(names, read, {"pictures": list(names)}, labels, masked=False, portable=False)


def plain_label(value: object) -> Label:
    """A label as tables have it: digits are a number, nothing is None.

    Example:
        >>> [plain_label(one) for one in ("7", "cat", "", None, 3.0)]
        [7, 'cat', None, None, 3]
    """
    if value is None or value == "":
        return None
    if isinstance(value, float):
        return None if math.isnan(value) else int(value) if value.is_integer() else str(value)
    if hasattr(value, "__index__") and not isinstance(value, bool):
        return checks.integer("label", value)
    text = str(value).strip()
    return int(text) if text.isdecimal() else text


def read_mask(image: Image.Image | Tensor, mask: AnyPath | object, boxes: object) -> Image.Image | Tensor | None:
    """The mask that a record names: a file, a picture or an array, else the boxes; None if it has neither."""
    size = (image.shape[-1], image.shape[-2]) if isinstance(image, Tensor) else image.size
    found = drawn_boxes(boxes, size) if mask is None else load_mask(mask, size)
    if found is None or not isinstance(image, Tensor):
        return found
    import numpy as np
    import torch

    return torch.from_numpy(np.array(found) > 127)


def _different(names: Sequence[str]) -> tuple[str, ...]:
    """The same names, those that stand twice numbered."""
    seen: dict[str, int] = {}
    found = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        found.append(name if seen[name] == 1 else f"{name} #{seen[name]}")
    return tuple(found)
