"""Class indices in every form that Captum and NumPy users pass, and their range."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from attrib.errors import TargetError

Index = int | tuple[int, ...] | Tensor


def as_index(target: Any) -> Index:
    """Return an int, a tuple (one position for all examples) or a LongTensor with one row per example."""
    if isinstance(target, (bool, np.bool_)):
        raise TargetError(f"target must be a class index; got the boolean {target!r}. Use int(...) if you mean 0 or 1.")
    if isinstance(target, (int, np.integer)):
        return int(target)
    if isinstance(target, tuple):
        return tuple(_whole(value, target) for value in target)
    if isinstance(target, np.ndarray):
        target = torch.from_numpy(np.ascontiguousarray(target))
    if isinstance(target, list):
        return _from_list(target)
    if isinstance(target, Tensor):
        return _from_tensor(target)
    raise TargetError(
        f"target must be a class index, a list, tuple, array or tensor of them, 'predicted', 'layer:channel', "
        f"an Objective or a callable; got {target!r}.{by_name(target)}"
    )


def by_name(value: object) -> str:
    """What to do with the name of a class, of which a bare model knows nothing; no words for what is no name."""
    return f" A LoadedModel knows the number of a class: net.index({value!r})." if isinstance(value, str) else ""


def _whole(value: Any, target: object) -> int:
    if isinstance(value, (bool, np.bool_)) or (isinstance(value, Tensor) and value.dtype == torch.bool):
        raise TargetError(f"target must hold class indices; got a boolean in {target!r}.")
    try:
        return int(value.__index__())
    except (AttributeError, TypeError, RuntimeError):
        raise TargetError(f"target must hold whole numbers; got {value!r} in {target!r}.{by_name(value)}") from None


def _from_list(target: list[Any]) -> Tensor:
    if not target:
        raise TargetError("target list must have one entry per example; got [].")
    rows = [
        tuple(_whole(v, target) for v in row) if isinstance(row, (tuple, list)) else (_whole(row, target),)
        for row in target
    ]
    if len({len(row) for row in rows}) > 1:
        raise TargetError(f"target list must hold positions of one length; got {target!r}.")
    return torch.tensor(rows)


def _from_tensor(target: Tensor) -> Index:
    if target.is_floating_point() or target.is_complex() or target.dtype == torch.bool:
        raise TargetError(
            f"target must hold whole numbers; got dtype {target.dtype}. Convert one-hot rows with .argmax(1)."
        )
    target = target.detach()
    if target.numel() == 1:
        return int(target.item())
    if target.ndim == 1 or (target.ndim == 2 and target.shape[1] == 1):
        return target.reshape(-1, 1).long()
    raise TargetError(f"target tensor must have shape (), (N,) or (N, 1); got {tuple(target.shape)}.")


def check_range(index: Tensor, output: Tensor) -> None:
    """``index (N, D)`` must address one number in each row of ``output (N, ...)``."""
    if len(index) != len(output):
        raise TargetError(f"target must have one entry per example (N={len(output)}); got {len(index)} entries.")
    if index.shape[1] != output.ndim - 1:
        need = f"{output.ndim - 1} indices" if output.ndim > 2 else "one index" if output.ndim == 2 else "no target"
        raise TargetError(
            f"target must give {need} for outputs of shape {tuple(output.shape)}; got {index.shape[1]}. "
            "Each example needs one number: pass a full position or a callable."
        )
    for values, size in zip(index.T, output.shape[1:], strict=True):
        bad = values[(values < 0) | (values >= size)]
        if len(bad):
            raise TargetError(
                f"target must lie in [0, {size - 1}] for a model with {size} outputs; got {int(bad[0])}. "
                "Pass 'predicted' to explain the model's own choice."
            )
