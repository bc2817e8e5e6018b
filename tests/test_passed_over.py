"""Deconvnet goes past layers that normalise, however they are written; it says when there was none to go past."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.testing import assert_close

from attrib import Deconvnet, GuidedBackprop, Neuron, Saliency, attribute_all, coverage
from attrib.errors import InputError, LayerError
from tests import nets
from tests.oracles.models import EXACT
from tests.units import X, filled, signed


class Contrast(nn.Module):
    """Local contrast normalisation, in operations."""

    def forward(self, x: Tensor) -> Tensor:
        centred = x - F.avg_pool2d(x, 3, 1, 1)
        return centred / (F.avg_pool2d(centred**2, 3, 1, 1) + 0.1).sqrt()


def network(norm: nn.Module) -> nn.Sequential:
    return filled(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), norm, nn.Conv2d(4, 5, 3), nn.ReLU()))


def past(model: nn.Sequential, x: Tensor, unit: tuple[int, int, int], start: str) -> Tensor:
    """The projection of a unit of layer 3, with the gradient of the norm's output handed to its input."""
    x = x.clone().requires_grad_(True)
    first = model[0](x)
    normed = model[2](first.relu()).detach().requires_grad_(True)
    score = model[3](normed)[(slice(None), *unit)]
    above = torch.autograd.grad(score, normed, score.detach() if start == "activation" else torch.ones_like(score))[0]
    return torch.autograd.grad(first, x, above.clamp(min=0))[0]


NAMED: dict[str, tuple[nn.Module, Any]] = {
    "a layer by name": (Contrast(), lambda model: ["2"]),
    "a module": (Contrast(), lambda model: (model[2],)),
    "CrossMapLRN2d": (nn.CrossMapLRN2d(3, 5.0), lambda model: "skip"),
    "LocalResponseNorm": (nn.LocalResponseNorm(3, 5.0), lambda model: "skip"),
    "LocalResponseNorm by name": (nn.LocalResponseNorm(3, 5.0), lambda model: ["2"]),
    "a batch norm": (nn.BatchNorm2d(4), lambda model: ["2"]),
}


@pytest.mark.parametrize("name", NAMED)
@pytest.mark.parametrize("start", ["one", "activation"])
def test_a_layer_is_passed_over_whatever_it_computes(name: str, start: Any) -> None:
    norm, which = NAMED[name]
    model = network(norm)
    found = signed(model, X, Neuron("3", 1, 2, 1), norm_layers=which(model), start=start)
    assert_close(found, past(model, X, (1, 2, 1), start), **EXACT)
    assert not torch.allclose(found, signed(model, X, Neuron("3", 1, 2, 1), start=start))
    assert all(not module._forward_hooks for module in model.modules())


@pytest.mark.parametrize("name", NAMED)
def test_coverage_counts_layers_that_are_passed_over_and_nothing_in_them(name: str) -> None:
    norm, which = NAMED[name]
    model = network(norm)
    found = coverage(Deconvnet(model, norm_layers=which(model)), X, Neuron("3", 1))
    family = "LocalResponseNorm" if name == "LocalResponseNorm" else "layer"
    assert str(found) in {f"overrode 1 of 1 {family}, 1 of 1 ReLU", f"overrode 1 of 1 ReLU, 1 of 1 {family}"}
    assert found.holds


def test_a_method_that_passes_layers_over_shares_no_pass_with_those_that_do_not() -> None:
    model = network(Contrast())
    methods = {
        "plain": Deconvnet(model),
        "past": Deconvnet(model, norm_layers=["2"]),
        "guided": GuidedBackprop(model),
    }
    together = attribute_all(methods, X, [Neuron("3", 1)])
    for name, method in methods.items():
        assert torch.equal(together[name][0], method.attribute(X, Neuron("3", 1)))


@pytest.mark.parametrize("given", ["skip", ["4"]])
def test_a_warning_says_when_nothing_was_passed_over(given: Any) -> None:
    model = network(Contrast())
    method = Deconvnet(model, norm_layers=given)
    with pytest.warns(UserWarning, match="passed nothing over on the way to the target .*name layers that normalise"):
        maps = method.attribute(X, Neuron("3", 1))
    assert torch.equal(maps, Deconvnet(model).attribute(X, Neuron("3", 1)))


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ("jump", InputError, "norm_layers must be one of 'grad', 'skip'"),
        (["9"], LayerError, "has no layer '9'"),
        (["2#0"], LayerError, "must be a module, every call of it; got '2#0'"),
        (["2@input"], LayerError, "must be a module, every call of it; got '2@input'"),
        ([3], LayerError, "layer must be a dotted name or an nn.Module; got int"),
        (3, InputError, "norm_layers must be one of 'grad', 'skip'; got 3"),
    ],
)
def test_layers_that_cannot_be_meant_are_refused(given: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Deconvnet(network(Contrast()), norm_layers=given)


def test_a_layer_that_changes_the_shape_cannot_be_passed_over() -> None:
    with pytest.raises(LayerError, match=r"shape of its only input; Conv2d makes \(2, 5, 17, 13\) of \(2, 4, 19, 15\)"):
        Deconvnet(network(Contrast()), norm_layers=["3"]).attribute(X, Neuron("4", 1))


def test_a_model_that_is_no_module_has_no_layers_to_pass_over() -> None:
    model = network(nn.LocalResponseNorm(3, 5.0))
    with pytest.raises(LayerError, match=r"only in an nn\.Module"):
        Deconvnet(model.forward, norm_layers=["2"])
    by_function = Deconvnet(model.forward, norm_layers="skip").attribute(X, (1, 2, 1))
    assert torch.equal(by_function, Deconvnet(model, norm_layers="skip").attribute(X, (1, 2, 1)))


def test_a_guided_map_of_zeros_is_logged_with_its_examples(caplog: pytest.LogCaptureFixture) -> None:
    model = nets.fill(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU6()))
    with torch.no_grad():
        model[0].weight[1] = 1.0
        x = torch.stack([torch.ones(3, 5, 5), torch.full((3, 5, 5), 0.1)])  # 27 and 2.7: at the ceiling, and below
        model[0].bias.zero_()
    maps = GuidedBackprop(model).attribute(x, Neuron("1", 1))
    assert maps.flatten(1).any(1).tolist() == [False, True]
    assert "examples [0]: no path from the target is positive all the way" in caplog.text
    caplog.clear()
    before = GuidedBackprop(model, activations=["relu6"]).attribute(x, Neuron("1", 1, 0, 0))
    assert torch.equal(before, maps)
    assert "examples [0]" in caplog.text
    assert bool(Saliency(model).attribute(x, Neuron("0", 1)).flatten(1).any(1).all())
