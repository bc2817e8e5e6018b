"""What a study is asked, in plain values: names with their options, one form for each meaning."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from attrib.errors import InputError
from attrib.registry import Registry

Named: TypeAlias = "str | Mapping[str, object]"
Choices: TypeAlias = "str | Sequence[str] | Mapping[str, Named]"


@dataclass(frozen=True)
class Choice:
    """A registered method or metric with its options, under a label.

    Attributes:
        label: its name in tables.
        name: registry name.
        options: what its constructor is given, by name.
    """

    label: str
    name: str
    options: Mapping[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """In plain values."""
        return {"label": self.label, "name": self.name, "options": dict(self.options)}


def choices(
    kind: str, given: Choices, options: Mapping[str, Mapping[str, object]], known: Registry[Any]
) -> list[Choice]:
    """Read names, or labels to names, or labels to mappings of a ``name`` and its options.

    Args:
        kind: what they are, for messages.
        given: see above.
        options: more options, by label.
        known: where names are registered; all of them must be.
    """
    named = given if isinstance(given, Mapping) else {one: one for one in _names(kind, given)}
    found = []
    for label, one in named.items():
        told = {"name": one} if isinstance(one, str) else dict(one)
        name = told.pop("name", None)
        if not isinstance(name, str):
            raise InputError(f"{kind} {label!r} must say its registry name; got {one!r}.")
        known[name]
        more = dict(options.get(label, {}))
        found.append(Choice(str(label), name, plain(f"options of {kind} {label!r}", {**told, **more})))
    if lost := sorted(set(options) - set(named)):
        raise InputError(f"options must be for a {kind} of the study, {', '.join(named)}; got {', '.join(lost)}.")
    if not found:
        raise InputError(f"a study must have at least one {kind} of {', '.join(known)}; got none.")
    return found


def _names(kind: str, given: object) -> list[str]:
    every: list[object] = [given] if isinstance(given, str) or not isinstance(given, Sequence) else list(given)
    names: list[str] = []
    for one in every:
        if isinstance(one, str):
            names.append(one)
        else:
            raise InputError(
                f"a {kind} of a study must be a registry name, so that every process can make it; got "
                f"{type(one).__name__}. Register yours with @{kind.upper()}S.add(...)."
            )
    if twice := sorted({one for one in names if names.count(one) > 1}):
        raise InputError(f"{kind}s must be different; got {', '.join(twice)} twice. Pass a mapping of labels to names.")
    return names


def plain(what: str, value: object) -> Any:
    """``value`` as JSON holds it: tuples are lists; what cannot be stored is refused.

    Example:
        >>> plain("window", {"window": (4, 5)})
        {'window': [4, 5]}
    """
    if isinstance(value, Mapping):
        return {str(key): plain(what, item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(what, item) for item in value]
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float) and abs(value) < float("inf"):
        return value
    raise InputError(f"{what} must be plain values, which can be stored; got {value!r}.")


def as_arguments(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options as constructors take them: lists are tuples."""

    def tupled(value: Any) -> Any:
        return tuple(tupled(one) for one in value) if isinstance(value, list) else value

    return {name: tupled(value) for name, value in options.items()}


def hashed(spec: Mapping[str, Any]) -> str:
    """SHA-256 over a spec; the order of keys does not matter.

    Example:
        >>> hashed({"a": 1, "b": [2]}) == hashed({"b": [2], "a": 1})
        True
    """
    told = json.dumps(spec, sort_keys=True, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return hashlib.sha256(told.encode()).hexdigest()
