"""Where a study lies: a directory of this machine, or one that fsspec reaches."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from contextlib import suppress
from os import PathLike
from pathlib import Path
from typing import IO

from attrib import checks


def place_of(out: str | PathLike[str]) -> Path:
    """The directory ``out``; ``protocol://...`` is reached by fsspec, with universal-pathlib's paths.

    Raises:
        MissingDependency: it is a URL, and universal-pathlib is not installed.

    Example:
        >>> place_of("results").name
        'results'
    """
    if "://" not in str(out):
        return Path(out).expanduser().absolute()
    found: Path = checks.require("upath", "results on remote storage", "remote").UPath(out)
    return found


def is_remote(path: Path) -> bool:
    """Whether fsspec reaches it, so that there are no links, no times of change and no processes to ask."""
    return not isinstance(path, Path)


def clear(folder: Path, stem: str) -> None:
    """Remove what a killed process left of a file."""
    for rest in folder.glob(f".{stem}.*.partial"):
        rest.unlink(missing_ok=True)


def replace(path: Path, write: Callable[[IO[bytes]], object], *, new: bool = False) -> None:
    """Write a file beside ``path``, bring it to the disk, and rename it; with ``new`` only where there is none."""
    work = path.with_name(f".{path.stem}.{secrets.token_hex(4)}.partial")
    try:
        with work.open("wb") as file:
            write(file)
            if not is_remote(path):
                file.flush()
                os.fsync(file.fileno())
        if new:
            _take_name(work, path)
        elif is_remote(path):
            path.unlink(missing_ok=True)
            work.rename(path)
        else:
            work.replace(path)
    finally:
        with suppress(OSError):
            work.unlink(missing_ok=True)
    if not is_remote(path):
        _settle(path.parent)


def _take_name(work: Path, path: Path) -> None:
    """Give ``work`` the name ``path``, of several processes to one only; where there are no links, to the last one."""
    if not is_remote(path) and hasattr(os, "link"):
        try:
            os.link(work, path)
        except FileExistsError:
            raise
        except OSError:
            work.replace(path)
    elif path.exists():
        raise FileExistsError(str(path))
    else:
        work.rename(path)


def _settle(folder: Path) -> None:
    """Bring a rename to the disk, where directories can be."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
