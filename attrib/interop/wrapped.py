"""`from_captum`: Captum's input and layer methods as methods of this package."""

from __future__ import annotations

import random
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partialmethod
from inspect import isclass, signature
from textwrap import shorten
from typing import Any, ClassVar

import captum.attr
import numpy as np
import torch
from torch import Tensor, nn

from attrib import checks
from attrib.core import Attribution, ClassScore, Query, resolve_baseline
from attrib.core.layers import Address, modules_of
from attrib.core.reduce import Channels, check_channels, reduce_channels
from attrib.errors import AttribError, InputError, LayerError, MissingDependency, ModelError, RegistryError, TargetError
from attrib.interop.options import Options
from attrib.interop.scored import Scored, numbers, untouched
from attrib.registry import METHODS

_NORMAL = (  # said on every normal use
    r"Input Tensor \d+ did not already require gradients",
    "Setting backward hooks on ReLU activations",
    "Setting forward, backward hooks and attributes on non-linear",
    "You are providing multiple inputs for Lime / Kernel SHAP",
)


class FromCaptum(Attribution):
    """A method of Captum behind our door; `from_captum` makes the classes.

    Convention:
        - map: the method's attributions, with channels reduced: ``(N, 1, H, W)``, or the layer's ``(N, 1, h, w)``.
        - the class and other goals are decided once, on the clean input.
        - ``baselines`` takes our forms too, see `resolve_baseline`; ``feature_mask`` may be a function of the inputs.
        - NoiseTunnel goes around the method as soon as one of its options (``nt_samples`` ...) is given.
        - goals that are not linear in the output (a probability) break the completeness of DeepLift, as they are
          differentiated.

    Cost: one forward pass more than in Captum, which settles the goal.

    Args:
        model: see `Attribution`.
        layer: for layer methods: a layer that runs once; ``"name@input"`` for its input.
        channels: ``"sum"``, ``"max"``, ``"mean"``, ``"l2"`` or ``"none"``, which is what Captum returns.
        absolute: take absolute values before reducing.
        seed: of the noise, samples and permutations; the global random states are not touched.
        options: override those of `from_captum`.
    """

    captum_class: ClassVar[type[Any]]

    def __init__(
        self,
        model: Callable[..., Any],
        layer: str | nn.Module | None = None,
        *,
        channels: Channels = "sum",
        absolute: bool = False,
        seed: int = 0,
        **options: Any,
    ) -> None:
        super().__init__(model, layer)
        self.known = known = Options(self.captum_class)
        known.check(options)
        known.require(options)
        if "model" in signature(self.captum_class.__init__).parameters and not isinstance(self.model, nn.Module):
            raise ModelError(
                f"model must be an nn.Module for Captum's {known.name}, which hooks modules; got {self.model!r}."
            )
        self.channels = check_channels(channels)
        self.absolute = absolute
        self.seed = checks.integer("seed", seed, 0)
        self.constructor = {k: v for k, v in options.items() if k in known.constructor}
        self.options = {k: v for k, v in options.items() if k not in known.constructor}
        self.tunnel = any(k in known.tunnel for k in options)

    @property
    def multiplies_by_inputs(self) -> bool:  # noqa: D102
        return bool(self._method(self.model, None).multiplies_by_inputs)

    def _method(self, forward: Callable[..., Any], layer: nn.Module | None) -> Any:
        """The Captum object for ``forward``."""
        method = self.captum_class(forward, *((layer,) if self.needs_layer else ()), **self.constructor)
        return captum.attr.NoiseTunnel(method) if self.tunnel else method

    def _attribute(self, query: Query) -> Tensor | tuple[Tensor, ...]:
        if query.layer and not self.needs_layer:
            raise LayerError(
                f"Captum's {self.captum_class.__name__} explains inputs, not layers; got layer {query.layer!r}. "
                f"Use from_captum(Layer{self.captum_class.__name__}) if Captum has it."
            )
        self._check_goal(query)
        layer, options = self._place(query)
        with self._borrowed(query):
            method = self._method(Scored(query), layer)
            inputs: Any = tuple(x.detach().requires_grad_(self._hooks_tensors) for x in query.inputs)
            inputs = inputs if len(inputs) > 1 else inputs[0]
            found = method.attribute(inputs, additional_forward_args=(numbers(query.inputs),), **options)
        maps = found if isinstance(found, tuple) else (found,)
        reduced = tuple(
            reduce_channels(m.detach().to(query.inputs[0].dtype), self.channels, self.absolute) for m in maps
        )
        return reduced[0] if self.needs_layer and len(reduced) == 1 else reduced

    @property
    def _hooks_tensors(self) -> bool:
        """Whether Captum hooks tensors that need no gradient as long as the weights are frozen (LayerDeepLift)."""
        return issubclass(self.captum_class, captum.attr.DeepLift)

    def _check_goal(self, query: Query) -> None:
        goal = query.clean.goal
        is_class = isinstance(goal, ClassScore) and goal.space == "logit"
        if issubclass(self.captum_class, (captum.attr.LRP, captum.attr.LayerLRP)) and not is_class:
            raise TargetError(
                "target must be one class score (logit) for LRP, which hands the score itself down; "
                f"got {query.objective!r}. Explain differences as differences of maps."
            )

    def _place(self, query: Query) -> tuple[nn.Module | None, dict[str, Any]]:
        """The layer as a module, and the options of this call."""
        options = {k: self._resolved(k, v, query) for k, v in self.options.items()}
        if query.layer is None:
            return None, options
        at = Address.parse(query.layer)
        if query.clean.acts.calls(query.layer) > 1:
            raise LayerError(
                f"layer must run once for Captum's methods, which cannot choose between calls; {at.name!r} ran "
                f"{query.clean.acts.calls(query.layer)} times. Name the module around it, or use a method of attrib."
            )
        if at.side == "input":
            if "attribute_to_layer_input" not in self.known.call:
                raise LayerError(f"{self.captum_class.__name__} explains outputs of layers only; got {query.layer!r}.")
            options["attribute_to_layer_input"] = True
        query.clean.acts[query.layer]  # must be one Tensor
        return modules_of(query.model)[at.name], options

    def _resolved(self, name: str, value: Any, query: Query) -> Any:
        """Our forms of baselines and masks as Captum's."""
        if name == "feature_mask":
            masks = value(*query.inputs) if callable(value) else value
            return masks.contiguous() if isinstance(masks, Tensor) else masks  # ShapleyValueSampling takes views of it
        if name != "baselines" or value is None or self.known.draws_baselines:
            return value
        given = value if isinstance(value, tuple) else (value,) * len(query.inputs)
        if len(given) != len(query.inputs):
            raise InputError(
                f"baselines must be one for all or one for each of {len(query.inputs)} inputs; got {len(given)}."
            )
        found = tuple(
            b if isinstance(b, (int, float)) else resolve_baseline(b, x).expand_as(x).contiguous()
            for b, x in zip(given, query.inputs, strict=True)
        )
        return found if len(found) > 1 else found[0]

    @contextmanager
    def _borrowed(self, query: Query) -> Iterator[None]:
        """Captum's warnings, random numbers, leftovers and exceptions, made ours."""
        name = self.captum_class.__name__
        with ExitStack() as undo:
            undo.callback(np.random.set_state, np.random.get_state())  # noqa: NPY002  GradientShap draws from it
            undo.callback(random.setstate, random.getstate())
            undo.enter_context(untouched(query.model))
            undo.enter_context(warnings.catch_warnings())
            for message in _NORMAL:
                warnings.filterwarnings("ignore", message)
            torch.default_generator.manual_seed(self.seed)  # `frozen` puts torch's states back
            if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
                torch.cuda.manual_seed_all(self.seed)
            np.random.seed(self.seed)  # noqa: NPY002
            random.seed(self.seed)
            try:
                yield
            except (AttribError, torch.OutOfMemoryError):
                raise
            except (AssertionError, ValueError) as exc:
                if "sklearn is not available" in str(exc):
                    raise MissingDependency(f"Captum's {name} needs scikit-learn: pip install scikit-learn.") from exc
                raise InputError(f"the options must suit Captum's {name}; it says: {_short(exc)}") from exc
            except (RuntimeError, TypeError) as exc:
                raise ModelError(f"Captum's {name} failed: {_short(exc)}") from exc


