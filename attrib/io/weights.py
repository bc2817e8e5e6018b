"""Weights: read safely from a file, loaded strictly with a readable report, hashed."""

from __future__ import annotations

import hashlib
import re
import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from attrib.errors import AttribError, InputError, MissingDependency, ModelError, did_you_mean
from attrib.io.images import AnyPath

CONTAINERS = ("state_dict", "model_state_dict", "model", "module", "net")
PREFIXES = ("module.", "model.")  # DataParallel, Lightning


def read_weights(path: AnyPath) -> OrderedDict[str, Tensor]:
    """Read the tensors of a ``.pt``, ``.pth``, ``.safetensors`` or ``.npz`` file without running any code from it.

    A checkpoint that holds the weights under ``"state_dict"`` or ``"model"`` beside other things is unpacked.

    Args:
        path: the file; every other ending is read as ``torch.save`` writes it.

    Returns:
        Names to tensors, on the CPU.

    Raises:
        InputError: the file is missing, damaged, wants to run code, or holds no weights.
    """
    file = Path(path).expanduser()
    if not file.is_file():
        siblings = [other.name for other in file.parent.iterdir()] if file.parent.is_dir() else []
        raise InputError(
            f"weights must be an existing file or 'none'; got {str(path)!r}.{did_you_mean(file.name, siblings)}"
        )
    readers: dict[str, Callable[[Path], Any]] = {".npz": _read_npz, ".safetensors": _read_safetensors}
    try:
        found = readers.get(file.suffix.lower(), _read_torch)(file)
    except AttribError:
        raise
    except Exception as exc:  # zip, pickle and header readers raise anything on broken bytes
        raise InputError(f"weights must be an undamaged file of tensors; got {str(path)!r} ({_brief(exc)}).") from exc
    return _tensors(found, file)


def load_weights(model: nn.Module, path: AnyPath) -> None:
    """Load a weights file into ``model``, strictly: only ``num_batches_tracked`` may be missing.

    The prefixes that ``DataParallel`` (``module.``), ``torch.compile`` (``_orig_mod.``) and Lightning (``model.``)
    put before every name are removed.

    Args:
        model: changed in place; left as it was if the file is refused.
        path: see :func:`read_weights`.

    Raises:
        InputError: the file cannot be read, or its names or shapes differ from the model's; all of them are named.
    """
    load_state(model, read_weights(path), str(path))


def load_state(model: nn.Module, state: Mapping[str, Tensor], source: str) -> None:
    """Load ``state`` as :func:`load_weights` does; ``source`` names it in messages."""
    own = model.state_dict()
    fitted = _fit(state, own)
    shapes = {name: (tuple(value.shape), tuple(own[name].shape)) for name, value in fitted.items() if name in own}
    different = [f"{name}: file {file}, model {size}" for name, (file, size) in shapes.items() if file != size]
    if different or set(fitted) != set(own):
        # layers may translate older names while they load, so only a trial tells; the model itself is not half loaded
        problems = _trial(deepcopy(model), fitted, different)
        if problems:
            remedy = " Build a network of that size in a function and pass 'package.module:function'."
            raise InputError(
                f"weights in {source!r} must fit {type(model).__name__}; got {'; '.join(problems)}."
                + (remedy if different else "")
            )
    model.load_state_dict(fitted, strict=False)


def _trial(model: nn.Module, state: Mapping[str, Tensor], different: list[str]) -> list[str]:
    """What goes wrong when ``state`` is loaded into ``model``, in words."""
    own, error = model.state_dict(), ""
    try:
        missing, unexpected = model.load_state_dict(state, strict=False)
    except RuntimeError as exc:
        missing, unexpected = [n for n in own if n not in state], [n for n in state if n not in own]
        error = "" if different else _brief(exc)
    missing = [name for name in missing if not name.endswith("num_batches_tracked")]
    lists = _listed("missing", missing), _listed("unexpected", unexpected), _listed("of another shape", different)
    return [problem for problem in (*lists, error) if problem]


