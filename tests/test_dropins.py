"""The drop-in classes: Captum's names, signatures, results and oddities; nothing left behind; Occlusion faster."""

from __future__ import annotations

import functools
import inspect
import io
import sys
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import captum.attr as stock
import pytest
import torch
from torch import Tensor, nn

import attrib.interop.captum as ours
from attrib.core import count
from attrib.errors import LayerError
from attrib.testing.traces import ModelTrace, ProcessTrace, TensorTrace
from tests import nets

NAMES = ("Saliency", "InputXGradient", "Occlusion", "GuidedBackprop", "Deconvolution", "LayerGradCam", "GuidedGradCam",
         "NeuronGuidedBackprop", "NeuronDeconvolution")  # fmt: skip
LAYERED = ("LayerGradCam", "GuidedGradCam", "NeuronGuidedBackprop", "NeuronDeconvolution")
# arguments of `attribute` beyond inputs; the nets have 5 classes and a layer conv2 with 6 channels
CALLS: dict[str, dict[str, Any]] = {
    "Occlusion": {"sliding_window_shapes": (3, 3, 2), "strides": (3, 2, 2)},
    "NeuronGuidedBackprop": {"neuron_selector": (3, 1, 2)},
    "NeuronDeconvolution": {"neuron_selector": (3, slice(0, 2), 2)},
}
PLAIN = ("module", "module in place", "one module used twice", "residual", "regularised")  # where Captum is right
ROUNDING = {"Occlusion": 1e-6}  # of scores near 1 in other batch sizes; everything else is equal to the bit


def build(library: Any, name: str, model: nn.Module, layer: str = "conv2") -> Any:
    """The class ``name`` of ``library`` for ``model``."""
    where = (model.get_submodule(layer),) if name in LAYERED else ()
    return getattr(library, name)(model, *where)


def call(name: str, target: Any = 2) -> dict[str, Any]:
    """Keyword arguments for ``attribute``."""
    return {**CALLS.get(name, {}), **({} if name.startswith("Neuron") else {"target": target})}


