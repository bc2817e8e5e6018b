"""Maps of several layers or methods become one, from one forward pass."""

from __future__ import annotations

from functools import partial
from typing import Any

import captum.attr
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.testing import assert_close

import attrib
from attrib import (
    METHODS,
    Attribution,
    ClassScore,
    Fused,
    GradCAM,
    GuidedBackprop,
    LayerCAM,
    Occlusion,
    Saliency,
    attribute_all,
)
from attrib.core import count
from attrib.errors import InputError, LayerError, ShapeError
from attrib.testing import check_attribution
from tests import nets
from tests.oracles import cam_family
from tests.oracles.models import DOUBLE, EXACT, assert_rows

X = nets.batch(2, 8, 6)
NET = nets.make("module")


def parts(model: Any = NET, **options: Any) -> list[Attribution]:
    return [LayerCAM(model, "act1", **options), LayerCAM(model, "pool", **options), GradCAM(model, "act2", **options)]


@pytest.mark.parametrize("scale", ["max", "tanh", "none", ("tanh", "none", "max")])
@pytest.mark.parametrize("how", ["max", "mean", "product"])
@pytest.mark.parametrize("relu", [True, False])
def test_fused_maps_are_resized_scaled_and_joined(relu: bool, how: Any, scale: Any) -> None:
    model, x = nets.make("module", DOUBLE), nets.batch(2, 8, 6, dtype=DOUBLE)
    methods = parts(model, relu=relu)
    maps = [method.attribute(x, 2)[:, 0].numpy() for method in methods]
    scales = [scale] * 3 if isinstance(scale, str) else list(scale)
    for size, sides in ((None, (8, 6)), ((5, 9), (5, 9)), (7, (7, 7))):
        expected = [cam_family.fused(list(row), scales, how, *sides) for row in zip(*maps, strict=True)]
        assert_rows(Fused(methods, how=how, scale=scale, size=size).attribute(x, 2), expected, EXACT)


def test_one_forward_and_one_backward_pass_serve_all_layers_with_the_numbers_of_each_alone() -> None:
    with count() as cost:
        maps = Fused(parts()).attribute(X, 2)
    assert (cost.forwards, cost.backwards) == (2, 2)
    alone = [F.interpolate(m.attribute(X, 2), (8, 6), mode="bilinear") for m in parts()]
    assert torch.equal(maps, torch.stack([m / m.amax((1, 2, 3), keepdim=True) for m in alone]).amax(0))


def test_other_rules_take_their_own_backward_pass_and_other_mechanisms_their_own_passes() -> None:
    methods = [*parts(), GuidedBackprop(NET), Occlusion(NET, window=4, stride=4, exact_dense=True)]
    with count() as cost:
        maps = Fused(methods, scale="none", how="mean").attribute(X, 2)
    assert (cost.forwards, cost.backwards) == (2 * (1 + 4), 2 * 2)  # 4 windows; the clean pass is shared, too
    alone = [F.interpolate(m.attribute(X, 2), (8, 6), mode="bilinear") for m in methods]
    assert_close(maps, torch.stack(alone).mean(0))


@pytest.mark.parametrize("last", [None, "auto"])
def test_an_open_layer_is_found_once_and_can_be_given_in_the_call(last: Any) -> None:
    fused = Fused([LayerCAM(NET, last), GradCAM(NET, last), LayerCAM(NET, "pool")])
    with count() as cost:
        maps = fused.attribute(X, 2)
    assert (cost.forwards, cost.backwards) == (2 * 2, 2)
    named = Fused([LayerCAM(NET, "act2"), GradCAM(NET, "act2"), LayerCAM(NET, "pool")])
    assert torch.equal(maps, named.attribute(X, 2))
    shallow = Fused([LayerCAM(NET, "act1"), GradCAM(NET, "act1"), LayerCAM(NET, "pool")])
    assert torch.equal(fused.attribute(X, 2, "act1"), shallow.attribute(X, 2))
    with pytest.raises(LayerError, match="each method of Fused has its layer already; got layer 'act1'"):
        named.attribute(X, 2, "act1")


