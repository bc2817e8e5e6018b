"""Backward overrides are right for every spelling, and never silently absent."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import torch.utils.checkpoint
from torch import Tensor, nn

import attrib
from attrib.core import deconv, guided, rules
from attrib.errors import InputError, RuleError
from attrib.interop.captum import GuidedBackprop as DropIn

ZERO = torch.zeros(())
RELU_SPELLINGS: dict[str, Callable[[Tensor], Tensor]] = {
    "module": nn.ReLU(),
    "module in place": nn.ReLU(inplace=True),
    "F.relu": F.relu,
    "F.relu in place": lambda z: F.relu(z, inplace=True),
    "F.relu in place by position": lambda z: F.relu(z, True),
    "F.relu by keyword": lambda z: F.relu(input=z),
    "F.relu_": F.relu_,
    "torch.relu": torch.relu,
    "torch.relu_": torch.relu_,
    "method": lambda z: z.relu(),
    "method in place": lambda z: z.relu_(),
    "clamp": lambda z: torch.clamp(z, min=0),
    "clamp by position": lambda z: z.clamp(0),
    "clamp in place": lambda z: z.clamp_(min=0.0),
    "clamp with a tensor": lambda z: z.clamp(min=torch.zeros(())),
    "clip": lambda z: z.clip(min=0),
    "clamp_min": lambda z: z.clamp_min(0),
    "clamp_min_": lambda z: z.clamp_min_(0),
    "maximum": lambda z: torch.maximum(z, ZERO),
    "max of two": lambda z: torch.max(z, torch.zeros_like(z)),
    "fmax": lambda z: z.fmax(ZERO),
    "threshold": nn.Threshold(0.0, 0.0),
    "threshold in place": nn.Threshold(0.0, 0.0, inplace=True),
}
# family, function, its derivative at z
FAMILIES: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]] = {
    "relu6": (nn.ReLU6(), lambda z: ((z > 0) & (z < 6)).to(z)),
    "relu6 in place": (nn.ReLU6(inplace=True), lambda z: ((z > 0) & (z < 6)).to(z)),
    "hardtanh(0, 4)": (nn.Hardtanh(0.0, 4.0), lambda z: ((z > 0) & (z < 4)).to(z)),
    "clamp(0, 4)": (lambda z: z.clamp(0, 4), lambda z: ((z > 0) & (z < 4)).to(z)),
    "leaky_relu": (nn.LeakyReLU(0.1), lambda z: 1 - 0.9 * (z <= 0).double()),
    "leaky_relu in place": (nn.LeakyReLU(0.1, inplace=True), lambda z: 1 - 0.9 * (z <= 0).double()),
    "prelu": (nn.PReLU(dtype=torch.float64), lambda z: torch.where(z > 0, 1.0, 0.25).to(z)),
    "rrelu": (nn.RReLU(0.2, 0.2).eval(), lambda z: 1 - 0.8 * (z <= 0).double()),
    "elu": (nn.ELU(), lambda z: torch.where(z > 0, torch.ones_like(z), z.exp())),
    "elu in place": (nn.ELU(inplace=True), lambda z: torch.where(z > 0, torch.ones_like(z), z.exp())),
    "celu": (nn.CELU(), lambda z: torch.where(z > 0, torch.ones_like(z), z.exp())),
    "selu": (
        nn.SELU(),
        lambda z: 1.0507009873554805 * torch.where(z > 0, torch.ones_like(z), 1.6732632423543772 * z.exp()),
    ),
    "silu": (nn.SiLU(), lambda z: z.sigmoid() * (1 + z * (1 - z.sigmoid()))),
    "hardswish": (nn.Hardswish(), lambda z: torch.where(z <= -3, 0.0, torch.where(z >= 3, 1.0, z / 3 + 0.5)).to(z)),
}
Z = torch.tensor([[-4.0, -1.0, -0.5, 0.0, 0.5, 2.0, 5.0, 9.0], [3.0, -2.0, 1.0, -1.0, 7.0, -7.0, 0.25, -0.25]]).double()
UP = torch.tensor([1.0, -2.0, 3.0, 4.0, -5.0, 6.0, -7.0, 8.0]).double()
SIDE = torch.tensor([-1.0, 1.0, 2.0, -2.0, 3.0, -3.0, 0.5, -0.5]).double()


def passed_back(rule: str, slope: Tensor) -> Tensor:
    """The rule in one literal line each: gradient that an activation with this slope passes on."""
    out = UP.expand_as(slope)
    return torch.where(out > 0, out, 0.0) if rule == "deconv" else torch.where(out * slope > 0, out * slope, 0.0)


class Net(nn.Module):
    """z -> activation -> weighted sum, with the activation's input used a second time where asked."""

    def __init__(self, act: Callable[[Tensor], Tensor], second_consumer: bool) -> None:
        super().__init__()
        self.act, self.second_consumer = act, second_consumer

    def forward(self, x: Tensor) -> Tensor:
        z = x * 1.0
        side = (z * SIDE).sum(1) if self.second_consumer else 0.0  # before: in-place activations change z
        return (self.act(z) * UP).sum(1) + side


