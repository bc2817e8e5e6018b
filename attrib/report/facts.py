"""What has to be known to get a result again: versions, model, inputs, methods and their options."""

from __future__ import annotations

import hashlib
import platform
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields, is_dataclass
from functools import partial, singledispatch
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from attrib.core.attribution import Attribution

SCHEMA = 1  # of manifest.json; raised when a reader of the old one would misread the new one
_RAN_WITH = ("captum", "numpy", "pillow", "torchvision")
_NOT_OPTIONS = frozenset({"model", "forward_func", "layer"})


def versions() -> dict[str, str | None]:
    """Versions of attrib, Python, torch and the packages that results depend on; None for one that is absent.

    Nothing is imported for it: a broken torchvision is listed like any other.

    Example:
        >>> versions()["torch"] == str(torch.__version__)
        True
    """
    own = getattr(sys.modules.get("attrib"), "__version__", None)
    found: dict[str, str | None] = {"attrib": own, "python": platform.python_version(), "torch": str(torch.__version__)}
    return found | {package: _installed(package) for package in _RAN_WITH}


def _installed(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def tensor_hash(values: Tensor) -> str:
    """SHA-256 over dtype, shape and bytes."""
    plain = values.detach().cpu().contiguous()
    digest = hashlib.sha256(f"{plain.dtype} {tuple(plain.shape)}\n".encode())
    digest.update(plain.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def device_facts(device: torch.device) -> dict[str, Any]:
    """Where it ran: what bit-equal repetition depends on besides versions."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    return {"device": str(device), "hardware": name, "threads": torch.get_num_threads()}


@singledispatch
def described(value: Any) -> Any:
    """Return ``value`` in words that JSON can hold and that two runs agree on (no memory addresses).

    Example:
        >>> described({"baseline": torch.nn.functional.relu, "window": (32, 32)})
        {'baseline': 'torch.nn.functional.relu', 'window': [32, 32]}
    """
    if is_dataclass(value) and not isinstance(value, type):
        inner = {field.name: described(getattr(value, field.name)) for field in fields(value)}
        return {"type": type(value).__qualname__, **inner}
    return _named(value)


@described.register(type(None))
@described.register(bool)
@described.register(int)
@described.register(float)
@described.register(str)
def _plain(value: Any) -> Any:
    return value


@described.register(np.generic)
def _number(value: np.generic) -> Any:
    return value.item()


@described.register(torch.dtype)
@described.register(torch.device)
def _text(value: Any) -> str:
    return str(value)


@described.register(Mapping)
def _mapping(value: Mapping[Any, Any]) -> dict[str, Any]:
    return {str(key): described(item) for key, item in value.items()}


@described.register(list)
@described.register(tuple)
def _sequence(value: Iterable[Any]) -> list[Any]:
    return [described(item) for item in value]


@described.register(set)
@described.register(frozenset)
def _set(value: Iterable[Any]) -> list[Any]:
    return sorted((described(item) for item in value), key=str)


@described.register(Tensor)
def _tensor(value: Tensor) -> dict[str, Any]:
    return {"tensor": list(value.shape), "dtype": str(value.dtype), "sha256": tensor_hash(value)}


@described.register(nn.Module)
def _network(value: nn.Module) -> str:
    return type(value).__name__


@described.register(Attribution)
def _part(value: Attribution) -> dict[str, Any]:
    return method_facts(value) | {"layer": value.layer}


def _named(value: Any) -> Any:
    if isinstance(value, partial):
        return {"partial": described(value.func), "args": described(value.args), "options": described(value.keywords)}
    name = getattr(value, "__qualname__", None) or getattr(value, "__name__", None)
    if name is None:
        return type(value).__qualname__
    module = getattr(value, "__module__", None)
    return f"{module}.{name}" if module else str(name)


def method_facts(method: Callable[..., Any] | object) -> dict[str, Any]:
    """Class and options of a method: its attributes, which the constructor named after its arguments.

    Example:
        >>> from attrib.methods import Saliency
        >>> method_facts(Saliency(model))["options"]
        {'channels': 'max', 'absolute': True}
    """
    options = {
        name: described(value)
        for name, value in vars(method).items()
        if not name.startswith("_") and name not in _NOT_OPTIONS
    }
    kind = type(method)
    return {"class": f"{kind.__module__}.{kind.__qualname__}", "options": options}