def test_fused_methods_share_passes_with_others_and_can_be_fused_again() -> None:
    inner = Fused([LayerCAM(NET), Saliency(NET)], how="mean")
    methods = {"fused": Fused(parts()), "again": Fused([inner, GradCAM(NET, "pool")]), "plain": Saliency(NET)}
    with count() as cost:
        maps = attribute_all(methods, X, [2, 3])
    assert (cost.forwards, cost.backwards) == (2 + 2, 2 * 2)  # once more to find a layer; two targets
    for label, method in methods.items():
        assert torch.equal(maps[label][1], method.attribute(X, 3))


def test_explain_and_compare_take_a_fused_method() -> None:
    found = attrib.explain(NET, X, {"fused": lambda m: Fused([LayerCAM(m), LayerCAM(m, "pool")])}, target=2)
    assert found.failures == ()
    assert found.layers == {"fused": "act2"}
    expected = Fused([LayerCAM(NET), LayerCAM(NET, "pool")]).attribute(X, 2)
    assert torch.equal(found.maps["fused"]["2"], expected)
    compared = attrib.compare(NET, X, {"fused": Fused(parts())}, target=2)
    assert compared.failures == ()
    assert_close(compared.explanations[1].maps["fused"]["2"], Fused(parts()).attribute(X, 2)[1:])


def test_the_manifest_names_the_methods_that_were_fused_with_their_layers_and_options() -> None:
    found = attrib.explain(NET, X, {"fused": Fused([LayerCAM(NET, "pool", relu=False), LayerCAM(NET)])}, target=2)
    facts = found.about["methods"]["fused"]
    assert facts["layer"] == "act2"
    assert facts["options"]["how"] == "max"
    first, last = facts["options"]["methods"]
    assert (first["class"], first["layer"]) == ("attrib.methods.layercam.LayerCAM", "pool")
    assert (first["options"]["at"]["relu"], last["options"]["at"]["relu"]) == (False, True)


@pytest.mark.parametrize(
    "factory",
    [
        lambda m: Fused([LayerCAM(m, "stem"), LayerCAM(m, "conv")], scale="tanh"),
        lambda m: Fused([LayerCAM(m, "stem"), GradCAM(m), Saliency(m)], how="mean", scale="none"),
        lambda m: Fused([METHODS["hirescam"](m, "conv"), GuidedBackprop(m)], how="product"),
    ],
)
def test_a_fused_method_keeps_the_contract(factory: Any) -> None:
    assert [(check.name, check.message) for check in check_attribution(factory) if not check.ok] == []


def test_noise_tunnel_smooths_a_fused_map() -> None:
    torch.manual_seed(0)
    smooth = captum.attr.NoiseTunnel(Fused(parts())).attribute(X, nt_samples=4, stdevs=0.1, target=2)
    assert smooth.shape == (2, 1, 8, 6)
    assert not torch.equal(smooth, Fused(parts()).attribute(X, 2))


def dark(model: nn.Module) -> nn.Module:
    """No class has evidence: Grad-CAM is zero everywhere."""
    model.fc.weight.data.abs_().neg_()  # type: ignore[union-attr,operator]
    return model


def test_convention_a_map_of_zeros_stays_zero() -> None:
    model = dark(nets.make("module"))
    zero, other = GradCAM(model, "act2"), Saliency(model)
    assert not Fused([zero]).attribute(X, 2).any()
    assert not Fused([zero], scale="tanh").attribute(X, 2).any()
    assert not Fused([zero, other], how="product").attribute(X, 2).any()
    assert torch.equal(Fused([zero, other]).attribute(X, 2), Fused([other]).attribute(X, 2))


def test_convention_scaling_keeps_signs_and_makes_each_example_fill_its_range() -> None:
    negative = GradCAM(dark(nets.make("module")), "act2", relu=False)
    for scale, peak in (("max", 1.0), ("tanh", float(np.tanh(2)))):
        maps = Fused([negative], scale=scale).attribute(X, 2)  # type: ignore[arg-type]
        assert maps.max() <= 0
        assert_close(maps.amin((1, 2, 3)), torch.full((2,), -peak))
    bright = Fused(parts()).attribute(X, 1000 * ClassScore(2))
    assert_close(bright, Fused(parts()).attribute(X, 2))
    raw = Fused(parts(), scale="none")
    assert_close(raw.attribute(X, 1000 * ClassScore(2)), 1000 * raw.attribute(X, 2))


