"""The layer that is picked says something of the score; where none is known to, the choice is left to the user."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attrib import GradCAM
from attrib.core import auto_layer, count
from attrib.errors import LayerError
from tests import nets

X = nets.batch(2, 8, 12)


class Dense(nn.Module):
    """Scores of classes at every place, as nets for segmentation give them: under ``out``, beside others."""

    def __init__(self, finish: Callable[[Tensor], Any], low: bool = False) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.ReLU())
        self.classifier = nn.Sequential(nn.Conv2d(4, 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, nets.CLASSES, 1))
        self.aux = nn.Sequential(nn.Conv2d(4, 5, 1), nn.ReLU(), nn.Conv2d(5, nets.CLASSES, 1))
        self.low = nn.Conv2d(4, nets.CLASSES, 1) if low else None
        self.finish = finish

    def forward(self, x: Tensor) -> Any:
        found = self.body(x)
        out = self.classifier(found)
        out = out + self.low(found) if self.low else out
        return {"out": self.finish(out), "aux": self.aux(found)}


@pytest.mark.parametrize("low", [False, True])
@pytest.mark.parametrize(
    "finish",
    [
        lambda out: F.interpolate(out, scale_factor=2.0, mode="bilinear"),
        lambda out: F.interpolate(out, scale_factor=2.0).softmax(1),
        lambda out: out.permute(0, 2, 3, 1),
        lambda out: out,
    ],
    ids=["resized", "probabilities", "reordered", "as it is"],
)
def test_a_map_of_scores_is_no_layer_to_explain_them_at(finish: Callable[[Tensor], Tensor], low: bool) -> None:
    model = nets.fill(Dense(finish, low))
    assert auto_layer(model, (X,)) == "classifier.1"  # the other head, which runs later, does not lead to the scores
    assert GradCAM(model).attribute(X, lambda out: out["out"].flatten(1)[:, 3]).shape == (2, 1, 4, 6)


def test_features_that_are_the_output_are_a_layer() -> None:
    assert auto_layer(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()), (X,)) == "1"


class Unread(nn.Module):
    """A stem, and behind it tokens of a grid that nothing tells of."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.Conv2d(4, 4, 3, 2, 1))
        self.norm, self.head = nn.LayerNorm(4), nn.Linear(4, nets.CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.norm(self.stem(x).flatten(2).transpose(1, 2)).mean(1))
        return out


def test_a_stem_is_not_picked_before_layers_that_are_not_understood() -> None:
    model = nets.fill(Unread())
    with pytest.raises(LayerError, match=r"in the output of 'norm', \(6, 4\) for each.*spatial is 'stem'.*reshape="):
        GradCAM(model).attribute(X, 2)
    maps = GradCAM(model, "norm", reshape=lambda act: act.mT.reshape(len(act), -1, 2, 3), relu=False).attribute(X, 2)
    assert maps.shape == (2, 1, 2, 3)
    assert maps.any()


def test_of_detectors_with_several_heads_none_is_picked() -> None:
    class Finds(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.boxes = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 1)

        def forward(self, x: Tensor) -> list[dict[str, Tensor]]:
            return [{"boxes": one.flatten(1).T} for one in self.boxes(self.body(x))]

    with pytest.raises(LayerError, match=r"Finds finds objects.*Name one of its backbone"):
        auto_layer(Finds(), (X,))


def test_the_choice_needs_no_memory_for_a_backward_pass_and_leaves_no_trace() -> None:
    model = nets.make("module").train()
    given, kept = X.clone(), []
    handle = model.register_forward_hook(lambda _m, args, out: kept.append(out))
    with torch.no_grad(), count() as cost:
        auto_layer(model, (given,))
    handle.remove()
    assert (cost.forwards, cost.backwards) == (2, 0)
    with pytest.raises(RuntimeError):
        kept[0].sum().backward()  # nothing was kept for it
    assert model.training
    assert not given.requires_grad
    assert all(p.requires_grad and p.grad is None for p in model.parameters())


def test_a_name_that_is_like_no_other_is_answered_with_the_parts_there_are() -> None:
    with pytest.raises(LayerError, match=r"Unread has no layer 'layer5'\. Its parts are 'stem', 'norm', 'head'\."):
        GradCAM(Unread(), "layer5")
