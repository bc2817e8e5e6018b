"""Which methods take which goals, as the how-to page says; and how a goal without a probability is compared."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
import torch
from torch import nn

from attrib import METHODS, Label, Protocol, Region, Similarity, compare
from attrib.errors import LayerError, TargetError
from tests import nets, tiny
from tests.made_for import MADE_FOR
from tests.presets import QUICK

X = nets.batch(1, 8, 6)
CLASSES = nets.fill(
    nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5))
)
PIXELS = nets.fill(nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 4, 3, padding=1)))
ASKED: dict[str, Any] = {
    "label": Label(3),
    "difference": Label(3) - Label(2),
    "similarity": Similarity(torch.arange(5.0)),
    "function": lambda out: out[:, 1],
    "region": Region(2, torch.ones(8, 6)),
    "unit": "1:2",
}
# Methods that take less than all of these: they follow scores of classes down by rules of their own.
TAKES = {"lrp": {"label"}, "cam": {"label", "difference", "similarity", "function"}}
PARTS = {"feature_mask": torch.arange(48).reshape(1, 1, 8, 6) // 12}
OPTIONS: dict[str, dict[str, Any]] = {
    **QUICK,
    **{name: PARTS | QUICK[name] for name in ("feature_ablation", "kernel_shap", "lime", "shapley_sampling")},
    "extremal_perturbation": {"steps": 2},
    "meaningful_perturbation": {"steps": 2},
    "occlusion": {"window": 5, "stride": 4},
    "rise": {"n": 4},
}


@pytest.mark.parametrize("name", [name for name in METHODS if name == "cam" or name not in MADE_FOR])
def test_every_method_takes_every_goal_unless_it_follows_scores_of_classes(name: str) -> None:
    taken = set()
    for what, goal in ASKED.items():
        with suppress(TargetError, LayerError):
            METHODS[name](PIXELS if what == "region" else CLASSES, **OPTIONS.get(name, {})).attribute(X, goal)
            taken.add(what)
    assert taken == TAKES.get(name, set(ASKED))


def test_a_goal_without_a_probability_is_compared_in_its_own_space() -> None:
    network, goal = tiny.loaded(), Similarity(torch.arange(5.0))
    with pytest.raises(TargetError, match=r"protocol=Protocol\(score=None\)"):
        compare(network, tiny.picture(0), ["saliency"], ["deletion"], target=goal)
    found = compare(network, tiny.picture(0), ["saliency"], ["deletion"], Protocol(score=None, steps=3), target=goal)
    assert not found.failures
