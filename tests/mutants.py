"""Methods that each break one promise, and the checks of the contract that speak of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial, wraps
from typing import Any

import numpy as np
import torch
from torch import Tensor

from attrib import ClassScore, Saliency
from attrib.core import Query


def after(change: Callable[[Tensor], Tensor]) -> type[Saliency]:
    """A saliency whose maps are changed before they pass the door."""

    class Mutant(Saliency):
        def _attribute(self, query: Query) -> tuple[Tensor, ...]:
            return tuple(change(m) for m in super()._attribute(query))

    return Mutant


def around(call: Callable[..., Any], wrapped: bool = True) -> type[Saliency]:
    """A saliency with another door: ``call(method, attribute, inputs, target, layer)``."""

    class Mutant(Saliency):
        def attribute(self, inputs: Any, target: object = None, layer: Any = None, **rest: Any) -> Any:
            plain = partial(Saliency.attribute, self, **rest)
            return call(self, plain, inputs, target, layer)

    if wrapped:
        Mutant.attribute = wraps(Saliency.attribute)(Mutant.attribute)  # type: ignore[method-assign]
        Mutant.attribute.__wrapped__ = Mutant.attribute  # type: ignore[attr-defined]
    return Mutant


class LeaksAHook(Saliency):
    def _attribute(self, query: Query) -> tuple[Tensor, ...]:
        maps = super()._attribute(query)
        self.model.stem.register_forward_hook(lambda *_: None)
        return maps


class ClearsGradients(Saliency):
    def _attribute(self, query: Query) -> tuple[Tensor, ...]:
        maps = super()._attribute(query)
        self.model.zero_grad()
        return maps


class RunsTheModelOnTheInputItself(Saliency):
    def _attribute(self, query: Query) -> tuple[Tensor, ...]:
        maps = super()._attribute(query)
        self.model(query.x)
        return maps


class IgnoresTheTarget(Saliency):
    def _attribute(self, query: Query) -> tuple[Tensor, ...]:
        super()._attribute(query)  # so that bad targets are still refused
        return super()._attribute(replace(query, objective=ClassScore(0)))


class DeniesItsTarget(Saliency):
    uses_target = False


class NeverLooksAtItsTarget(Saliency):
    uses_target = False

    def _attribute(self, query: Query) -> tuple[Tensor, ...]:
        return super()._attribute(replace(query, objective=ClassScore(0)))


class TakesTheFirstTarget(Saliency):
    def _attribute(self, query: Query) -> tuple[Tensor, ...]:
        index = query.clean.goal.index  # type: ignore[attr-defined]
        return super()._attribute(replace(query, objective=ClassScore(int(index[0, 0]))))


class ChangesTheInput(Saliency):
    def _attribute(self, query: Query) -> tuple[Tensor, ...]:
        query.x.mul_(1 + 1e-6)
        return super()._attribute(query)


def calls(method: Saliency, plain: Any, inputs: Any, target: Any, layer: Any) -> Any:
    return plain(inputs, target, layer)


def casts(dtype: torch.dtype) -> Callable[..., Any]:
    def call(method: Saliency, plain: Any, inputs: Any, target: Any, layer: Any) -> Any:
        maps = plain(inputs, target, layer)
        return tuple(m.to(dtype) for m in maps) if isinstance(maps, tuple) else maps.to(dtype)

    return call


def seeds(method: Saliency, plain: Any, inputs: Any, target: Any, layer: Any) -> Any:
    torch.manual_seed(0)
    return plain(inputs, target, layer)


def leaves_eval_mode(method: Saliency, plain: Any, inputs: Any, target: Any, layer: Any) -> Any:
    method.model.eval()
    return plain(inputs, target, layer)


def leaves_requires_grad(method: Saliency, plain: Any, inputs: Any, target: Any, layer: Any) -> Any:
    maps = plain(inputs, target, layer)
    method.model.requires_grad_(True)
    return maps


def forgets_after_an_error(method: Saliency, plain: Any, inputs: Any, target: Any, layer: Any) -> Any:
    parts = [(part, part.training) for part in method.model.modules()]
    method.model.eval()
    maps = plain(inputs, target, layer)
    for part, mode in parts:
        part.training = mode
    return maps


def keeps_training_mode(method: Saliency, plain: Any, inputs: Any, target: Any, layer: Any) -> Any:
    if method.model.training and all(part.training for part in method.model.modules()):
        return plain(inputs, target, layer) * 2
    return plain(inputs, target, layer)


def swallows_errors(method: Saliency, plain: Any, inputs: Any, target: Any, layer: Any) -> Any:
    try:
        return plain(inputs, target, layer)
    except RuntimeError:
        return torch.zeros(3, 1, 12, 10)


def attaches(method: Saliency, plain: Any, inputs: Any, target: Any, layer: Any) -> Any:
    maps = plain(inputs, target, layer)
    return maps if isinstance(maps, tuple) else maps.requires_grad_()


def gives_infinity(method: Saliency, plain: Any, inputs: Any, target: Any, layer: Any) -> Any:
    maps = plain(inputs, target, layer)
    (maps[0] if isinstance(maps, tuple) else maps)[:, 0, 0, 0] = float("inf")
    return maps


def unpacks_tuples(method: Saliency, plain: Any, inputs: Any, target: Any, layer: Any) -> Any:
    maps = plain(inputs, target, layer)
    return maps[0] if isinstance(maps, tuple) else maps


def needs_grad_mode(method: Saliency, plain: Any, inputs: Any, target: Any, layer: Any) -> Any:
    maps = plain(inputs, target, layer)
    return maps if torch.is_grad_enabled() else maps * 0


def misreads_arrays(method: Saliency, plain: Any, inputs: Any, target: Any, layer: Any) -> Any:
    return plain(inputs, np.ascontiguousarray(target[::-1]) if isinstance(target, np.ndarray) else target, layer)


def accepts_any_class(method: Saliency, plain: Any, inputs: Any, target: Any, layer: Any) -> Any:
    return plain(inputs, 4 if isinstance(target, int) and target > 9 else target, layer)


def repairs_inputs(method: Saliency, plain: Any, inputs: Any, target: Any, layer: Any) -> Any:
    return plain(inputs.nan_to_num() if isinstance(inputs, Tensor) else inputs, target, layer)


def guesses_layers(method: Saliency, plain: Any, inputs: Any, target: Any, layer: Any) -> Any:
    return plain(inputs, target, None if layer == "nowhere" else layer)


def leaves_inference_mode(method: Saliency, plain: Any, inputs: Any, target: Any, layer: Any) -> Any:
    with torch.inference_mode(False):
        return plain(inputs, target, layer)


def fails_when_tall(maps: Tensor) -> Tensor:
    return maps[:, :, : maps.shape[3]] if maps.shape[2] > 1.5 * maps.shape[3] else maps


class NeedsColours(Saliency):
    def _attribute(self, query: Query) -> tuple[Tensor, ...]:
        return tuple(m + 0 * query.x[:, 2:3] for m in super()._attribute(query))


class OneColourIsThree(Saliency):
    def _attribute(self, query: Query) -> tuple[Tensor, ...]:
        maps = super()._attribute(query)
        return tuple(m.expand(-1, 3, -1, -1) for m in maps) if query.x.shape[1] == 1 else maps


SHAPES = {"shape", "tall and wide inputs", "inputs of one channel"}
MUTANTS: dict[str, tuple[type[Saliency], set[str]]] = {
    "another door and nothing else": (around(calls), set()),
    "a constant map": (after(torch.zeros_like), {"not constant", "target matters"}),
    "leaks a hook": (LeaksAHook, {"model untouched"}),
    "clears gradients": (ClearsGradients, {"model untouched"}),
    "leaves eval mode": (around(leaves_eval_mode), {"model untouched", "nothing left after errors"}),
    "leaves requires_grad": (around(leaves_requires_grad), {"model untouched"}),
    "cleans up only without an error": (around(forgets_after_an_error), {"nothing left after errors"}),
    "swallows errors": (
        around(swallows_errors), {"nothing left after errors", "inference_mode refused in words"},
    ),
    "changes the input": (
        ChangesTheInput, {"input untouched", "a model that writes into its input", "nothing left after errors"},
    ),
    "runs the model on the input itself": (RunsTheModelOnTheInputItself, {"a model that writes into its input"}),
    "divides by the maximum of the batch": (after(lambda m: m / m.amax()), {"each example on its own"}),
    "weights by position": (
        after(lambda m: m * torch.arange(1, len(m) + 1).reshape(-1, 1, 1, 1)),
        {"each example on its own", "order of the batch", "captum can wrap it"},
    ),
    "unseeded noise": (after(lambda m: m + torch.rand(1)), {"repeatable", "captum can wrap it"}),
    "seeds the global generator": (around(seeds), {"global state untouched", "nothing left after errors"}),
    "training mode shows": (around(keeps_training_mode), {"explained in evaluation mode"}),
    "ignores the target": (IgnoresTheTarget, {"target matters"}),
    "denies that the target matters": (DeniesItsTarget, {"target matters"}),
    "never looks at a target that does not matter": (NeverLooksAtItsTarget, {"bad targets refused"}),
    "takes the first target for all": (TakesTheFirstTarget, {"each example on its own", "order of the batch"}),
    "misreads arrays": (around(misreads_arrays), {"forms of the target"}),
    "accepts any class": (around(accepts_any_class), {"bad targets refused"}),
    "repairs inputs": (around(repairs_inputs), {"bad inputs refused"}),
    "guesses layers": (around(guesses_layers), {"unknown layer refused"}),
    "attached to the graph": (around(attaches), {"dtype and detached"}),
    "always double": (around(casts(torch.float64)), {"dtype and detached"}),
    "always single": (around(casts(torch.float32)), {"float64"}),
    "infinity": (around(gives_infinity), {"finite", "captum can wrap it"}),
    "no channel axis": (after(lambda m: m[:, 0]), SHAPES),
    "height and width swapped": (after(lambda m: m.mT), SHAPES),
    "tall maps cut": (after(fails_when_tall), {"tall and wide inputs"}),
    "needs three colours": (NeedsColours, {"inputs of one channel"}),
    "makes three colours of one": (OneColourIsThree, {"inputs of one channel"}),
    "needs grad mode": (around(needs_grad_mode), {"works under no_grad", "captum can wrap it"}),
    "runs under inference_mode": (around(leaves_inference_mode), {"inference_mode refused in words"}),
    "unpacks tuples": (around(unpacks_tuples), {"tuple in, tuple out", "captum can wrap it"}),
    "a door that Captum cannot unwrap": (around(calls, wrapped=False), {"captum can wrap it"}),
}  # fmt: skip
