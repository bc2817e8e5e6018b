"""Where the options of a Captum class go."""

from __future__ import annotations

from collections.abc import Callable
from inspect import Parameter, signature
from typing import Any

import captum.attr
from captum.log import log_usage
from torch import nn

from attrib.errors import InputError


class LayerSaliency(captum.attr.LayerGradientXActivation):  # type: ignore[misc]  # Captum ships no types
    """The gradient at a layer, which Captum has under another name."""

    def __init__(self, forward_func: Callable[..., Any], layer: nn.Module) -> None:
        super().__init__(forward_func, layer, multiply_by_inputs=False)

    @log_usage()  # type: ignore[untyped-decorator]  # NoiseTunnel calls what it wraps
    def attribute(  # noqa: D102
        self,
        inputs: Any,
        target: Any = None,
        abs: bool = True,
        additional_forward_args: Any = None,
        attribute_to_layer_input: bool = False,
    ) -> Any:
        found = super().attribute.__wrapped__(
            self, inputs, target, additional_forward_args, attribute_to_layer_input=attribute_to_layer_input
        )
        return found.abs() if abs else found


_RENAMED = {"InputXGradient": captum.attr.LayerGradientXActivation, "Saliency": LayerSaliency}


def at_layer(captum_class: type[Any]) -> type[Any] | None:
    """The class that does at a layer what ``captum_class`` does at the inputs, if Captum has one."""
    name = captum_class.__name__
    return _RENAMED.get(name) or getattr(captum.attr, f"Layer{name}", None)


_GIVEN = ("self", "forward_func", "model", "layer", "device_ids", "inputs", "target", "additional_forward_args")
_UNFIT = ("return_convergence_delta", "return_input_shape")  # they change what comes back: maps do


def _parameters(function: object) -> dict[str, Parameter]:
    """Named parameters of ``function`` that users choose."""
    found = signature(function).parameters  # type: ignore[arg-type]
    variable = (Parameter.VAR_KEYWORD, Parameter.VAR_POSITIONAL)
    return {k: p for k, p in found.items() if p.kind not in variable and k not in (*_GIVEN, *_UNFIT)}


class Options:
    """Options of a Captum class, and where each goes: constructor, ``attribute``, or `NoiseTunnel` around them."""

    def __init__(self, captum_class: type[Any]) -> None:
        self.name = captum_class.__name__
        self.constructor = _parameters(captum_class.__init__)
        self.call = _parameters(captum_class.attribute)
        self.tunnel = {k: p for k, p in _parameters(captum.attr.NoiseTunnel.attribute).items() if k not in self.call}

    @property
    def names(self) -> tuple[str, ...]:
        """All of them."""
        return (*self.constructor, *self.call, *self.tunnel)

    def require(self, given: dict[str, Any]) -> None:
        """Nothing that Captum needs may be missing."""
        for name, parameter in {**self.constructor, **self.call}.items():
            if parameter.default is Parameter.empty and name not in given:
                raise InputError(f"{name} must be given for Captum's {self.name}; got nothing. Pass {name}=...")

    @property
    def draws_baselines(self) -> bool:
        """Whether ``baselines`` are samples to draw from (GradientShap, DeepLiftShap): only those have no default."""
        return "baselines" in self.call and self.call["baselines"].default is Parameter.empty
