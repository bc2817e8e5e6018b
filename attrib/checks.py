"""Argument checks: the one place that words messages about arguments.

Each check returns the checked value, so that it can be used inside an assignment. None of them depends on
``__debug__``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from importlib import import_module
from inspect import Parameter, isclass, signature
from types import ModuleType
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from attrib.errors import InputError, MissingDependency, OptionError, ShapeError, did_you_mean

V = TypeVar("V")

# What Captum, pytorch-grad-cam and others call our options.
_ELSEWHERE = {
    "abs": "absolute",
    "baseline": "baselines",
    "baselines": "baseline",
    "gpu_batch": "batch_size",
    "internal_batch_size": "batch_size",
    "masks": "n",
    "n_masks": "n",
    "patch": "window",
    "perturbations_per_eval": "batch_size",
    "random_state": "seed",
    "relu_attributions": "relu",
    "reshape_transform": "reshape",
    "sliding_window_shapes": "window",
    "strides": "stride",
}


def choice(what: str, value: V, options: Sequence[V]) -> V:
    """``value`` must be one of ``options``."""
    if value not in options:
        hint = did_you_mean(str(value), [str(o) for o in options])
        raise InputError(f"{what} must be one of {', '.join(map(repr, options))}; got {value!r}.{hint}")
    return value


def boolean(what: str, value: object) -> bool:
    """``value`` must be True or False (NumPy's count); a text such as ``"no"`` would be taken for True."""
    if not isinstance(value, (bool, np.bool_)):
        raise InputError(f"{what} must be True or False; got {value!r}.")
    return bool(value)


def integer(what: str, value: object, minimum: int | None = None) -> int:
    """``value`` must be a whole number (NumPy integers count, booleans do not) of at least ``minimum``."""
    bound = "" if minimum is None else f" >= {minimum}"
    try:
        number = int(value.__index__())  # type: ignore[attr-defined]
    except (AttributeError, TypeError):
        raise InputError(f"{what} must be an integer{bound}; got {value!r}.") from None
    if isinstance(value, bool) or (minimum is not None and number < minimum):
        raise InputError(f"{what} must be an integer{bound}; got {value!r}.")
    return number


def sides(what: str, value: object, axes: int | None = None) -> tuple[int, ...]:
    """``value`` must be one integer for every axis, or one per axis, (height, width); with ``axes`` all are given back.

    Example:
        >>> sides("window", 3, axes=2), sides("window", (3, 4), axes=2), sides("window", 3)
        ((3, 3), (3, 4), (3,))
    """
    items = tuple(value) if isinstance(value, (tuple, list, torch.Size)) else (value,)
    found = tuple(integer(what, item, 1) for item in items)
    if not found or (axes is not None and len(found) not in (1, axes)):
        some = "one per axis" if axes is None else f"{axes}, one per axis"
        raise InputError(f"{what} must be an int or a tuple of {some}; got {value!r}.")
    return found * axes if axes is not None and len(found) == 1 else found


def number(what: str, value: object, low: float = float("-inf"), high: float = float("inf")) -> float:
    """``value`` must be a finite real number in ``[low, high]``."""
    try:
        real = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        real = float("nan")
    if isinstance(value, bool) or not low <= real <= high or real in (float("inf"), float("-inf")):
        raise InputError(f"{what} must be a finite number in [{low:g}, {high:g}]; got {value!r}.")
    return real


def shape(tensor: Tensor, pattern: str, what: str = "maps", **sizes: int) -> Tensor:
    """``tensor`` must match ``pattern``, such as ``"n 1 h w"``; letters bind sizes, ``sizes`` fixes some.

    Example:
        >>> shape(torch.zeros(4, 1, 7, 7), "n 1 h w", n=4).shape
        torch.Size([4, 1, 7, 7])
    """
    axes = pattern.split()
    bound = dict(sizes)
    fits = tensor.ndim == len(axes)
    for axis, size in zip(axes, tensor.shape, strict=False):
        fits = fits and size == (int(axis) if axis.isdigit() else bound.setdefault(axis, size))
    if not fits:
        names = [axis if axis.isdigit() else axis.upper() for axis in axes]
        known = [f"{a}={sizes[a.lower()]}" if a.lower() in sizes else a for a in names]
        raise ShapeError(f"{what} must have shape ({', '.join(known)}); got {tuple(tensor.shape)}.")
    return tensor


def batch(inputs: object) -> tuple[Tensor, ...]:
    """``inputs`` must be floating-point, finite tensors with one common, non-zero batch size."""
    items = inputs if isinstance(inputs, tuple) else (inputs,)
    if not items:
        raise InputError("inputs must be a Tensor or a non-empty tuple of Tensors; got ().")
    for item in items:
        if not isinstance(item, Tensor):
            hint = " Convert it with torch.from_numpy." if type(item).__module__ == "numpy" else ""
            raise InputError(f"inputs must be a Tensor or a tuple of Tensors; got {type(item).__name__}.{hint}")
        _one(item)
    if len({len(item) for item in items}) > 1:
        raise ShapeError(f"inputs must share one batch size; got {[len(item) for item in items]}.")
    return items


def _one(item: Tensor) -> None:
    if item.is_nested or item.is_meta or item.layout is not torch.strided:
        kind = "nested" if item.is_nested else "without values, on the meta device" if item.is_meta else item.layout
        raise InputError(f"inputs must be dense tensors with values; got one that is {kind}.")
    if not item.is_floating_point():
        raise InputError(
            f"inputs must be floating point; got {item.dtype}. Convert and normalise as the model expects; "
            "pass token ids and other whole numbers as additional_forward_args."
        )
    if item.ndim < 2 or 0 in item.shape:
        raise ShapeError(
            f"inputs must have shape (N, C, H, W) with no empty axis; got {tuple(item.shape)}. "
            "One image needs a batch axis: x[None]."
        )
    if not finite(item):
        bad = int((~torch.isfinite(item)).sum())
        raise InputError(f"inputs must be finite; got {bad} NaN or infinite values of {item.numel()}.")


def arguments(given: object) -> tuple[Any, ...]:
    """Further arguments of a model as Captum takes them: one, a tuple of them, or None for none."""
    if given is None:
        return ()
    return given if isinstance(given, tuple) else (given,)


def finite(item: Tensor) -> bool:
    """Tell whether all values are finite; a finite sum proves it, at a twentieth of the cost.

    Example:
        >>> [finite(torch.tensor(values)) for values in ([3e38, 3e38], [float("inf"), -float("inf")], [float("nan")])]
        [True, False, False]
    """
    return bool(torch.isfinite(item.sum())) or bool(torch.isfinite(item).all())


def require(package: str, purpose: str, extra: str) -> ModuleType:
    """Import an optional ``package``, or say which extra brings it."""
    try:
        return import_module(package)
    except ImportError as exc:
        raise MissingDependency(f"{purpose} needs {package}: pip install 'attrib[{extra}]'.") from exc


def our_name(name: str, known: Iterable[str]) -> str | None:
    """The option of ``known`` that other libraries call ``name``, or that is called so; None if there is none."""
    return next((one for one in known if one in (name, _ELSEWHERE.get(name))), None)


def unknown_options(what: str, given: Iterable[str], known: Sequence[str]) -> None:
    """Refuse keyword arguments that nobody reads."""
    for name in given:
        if name not in known:
            ours = our_name(name, known)
            hint = f" Did you mean {ours!r}?" if ours else did_you_mean(name, known)
            raise OptionError(f"{what} has no option {name!r}.{hint} Known: {', '.join(known)}.")


_INSTEAD = {
    "attribute_to_layer_input": "Name the input of the layer: layer='NAME@input'.",
    "return_convergence_delta": "METRICS['completeness'] measures what is missing.",
}


def misplaced_options(method: str, given: Iterable[str], known: Sequence[str]) -> None:
    """Refuse arguments of ``attribute``, and say which of the options ``known`` of the constructor they are."""
    ours = [our_name(name, known) for name in given]
    hints = [_INSTEAD[name] for name in given if name in _INSTEAD]
    if moved := ", ".join(f"{name}=..." for name in ours if name):
        hints.append(f"Options belong to the constructor: {method}(model, {moved}).")
    if not hints:
        names = ("inputs", "target", "layer", "additional_forward_args")
        near = "".join(did_you_mean(name, [*names, *known]) for name in given).strip()
        hints = [*filter(None, [near]), f"Options of the constructor: {', '.join(known) or 'none'}."]
    raise OptionError(
        f"{method}.attribute takes inputs, target, layer and additional_forward_args; got "
        f"{', '.join(map(repr, given))}. {' '.join(hints)}"
    )


def keywords(made: Any) -> tuple[str, ...]:
    """Names of the arguments that a function, or the constructor of a class and of its bases, takes after the model."""
    found: dict[str, None] = {}
    for function in [base.__init__ for base in made.__mro__] if isclass(made) else [made]:  # type: ignore[misc]
        parameters = signature(function).parameters.values()
        found |= {one.name: None for one in parameters if one.kind in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY)}
        if all(one.kind is not Parameter.VAR_KEYWORD for one in parameters):
            break  # nothing is handed on to the next base
    return tuple(name for name in found if name not in ("self", "model", "layer"))
