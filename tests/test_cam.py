"""CAM is exact where it applies, and says why where it does not; class maps share one forward pass."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.testing import assert_close

from attrib import CAM, METHODS, ClassScore, GradCAM, Occlusion, Predicted, Saliency, attribute_all, class_maps
from attrib.core import count
from attrib.errors import InputError, ShapeError, TargetError
from tests import data, nets, realnets

X = nets.batch(3, 8, 6)
GAP = nets.fill(nets.GapHead())


class ConvHead(nn.Module):
    """Scores at every place, rectified or not, and their mean: the layer has one channel per class."""

    def __init__(self, rectify: bool) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 7, 3), nn.ReLU())
        self.head = nn.Conv2d(7, nets.CLASSES, 1)
        self.rectify = rectify

    def forward(self, x: Tensor) -> Tensor:
        x = self.head(self.features(x))
        return (F.relu(x) if self.rectify else x).mean((2, 3))


class FunctionalReLU(nn.Module):
    """As DenseNet: what the mean is taken of is the output of no module."""

    def __init__(self, pooled: str = "linear") -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 7, 3), nn.BatchNorm2d(7))
        self.fc: nn.Module = nn.Linear(7, nets.CLASSES) if pooled == "linear" else nn.Conv2d(7, nets.CLASSES, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.adaptive_avg_pool2d(F.relu(self.features(x), inplace=True), 1)
        out: Tensor = self.fc(x.flatten(1) if isinstance(self.fc, nn.Linear) else x)
        return out.flatten(1)


EXACT: dict[str, tuple[Any, str]] = {
    "mean and linear": (nets.GapHead, "conv"),
    "a ReLU module before the mean": (lambda: nets.Chain(nn.ReLU(), nn.ReLU()), "act2"),
    "a convolution and the mean": (lambda: ConvHead(rectify=False), "head"),
    "a convolution, a ReLU and the mean": (lambda: ConvHead(rectify=True), "head"),
    "a functional ReLU": (FunctionalReLU, "features"),
    "a 1x1 convolution on the mean": (lambda: FunctionalReLU("conv"), "features"),
    "dropout behind the mean": (nets.Regularised, "features"),
}


@pytest.mark.parametrize("kind", EXACT)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_mean_of_the_map_and_the_bias_are_the_score(kind: str, dtype: torch.dtype) -> None:
    make, layer = EXACT[kind]
    model, x = nets.fill(make()).to(dtype), X.to(dtype)
    bias = next((m.bias for m in [*model.modules()][::-1] if isinstance(m, nn.Linear)), None)
    bias = model.fc.bias if kind.startswith("a 1x1") else bias
    offset = torch.zeros(nets.CLASSES, dtype=dtype) if bias is None else bias.detach()
    for target in range(nets.CLASSES):
        for maps in (CAM(model).attribute(x, target), CAM(model, layer).attribute(x, target)):
            assert_close(maps.mean((1, 2, 3)) + offset[target], model(x)[:, target].detach())
    assert not torch.equal(CAM(model).attribute(x, 0), CAM(model).attribute(x, 1))


def test_cam_is_hw_times_gradcam_before_its_relu() -> None:
    theirs = GradCAM(GAP, "conv", relu=False).attribute(X, [1, 2, 0])
    assert_close(CAM(GAP).attribute(X, [1, 2, 0]), theirs * 8 * 6)


def test_a_combination_of_classes_has_the_combination_of_their_maps() -> None:
    contrast = CAM(GAP).attribute(X, ClassScore(1) - 2.0 * ClassScore(4))
    assert_close(contrast, CAM(GAP).attribute(X, 1) - 2 * CAM(GAP).attribute(X, 4))


def test_another_function_of_the_scores_is_explained_to_first_order() -> None:
    maps = CAM(GAP).attribute(X, ClassScore(1, "log_probability"))
    p = GAP(X).softmax(1).detach()
    each = torch.cat([CAM(GAP).attribute(X, c) for c in range(nets.CLASSES)], 1)
    expected = each[:, 1] - torch.einsum("nc,nchw->nhw", p, each)
    assert_close(maps[:, 0], expected)


# --- several classes


@pytest.mark.parametrize("name", ["cam", "gradcam", "saliency", "guided_gradcam", "occlusion"])
def test_the_maps_of_several_classes_are_those_of_each(name: str) -> None:
    model = nets.fill(nets.Chain(nn.ReLU(), nn.ReLU()))
    method = METHODS[name](model)
    found = class_maps(method, X, [4, 0, 2])
    assert found.classes.tolist() == [[4, 0, 2]] * 3
    for place, index in enumerate((4, 0, 2)):
        assert torch.equal(found.maps[:, place : place + 1], method.attribute(X, index))
        assert torch.equal(found.of(index), method.attribute(X, index))
    assert_close(found.score, model(X)[:, [4, 0, 2]].detach())


def test_the_highest_scores_are_explained_in_their_order() -> None:
    found = class_maps(CAM(GAP), X, 3)
    top = GAP(X).detach().topk(3)
    assert torch.equal(found.classes, top.indices)
    assert_close(found.score, top.values)
    for n in range(3):
        assert_close(found.maps[n], torch.cat([CAM(GAP).attribute(X[n : n + 1], int(c))[0] for c in top.indices[n]]))


OWN = [[0, 1], [2, 3], [4, 0]]


@pytest.mark.parametrize(
    "own", [OWN, tuple(map(tuple, OWN)), np.array(OWN), torch.tensor(OWN)], ids=lambda o: type(o).__name__
)
def test_each_example_may_have_classes_of_its_own_in_any_form(own: Any) -> None:
    found = class_maps(GradCAM(GAP, "conv"), X, own)
    assert found.classes.tolist() == OWN
    assert torch.equal(found.maps[1, 1], GradCAM(GAP, "conv").attribute(X, 3)[1, 0])


@pytest.mark.parametrize("same", [[4, 2], (4, 2), range(4, 0, -2), np.array([4, 2]), torch.tensor([4, 2])])
def test_all_examples_may_have_the_same_classes_in_any_form(same: Any) -> None:
    assert class_maps(CAM(GAP), X, same).classes.tolist() == [[4, 2]] * 3


def test_one_row_for_each_of_as_many_examples_as_classes_is_no_column() -> None:
    assert class_maps(CAM(GAP), X[:2], [[0, 1], [2, 3]]).classes.tolist() == [[0, 1], [2, 3]]
    assert class_maps(CAM(GAP), X[:2], [[0], [3]]).classes.tolist() == [[0], [3]]


@pytest.mark.parametrize("several", [2, torch.tensor(2), np.array(2), np.int64(2)])
def test_how_many_may_be_any_whole_number(several: Any) -> None:
    assert class_maps(CAM(GAP), X, several).classes.tolist() == GAP(X).topk(2).indices.tolist()


def test_all_classes_may_be_asked_and_by_default_five_or_as_many_as_there_are() -> None:
    assert class_maps(CAM(GAP), X, "all").classes.tolist() == [[0, 1, 2, 3, 4]] * 3
    assert class_maps(CAM(GAP), X).classes.tolist() == GAP(X).topk(5).indices.tolist()
    for classes, shown in ((3, 3), (7, 5)):
        model = nets.fill(
            nn.Sequential(nn.Conv2d(3, 6, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, classes))
        )
        assert class_maps(CAM(model), X).classes.shape == (3, shown)


def test_a_contrast_is_the_map_of_the_difference_without_relu_and_with_it_is_not() -> None:
    goal = ClassScore(3) - ClassScore(1)
    for kind in (CAM, GradCAM):
        signed, positive = (
            class_maps(kind(GAP, "conv", relu=relu), X, [3, 1]).contrast(3, 1) for relu in (False, True)
        )
        assert_close(signed, kind(GAP, "conv", relu=False).attribute(X, goal))
        assert not torch.allclose(positive, kind(GAP, "conv", relu=True).attribute(X, goal))


def test_all_classes_take_one_forward_pass_and_cam_no_backward() -> None:
    with count() as cost:
        class_maps(CAM(GAP, "conv"), X, 4)
    assert (cost.forwards, cost.backwards) == (len(X), 0)
    with count() as cost:
        class_maps(GradCAM(GAP, "conv"), X, 4)
    assert (cost.forwards, cost.backwards) == (len(X), 4 * len(X))
    with count() as cost:
        attribute_all({"cam": CAM(GAP, "conv"), "gradcam": GradCAM(GAP, "conv")}, X, [0, 1])
    assert (cost.forwards, cost.backwards) == (len(X), 2 * len(X))


@pytest.mark.parametrize(
    ("classes", "error", "says"),
    [
        (0, InputError, "classes must be an integer >= 1"),
        ([], TargetError, "at least one class index"),
        ("every", TargetError, "classes must be a count, numbers or 'all'; got 'every'"),
        (6, TargetError, "classes must be at most the 5 that the model has; got 6"),
        ([7], TargetError, r"target must lie in \[0, 4\]"),
        (torch.zeros(2, 2, dtype=torch.int64), TargetError, "one entry per example"),
        ([[0, 1], [2, 3], [4]], TargetError, "one length"),
        (np.array([0.5, 1.0]), TargetError, "got 0.5"),
        ([True], TargetError, "boolean"),
        (torch.tensor(0.5), InputError, "classes must be an integer"),
    ],
)
def test_classes_that_are_not_there_are_refused(classes: Any, error: Any, says: str) -> None:
    with pytest.raises(error, match=says):
        class_maps(CAM(GAP), X, classes)


def test_class_maps_refuse_what_cannot_be_stacked_or_found() -> None:
    with pytest.raises(ShapeError, match=r"must make maps \(N, 1, h, w\) to be stacked; got \[\(3, 3, 8, 6\)\]"):
        class_maps(Saliency(GAP, channels="none"), X, 2)
    with pytest.raises(InputError, match="method must be an Attribution"):
        class_maps(CAM, X, 2)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="class 9 must be among those of every example"):
        class_maps(Occlusion(GAP), X, 2).of(9)


def test_the_runner_up_is_explained_as_its_class_and_ties_go_to_the_lower_index() -> None:
    second = GAP(X).topk(2).indices[:, 1].tolist()
    assert torch.equal(CAM(GAP).attribute(X, Predicted(rank=1)), CAM(GAP).attribute(X, second))
    tied = torch.zeros(2, 4)
    ranks = [Predicted(rank=r).bind(tied, {}).index for r in range(4)]
    assert [index.flatten().tolist() for index in ranks] == [[r, r] for r in range(4)]
    with pytest.raises(InputError, match="rank must be an integer >= 0"):
        Predicted(rank=-1)


# --- real networks


@data.needs_data
@pytest.mark.parametrize("name", ["resnet18", "squeezenet1_0", "tiny_darknet", "mobilenet_v2"])
def test_cam_finds_the_head_of_trained_networks(name: str) -> None:
    net = realnets.load(name)
    x, labels = net.batch(2)
    maps = CAM(net.model).attribute(x, labels)
    bias = getattr(next((m for m in [*net.model.modules()][::-1] if isinstance(m, nn.Linear)), None), "bias", None)
    offset = 0.0 if bias is None else bias.detach()[labels]
    with torch.no_grad():
        score = net.model(x)[torch.arange(2), labels]
    assert_close(maps.mean((1, 2, 3)) + offset, score, rtol=1e-4, atol=1e-4)