def method(rule: str, net: nn.Module, **options: object) -> attrib.Attribution:
    cls = attrib.Deconvnet if rule == "deconv" else attrib.GuidedBackprop
    return cls(net, channels="none", absolute=False, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("rule", ["guided", "deconv"])
@pytest.mark.parametrize("second_consumer", [False, True])
@pytest.mark.parametrize("spelling", RELU_SPELLINGS)
def test_every_spelling_of_relu_follows_the_rule_on_its_own_branch(
    spelling: str, second_consumer: bool, rule: str
) -> None:
    net = Net(RELU_SPELLINGS[spelling], second_consumer)
    expected = passed_back(rule, (Z > 0).double()) + (SIDE if second_consumer else 0.0)
    torch.testing.assert_close(method(rule, net).attribute(Z), expected, rtol=0, atol=0)


@pytest.mark.parametrize("rule", ["guided", "deconv"])
@pytest.mark.parametrize("family", FAMILIES)
def test_other_families_follow_the_stated_policy(family: str, rule: str) -> None:
    act, slope = FAMILIES[family]
    got = method(rule, Net(act, True), activations="all").attribute(Z)
    torch.testing.assert_close(got, passed_back(rule, slope(Z)) + SIDE, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("act", [nn.GELU(), nn.Mish(), F.gelu, F.mish], ids=["nn.GELU", "nn.Mish", "F.gelu", "F.mish"])
def test_smooth_activations_pass_the_positive_part_of_their_gradient_when_asked(
    act: Callable[[Tensor], Tensor],
) -> None:
    z = Z.clone().requires_grad_(True)
    (true,) = torch.autograd.grad((act(z) * UP).sum(), z)
    got = method("guided", Net(act, False), activations="all").attribute(Z)
    torch.testing.assert_close(got, true.clamp(min=0))


@pytest.mark.parametrize("act", [nn.SiLU(), nn.GELU(), nn.Hardswish(), nn.Mish()], ids=str)
def test_smooth_activations_alone_are_refused_by_default(act: nn.Module) -> None:
    with pytest.raises(RuleError, match=rf"no activation was overridden \(the model uses 1 {type(act).__name__}\)"):
        method("guided", Net(act, False)).attribute(Z)


def test_a_model_without_activations_is_refused() -> None:
    with pytest.raises(RuleError, match="the model uses no activation"):
        method("guided", Net(nn.Identity(), False)).attribute(Z)


def test_clamps_that_are_no_rectifier_are_left_alone() -> None:
    net = Net(lambda z: torch.relu(z.clamp(min=-1).clamp(max=8)), False)
    slope = ((Z > 0) & (Z < 8)).double()
    torch.testing.assert_close(method("guided", net).attribute(Z), passed_back("guided", slope))
    assert attrib.coverage(method("guided", net), Z).overrode == {"relu": 1}


def test_a_maximum_of_two_branches_is_left_alone() -> None:
    net = Net(lambda z: torch.relu(torch.maximum(z, 0.5 * z)), False)
    assert attrib.coverage(method("guided", net), Z).overrode == {"relu": 1}


def test_a_reduction_called_max_is_left_alone() -> None:
    net = Net(lambda z: torch.relu(z) + torch.max(z, 1, keepdim=True).values * 0 + z.max() * 0, False)
    assert attrib.coverage(method("guided", net), Z).overrode == {"relu": 1}


def test_one_relu_module_on_parallel_branches_follows_the_rule_on_each() -> None:
    relu = nn.ReLU()
    net = Net(lambda z: relu(z) + 2 * relu(-z), False)
    below = torch.where(UP > 0, UP, 0.0)
    expected = below - torch.where(2 * UP > 0, 2 * UP, 0.0)
    torch.testing.assert_close(method("deconv", net).attribute(Z), expected.expand_as(Z))


def test_a_view_that_is_rectified_in_place_follows_the_rule() -> None:
    def half(z: Tensor) -> Tensor:
        z[:, :4].relu_()
        return z

    expected = torch.cat([passed_back("guided", (Z > 0).double())[:, :4], UP[4:].expand(2, 4)], 1)
    torch.testing.assert_close(method("guided", Net(half, False)).attribute(Z), expected)


def test_the_coverage_report_counts_calls_on_the_way_to_the_score() -> None:
    unused = nn.ReLU()

    def act(z: Tensor) -> Tensor:
        unused(z)  # does not reach the score
        return F.silu(torch.relu(torch.relu(z)))

    found = attrib.coverage(method("guided", Net(act, False)), Z)
    assert str(found) == "overrode 2 of 2 ReLU; left 1 SiLU alone"
    assert (found.overrode, found.left, found.escaped) == ({"relu": 2}, {"silu": 1}, {})


def test_smooth_activations_that_are_left_beside_rectifiers_are_said() -> None:
    with pytest.warns(UserWarning, match="overrode 1 of 1 ReLU; left 1 SiLU alone"):
        method("guided", Net(lambda z: F.silu(torch.relu(z)), False)).attribute(Z)


def test_scripted_code_is_refused_because_its_relu_escapes() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit.script says so; scripted models still exist
        scripted = torch.jit.script(nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 3)).double())
    with pytest.raises(RuleError, match="1 ReLU did not"):
        method("guided", Net(lambda z: scripted(z).sum(1, keepdim=True), False)).attribute(Z)


