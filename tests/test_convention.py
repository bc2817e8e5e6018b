"""One test per line of each method's Convention, and per statement of cost; a new line needs a new test."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import captum.attr
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.testing import assert_close

from attrib import (
    METHODS,
    ClassScore,
    GradCAM,
    GuidedGradCAM,
    InputXGradient,
    Occlusion,
    Saliency,
)
from attrib.core import count
from tests import nets
from tests.conventions import PINNED, lines, pins, section
from tests.test_geometry import Patches

X = nets.batch(2, 8, 6)
NET = nets.make("module")


@pytest.fixture(scope="module", autouse=True)
def _all_pins() -> None:
    """The files beside this one pin lines too."""
    for path in Path(__file__).parent.glob("test_convention_*.py"):
        import_module(f"tests.{path.stem}")


def test_every_line_of_every_convention_is_pinned_by_a_test_here() -> None:
    ours = [name for name in METHODS if METHODS[name].__module__.startswith("attrib.methods.")]
    loose = [
        f"{m}: {line}" for m in ours for line in lines(m) if not any(line.startswith(s) for n, s in PINNED if n == m)
    ]
    assert loose == []


def test_no_pin_speaks_of_a_line_that_is_gone() -> None:
    assert [(m, start) for m, start in PINNED if not any(line.startswith(start) for line in lines(m))] == []


# --- Saliency


@pins("saliency", "map:")
def test_convention_saliency_map_is_score_per_unit_of_input() -> None:
    maps = Saliency(NET).attribute(X, 2)
    assert maps.shape == (2, 1, 8, 6)
    assert Saliency(NET, "pool").attribute(X, 2).shape == (2, 1, 4, 3)
    stretched = nn.Sequential(Stretch(0.1), NET)  # the same picture in units ten times smaller
    assert_close(Saliency(stretched).attribute(10 * X, 2), maps / 10)


class Stretch(nn.Module):
    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        return x * self.factor


@pins("saliency", "the score is the model's output as it is")
def test_convention_saliency_score_is_the_output_before_any_softmax_of_ours() -> None:
    with_softmax = nn.Sequential(NET, nn.Softmax(1))
    by_model = Saliency(with_softmax).attribute(X, 2)
    assert_close(by_model, Saliency(NET).attribute(X, ClassScore(2, "probability")))
    x = X.clone().requires_grad_(True)
    (grad,) = torch.autograd.grad(NET(x)[:, 2].sum(), x)
    assert_close(Saliency(NET).attribute(X, 2), grad.abs().amax(1, keepdim=True))


@pins("saliency", "``absolute=False`` keeps signs")
def test_convention_saliency_without_absolute_values_keeps_the_signed_value_of_largest_magnitude() -> None:
    channels = Saliency(NET, absolute=False, channels="none").attribute(X, 2)
    maps = Saliency(NET, absolute=False).attribute(X, 2)
    assert float(maps.min()) < 0 < float(maps.max())
    assert_close(maps.abs(), channels.abs().amax(1, keepdim=True))
    assert bool((channels == maps).any(1).all())


# --- InputXGradient


@pins("input_x_gradient", "map:")
def test_convention_input_x_gradient_map_is_signed_and_has_the_unit_of_the_score() -> None:
    maps = InputXGradient(NET).attribute(X, 2)
    assert maps.shape == (2, 1, 8, 6)
    assert InputXGradient(NET, "pool").attribute(X, 2).shape == (2, 1, 4, 3)
    assert float(maps.min()) < 0 < float(maps.max())
    assert_close(InputXGradient(nn.Sequential(Stretch(0.1), NET)).attribute(10 * X, 2), maps)  # no unit of input
    assert_close(InputXGradient(nn.Sequential(NET, Stretch(3.0))).attribute(X, 2), 3 * maps)


@pins("input_x_gradient", "the sum over pixels equals the score")
def test_convention_input_x_gradient_sums_to_the_score_of_a_linear_model_without_bias() -> None:
    for bias in (False, True):
        model = nets.fill(nets.Linear(bias=bias))
        gap = model(X).detach()[:, 2] - InputXGradient(model).attribute(X, 2).sum((1, 2, 3))
        assert_close(gap, model.fc.bias.detach()[2].expand(2) if bias else torch.zeros(2))  # type: ignore[union-attr]


@pins("input_x_gradient", '"zero" is zero in the model\'s space')
def test_convention_input_x_gradient_gives_nothing_to_the_mean_colour_of_normalised_pictures() -> None:
    mean, std = torch.tensor([0.5, 0.4, 0.3]).reshape(3, 1, 1), 0.25
    pixels = torch.rand(1, 3, 8, 6, generator=torch.Generator().manual_seed(0))
    pixels[..., :4, :] = mean
    maps = InputXGradient(NET).attribute((pixels - mean) / std, 2)
    assert not maps[..., :4, :].any()
    assert bool(maps[..., 4:, :].any())


# --- Occlusion


@pins("occlusion", "map:")
def test_convention_occlusion_map_has_the_unit_of_the_score_and_hides_all_channels_together() -> None:
    maps = Occlusion(NET, window=2).attribute(X, 2)
    assert maps.shape == (2, 1, 8, 6)
    assert Occlusion(NET, "pool", window=2).attribute(X, 2).shape == (2, 1, 4, 3)
    assert_close(Occlusion(nn.Sequential(NET, Stretch(3.0)), window=2).attribute(X, 2), 3 * maps)
    seen: list[Tensor] = []
    handle = NET.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    Occlusion(NET, window=2, stride=2, baseline=9.0, exact_dense=True).attribute(X, 2)
    handle.remove()
    hidden = torch.cat(seen[1:]) == 9.0
    assert set(hidden.sum((1, 2, 3)).tolist()) == {3 * 4}
    assert bool((hidden.any(1) == hidden.all(1)).all())


@pins("occlusion", '``sign="drop"``: larger supports the goal.')
def test_convention_occlusion_drop_is_large_and_score_is_small_where_the_goal_depends_on_the_pixel() -> None:
    class Brightness(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.stack([x[:, :, 2, 3].sum(1), x.sum((1, 2, 3))], 1)

    x = X.abs() + 0.1
    drop, under = (Occlusion(Brightness(), window=1, stride=1, sign=s).attribute(x, 0) for s in ("drop", "score"))
    assert [divmod(int(m.argmax()), 6) for m in drop[:, 0]] == [(2, 3)] * 2
    assert [divmod(int(m.argmin()), 6) for m in under[:, 0]] == [(2, 3)] * 2
    assert_close(under[:, 0, 2, 3], torch.zeros(2))  # the score itself, under occlusion


@pins("occlusion", '``edge="full"``')
def test_convention_occlusion_full_windows_move_back_and_cut_windows_hang_over_as_captums() -> None:
    method = {edge: Occlusion(NET, window=(3, 4), stride=(2, 3), edge=edge) for edge in ("full", "cut")}
    theirs = captum.attr.Occlusion(NET).attribute(X, (3, 3, 4), strides=(3, 2, 3), target=2, baselines=0.0)
    assert_close(method["cut"].attribute(X, 2), theirs.detach()[:, :1], rtol=1e-4, atol=1e-6)
    assert not torch.allclose(method["full"].attribute(X, 2), theirs.detach()[:, :1], rtol=1e-3)
    boxes = method["full"]._windows((8, 6)).boxes
    assert [box for box in boxes if box[0] == boxes[0][0]] == [(0, 3, 0, 4), (0, 3, 2, 6)]
    assert method["cut"]._windows((8, 6)).boxes[-1] == (6, 8, 3, 6)


@pins("occlusion", "the class is decided once")
def test_convention_occlusion_keeps_the_class_of_the_clean_input() -> None:
    x = nets.batch(6, 8, 6, seed=4)
    clean = NET(x).argmax(1)
    maps = Occlusion(NET, window=4, sign="score").attribute(x, "predicted")
    assert_close(maps, Occlusion(NET, window=4, sign="score").attribute(x, clean))
    deciding_again = Occlusion(NET, window=4, sign="score").attribute(x, lambda out: out.amax(1))
    assert not torch.allclose(maps, deciding_again)


# --- Grad-CAM


@pins("gradcam", "map:")
def test_convention_gradcam_map_is_the_layers_or_bilinear_and_not_normalised() -> None:
    maps = GradCAM(NET, "pool").attribute(X, 2)
    assert maps.shape == (2, 1, 4, 3)
    large = GradCAM(NET, "pool", upsample=True).attribute(X, 2)
    assert_close(large, F.interpolate(maps, (8, 6), mode="bilinear", align_corners=False))
    assert_close(GradCAM(nn.Sequential(NET, Stretch(7.0)), "0.pool").attribute(X, 2), 7 * maps)


@pins("gradcam", "``relu=False`` keeps evidence against the score")
def test_convention_gradcam_without_relu_is_captums_and_has_both_signs() -> None:
    maps = GradCAM(NET, "conv2", relu=False).attribute(X, 2)
    assert float(maps.min()) < 0 < float(maps.max())
    assert_close(maps, captum.attr.LayerGradCam(NET, NET.conv2).attribute(X, 2).detach())


@pins("gradcam", "``negative=True`` changes the sign of the weights")
def test_convention_gradcam_negative_shows_what_would_raise_another_score() -> None:
    maps = GradCAM(NET, "conv2", negative=True).attribute(X, 2)
    assert_close(maps, GradCAM(NET, "conv2").attribute(X, -ClassScore(2)))
    assert_close(maps, (-GradCAM(NET, "conv2", relu=False).attribute(X, 2)).relu())


@pins("gradcam", "a map without positive evidence is zero everywhere")
def test_convention_gradcam_without_positive_evidence_is_zero() -> None:
    model = nets.make("module")
    model.fc.weight.data.abs_().neg_()
    for upsample in (False, True):
        maps = GradCAM(model, "act2", upsample=upsample).attribute(X, 2)
        assert torch.equal(maps, torch.zeros_like(maps))


# --- Guided Grad-CAM


@pins("guided_gradcam", "map:")
def test_convention_guided_gradcam_map_is_of_the_input_with_one_or_all_channels() -> None:
    assert GuidedGradCAM(NET, "pool").attribute(X, 2).shape == (2, 1, 8, 6)
    assert GuidedGradCAM(NET, "pool", channels="none").attribute(X, 2).shape == (2, 3, 8, 6)


@pins("guided_gradcam", "Grad-CAM is resized bilinearly")
def test_convention_guided_gradcam_resizes_bilinearly_where_captums_default_is_nearest() -> None:
    ours = GuidedGradCAM(NET, "pool", channels="none", absolute=False).attribute(X, 2)
    theirs = captum.attr.GuidedGradCam(NET, NET.pool)
    assert_close(ours, theirs.attribute(X, 2, interpolate_mode="bilinear").detach())
    assert not torch.allclose(ours, theirs.attribute(X, 2).detach(), rtol=1e-2)


def rank_correlation(a: Tensor, b: Tensor) -> float:
    ranks = [v.flatten().argsort().argsort().double() for v in (a, b)]
    return float(torch.corrcoef(torch.stack(ranks))[0, 1])


@pins("guided_gradcam", "fails model-randomisation tests")
def test_convention_guided_gradcam_keeps_its_pattern_when_the_upper_weights_are_drawn_anew() -> None:
    """Where both networks see evidence, the pattern is the first layers' and the picture's; the gradient's is not."""
    y, x = torch.meshgrid(torch.arange(24), torch.arange(24), indexing="ij")
    picture = 0.05 * nets.batch(1, 24, 24)
    picture[:, :, (y - 10) ** 2 + (x - 12) ** 2 < 50] += 1
    picture[:, :, 18:20] -= 1

    def deep(seed: int) -> nn.Sequential:
        parts = [m for c, k in ((3, 16), (16, 32), (32, 32)) for m in (nn.Conv2d(c, k, 3, padding=1), nn.ReLU())]
        model = nn.Sequential(*parts, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10))
        nets.fill(model, seed)
        for number in (0, 2, 4):
            model[number].weight.data.mul_(2**0.5)
            model[number].bias.data.zero_()
        return model

    kept: dict[str, list[float]] = {"saliency": [], "guided_gradcam": []}
    for seed in range(4):
        trained, redrawn = deep(seed), deep(seed + 100)
        for number in (0, 2):
            redrawn[number].load_state_dict(trained[number].state_dict())
        for name, found in kept.items():
            a, b = (METHODS[name](m).attribute(picture, "predicted") for m in (trained, redrawn))
            both = (a > 0) & (b > 0)
            found.append(rank_correlation(a[both], b[both]))
    mean = {name: sum(found) / len(found) for name, found in kept.items()}
    assert mean["guided_gradcam"] > mean["saliency"] + 0.2, kept