@contextmanager
def quiet() -> Any:
    """Captum's own warnings are Captum's."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def run(library: Any, name: str, model: nn.Module, x: Any, layer: str = "conv2", **changed: Any) -> Any:
    """Explain a fresh copy of ``x``."""
    copies = tuple(t.clone() for t in x) if isinstance(x, tuple) else x.clone()
    silence: AbstractContextManager[None] = quiet() if library is stock else nullcontext()
    with silence:
        return build(library, name, model, layer).attribute(copies, **{**call(name), **changed})


def assert_same(a: Any, b: Any, name: str) -> None:
    """Same structure, dtype, values, and the same attachment to a graph."""
    assert type(a) is type(b)
    for one, other in zip(a, b, strict=True) if isinstance(a, tuple) else [(a, b)]:
        assert one.requires_grad == other.requires_grad
        torch.testing.assert_close(one.detach(), other.detach(), rtol=0, atol=ROUNDING.get(name, 0.0))


# --- the interface ---------------------------------------------------------------------------------------------------


def parameters(function: Callable[..., Any]) -> list[tuple[str, Any, Any]]:
    return [(p.name, p.kind, p.default) for p in inspect.signature(function).parameters.values()]


@pytest.mark.parametrize("name", NAMES)
def test_constructor_and_call_have_captums_parameters_in_captums_order(name: str) -> None:
    theirs, mine = getattr(stock, name), getattr(ours, name)
    assert parameters(mine.__init__) == parameters(theirs.__init__)
    assert parameters(mine.attribute) == parameters(theirs.attribute)
    assert mine.get_name() == theirs.get_name()


@pytest.mark.parametrize("name", NAMES)
def test_an_instance_is_captums_and_fits_captums_wrappers(name: str) -> None:
    mine, theirs = (build(library, name, nets.make("module")) for library in (ours, stock))
    assert isinstance(mine, getattr(stock, name))
    assert callable(mine.attribute.__wrapped__)
    assert mine.multiplies_by_inputs == theirs.multiplies_by_inputs
    assert mine.has_convergence_delta() == theirs.has_convergence_delta()
    with pytest.raises((NotImplementedError, AttributeError)) as by_us:
        mine.attribute_future()
    with pytest.raises(by_us.type):
        theirs.attribute_future()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("keyword", ["model", "forward_func"])
def test_the_model_can_be_called_by_either_of_captums_two_words(name: str, keyword: str) -> None:
    model = nets.make("module")
    layer = {"layer": model.conv2} if name in LAYERED else {}
    assert getattr(ours, name)(**{keyword: model}, **layer).forward_func is model


@pytest.mark.parametrize("name", NAMES)
def test_no_model_or_two_are_refused_as_python_does(name: str) -> None:
    model = nets.make("module")
    with pytest.raises(TypeError):
        getattr(ours, name)()
    with pytest.raises(TypeError):
        getattr(ours, name)(model=model, forward_func=model)


@pytest.mark.parametrize("name", LAYERED)
def test_a_layer_can_be_named(name: str) -> None:
    model, x = nets.make("module"), nets.batch()
    named = getattr(ours, name)(model, "conv2").attribute(x.clone(), **call(name))
    assert_same(named, run(ours, name, model, x), name)


@pytest.mark.parametrize("layer", ["conv7", "conv2#0", "conv2@input"])
def test_a_layer_that_captum_could_not_have_is_refused_in_words(layer: str) -> None:
    with pytest.raises(LayerError, match="conv2"):
        ours.LayerGradCam(nets.make("module"), layer)


# --- the results -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("net", PLAIN)
@pytest.mark.parametrize("name", NAMES)
def test_where_captum_is_right_the_numbers_are_captums(name: str, net: str) -> None:
    model, x = nets.make(net), nets.batch(3)
    layer = {"residual": "conv", "regularised": "features.0"}.get(net, "conv2")
    assert_same(run(ours, name, model, x, layer), run(stock, name, model, x, layer), name)


@pytest.mark.parametrize("target", [1, torch.tensor(1), torch.tensor([3, 0]), [3, 0], (1,), [(3,), (0,)], -1])
@pytest.mark.parametrize("name", [n for n in NAMES if not n.startswith("Neuron")])
def test_targets_mean_what_they_mean_in_captum(name: str, target: Any) -> None:
    model, x = nets.make("module"), nets.batch(2)
    assert_same(run(ours, name, model, x, target=target), run(stock, name, model, x, target=target), name)


@pytest.mark.parametrize("name", [n for n in NAMES if n not in ("Occlusion", *LAYERED)])
def test_two_inputs_and_further_arguments_give_a_tuple_as_in_captum(name: str) -> None:
    model = nets.fill(nets.TwoInputs())
    model.left.act1 = model.left.act2 = nn.ReLU()  # type: ignore[union-attr]
    model.right.act1 = model.right.act2 = nn.ReLU()  # type: ignore[union-attr]
    x = (nets.batch(2), nets.batch(2, seed=5))
    further = {"additional_forward_args": (torch.tensor([1.0, -2.0]),)}
    assert_same(run(ours, name, model, x, **further), run(stock, name, model, x, **further), name)


@pytest.mark.parametrize("name", ["Saliency", "InputXGradient", "Occlusion"])
def test_any_callable_will_do_where_captum_takes_any(name: str) -> None:
    model, x = nets.make("module"), nets.batch(2)
    forward = lambda t: model(t)[:, 1] * 2  # noqa: E731
    assert_same(run(ours, name, forward, x, target=None), run(stock, name, forward, x, target=None), name)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["GuidedBackprop", "Deconvolution"])
def test_the_rules_need_a_module_as_in_captum(name: str) -> None:
    for library in (ours, stock):
        with pytest.raises(AssertionError):
            getattr(library, name)(lambda x: x)
        with pytest.raises(AssertionError):
            getattr(library, name)(nets.make("module")).attribute([1.0], target=0)


def test_grad_cam_options_are_captums() -> None:
    model, x = nets.make("module in place"), nets.batch(2)
    for options in (
        {"relu_attributions": True},
        {"attr_dim_summation": False},
        {"attribute_to_layer_input": True},
        {"grad_kwargs": {"create_graph": True}},
    ):
        assert_same(*(run(lib, "LayerGradCam", model, x, **options) for lib in (ours, stock)), "LayerGradCam")


def test_the_map_of_grad_cam_stays_in_the_graph_for_training_on_it() -> None:
    model, x = nets.make("module"), nets.batch(2)
    ours.LayerGradCam(model, model.conv2).attribute(x, 1).sum().backward()
    assert model.conv1.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("name", NAMES)
def test_a_model_in_training_mode_is_explained_as_it_is(name: str) -> None:
    model, x = nets.make("regularised"), nets.batch(3)
    results = []
    for library in (ours, stock):
        fresh = nets.make("regularised").train()
        torch.manual_seed(4)  # the dropout
        results.append(run(library, name, fresh, x, "features.0"))
        model = fresh
        assert model.training
    assert_same(*results, name)


@pytest.mark.parametrize("name", ["Saliency", "InputXGradient", "GuidedBackprop", "Deconvolution"])
def test_a_user_gradient_function_is_used(name: str) -> None:
    method = build(ours, name, nets.make("module"))
    method.gradient_func = lambda forward, inputs, *_: tuple(torch.full_like(x, 3.0) for x in inputs)
    assert method.attribute(torch.ones(1, 3, 4, 4), target=0).unique().tolist() == [3.0]


# --- nothing is left behind ------------------------------------------------------------------------------------------


class Breaks(nets.Chain):
    """Raises after its last convolution."""

    def forward(self, x: Tensor) -> Tensor:
        self.conv2(self.pool(self.act1(self.conv1(x))))
        raise KeyError("half-way")


@pytest.mark.parametrize("broken", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_inputs_model_and_process_are_left_as_found(name: str, broken: bool) -> None:
    model = nets.fill((Breaks if broken else nets.Chain)(nn.ReLU(), nn.ReLU())).train()
    x = nets.batch(2)
    traces = (ModelTrace(model), TensorTrace(x), ProcessTrace())
    with pytest.raises(KeyError) if broken else nullcontext():
        build(ours, name, model).attribute(x, **call(name))
    assert [change for trace in traces for change in trace.changes()] == []


def test_captum_leaves_the_first_layers_input_differentiable_and_we_do_not() -> None:
    model = nets.make("module")
    left = {}
    for library in (stock, ours):
        x = nets.batch(2)
        library.LayerGradCam(model, model.conv1).attribute(x, 1, attribute_to_layer_input=True)
        left[library] = x.requires_grad
    assert left == {stock: True, ours: False}


@pytest.mark.parametrize("name", NAMES)
def test_normal_use_is_silent(name: str) -> None:
    build(ours, name, nets.make("module")).attribute(nets.batch(2), **call(name))


# --- Occlusion -------------------------------------------------------------------------------------------------------


def forwards_of(model: Any, x: Any, **options: Any) -> tuple[Any, int]:
    """The map, and how many rows went through the fast path; Captum's own code is not counted."""
    with count() as cost:
        maps = ours.Occlusion(model).attribute(x, **{**call("Occlusion"), **options})
    return maps, cost.forwards


