"""Where Captum 0.9 is wrong, silent or rough: its own result, ours, and the answer worked out another way.

Each test shows Captum's result too, so that what the documentation says of it stays true.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import captum.attr as stock
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from captum.metrics import sensitivity_max
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

import attrib
import attrib.interop.captum as ours
from attrib.errors import InputError, LayerError, ModelError, RuleError, ShapeError, TargetError
from attrib.interop.captum import from_captum
from tests import nets
from tests.oracles import backprop, noise, occlusion
from tests.oracles.differences import Array
from tests.oracles.models import DOUBLE, EXACT, TARGETS, class_score, weights

PAIRS: dict[str, tuple[Any, Any, Any]] = {  # Captum's class, our drop-in, our method
    "guided": (stock.GuidedBackprop, ours.GuidedBackprop, attrib.GuidedBackprop),
    "deconv": (stock.Deconvolution, ours.Deconvolution, attrib.Deconvnet),
}
MODULES = ("module", "module in place", "one module used twice")  # the spellings that Captum's hooks see
BY_HAND: dict[str, Callable[..., dict[str, Array]]] = {
    **dict.fromkeys(nets.SPELLINGS, backprop.chain),
    "shared ReLU": backprop.shared,
    "pre-activation": backprop.pre_activation,
    "residual": backprop.residual,
}


@contextmanager
def quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def captums(method: type[Any], model: nn.Module, x: Tensor, target: Any = TARGETS, layer: Any = None) -> Tensor:
    """What Captum's class or our drop-in gives, without its warnings."""
    with quiet():
        made = method(model) if layer is None else method(model, layer)
        maps: Tensor = made.attribute(x.clone(), target=target)
    return maps.detach()


def native(method: type[Any], model: nn.Module, x: Tensor, target: Any = TARGETS, **options: Any) -> Tensor:
    """What our method gives, as Captum would return it."""
    maps: Tensor = method(model, channels="none", absolute=False, **options).attribute(x, target)
    return maps


def by_hand(net: str, model: nn.Module, x: Tensor, rule: str) -> Tensor:
    rows = [BY_HAND[net](weights(model), row, t, rule)["input"] for row, t in zip(x.numpy(), TARGETS, strict=True)]
    return torch.from_numpy(np.stack(rows))


