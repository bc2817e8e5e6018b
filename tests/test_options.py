"""What users of other libraries try first is right, or is refused with the name and the place that it has here."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import captum.attr
import numpy as np
import pytest
import torch
from captum.attr import NoiseTunnel
from torch import Tensor, nn

import attrib
from attrib import METHODS
from attrib.cli import prepare
from attrib.errors import AttribError, InputError, LayerError, OptionError, TargetError
from attrib.interop.captum import from_captum
from attrib.io import LoadedModel
from tests import nets


@pytest.fixture
def net() -> nn.Module:
    return nets.fill(nets.Chain())


@pytest.fixture
def x() -> Tensor:
    return nets.batch()


@pytest.mark.parametrize(
    ("method", "option", "ours"),
    [
        ("occlusion", "windows", "window"),
        ("occlusion", "strides", "stride"),
        ("occlusion", "sliding_window_shapes", "window"),
        ("occlusion", "baselines", "baseline"),
        ("occlusion", "perturbations_per_eval", "batch_size"),
        ("rise", "masks", "n"),
        ("scorecam", "batchsize", "batch_size"),
        ("ablationcam", "reshape_transform", "reshape"),
        ("lime", "widht", "width"),
        ("integrated_gradients", "baseline", "baselines"),
    ],
)
def test_an_unknown_option_is_refused_with_ours_and_with_all_that_the_method_has(
    net: nn.Module, method: str, option: str, ours: str
) -> None:
    kind = METHODS[method]
    with pytest.raises(OptionError) as refused:
        kind(net, **{option: 3})
    assert str(refused.value).startswith(f"{kind.__name__} has no option {option!r}. Did you mean {ours!r}")
    assert str(refused.value).endswith(f"Known: {', '.join(kind.option_names())}.")


def test_the_options_of_a_method_are_its_own_and_those_of_the_sweep() -> None:
    assert attrib.GradCAM.option_names() == ("relu", "negative", "upsample", "reshape")
    assert {"window", "stride", "edge", "batch_size", "tolerance"} <= set(attrib.Occlusion.option_names())
    assert {"width", "feature_mask", "absolute", "nt_samples"} <= set(METHODS["lime"].option_names())


@pytest.mark.parametrize(
    ("method", "given", "says"),
    [
        ("occlusion", {"strides": 2, "sliding_window_shapes": 3}, "Occlusion(model, stride=..., window=...)"),
        ("occlusion", {"perturbations_per_eval": 2}, "Occlusion(model, batch_size=...)"),
        ("integrated_gradients", {"baselines": 0}, "IntegratedGradients(model, baselines=...)"),
        ("integrated_gradients", {"n_steps": 5}, "IntegratedGradients(model, n_steps=...)"),
        ("integrated_gradients", {"return_convergence_delta": True}, "METRICS['completeness']"),
        ("feature_ablation", {"feature_mask": None}, "FeatureAblation(model, feature_mask=...)"),
        ("gradcam", {"upsample": True}, "GradCAM(model, upsample=...)"),
        ("gradcam", {"relu_attributions": True}, "GradCAM(model, relu=...)"),
        ("gradcam", {"attribute_to_layer_input": True}, "layer='NAME@input'"),
        ("gradcam", {"targets": 3}, "Did you mean 'target'? Options of the constructor: relu, negative,"),
        ("saliency", {"abs": False}, "Saliency(model, absolute=...)"),
        ("saliency", {"feature_mask": None}, "Options of the constructor: channels, absolute."),
    ],
)
def test_an_option_in_the_call_is_refused_and_its_place_is_named(
    net: nn.Module, x: Tensor, method: str, given: dict[str, Any], says: str
) -> None:
    made = METHODS[method](net)
    with pytest.raises(TypeError) as refused:
        made.attribute(x, 3, **given)
    assert isinstance(refused.value, AttribError)
    assert f"{type(made).__name__}.attribute takes inputs, target, layer and additional_forward_args; got" in str(
        refused.value
    )
    assert says in str(refused.value)


def test_captums_noise_tunnel_hands_an_unknown_option_on_to_be_refused(net: nn.Module, x: Tensor) -> None:
    tunnel = NoiseTunnel(attrib.Saliency(net))
    assert torch.isfinite(tunnel.attribute(x, nt_samples=2, stdevs=0.1, target=3)).all()
    with pytest.raises(OptionError, match=r"Saliency\(model, absolute="):
        tunnel.attribute(x, nt_samples=2, stdevs=0.1, target=3, abs=False)


def test_captums_name_of_an_option_wins_over_the_default_of_ours(net: nn.Module) -> None:
    assert METHODS["feature_ablation"](net, perturbations_per_eval=3).given["perturbations_per_eval"] == 3
    assert METHODS["integrated_gradients"](net, internal_batch_size=3).given["internal_batch_size"] == 3


@pytest.mark.parametrize(("name", "key"), [("GradCAM", "gradcam"), ("RISE", "rise"), ("KernelShap", "kernel_shap")])
def test_the_name_of_a_class_is_understood_where_a_key_is_meant(name: str, key: str) -> None:
    with pytest.raises(LookupError, match=f"Did you mean {key!r}"):
        METHODS[name]


def test_a_list_of_layers_is_refused_by_type_and_sent_to_fused(net: nn.Module) -> None:
    with pytest.raises(LayerError) as refused:
        attrib.GradCAM(net, [net.conv2])  # type: ignore[list-item, arg-type]
    assert str(refused.value) == (
        "layer must be a dotted name or an nn.Module; got list. For several layers use Fused."
    )


def test_a_window_larger_than_the_picture_is_refused_unless_it_is_a_band(net: nn.Module, x: Tensor) -> None:
    with pytest.raises(InputError, match=r"window must fit into the map, \(8, 6\), along some axis; got \(9, 9\)"):
        attrib.Occlusion(net, window=9).attribute(x, 3)
    with pytest.raises(InputError, match=r"window must fit into the map, \(4, 3\)"):
        attrib.Occlusion(net, "conv2", window=5).attribute(x, 3)
    band = attrib.Occlusion(net, window=(2, 7), stride=2).attribute(x, 3)
    assert torch.equal(band, attrib.Occlusion(net, window=(2, 6), stride=2).attribute(x, 3))


def test_more_class_maps_than_classes_are_refused_by_their_number(net: nn.Module, x: Tensor) -> None:
    for method in (attrib.GradCAM(net), attrib.Occlusion(net)):  # one shares its pass, one does not
        with attrib.core.count() as cost, pytest.raises(TargetError, match="at most the 5 that the model has; got 6"):
            attrib.class_maps(method, x, 6)
        assert cost.forwards <= 2 * len(x)  # "auto" takes one
    assert attrib.class_maps(attrib.GradCAM(net), x, 5).maps.shape[1] == 5


@pytest.mark.parametrize("name", ["feature_ablation", "lime", "kernel_shap", "shapley_sampling"])
@pytest.mark.parametrize(
    ("mask", "says"),
    [
        (
            torch.zeros(1, 1, 7, 7).long(),
            r"feature_mask must broadcast to the input \(2, 3, 8, 6\); got \(1, 1, 7, 7\)",
        ),
        (torch.zeros(1, 1, 1, 8, 6).long(), "must broadcast to the input"),
        (torch.zeros(3, 1, 8, 6).long(), "must broadcast to the input"),
        (np.zeros((8, 6), int), r"got ndarray\. Convert it with torch\.from_numpy"),
        (torch.zeros(1, 1, 8, 6), r"whole numbers; got torch\.float32\. Convert it with mask\.long\(\)"),
    ],
    ids=["coarse", "five axes", "other batch", "array", "float"],
)
def test_a_mask_of_regions_that_does_not_fit_is_refused(
    net: nn.Module, x: Tensor, name: str, mask: Any, says: str
) -> None:
    with pytest.raises(InputError, match=says):
        METHODS[name](net, feature_mask=mask).attribute(x, 3)


def test_a_mask_without_batch_and_channels_is_one_for_all_also_where_its_height_is_the_batch(net: nn.Module) -> None:
    x, mask = nets.batch(n=8), torch.arange(48).reshape(8, 6) // 12
    found = METHODS["feature_ablation"](net, feature_mask=mask).attribute(x, 3)
    assert torch.equal(found, METHODS["feature_ablation"](net, feature_mask=mask[None, None]).attribute(x, 3))


@pytest.fixture
def made() -> Iterator[Callable[[type[Any]], type[Any]]]:
    names = []

    def make(kind: type[Any]) -> type[Any]:
        names.append("made_for_a_test")
        return from_captum(kind, name=names[-1])

    yield make
    for name in names:
        METHODS.remove(name)


def test_captums_methods_without_a_target_need_none(
    net: nn.Module, x: Tensor, made: Callable[[type[Any]], type[Any]]
) -> None:
    method = made(captum.attr.LayerActivation)(net, "conv2", channels="none")
    with torch.no_grad():
        act = net.conv2(net.pool(net.conv1(x).relu()))
    assert torch.equal(method.attribute(x), act)
    assert torch.equal(method.attribute(x, target=None), method.attribute(x, target=3))


def test_no_target_is_needed_where_nothing_is_made_of_it(net: nn.Module, x: Tensor) -> None:
    plain = attrib.EigenCAM(net)
    assert torch.equal(plain.attribute(x), plain.attribute(x, 3))
    with pytest.raises(TargetError, match="target is required"):
        attrib.EigenCAM(net, gradient=True).attribute(x)
    with pytest.raises(TargetError, match="lie in"):
        plain.attribute(x, 99)


NAMES = ("cat", "Dog", "dog", "crane", "crane")


@pytest.fixture
def loaded(net: nn.Module) -> LoadedModel:
    return LoadedModel(net, lambda _: torch.zeros(3, 8, 6), categories=NAMES)


def test_a_class_has_a_number_whatever_the_case_of_its_name(loaded: LoadedModel) -> None:
    assert [loaded.index(name) for name in ("cat", "CAT", "Dog", "dog")] == [0, 0, 1, 2]
    assert loaded.label(loaded.index("cat")) == "cat"


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("crane", "target must name one class; 'crane' is 3 and 4. Pass a number."),
        ("DOG", "'DOG' is 1 and 2"),
        ("catt", "a class of model must be one of 5 names of classes; got 'catt'. Did you mean 'cat'?"),
        (3, "got 3"),
    ],
)
def test_a_name_that_is_no_class_or_two_is_refused(loaded: LoadedModel, name: Any, says: str) -> None:
    with pytest.raises(InputError, match=re.escape(says)):
        loaded.index(name)


def test_a_model_without_names_says_so(net: nn.Module) -> None:
    bare = LoadedModel(net, lambda _: torch.zeros(3, 8, 6))
    with pytest.raises(InputError, match="a class of model must be a number, as its names are not known; got 'cat'"):
        bare.index("cat")


@pytest.mark.parametrize("classes", ["cat", ["cat"], [["cat"], ["cat"]]])
def test_the_name_of_a_class_is_sent_to_the_loaded_model(net: nn.Module, x: Tensor, classes: Any) -> None:
    with pytest.raises(TargetError, match=r"got 'cat'.* A LoadedModel knows the number of a class: net.index\('cat'\)"):
        attrib.class_maps(attrib.GradCAM(net), x, classes)
    with pytest.raises(TargetError, match=r"got 'cat'.* A LoadedModel knows the number of a class: net.index\('cat'\)"):
        attrib.GradCAM(net).attribute(x, classes)


def test_explain_takes_names_in_any_case(loaded: LoadedModel, x: Tensor) -> None:
    found = attrib.explain(loaded, x, methods="saliency", target="CAT")
    assert [asked.index for asked in found.asked["CAT"]] == [0, 0]


def test_the_command_line_lists_the_options_that_a_method_has() -> None:
    with pytest.raises(BaseException, match=r"'targetlayer'\. Known: relu, negative, upsample, reshape\."):
        prepare.methods(["gradcam"], ["gradcam.targetlayer=3"])
    with pytest.raises(BaseException, match=r"Did you mean 'stride'\? Known: window, stride"):
        prepare.methods(["occlusion"], ["occlusion.strides=3"])
