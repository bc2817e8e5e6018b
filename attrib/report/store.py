"""Results on disk: a new directory that appears whole or not at all, strict JSON, maps with their hashes."""

from __future__ import annotations

import hashlib
import json
import math
import re
import secrets
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from os import PathLike
from pathlib import Path, PurePath
from typing import Any

import numpy as np
import torch
from torch import Tensor

from attrib.errors import OutputError

AnyPath = str | PathLike[str]


@contextmanager
def new_directory(target: AnyPath) -> Iterator[Path]:
    """Yield a temporary directory that becomes ``target`` when the block ends, and vanishes when the block raises.

    It lies beside ``target``, so that the last step is one rename: nobody ever sees half a result. Missing parents
    are made, and removed again on failure.

    Args:
        target: must not exist, or be an empty directory.

    Raises:
        OutputError: ``target`` is taken or cannot be written. This is found out on entering the block, before any
            work is done.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as home:
        ...     with new_directory(f"{home}/run") as folder:
        ...         _ = (folder / "note.txt").write_text("done")
        ...     sorted(path.name for path in Path(home, "run").iterdir())
        ['note.txt']
    """
    place = Path(target).expanduser().absolute()
    with ExitStack() as undo:
        try:
            _refuse_taken(place)
            _make_parents(place.parent, undo)
            work = place.parent / f".{place.name}.{secrets.token_hex(4)}.partial"
            work.mkdir()
        except OutputError:
            raise
        except OSError as exc:
            raise OutputError(
                f"output must be a directory that can be made; got {str(target)!r}: {_reason(exc)}."
            ) from exc
        undo.callback(shutil.rmtree, work, ignore_errors=True)
        yield work
        _refuse_taken(place)
        with writing(target):
            if place.exists():
                place.rmdir()  # Windows cannot rename onto an empty directory
            work.rename(place)
        undo.pop_all()


def _refuse_taken(place: Path) -> None:
    if place.is_symlink() or (place.exists() and not place.is_dir()):
        raise OutputError(f"output must be a new directory; got {str(place)!r}, which is a file or link.")
    if place.is_dir() and any(place.iterdir()):
        raise OutputError(
            f"output must be a new or empty directory; got {str(place)!r}, which holds files. "
            "Choose another name, or remove it first."
        )


def _make_parents(parent: Path, undo: ExitStack) -> None:
    missing = [folder for folder in (parent, *parent.parents) if not folder.exists()]
    for folder in reversed(missing):
        folder.mkdir()
        undo.callback(_remove_empty, folder)


def _remove_empty(folder: Path) -> None:
    try:
        folder.rmdir()
    except OSError:  # someone else put something there meanwhile
        return


@contextmanager
def writing(path: AnyPath) -> Iterator[None]:
    """Run a block that only writes ``path``; what goes wrong is an OutputError."""
    try:
        yield
    except OSError as exc:
        raise OutputError(f"{str(path)!r} must be writable; got {_reason(exc)}. Nothing was kept.") from exc


def _reason(exc: OSError) -> str:
    return (exc.strerror or str(exc) or type(exc).__name__).lower()


def strict(value: Any) -> Any:
    """Turn ``value`` into what strict JSON can hold: NaN and infinities become None, keys text, tuples lists.

    Example:
        >>> strict({1: (float("nan"), 0.5)})
        {'1': [None, 0.5]}
    """
    if isinstance(value, Mapping):
        return {str(key): strict(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [strict(item) for item in value]
    if isinstance(value, (np.integer, np.floating, np.bool_)):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def to_json(value: Any) -> str:
    """Indented strict JSON, with a final newline."""
    return json.dumps(strict(value), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def write_text(folder: Path, name: str, text: str) -> None:
    """Write ``text`` as UTF-8, with the same line ends on every system."""
    with writing(name):
        (folder / name).write_text(text, encoding="utf-8", newline="\n")


def file_names(labels: Sequence[str]) -> dict[str, str]:
    """Names that every file system takes, one per label and all different, also where case does not count.

    Example:
        >>> file_names(["Grad-CAM", "layer4:7", "layer4/7"])
        {'Grad-CAM': 'Grad-CAM', 'layer4:7': 'layer4_7', 'layer4/7': 'layer4_7-2'}
    """
    names: dict[str, str] = {}
    taken: set[str] = set()
    for label in labels:
        stem = re.sub(r"[^A-Za-z0-9._+-]+", "_", label).strip("._-")[:60] or "unnamed"
        name, number = stem, 2
        while name.lower() in taken:
            name, number = f"{stem}-{number}", number + 1
        taken.add(name.lower())
        names[label] = name
    return names


def image_names(images: Sequence[str]) -> dict[str, str]:
    """`file_names` without the ending of the picture, where that keeps them apart.

    Example:
        >>> image_names(["cat.jpg", "dog.png"]), image_names(["cat.jpg", "cat.png"])
        ({'cat.jpg': 'cat', 'dog.png': 'dog'}, {'cat.jpg': 'cat.jpg', 'cat.png': 'cat.png'})
    """
    stems = [PurePath(name).stem for name in images]
    if len(set(stems)) < len(images):
        return file_names(images)
    return dict(zip(images, file_names(stems).values(), strict=True))


def write_array(folder: Path, name: str, values: Tensor) -> dict[str, Any]:
    """Write ``values`` as ``folder / name`` (.npy, no pickle) and say what was written.

    Returns:
        ``file``, ``shape``, ``dtype`` and the ``sha256`` of the file's bytes, as ``sha256sum`` gives it.
    """
    path = folder / name
    plain = values.detach().cpu().contiguous()
    array = (plain.float() if plain.dtype is torch.bfloat16 else plain).numpy()  # NumPy has no bfloat16
    with writing(name):
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, array, allow_pickle=False)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return {"file": name, "shape": list(array.shape), "dtype": str(array.dtype), "sha256": digest}
