"""One test per line of the Convention of CAM."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from attrib import CAM, ClassScore, GradCAM
from attrib.errors import LayerError
from tests import nets
from tests.conventions import pins

X = nets.batch(2, 8, 6)
GAP = nets.fill(nets.GapHead())


@pins("cam", "map:")
def test_convention_cam_map_is_signed_and_in_the_unit_of_the_score() -> None:
    maps = CAM(GAP).attribute(X, 2)
    assert maps.shape == (2, 1, 8, 6)
    assert maps.min() < 0 < maps.max()
    assert torch.equal(CAM(GAP, relu=True).attribute(X, 2), maps.relu())
    assert_close(CAM(GAP).attribute(X, 10.0 * ClassScore(2)), 10 * maps)


@pins("cam", "the mean of the map is the score")
def test_convention_cam_means_to_the_score_or_refuses() -> None:
    mean = CAM(GAP).attribute(X, 2).mean((1, 2, 3))
    assert_close(mean + GAP.get_parameter("fc.bias")[2].detach(), GAP(X)[:, 2].detach())
    with pytest.raises(LayerError, match="CAM needs"):
        CAM(nets.make("module")).attribute(X, 2, "pool")


@pins("cam", "the head is found by what it computes")
def test_convention_cam_reads_a_pointwise_head_at_either_layer_and_rectifies_with_the_network() -> None:
    model = nets.fill(nets.PointHead())
    before, behind = (CAM(model, layer).attribute(X, 2) for layer in ("act1", "head"))
    assert_close(before + model.get_parameter("head.bias")[2], behind)  # the layer's own channel holds the bias too
    assert_close(behind[:, 0], model.get_submodule("head")(model.act1(model.conv1(X)))[:, 2].detach())
    rectified = nets.make("F.relu")  # the mean is of a ReLU that is no module
    maps = CAM(rectified, "conv2").attribute(X, 2)
    weight = rectified.fc.weight[2].detach()
    seen = rectified.conv2(rectified.pool(torch.relu(rectified.conv1(X)))).relu().detach()
    assert_close(maps[:, 0], torch.einsum("k,nkhw->nhw", weight, seen))
    assert isinstance(model.act1, nn.ReLU)


@pins("cam", "of a combination of classes")
def test_convention_cam_is_linear_in_classes_and_first_order_in_other_scores() -> None:
    one, other = (CAM(GAP).attribute(X, index) for index in (1, 3))
    assert_close(CAM(GAP).attribute(X, ClassScore(1) - ClassScore(3)), one - other)
    p = GAP(X).softmax(1)[:, 1].detach()
    found = CAM(GAP).attribute(X, ClassScore(1, "log_odds"))
    slope = GradCAM(GAP, "conv", relu=False).attribute(X, ClassScore(1, "log_odds")) * 48
    assert_close(found, slope)
    assert 0 < p.min() < p.max() < 1


@pins("cam", "where the head reads a sum")
def test_convention_cam_has_the_number_of_places_as_a_factor_behind_a_sum() -> None:
    class Sums(nets.GapHead):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            out: torch.Tensor = self.fc(self.conv(x).sum((2, 3)))
            return out

    maps = CAM(nets.fill(Sums())).attribute(X, 2)
    assert_close(maps, 8 * 6 * CAM(GAP).attribute(X, 2))
    assert_close(maps.mean((1, 2, 3)) + GAP.get_parameter("fc.bias")[2], nets.fill(Sums())(X)[:, 2])


@pins("cam", '``layer="auto"`` is the last output')
def test_convention_cam_finds_the_last_output_or_else_the_last_input_that_the_mean_is_of() -> None:
    class Unnamed(nets.GapHead):
        def __init__(self) -> None:
            super().__init__()
            self.pool = nn.AdaptiveAvgPool2d(1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            out: torch.Tensor = self.fc(self.pool(self.conv(x).square()).flatten(1))
            return out

    model = nets.fill(Unnamed())
    assert torch.equal(CAM(model).attribute(X, 2), CAM(model, "pool@input").attribute(X, 2))
    chain = nets.fill(nets.Chain(nn.ReLU(), nn.ReLU()))
    assert torch.equal(CAM(chain).attribute(X, 2), CAM(chain, "act2").attribute(X, 2))
