"""Several methods asked the same of one batch: what they have in common is computed once."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any, Generic, TypeAlias, TypeVar

from torch import Tensor

from attrib.core.attribution import Attribution, Inputs
from attrib.core.objectives.objective import Objective
from attrib.core.objectives.targets import as_objective
from attrib.core.query import Clean, Query
from attrib.core.shared import Backward, Rules, SharedPass
from attrib.errors import InputError

Maps: TypeAlias = Tensor | tuple[Tensor, ...]
Label = TypeVar("Label", bound=Hashable)


class Together(Generic[Label]):
    """Methods whose gradients come from one forward pass; lives inside `frozen`.

    Args:
        methods: by label, each with the address of the layer where it looks.
        query: the data; its objective and layer are not used.
        objectives: what the methods will be asked.
    """

    def __init__(
        self, methods: Mapping[Label, tuple[Attribution, str | None]], query: Query, objectives: Sequence[Objective]
    ) -> None:
        self.methods = dict(methods)
        self.query = query
        self.wanted = {label: method.passes(layer) for label, (method, layer) in methods.items()}
        wanted = [one for many in self.wanted.values() for one in many]
        self.shared = SharedPass(query.model, query.inputs, wanted, objectives, query.extra)

    def users(self, rules: Rules) -> set[Label]:
        """Labels of the methods that read the backward pass with these rules."""
        return {
            label
            for label, wanted in self.wanted.items()
            if any(isinstance(one, Backward) and one.rules == rules for one in wanted)
        }

    def clean(self, objective: Objective) -> Clean:
        """What the forward pass gave: bound goal, score, output."""
        return self._asked(objective, None).clean

    def answer(self, label: Label, objective: Objective, as_tuple: bool = False) -> Maps:
        """What the method's `Attribution.attribute` gives."""
        method, layer = self.methods[label]
        return method.answer(self._asked(objective, layer), as_tuple)

    def _asked(self, objective: Objective, layer: str | None) -> Query:
        query = self.query
        return Query(query.model, query.inputs, objective, layer, query.extra).sharing(self.shared)


def attribute_all(
    methods: Mapping[Label, Attribution],
    inputs: Inputs,
    targets: Sequence[object],
    *,
    additional_forward_args: object = None,
) -> dict[Label, list[Inputs]]:
    """Explain several targets with several methods, and compute what they have in common once.

    Convention:
        - the maps are, bit for bit, those of each method's own ``attribute`` with that target; see `SharedPass`.
        - methods that say which gradients they read (`Attribution.passes`) share one forward pass, for all targets; for
          each target they share one plain backward pass and one for each set of rules. The others run on their own.

    Cost: one forward pass; per target one backward pass, and one per set of rules (guided backpropagation and guided
    Grad-CAM have the same). A layer to be found takes one more forward pass. Memory: one graph, from the inputs on, or
    from the first layer where no method looks at the inputs.

    Args:
        methods: instances by label, all made with one model; several may be of one class, such as Grad-CAM at several
            layers.
        inputs: see `Attribution.attribute`.
        targets: any number of targets, each as in `Attribution.attribute`; ``[3]`` is one for all examples,
            ``[[3, 5]]`` one with a class for each of two examples, ``[3, 5]`` two.
        additional_forward_args: see `Attribution.attribute`.

    Returns:
        For each method its maps, one entry per target.

    Raises:
        AttribError: what any of the methods raises; the model is left as it was.

    Example:
        >>> from attrib.core import count
        >>> from attrib.methods import GradCAM, GuidedBackprop
        >>> methods = {"edges": GuidedBackprop(model), "fine": GradCAM(model, "conv"), "coarse": GradCAM(model)}
        >>> with count() as cost:
        ...     maps = attribute_all(methods, x, [3, "predicted"])
        >>> [one.shape for one in maps["coarse"]]
        [torch.Size([2, 1, 6, 6]), torch.Size([2, 1, 6, 6])]
        >>> cost  # 2 examples: forward, once more to find a layer; backward, plain and guided, for 2 targets
        Cost(forwards=4, backwards=8)
    """
    first = _checked(methods)
    given: object = targets
    if isinstance(given, str) or not isinstance(given, Sequence) or not given:
        raise InputError(f"targets must be a list of at least one target; got {targets!r}. For one target: [target].")
    objectives = [as_objective(target) for target in targets]
    maps: dict[Label, list[Any]] = {label: [] for label in methods}
    with first.opened(inputs, additional_forward_args) as (tensors, extra):
        query = Query(first.model, tensors, objectives[0], None, extra)
        layers = _layers(methods, query)
        sharing = {label: (one, layers[label]) for label, one in methods.items() if one.passes(layers[label])}
        if sharing:
            together = Together(sharing, query, objectives)
            for objective in objectives:
                for label in sharing:
                    maps[label].append(together.answer(label, objective, isinstance(inputs, tuple)))
                together.shared.forget(objective)
    for label in methods.keys() - sharing.keys():
        extra_args = {"additional_forward_args": additional_forward_args}
        maps[label] = [methods[label].attribute(inputs, one, layers[label], **extra_args) for one in objectives]
    return maps


def _checked(methods: Mapping[Label, Attribution]) -> Attribution:
    """Return any of the methods, which must all explain one model."""
    given: object = methods
    if not isinstance(given, Mapping) or not given:
        raise InputError(f"methods must be a mapping of labels to at least one method; got {methods!r}.")
    first = next(iter(methods.values()))
    for label, method in methods.items():
        if not isinstance(method, Attribution):
            raise InputError(f"method {label!r} must be an Attribution; got {method!r}. Make it with the model.")
        if method.model is not first.model:
            raise InputError(f"method {label!r} must be made with the model of the others; it holds another one.")
    return first


def _layers(methods: Mapping[Label, Attribution], query: Query) -> dict[Label, str | None]:
    """Where each method looks; "auto" is resolved once for all that mean the same by it."""
    layers: dict[Label, str | None] = {}
    found: dict[object, str] = {}
    for label, method in methods.items():
        layers[label] = method.layer
        if method.layer == "auto" or (method.layer is None and method.needs_layer):
            kind = type(method).find_layer
            found[kind] = layers[label] = found.get(kind) or method.find_layer(query.inputs, query.extra)
    return layers