def same(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and torch.allclose(a, b, **EXACT)


# --- T1 to T4: backward rules ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", PAIRS)
@pytest.mark.parametrize("net", BY_HAND)
def test_the_rule_holds_for_every_spelling_where_captum_gives_the_plain_gradient(net: str, rule: str) -> None:
    model, x = nets.make(net, DOUBLE), nets.batch(2, 9, 6, dtype=DOUBLE)
    expected, (theirs, mine, method) = by_hand(net, model, x, rule), PAIRS[rule]
    assert same(captums(mine, model, x), expected)
    assert same(native(method, model, x), expected)
    if net in nets.SPELLINGS and net not in MODULES:
        plain = captums(stock.Saliency, model, x).abs()
        assert torch.equal(captums(theirs, model, x).abs(), plain)  # not one activation was seen
    captum_is_right = net in (*MODULES, "residual", "shared ReLU")
    assert same(captums(theirs, model, x), expected) is captum_is_right


@pytest.mark.parametrize("rule", PAIRS)
def test_captums_rule_clips_the_other_consumers_of_a_relus_input(rule: str) -> None:
    model, x = nets.fill(nets.PreActivation(nn.ReLU())).double(), nets.batch(2, 9, 6, dtype=DOUBLE)
    expected, (theirs, mine, method) = by_hand("pre-activation", model, x, rule), PAIRS[rule]
    error = (captums(theirs, model, x) - expected).abs().max() / expected.abs().max()
    assert error > 0.2
    assert same(captums(mine, model, x), expected)
    assert same(native(method, model, x), expected)


def test_one_relu_module_on_two_branches_gets_the_other_branchs_signal_in_captum() -> None:
    class Branches(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.relu = nn.ReLU()

        def forward(self, x: Tensor) -> Tensor:
            left, right = 3 * x, 5 * x
            return 2 * self.relu(left) + 7 * self.relu(right)

    x = torch.ones(1, 1)
    assert captums(stock.Deconvolution, Branches(), x, 0).item() == 3 * 2 + 5 * 2  # the left signal on both branches
    assert captums(ours.Deconvolution, Branches(), x, 0).item() == 3 * 2 + 5 * 7
    assert native(attrib.Deconvnet, Branches(), x, 0).item() == 3 * 2 + 5 * 7


@pytest.mark.parametrize(
    ("act", "guided", "deconv"),
    [
        (nn.ReLU6(), [0.0, 1.0, 0.0, 0.0], [1.0, 1.0, 1.0, 0.0]),
        (nn.LeakyReLU(0.5), [0.5, 1.0, 1.0, 0.0], [1.0, 1.0, 1.0, 0.0]),
    ],
)
def test_other_rectifiers_follow_the_rule_too(act: nn.Module, guided: list[float], deconv: list[float]) -> None:
    class Weighted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.act = act

        def forward(self, x: Tensor) -> Tensor:
            return (self.act(x) * torch.tensor([1.0, 1.0, 1.0, -1.0])).sum(1)

    x = torch.tensor([[-1.0, 1.0, 7.0, 2.0]])
    for (theirs, mine, method), expected in zip(PAIRS.values(), (guided, deconv), strict=True):
        assert captums(theirs, Weighted(), x, None)[0, 3] == -1  # the plain gradient
        assert captums(mine, Weighted(), x, None)[0].tolist() == expected
        assert native(method, Weighted(), x, None)[0].tolist() == expected


@pytest.mark.parametrize("net", nets.SMOOTH)
@pytest.mark.parametrize("rule", PAIRS)
def test_where_only_smooth_activations_run_the_drop_in_says_that_nothing_was_overridden(rule: str, net: str) -> None:
    model, x = nets.make(net), nets.batch(2)
    theirs, mine, method = PAIRS[rule]
    with pytest.warns(UserWarning, match=r"overrode nothing; left 2 \w+ alone. This is the plain gradient"):
        maps = mine(model).attribute(x.clone(), target=TARGETS)
    assert torch.equal(maps, captums(theirs, model, x))
    with pytest.raises(RuleError, match="activations='all'"):
        native(method, model, x)


def test_smooth_activations_beside_rectifiers_are_said() -> None:
    model = nets.fill(nets.Chain(F.silu, F.relu))
    with pytest.warns(UserWarning, match="overrode 1 of 1 ReLU; left 1 SiLU alone"):
        ours.GuidedBackprop(model).attribute(nets.batch(1), target=1)


def test_a_model_without_activations_is_said_and_a_neuron_before_the_first_one_is_not() -> None:
    model, x = nets.make("module"), nets.batch(1)
    with pytest.warns(UserWarning, match="plain gradient, as the model uses no activation"):
        ours.GuidedBackprop(nets.fill(nets.GapHead())).attribute(x.clone(), target=1)
    ours.NeuronGuidedBackprop(model, model.conv1).attribute(x.clone(), (0, 1, 1))
    ours.NeuronDeconvolution(model, model.conv1).attribute(x.clone(), (0, 1, 1))


def test_an_activation_that_escapes_the_rule_is_said() -> None:
    with quiet():  # torch.jit.script says that it will go; scripted models still exist
        scripted = torch.jit.script(nn.ReLU())
    model, x = nets.fill(nets.Chain(scripted, F.relu)), nets.batch(1)
    with pytest.warns(UserWarning, match="overrode 1 of 2 ReLU. Those that are left run in scripted"):
        ours.GuidedBackprop(model).attribute(x.clone(), target=1)
    with pytest.raises(RuleError, match="1 ReLU did not"):
        attrib.GuidedBackprop(model).attribute(x, 1)


@pytest.mark.parametrize("rule", PAIRS)
def test_a_checkpointed_model_is_right(rule: str) -> None:
    class Checkpointed(nets.Chain):
        def forward(self, x: Tensor) -> Tensor:
            half = checkpoint(lambda t: self.pool(self.act1(self.conv1(t))), x, use_reentrant=False)
            out: Tensor = self.fc(self.act2(self.conv2(half)).mean((2, 3)))
            return out

    model, x = nets.fill(Checkpointed()).double(), nets.batch(2, 9, 6, dtype=DOUBLE)
    _, mine, method = PAIRS[rule]
    for maps in (captums(mine, model, x), native(method, model, x)):
        assert same(maps, by_hand("F.relu", model, x, rule))


@pytest.mark.parametrize("rule", ["guided", "deconv"])
def test_a_neuron_is_projected_by_hand_and_by_the_drop_in_alike(rule: str) -> None:
    model, x = nets.make("F.relu", DOUBLE), nets.batch(2, 8, 6, dtype=DOUBLE)
    theirs, mine = {
        "guided": (stock.NeuronGuidedBackprop, ours.NeuronGuidedBackprop),
        "deconv": (stock.NeuronDeconvolution, ours.NeuronDeconvolution),
    }[rule]
    rows = [backprop.chain(weights(model), row, (5, 2, 1), rule)["input"] for row in x.numpy()]
    expected = torch.from_numpy(np.stack(rows))
    assert same(mine(model, "conv2").attribute(x.clone(), (5, 2, 1)), expected)
    with quiet():
        assert not same(theirs(model, model.conv2).attribute(x.clone(), (5, 2, 1)), expected)


def test_guided_grad_cam_is_wrong_in_captum_where_guided_backprop_is() -> None:
    model, x = nets.make("F.relu", DOUBLE), nets.batch(2, 8, 6, dtype=DOUBLE)
    cam = captums(stock.LayerGradCam, model, x, layer=model.conv2).relu()
    nearest = torch.from_numpy(np.kron(cam.numpy(), np.ones((2, 2))))  # every cell twice along both axes
    expected = by_hand("F.relu", model, x, "guided") * nearest
    assert same(captums(ours.GuidedGradCam, model, x, layer=model.conv2), expected)
    assert not same(captums(stock.GuidedGradCam, model, x, layer=model.conv2), expected)


# --- T5, T6, T15: layers ---------------------------------------------------------------------------------------------


TAILS: dict[str, Callable[[Any, Tensor], Tensor]] = {  # of a `nets.Chain`, behind the layer
    "conv2": lambda m, a: m.fc(F.relu(a).mean((2, 3))),
    "act1#0": lambda m, a: m.fc(F.relu(m.conv2(m.pool(a))).mean((2, 3))),
    "act1#1": lambda m, a: m.fc(a.mean((2, 3))),
}


def cams(model: nn.Module, layer: str, act: Tensor) -> Tensor:
    """Mean gradient times activation, summed over the channels, with the network cut open at the layer."""
    act = act.requires_grad_()
    score = TAILS[layer](model, act)
    rows = []
    for i, target in enumerate(TARGETS):
        (grad,) = torch.autograd.grad(score[i, target], act, retain_graph=True)
        rows.append(sum(grad[i, k].mean() * act[i, k] for k in range(act.shape[1])))
    return torch.stack(rows)[:, None].detach()  # type: ignore[arg-type]


def test_an_in_place_activation_after_the_layer_does_not_change_what_was_kept() -> None:
    model, x = nets.make("module in place", DOUBLE), nets.batch(2, 8, 6, dtype=DOUBLE)
    with torch.no_grad():
        act = model.conv2(model.pool(F.relu(model.conv1(x))))
    expected = cams(model, "conv2", act)
    for maps in (
        captums(stock.LayerGradCam, model, x, layer=model.conv2),  # right here
        captums(ours.LayerGradCam, model, x, layer=model.conv2),
        attrib.GradCAM(model, "conv2", relu=False).attribute(x, TARGETS),
    ):
        torch.testing.assert_close(maps, expected, **EXACT)


def test_of_a_module_that_runs_twice_captum_explains_the_last_run_without_a_word() -> None:
    model, x = nets.make("one module used twice", DOUBLE), nets.batch(2, 8, 6, dtype=DOUBLE)
    with torch.no_grad():
        first = F.relu(model.conv1(x))
        last = F.relu(model.conv2(model.pool(first)))
    expected = {"act1#0": cams(model, "act1#0", first), "act1#1": cams(model, "act1#1", last)}
    torch.testing.assert_close(captums(stock.LayerGradCam, model, x, layer=model.act1), expected["act1#1"], **EXACT)
    with pytest.warns(UserWarning, match="the layer ran 2 times"):
        maps = ours.LayerGradCam(model, "act1").attribute(x.clone(), TARGETS)
    torch.testing.assert_close(maps.detach(), expected["act1#1"], **EXACT)
    for layer, answer in expected.items():
        maps = attrib.GradCAM(model, layer, relu=False).attribute(x, TARGETS)
        torch.testing.assert_close(maps, answer, **EXACT)
    with pytest.raises(LayerError, match=r"ran 2 times.*'act1#0', 'act1#1'"):
        attrib.GradCAM(model, "act1").attribute(x, TARGETS)


def test_captum_does_not_take_the_name_of_a_layer() -> None:
    with pytest.raises(AttributeError):
        stock.LayerGradCam(nets.make("module"), "conv2").attribute(nets.batch(1), target=1)


# --- T7: compiled models ---------------------------------------------------------------------------------------------


@pytest.fixture
def compiled() -> Iterator[tuple[nn.Module, Any]]:
    """A model, and itself compiled."""
    torch._dynamo.reset()
    model = nets.make("module")
    yield model, torch.compile(model, backend="eager")
    torch._dynamo.reset()


@pytest.mark.parametrize("warm", [False, True])
def test_the_rules_reach_into_a_compiled_model(compiled: tuple[nn.Module, Any], warm: bool) -> None:
    (model, wrapped), x = compiled, nets.batch(2)
    if warm:
        with torch.no_grad():
            wrapped(x)
    right = captums(stock.GuidedBackprop, model, x)
    assert torch.equal(captums(ours.GuidedBackprop, wrapped, x), right)
    assert torch.equal(native(attrib.GuidedBackprop, wrapped, x), right)


def test_grad_cam_of_a_compiled_model_that_has_run(compiled: tuple[nn.Module, Any]) -> None:
    (model, wrapped), x = compiled, nets.batch(2)
    right = captums(stock.LayerGradCam, model, x, layer=model.conv2)
    wrapped(x.clone().requires_grad_())
    with pytest.raises(AssertionError, match="did not obtain any outputs"):
        captums(stock.LayerGradCam, wrapped, x.requires_grad_(), layer=model.conv2)
    x = nets.batch(2)
    torch.testing.assert_close(captums(ours.LayerGradCam, wrapped, x, layer="conv2"), right)
    torch.testing.assert_close(attrib.GradCAM(wrapped, "conv2", relu=False).attribute(x, TARGETS), right)


# --- T8 to T14: state ------------------------------------------------------------------------------------------------


class Broken(nn.Module):
    """Never gets to the end."""

    def __init__(self) -> None:
        super().__init__()
        self.act = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        raise KeyError("half-way")


@pytest.mark.parametrize("name", ["Saliency", "InputXGradient", "GuidedBackprop", "Deconvolution"])
def test_after_an_exception_captum_leaves_the_input_differentiable(name: str) -> None:
    left = []
    for library in (stock, ours):
        x = nets.batch(1)
        with quiet(), pytest.raises(KeyError):
            getattr(library, name)(Broken()).attribute(x, target=0)
        left.append(x.requires_grad)
    assert left == [True, False]


def test_dropout_makes_captums_maps_random_and_the_drop_ins_with_it_but_not_ours() -> None:
    model, x = nets.make("regularised").train(), nets.batch(2)
    assert not torch.equal(captums(stock.Saliency, model, x), captums(stock.Saliency, model, x))
    assert not torch.equal(captums(ours.Saliency, model, x), captums(ours.Saliency, model, x))
    still = native(attrib.Saliency, fresh := nets.make("regularised").train(), x)
    assert torch.equal(still, native(attrib.Saliency, nets.make("regularised"), x))
    assert fresh.training


def test_data_parallel_models_are_explained() -> None:
    model, x = nets.make("module"), nets.batch(2)
    parallel = nn.DataParallel(model)
    for theirs, mine, method in PAIRS.values():
        right = captums(theirs, model, x)
        assert torch.equal(captums(mine, parallel, x), right)
        assert torch.equal(native(method, parallel, x), right)
    right = captums(stock.LayerGradCam, model, x, layer=model.conv2)
    assert torch.equal(captums(ours.LayerGradCam, parallel, x, layer="conv2"), right)


def test_replicas_which_run_in_other_threads_are_left_to_captums_hooks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("attrib.interop.gradients._has_replicas", lambda model: True)
    for theirs, mine, _ in PAIRS.values():
        functional, modules, x = nets.make("F.relu"), nets.make("module"), nets.batch(2)
        assert torch.equal(captums(mine, modules, x), captums(theirs, modules, x))
        assert torch.equal(captums(mine, functional, x), captums(theirs, functional, x))


def test_inference_mode_is_refused_by_all_and_in_words_by_ours() -> None:
    model, x = nets.make("module"), nets.batch(2)
    with torch.inference_mode():
        for library in (stock, ours):
            with pytest.raises(RuntimeError):
                captums(library.Saliency, model, x)
        with pytest.raises(ModelError, match="no_grad"):
            attrib.Saliency(model).attribute(x, 1)


@pytest.mark.parametrize("name", ["Saliency", "GuidedBackprop"])
def test_no_grad_around_the_call_changes_nothing(name: str) -> None:
    model, x = nets.make("module"), nets.batch(2)
    right = captums(getattr(stock, name), model, x)
    with torch.no_grad():
        assert torch.equal(captums(getattr(ours, name), model, x), right)
        maps = captums(getattr(ours, name), model, x) if name == "Saliency" else native(attrib.GuidedBackprop, model, x)
    assert torch.equal(maps, right)


def test_bfloat16_stays_bfloat16() -> None:
    model, x = nets.make("module").bfloat16(), nets.batch(2).bfloat16()
    right = captums(stock.GuidedBackprop, model, x)
    assert right.dtype == torch.bfloat16
    assert torch.equal(captums(ours.GuidedBackprop, model, x), right)
    assert torch.equal(native(attrib.GuidedBackprop, model, x), right)


def test_an_empty_batch_is_an_index_error_of_captums_and_a_sentence_of_ours() -> None:
    model, x = nets.make("module"), nets.batch(2)[:0]
    for library in (stock, ours):
        with pytest.raises(IndexError):
            captums(library.Saliency, model, x, 1)
    with pytest.raises(ShapeError, match="no empty axis"):
        attrib.Saliency(model).attribute(x, 1)


def test_fewer_targets_than_examples_are_refused() -> None:
    model, x = nets.make("module"), nets.batch(3)
    for library in (stock, ours):
        with pytest.raises(AssertionError, match="Target list length"):
            captums(library.LayerGradCam, model, x, [1, 2], model.conv2)
    with pytest.raises(TargetError, match="target"):
        attrib.GradCAM(model, "conv2").attribute(x, [1, 2])


def test_frozen_weights_change_nothing() -> None:
    model, x = nets.make("module"), nets.batch(2)
    right = captums(stock.LayerGradCam, model, x, layer=model.conv2)
    model.requires_grad_(False)
    assert torch.equal(captums(ours.LayerGradCam, model, x, layer=model.conv2), right)
    assert torch.equal(attrib.GradCAM(model, "conv2", relu=False).attribute(x, TARGETS), right)


def test_whole_numbers_as_inputs_are_an_autograd_error_of_captums_and_a_sentence_of_ours() -> None:
    model, x = nets.Packed(lambda out: out), nets.batch(1).int()
    model.chain = nn.Flatten()  # type: ignore[assignment]
    for library in (stock, ours):
        with pytest.raises(RuntimeError, match="require"):
            captums(library.Saliency, model, x, 1)
    with pytest.raises(InputError, match="floating point"):
        attrib.Saliency(model).attribute(x, 1)


@pytest.mark.parametrize("target", [np.int64(2), np.array([3, 1]), torch.tensor([[3], [1]])], ids=repr)
def test_numpy_and_column_targets_are_taken_by_ours_only(target: Any) -> None:
    model, x = nets.make("module"), nets.batch(2)
    plain = np.asarray(target).reshape(-1).tolist()
    with pytest.raises(AssertionError):
        captums(stock.Saliency, model, x, target)
    right = captums(stock.Saliency, model, x, plain if len(plain) > 1 else plain[0])
    assert torch.equal(native(attrib.Saliency, model, x, target).abs(), right)


# --- T16, T17: what captum does instead of failing, and where it fails -----------------------------------------------


def test_a_failed_interpolation_is_an_empty_tensor_of_captums_and_an_error_of_ours() -> None:
    model, x = nets.make("module"), nets.batch(1)
    for library in (stock, ours):
        with pytest.warns(UserWarning, match="Couldn't appropriately interpolate"):
            maps = library.GuidedGradCam(model, model.conv2).attribute(x.clone(), 1, interpolate_mode="made_up")
        assert maps.shape == (0,)
    with pytest.raises(LayerError, match="spatial"):
        attrib.GuidedGradCAM(model, "fc").attribute(x, 1)


def test_deep_lift_cannot_have_a_relu_used_twice_and_does_not_see_a_functional_one() -> None:
    x = nets.batch(2)
    method = from_captum(stock.DeepLift, channels="none")
    with quiet(), pytest.raises(RuntimeError, match="more than once"):
        stock.DeepLift(nets.make("one module used twice")).attribute(x.clone(), target=1)
    with pytest.raises(ModelError, match=r"Captum's DeepLift failed.*used more than once"):
        method(nets.make("one module used twice")).attribute(x, 1)
    functional = nets.make("pre-activation")
    assert torch.equal(method(functional).attribute(x, 1), captums(stock.InputXGradient, functional, x, 1))


# --- T18: occlusion --------------------------------------------------------------------------------------------------


def test_captum_lets_the_last_window_hang_over_the_border_and_so_does_the_drop_in_but_not_ours() -> None:
    model, x = nets.make("module", DOUBLE), nets.batch(2, 9, 8, dtype=DOUBLE)
    window, stride = (4, 3), (3, 2)
    answers = {}
    for edge in ("cut", "full"):
        rows = [
            occlusion.occlusion(class_score(model, t), row, np.zeros_like(row), window, stride, edge)
            for row, t in zip(x.numpy(), TARGETS, strict=True)
        ]
        answers[edge] = torch.from_numpy(np.stack(rows))[:, None]
    assert float((answers["cut"] - answers["full"]).abs().max()) > 1e-3
    for library in (stock, ours):  # which return float32
        maps = library.Occlusion(model).attribute(x, (3, *window), (3, *stride), target=TARGETS)
        torch.testing.assert_close(maps, answers["cut"].float().expand_as(x), rtol=1e-5, atol=1e-6)
    for edge, answer in answers.items():
        maps = attrib.Occlusion(model, window=window, stride=stride, edge=edge).attribute(x, TARGETS)
        torch.testing.assert_close(maps, answer, **EXACT)


def test_a_stride_beyond_the_window_is_an_assertion_of_captums_and_a_sentence_of_ours() -> None:
    model, x = nets.make("module"), nets.batch(1)
    for library in (stock, ours):
        with pytest.raises(AssertionError, match="Stride dimension"):
            library.Occlusion(model).attribute(x, (3, 2, 2), (3, 3, 3), target=1)
    with pytest.raises(InputError, match="stride must be at most the window"):
        attrib.Occlusion(model, window=2, stride=3).attribute(x, 1)


# --- T19, T20: sensitivity -------------------------------------------------------------------------------------------


def test_sensitivity_max_takes_captums_grad_cam_apart_along_the_batch() -> None:
    model, x = nets.make("module"), nets.batch(1, 8, 8)
    method = attrib.GradCAM(model, "conv1", relu=False)
    right = noise.sensitivity(lambda t, i: method.attribute(t[None], 2)[0], x, seed=0)
    for explain, is_right in (
        (stock.LayerGradCam(model, model.conv1).attribute, False),
        (ours.LayerGradCam(model, model.conv1).attribute, True),
        (method.attribute, True),
    ):
        torch.manual_seed(0)
        found = sensitivity_max(explain, x, target=2)
        assert torch.allclose(found, right, rtol=1e-4) is is_right


def test_sensitivity_max_of_two_examples_fails_with_captums_grad_cam_only() -> None:
    model, x = nets.make("module"), nets.batch(2, 8, 8)
    method = attrib.GradCAM(model, "conv1", relu=False)
    right = noise.sensitivity(lambda t, i: method.attribute(t[None], TARGETS[i])[0], x, seed=1)
    with pytest.raises(RuntimeError):
        sensitivity_max(stock.LayerGradCam(model, model.conv1).attribute, x, target=TARGETS)
    for explain in (ours.LayerGradCam(model, model.conv1).attribute, method.attribute):
        torch.manual_seed(1)
        torch.testing.assert_close(sensitivity_max(explain, x, target=TARGETS), right, rtol=1e-4, atol=1e-5)


def test_for_several_inputs_captums_return_is_kept() -> None:
    model = nets.fill(nets.TwoInputs())
    x = (nets.batch(2), nets.batch(2, seed=3))
    kinds = [type(lib.LayerGradCam(model, model.left.conv2).attribute(x, 1)) for lib in (stock, ours)]
    assert kinds == [Tensor, Tensor]


def test_a_layer_per_call_survives_the_copying_of_arguments_by_name_only() -> None:
    model, x = nets.make("module"), nets.batch(1)
    method = attrib.GradCAM(model, relu=False)
    assert sensitivity_max(method.attribute, x, target=2, layer="conv2").shape == (1,)
    with pytest.raises(LayerError, match=r"copy of the model.*dotted name"):
        sensitivity_max(method.attribute, x, target=2, layer=model.conv2)