@pytest.mark.parametrize("options", [
    {},
    {"perturbations_per_eval": 3},
    {"baselines": 0.5},
    {"baselines": nets.batch(1, seed=9)},
    {"baselines": nets.batch(2, seed=9)},
    {"baselines": (nets.batch(2, seed=9),)},
    {"baselines": nets.batch(1, seed=9)[0]},
    {"strides": None},
    {"strides": 2, "sliding_window_shapes": (3, 2, 2)},
    {"strides": ((1, 2, 3),), "sliding_window_shapes": ((3, 3, 4),)},
    {"strides": (9, 3, 2), "sliding_window_shapes": (3, 8, 6)},
    {"additional_forward_args": (torch.tensor([1.0, -2.0]),), "perturbations_per_eval": 4},
], ids=lambda options: ",".join(options) or "defaults")  # fmt: skip
def test_the_fast_occlusion_is_captums(options: dict[str, Any]) -> None:
    net, x = nets.make("module"), nets.batch(2)
    model = lambda t, w=None: net(t) if w is None else net(t) * w[:, None]  # noqa: E731
    mine, rows = forwards_of(model, x, **options)
    assert rows > 0
    assert_same(mine, run(stock, "Occlusion", model, x, **options), "Occlusion")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "case",
    ["two inputs", "window of one channel", "vector", "integers", "many outputs", "whole numbers out", "no arguments",
     "baseline of float64"],
)  # fmt: skip
def test_captums_own_code_answers_what_is_not_standard(case: str) -> None:
    net, x = nets.make("module"), nets.batch(2)
    two = nets.fill(nets.TwoInputs())
    flat = nn.Linear(4, 3)
    model, inputs, options = {
        "two inputs": (two, (x, x + 1), {"sliding_window_shapes": ((3, 3, 2), (3, 2, 2)), "strides": None}),
        "window of one channel": (net, x, {"sliding_window_shapes": (1, 3, 3), "strides": (1, 2, 2)}),
        "vector": (flat, torch.randn(2, 4), {"sliding_window_shapes": (2,), "strides": 1}),
        "integers": (lambda t: net(t.float()), x.int(), {}),
        "many outputs": (net, x, {"target": None}),
        "whole numbers out": (lambda t: net(t).mul(9).long(), x, {}),
        "no arguments": (lambda: torch.ones(2), x, {"target": None}),
        "baseline of float64": (lambda t: net(t.float()), x, {"baselines": x.double() / 2}),
    }[case]
    mine, rows = forwards_of(model, inputs, **options)
    assert rows <= 2  # at most the clean pass that showed it
    assert_same(mine, run(stock, "Occlusion", model, inputs, **options), case)  # type: ignore[arg-type]


