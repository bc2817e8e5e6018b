"""Exceptions: each also inherits the built-in that a caller would guess.

::

    AttribError
    ├── InputError        (ValueError)    an argument or tensor has the wrong type, range or content
    │   └── ShapeError                    ... or the wrong shape
    ├── OptionError       (TypeError)     a call has an argument that nobody reads
    ├── TargetError       (ValueError)    the target does not fit the model's output
    ├── LayerError        (LookupError)   no such layer, or one that does not fit the method
    ├── RegistryError     (LookupError)   no such method or metric
    ├── RuleError         (RuntimeError)  a backward override that would have been silently wrong
    ├── ModelError        (RuntimeError)  the model cannot be run, differentiated or explained
    ├── OutputError       (OSError)       results cannot be read or written
    └── MissingDependency (ImportError)   an optional package is needed; the message says which

Every message reads "{what} must be {expected}; got {actual}. {remedy}". Generic argument errors
(`InputError`, `ShapeError`, `TargetError`) can come from any public call and are documented only here.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class AttribError(Exception):
    """Base of every error that attrib raises on purpose."""


class InputError(AttribError, ValueError):
    """An argument or a tensor has the wrong type, range or content."""


class ShapeError(InputError):
    """A tensor has the wrong shape."""


class OptionError(AttribError, TypeError):
    """A call has an argument that nobody reads."""


class TargetError(AttribError, ValueError):
    """The target does not fit the model's output."""


class LayerError(AttribError, LookupError):
    """No such layer, an ambiguous one, or one that does not fit the method."""


class RegistryError(AttribError, LookupError):
    """No such method or metric, or the name is taken."""


class RuleError(AttribError, RuntimeError):
    """A backward override would have been silently wrong."""


class ModelError(AttribError, RuntimeError):
    """The model cannot be run, differentiated or explained."""


class OutputError(AttribError, OSError):
    """Results cannot be read or written."""


class MissingDependency(AttribError, ImportError):
    """An optional package is not installed."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return ``" Did you mean 'a' or 'b'?"``, or nothing if no known name is close; in any case of letters."""
    spelled = {one.lower(): one for one in known}
    same = [spelled[name.lower()]] if name.lower() in spelled else None
    close = same or [spelled[one] for one in get_close_matches(name.lower(), list(spelled), n=3, cutoff=0.5)]
    return f" Did you mean {' or '.join(map(repr, close))}?" if close else ""