def test_checkpointed_code_is_refused_because_it_runs_again_outside() -> None:
    def act(z: Tensor) -> Tensor:
        return torch.utils.checkpoint.checkpoint(torch.relu, z, use_reentrant=True)

    with pytest.raises(RuleError, match="checkpointed region"):
        method("guided", Net(act, False)).attribute(Z)


def test_foreign_kernels_are_named_when_nothing_was_overridden() -> None:
    class Swish(torch.autograd.Function):
        @staticmethod
        def forward(ctx: object, z: Tensor) -> Tensor:
            return z * z.sigmoid()

        @staticmethod
        def backward(ctx: object, grad: Tensor) -> Tensor:
            return grad

    net = Net(Swish.apply, False)
    with pytest.raises(RuleError, match="the model uses 1 Swish"):
        method("guided", net).attribute(Z)
    with pytest.warns(UserWarning, match="plain gradient, as the model uses 1 Swish"):
        DropIn(net).attribute(Z)


def test_a_custom_function_that_keeps_its_gradient_beside_rectifiers_is_said() -> None:
    class Rectified(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, z: Tensor) -> Tensor:
            ctx.save_for_backward(z)
            return z.clamp(min=0)

        @staticmethod
        def backward(ctx: Any, grad: Tensor) -> Tensor:
            return grad * (ctx.saved_tensors[0] > 0)

    with pytest.warns(UserWarning, match="left 1 Rectified alone. Their own gradient was used: no rule reaches custom"):
        method("guided", Net(lambda z: Rectified.apply(torch.relu(z)), False)).attribute(Z)


def test_hooks_of_torch_are_no_custom_functions() -> None:
    layer = nn.Identity()
    layer.register_full_backward_hook(lambda *_: None)
    found = method("guided", Net(lambda z: layer(torch.relu(z)), False)).attribute(Z)
    torch.testing.assert_close(found, passed_back("guided", (Z > 0).double()))


def test_activations_can_be_chosen_by_family() -> None:
    net = Net(lambda z: F.leaky_relu(torch.relu(z), 0.1), False)
    found = attrib.coverage(method("guided", net, activations=["relu"]), Z)
    assert (found.overrode, found.left) == ({"relu": 1}, {"leaky_relu": 1})


@pytest.mark.parametrize("bad", ["relus", ["swish"]])
def test_unknown_families_are_refused(bad: object) -> None:
    with pytest.raises(InputError, match="activation"):
        method("guided", Net(torch.relu, False), activations=bad)


def test_coverage_needs_a_method_with_rules() -> None:
    with pytest.raises(InputError, match="must override activations"):
        attrib.coverage(attrib.Saliency(Net(torch.relu, False)), Z)


def test_rules_leave_calls_without_gradient_alone() -> None:
    z = Z.clone()
    with rules(relu=guided):
        y = torch.relu(z)
        with torch.no_grad():
            torch.relu(z.requires_grad_(True))
    assert y.grad_fn is None


def test_rules_are_local_to_the_block_and_nest() -> None:
    z = Z.clone().requires_grad_(True)
    with rules(relu=guided), rules(relu=deconv):
        inner = torch.autograd.grad((torch.relu(z) * UP).sum(), z)[0]
    outside = torch.autograd.grad((torch.relu(z) * UP).sum(), z)[0]
    torch.testing.assert_close(inner, passed_back("deconv", Z))
    torch.testing.assert_close(outside, UP * (Z > 0))


def test_the_values_of_the_forward_pass_do_not_change() -> None:
    for act in (*RELU_SPELLINGS.values(), *(f for f, _ in FAMILIES.values())):
        z = Z.clone().requires_grad_(True)
        expected = act(Z.clone())
        with rules(**dict.fromkeys(("relu", "relu6", "leaky_relu", "prelu", "elu", "selu", "celu", "silu"), guided)):
            got = act(z * 1.0)
        torch.testing.assert_close(got, expected, rtol=0, atol=0)