def test_a_function_without_a_signature_fails_as_in_captum() -> None:
    for library in (stock, ours):
        with pytest.raises(ValueError, match="no signature found"):
            run(library, "Occlusion", torch.sum, nets.batch(2), target=None)  # type: ignore[arg-type]


def test_float64_gives_float32_as_in_captum() -> None:
    model, x = nets.make("module", torch.float64), nets.batch(2, dtype=torch.float64)
    mine, rows = forwards_of(model, x)
    assert (mine.dtype, rows > 0) == (torch.float32, True)
    assert_same(mine, run(stock, "Occlusion", model, x), "Occlusion")


def test_a_tuple_of_one_image_batch_gives_a_tuple() -> None:
    model, x = nets.make("module"), (nets.batch(2),)
    assert_same(run(ours, "Occlusion", model, x), run(stock, "Occlusion", model, x), "Occlusion")


def standardised(net: nn.Module) -> Callable[[Tensor], Tensor]:
    def forward(x: Tensor) -> Tensor:  # like BatchNorm in training mode, but hidden from sight
        out: Tensor = net(x)
        return out - out.mean(0, keepdim=True)

    return forward


COUPLED: dict[str, Callable[[nn.Module], Any]] = {
    "a sum over the batch": lambda net: lambda x: net(x).sum(0),
    "a mean over the batch": lambda net: lambda x: net(x)[:, 2].mean(),
    "statistics of the batch": standardised,
    "noise": lambda net: lambda x: net(x) + torch.randn(len(x), 1),
}


@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.parametrize("kind", COUPLED)
def test_a_model_whose_rows_depend_on_each_other_is_left_to_captum(kind: str, n: int) -> None:
    forward, x = COUPLED[kind](nets.make("module")), nets.batch(n)
    target = {"a sum over the batch": None, "a mean over the batch": None}.get(kind, 2)
    results = []
    for library in (ours, stock):
        torch.manual_seed(2)
        results.append(run(library, "Occlusion", forward, x, target=target))
    assert_same(*results, "Occlusion")