@pins("gradcam", "channels last (Swin) and tokens (ViT)")
def test_convention_gradcam_recognises_channels_last_and_tokens_without_the_class_token() -> None:
    model = nets.fill(Patches(prefix=0))
    first, last, tokens = (GradCAM(model, at).attribute(X, 2) for at in ("relu", "last", "tokens"))
    assert_close(last, first)
    assert_close(tokens, first)
    assert GradCAM(nets.fill(Patches(prefix=1)), "tokens").attribute(X, 2).shape == first.shape


# --- costs


DENSE = {"window": 4, "stride": 2, "exact_dense": True}


@pytest.mark.parametrize(
    ("name", "options", "forwards", "backwards", "says"),
    [
        ("saliency", {}, 1, 1, "one forward and one backward pass"),
        ("input_x_gradient", {}, 1, 1, "one forward and one backward pass"),
        ("guided", {}, 1, 1, "one forward and one backward pass"),
        ("deconvnet", {}, 1, 1, "one forward and one backward pass"),
        ("deconvnet", {"start": "activation"}, 1, 1, "one forward and one backward pass"),
        ("excitation_backprop", {"layer": "pool"}, 1, 1, "one forward pass and the backward pass"),
        ("excitation_backprop", {"layer": "pool", "contrastive": True}, 1, 2, "contrastive, two of these"),
        ("excitation_backprop", {}, 2, 1, '``layer="auto"`` takes one more forward'),
        ("fullgrad", {}, 1, 1, "one forward and one backward pass"),
        ("cam", {"layer": "conv2"}, 1, 0, "one forward pass for any number of classes, no gradient"),
        ("cam", {}, 2, 0, '``layer="auto"`` one more forward'),
        ("gradcam", {"layer": "conv2"}, 1, 1, "one forward pass and the backward pass"),
        ("gradcam", {"layer": "auto"}, 2, 1, '``layer="auto"`` one more forward'),
        ("guided_gradcam", {"layer": "conv2"}, 1, 2, "one forward and two backward passes"),
        ("guided_gradcam", {"layer": "auto"}, 2, 2, '``layer="auto"`` one more forward'),
        ("occlusion", DENSE, 3 * 2 + 1, 0, "one forward pass per window position and example"),
        ("occlusion", {**DENSE, "batch_size": 3}, 3 * 2 + 1, 0, "plus one; no gradient"),
        ("rise", {"n": 9, "exact_dense": True}, 9 + 1, 0, "``n`` forward passes per example, plus one; no gradient"),
    ],
)  # fmt: skip
def test_a_method_costs_what_it_says(
    name: str, options: dict[str, Any], forwards: int, backwards: int, says: str
) -> None:
    seen = {"forwards": 0}
    model = nets.make("module")
    model.register_forward_hook(lambda _m, args, _o: seen.update(forwards=seen["forwards"] + len(args[0])))
    with count() as cost:
        METHODS[name](model, **options).attribute(X, 2)
    assert says in section(name, "Cost")
    assert seen["forwards"] == forwards * len(X)
    assert (cost.forwards, cost.backwards) == (forwards * len(X), backwards * len(X))


def test_occlusion_runs_a_model_that_can_be_replayed_three_times() -> None:
    seen: list[int] = []
    model = nets.make("module")
    model.register_forward_hook(lambda _m, args, _o: seen.append(len(args[0])))
    with count() as cost:
        Occlusion(model, window=4, stride=2).attribute(X, 2)
    assert "three times itself (clean, recorded, verified under one window)" in section("occlusion", "Cost")
    assert seen == [len(X)] * 3
    assert cost.forwards >= (3 * 2 + 3) * len(X)
