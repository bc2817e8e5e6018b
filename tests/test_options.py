"""Options by the names that users of other libraries know, in the constructor or where those libraries take them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from captum.attr import NoiseTunnel
from torch import Tensor, nn

import attrib
from attrib import METHODS
from attrib.errors import AttribError, OptionError
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
