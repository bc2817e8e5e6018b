"""Captum's Grad-CAM classes under their own names."""

from __future__ import annotations

import threading
import warnings
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import captum.attr
from captum.log import log_usage
from torch import Tensor, nn

from attrib.core.network.frozen import run_eagerly
from attrib.interop.gradients import GuidedBackprop, Maps
from attrib.interop.lent import either_name, lent, module_at


class LayerGradCam(captum.attr.LayerGradCam):  # type: ignore[misc]  # Captum ships no types
    """`captum.attr.LayerGradCam`; ``layer`` may be a dotted name.

    A tuple of *one* input gives a tuple of one map, so that `captum.metrics.sensitivity_max` does not take the map
    apart along the batch. A layer that runs several times is explained at its last run, as in Captum, with a warning.
    """

    @either_name
    def __init__(
        self, forward_func: Callable[..., Tensor], layer: nn.Module | str, device_ids: list[int] | None = None
    ) -> None:
        super().__init__(forward_func, module_at(forward_func, layer), device_ids)

    @log_usage(part_of_slo=True)  # type: ignore[untyped-decorator]
    def attribute(  # Captum's order
        self,
        inputs: Maps,
        target: Any = None,
        additional_forward_args: object = None,
        attribute_to_layer_input: bool = False,
        relu_attributions: bool = False,
        attr_dim_summation: bool = True,
        grad_kwargs: dict[str, Any] | None = None,
    ) -> Maps:
        """See `captum.attr.LayerGradCam.attribute`."""
        runs: Counter[int] = Counter()  # replicas run in threads of their own
        with ExitStack() as undo:
            hook = self.layer.register_forward_hook(lambda *_: runs.update([threading.get_ident()]))
            undo.callback(hook.remove)
            undo.enter_context(lent(inputs, gradients=False))
            undo.enter_context(run_eagerly())
            maps = super().attribute.__wrapped__(
                self,
                inputs,
                target,
                additional_forward_args,
                attribute_to_layer_input,
                relu_attributions,
                attr_dim_summation,
                grad_kwargs,
            )
        if (most := max(runs.values(), default=0)) > 1:
            warnings.warn(
                f"the layer ran {most} times in one forward pass; this is Grad-CAM at the last run, as in Captum. "
                "attrib.GradCAM takes addresses such as 'relu#0'.",
                stacklevel=3,
            )
        return (maps,) if isinstance(inputs, tuple) and len(inputs) == 1 and isinstance(maps, Tensor) else maps


class GuidedGradCam(captum.attr.GuidedGradCam):  # type: ignore[misc]
    """`captum.attr.GuidedGradCam` of our `LayerGradCam` and `GuidedBackprop`; ``layer`` may be a dotted name."""

    @either_name
    def __init__(self, model: nn.Module, layer: nn.Module | str, device_ids: list[int] | None = None) -> None:
        layer = module_at(model, layer)
        super().__init__(model, layer, device_ids)
        self.grad_cam = LayerGradCam(model, layer, device_ids)
        self.guided_backprop = GuidedBackprop(model)
