"""Every registered method keeps the public contract, and the contract notices a method that does not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial, wraps
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from attrib import METHODS, Attribution, ClassScore, GradCAM, GuidedBackprop, GuidedGradCAM, Occlusion, Saliency
from attrib.core import Query
from attrib.errors import InputError
from attrib.testing import Check, assert_attribution, check_attribution
from attrib.testing.probes import in_use
from attrib.testing.traces import ModelTrace, ProcessTrace, TensorTrace

CHECKS = [check.name for check in check_attribution(Saliency)]
DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


def failures(method: Callable[..., Attribution], layer: str | None = None, **options: Any) -> dict[str, str]:
    return {check.name: check.message for check in check_attribution(method, layer, **options) if not check.ok}


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("layer", [None, "stem", "conv"])
@pytest.mark.parametrize("name", METHODS)
def test_every_method_keeps_the_contract_at_the_input_and_at_layers(name: str, layer: str | None, device: str) -> None:
    assert failures(METHODS[name], layer, device=device) == {}


@pytest.mark.parametrize(
    "method",
    [
        partial(Saliency, channels="none", absolute=False),
        partial(GuidedBackprop, channels="l2", activations=("relu",)),
        partial(GradCAM, relu=False, negative=True, upsample=True),
        partial(GradCAM, layer="conv@input"),
        partial(GuidedGradCAM, channels="none"),
        partial(Occlusion, window=(3, 4), stride=(2, 3), edge="cut", sign="score", score="log_odds", baseline="blur"),
        partial(Occlusion, window=5, stride=5, batch_size=2, baseline="mean", score="probability", channels_last=False),
    ],
    ids=lambda method: f"{method.func.__name__}-{'-'.join(map(str, method.keywords))}",
)
def test_options_keep_the_contract(method: Callable[..., Attribution]) -> None:
    assert failures(method) == {}


class Patches(nn.Module):
    """Takes one size of input only, as a transformer does; 4 classes."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Conv2d(2, 6, 4, 4)
        self.mix = nn.Linear(4 * 6, 16)
        self.head = nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(torch.relu(self.mix(self.embed(x).flatten(1))))
        return out


def test_a_method_for_another_architecture_is_tried_on_the_model_it_is_made_for() -> None:
    torch.manual_seed(0)
    checks = list(check_attribution(GuidedBackprop, model=Patches(), inputs=torch.randn(2, 2, 8, 8)))
    assert [check for check in checks if not check.ok] == []
    assert set(CHECKS) - {check.name for check in checks} == {"tall and wide inputs", "inputs of one channel"}


def test_a_model_without_inputs_is_refused() -> None:
    with pytest.raises(InputError, match="both or neither"):
        list(check_attribution(Saliency, model=Patches()))


# --- mutants: each breaks one thing, and must fail exactly the checks that speak of it


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


class IgnoresTheTarget(Saliency):
    def _attribute(self, query: Query) -> tuple[Tensor, ...]:
        super()._attribute(query)  # so that bad targets are still refused
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
    return plain(inputs, 4 if isinstance(target, int) and target == 99 else target, layer)


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
    "changes the input": (ChangesTheInput, {"input untouched", "nothing left after errors"}),
    "divides by the maximum of the batch": (after(lambda m: m / m.amax()), {"each example on its own"}),
    "weights by position": (
        after(lambda m: m * torch.arange(1, len(m) + 1).reshape(-1, 1, 1, 1)),
        {"each example on its own", "order of the batch", "captum can wrap it"},
    ),
    "unseeded noise": (after(lambda m: m + torch.rand(1)), {"repeatable", "captum can wrap it"}),
    "seeds the global generator": (around(seeds), {"global state untouched", "nothing left after errors"}),
    "training mode shows": (around(keeps_training_mode), {"explained in evaluation mode"}),
    "ignores the target": (IgnoresTheTarget, {"target matters"}),
    "takes the first target for all": (TakesTheFirstTarget, {"each example on its own", "order of the batch"}),
    "misreads arrays": (around(misreads_arrays), {"forms of the target"}),
    "accepts any class": (around(accepts_any_class), {"bad targets refused"}),
    "repairs inputs": (around(repairs_inputs), {"bad inputs refused"}),
    "guesses layers": (around(guesses_layers), {"unknown layer refused"}),
    "attached to the graph": (around(attaches), {"dtype and detached"}),
    "always double": (after(Tensor.double), {"dtype and detached"}),
    "always single": (after(Tensor.float), {"float64"}),
    "infinity": (around(gives_infinity), {"finite", "captum can wrap it"}),
    "no batch axis": (
        after(lambda m: m[0]), SHAPES | {"each example on its own", "order of the batch", "captum can wrap it"},
    ),
    "height and width swapped": (after(lambda m: m.mT), SHAPES),
    "tall maps cut": (after(fails_when_tall), {"tall and wide inputs"}),
    "needs three colours": (NeedsColours, {"inputs of one channel"}),
    "makes three colours of one": (OneColourIsThree, {"inputs of one channel"}),
    "needs grad mode": (around(needs_grad_mode), {"works under no_grad", "captum can wrap it"}),
    "runs under inference_mode": (around(leaves_inference_mode), {"inference_mode refused in words"}),
    "unpacks tuples": (around(unpacks_tuples), {"tuple in, tuple out", "captum can wrap it"}),
    "a door that Captum cannot unwrap": (around(calls, wrapped=False), {"captum can wrap it"}),
}  # fmt: skip


