"""Ties tests to the lines of the ``Convention:`` blocks: ``@pins("occlusion", "the class is decided once")``."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from typing import Any, TypeVar

from attrib import METHODS, METRICS, metrics

Test = TypeVar("Test", bound=Callable[..., None])
PINNED: list[tuple[str, str]] = []


def pins(method: str, *starts: str) -> Callable[[Test], Test]:
    """Say that a test pins the lines of ``method`` that start with each of ``starts``."""

    def note(test: Test) -> Test:
        PINNED.extend((method, start) for start in starts)
        return test

    return note


def section(method: str, title: str) -> str:
    """What the docstring of a method, or a metric, says under ``title:``, up to the next section."""
    text = inspect.getdoc(_described(method)) or ""
    found = re.search(rf"^{title}:(.*?)(?=^[A-Z][a-z]+:|\Z)", text, re.MULTILINE | re.DOTALL)
    return found.group(1).strip() if found else ""


def _described(name: str) -> Any:
    """A method or metric by its name, a class of metrics by that of the class."""
    return METHODS[name] if name in METHODS else METRICS[name] if name in METRICS else getattr(metrics, name)


def lines(method: str) -> list[str]:
    """The bullets of the ``Convention:`` block, each on one line."""
    bullets = re.split(r"^\s*- ", section(method, "Convention"), flags=re.MULTILINE)
    return [" ".join(bullet.split()) for bullet in bullets if bullet.strip()]
