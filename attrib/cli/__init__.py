"""The command ``attrib``: results on standard output, everything else on standard error.

Exit codes: 0 all is well, 1 something failed while running (what could be done is done), 2 a wrong argument,
130 interrupted.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import typer
from typer.main import get_command

from attrib.cli.commands import app
from attrib.cli.session import INTERRUPTED, complain

# Newer typers carry their own copy of click, so the class cannot be imported from there.
_UsageError: type[Exception] = typer.BadParameter.__bases__[0]

__all__ = ["main", "run"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command with ``argv`` (the process's own arguments if None) and return its exit code.

    Example:
        >>> main(["list", "controls"])
        controls
          centre ...
          edges ...
          random ...
        0
    """
    arguments = sys.argv[1:] if argv is None else list(argv)
    try:
        code: object = get_command(app).main(
            args=arguments, prog_name="attrib", standalone_mode=False, obj=["attrib", *arguments]
        )
    except _UsageError as exc:
        return _misused(exc)
    except typer.Abort:  # Ctrl-C outside a session; newer typers return 130 themselves
        return INTERRUPTED
    return code if isinstance(code, int) else 0


def _misused(exc: Any) -> int:
    path = "attrib" if exc.ctx is None else exc.ctx.command_path
    complain(f"{exc.format_message().rstrip('.')}. Try '{path} --help'.")
    return 2


def run() -> None:
    """Entry point of the console script."""
    sys.exit(main())