@pytest.mark.parametrize("name", MUTANTS)
def test_a_mutant_fails_exactly_the_checks_that_speak_of_its_fault(name: str) -> None:
    mutant, expected = MUTANTS[name]
    found = failures(mutant)
    assert set(found) == expected, found
    assert all(found.values())  # every failure says how it showed


def test_every_check_is_failed_by_some_mutant() -> None:
    assert set().union(*(expected for _, expected in MUTANTS.values())) == set(CHECKS)


def test_a_method_that_cannot_be_built_fails_with_its_own_message() -> None:
    def factory(model: nn.Module) -> Attribution:
        raise ValueError("window must be given")

    assert set(failures(factory)) == set(CHECKS)
    assert failures(factory)["finite"] == "it raised ValueError: window must be given"


def test_the_assertion_lists_every_broken_promise_with_what_happened() -> None:
    with pytest.raises(AssertionError, match=r"Mutant breaks 2 of \d+ promises:\n- not constant: the maps of examples"):
        assert_attribution(MUTANTS["a constant map"][0])
    assert_attribution(Saliency)


def test_a_check_unpacks_into_name_and_outcome() -> None:
    name, ok = Check("finite", True)
    assert (name, ok) == ("finite", True)


# --- the traces that the contract compares


def swap_relu(model: Any) -> None:
    model.relu = nn.ReLU(inplace=True)


def flip_inplace(model: Any) -> None:
    model.relu.inplace = False


def replace_forward(model: Any) -> None:
    model.conv.forward = lambda x: x


def new_parameter(model: Any) -> None:
    model.conv.weight = nn.Parameter(model.conv.weight.detach())


def train(model: Any) -> None:
    model.norm.train(not model.norm.training)


def other_statistics(model: Any) -> None:
    model.norm.running_mean += 1


def set_gradient(model: Any) -> None:
    model.conv.weight.grad = torch.zeros_like(model.conv.weight)


def hook_parameter(model: Any) -> None:
    model.conv.weight.register_hook(lambda g: g)


def hook_backward(model: Any) -> None:
    model.conv.register_full_backward_hook(lambda *_: None)


def add_module(model: Any) -> None:
    model.extra = nn.Identity()


@pytest.mark.parametrize(
    "change",
    [swap_relu, flip_inplace, replace_forward, new_parameter, train, other_statistics, set_gradient, hook_parameter,
     hook_backward, add_module],
)  # fmt: skip
def test_a_trace_shows_each_change_of_a_model(change: Callable[[Any], None]) -> None:
    from attrib.testing.probes import ProbeNet

    model = in_use(ProbeNet())
    trace = ModelTrace(model)
    assert trace.changes() == []
    change(model)
    assert trace.changes() != []


def test_a_trace_shows_each_change_of_the_process() -> None:
    trace = ProcessTrace()
    with torch.random.fork_rng(devices=[]):
        torch.rand(1)
        assert trace.changes() == ["torch's random state changed"]
    state = np.random.get_state()  # noqa: NPY002
    np.random.rand()  # noqa: NPY002
    assert trace.changes() == ["NumPy's random state changed"]
    np.random.set_state(state)  # noqa: NPY002
    with torch.no_grad():
        assert trace.changes() == ["grad mode changed"]
    handle = nn.modules.module.register_module_forward_hook(lambda *_: None)
    assert trace.changes() == ["global module hooks changed"]
    handle.remove()
    assert trace.changes() == []


def test_a_trace_shows_each_change_of_a_tensor() -> None:
    x = torch.ones(2)
    trace = TensorTrace(x)
    x.requires_grad_(True)
    assert trace.changes() == ["requires_grad changed"]
    x.requires_grad_(False)
    x[0] = 2
    assert trace.changes() == ["values changed"]
