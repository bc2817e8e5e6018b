"""`from_captum`: Captum's input and layer methods as methods of this package."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partialmethod
from inspect import isclass, signature
from typing import Any, ClassVar

import captum.attr
import torch
from torch import Tensor, nn

from attrib import checks
from attrib.core import Attribution, ClassScore, Query
from attrib.core.layer_map import reduced
from attrib.core.network.layers import Address, modules_of
from attrib.core.reduce import Channels, check_channels
from attrib.errors import InputError, LayerError, ModelError, RegistryError, TargetError
from attrib.interop.forms import filled, labels
from attrib.interop.options import Options, at_layer
from attrib.interop.scored import Scored, borrowed
from attrib.registry import METHODS


class FromCaptum(Attribution):
    """A method of Captum behind our door; `from_captum` makes the classes.

    Convention:
        - map: the method's attributions, with channels reduced: ``(N, 1, H, W)``, or the layer's ``(N, 1, h, w)``;
          tokens without a location are left out.
        - the class and other goals are decided once, on the clean input.
        - an input method explains a layer by the class that Captum has for layers (``LayerIntegratedGradients`` for
          ``IntegratedGradients``); where Captum has none, a layer is refused.
        - ``baselines`` takes our forms too, see `resolve_baseline`; ``feature_mask`` may be a function of the inputs.
        - NoiseTunnel goes around the method as soon as one of its options (``nt_samples`` ...) is given.
        - goals that are not linear in the output (a probability) break the completeness of DeepLift, as they are
          differentiated.

    Cost: one forward pass more than in Captum, which settles the goal.

    Args:
        model: see `Attribution`.
        layer: a layer that runs once; ``"name@input"`` for its input.
        channels: ``"sum"``, ``"max"``, ``"mean"``, ``"l2"`` or ``"none"``, which is what Captum returns.
        absolute: take absolute values before reducing.
        seed: of the noise, samples and permutations; the global random states are not touched.
        options: override those of `from_captum`.
    """

    captum_class: ClassVar[type[Any]]
    together: int | None = None  # examples in one call of Captum; None for all

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
        checks.unknown_options(type(self).__name__, options, self.option_names())
        known.require(options)
        if "model" in signature(self.captum_class.__init__).parameters and not isinstance(self.model, nn.Module):
            raise ModelError(
                f"model must be an nn.Module for Captum's {known.name}, which hooks modules; got {self.model!r}."
            )
        self.channels = check_channels(channels)
        self.absolute = absolute
        self.seed = checks.integer("seed", seed, 0)
        self.given = options
        self.tunnel = any(k in known.tunnel for k in options)

    @classmethod
    def option_names(cls) -> tuple[str, ...]:  # noqa: D102
        return tuple(dict.fromkeys([*checks.keywords(cls), *Options(cls.captum_class).names]))

    @property
    def multiplies_by_inputs(self) -> bool:  # noqa: D102
        return bool(self._method(self.model, None).multiplies_by_inputs)

    @property
    def adds_up(self) -> bool:
        """Whether nothing is done to Captum's values that changes their sum."""
        return self.channels in ("sum", "none") and not self.absolute and not self.tunnel

    def _method(self, forward: Callable[..., Any], layer: nn.Module | None) -> Any:
        """The Captum object for ``forward``."""
        form = self._form(layer is not None)
        constructor = {k: v for k, v in self.given.items() if k in Options(form).constructor}
        at = (layer,) if self.needs_layer or layer is not None else ()
        method = form(forward, *at, **constructor)
        return captum.attr.NoiseTunnel(method) if self.tunnel else method

    def _form(self, at: str | bool | None) -> type[Any]:
        """The class of Captum's that explains the inputs, or a layer."""
        form = self.captum_class if self.needs_layer or not at else at_layer(self.captum_class)
        if form is None:
            name = self.captum_class.__name__
            raise LayerError(
                f"Captum's {name} explains inputs, not layers: there is no Layer{name}; got layer {at!r}. "
                "Leave layer out, or use a method that takes one, such as integrated_gradients."
            )
        return form

    def _attribute(self, query: Query) -> Tensor | tuple[Tensor, ...]:
        self._form(query.layer)
        self._check_goal(query)
        examples = torch.arange(len(query.inputs[0]), device=query.inputs[0].device)
        parts = [self._maps(query, rows) for rows in torch.split(examples, self.together or len(examples))]
        maps = tuple(torch.cat(items) for items in zip(*parts, strict=True))
        self._verify(query, maps)
        values = [one.to(query.inputs[0].dtype) for one in maps]
        return reduced(query, values, self.channels, self.absolute)

    def _maps(self, query: Query, rows: Tensor) -> tuple[Tensor, ...]:
        """What Captum finds for the examples ``rows``."""
        return self._captums(query, rows, tuple(x[rows] for x in query.inputs), self._options(query, rows))

    def _captums(
        self, query: Query, rows: Tensor, inputs: tuple[Tensor, ...], options: dict[str, Any]
    ) -> tuple[Tensor, ...]:
        """What Captum finds for ``inputs``, which take the goals and further arguments of the examples ``rows``."""
        layer = self._place(query)
        with borrowed(self.captum_class.__name__, query, self.seed):
            method = self._method(Scored(query, layer), layer)
            inputs = tuple(x.detach().requires_grad_(self._hooks_tensors) for x in inputs)
            found = method.attribute(
                inputs if len(inputs) > 1 else inputs[0], additional_forward_args=(rows,), **options
            )
        return tuple(m.detach() for m in (found if isinstance(found, tuple) else (found,)))

    def _verify(self, query: Query, maps: tuple[Tensor, ...]) -> None:
        """For subclasses: raise if these cannot be the maps of the method."""

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

    def _place(self, query: Query) -> nn.Module | None:
        """The layer as a module."""
        if query.layer is None:
            return None
        at = Address.parse(query.layer)
        if query.clean.acts.calls(query.layer) > 1:
            raise LayerError(
                f"layer must run once for Captum's methods, which cannot choose between calls; {at.name!r} ran "
                f"{query.clean.acts.calls(query.layer)} times. Name the module around it, or use a method of attrib."
            )
        query.clean.acts[query.layer]  # must be one Tensor
        return modules_of(query.model)[at.name]

    def _options(self, query: Query, rows: Tensor) -> dict[str, Any]:
        """What Captum's ``attribute`` is called with for the examples ``rows``: the options, our forms as Captum's."""
        options = self._accepted(query, self.given)
        if options.get("feature_mask") is not None:
            found = labels(options["feature_mask"], query.inputs, rows)
            options["feature_mask"] = found if len(found) > 1 else found[0]
        if options.get("baselines") is not None and not self.known.draws_baselines:
            found = tuple(b[rows] for b in filled(options["baselines"], query.inputs))
            options["baselines"] = found if len(found) > 1 else found[0]
        return options

    def _accepted(self, query: Query, given: dict[str, Any]) -> dict[str, Any]:
        """Those of the options ``given`` that are for the call, and the side of the layer."""
        form = self._form(query.layer)
        known = Options(form)
        options = {k: v for k, v in given.items() if k not in known.constructor}
        for name in options:
            if name not in {**known.call, **known.tunnel}:
                raise InputError(f"{name} must be left out at a layer; Captum's {form.__name__} has no such option.")
        if query.layer is not None and Address.parse(query.layer).side == "input":
            if "attribute_to_layer_input" not in known.call:
                raise LayerError(f"{form.__name__} explains outputs of layers only; got {query.layer!r}.")
            options["attribute_to_layer_input"] = True
        return options


def from_captum(captum_class: type[Any], *, name: str | None = None, **options: Any) -> type[FromCaptum]:
    """Make a method of Captum a registered method like ours.

    Args:
        captum_class: any class of ``captum.attr`` that explains inputs or a layer, such as ``IntegratedGradients``,
            ``KernelShap`` or ``LayerGradientXActivation``.
        name: key in `METHODS`; ``"occlusion"`` for ``Occlusion`` if None, or ``"captum_occlusion"`` where that is
            taken.
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
    known = (*checks.keywords(FromCaptum), *Options(captum_class).names)
    checks.unknown_options(f"from_captum({captum_class.__name__})", options, known)
    plain = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", captum_class.__name__).lower()
    key = name or (f"captum_{plain}" if plain in METHODS else plain)
    if key in METHODS:
        raise RegistryError(
            f"name must be new; {key!r} is already {METHODS[key]!r}. Pass another: "
            f"from_captum({captum_class.__name__}, name='my_{plain}')."
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
            "uses_target": "target" in signature(captum_class.attribute).parameters,
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
