"""The three maps of Zeiler and Fergus: equal to two loops, from one sweep, and to Captum's occlusion."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import captum.attr
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from attrib import Occlusion
from attrib.analysis import occlusion_maps
from attrib.core import Given, Query, as_objective, count, frozen, sweep
from attrib.core.masking.masks import Windows
from attrib.core.objectives.watched import MostProbable
from attrib.errors import InputError, LayerError, ShapeError, TargetError
from tests import nets
from tests.incremental import watched
from tests.oracles import occlusion_maps as oracle
from tests.oracles.differences import Array
from tests.oracles.models import DOUBLE, EXACT, TARGETS
from tests.sweeps import in_order
from tests.test_sweep_axes import signals, volumes

WINDOW, STRIDE = (3, 2), (2, 2)
X = nets.batch(2, 9, 8, seed=7, dtype=DOUBLE) * 2


def undecided(name: str) -> nn.Module:
    """A net whose classes are as good as each other on these inputs, so that a window decides which one wins."""
    model = nets.make(name, DOUBLE)
    with torch.no_grad():
        model.fc.bias -= model(X).mean(0)
    return model  # type: ignore[no-any-return]


def looked_at(model: nn.Module, layer: str) -> oracle.Run:
    def run(x: Array) -> tuple[list[float], Array]:
        seen: list[Tensor] = []
        handle = model.get_submodule(layer).register_forward_hook(lambda _m, _a, out: seen.append(out))
        with torch.no_grad():
            logits = model(torch.from_numpy(x.copy())[None])[0].tolist()
        handle.remove()
        return logits, seen[0][0].numpy()

    return run


def expected(model: nn.Module, layer: str, x: Tensor, targets: list[int], **how: Any) -> list[oracle.Found]:
    run = looked_at(model, layer)
    return [oracle.three_maps(run, row, t, WINDOW, STRIDE, **how) for row, t in zip(x.numpy(), targets, strict=True)]


@pytest.mark.parametrize("edge", ["full", "cut"])
@pytest.mark.parametrize(("name", "layer"), [("module", "conv2"), ("residual", "conv"), ("pre-activation", "conv")])
def test_all_maps_are_those_of_two_loops_over_the_places(name: str, layer: str, edge: Any) -> None:
    model = undecided(name)
    found = occlusion_maps(model, X, TARGETS, layer=layer, window=WINDOW, stride=STRIDE, edge=edge, classes=[0, 4])
    truth = expected(model, layer, X, TARGETS, edge=edge)
    assert found.channel.tolist() == [one.channel for one in truth]
    for got, name_ in ((found.score, "probability"), (found.feature, "feature")):
        torch.testing.assert_close(got, torch.from_numpy(np.stack([getattr(one, name_) for one in truth])), **EXACT)
    assert found.label.tolist() == [one.label.tolist() for one in truth]
    assert len(found.label.unique()) > 1
    for index in (0, 4):
        others = expected(model, layer, X, [index, index], edge=edge)
        probability = torch.from_numpy(np.stack([one.probability for one in others]))
        torch.testing.assert_close(found.classes[index], probability, **EXACT)


def test_clean_values_are_those_of_the_inputs_as_they_are() -> None:
    model = nets.make("module", DOUBLE)
    found = occlusion_maps(model, X, TARGETS, layer="conv2", window=4, classes=[2])
    run = looked_at(model, "conv2")
    for i, row in enumerate(X.numpy()):
        logits, act = run(row)
        p = oracle.softmax(logits)
        assert found.clean.score[i].item() == pytest.approx(p[TARGETS[i]])
        assert found.clean.classes[2][i].item() == pytest.approx(p[2])
        assert found.clean.label[i].item() == logits.index(max(logits))
        assert found.clean.feature[i].item() == pytest.approx(act[int(found.channel[i])].sum())
    torch.testing.assert_close(found.drop, found.clean.score[:, None, None] - found.score)


def test_the_strongest_channel_is_that_of_the_largest_total_and_may_be_given_instead() -> None:
    model = nets.make("module", DOUBLE)
    with torch.no_grad():
        totals = torch.stack([torch.from_numpy(looked_at(model, "conv2")(row)[1]).sum((1, 2)) for row in X.numpy()])
    own = occlusion_maps(model, X, 1, layer="conv2", window=4)
    assert own.channel.tolist() == totals.argmax(1).tolist()
    given = occlusion_maps(model, X, 1, layer="conv2", window=4, channel=5)
    assert given.channel.tolist() == [5, 5]
    torch.testing.assert_close(given.clean.feature, totals[:, 5])
    each = occlusion_maps(model, X, 1, layer="conv2", window=4, channel=own.channel)
    assert torch.equal(each.feature, own.feature)


def test_one_sweep_answers_everything() -> None:
    model, seen = nets.make("module", DOUBLE), []
    model.register_forward_hook(lambda _m, args, _o: seen.append(len(args[0])))
    how: dict[str, Any] = {"layer": "conv2", "window": 3, "stride": 3, "classes": [0, 1, 2]}
    with count() as cost:
        found = occlusion_maps(model, X, TARGETS, **how, exact_dense=True)
    assert cost.forwards == sum(seen) == 2 * (len(found.windows) + 1)
    seen.clear()
    with count() as cost, watched() as ways:
        occlusion_maps(model, X, TARGETS, **how)
    assert ways in (["local"], ["replayed"])
    assert seen == [2, 2, 2]  # clean, recorded, verified


def test_pixel_maps_average_the_windows_as_occlusion_does_and_let_them_vote_on_labels() -> None:
    model = undecided("residual")
    how: dict[str, Any] = {"window": WINDOW, "stride": STRIDE, "baseline": "mean"}
    found = occlusion_maps(model, X, TARGETS, layer="conv", classes=[1], **how)
    pixels = found.upsampled()
    for index, got in ((TARGETS, pixels.score), (1, pixels.classes[1])):
        mean = Occlusion(model, **how, sign="score", score="probability").attribute(X, index)
        torch.testing.assert_close(got, mean, **EXACT)
    for n in range(2):
        for y in range(9):
            for x in range(8):
                over = [
                    int(found.label[n].flatten()[k])
                    for k, (top, bottom, left, right) in enumerate(found.windows.boxes)
                    if top <= y < bottom and left <= x < right
                ]
                assert int(pixels.label[n, 0, y, x]) == max(sorted(set(over)), key=over.count)


def test_the_drop_averaged_over_windows_is_captums_occlusion_of_the_probability() -> None:
    model = nets.make("module", DOUBLE)
    how: dict[str, Any] = {"window": WINDOW, "stride": STRIDE, "edge": "cut", "baseline": "zero"}
    found = occlusion_maps(model, X, TARGETS, layer="conv2", **how)
    theirs = captum.attr.Occlusion(lambda x: model(x).softmax(1)).attribute(
        X, (3, *WINDOW), strides=(3, *STRIDE), target=TARGETS
    )
    ours = found.clean.score[:, None, None, None] - found.upsampled().score
    torch.testing.assert_close(ours, theirs[:, :1].to(ours), rtol=1e-4, atol=1e-6)


class Tied(nn.Module):
    """Two classes with one and the same score, but for the order of summation in it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 16, 3, padding=1)
        self.norm = nn.BatchNorm2d(16)
        self.one, self.other = nn.Conv2d(16, 1, 3, padding=1), nn.Conv2d(16, 1, 3, padding=1)
        self.other.weight.data = self.one.weight.data.flip(1)
        self.other.bias.data = self.one.bias.data

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm(self.conv(x)).relu()
        turned = torch.cat([h[:, i : i + 1] for i in range(15, -1, -1)], 1)
        return torch.cat([self.one(h).mean((2, 3)), self.other(turned).mean((2, 3))], 1)


