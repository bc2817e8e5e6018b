"""The one door: every method is an `Attribution`, which is a Captum `Attribution`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from copy import copy
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn, TypeVar, cast

from captum.attr import Attribution as CaptumAttribution
from captum.log import log_usage
from torch import Tensor, nn

from attrib import checks
from attrib.core.backward.rules import Coverage
from attrib.core.network.auto import auto_layer
from attrib.core.network.frozen import frozen, module_of
from attrib.core.network.layers import resolve, unwrap
from attrib.core.objectives.targets import as_objective
from attrib.core.query import Query
from attrib.core.shared import Backward, Recorded, SharedPass
from attrib.errors import InputError, LayerError, ModelError, ShapeError

if TYPE_CHECKING:
    from typing_extensions import Self

Inputs = TypeVar("Inputs", Tensor, tuple[Tensor, ...])


class Attribution(CaptumAttribution, ABC):  # type: ignore[misc]  # Captum ships no types
    """One method. Subclasses write `_attribute` and nothing else of the flow.

    ``needs_layer`` says that a method explains a layer, which is picked if none is named; without ``takes_layer`` it
    explains inputs only, and a layer is refused. Without ``uses_target`` the maps are the same whatever is asked: a
    target is checked as for any method, changes nothing, and may be left out.

    Args:
        model: an ``nn.Module``, or any callable where no layer is needed.
        layer: where to explain: a dotted name, an address such as ``"layer4.1.relu#0"``, a module, ``"auto"`` (the last
            spatial layer) or None (the inputs, or ``"auto"`` for methods that need a layer).
    """

    name: ClassVar[str]
    needs_layer: ClassVar[bool] = False
    takes_layer: ClassVar[bool] = True
    uses_target: bool = True  # of instances: some options decide it
    further_options: ClassVar[tuple[str, ...]] = ()  # what ``**options`` of the constructor takes

    def __init__(self, model: Callable[..., Any], layer: str | nn.Module | None = None) -> None:
        if not callable(model):
            raise InputError(f"model must be an nn.Module or a callable; got {model!r}.")
        super().__init__(unwrap(model))
        self.model = self.forward_func
        self.layer = self._address(layer)

    def _address(self, layer: str | nn.Module | None) -> str | None:
        if layer is not None and not self.takes_layer:
            raise LayerError(f"{type(self).__name__} explains the inputs only; got layer {layer!r}. Leave layer out.")
        return layer if layer is None or layer == "auto" else resolve(self.model, layer)

    @classmethod
    def option_names(cls) -> tuple[str, ...]:
        """Names of what the constructor takes besides the model and the layer."""
        return (*checks.keywords(cls), *cls.further_options)

    # log_usage wraps with functools.wraps: Captum's NoiseTunnel calls attribute.__wrapped__.
    @log_usage()  # type: ignore[untyped-decorator]
    def attribute(
        self,
        inputs: Inputs,
        target: object = None,
        layer: str | nn.Module | None = None,
        *,
        additional_forward_args: object = None,
        **unknown: NoReturn,
    ) -> Inputs:
        """Explain ``target`` for each example of ``inputs``.

        Args:
            inputs: Tensor ``(N, C, H, W)``, or a tuple of tensors that share N.
            target: what to explain, see `attrib.core.as_objective`.
            layer: overrides the constructor's for this call.
            additional_forward_args: one further argument of the model, or a tuple of them. Where examples are
                repeated, tensors with one entry per example are, too, also those in tuples, lists and dicts.
            unknown: refused; the options of a method are those of its constructor.

        Returns:
            The maps: a Tensor for a Tensor, a tuple for a tuple. Signed, raw, detached, contiguous; shape and meaning
            are the class's Convention.
        """
        if unknown:
            checks.misplaced_options(type(self).__name__, unknown, self.option_names())
        with self.asking(inputs, target, layer, additional_forward_args=additional_forward_args) as query:
            return cast(Inputs, self.answer(self._sharing(query), isinstance(inputs, tuple)))

    @contextmanager
    def asking(
        self,
        inputs: Tensor | tuple[Tensor, ...],
        target: object = None,
        layer: str | nn.Module | None = None,
        *,
        additional_forward_args: object = None,
    ) -> Iterator[Query]:
        """Check the arguments of `attribute` and open the `Query` that answers them, with the model `frozen`."""
        with self.opened(inputs, additional_forward_args) as (tensors, extra):
            objective = as_objective(target, needed=self.uses_target)
            yield Query(self.model, tensors, objective, self.settle(layer, tensors, extra), extra)

    @contextmanager
    def opened(
        self, inputs: Tensor | tuple[Tensor, ...], additional_forward_args: object
    ) -> Iterator[tuple[tuple[Tensor, ...], tuple[Any, ...]]]:
        """Check the data and freeze the model; gives detached inputs, and further arguments of the model."""
        tensors = checks.batch(inputs)
        self._refuse_unbatched(tensors)
        with frozen(self.model):
            detached = tuple(x.detach().clone() if x.is_inference() else x.detach() for x in tensors)
            yield detached, checks.arguments(additional_forward_args)

    def passes(self, layer: str | None) -> tuple[Backward | Recorded, ...]:  # noqa: ARG002  for subclasses
        """The gradients that `_attribute` will ask of its query, explained at ``layer``; none if they are not known.

        A method that reads nothing but the clean run and a layer's activations says `Recorded`.

        What is declared here is read from one forward pass, which methods share in `attribute_all`.
        """
        return ()

    def _sharing(self, query: Query) -> Query:
        """The question, its gradients read from one forward pass where there are several."""
        wanted = self.passes(query.layer)
        if len(wanted) < 2:
            return query
        return query.sharing(SharedPass(query.model, query.inputs, wanted, [query.objective], query.extra))

    @abstractmethod
    def _attribute(self, query: Query) -> Tensor | tuple[Tensor, ...]:
        """Return one map for a layer or a single input, else one per input; runs inside `frozen`."""

    def answer(self, query: Query, as_tuple: bool = False) -> Tensor | tuple[Tensor, ...]:
        """Answer an open question as `attribute` does: detached, contiguous, finite, in the dtype of the inputs."""
        maps = self._attribute(query)
        dtype = query.inputs[0].dtype  # under the caller's autocast too
        items = tuple(m.detach().to(dtype).contiguous() for m in (maps if isinstance(maps, tuple) else (maps,)))
        for item in items:
            if len(item) != (n := len(query.inputs[0])):
                hint = f": the first axis of layer {query.layer!r} are boxes, windows or tokens. Choose another layer."
                raise LayerError(
                    f"maps must be one for each of {n} examples; got {tuple(item.shape)}{hint if query.layer else '.'}"
                )
            if not checks.finite(item):
                raise ModelError(
                    f"{type(self).__name__} gave NaN or infinite values; the model's score or gradient is not finite "
                    "for this input. Try float64, or check the weights."
                )
        return items if as_tuple or len(items) > 1 else items[0]

    def on(self, model: Callable[..., Any]) -> Self:
        """Return the same method with the same settings for another model, which must have the layer that is named.

        Example:
            >>> import copy
            >>> from attrib.methods import GradCAM
            >>> twin = copy.deepcopy(model)
            >>> GradCAM(model, "conv", relu=False).on(twin).model is twin
            True
        """
        twin = copy(self)
        twin.model = twin.forward_func = unwrap(model)
        if twin.layer is not None:
            twin.layer = twin._address(twin.layer)
        return twin

    def reseeded(self, seed: int) -> Self | None:
        """Return the same method with another ``seed``; None if it has none, and so nothing in it is random."""
        if not hasattr(self, "seed"):
            return None
        twin = copy(self)
        twin.seed = checks.integer("seed", seed, 0)
        return twin

    def due(self, query: Query) -> Tensor | None:  # noqa: ARG002  for subclasses
        """What the values of each map add up to, ``(N,)``, where the method promises that; None where it does not."""
        return None

    def attribute_future(self) -> None:
        """Not implemented, as in Captum's methods."""
        raise NotImplementedError(f"attribute_future is not implemented for {type(self).__name__}")

    def settle(self, layer: str | nn.Module | None, tensors: tuple[Tensor, ...], extra: tuple[Any, ...]) -> str | None:
        """Address of the layer that a call with ``layer`` explains; one to be found takes a forward pass."""
        address = self._address(layer) or self.layer
        if address == "auto" or (address is None and self.needs_layer):
            address = self.find_layer(tensors, extra)
        return address

    def find_layer(self, tensors: tuple[Tensor, ...], extra: tuple[Any, ...] = ()) -> str:
        """Address of the layer that ``"auto"`` means, the last spatial one; runs inside `frozen`."""
        return auto_layer(self.model, tensors, extra)

    def _refuse_unbatched(self, tensors: tuple[Tensor, ...]) -> None:
        module = module_of(self.model)
        first = None if module is None else next((m for m in module.modules() if isinstance(m, nn.Conv2d)), None)
        if first is not None and len(tensors) == 1 and tensors[0].ndim == 3:  # conv2d would take it, and mean (C, H, W)
            raise ShapeError(
                f"inputs must have shape (N, C, H, W); got {tuple(tensors[0].shape)}. "
                "One image needs a batch axis: x[None]."
            )


def coverage(
    method: Attribution,
    inputs: Tensor | tuple[Tensor, ...],
    target: object = None,
    layer: str | nn.Module | None = None,
    *,
    additional_forward_args: object = None,
) -> Coverage:
    """Tell which activations ``method`` overrides on the way to ``target``, and which it leaves alone.

    Example:
        >>> from attrib.methods import GuidedBackprop
        >>> print(coverage(GuidedBackprop(model), x, target=3))
        overrode 3 of 3 ReLU
    """
    override = getattr(method, "override", None)
    if not override:
        raise InputError(f"method must override activations, such as GuidedBackprop; got {type(method).__name__}.")
    with method.asking(inputs, target, layer, additional_forward_args=additional_forward_args) as query:
        at = None if method.needs_layer else query.layer  # with needs_layer, the layer is not where the rules end
        with getattr(method, "overriding", nullcontext)():
            found = query.gradient(at, override, check=False).coverage
    return cast(Coverage, found)
