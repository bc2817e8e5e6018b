"""One test per line of the conventions of Eigen-CAM, Score-CAM and Ablation-CAM, and their costs."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.testing import assert_close

from attrib import METHODS, AblationCAM, ClassScore, EigenCAM, ScoreCAM
from attrib.core import count
from attrib.methods.eigencam import principal
from tests import nets
from tests.conventions import pins, section

X = nets.batch(2, 8, 6)
NET = nets.make("module")


class Scaled(nn.Module):
    """Another network, whose scores are so many times as large."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.net, self.factor = NET, factor

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.net(x) * self.factor
        return out


def activation(layer: str = "pool", x: Tensor = X) -> Tensor:
    seen: list[Tensor] = []
    handle = NET.get_submodule(layer).register_forward_hook(lambda _m, _a, out: seen.append(out))
    with torch.no_grad():
        NET(x)
    handle.remove()
    return seen[0]


@pins("eigencam", "map:")
@pins("scorecam", "map:")
@pins("ablationcam", "map:")
@pytest.mark.parametrize("name", ["eigencam", "scorecam", "ablationcam"])
def test_convention_map_is_the_layers_or_bilinear_and_not_normalised(name: str) -> None:
    maps = METHODS[name](NET, "pool").attribute(X, 2)
    assert maps.shape == (2, 1, 4, 3)
    large = METHODS[name](NET, "pool", upsample=True).attribute(X, 2)
    assert_close(large, F.interpolate(maps, (8, 6), mode="bilinear", align_corners=False))
    assert not set(maps.amax((1, 2, 3)).tolist()) & {0.0, 1.0}


# --- Eigen-CAM


@pins("eigencam", "the map is the same for every target")
def test_convention_eigencam_is_the_same_for_every_target_unless_the_gradient_is_taken() -> None:
    plain, by_gradient = EigenCAM(NET, "pool"), EigenCAM(NET, "pool", gradient=True)
    assert torch.equal(plain.attribute(X, 2), plain.attribute(X, -ClassScore(3)))
    assert not torch.allclose(by_gradient.attribute(X, 2), by_gradient.attribute(X, 3))
    assert (plain.uses_target, by_gradient.uses_target, EigenCAM.uses_target) == (False, True, False)


@pins("eigencam", "the activations are not centred")
def test_convention_eigencam_keeps_the_mean_of_the_activations_where_pytorch_grad_cam_subtracts_it() -> None:
    peer = pytest.importorskip("pytorch_grad_cam.utils.svd_on_activations")
    act = activation()
    ours = EigenCAM(NET, "pool").attribute(X, 2)
    left = torch.linalg.svd(act.flatten(2).transpose(1, 2))  # the paper's: U of the activations as they are
    assert_close(ours.flatten(1).abs(), (left.U[:, :, 0] * left.S[:, :1]).abs())
    theirs = torch.from_numpy(peer.get_2d_projection(act.numpy()))[:, None]
    assert_close(theirs.abs(), principal(act - act.mean((2, 3), keepdim=True)).abs(), rtol=1e-4, atol=1e-5)
    assert_close(theirs.mean((2, 3)), torch.zeros(2, 1), rtol=0, atol=1e-5)
    assert ours.mean((2, 3)).min() > 0.1


@pins("eigencam", "sign:")
def test_convention_eigencam_agrees_with_the_sum_of_the_channels_and_has_no_random_sign() -> None:
    act = activation("conv1")
    for seen in (act, -act, act.flip(1)):
        assert ((principal(seen) * seen.sum(1, keepdim=True)).sum((1, 2, 3)) > 0).all()
    assert_close(principal(-act), -principal(act))
    assert_close(principal(act.flip(1)), principal(act))
    opposite = torch.tensor([[[[1.0, -3.0]], [[-1.0, 3.0]]]])  # the sum over the channels is zero
    assert_close(principal(opposite), torch.tensor([[[[1.0, -3.0]]]]) * 2**0.5)


@pins("eigencam", "equally large singular values")
def test_convention_eigencam_of_equal_singular_values_is_the_one_nearest_to_all_channels_alike() -> None:
    act = 3 * torch.eye(4).reshape(1, 4, 2, 2)
    assert_close(principal(act), torch.full((1, 1, 2, 2), 1.5))
    nearly = act.clone()
    nearly[0, 1, 0, 1] = 3.1
    assert_close(principal(nearly), torch.tensor([[[[0.0, 3.1], [0.0, 0.0]]]]))


