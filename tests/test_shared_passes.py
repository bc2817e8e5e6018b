"""Sharing costs what it says, keeps one graph, leaves no trace, and tells what is wrong as each method alone does."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from attrib import GradCAM, GuidedBackprop, Occlusion, Saliency, attribute_all
from attrib.core import Backward, Query, Switch, count, deconv, guided
from attrib.errors import AttribError, InputError, LayerError, ModelError, RuleError, TargetError
from tests import nets
from tests.sharers import everything
from tests.test_frozen import Restless, same, state

# --- what it costs


def test_one_forward_pass_and_one_backward_pass_for_each_target_and_rule() -> None:
    model, seen = nets.make("module"), []
    model.register_forward_hook(lambda *_: seen.append(1))
    with count() as cost:
        attribute_all(everything(model, "conv1", "pool"), nets.batch(2), [0, 1, 2])
    assert len(seen) == 1
    assert (cost.forwards, cost.backwards) == (2, 2 * 3 * 3)  # plain, guided, deconv


@contextmanager
def packed() -> Iterator[list[int]]:
    """Bytes of each tensor that autograd saves."""
    sizes: list[int] = []

    def pack(tensor: Tensor) -> Tensor:
        sizes.append(tensor.untyped_storage().nbytes())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        yield sizes


def test_the_graph_is_kept_once() -> None:
    model, x = nets.make("module"), nets.batch(2)
    with packed() as alone:
        Saliency(model).attribute(x, 1)
    with packed() as shared:
        attribute_all({label: one for label, one in everything(model).items() if "x" not in label}, x, [0, 1, 2])
    assert sum(shared) <= sum(alone) + 2 * 3 * 64  # a score for each target


def test_the_graph_of_maps_at_layers_starts_at_the_first_of_them() -> None:
    model, x = nets.make("module"), nets.batch(2)
    grads: dict[str, bool] = {}
    for name in ("conv1", "pool", "conv2"):
        note = partial(lambda name, _m, args, _o: grads.update({name: args[0].requires_grad}), name)
        model.get_submodule(name).register_forward_hook(note)
    attribute_all({"fine": GradCAM(model, "pool"), "coarse": GradCAM(model, "conv2")}, x, [0])
    assert grads == {"conv1": False, "pool": False, "conv2": True}


@pytest.mark.filterwarnings("ignore:overrode 2 of 2 ReLU; left 1 Spy alone")  # a scale, no activation
def test_no_gradient_of_a_weight_is_computed() -> None:
    asked: list[bool] = []

    class Spy(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
            asked.append(ctx.needs_input_grad[1])
            return x * weight

        @staticmethod
        def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
            return grad, None

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.chain, self.scale = nets.fill(nets.Chain()), nn.Parameter(torch.ones(()))

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.chain(Spy.apply(x, self.scale))
            return out

    model = Net()
    attribute_all(everything(model, "chain.conv1"), nets.batch(2), [0])
    assert asked == [False]
    assert all(weight.grad is None and weight.requires_grad for weight in model.parameters())


# --- what is left behind


class Breaks(Saliency):
    """Reads its gradient, then fails."""

    def _attribute(self, query: Query) -> Any:
        super()._attribute(query)
        raise ZeroDivisionError("oops")


@pytest.mark.parametrize("broken", [None, Breaks, "model"])
def test_nothing_changes_whether_a_method_or_the_model_fails_or_not(broken: Any) -> None:
    torch.manual_seed(1)
    model = Restless(fail_at=1 if broken == "model" else None).train()
    model.bn.training = False
    x = torch.randn(2, 3, 8, 8)
    kept, before = x.clone(), state(model)
    methods = (
        everything(model, "bn") | ({"broken": broken(model)} if broken is Breaks else {}) | {"more": Saliency(model)}
    )
    fails: Any = {None: None, Breaks: (ZeroDivisionError, "oops"), "model": (ModelError, "boom")}[broken]
    if fails:
        with pytest.raises(fails[0], match=fails[1]):
            attribute_all(methods, x, [1, 2])
    else:
        attribute_all(methods, x, [1, 2])
    assert [key for key, value in before.items() if not same(value, state(model)[key])] == []
    assert torch.equal(x, kept)


@pytest.mark.parametrize("broken", [False, True])
def test_no_graph_is_left_behind(broken: bool) -> None:
    model, alive = nets.make("F.relu in place"), []
    for part in (model.conv1, model.conv2, model.fc):
        part.register_forward_hook(lambda _m, _a, out: alive.append(weakref.ref(out)))
    methods = everything(model, "conv1") | ({"broken": Breaks(model)} if broken else {})
    gc.disable()  # what only a collection could free would stay for long
    try:
        with suppress(ZeroDivisionError):
            attribute_all(methods, nets.batch(2), [0, 1])
        assert alive
        assert [one for one in alive if one() is not None] == []
    finally:
        gc.enable()


# --- what goes wrong


class Detached(nets.Chain):
    """No gradient leads to the inputs, but one to the last layer."""

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.fc(torch.relu(self.conv2(self.pool(self.conv1(x)).detach())).mean((2, 3)))
        return out


@pytest.mark.parametrize(
    ("model", "method", "target", "error", "words"),
    [
        (lambda: nets.make("silu"), GuidedBackprop, 1, RuleError, "no activation was overridden"),
        (lambda: nets.make("module"), partial(GradCAM, layer="conv2"), "conv1:0", LayerError, "before the target"),
        (lambda: nets.make("module"), partial(GradCAM, layer="fc"), 1, LayerError, "must be spatial"),
        (lambda: nets.make("one module used twice"), partial(GradCAM, layer="act1"), 1, LayerError, "Choose one"),
        (lambda: nets.make("module"), Saliency, 7, TargetError, "must lie in"),
        (lambda: nets.fill(Detached()), Saliency, 1, ModelError, "no graph leads there"),
    ],
)
def test_what_is_wrong_is_told_as_by_the_method_alone(
    model: Any, method: Any, target: Any, error: type[AttribError], words: str
) -> None:
    net, x = model(), nets.batch(2)
    with pytest.raises(error, match=words) as alone:
        method(net).attribute(x, target)
    with pytest.raises(error, match=words) as together:
        attribute_all({"also": GradCAM(net, "conv2"), "wrong": method(net)}, x, [target])
    assert str(together.value) == str(alone.value) or "conv1:0" in str(target)


def test_a_graph_that_begins_behind_the_inputs_serves_the_layers_there() -> None:
    net, x = nets.fill(Detached()), nets.batch(2)
    cam = GradCAM(net, "conv2")
    assert torch.equal(
        attribute_all({"cam": cam, "deeper": Saliency(net, "fc")}, x, [1])["cam"][0], cam.attribute(x, 1)
    )


def test_methods_that_declare_nothing_run_on_their_own() -> None:
    model, x = nets.make("module"), nets.batch(2)
    methods = {"occlusion": Occlusion(model, window=4), "saliency": Saliency(model)}
    found = attribute_all(methods, x, [1, 2])
    assert list(found) == ["occlusion", "saliency"]
    for label, method in methods.items():
        assert all(torch.equal(maps, method.attribute(x, one)) for maps, one in zip(found[label], (1, 2), strict=True))


def test_without_any_gradient_there_is_nothing_to_share() -> None:
    model, x = nets.make("module"), nets.batch(2)
    method = Occlusion(model, window=4)
    assert torch.equal(attribute_all({"only": method}, x, [1])["only"][0], method.attribute(x, 1))


def test_the_clean_activations_of_a_layer_that_was_not_kept_are_made() -> None:
    class Clean(Saliency):
        """Looks at a layer, but reads a gradient at the inputs only."""

        def passes(self, layer: str | None) -> tuple[Backward, ...]:
            return (Backward(),)

        def _attribute(self, query: Query) -> tuple[Tensor, ...]:
            return (query.gradient().grad[0] * query.clean.acts["conv2"].mean(),)

    model, x = nets.make("module"), nets.batch(2)
    alone = Clean(model, "conv2").attribute(x, 1)
    found = attribute_all({"clean": Clean(model, "conv2"), "cam": GradCAM(model, "conv1")}, x, [1])
    assert torch.equal(found["clean"][0], alone)


def test_a_method_that_asks_for_more_than_it_declared_gets_it() -> None:
    class More(Saliency):
        def _attribute(self, query: Query) -> tuple[Tensor, ...]:
            other = query.in_space("probability").gradient().grad[0]
            return (
                query.gradient().grad[0] + other + query.gradient("conv1").grad[0].mean() + query.clean.score.sum(),
            )

    model, x = nets.make("module"), nets.batch(2)
    alone = More(model).attribute(x, 1)
    assert torch.equal(attribute_all({"more": More(model), "cam": GradCAM(model, "conv1")}, x, [1])["more"][0], alone)


def test_a_method_that_fails_in_its_backward_pass_may_be_asked_again() -> None:
    class Once(nets.Chain):
        left = 1

        def forward(self, x: Tensor) -> Tensor:
            if x.requires_grad:
                x.register_hook(self.fail)
            return super().forward(x)

        def fail(self, _: Tensor) -> None:
            self.left -= 1
            if self.left == 0:
                raise ZeroDivisionError("backward")

    model, x = nets.fill(Once()), nets.batch(2)
    with pytest.raises(ZeroDivisionError, match="backward"):
        attribute_all({"saliency": Saliency(model), "guided": GuidedBackprop(model)}, x, [1])
    expected = Saliency(model).attribute(x, 1)
    assert torch.equal(attribute_all({"saliency": Saliency(model)}, x, [1])["saliency"][0], expected)


@pytest.mark.parametrize(
    ("methods", "targets", "words"),
    [
        ({}, [1], "methods must be a mapping of labels to at least one method"),
        ([Saliency], [1], "methods must be a mapping"),
        ({"a": 3}, [1], "method 'a' must be an Attribution; got 3"),
        ({"a": Saliency}, [1], "method 'a' must be an Attribution"),
        ("models", [1], "method 'b' must be made with the model of the others"),
        ("one", [], r"targets must be a list of at least one target; got \[\]"),
        ("one", 3, r"targets must be a list .* got 3\. For one target: \[target\]"),
        ("one", "predicted", "got 'predicted'"),
    ],
)
def test_wrong_arguments_are_named(methods: Any, targets: Any, words: str) -> None:
    model = nets.make("module")
    given = {"models": {"a": Saliency(model), "b": Saliency(nets.make("silu"))}, "one": {"a": Saliency(model)}}
    with pytest.raises(InputError, match=words):
        attribute_all(given.get(methods, methods) if isinstance(methods, str) else methods, nets.batch(2), targets)


# --- rules that are chosen for each backward pass


@pytest.mark.parametrize("act", [torch.relu, torch.relu_, lambda z: z.clamp(min=0), lambda z: z.clamp_(0), nn.ELU()])
def test_each_backward_pass_follows_the_rule_chosen_for_it(act: Any) -> None:
    z = torch.tensor([-1.0, 0.0, 2.0, 3.0], requires_grad=True)
    above = torch.tensor([1.0, 2.0, -3.0, 4.0])
    (plain,) = torch.autograd.grad((act(z * 1.0) * above).sum(), z)
    family = "elu" if isinstance(act, nn.ELU) else "relu"
    slope = torch.autograd.functional.jacobian(nn.ELU() if family == "elu" else torch.relu, z.detach()).diag()
    with Switch({family: guided}, {family: deconv}) as switch:
        score = (act(z * 1.0) * above).sum()
    for override, expected in [
        ({family: guided}, (above * slope).clamp(min=0)),
        (None, plain),
        ({family: deconv}, above.clamp(min=0)),
        ({"silu": guided}, plain),
    ]:
        with switch.using(override):
            (got,) = torch.autograd.grad(score, z, retain_graph=True)
            assert switch.coverage(score).overrode == ({family: 1} if family in (override or {}) else {})
        assert torch.equal(got, expected)
    assert torch.equal(torch.autograd.grad(score, z)[0], plain)


def test_backward_passes_with_the_same_rules_are_one() -> None:
    assert Backward("a", {"relu": guided}).rules == Backward(None, {"relu": guided}).rules
    assert Backward().rules == Backward("a", {}).rules != Backward(None, {"relu": deconv}).rules
