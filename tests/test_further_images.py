"""Captioners go through `explain`, `compare` and `estimate`: their words follow the images."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from attrib import METRICS, GradCAM, Occlusion, Protocol, Token, compare, explain
from attrib.metrics import curves
from attrib.models import PAD, VOCABULARY, Captioner, coloured_shapes
from attrib.tasks.estimating import estimate
from tests import nets

NET = nets.fill(Captioner(len(VOCABULARY)))
SCENES = coloured_shapes(3, seed=3)
X, WORDS = SCENES.x, SCENES.tokens
GOAL = Token(WORDS, pad=PAD)


@pytest.mark.parametrize(("batch_size", "words"), [(2, WORDS), (8, (WORDS,))])
def test_every_image_is_explained_with_its_own_words(batch_size: int, words: Any, tmp_path: Path) -> None:
    occlusion = Occlusion(NET, window=32, stride=32)
    methods: dict[str, Any] = {"where": GradCAM(NET, "encoder"), "lost": occlusion}
    found = explain(NET, X, methods, target=GOAL, additional_forward_args=words, batch_size=batch_size)
    assert not found.failures
    asked = {"additional_forward_args": WORDS}
    for label, method in (("where", methods["where"]), ("lost", occlusion)):
        torch.testing.assert_close(found.maps[label]["Token"], method.attribute(X, GOAL, **asked))
    told = json.loads((found.save(tmp_path / "saved") / "manifest.json").read_text())
    (one,) = told["additional_forward_args"]
    assert (one["shape"], one["dtype"]) == ([3, WORDS.shape[1]], "int64")


def test_what_all_images_share_goes_with_each_of_them() -> None:
    class Weighed(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = nets.GapHead()

        def forward(self, x: torch.Tensor, weight: float, bias: torch.Tensor) -> torch.Tensor:
            out: torch.Tensor = self.net(x) * weight + bias
            return out

    model, x = nets.fill(Weighed()), nets.batch(4)
    extra = (2.0, torch.zeros(nets.CLASSES))
    found = explain(model, x, "gradcam", target=1, additional_forward_args=extra, batch_size=3)
    torch.testing.assert_close(
        found.maps["gradcam"]["1"], GradCAM(model).attribute(x, 1, additional_forward_args=extra)
    )
    assert found.about["additional_forward_args"][0] == 2.0


def test_maps_of_captions_are_compared_and_occlusion_is_sized() -> None:
    methods = {"where": GradCAM(NET, "encoder")}
    how = {"additional_forward_args": WORDS, "controls": False}
    found = compare(NET, X, methods, ["deletion"], Protocol(steps=2, score=None), target=GOAL, **how)
    assert not found.failures
    for n in (0, 2):
        one = Token(WORDS[n : n + 1], pad=PAD)
        alone = curves(
            NET,
            X[n : n + 1],
            one,
            {"where": found.explanations[n].maps["where"]["Token"]},
            found.protocol,
            additional_forward_args=WORDS[n : n + 1],
        )
        expected = METRICS["deletion"]().from_curves(alone["where"])
        torch.testing.assert_close(found.scores["where"]["deletion"][n], expected[0].double())
    assert estimate(NET, X[:1], window=16, stride=16, additional_forward_args=WORDS[:1]).positions == 4