@pins("eigencam", "``gradient=True`` (Eigen-Grad-CAM)")
def test_convention_eigengradcam_is_positive_where_the_score_is_supported() -> None:
    class Balance(nn.Module):
        """The left half supports class 0, the right half speaks against it."""

        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 1, 1)

        def forward(self, x: Tensor) -> Tensor:
            act = self.conv(x)
            score = 2 * act[..., :3].sum((1, 2, 3)) - act[..., 3:].sum((1, 2, 3))
            return torch.stack([score, -score], 1)

    model = nets.fill(Balance())
    x = (X.abs() + 0.1) * model.conv.weight.detach().sign()  # type: ignore[union-attr]
    model.conv.bias.data.zero_()  # type: ignore[union-attr, operator]
    for target, sign in ((0, 1), (1, -1)):
        maps = EigenCAM(model, "conv", gradient=True).attribute(x, target)
        assert (sign * maps[..., :3] > 0).all()
        assert (sign * maps[..., 3:] < 0).all()


# --- Score-CAM


@pins("scorecam", '``weights="softmax"``')
def test_convention_scorecam_softmax_weights_are_positive_and_sum_to_one() -> None:
    act = activation()
    one = ScoreCAM(NET, "pool", reshape=lambda seen: torch.where(seen == seen.amax((2, 3), keepdim=True), 1.0, 0.0))
    assert one.attribute(X, 2).amax() <= 1
    maps = ScoreCAM(NET, "pool").attribute(X, 2)
    assert (maps >= act.amin(1, keepdim=True) - 1e-6).all()
    assert (maps <= act.amax(1, keepdim=True) + 1e-6).all()
    louder = ScoreCAM(Scaled(1e4), "net.pool").attribute(X, 2)  # all weight goes to one channel
    assert all(any(torch.allclose(row[0], channel) for channel in seen) for row, seen in zip(louder, act, strict=True))


@pins("scorecam", '``weights="increase"``')
def test_convention_scorecam_increases_have_either_sign_and_the_unit_of_the_score() -> None:
    maps = ScoreCAM(NET, "pool", weights="increase", relu=False).attribute(X, 2)
    assert maps.amin() < 0 < ScoreCAM(NET, "pool", weights="increase", relu=False).attribute(X, 3).amax()
    twice = ScoreCAM(Scaled(2.0), "net.pool", weights="increase", relu=False).attribute(X, 2)
    assert_close(twice, 2 * maps)


@pins("scorecam", "the score is the target's own")
def test_convention_scorecam_asks_for_logits_unless_told_otherwise() -> None:
    for weights in ("softmax", "increase"):
        logits, chances = (ScoreCAM(NET, "pool", weights=weights, score=s) for s in (None, "probability"))
        with_softmax = ScoreCAM(nn.Sequential(NET, nn.Softmax(1)), "0.pool", weights=weights).attribute(X, 2)
        assert_close(chances.attribute(X, 2), with_softmax)
        assert not torch.allclose(logits.attribute(X, 2), with_softmax)


@pins("scorecam", "a channel that is the same everywhere")
def test_convention_scorecam_gives_a_constant_channel_no_weight() -> None:
    maps = ScoreCAM(NET, "pool").attribute(X, 2)

    def more(seen: Tensor) -> Tensor:
        return torch.cat([seen, torch.full_like(seen[:, :2], 7.0)], 1)

    assert_close(ScoreCAM(NET, "pool", reshape=more).attribute(X, 2), maps)


@pins("scorecam", "``channels``")
def test_convention_scorecam_can_use_the_channels_of_largest_variance_alone() -> None:
    x = nets.batch(6, 8, 6, seed=4)
    act = activation(x=x)
    most = act.flatten(2).var(2).argmax(1)
    assert len(set(most.tolist())) > 1  # of each example its own
    maps = ScoreCAM(NET, "pool", channels=1).attribute(x, 2)
    assert_close(maps, act[torch.arange(6), most][:, None])


@pins("scorecam", "the class is decided once")
@pins("ablationcam", "the class is decided once")
@pytest.mark.parametrize("name", ["scorecam", "ablationcam"])
def test_convention_the_class_is_that_of_the_clean_input(name: str) -> None:
    x = nets.batch(6, 8, 6, seed=4)
    method = METHODS[name](NET, "pool", relu=False)
    maps = method.attribute(x, "predicted")
    assert_close(maps, method.attribute(x, NET(x).argmax(1)))
    assert not torch.allclose(maps, method.attribute(x, lambda out: out.amax(1)))


# --- Ablation-CAM


@pins("ablationcam", "larger supports the goal", "``normalise=True``")
def test_convention_ablationcam_keeps_its_sign_where_the_score_is_negative() -> None:
    maps = AblationCAM(NET, "pool", relu=False).attribute(X, 2)
    score = NET(X)[:, 2].detach()
    assert score.min() > 0
    for factor in (3.0, -3.0):
        model = Scaled(factor)
        assert_close(AblationCAM(model, "net.pool", relu=False).attribute(X, 2), factor * maps)
        shares = AblationCAM(model, "net.pool", relu=False, normalise=True).attribute(X, 2)
        assert_close(shares, factor / abs(factor) * maps / score.reshape(2, 1, 1, 1))


