"""From words on the command line to what the tasks take, and from results to standard output and disk."""

from __future__ import annotations

import re
import sys
from ast import literal_eval
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, redirect_stdout
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import typer

from attrib.cli.session import usage
from attrib.errors import InputError, OptionError
from attrib.registry import METHODS, METRICS

if TYPE_CHECKING:
    import torch

    from attrib.io import LoadedModel
    from attrib.metrics import Protocol
    from attrib.report.comparison import Comparison
    from attrib.report.explanation import Explanation

Data = TypeVar("Data")


def network(model: str, weights: str | None, seed: int, device: str | None) -> LoadedModel:
    """The model, on its device."""
    from attrib.io import load_model

    with usage(), redirect_stdout(sys.stderr):  # a user's model may print
        place = _device(device)
        loaded = load_model(model, weights, seed=seed)
    loaded.model.to(place)
    return loaded


def _device(name: str | None) -> torch.device:
    import torch

    try:
        device = torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))
    except RuntimeError:
        raise InputError(f"device must be cpu, cuda, cuda:1 or another that torch knows; got {name!r}.") from None
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise InputError(f"device must be present; got {name!r}, and torch sees {torch.cuda.device_count()} GPUs.")
    return device


def pictures(paths: Sequence[Path]) -> list[Path]:
    """Files, with folders expanded."""
    from attrib.io import list_images

    with usage():
        return list_images(paths)


def picture(path: Path) -> Path:
    """One file."""
    found = pictures([path])
    with usage():
        if len(found) > 1:
            raise InputError(f"IMAGE must be one picture; got a folder of {len(found)}, {str(path)!r}.")
    return found[0]


def methods(names: Sequence[str] | None, settings: Sequence[str] | None = None) -> list[Any]:
    """Methods that exist, by name or with their options; the usual ones if none are given."""
    from attrib.tasks.explaining import METHODS_SHOWN

    chosen = list(names or METHODS_SHOWN)
    with usage():
        for name in chosen:
            METHODS[name]
        given = settings_of(settings or (), chosen)
        return [_with_options(name, given[name]) if name in given else name for name in chosen]


def settings_of(words: Sequence[str], chosen: Sequence[str]) -> dict[str, dict[str, object]]:
    """``METHOD.OPTION=VALUE``; numbers and tuples as in Python; true, false and none in any case; all else is text."""
    found: dict[str, dict[str, object]] = {}
    for text in words:
        parts = re.fullmatch(r"(\w+)\.(\w+)=(.*)", text, re.DOTALL)
        if parts is None:
            raise InputError(f"--set must be METHOD.OPTION=VALUE, such as occlusion.window=32; got {text!r}.")
        method, option, value = parts.groups()
        if method not in chosen:
            raise InputError(f"--set must be for a method that is run, {', '.join(chosen)}; got {text!r}.")
        found.setdefault(method, {})[option] = _value(value)
    return found


_WORDS = {"true": True, "false": False, "none": None}


def _value(text: str) -> object:
    try:
        return _WORDS[text.lower()] if text.lower() in _WORDS else literal_eval(text)
    except (SyntaxError, ValueError):
        return text


def _with_options(name: str, given: dict[str, object]) -> Any:
    """The method with these options, tried at once, so that a wrong one is told before a network is loaded."""
    from torch import nn

    from attrib import checks

    try:
        METHODS[name](nn.Identity(), **given)
    except TypeError as exc:
        known = "" if isinstance(exc, OptionError) else f". Known: {', '.join(checks.keywords(METHODS[name]))}."
        raise InputError(f"--set must name options of {name}: {exc}{known}") from exc
    return partial(METHODS[name], **given)


def metrics(names: Sequence[str] | None) -> list[str]:
    """Registry names that exist; the usual ones if none are given."""
    from attrib.tasks.comparing import METRICS_SHOWN

    with usage():
        for name in names or ():
            METRICS[name]
    return list(names or METRICS_SHOWN)


def protocol(name: str) -> Protocol:
    """A preset."""
    from attrib.metrics import Protocol

    with usage():
        return Protocol.named(name)


def target(text: str) -> int | str:
    """A class number, or the text as it is."""
    return int(text) if re.fullmatch(r"-?\d+", text) else text


def baseline(text: str) -> str | float:
    """A number, or one of the baselines that have a name."""
    from attrib import checks

    value = _value(text)
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return value
    with usage():
        return checks.choice("baseline, unless a number,", text, ("mean", "zero", "blur"))


@contextmanager
def output(place: Path | None) -> Iterator[Path | None]:
    """Where to write, found out to be writable before anything is computed; None without ``--out``.

    What a user's model prints in the block goes to standard error.
    """
    from attrib.report.store import new_directory

    with redirect_stdout(sys.stderr), nullcontext() if place is None else new_directory(place) as folder:
        yield folder


def told(found: Any, command: Sequence[str], **more: object) -> Any:
    """The same result, with what only the command line knows in its manifest."""
    return replace(found, about={**found.about, "command": list(command), **more})


def say(found: Data, words: Callable[[Data], str], *, as_json: bool) -> None:
    """Print data as JSON or in words."""
    from attrib.report.store import to_json

    typer.echo(to_json(found).rstrip("\n") if as_json else words(found))


def show(found: Comparison | Explanation, *, as_json: bool) -> int:
    """Print a result; return the exit code."""
    say(found.manifest, lambda _: found.to_text(), as_json=as_json)
    return 1 if found.failures else 0
