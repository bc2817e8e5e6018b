"""Shards on disk: a file appears whole or not at all, and one process works on a shard at a time."""

from __future__ import annotations

import errno
import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from attrib import checks
from attrib.errors import OutputError
from attrib.report.store import to_json
from attrib.study.lease import lease
from attrib.study.place import clear, place_of, replace

if TYPE_CHECKING:
    import pyarrow as pa

# In the order in which they are written: scores last, because a shard is finished once these are there.
PARTS = ("images", "curves", "costs", "failures", "shards")


def arrow() -> Any:
    """The pyarrow package, or a word on how to get it."""
    return checks.require("pyarrow", "a study", "study")


@dataclass(frozen=True)
class Store:
    """The directory of a study."""

    folder: Path

    @classmethod
    def at(cls, out: str | PathLike[str]) -> Store:
        """The store in ``out``, which need not exist: a directory, or a URL that fsspec knows."""
        return cls(place_of(out))

    def path(self, part: str, shard: int) -> Path:
        """The file of one part of a shard."""
        return self.folder / part / f"{shard:05d}.parquet"

    def done(self, shard: int) -> bool:
        """Whether a shard is finished."""
        return self.path("shards", shard).is_file()

    @contextmanager
    def lease(self, shard: int) -> Iterator[bool]:
        """Keep other processes off a shard in the block; False if one of them is at it."""
        with ExitStack() as held:
            with self._writing():
                mine = held.enter_context(lease(self.folder / "leases" / f"{shard:05d}"))
                for part in PARTS if mine else ():
                    clear(self.folder / part, f"{shard:05d}")
            yield mine

    def write(self, shard: int, tables: Mapping[str, pa.Table]) -> None:
        """Write a finished shard, the scores last."""
        parquet = checks.require("pyarrow.parquet", "a study", "study")

        def save(table: pa.Table, file: IO[bytes]) -> None:
            parquet.write_table(table, file, compression="zstd", compression_level=3, version="2.6")

        with self._writing():
            for part in PARTS:
                path = self.path(part, shard)
                path.parent.mkdir(parents=True, exist_ok=True)
                table = tables[part]
                replace(path, lambda file, table=table: save(table, file))  # type: ignore[misc]

    def read(self, part: str, shards: int) -> Iterator[IO[bytes]]:
        """The files of one part of the finished shards, open, in order."""
        for path in [self.path(part, shard) for shard in range(shards) if self.done(shard)]:
            with path.open("rb") as file:
                yield file

    @property
    def manifest(self) -> dict[str, Any] | None:
        """What the directory was begun with; None if nothing was."""
        try:
            told: dict[str, Any] = json.loads((self.folder / "manifest.json").read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as exc:
            raise OutputError(f"{str(self.folder)!r} must hold a manifest.json of a study; got {exc}.") from exc
        if told.get("kind") != "study":
            raise OutputError(f"{str(self.folder)!r} must hold a study; its manifest.json is of {told.get('kind')!r}.")
        return told

    def begin(self, manifest: Mapping[str, Any]) -> dict[str, Any]:
        """Write the manifest unless there is one; gives the one that is there then."""
        if (told := self.manifest) is not None:
            return told
        with self._writing():
            self.folder.mkdir(parents=True, exist_ok=True)
            if others := [one.name for one in self.folder.iterdir() if not one.name.startswith(".")]:
                if (told := self.manifest) is not None:  # another process was quicker
                    return told
                raise OutputError(
                    f"output must be a new directory, or one where a study was begun; got {str(self.folder)!r}, which "
                    f"holds {', '.join(sorted(others)[:3])}. Choose another name."
                )
            path, text = self.folder / "manifest.json", to_json(manifest).encode()
            with suppress(FileExistsError):
                replace(path, lambda file: file.write(text), new=True)
        return self.manifest or dict(manifest)

    def finish(self, manifest: Mapping[str, Any]) -> None:
        """Replace the manifest by one that says more, unless another process is just doing that."""
        text = to_json(manifest).encode()
        with self._writing(), lease(self.folder / "leases" / "manifest") as mine:
            if mine:
                clear(self.folder, "manifest")
                replace(self.folder / "manifest.json", lambda file: file.write(text))

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OutputError:
            raise
        except OSError as exc:
            full = exc.errno in {errno.ENOSPC, errno.EDQUOT}
            remedy = "Free some space and run it again" if full else "Run it again when it is"
            raise OutputError(
                f"{str(self.folder)!r} must be writable; got {(exc.strerror or str(exc)).lower()}. "
                f"All finished shards are kept. {remedy}: it goes on from there."
            ) from exc