@pytest.mark.parametrize("factor", [3.0, -3.0])
def test_pytorch_grad_cam_changes_the_sign_of_ablationcam_where_the_score_is_negative(factor: float) -> None:
    peer = pytest.importorskip("pytorch_grad_cam")
    model = Scaled(factor)
    model.net = nets.make("module")  # it takes the layer out of the model for a while
    targets = [peer.utils.model_targets.ClassifierOutputTarget(2)] * 2
    with peer.AblationCAM(model=model, target_layers=[model.net.pool]) as method:
        weights = torch.from_numpy(method.get_cam_weights(X, model.net.pool, targets, activation(), None))
    theirs = torch.einsum("nk,nkhw->nhw", weights, activation())[:, None]
    ours = AblationCAM(Scaled(factor), "net.pool", relu=False, normalise=True).attribute(X, 2)
    assert_close(theirs, ours * (1 if factor > 0 else -1), rtol=1e-4, atol=1e-5)


@pins("ablationcam", "a channel is hidden as a whole")
def test_convention_ablationcam_hides_one_whole_channel_at_a_time() -> None:
    seen: list[Tensor] = []
    handle = NET.conv2.register_forward_pre_hook(lambda _m, args: seen.append(args[0]))
    AblationCAM(NET, "pool", baseline=9.0, exact_dense=True, batch_size=4).attribute(X, 2)
    handle.remove()
    hidden = (torch.cat(seen[1:]) == 9.0).flatten(2)
    assert (hidden.all(2) == hidden.any(2)).all()
    assert sorted(hidden.any(2).float().argmax(1).tolist()) == [0, 0, 1, 1, 2, 2, 3, 3]
    assert (hidden.any(2).sum(1) == 1).all()


@pins("ablationcam", "``channels``")
def test_convention_ablationcam_can_use_the_channels_of_largest_variance_alone() -> None:
    x = nets.batch(6, 8, 6, seed=4)
    act = activation(x=x)
    most = act.flatten(2).var(2).argmax(1)
    maps = AblationCAM(NET, "pool", channels=1, relu=False).attribute(x, 2)
    with torch.no_grad():
        without = act.clone()
        without[torch.arange(6), most] = 0
        drop = [NET.fc(F.relu(NET.conv2(seen)).mean((2, 3)))[:, 2] for seen in (act, without)]
    expected = (drop[0] - drop[1]).reshape(6, 1, 1, 1) * act[torch.arange(6), most][:, None]
    assert_close(maps, expected, rtol=1e-4, atol=1e-6)


@pins("ablationcam", "``relu=False`` keeps evidence against the score")
def test_convention_ablationcam_without_relu_has_both_signs() -> None:
    maps = AblationCAM(NET, "conv2", relu=False).attribute(X, 2)
    assert maps.amin() < 0 < maps.amax()
    assert_close(AblationCAM(NET, "conv2").attribute(X, 2), maps.relu())


# --- costs

K = 6  # channels of conv2


@pytest.mark.parametrize(
    ("name", "options", "forwards", "backwards", "says"),
    [
        ("eigencam", {"layer": "conv2"}, 1, 0, "one forward pass and a singular value decomposition"),
        ("eigencam", {"layer": "conv2", "gradient": True}, 1, 1, "one backward pass to the layer"),
        ("eigencam", {}, 2, 0, '``layer="auto"`` one more forward'),
        ("scorecam", {"layer": "conv2"}, K + 2, 0, "K forward passes per example for K channels, plus two"),
        ("scorecam", {"layer": "conv2", "channels": 3, "batch_size": 2}, 3 + 2, 0, "no gradient"),
        ("ablationcam", {"layer": "conv2"}, K + 1, 0, "K forward passes from the layer on per example"),
        ("ablationcam", {"layer": "conv2", "channels": 2}, 2 + 1, 0, "from the layer on per example"),
        ("ablationcam", {"layer": "conv2", "batch_size": 5}, K + 1, 0, "plus one from the input; no gradient"),
    ],
)  # fmt: skip
def test_a_method_costs_what_it_says(
    name: str, options: dict[str, Any], forwards: int, backwards: int, says: str
) -> None:
    if name != "eigencam":
        options = {**options, "exact_dense": True}
    with count() as cost:
        METHODS[name](nets.make("module"), **options).attribute(X, 2)
    assert says in " ".join(section(name, "Cost").split())
    assert (cost.forwards, cost.backwards) == (forwards * len(X), backwards * len(X))


@pytest.mark.parametrize(("name", "itself"), [("scorecam", 3), ("ablationcam", 3)])
def test_a_model_that_can_be_replayed_runs_three_times_itself(name: str, itself: int) -> None:
    seen: list[int] = []
    model = nets.make("module")
    model.register_forward_hook(lambda _m, args, _o: seen.append(len(args[0])))
    METHODS[name](model, "conv2").attribute(X, 2)
    assert seen == [len(X)] * itself  # clean, recorded, verified under one mask
