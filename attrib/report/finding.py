"""What looking at a network gives: tensors, words, a figure and files, the same way for every look."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from attrib.report.facts import SCHEMA, versions
from attrib.report.store import AnyPath, file_names, new_directory, to_json, write_array, write_text, writing

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Finding(ABC):
    """A result of `attrib.analysis` or `attrib.synthesis`: a frozen dataclass whose fields are what was found.

    Subclasses write `to_text` and `plot`. Fields that are tensors, NumPy arrays, or mappings and sequences of them
    become files; everything else that JSON can hold becomes the manifest. A field with ``metadata={"saved": False}`` is
    left out.
    """

    @abstractmethod
    def to_text(self, *, markdown: bool = False) -> str:
        """Say in words and tables what was found."""

    @abstractmethod
    def plot(self) -> Figure:
        """Draw it; ``savefig`` writes the figure, pyplot does not know it."""

    @property
    def manifest(self) -> dict[str, Any]:
        """All facts as JSON holds them; `save` adds the files."""
        facts: dict[str, Any] = {"schema": SCHEMA, "kind": type(self).__name__, "versions": versions()}
        return facts | {name: _plain(value) for name, value in self._saved() if not _arrays(name, value)}

    def save(self, directory: AnyPath, *, figures: bool = False) -> Path:
        """Write a new directory, whole or not at all: ``manifest.json``, arrays as ``.npy`` and, if asked, the figure.

        Raises:
            OutputError: the directory is taken or cannot be written.
        """
        with new_directory(directory) as folder:
            self.write(folder, figures=figures)
        return Path(directory)

    def write(self, folder: Path, *, figures: bool = False, about: Mapping[str, Any] | None = None) -> None:
        """Write the files of `save` into a directory that exists; ``about`` joins the manifest."""
        manifest = self.manifest | dict(about or {})
        arrays = {label: one for name, value in self._saved() for label, one in _arrays(name, value).items()}
        names = file_names(list(arrays))
        manifest["arrays"] = {
            label: write_array(folder, f"arrays/{names[label]}.npy", one) for label, one in arrays.items()
        }
        if figures:
            manifest["figure"] = "figure.png"
            with writing("figure.png"):
                self.plot().savefig(folder / "figure.png")
        write_text(folder, "found.md", self.to_text(markdown=True) + "\n")
        write_text(folder, "manifest.json", to_json(manifest))

    def _saved(self) -> list[tuple[str, Any]]:
        own = fields(self)  # type: ignore[arg-type]  # subclasses are dataclasses
        return [(one.name, getattr(self, one.name)) for one in own if one.metadata.get("saved", True)]


def _arrays(name: str, value: object) -> dict[str, Tensor]:
    """The arrays of a field by label; none where it holds something else."""
    if isinstance(value, Tensor):
        return {name: value}
    if isinstance(value, np.ndarray):
        return {name: torch.from_numpy(value)}
    if isinstance(value, Mapping):
        many = list(value.items())
    elif isinstance(value, (list, tuple)):
        many = list(enumerate(value))
    else:
        return {}
    found = [_arrays(f"{name}.{key}", one) for key, one in many]
    return {label: one for part in found for label, one in part.items()} if found and all(found) else {}


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return {one.name: _plain(getattr(value, one.name)) for one in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    if isinstance(value, Tensor):
        return value.tolist()
    return value if isinstance(value, (str, int, float, bool, type(None), np.generic)) else str(value)
