"""A lease: who works on what, written down so that others keep off, and found out to be stale when nobody does."""

from __future__ import annotations

import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from attrib.study.place import is_remote

BEAT = 10.0  # seconds between two signs of life
STALE = 120.0  # seconds without one, after which a holder on another host is given up


@contextmanager
def lease(path: Path) -> Iterator[bool]:
    """Hold ``path`` in the block; False if another living process does.

    It is advice: results are written whole and are the same whoever computes them, so that in the worst case, two
    processes that give up the same dead one at once, work is done twice. A holder on this host is dead if its process
    is; one elsewhere if it gave no sign of life for two minutes, by the clock of the file system; on remote storage,
    which may have none, by the clocks of the machines.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    token = secrets.token_hex(8)
    if not _taken(path, token) and not (_stale(path) and _given_up(path) and _taken(path, token)):
        yield False
        return
    stop = threading.Event()
    thread = threading.Thread(target=_live, args=(path, token, stop), name="attrib-lease", daemon=True)
    thread.start()
    try:
        yield True
    finally:
        stop.set()
        thread.join()
        if _holder(path).get("token") == token:
            with suppress(OSError):
                path.unlink(missing_ok=True)


def _taken(path: Path, token: str) -> bool:
    """Write the lease; False if there is one."""
    if is_remote(path):
        if path.exists():
            return False
        path.write_text(_told(token), encoding="utf-8")
        return True
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(_told(token))
    except FileExistsError:
        return False
    return True


def _told(token: str) -> str:
    pid = os.getpid()
    found = {"host": socket.gethostname(), "pid": pid, "born": _born(pid), "token": token, "beat": time.time()}
    return json.dumps(found)


def _live(path: Path, token: str, stop: threading.Event) -> None:
    while not stop.wait(BEAT):
        if _holder(path).get("token") == token:
            with suppress(OSError):
                if is_remote(path):
                    path.write_text(_told(token), encoding="utf-8")
                else:
                    os.utime(path)


def _holder(path: Path) -> dict[str, Any]:
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return told if isinstance(told, dict) else {}


def _stale(path: Path) -> bool:
    """Whether the holder is dead."""
    told = _holder(path)
    if told.get("host") == socket.gethostname():
        return not _alive(int(told["pid"]), told.get("born"))
    if is_remote(path):
        return time.time() - float(told.get("beat", 0)) > STALE  # without a beat it was given back meanwhile
    try:
        return _now(path.parent) - path.stat().st_mtime > STALE
    except FileNotFoundError:
        return True  # given back meanwhile


def _now(folder: Path) -> float:
    """The time by the clock that dates the files, which may be another machine's."""
    probe = folder / f".{secrets.token_hex(8)}.clock"
    probe.touch()
    try:
        return probe.stat().st_mtime
    finally:
        probe.unlink(missing_ok=True)


def _given_up(path: Path) -> bool:
    """Take the lease of a dead holder away; of several processes one does."""
    if is_remote(path):
        path.unlink(missing_ok=True)
        return True
    try:
        path.rename(path.with_name(f".{path.name}.{secrets.token_hex(4)}.stale"))
    except FileNotFoundError:
        return True
    for rest in path.parent.glob(f".{path.name}.*.stale"):
        rest.unlink(missing_ok=True)
    return True


def _alive(pid: int, born: object) -> bool:
    """Whether a process of this host lives; a later one with the same number does not count."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # it belongs to someone else
        return True
    now = _born(pid)
    return now is None or born is None or now == born


def _born(pid: int) -> str | None:
    """When a process was started, in the kernel's ticks; None where that is not told."""
    try:
        told = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return None
    return told.rpartition(")")[2].split()[19]  # field 22; names may hold blanks
