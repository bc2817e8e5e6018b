"""One forward pass: counted, and failing in words."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from attrib.core.network import cost
from attrib.errors import AttribError, ModelError


def forward(model: Callable[..., Any], inputs: Sequence[Tensor], extra: Sequence[object] = ()) -> Any:
    """Run ``model`` once; a RuntimeError of the model is told with the inputs that caused it."""
    cost.add(forwards=len(inputs[0]))
    try:
        return model(*inputs, *extra)
    except (AttribError, torch.OutOfMemoryError):
        raise
    except RuntimeError as exc:
        shapes = ", ".join(f"{tuple(x.shape)} {x.dtype} on {x.device}" for x in inputs)
        raise ModelError(f"the model failed on inputs {shapes}: {exc}") from exc