@pytest.mark.parametrize("way", ["local", "replayed", "exact_dense"])
def test_labels_that_rounding_decides_do_not_fail_the_check_of_a_replay(way: str) -> None:
    torch.manual_seed(0)
    model, x = Tied().eval(), nets.batch(1, 24, 24)
    size, stride = (22, 1) if way == "replayed" else (2, 1)  # so large a window leaves nothing to save
    how: dict[str, Any] = {"window": size, "stride": stride, "verify": 500, "exact_dense": way == "exact_dense"}
    with watched() as ways:
        found = occlusion_maps(model, x, 0, layer="conv", **how)
    assert ways == ([] if way == "exact_dense" else [way])
    truth = occlusion_maps(model, x, 0, layer="conv", **how | {"exact_dense": True})
    torch.testing.assert_close(found.score, truth.score)
    if way == "local":
        assert not torch.equal(found.label, truth.label)  # or there would be nothing to forgive


def test_the_check_of_a_replay_still_sees_a_wrong_score_beside_a_label(monkeypatch: pytest.MonkeyPatch) -> None:
    from attrib.core.incremental import conv
    from attrib.errors import ModelError

    run = conv.Convolution.run
    monkeypatch.setattr(conv.Convolution, "run", lambda *args: run(*args) * 1.01)
    with pytest.raises(ModelError, match="the replayed model must give what the model gives"):
        occlusion_maps(nets.make("module", DOUBLE), X, TARGETS, layer="conv2", window=3)