class Holder:
    """An object around a model."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model

    def __call__(self, x: Tensor) -> Tensor:
        out: Tensor = self.model(x)
        return out

    def ask(self, x: Tensor) -> Tensor:
        return self(x)


def enclosing(model: nn.Module) -> Callable[[Tensor], Tensor]:
    def inner(x: Tensor) -> Tensor:
        out: Tensor = model(x)
        return out

    def outer(x: Tensor) -> Tensor:
        return inner(x)

    return outer


HIDING_PLACES: dict[str, Callable[[nn.Module], Any]] = {
    "itself": lambda model: model,
    "a bound method": lambda model: model.forward,
    "a default": lambda model: lambda x, model=model: model(x),
    "an enclosing function": enclosing,
    "a partial": lambda model: functools.partial(lambda m, x: m(x), model),
    "an object": Holder,
    "a method of an object": lambda model: Holder(model).ask,
}


@pytest.mark.parametrize("place", HIDING_PLACES)
def test_batch_norm_in_training_mode_is_found_where_it_hides_and_counts_as_in_captum(place: str) -> None:
    x, means = nets.batch(3), []
    for library in (ours, stock):
        model = nets.make("regularised").train()
        torch.manual_seed(1)
        run(library, "Occlusion", HIDING_PLACES[place](model), x)
        means.append(model.features[1].running_mean.clone())
    assert torch.equal(*means)


def test_an_argument_that_may_be_shared_is_not_repeated() -> None:
    net, x, shared = nets.make("module"), nets.batch(5), torch.randn(5)  # 5 examples, 5 classes
    model = lambda t, w: net(t) * w  # noqa: E731  the weight of each class
    given = {"additional_forward_args": shared}
    assert_same(run(ours, "Occlusion", model, x, **given), run(stock, "Occlusion", model, x, **given), "Occlusion")  # type: ignore[arg-type]


@pytest.mark.parametrize("bad", [
    {"sliding_window_shapes": (3, 2)},
    {"sliding_window_shapes": (3, 99, 2)},
    {"strides": (3, 9, 2)},
    {"strides": (1, 2)},
    {"perturbations_per_eval": 0},
    {"target": (0, 0, 0)},
    {"baselines": "zero"},
])  # fmt: skip
def test_wrong_arguments_raise_captums_assertion(bad: dict[str, Any]) -> None:
    for library in (ours, stock):
        with pytest.raises(AssertionError):
            run(library, "Occlusion", nets.make("module"), nets.batch(2), **bad)


def test_an_exception_of_the_model_comes_through_as_it_is() -> None:
    def forward(x: Tensor) -> Tensor:
        raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine"):
        run(ours, "Occlusion", forward, nets.batch(1))  # type: ignore[arg-type]


def test_progress_is_told_in_captums_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", told := io.StringIO())
    run(ours, "Occlusion", nets.make("module"), nets.batch(2), show_progress=True)
    assert "Occlusion attribution: 100%" in told.getvalue()


def test_perturbations_per_eval_bounds_the_rows_of_a_forward_pass() -> None:
    net, seen = nets.make("module"), []
    forward = lambda x: (seen.append(len(x)), x.sum().item(), net(x))[2]  # noqa: E731  # cannot be replayed
    ours.Occlusion(forward).attribute(nets.batch(2), **call("Occlusion"), perturbations_per_eval=3)
    assert max(seen) == 6


def test_the_whole_image_as_one_window_runs_in_few_passes_by_default() -> None:
    net, seen = nets.make("module"), []
    forward = lambda x: (seen.append(len(x)), x.sum().item(), net(x))[2]  # noqa: E731  # cannot be replayed
    ours.Occlusion(forward).attribute(nets.batch(2), (3, 1, 1), target=2)
    assert seen == [2, 2, 2 * (48 + 1)]  # the clean pass, what recording tried, all 48 windows together with the check


def test_the_model_itself_runs_three_times_where_it_can_be_replayed() -> None:
    net, seen = nets.make("module"), []
    forward = lambda x: (seen.append(len(x)), net(x))[1]  # noqa: E731
    ours.Occlusion(forward).attribute(nets.batch(2), (3, 1, 1), target=2)
    assert seen == [2, 2, 2]  # clean, recorded, verified under one mask