def model_hash(model: nn.Module) -> str:
    """SHA-256 over the names, types, shapes and bytes of the state dict; equal weights, equal hash.

    The order of registration, the device, the memory format and ``torch.compile`` do not matter.

    Example:
        >>> model_hash(nn.ReLU())[:8]  # no parameters
        'e3b0c442'
    """
    digest = hashlib.sha256()
    state = {_bare(name): value for name, value in model.state_dict().items()}
    for name in sorted(state):
        value = state[name]
        if not isinstance(value, Tensor):  # a module's own extra state
            digest.update(f"{name} {value!r}\n".encode())
            continue
        if isinstance(value, nn.UninitializedParameter) or value.is_meta:
            raise ModelError(f"model must have its weights to be hashed; got none for {name!r}. Run it once, or load.")
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        plain = value.detach().cpu().contiguous().reshape(-1)
        digest.update(plain.view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _read_torch(file: Path) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's advice about TorchScript archives, which are refused anyway
            return torch.load(file, map_location="cpu", weights_only=True)
    except Exception as exc:
        wants = re.search(r"(?:GLOBAL|global:?)\s+`?([\w.]+\.\w+)", str(exc))
        if wants is None:
            raise
        raise InputError(
            f"weights must be a file of tensors only; got {str(file)!r}, which asks to run {wants[1]!r} on loading. It "
            "was not run. If you trust the file, load it yourself and keep torch.save(model.state_dict(), FILE)."
        ) from exc


def _read_npz(file: Path) -> dict[str, Tensor]:
    # opened here, because np.load leaves a damaged archive open
    with file.open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
        return {name: torch.from_numpy(archive[name]) for name in archive.files}


def _read_safetensors(file: Path) -> dict[str, Tensor]:
    try:
        from safetensors.torch import load_file
    except ImportError as exc:
        raise MissingDependency(f"reading {file.name!r} needs safetensors: pip install safetensors.") from exc
    return load_file(file)


def _tensors(found: Any, file: Path) -> OrderedDict[str, Tensor]:
    inner = [found[key] for key in CONTAINERS if isinstance(found, Mapping) and key in found]
    for candidate in (found, *inner):
        if _is_state(candidate):
            state = OrderedDict(candidate)
            # layers read it to translate older layouts, so it has to survive the copy
            state._metadata = getattr(candidate, "_metadata", None)  # type: ignore[attr-defined]
            return state
    keys = f"a dict with {_listed('keys', map(str, found))}" if isinstance(found, Mapping) else type(found).__name__
    raise InputError(
        f"weights must be a state dict (names to tensors), or hold one as {' or '.join(map(repr, CONTAINERS[:3]))}; "
        f"got {keys} in {str(file)!r}."
    )


def _is_state(candidate: object) -> bool:
    return isinstance(candidate, Mapping) and bool(candidate) and all(isinstance(v, Tensor) for v in candidate.values())


def _fit(state: Mapping[str, Tensor], own: Mapping[str, Any]) -> OrderedDict[str, Tensor]:
    """``state`` under the names that the model uses."""

    def rename(name: str) -> str:
        name = name.removeprefix(prefix)
        # torchvision's published DenseNet files predate its present names: norm.1 for norm1
        modern = re.sub(r"(denselayer\d+\.(?:norm|conv))\.(\d)\.", r"\1\2.", name)
        return modern if modern in own else name

    prefix = _common_prefix([_bare(name) for name in state], own)
    fitted = OrderedDict((rename(_bare(name)), value) for name, value in state.items())
    metadata = getattr(state, "_metadata", None)
    if metadata is None:  # .npz and .safetensors keep none: take them as written by this version
        metadata = getattr(own, "_metadata", {})
    else:
        metadata = {_bare(f"{name}.").removeprefix(prefix).rstrip("."): value for name, value in metadata.items()}
    fitted._metadata = metadata  # type: ignore[attr-defined]
    return fitted


def _common_prefix(names: list[str], own: Mapping[str, Any]) -> str:
    prefix = ""
    while not any(name.removeprefix(prefix) in own for name in names):
        longer = next((p for p in PREFIXES if all(name.startswith(prefix + p) for name in names)), None)
        if longer is None:
            return prefix
        prefix += longer
    return prefix


def _bare(name: str) -> str:
    return name.replace("_orig_mod.", "")


def _listed(what: str, names: Iterable[str]) -> str:
    items = list(names)
    more = f" and {len(items) - 5} more" if len(items) > 5 else ""
    return f"{len(items)} {what} ({', '.join(items[:5])}{more})" if items else ""


def _brief(exc: Exception) -> str:
    return " ".join(str(exc).split())[:200] or type(exc).__name__
