"""A saved explanation, read back and checked."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from attrib.errors import OutputError
from attrib.report.explanation import Explanation
from attrib.report.facts import SCHEMA
from attrib.report.records import Asked, Failure, Spent
from attrib.report.store import AnyPath

_READ = ("images", "inputs", "targets", "maps", "costs", "total", "failures", "figures")


def load_explanation(directory: AnyPath) -> Explanation:
    """Read what `Explanation.save` wrote; pictures are not stored, so ``plot`` wants ``picture=``.

    Raises:
        OutputError: the directory holds no explanation, one of another schema, or a file that was changed.

    Example:
        >>> import attrib, tempfile
        >>> with tempfile.TemporaryDirectory() as home:
        ...     found = attrib.explain(model, x, "saliency").save(f"{home}/run")
        ...     load_explanation(found).maps["saliency"]["predicted"].shape
        torch.Size([2, 1, 12, 12])
    """
    folder = Path(directory)
    told = _manifest(folder)
    return Explanation(
        images=tuple(told["images"]),
        inputs=_array(folder, told["inputs"]),
        views=None,
        asked={target: tuple(map(_asked, rows)) for target, rows in told["targets"].items()},
        maps={
            method: {target: _array(folder, file) for target, file in files.items()}
            for method, files in told["maps"].items()
        },
        layers={method: facts["layer"] for method, facts in told["methods"].items()},
        costs={method: Spent(**spent) for method, spent in told["costs"].items()},
        total=Spent(**told["total"]),
        failures=tuple(Failure(**failure) for failure in told["failures"]),
        about={name: value for name, value in told.items() if name not in _READ},
    )


def _manifest(folder: Path) -> dict[str, Any]:
    try:
        told: dict[str, Any] = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        kind = (told["kind"], told["schema"])
    except (OSError, ValueError, TypeError, KeyError) as exc:
        raise OutputError(f"{str(folder)!r} must hold a manifest.json of attrib; got {type(exc).__name__}.") from exc
    if kind != ("explanation", SCHEMA):
        raise OutputError(f"{str(folder)!r} must hold an explanation of schema {SCHEMA}; got {kind[0]} of {kind[1]}.")
    return told


def _array(folder: Path, told: dict[str, Any]) -> Tensor:
    try:
        written = (folder / told["file"]).read_bytes()
    except OSError as exc:
        raise OutputError(f"{told['file']!r} must be in {str(folder)!r}; got {exc.strerror}.") from exc
    if (found := hashlib.sha256(written).hexdigest()) != told["sha256"]:
        raise OutputError(f"{told['file']!r} must have the sha256 {told['sha256']} of the manifest; got {found}.")
    return torch.from_numpy(np.load(folder / told["file"], allow_pickle=False))


def _asked(row: dict[str, Any]) -> Asked:
    index = row["index"]
    return Asked(**{**row, "index": tuple(index) if isinstance(index, list) else index})
