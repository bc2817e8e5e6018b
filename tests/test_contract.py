"""Every registered method keeps the public contract, and the contract notices a method that does not."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from functools import partial
from inspect import signature
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from attrib import METHODS, Attribution, GradCAM, GuidedBackprop, GuidedGradCAM, Occlusion, Saliency
from attrib.errors import InputError
from attrib.testing import Check, assert_attribution, check_attribution
from tests.made_for import layers_of, tried_on
from tests.mutants import MUTANTS
from tests.presets import OURS

pytestmark = pytest.mark.usefixtures("few_steps")
CHECKS = [check.name for check in check_attribution(Saliency)]
DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


def failures(method: Callable[..., Attribution], layer: str | None = None, **options: Any) -> dict[str, str]:
    return {check.name: check.message for check in check_attribution(method, layer, **options) if not check.ok}


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(("name", "layer"), [(name, layer) for name in OURS for layer in layers_of(name)])
def test_every_method_keeps_the_contract_at_the_input_and_at_layers(name: str, layer: str | None, device: str) -> None:
    assert failures(METHODS[name], layer, device=device, **tried_on(name)) == {}


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


FLAGS = [
    (name, flag.name)
    for name in METHODS
    for flag in signature(METHODS[name]).parameters.values()
    if flag.annotation == "bool" and flag.name != "show_progress"
]


@pytest.mark.parametrize(("name", "flag"), FLAGS)
def test_a_flag_is_true_or_false_and_not_a_text(name: str, flag: str) -> None:
    with pytest.raises(InputError, match=rf"{flag} must be True or False; got 'no'"):
        METHODS[name](nn.Identity(), **{flag: "no"})


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


class Thousand(nn.Module):
    """As many classes as ImageNet; everything speaks for the last three, and against all others."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.relu, self.head = nn.Conv2d(2, 6, 3), nn.ReLU(), nn.Linear(6, 1000)
        with torch.no_grad():
            self.head.weight.abs_()[:-3].neg_()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.relu(self.conv(x)).mean((2, 3)))
        return out


@pytest.mark.parametrize("method", [GradCAM, GuidedBackprop])
def test_networks_of_many_classes_are_explained_for_likely_ones(method: type[Attribution]) -> None:
    assert failures(method, model=Thousand(), inputs=torch.randn(3, 2, 12, 12)) == {}


def test_the_contract_lets_go_of_every_copy_of_the_model() -> None:
    made: list[weakref.ref[nn.Module]] = []

    def factory(model: nn.Module) -> Attribution:
        made.append(weakref.ref(model))
        return Saliency(model)

    gc.disable()  # large copies would be many before anything asks for it
    try:
        assert failures(factory) == {}
        assert len(made) > 20
        assert [model for model in made if model() is not None] == []
    finally:
        gc.enable()


def test_a_model_without_inputs_is_refused() -> None:
    with pytest.raises(InputError, match="both or neither"):
        list(check_attribution(Saliency, model=Patches()))


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