def _short(exc: Exception) -> str:
    """The message on one line; Captum puts whole tensors into some."""
    return shorten(str(exc), 300, placeholder=" ...")


def from_captum(captum_class: type[Any], *, name: str | None = None, **options: Any) -> type[FromCaptum]:
    """Make a method of Captum a registered method like ours.

    Args:
        captum_class: any class of ``captum.attr`` that explains inputs or a layer, such as ``IntegratedGradients``,
            ``KernelShap`` or ``LayerGradientXActivation``.
        name: key in `METHODS`; ``"integrated_gradients"`` for ``IntegratedGradients`` if None.
        options: of the class's constructor, of its ``attribute``, of `NoiseTunnel` (which then goes around it) and of
            `FromCaptum`.

    Returns:
        A class to be used like ours: ``Method(model, layer).attribute(x, target, layer)``.

    Example:
        >>> from captum.attr import IntegratedGradients
        >>> Method = from_captum(IntegratedGradients, n_steps=8)
        >>> Method(model).attribute(x, target="predicted").shape
        torch.Size([2, 1, 12, 12])
    """
    _check_class(captum_class)
    Options(captum_class).check(options)
    key = name or re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", captum_class.__name__).lower()
    if key in METHODS:  # looking loads ours, whose names are theirs
        raise RegistryError(
            f"name must be new; {key!r} is already {METHODS[key]!r}. Pass another: "
            f"from_captum({captum_class.__name__}, name='captum_{key}')."
        )
    made = type(
        captum_class.__name__,
        (FromCaptum,),
        {
            "__doc__": f"Captum's {captum_class.__name__}, see `FromCaptum`; {options or 'no options'}.",
            "__module__": __name__,
            "__init__": partialmethod(FromCaptum.__init__, **options),
            "captum_class": captum_class,
            "needs_layer": "layer" in signature(captum_class.__init__).parameters,
        },
    )
    METHODS.add(key)(made)
    return made


def _check_class(captum_class: object) -> None:
    wanted = "captum_class must be a class of captum.attr that explains inputs or a layer"
    if not (isclass(captum_class) and issubclass(captum_class, captum.attr.Attribution)):
        raise InputError(f"{wanted}; got {captum_class!r}.")
    name = captum_class.__name__
    if issubclass(captum_class, Attribution):
        raise InputError(f"{wanted}; {name} is a method of attrib already.")
    if issubclass(captum_class, captum.attr.NeuronAttribution):
        raise InputError(f"{wanted}; got {name}. A neuron is a target here: use the input method and target='layer:7'.")
    if issubclass(captum_class, captum.attr.NoiseTunnel):
        raise InputError(f"{wanted}; got {name}. Pass the method inside it together with nt_type=, nt_samples= ...")
    takes = signature(getattr(captum_class, "attribute", lambda: None)).parameters
    if not {"inputs", "additional_forward_args"} <= set(takes):
        raise InputError(f"{wanted}; got {name}, which explains something else.")