def test_labels_alone_are_decided_by_scores_below_one_too() -> None:
    class Small(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.mean((2, 3)) * torch.tensor([0.1, 0.2, 0.3], dtype=DOUBLE)

    with frozen(Small()):
        query = Query(Small(), (torch.ones(1, 3, 9, 8, dtype=DOUBLE),), MostProbable())
        assert in_order(sweep(query, Windows((9, 8), (3, 3), (3, 3)))).unique().tolist() == [2]


def test_a_sweep_of_labels_alone_is_not_compared_at_all() -> None:
    model = nets.make("module", DOUBLE)
    masks = Windows((9, 8), (3, 3), (1, 1))
    with frozen(model):
        labels = in_order(sweep(Query(model, (X,), MostProbable()), masks, verify=30))
        one = in_order(sweep(Query(model, (X,), as_objective(2)), masks))
    assert labels.shape == one.shape
    kept = Given(masks.batch(4, 5, X))
    assert labels[4].tolist() == model(X * kept.keep[0]).argmax(1).tolist()


class Louder(nn.Module):
    """1000 classes, of which 339 wins in the dark and 511 where the last column is bright; and loud feature maps."""

    def __init__(self) -> None:
        super().__init__()
        self.loud = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        loud = self.loud(x * 500)
        score = loud.new_zeros(len(x), 1000)
        score[:, 339], score[:, 511] = 0.25, x[..., -1].amax((1, 2)) / 2
        return score


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_labels_and_totals_are_exact_in_half_precision(dtype: torch.dtype) -> None:
    x = torch.ones(2, 1, 16, 16, dtype=dtype)
    found = occlusion_maps(Louder(), x, 511, layer="loud", window=16, score="logit", baseline=0.0)
    assert found.clean.label.tolist() == [511, 511]
    assert found.label.flatten().tolist() == [339, 339]
    assert found.upsampled().label.unique().tolist() == [339]
    assert found.clean.feature.tolist() == [500 * 256] * 2  # float16 ends at 65504, bfloat16 counts in steps of 1024
    assert found.feature.flatten().tolist() == [0, 0]


@pytest.mark.parametrize(("make", "size"), [(signals, (23,)), (volumes, (5, 4, 6))])
def test_signals_and_volumes_have_grids_of_their_own(make: Callable[[], nn.Module], size: tuple[int, ...]) -> None:
    x = torch.randn(2, 2, *size, generator=torch.Generator().manual_seed(0), dtype=DOUBLE)
    found = occlusion_maps(make(), x, 1, layer="2", window=2, stride=2, exact_dense=True)
    assert found.score.shape == (2, *(-(-length // 2) for length in size))
    assert found.drop.shape == found.label.shape == found.feature.shape == found.score.shape
    assert found.upsampled().label.shape == (2, 1, *size)
    mean = Occlusion(make(), window=2, stride=2, baseline="mean", score="probability").attribute(x, 1)
    torch.testing.assert_close(found.clean.score.reshape(2, 1, *(1 for _ in size)) - found.upsampled().score, mean)


def test_the_last_spatial_layer_is_watched_unless_another_is_named() -> None:
    model = nets.make("module", DOUBLE)
    assert occlusion_maps(model, X, 1, window=4).layer == "act2"
    named = occlusion_maps(model, X, 1, layer=model.get_submodule("pool"), window=4)
    assert named.layer == "pool"


@pytest.mark.parametrize("classes", [[0, 4], (0, 4), torch.tensor([0, 4]), np.array([0, 4]), {4: "", 0: ""}])
def test_further_classes_are_keyed_by_plain_numbers_however_they_are_given(classes: Any) -> None:
    found = occlusion_maps(nets.make("module", DOUBLE), X, 1, layer="conv2", window=4, classes=classes)
    assert {type(index) for index in found.classes} == {int}
    assert set(found.classes) == set(found.clean.classes) == {0, 4}


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_probabilities_that_would_be_squashed_again_are_told(dtype: torch.dtype) -> None:
    ends_in_softmax = nn.Sequential(nets.make("module", dtype), nn.Softmax(1))
    x, how = X.to(dtype), {"layer": "0.conv2", "window": 4}
    with pytest.warns(UserWarning, match="score='probability' takes a softmax .* probabilities already.*score='logit'"):
        occlusion_maps(ends_in_softmax, x, 1, **how)  # type: ignore[arg-type]
    found = occlusion_maps(ends_in_softmax, x, 1, score="logit", **how)  # type: ignore[arg-type]
    plain = occlusion_maps(ends_in_softmax[0], x, 1, layer="conv2", window=4)
    torch.testing.assert_close(found.score, plain.score, rtol=float(torch.finfo(dtype).eps) * 4, atol=1e-7)


def test_what_cannot_be_asked_is_refused() -> None:
    model = nets.make("module", DOUBLE)
    with pytest.raises(TargetError, match=r"channel must lie in \[0, 5\] for layer 'conv2'.*got \[6\]"):
        occlusion_maps(model, X, 1, layer="conv2", channel=6)
    with pytest.raises(TargetError, match=r"one for each \(N=2\); got \[1, 2, 3\]"):
        occlusion_maps(model, X, 1, layer="conv2", channel=[1, 2, 3])
    with pytest.raises(TargetError, match="target must lie in"):
        occlusion_maps(model, X, 1, layer="conv2", classes=[5])
    with pytest.raises(InputError, match="class index must be an integer >= 0"):
        occlusion_maps(model, X, 1, classes=[-1])
    for classes in (3, None, torch.tensor(3)):
        with pytest.raises(
            InputError, match=r"classes must be a sequence of class numbers; got .*One goes into a list"
        ):
            occlusion_maps(model, X, 1, classes=classes)  # type: ignore[arg-type]
    for wrong in ("dog", [True], [1.0], torch.tensor([1.0])):
        with pytest.raises(InputError, match="class index must be an integer >= 0"):
            occlusion_maps(model, X, 1, classes=wrong)  # type: ignore[arg-type]
    for channel in (1.5, True, "a", torch.tensor([1.5, 2.0]), [True, False]):
        with pytest.raises(TargetError, match="channel must hold whole numbers"):
            occlusion_maps(model, X, 1, layer="conv2", channel=channel)  # type: ignore[arg-type]
    with pytest.raises(
        ShapeError, match=r"inputs must be one Tensor; got 2\. Pass the rest as additional_forward_args"
    ):
        occlusion_maps(model, (X, X), 1)  # type: ignore[arg-type]
    with pytest.raises(
        TargetError, match=r"needs two outputs or more; the model gives one\. If that is the log-odds z"
    ):
        occlusion_maps(nn.Sequential(model, nn.Linear(5, 1).double()), X, 0)
    with pytest.raises(LayerError, match="no layer 'conv3'"):
        occlusion_maps(model, X, 1, layer="conv3")
    with pytest.raises(LayerError, match="must be spatial"):
        occlusion_maps(model, X, 1, layer="fc")
    dense = nn.Sequential(nn.Conv2d(3, 4, 3)).double()
    with pytest.raises(TargetError, match=r"most probable class needs an output of shape \(N, C\)"):
        occlusion_maps(dense, X, (1, 2, 2), layer="0")
