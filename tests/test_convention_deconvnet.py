"""Deconvnet from single units: the paper's projection and normalisation against loops, and units that are silent."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.testing import assert_close

import attrib
from attrib import Channel, Deconvnet, GuidedBackprop, Neuron, attribute_all, coverage
from attrib.core import count
from attrib.core.objectives.units import Valued
from attrib.errors import InputError
from tests import nets
from tests.conventions import pins
from tests.oracles import deconvnet
from tests.oracles.models import EXACT
from tests.units import X, alexnet, filled, mirror, signed, strongest, top

# --- the paper's projection


@pins("deconvnet", "it starts with 1 at the unit")
@pytest.mark.parametrize("start", ["activation", "one"])
def test_a_unit_is_projected_as_the_paper_does_through_a_net_with_local_response_normalisation(start: Any) -> None:
    model = filled(alexnet())
    for row in X:
        unit = strongest(top(model, "9", row[None])[0])
        expected = deconvnet.project(mirror(model), row.numpy(), unit, None if start == "activation" else 1.0)
        found = signed(model, row[None], Neuron("9", *unit), start=start, norm_layers="skip")
        assert found.abs().max() > 0
        assert_close(found[0], torch.from_numpy(expected), **EXACT)


def test_only_the_option_passes_normalisation_over_and_coverage_counts_it() -> None:
    model = filled(alexnet())
    skipped, plain = Deconvnet(model, norm_layers="skip"), Deconvnet(model)
    assert not torch.allclose(skipped.attribute(X, Neuron("9", 1)), plain.attribute(X, Neuron("9", 1)))
    assert str(coverage(skipped, X, Neuron("9", 1))) == "overrode 2 of 2 LocalResponseNorm, 3 of 3 ReLU"
    assert str(coverage(plain, X, Neuron("9", 1))) == "overrode 3 of 3 ReLU"


def test_normalisation_alone_is_no_activation_that_was_overridden() -> None:
    model = filled(nn.Sequential(nn.Conv2d(3, 4, 3), nn.LocalResponseNorm(3)))
    with pytest.raises(attrib.errors.RuleError, match="no activation was overridden"):
        signed(model, X, Neuron("1", 1), norm_layers="skip")


def test_normalisation_in_a_functional_call_is_passed_over_too() -> None:
    class Functional(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return F.local_response_norm(x.relu(), 3, alpha=5.0, k=0.5).sum((1, 2, 3))

    x = nets.batch(1, 4, 4, channels=4)
    assert torch.equal(signed(Functional(), x, None, norm_layers="skip"), torch.ones_like(x))
    assert not torch.equal(signed(Functional(), x, None), torch.ones_like(x))


def test_the_projection_of_one_convolution_is_the_transposed_convolution_of_one_activation() -> None:
    conv = filled(nn.Conv2d(3, 4, 3, stride=2, padding=1))
    model = nn.Sequential(nn.ReLU(), conv)
    x = nets.batch(1, 9, 7, dtype=torch.float64).abs()  # the ReLU at the input changes nothing, and rectifies below
    act = top(model, "1", x)
    alone = torch.zeros_like(act)
    alone[0, 2, 3, 1] = act[0, 2, 3, 1]
    expected = F.conv_transpose2d(alone, conv.weight.detach(), None, 2, 1).clamp(min=0)
    assert_close(signed(model, x, "1:2,3,1", start="activation"), expected, **EXACT)


def test_a_summed_channel_started_with_its_activations_projects_the_whole_feature_map() -> None:
    model = filled(alexnet())
    layers = mirror(model)
    for reduce, share in (("sum", 1.0), ("mean", 1.0 / top(model, "9", X)[0, 0].numel())):
        found = signed(model, X, Channel("9", 2, reduce), start="activation", norm_layers="skip")
        for n, row in enumerate(X.numpy()):
            act = deconvnet.up(layers, row)[0][-1]
            signal = np.zeros_like(act)
            signal[2] = act[2] * share
            assert_close(found[n], torch.from_numpy(deconvnet.down(layers, row, signal)), **EXACT)


def test_a_class_is_started_with_its_logit() -> None:
    model, x = nets.make("module", torch.float64), nets.batch(2, 8, 6, dtype=torch.float64)
    with torch.no_grad():
        logits = model(x)
    best = logits.argmax(1)
    found = signed(model, x, best, start="activation")
    size = logits.amax(1)[:, None, None, None]
    assert bool((size > 0).all())
    assert_close(found, signed(model, x, best) * size, **EXACT)


def test_a_large_activation_is_its_own_start_to_the_last_digit() -> None:
    x = torch.full((1, 1, 2, 2), 3e8)
    model = nn.Sequential(nn.ReLU(), nn.Conv2d(1, 1, 1, bias=False))
    nn.init.ones_(model[1].weight)
    assert signed(model, x, Neuron("1", 0, 1, 0), start="activation").flatten().tolist() == [0, 0, 3e8, 0]


@pytest.mark.parametrize("option", ["start", "norm_layers"])
def test_an_unknown_option_is_refused(option: str) -> None:
    with pytest.raises(InputError, match=f"{option} must be one of"):
        Deconvnet(nn.ReLU(), **{option: "all"})  # type: ignore[arg-type]


# --- many units in one call, and units that are silent


def test_many_units_share_one_forward_pass() -> None:
    model = filled(alexnet())
    units = [Neuron("9", 1), Neuron("9", 4, 1, 0), "5:3", Channel("5", 2, "sum"), Channel("9", 0, "max"), "3:1,2,2"]
    methods = {"deconvnet": Deconvnet(model), "guided": GuidedBackprop(model)}
    with count() as cost:
        maps = attribute_all(methods, X, units)
    assert (cost.forwards, cost.backwards) == (len(X), len(X) * len(units) * 2)
    for name, method in methods.items():
        for unit, found in zip(units, maps[name], strict=True):
            assert torch.equal(found, method.attribute(X, unit))
            assert found.abs().amax() > 0


@pytest.mark.parametrize("method", [Deconvnet, GuidedBackprop])
def test_the_maximum_of_a_channel_is_each_examples_own_strongest_unit(method: Any) -> None:
    model = filled(alexnet())
    act = top(model, "8", X)[:, 3]
    where = [divmod(int(row.argmax()), row.shape[1]) for row in act]
    assert where[0] != where[1]
    rows = torch.tensor([y for y, _ in where]), torch.tensor([x for _, x in where])
    own = method(model).attribute(X, Neuron("8", 3))
    assert torch.equal(own, method(model).attribute(X, Channel("8", 3, "max")))
    assert torch.equal(own, method(model).attribute(X, Neuron("8", 3, *rows)))
    assert not torch.equal(own, method(model).attribute(X, Neuron("8", 3, *where[0])))


def test_units_before_and_after_their_rectifier_differ_by_its_rule_only() -> None:
    model = filled(alexnet())
    before = top(model, "8", X[:1])[0]
    alive = strongest(before)
    c, y, x = (int(i) for i in np.unravel_index(int(before.argmin()), before.shape))
    for method in (Deconvnet(model), GuidedBackprop(model)):
        at = lambda layer, unit: method.attribute(X[:1], Neuron(layer, *unit))  # noqa: B023, E731
        assert torch.equal(at("9", alive), at("8", alive))
        assert at("8", (c, y, x)).any()
    assert float(before[c, y, x]) < 0  # a unit that is silent behind its ReLU: only the deconvnet looks through
    assert not GuidedBackprop(model).attribute(X[:1], Neuron("9", c, y, x)).any()
    assert torch.equal(*(Deconvnet(model).attribute(X[:1], Neuron(layer, c, y, x)) for layer in ("8", "9")))


@pins("deconvnet", 'with ``start="activation"``')
def test_a_silent_unit_gives_no_pattern_when_it_starts_with_its_activation_and_this_is_said(
    caplog: pytest.LogCaptureFixture,
) -> None:
    model = filled(alexnet())
    act = top(model, "9", X)
    c, y, x = (int(i) for i in (((act[0] > 0) & (act[1] == 0)).nonzero()[0]))
    method = Deconvnet(model, start="activation")
    maps = method.attribute(X, Neuron("9", c, y, x))
    assert maps[0].any()
    assert not maps[1].any()
    assert "examples [1]: the score is not positive" in caplog.text
    caplog.clear()
    method.attribute(X[:1], Neuron("9", c, y, x))
    assert not caplog.records


def test_the_start_takes_a_values_gradient_in_every_kind_of_target() -> None:
    """Gradient times activation where the target reads it: for a difference of classes, and for what is no float."""
    model, x = nets.make("module", torch.float64), nets.batch(2, 8, 6, dtype=torch.float64)
    with torch.no_grad():
        logits = model(x)
    contrast = attrib.ClassScore(2) - attrib.ClassScore(4)
    valued = Valued(contrast)
    leaf = logits.clone().requires_grad_(True)
    score = valued.bind(leaf, {})((leaf), {})
    assert torch.equal(score, logits[:, 2] - logits[:, 4])
    (start,) = torch.autograd.grad(score.sum(), leaf)
    assert_close(start, logits * torch.tensor([0.0, 0, 1, 0, -1]))
    assert valued.layers == ()
    assert Valued(Neuron("conv2", 1)).layers == ("conv2",)
    one = Valued(attrib.ClassScore(torch.tensor([2, 4])))
    assert one.entries == 2
    assert float(one.rows(torch.tensor([1])).bind(logits[1:], {})(logits[1:], {})) == float(logits[1, 4])
    assert Valued(attrib.ClassScore(1)).in_space("probability")(logits, {}).max() <= 1
    assert Valued(attrib.Custom(lambda out: out["y"]))({"y": logits[:, 0], "n": torch.tensor(3)}, {}).shape == (2,)
