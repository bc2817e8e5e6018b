"""Facets: two kinds of picture that excite one unit are told apart, and each begins a search."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from attrib.core import Channel
from attrib.core.synth import PixelSpace
from attrib.errors import InputError
from attrib.io import LoadedModel
from attrib.synthesis import Facets, facets
from tests import tiny
from tests.test_cli import desk, files, run  # noqa: F401  fixtures

pytest.importorskip("sklearn")


def either() -> nn.Module:
    """Class 0 answers to red and to blue; the layer tells which."""
    net = nn.Sequential(
        nn.Conv2d(3, 2, 1, bias=False), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 2)
    )
    with torch.no_grad():
        net[0].weight.zero_()  # type: ignore[union-attr, operator]
        net[0].weight[0, 0] = net[0].weight[1, 2] = 1.0  # type: ignore[index, union-attr]
        net[4].weight.copy_(torch.tensor([[1.0, 1.0], [0.0, 0.0]]))  # type: ignore[union-attr, operator]
        net[4].bias.zero_()  # type: ignore[union-attr, operator]
    return net.eval()


def pictures() -> Tensor:
    """Eight red, six blue and ten black ones, mixed."""
    source = torch.Generator().manual_seed(0)
    found = 0.05 * torch.rand(24, 3, 8, 8, generator=source)
    found[0:24:3, 0] += 0.8
    found[[1, 4, 7, 10, 13, 16], 2] += 0.9
    return found


def quick(**how: Any) -> Facets:
    usual = {"count": 2, "layer": "0", "top": 14, "exemplars": 3, "perplexity": 4, "pixels": PixelSpace(), "steps": 3}
    return facets(either(), pictures(), 0, **{**usual, **how})


def test_kinds_of_picture_are_told_apart() -> None:
    found = quick()
    red, blue = set(range(0, 24, 3)), {1, 4, 7, 10, 13, 16}
    kinds = [set(found.index[found.label == f].tolist()) for f in range(2)]
    assert kinds == [red, blue]
    assert found.value.tolist() == sorted(found.value.tolist(), reverse=True)


def test_each_search_begins_with_the_mean_of_its_exemplars_and_climbs() -> None:
    found = quick()
    for f in range(2):
        chosen = found.index[found.exemplars[f]]
        torch.testing.assert_close(found.starts[f], pictures()[chosen].mean(0))
        torch.testing.assert_close(found.pictures[f], pictures()[chosen])
        assert set(found.label[found.exemplars[f]].tolist()) == {f}
    assert (found.ascent.score[-1] > found.ascent.score[0]).all()
    assert found.made.shape == (2, 3, 8, 8)


def test_exemplars_are_those_nearest_to_the_centre_in_the_plane() -> None:
    found = quick()
    mine = (found.label == 0).nonzero()[:, 0]
    away = (found.place[mine] - found.place[mine].mean(0)).norm(dim=1)
    assert found.exemplars[0].tolist() == mine[away.argsort(stable=True)[:3]].tolist()


def test_the_same_seed_gives_the_same_facets_and_any_unit_can_be_asked_for() -> None:
    once, again = quick(seed=2), quick(seed=2)
    assert torch.equal(once.place, again.place)
    assert torch.equal(once.made, again.made)
    net = either()
    channel = facets(
        net, pictures(), Channel("0", 0), count=1, layer="0", top=8, perplexity=2, pixels=PixelSpace(), steps=1
    )
    assert set(channel.index.tolist()) == set(range(0, 24, 3))
    assert channel.unit == "0:0"


def test_the_figure_has_a_row_per_facet() -> None:
    found = quick()
    titles = [ax.get_title() for ax in found.plot().axes]
    assert titles[:2] == ["facet 1", "start"]
    assert len(titles) == 2 * 5
    assert [line.split()[:2] for line in found.to_text().splitlines()[3:]] == [["1", "8"], ["2", "6"]]


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"count": 15}, "at least one picture for each of 15 facets; got 14"),
        ({"count": 0}, "count must be"),
        ({"perplexity": 9}, "perplexity must lie between 0 and a third of the 14 pictures; got 9. Take 4"),
        ({"exemplars": 0}, "exemplars must be"),
        ({"top": 0}, "top must be"),
        ({"components": 1}, "components must be"),
    ],
)
def test_bad_input_is_refused(how: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        quick(**how)


def test_pictures_that_a_layer_cannot_tell_apart_are_refused() -> None:
    same = pictures()[:1].expand(20, -1, -1, -1)
    with pytest.raises(InputError, match="differ among pictures, or there is nothing to sort"):
        facets(either(), same, 0, count=2, perplexity=4, layer="0", pixels=PixelSpace())


def test_the_unit_is_one_and_goes_by_its_name() -> None:
    with pytest.raises(InputError, match="unit must be one class, unit or objective; got 2"):
        facets(either(), pictures(), [0, 1], pixels=PixelSpace())
    named = LoadedModel(either(), tiny.loaded().preprocess, ("both", "none"))
    found = facets(named, pictures(), "both", count=2, layer="0", top=14, exemplars=3, perplexity=4, steps=1)
    assert torch.equal(found.index, quick().index)
    assert found.unit == "both"


def test_a_generator_reads_only_once() -> None:
    read = (pictures()[i : i + 4] for i in range(0, 24, 4))
    with pytest.raises(InputError, match=r"reads? only once|must hold at least one"):
        facets(either(), read, 0, count=2, layer="0", top=14, perplexity=4, pixels=PixelSpace())


def test_the_command(run: Any, desk: Path) -> None:  # noqa: F811
    for i in range(8):
        tiny.picture(i).save(desk / "photos" / f"more{i}.png")
    how = ("-m", "tiny_models:make", "--data", "photos", "--count", "2", "--perplexity", "2", "--steps", "1")
    code, _, err = run("see", "facets", "2", *how, "--layer", "conv1", "--exemplars", "2", "--out", "run")
    assert code == 0, err
    told = json.loads((desk / "run" / "manifest.json").read_text())
    assert told["unit"] == "cat"
    assert {"figure.png", "pictures/facet_1.png", "arrays/place.npy", "arrays/exemplars.0.npy"} < files(desk / "run")
