"""Which filters fire: numbers equal to loops over every place, over one picture or many, and maps beside it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attrib.analysis.patches.firing import firing
from attrib.core import capture
from attrib.errors import InputError, LayerError, ModelError
from tests import nets, transformers
from tests.test_cli import desk, run  # noqa: F401  fixtures

X = nets.batch(5, 8, 6)
NUMBERS = ("max", "mean", "l2", "sparsity", "fired")


def by_hand(maps: Tensor, threshold: float) -> list[dict[str, float]]:
    """Of each channel of ``(N, K, h, w)``."""
    found = []
    for channel in range(maps.shape[1]):
        values = [[float(v) for v in one[channel].flatten()] for one in maps]
        flat = [v for one in values for v in one]
        found.append(
            {
                "max": max(flat),
                "mean": sum(flat) / len(flat),
                "l2": sum(sum(v * v for v in one) ** 0.5 for one in values) / len(values),
                "sparsity": sum(v <= threshold for v in flat) / len(flat),
                "fired": sum(any(v > threshold for v in one) for one in values) / len(values),
            }
        )
    return found


def acts(net: nn.Module, layer: str, x: Tensor = X) -> Tensor:
    with torch.no_grad(), capture(net, layer) as found:
        net(x)
    return found[layer]


@pytest.mark.parametrize("layer", ["conv1", "act2"])
@pytest.mark.parametrize("threshold", [0.0, 0.3])
def test_numbers_are_those_of_a_loop_over_every_place(layer: str, threshold: float) -> None:
    net = nets.make("module")
    found = firing(net, X, layer, threshold=threshold, batch_size=2)
    for channel, expected in enumerate(by_hand(acts(net, layer), threshold)):
        got = {name: float(getattr(found, name)[channel]) for name in NUMBERS}
        assert got == pytest.approx(expected, rel=1e-5, abs=1e-6)
    assert found.examples == 5


def test_batches_of_any_size_give_the_same() -> None:
    net = nets.make("module")
    whole, parts = firing(net, X, "conv2"), firing(net, iter([X[:1], X[1:4], X[4:]]), "conv2")
    for name in (*NUMBERS, "maps", "shown", "pictures"):
        torch.testing.assert_close(getattr(whole, name), getattr(parts, name))


@pytest.mark.parametrize("rank", ["max", "mean", "l2"])
def test_channels_are_ordered_by_what_was_asked_and_the_maps_of_the_first_are_kept(rank: Any) -> None:
    net = nets.make("module")
    found = firing(net, X, "conv2", rank=rank, tiles=3, keep=2)
    values = getattr(found, rank)
    assert found.order().tolist() == sorted(range(6), key=lambda k: -float(values[k]))
    assert found.shown.tolist() == found.order()[:3].tolist()
    torch.testing.assert_close(found.maps, acts(net, "conv2")[:2, found.shown])
    torch.testing.assert_close(found.pictures, X[:2])
    assert found.order("l2").tolist() == sorted(range(6), key=lambda k: -float(found.l2[k]))


class Overwritten(nn.Module):
    """The layer's output is changed in place behind it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv(x).mul_(0).sub_(1)
        return F.relu(out).mean((2, 3))


def test_values_are_those_before_a_later_change_in_place() -> None:
    net = nets.fill(Overwritten())
    found = firing(net, X, "conv")
    assert float(found.max.max()) == pytest.approx(float(net.get_submodule("conv")(X).detach().max()))


def test_a_module_that_runs_twice_is_addressed_by_call() -> None:
    net = nets.make("one module used twice")
    with pytest.raises(LayerError, match="ran 2 times"):
        firing(net, X, "act1")
    first, second = firing(net, X, "act1#0"), firing(net, X, "act1#1")
    assert (len(first.max), len(second.max)) == (4, 6)
    torch.testing.assert_close(first.max, acts(net, "act1#0").amax((0, 2, 3)))


def test_channels_that_fire_nowhere_are_told() -> None:
    net = nets.make("module")
    net.conv1.bias.data[2] = -1e6
    found = firing(net, X, "act1")
    assert found.silent.tolist() == [2]
    assert found.to_text().splitlines()[0] == "act1: 4 channels on 5 pictures, by max; 1 fire nowhere"
    assert float(found.sparsity[2]) == 1


def test_shares_are_exact_in_half_precision() -> None:
    x = torch.zeros(300, 1, 1, 1)
    x[0] = 1
    found = firing(nn.Sequential(nn.Identity()), x.bfloat16(), "0")
    assert float(found.sparsity) == pytest.approx(299 / 300)


