"""Metrics that each break one promise, and the checks of the contract that speak of it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from attrib.metrics import Deletion, Energy, Metric

Score = Callable[..., Tensor]


def around(kind: type[Metric], call: Callable[..., Any], **attributes: Any) -> type[Metric]:
    """A metric whose scores are ``call(score, model, x, target, maps, protocol, **rest)``."""

    def score(
        self: Metric, model: Any, x: Any, target: Any, maps: Any, protocol: Any = "default", **rest: Any
    ) -> Tensor:
        found: Tensor = call(partial(kind.score, self), model, x, target, maps, protocol, **rest)
        return found

    return type("Mutant", (kind,), {"score": score, **attributes})


def after(kind: type[Metric], change: Callable[[Tensor], Any], **attributes: Any) -> type[Metric]:
    """A metric whose numbers are changed."""
    return around(kind, lambda score, *data, **rest: change(score(*data, **rest)), **attributes)


def plain(score: Score, *data: Any, **rest: Any) -> Any:
    return score(*data, **rest)


def made_with(signature: Any) -> type[Metric]:
    return type("Mutant", (Energy,), {"__init__": signature})


def undocumented(self: Energy, *, secret: int = 0) -> None:
    Energy.__init__(self)


def by_position(self: Energy, normalised: bool = False) -> None:
    Energy.__init__(self, normalised=normalised)


def doubles_batches(score: Score, *data: Any, **rest: Any) -> Any:
    return score(*data, **rest) * (1 + 0.01 * (rest.get("batch_size") == 1))


def refuses_batches(score: Score, *data: Any, **rest: Any) -> Any:
    if "batch_size" in rest:
        raise TypeError("no option 'batch_size'")
    return score(*data, **rest)


def ignores_maps(score: Score, model: Any, x: Any, target: Any, maps: Any, protocol: Any, **rest: Any) -> Any:
    found = score(model, x, target, maps, protocol, **rest)
    return found.where(found.isnan(), 0.5)


def takes_dicts_for_another(
    score: Score, model: Any, x: Any, target: Any, maps: Any, protocol: Any, **rest: Any
) -> Any:
    return score(model, x, target, maps, {**protocol, "sign": "absolute"} if isinstance(protocol, dict) else protocol, **rest)  # fmt: skip  # noqa: E501


def keeps_training_mode(score: Score, model: Any, *data: Any, **rest: Any) -> Any:
    return score(model, *data, **rest) * (0.5 if model.training and all(m.training for m in model.modules()) else 1)


def needs_grad_mode(score: Score, *data: Any, **rest: Any) -> Any:
    return score(*data, **rest) * (1 if torch.is_grad_enabled() else 0.5)


def draws(score: Score, *data: Any, **rest: Any) -> Any:
    with torch.random.fork_rng(devices=[]):  # the state is put back, and so shows only where another one is set
        return score(*data, **rest) * (0.9 + 0.1 * torch.rand(()))


def seeds(score: Score, *data: Any, **rest: Any) -> Any:
    torch.manual_seed(0)
    return score(*data, **rest)


def repairs_maps(score: Score, model: Any, x: Any, target: Any, maps: Any, protocol: Any, **rest: Any) -> Any:
    maps = maps.nan_to_num(0, 0, 0) if isinstance(maps, Tensor) and not maps.is_complex() else maps
    return score(model, x, target, maps, protocol, **rest)


def spreads_undefined(values: Tensor) -> Tensor:
    return values + values.sum() * 0


def hit_without_an_object(values: Tensor) -> Tensor:
    return values.nan_to_num(1.0)


def divides_by_nothing(score: Score, model: Any, x: Any, target: Any, maps: Any, protocol: Any, **rest: Any) -> Any:
    found = score(model, x, target, maps, protocol, **rest)
    flat = torch.tensor([m.isfinite().all() and m.amin() == m.amax() for m in maps], dtype=torch.bool)
    return found.masked_fill(flat, float("inf"))


def only_full_size(score: Score, model: Any, x: Any, target: Any, maps: Any, *data: Any, **rest: Any) -> Any:
    found = score(model, x, target, maps, *data, **rest)
    return found[:-1] if maps.shape[1] > 1 else found


def only_tall(score: Score, model: Any, x: Any, *data: Any, **rest: Any) -> Any:
    found = score(model, x, *data, **rest)
    return found if x.shape[2] >= x.shape[3] else found[None]


def only_single(score: Score, model: Any, x: Any, *data: Any, **rest: Any) -> Any:
    found = score(model, x, *data, **rest)
    return found[None] if x.dtype == torch.float64 else found


def scales_maps(score: Score, model: Any, x: Any, target: Any, maps: Any, *data: Any, **rest: Any) -> Any:
    found = score(model, x, target, maps, *data, **rest)
    maps.div_(2)
    return found


def leaks_a_hook(score: Score, model: Any, *data: Any, **rest: Any) -> Any:
    found = score(model, *data, **rest)
    model.register_forward_hook(lambda *_: None)
    return found


def leaves_eval_mode(score: Score, model: Any, *data: Any, **rest: Any) -> Any:
    model.eval()
    return score(model, *data, **rest)


def cleans_up_without_errors(score: Score, model: Any, *data: Any, **rest: Any) -> Any:
    parts = [(part, part.training) for part in model.modules()]
    model.eval()
    found = score(model, *data, **rest)
    for part, mode in parts:
        part.training = mode
    return found


def swallows(score: Score, model: Any, x: Any, *data: Any, **rest: Any) -> Any:
    try:
        return score(model, x, *data, **rest)
    except RuntimeError:
        return torch.zeros(len(x))


def cuts_maps(score: Score, model: Any, x: Any, target: Any, maps: Any, *data: Any, **rest: Any) -> Any:
    if isinstance(maps, Tensor) and len(maps) < len(x):
        maps = torch.cat([maps, maps[-1:]])
    return score(model, x, target, maps, *data, **rest)


def rounds_masks(score: Score, *data: Any, masks: Any = None, **rest: Any) -> Any:
    return score(*data, masks=masks > 0 if isinstance(masks, Tensor) else masks, **rest)


def repairs_inputs(score: Score, model: Any, x: Any, *data: Any, **rest: Any) -> Any:
    return score(model, x.nan_to_num() if isinstance(x, Tensor) else x, *data, **rest)


def accepts_any_class(score: Score, model: Any, x: Any, target: Any, *data: Any, **rest: Any) -> Any:
    return score(model, x, 4 if isinstance(target, int) and target > 9 else target, *data, **rest)


def ignores_options(score: Score, *data: Any, no_such_option: int = 0, **rest: Any) -> Any:
    return score(*data, **rest)


def ramp(values: Tensor) -> Tensor:
    return values * torch.linspace(0.5, 1, len(values), dtype=values.dtype)


BETTER = "the right map is better"
EMPTY = "an empty mask is undefined, and it alone"
ALONE, SHAPES = "each example on its own", {"one number for each example", "tall and wide inputs, of one channel too", "float64"}  # fmt: skip  # noqa: E501
FINITE = "a map that is not finite is undefined, and it alone"
MUTANTS: dict[str, tuple[type[Metric], set[str]]] = {
    "another door and nothing else": (around(Deletion, plain), set()),
    "no direction": (around(Energy, plain, higher_is_better=None), {"declares what it is", BETTER}),
    "a range without an end": (around(Energy, plain, range=(0.0,)), {"declares what it is", "within its range"}),
    "needs what nobody has": (around(Energy, plain, needs=("masks", "budget")), {"declares what it is"}),
    "an option without documentation": (
        made_with(undocumented), {"every option has a default and a line of documentation"},
    ),
    "an option by position": (made_with(by_position), {"every option has a default and a line of documentation"}),
    "attached to the graph": (after(Energy, lambda v: v.requires_grad_()), SHAPES),
    "only in the upper half of its range": (after(Energy, lambda v: v + 1), {"within its range"}),
    "never a number": (
        after(Energy, lambda v: v * float("nan")), {"defined for ordinary maps", "the maps matter", BETTER},
    ),
    "ignores the maps": (around(Energy, ignores_maps), {"the maps matter", BETTER}),
    "the wrong direction": (around(Deletion, plain, higher_is_better=True), {BETTER}),
    "one minus": (after(Energy, lambda v: 1 - v), {BETTER}),
    "unseeded": (around(Energy, draws), {"repeatable"}),
    "seeds the global generator": (around(Deletion, seeds), {"global state untouched", "nothing left after errors"}),
    "divides by the best of the batch": (
        after(Energy, lambda v: v / v.nan_to_num().amax().clamp(min=1e-9)), {ALONE, FINITE, EMPTY},
    ),
    "weights by position": (after(Energy, ramp), {ALONE, "order of the batch"}),
    "the batch size shows": (around(Deletion, doubles_batches), {"the batch size changes nothing"}),
    "no batch size": (
        around(Deletion, refuses_batches), {"the batch size changes nothing", "nothing left after errors"},
    ),
    "reads dicts otherwise": (around(Energy, takes_dicts_for_another), {"forms of the protocol"}),
    "training mode shows": (around(Deletion, keeps_training_mode), {"measured in evaluation mode"}),
    "needs grad mode": (around(Energy, needs_grad_mode), {"works under no_grad"}),
    "repairs maps": (around(Energy, repairs_maps), {FINITE}),
    "one undefined, all undefined": (
        after(Energy, spreads_undefined), {FINITE, EMPTY},
    ),
    "a hit without an object": (
        after(Energy, hit_without_an_object), {FINITE, EMPTY},
    ),
    "infinite for flat maps": (
        around(Energy, divides_by_nothing), {"constant and zero maps are measured or undefined"},
    ),
    "loses maps of several channels": (around(Energy, only_full_size), {"maps of a layer and of several channels"}),
    "tall only": (around(Energy, only_tall), {"tall and wide inputs, of one channel too"}),
    "single precision only": (around(Energy, only_single), {"float64"}),
    "scales the maps": (around(Deletion, scales_maps), {"data untouched"}),
    "leaks a hook": (around(Deletion, leaks_a_hook), {"model untouched"}),
    "leaves eval mode": (around(Deletion, leaves_eval_mode), {"model untouched", "nothing left after errors"}),
    "cleans up only without an error": (around(Deletion, cleans_up_without_errors), {"nothing left after errors"}),
    "swallows errors": (around(Deletion, swallows), {"nothing left after errors"}),
    "stretches the maps": (around(Energy, cuts_maps), {"bad maps refused"}),
    "rounds masks": (around(Energy, rounds_masks), {"bad masks refused"}),
    "repairs inputs": (around(Deletion, repairs_inputs), {"bad inputs refused"}),
    "accepts any class": (around(Deletion, accepts_any_class), {"bad targets refused"}),
    "ignores options": (around(Energy, ignores_options), {"unknown protocols and options refused"}),
}  # fmt: skip
