"""Captum's gradient classes under their own names, with the backward rules that Captum's hooks do not reach."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import captum.attr
import torch
from captum.log import log_usage
from torch import Tensor, nn

from attrib.core import Coverage, deconv, guided
from attrib.core.backward.activations import SMOOTH
from attrib.core.backward.rules import Rule, override, rules
from attrib.core.network.frozen import run_eagerly
from attrib.interop.lent import either_name, lent, module_at, tensors_of

Maps = Any  # Tensor, or a tuple of them for a tuple of inputs


class Saliency(captum.attr.Saliency):  # type: ignore[misc]  # Captum ships no types
    """`captum.attr.Saliency` that gives the inputs back as they were, also when the model raises."""

    @either_name
    def __init__(self, forward_func: Callable[..., Tensor]) -> None:
        super().__init__(forward_func)

    @log_usage(part_of_slo=True)  # type: ignore[untyped-decorator]
    def attribute(
        self,
        inputs: Maps,
        target: Any = None,
        abs: bool = True,  # Captum's name
        additional_forward_args: object = None,
    ) -> Maps:
        """See `captum.attr.Saliency.attribute`."""
        with lent(inputs, gradients=True):
            return super().attribute.__wrapped__(self, inputs, target, abs, additional_forward_args)


class InputXGradient(captum.attr.InputXGradient):  # type: ignore[misc]
    """`captum.attr.InputXGradient` that gives the inputs back as they were, also when the model raises."""

    @either_name
    def __init__(self, forward_func: Callable[..., Tensor]) -> None:
        super().__init__(forward_func)

    @log_usage(part_of_slo=True)  # type: ignore[untyped-decorator]
    def attribute(self, inputs: Maps, target: Any = None, additional_forward_args: object = None) -> Maps:
        """See `captum.attr.InputXGradient.attribute`."""
        with lent(inputs, gradients=True):
            return super().attribute.__wrapped__(self, inputs, target, additional_forward_args)


class _Watch(rules):
    """`rules` that note what they covered in the first graph that is differentiated."""

    seen: Coverage | None = None

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is torch.autograd.grad and self.seen is None:
            outputs = args[0] if args else (kwargs or {})["outputs"]
            with torch.enable_grad():  # one node above all outputs, so that one search finds the whole graph
                self.seen = self.coverage(torch.stack([out.sum() for out in tensors_of(outputs)]).sum())
        return super().__torch_function__(func, types, args, kwargs)


def _spare_leaves(_: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
    """Give the model clones: it may change its input in place, which autograd forbids on a leaf."""
    return tuple(a.clone() if isinstance(a, Tensor) and a.requires_grad and a.is_leaf else a for a in args)


def _has_replicas(model: nn.Module) -> bool:
    return isinstance(model, nn.DataParallel) and len(model.device_ids) > 1


def _ruled(method: Any, rule: Rule, inputs: object, target: object, extra: object) -> tuple[Tensor, ...]:
    """Differentiate with Captum's own gradient function under ``rule``; see `rules`."""
    if not isinstance(inputs, (Tensor, tuple)):
        raise AssertionError(f"inputs must be a Tensor or a tuple of Tensors; got {type(inputs).__name__}.")  # noqa: TRY004  Captum's
    watch = _Watch(**override(rule, "rectifiers"))
    with ExitStack() as undo:
        undo.callback(method.model.register_forward_pre_hook(_spare_leaves).remove)
        undo.enter_context(lent(inputs, gradients=True))
        undo.enter_context(run_eagerly())
        undo.enter_context(watch)
        grads: tuple[Tensor, ...] = method.gradient_func(method.forward_func, tensors_of(inputs), target, extra)
    if watch.seen and not (method.up_to_neuron and watch.seen == Coverage({}, {}, {})):
        _warn(type(method).__name__, watch.seen)
    return grads


def _warn(name: str, seen: Coverage) -> None:
    """Say what kept its true gradient: Captum gives that number too, but silently."""
    if seen.escaped:
        text = "Those that are left run in scripted, compiled or checkpointed code: pass the plain eager module."
    elif not seen.overrode:
        text = (
            f"This is the plain gradient, as {seen.alone}. attrib's own method can override others: activations='all'."
        )
    elif any(family in SMOOTH for family in seen.left):
        text = "The rule is not defined for smooth activations; attrib's own method takes activations='all'."
    else:
        return
    warnings.warn(f"{name} {seen}. {text}", stacklevel=5)


class GuidedBackprop(captum.attr.GuidedBackprop):  # type: ignore[misc]
    """`captum.attr.GuidedBackprop` with the rule on every rectifier, however it is called, and on its branch only."""

    up_to_neuron = False  # a neuron may lie before the first activation; then nothing is to be overridden

    @either_name
    def __init__(self, model: nn.Module) -> None:
        super().__init__(model)

    @log_usage(part_of_slo=True)  # type: ignore[untyped-decorator]
    def attribute(self, inputs: Maps, target: Any = None, additional_forward_args: object = None) -> Maps:
        """See `captum.attr.GuidedBackprop.attribute`."""
        if _has_replicas(self.model):  # they run in threads of their own, which hooks reach and rules do not
            with lent(inputs, gradients=True):
                return super().attribute.__wrapped__(self, inputs, target, additional_forward_args)
        grads = _ruled(self, guided, inputs, target, additional_forward_args)
        return grads if isinstance(inputs, tuple) else grads[0]


class Deconvolution(captum.attr.Deconvolution):  # type: ignore[misc]
    """`captum.attr.Deconvolution` with the rule on every rectifier, however it is called, and on its branch only."""

    up_to_neuron = False  # a neuron may lie before the first activation; then nothing is to be overridden

    @either_name
    def __init__(self, model: nn.Module) -> None:
        super().__init__(model)

    @log_usage(part_of_slo=True)  # type: ignore[untyped-decorator]
    def attribute(self, inputs: Maps, target: Any = None, additional_forward_args: object = None) -> Maps:
        """See `captum.attr.Deconvolution.attribute`."""
        if _has_replicas(self.model):
            with lent(inputs, gradients=True):
                return super().attribute.__wrapped__(self, inputs, target, additional_forward_args)
        grads = _ruled(self, deconv, inputs, target, additional_forward_args)
        return grads if isinstance(inputs, tuple) else grads[0]


class NeuronGuidedBackprop(captum.attr.NeuronGuidedBackprop):  # type: ignore[misc]
    """`captum.attr.NeuronGuidedBackprop` with the rule of our `GuidedBackprop`; ``layer`` may be a dotted name."""

    @either_name
    def __init__(self, model: nn.Module, layer: nn.Module | str, device_ids: list[int] | None = None) -> None:
        super().__init__(model, module_at(model, layer), device_ids)
        self.guided_backprop = GuidedBackprop(model)
        self.guided_backprop.up_to_neuron = True


class NeuronDeconvolution(captum.attr.NeuronDeconvolution):  # type: ignore[misc]
    """`captum.attr.NeuronDeconvolution` with the rule of our `Deconvolution`; ``layer`` may be a dotted name."""

    @either_name
    def __init__(self, model: nn.Module, layer: nn.Module | str, device_ids: list[int] | None = None) -> None:
        super().__init__(model, module_at(model, layer), device_ids)
        self.deconv = Deconvolution(model)
        self.deconv.up_to_neuron = True
