"""How every command behaves: where words go, what an error looks like, what the exit code is."""

from __future__ import annotations

import logging
import sys
import traceback
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import typer
from tqdm import tqdm

from attrib.errors import AttribError, LayerError, RegistryError, TargetError

INTERRUPTED = 130  # 128 + SIGINT, as shells have it


class UsageError(AttribError):
    """An argument of the command is wrong; nothing has been computed."""


def complain(message: str, kind: str = "error") -> None:
    """Say on standard error what is wrong; a progress bar there is moved out of the way."""
    tqdm.write(f"attrib: {kind}: {message}", file=sys.stderr)


@contextmanager
def usage() -> Iterator[None]:
    """Count what goes wrong in the block as a wrong argument."""
    try:
        yield
    except (ValueError, LookupError) as exc:
        if not isinstance(exc, AttribError):
            raise
        raise UsageError(str(exc)) from exc


@contextmanager
def session(*, quiet: bool, debug: bool, interrupted: str = "nothing was written") -> Iterator[None]:
    """Run a command: notes and warnings in one form, errors as one line and an exit code."""
    with ExitStack() as undo:
        undo.enter_context(_notes(logging.DEBUG if debug else logging.WARNING if quiet else logging.INFO))
        undo.enter_context(_warnings())
        try:
            yield
        except typer.Exit:
            raise
        except KeyboardInterrupt:
            complain(f"interrupted; {interrupted}.")
            raise typer.Exit(INTERRUPTED) from None
        except Exception as exc:
            if debug:
                traceback.print_exc()
            complain(_words(exc))
            wrong = isinstance(exc, (UsageError, TargetError, LayerError, RegistryError))
            raise typer.Exit(2 if wrong else 1) from exc


def _words(exc: Exception) -> str:
    if isinstance(exc, AttribError):
        return str(exc)
    return f"unexpected {type(exc).__name__}: {exc}. Add --debug for the traceback."


class _Notes(logging.Handler):
    """Log records as the command's own lines; what was said before, of another image say, is not said again."""

    def __init__(self) -> None:
        super().__init__()
        self.said: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        note = self.format(record)
        if note in self.said:
            return
        self.said.add(note)
        if record.levelno >= logging.WARNING:
            complain(note, "warning")
        else:
            tqdm.write(f"attrib: {note}", file=sys.stderr)


@contextmanager
def _notes(level: int) -> Iterator[None]:
    log, handler = logging.getLogger("attrib"), _Notes()
    before = log.level, log.propagate
    log.addHandler(handler)
    log.setLevel(level)
    log.propagate = False
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.setLevel(before[0])
        log.propagate = before[1]


@contextmanager
def _warnings() -> Iterator[None]:
    def show(message: Warning | str, *_: object, **__: object) -> None:
        complain(str(message), "warning")

    with warnings.catch_warnings():
        warnings.showwarning = show
        yield