def test_convention_tanh_lifts_what_is_weak() -> None:
    plain, lifted = (Fused([LayerCAM(NET, "act1")], scale=scale).attribute(X, 2) for scale in ("max", "tanh"))
    assert_close(lifted, torch.tanh(2 * plain))
    weak = (plain > 0) & (plain < 0.5)
    assert weak.any()
    assert (lifted > plain)[weak].all()


def test_convention_a_product_takes_positive_evidence_only() -> None:
    signed = Fused([GradCAM(NET, "act2", relu=False), GradCAM(NET, "act2", relu=False)], how="product")
    plain = Fused([GradCAM(NET, "act2", relu=False)]).attribute(X, 2)
    assert plain.min() < 0
    assert_close(signed.attribute(X, 2), plain.relu().square())


def test_signals_can_be_fused() -> None:
    body = nn.Sequential(nn.Conv1d(1, 4, 3, padding=1), nn.ReLU(), nn.MaxPool1d(2), nn.Conv1d(4, 4, 3, padding=1))
    model = nets.fill(nn.Sequential(body, nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(4, 3)))
    x = torch.randn(2, 1, 20, generator=torch.Generator().manual_seed(0))
    maps = Fused([LayerCAM(model, "0.1"), LayerCAM(model, "0.3")], how="mean").attribute(x, 1)
    alone: list[Tensor] = []
    for layer in ("0.1", "0.3"):
        large = F.interpolate(LayerCAM(model, layer).attribute(x, 1), 20, mode="linear")
        alone.append(large / large.amax((1, 2), keepdim=True))
    assert_close(maps, torch.stack(alone).mean(0))


REFUSED: list[tuple[Any, type[Exception], str]] = [
    (lambda: Fused([]), InputError, r"methods must be a list of at least one Attribution; got \[\]"),
    (lambda: Fused(GradCAM(NET)), InputError, "methods must be a list"),
    (lambda: Fused(["gradcam"]), InputError, "made with one model; got 'gradcam' among them"),  # type: ignore[list-item]
    (lambda: Fused([GradCAM(NET), GradCAM(nets.make("module"))]), InputError, "made with one model"),
    (lambda: Fused(parts(), how="min"), InputError, "how must be one of 'max', 'mean', 'product'; got 'min'"),  # type: ignore[arg-type]
    (lambda: Fused(parts(), scale="min"), InputError, "scale must be one of"),  # type: ignore[arg-type]
    (lambda: Fused(parts(), scale=["max"]), InputError, "one for each of 3 methods"),
    (lambda: Fused(parts(), size=(0, 3)), InputError, "size must be an integer >= 1; got 0"),
    (
        lambda: Fused(parts(), size=(4, 5, 6)).attribute(X, 2),
        InputError,
        r"size must be .* 2, one per axis; got \(4, 5, 6\)",
    ),
    (lambda: Fused(parts(), size=0.5), InputError, "size must be an integer >= 1; got 0.5"),
    (
        lambda: Fused([*parts(), Saliency(NET, channels="none")]).attribute(X, 2),
        ShapeError,
        r"maps of Saliency in Fused must have shape \(N, 1, H, W\); got \(2, 3, 8, 6\)",
    ),
]


@pytest.mark.parametrize(("make", "error", "message"), REFUSED)
def test_what_cannot_be_fused_is_refused(make: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make()


def test_functions_of_the_model_make_fused_methods() -> None:
    def make(model: nn.Module, layers: tuple[str, ...]) -> Fused:
        return Fused([LayerCAM(model, layer) for layer in layers])

    found = attrib.explain(NET, X, {"two": partial(make, layers=("act1", "pool"))}, target=2)
    assert torch.equal(found.maps["two"]["2"], make(NET, ("act1", "pool")).attribute(X, 2))
