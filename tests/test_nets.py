"""Every method on every awkward net."""

from __future__ import annotations

from collections.abc import Callable
from inspect import signature
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from attrib import METHODS
from attrib.errors import RuleError
from tests import nets
from tests.made_for import ANY

pytestmark = pytest.mark.usefixtures("few_steps")
# Networks with negative activations, of which shares of excitation are not defined.
SIGNED = {"elu", "leaky_relu", "prelu", "pre-activation", "pre-activation in place"}


@pytest.mark.parametrize("net", sorted(SIGNED))
def test_excitation_backprop_refuses_negative_activations(net: str) -> None:
    with pytest.raises(RuleError, match="must be activations that are never negative"):
        METHODS["excitation_backprop"](nets.make(net)).attribute(nets.batch(2), [1, 3])


@pytest.mark.parametrize(
    ("method", "net"), [(m, n) for m in ANY for n in nets.NETS if m != "excitation_backprop" or n not in SIGNED]
)
def test_spellings_and_structures_change_nothing_but_the_model(method: str, net: str) -> None:
    """Nets with the same weights and function get the same map, whatever way their ReLU is called."""
    x = nets.batch(2)
    layer = None if not METHODS[method].needs_layer else "auto"
    signed = {"relu": False} if "relu" in signature(METHODS[method]).parameters else {}
    maps = METHODS[method](nets.make(net), layer, **signed).attribute(x, [1, 3])
    assert float(maps.abs().amax()) > 0
    if net in nets.SPELLINGS and not METHODS[method].needs_layer:
        assert_close(maps, METHODS[method](nets.make("module")).attribute(x, [1, 3]))


# Maps of one input only, or of the whole score and not of what an input adds to it.
WHOLE = ("extremal_perturbation", "fullgrad", "meaningful_perturbation", "rise")


@pytest.mark.parametrize("method", [name for name in ANY if not METHODS[name].needs_layer and name not in WHOLE])
def test_two_inputs_get_a_map_each_and_further_arguments_reach_the_model(method: str) -> None:
    model = nets.fill(nets.TwoInputs())
    x, y = nets.batch(2, 8, 6), nets.batch(2, 6, 10, seed=5)
    explain = METHODS[method](model).attribute
    first, second = explain((x, y), 2)
    assert (first.shape[2:], second.shape[2:]) == ((8, 6), (6, 10))
    assert_close(first, METHODS[method](model.get_submodule("left")).attribute(x, 2), rtol=1e-4, atol=1e-6)
    assert_close(explain((x, y), 2, additional_forward_args=torch.tensor([2.0, 0.0]))[1],
                 second * torch.tensor([2.0, 0.0]).reshape(2, 1, 1, 1), rtol=1e-4, atol=1e-6)  # fmt: skip


@pytest.mark.parametrize("net", nets.PACKED)
@pytest.mark.parametrize("method", ANY)
def test_a_packed_output_needs_a_callable_that_picks_one_number(method: str, net: str) -> None:
    model, x = nets.make(net), nets.batch(2)
    layer = "chain.conv2" if METHODS[method].needs_layer else None

    def pick(out: Any) -> Tensor:
        return (out["out"] if net == "dict" else out[0])[:, 2]

    plain = METHODS[method](model.chain, layer and "conv2").attribute(x, 2)
    assert_close(METHODS[method](model, layer).attribute(x, pick), plain)
    with pytest.raises(RuntimeError, match="must return one Tensor"):
        METHODS[method](model, layer).attribute(x, 2)


def made_for_inference(x: Tensor) -> Tensor:
    with torch.inference_mode():
        return x.clone()


LAYOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "channels last": lambda x: x.contiguous(memory_format=torch.channels_last),
    "cut out of a larger one": lambda x: torch.cat([x, x], 3)[..., : x.shape[3]],
    "transposed": lambda x: x.mT.contiguous().mT,
    "a parameter": lambda x: nn.Parameter(x.clone()),
    "inside a graph": lambda x: x.clone().requires_grad_() * 1,
    "made under inference_mode": made_for_inference,
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("method", ANY)
def test_it_does_not_matter_how_the_input_lies_in_memory(method: str, layout: str) -> None:
    x, explain = nets.batch(2), METHODS[method](nets.make("residual")).attribute
    assert_close(explain(LAYOUTS[layout](x), 2), explain(x, 2), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("method", ANY)
def test_one_picture_expanded_to_a_batch_gets_the_same_map_in_each_row(method: str) -> None:
    maps = METHODS[method](nets.make("residual")).attribute(nets.batch(1).expand(3, -1, -1, -1), 2)
    assert_close(maps[0], maps[2])
    assert_close(maps[:1], METHODS[method](nets.make("residual")).attribute(nets.batch(1), 2), rtol=1e-4, atol=1e-6)
