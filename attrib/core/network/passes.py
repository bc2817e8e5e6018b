"""One forward pass: counted, and failing in words."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from attrib.core.network import cost
from attrib.errors import AttribError, ModelError

# What Python and torch raise where something does not fit; an exception of the model's own comes through as it is.
_USUAL = (RuntimeError, ValueError, TypeError, LookupError, AttributeError, AssertionError, ArithmeticError)


def forward(model: Callable[..., Any], inputs: Sequence[Tensor], extra: Sequence[object] = ()) -> Any:
    """Run ``model`` once; a usual error of the model is told with the inputs that caused it."""
    if len(inputs[0]) > 1:
        _refuse_batch_statistics(model)
    cost.add(forwards=len(inputs[0]))
    try:
        return model(*inputs, *extra)
    except (AttribError, torch.OutOfMemoryError):
        raise
    except _USUAL as exc:
        shapes = ", ".join(f"{tuple(x.shape)} {x.dtype} on {x.device}" for x in inputs)
        kind = "" if isinstance(exc, RuntimeError) else f"{type(exc).__name__}: "
        raise ModelError(f"the model failed on inputs {shapes}: {kind}{exc}{_remedy(model)}") from exc


def _refuse_batch_statistics(model: Callable[..., Any]) -> None:
    for name, part in model.named_modules() if isinstance(model, nn.Module) else ():
        if isinstance(part, _BatchNorm) and part.running_mean is None and not getattr(part, "training", False):
            raise ModelError(
                f"BatchNorm must have running statistics in evaluation mode; {name!r} has none "
                "(track_running_stats=False), so that each example would change the scores of the others in its "
                "batch. Give it statistics, use GroupNorm or InstanceNorm, or pass one example, with batch_size=1 "
                "where the method takes it."
            )


def _remedy(model: Callable[..., Any]) -> str:
    """What to do where autograd cannot go through the weights."""
    weights = [*model.parameters(), *model.buffers()] if isinstance(model, nn.Module) else []
    if not torch.is_grad_enabled() or not any(weight.is_inference() for weight in weights):
        return ""
    return (
        " The weights were made under torch.inference_mode(), and no gradient goes through such tensors: explain "
        "copy.deepcopy(model), made outside of that block."
    )