def test_tokens_are_maps_and_a_layer_without_places_has_one() -> None:
    net, x = transformers.make(size=(12, 12)), nets.batch(2, 12, 12)
    layer = next(name for name, _ in net.named_modules() if name.endswith(("norm1", "ln_1")))
    found, act = firing(net, x, layer), acts(net, layer, x)
    count = found.places[0] * found.places[1]
    assert count > 1
    torch.testing.assert_close(found.max, act[:, act.shape[1] - count :].amax((0, 1)))
    flat = firing(nets.make("module"), X, "fc")
    assert flat.places == (1, 1)
    torch.testing.assert_close(flat.max, acts(nets.make("module"), "fc").amax(0))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"rank": "median"}, InputError, "rank must be one of 'max', 'mean', 'l2'"),
        ({"tiles": 0}, InputError, "tiles must be an integer >= 1"),
        ({"keep": 0}, InputError, "keep must be an integer >= 1"),
        ({"threshold": float("nan")}, InputError, "threshold must be a finite number"),
        ({"images": []}, InputError, "data must hold at least one example"),
        ({"images": [X, X[:, :, :6]], "keep": 9}, InputError, "pictures whose maps are kept must have one size"),
        ({"images": [X * float("nan")]}, ModelError, "activations of 'conv2' must be finite"),
        ({"layer": "conv7"}, LayerError, "no layer 'conv7'"),
    ],
)
def test_wrong_questions_are_refused(change: dict[str, Any], error: type[Exception], message: str) -> None:
    asked: dict[str, Any] = {"images": X, "layer": "conv2", **change}
    with pytest.raises(error, match=message):
        firing(nets.make("module"), asked.pop("images"), asked.pop("layer"), **asked)


def test_everything_is_saved_and_drawn_beside_the_picture(tmp_path: Path) -> None:
    found = firing(nets.make("module"), X, "conv2", tiles=7, keep=2)
    found.save(tmp_path / "run", figures=True)
    told = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert (told["layer"], told["examples"], told["rank"], told["places"]) == ("conv2", 5, "max", [4, 3])
    for name in (*NUMBERS, "maps", "shown", "pictures"):
        saved = np.load(tmp_path / "run" / told["arrays"][name]["file"])
        np.testing.assert_array_equal(saved, getattr(found, name).numpy())
    axes = {ax.get_title(): ax for ax in found.plot().axes}
    assert {"picture 0", "picture 1"} < set(axes)
    channel = int(found.shown[0])
    title = next(title for title in axes if title.startswith(f"{channel}: "))
    drawn = axes[title].images[0].get_array()
    assert any(np.allclose(drawn, one) for one in found.maps[:, 0].double().numpy())  # type: ignore[arg-type]


def test_channels_that_tie_with_the_last_one_shown_are_counted() -> None:
    x = torch.tensor([3.0, 2.0, 2.0, 2.0, 1.0]).reshape(1, 5, 1, 1)
    found = firing(nn.Sequential(nn.Identity()), x, "0", tiles=2)
    assert found.shown.tolist() == [0, 1]
    assert "note: 2 more channels have the same max as the last one shown" in found.to_text()
    for tiles in (1, 4, 5):  # nothing that ties is left out
        assert "note" not in firing(nn.Sequential(nn.Identity()), x, "0", tiles=tiles).to_text()


def test_squares_of_a_layer_without_places_have_one_scale_and_the_figure_says_so() -> None:
    figure = firing(nets.make("module"), X, "fc", tiles=3).plot()
    assert len({ax.images[0].norm.vmax for ax in figure.axes[1:]}) == 1
    assert "all have one scale" in " ".join(text.get_text() for text in figure.texts).replace("\n", " ")


def test_the_model_stays_as_it_was() -> None:
    net = nets.make("module in place")
    net.train()
    before = {name: one.clone() for name, one in net.state_dict().items()}
    firing(net, X, "conv2")
    assert net.training
    assert all(torch.equal(before[name], one) for name, one in net.state_dict().items())
    assert all(not one._forward_hooks for one in net.modules())


class TestCommand:
    COMMAND = ("see", "fires", "photos", "-m", "tiny_models:make", "--layer", "conv2")

    def test_prints_the_strongest_channels_and_writes_everything(self, run: Any, desk: Path) -> None:  # noqa: F811
        code, out, _ = run(*self.COMMAND, "--tiles", "2", "--rank", "mean", "--out", "run1")
        assert code == 0
        assert out.splitlines()[0] == "conv2: 6 channels on 2 pictures, by mean; 1 fire nowhere"
        told = json.loads((desk / "run1" / "manifest.json").read_text())
        assert (told["rank"], told["examples"], told["command"][:2]) == ("mean", 2, ["attrib", "see"])
        assert (desk / "run1" / "figure.png").stat().st_size > 1000

    def test_speaks_json_and_tells_a_wrong_layer(self, run: Any) -> None:  # noqa: F811
        code, out, _ = run(*self.COMMAND, "--json", "--quiet")
        assert (code, json.loads(out)["layer"]) == (0, "conv2")
        code, out, err = run(*self.COMMAND[:-1], "conv9")
        assert (code, out) == (2, "")
        assert "no layer 'conv9'" in err
