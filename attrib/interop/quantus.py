"""Quantus measures our maps: `explain_func` is what its metrics call to explain."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from attrib.core import Attribution
from attrib.core.reduce import upsample
from attrib.errors import InputError
from attrib.registry import METHODS


def explain_func(method: str | Callable[..., Attribution], **options: Any) -> Explain:
    """Make a method the ``explain_func`` of Quantus: NumPy in, NumPy out, for whichever model it is called with.

    Convention:
        - returns ``(N, 1, H, W)`` at the resolution of the inputs, or ``(N, C, H, W)`` with ``channels="none"``; a
          layer's maps are resized.
        - signed and raw: Quantus normalises by itself, most of its metrics by the maximum of the whole batch.
        - nothing is kept between calls, so a model whose weights Quantus redraws is explained as it is then.

    Args:
        method: name of a registered method, or a class.
        options: of the method; ``explain_func_kwargs`` of Quantus' metrics override them.

    Example:
        >>> import numpy as np
        >>> explain = explain_func("gradcam", layer="conv3")
        >>> explain(model=model, inputs=x.numpy(), targets=np.array([3, 1])).shape
        (2, 1, 12, 12)
    """
    if isinstance(method, str):
        METHODS[method]  # a wrong name is told now, not in the middle of a measurement
    elif not callable(method):
        raise InputError(f"method must be a name or a class; got {method!r}.")
    return Explain(method, tuple(options.items()))


@dataclass(frozen=True)
class Explain:
    """What `explain_func` makes; it can be pickled, and compared."""

    method: str | Callable[..., Attribution]
    options: tuple[tuple[str, Any], ...] = ()

    def __call__(
        self,
        model: nn.Module,
        inputs: NDArray[Any],
        targets: NDArray[Any],
        device: str | torch.device | None = None,
        method: str | None = None,  # noqa: ARG002  the label that quantus.evaluate gives it
        **options: Any,
    ) -> NDArray[Any]:
        """Explain ``targets (N,)`` for ``inputs (N, C, H, W)``; ``device`` is the model's own if it is None."""
        weight = next(iter(model.parameters()), torch.zeros(()))
        x = torch.from_numpy(np.array(inputs, order="C")).to(device or weight.device, weight.dtype)
        make = METHODS[self.method] if isinstance(self.method, str) else self.method
        maps: Tensor = make(model, **{**dict(self.options), **options}).attribute(x, np.asarray(targets))
        if maps.shape[2:] != x.shape[2:]:
            maps = upsample(maps, tuple(x.shape[2:]))
        found: NDArray[Any] = maps.cpu().numpy()
        return found
