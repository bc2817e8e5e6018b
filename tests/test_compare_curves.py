"""The curves of a comparison: measured together, row by row in the result, each with its own points if need be."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

import attrib.tasks.measuring
from attrib import Saliency, compare
from attrib.core import Query
from attrib.core.network.cost import count
from attrib.metrics import Protocol, curves
from attrib.tasks.comparing import SEEDS
from tests import nets
from tests.sweeps import DENSE
from tests.tiny import FEW


def test_rows_share_the_passes_of_the_image_and_of_the_baseline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attrib.tasks.measuring, "curves", partial(curves, **DENSE))

    def passes(controls: bool) -> int:
        with count() as cost:
            found = compare(nets.make("module"), nets.batch(3), ["saliency", "input_x_gradient"], ["srg"], FEW, controls=controls)  # fmt: skip  # noqa: E501
        maps = sum(spent.forwards - spent.shared_forwards for many in found.costs.values() for spent in many)
        return cost.forwards - maps

    inner = 2 * (FEW.points(8, 48) - 2)
    asked = 1  # of each image: the pass that the methods share settles and names the target
    assert passes(controls=False) == 3 * (asked + 2 + 2 * inner)
    assert passes(controls=True) == 3 * (asked + 2 + (2 + 2 + SEEDS) * inner)


def test_a_map_that_cannot_be_measured_fails_alone() -> None:
    class TooLarge(Saliency):
        def _attribute(self, query: Query) -> torch.Tensor:
            return torch.ones(len(query.x), 1, 99, 99)

    methods = {"good": "saliency", "bad": TooLarge, "also": "gradcam"}
    found = compare(nets.make("module"), nets.batch(2), methods, ["srg"], FEW, controls=["random"])
    alone = compare(nets.make("module"), nets.batch(2), ["saliency", "gradcam"], ["srg"], FEW, controls=False)
    assert {(f.method, f.error) for f in found.failures} == {("bad", "ShapeError")}
    assert found.scores["bad"]["srg"].isnan().all()
    for mine, other in (("good", "saliency"), ("also", "gradcam")):
        torch.testing.assert_close(found.scores[mine]["srg"], alone.scores[other]["srg"])
    assert not found.scores["random"]["srg"].isnan().any()


def test_adaptive_curves_of_images_and_seeds_keep_their_areas(tmp_path: Path) -> None:
    model, x = nets.make("module", torch.float64), nets.batch(3, 16, 14, dtype=torch.float64)
    found = compare(model, x, ["saliency"], ["deletion", "insertion", "srg"], Protocol(steps="adaptive"))
    found.save(tmp_path / "run", figures=True)
    for row in ("saliency", "random"):
        saved = torch.from_numpy(np.load(tmp_path / "run" / "curves" / f"{row}.npy"))
        names = found.curves[row].names
        for name in ("deletion", "insertion"):
            fraction, score = found.curves[row].curve(name)
            assert (fraction.diff(dim=1) >= 0).all()
            torch.testing.assert_close(torch.trapezoid(score, fraction, dim=1), found.scores[row][name])
            mine = saved[:, names.index(name)]
            torch.testing.assert_close(torch.trapezoid(mine[:, 1], mine[:, 0], dim=1), found.scores[row][name])
        assert found.curves[row].curve("deletion")[0].shape[1] <= saved.shape[3] <= 225
    told = json.loads((tmp_path / "run" / "manifest.json").read_text())["protocol"]
    words = told.pop("words")
    assert "steps=adaptive (tolerance 0.01" in words
    assert Protocol.from_dict(told) == found.protocol
