"""The strongest patches: those that a look at every place finds, cut where units see, checked, projected and drawn."""

from __future__ import annotations

import json
import weakref
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.data import DataLoader, Dataset, TensorDataset

from attrib.analysis.patches.patches import top_patches
from attrib.analysis.patches.projections import project
from attrib.analysis.patches.top_activations import strongest_first, top_activations
from attrib.core import Neuron, capture, count
from attrib.core.network.geometry import Layout
from attrib.core.objectives.watched import Unit
from attrib.errors import InputError, LayerError, ModelError, RuleError, TargetError
from attrib.io import Stream
from attrib.io.samples import Sample, Samples
from attrib.methods.deconvnet import Deconvnet
from attrib.methods.guided import GuidedBackprop
from attrib.methods.saliency import Saliency
from tests import nets, realnets, tiny, transformers
from tests.data import needs_data
from tests.oracles.patches import crop, top_places
from tests.test_cli import desk, run  # noqa: F401  fixtures

X = nets.batch(7, 12, 10)


def entries(found: Any) -> Iterator[tuple[int, int, int, int, int]]:
    """Row, rank, picture and place of every patch."""
    for c, index in enumerate(found.index.tolist()):
        for i, number in enumerate(index):
            yield c, i, number, int(found.y[c, i]), int(found.x[c, i])


def acts(net: nn.Module, layer: str, x: Tensor = X) -> Tensor:
    with torch.no_grad(), capture(net, layer) as found:
        net(x)
    return found[layer]


class Coarse(nn.Module):
    """Few different values, so that there are many ties."""

    def __init__(self) -> None:
        super().__init__()
        self.steps = nn.Hardtanh(-1, 1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.steps(x.round())
        return out.mean((2, 3))


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 9), st.booleans(), st.integers(1, 8), st.integers(1, 4), st.integers(0, 99))
def test_the_strongest_places_are_those_that_a_look_at_all_of_them_finds(
    count: int, distinct: bool, n: int, batch_size: int, seed: int
) -> None:
    x = nets.batch(count, 3, 4, seed=seed)
    found = top_activations(Coarse(), x, "steps", n=n, distinct=distinct, batch_size=batch_size)
    for channel in range(3):
        expected = top_places(list(x.round().clamp(-1, 1)), channel, n, distinct)
        got = zip(*(one[channel].tolist() for one in (found.value, found.index, found.y, found.x)), strict=True)
        assert list(got) == expected
    assert (found.examples, found.asked) == (count, n)


def test_among_equals_those_that_come_first_are_taken() -> None:
    values = torch.tensor([[0.0, 2.0, 0.0, 1.0, 2.0, 0.0]])
    assert strongest_first(values, 5).tolist() == [[1, 4, 3, 0, 2]]
    assert strongest_first(torch.zeros(1, 5000), 3).tolist() == [[0, 1, 2]]


class Rows(Dataset[tuple[Tensor, Tensor]]):
    """A map-style data set that counts how often it is read."""

    def __init__(self) -> None:
        self.read: list[int] = []

    def __len__(self) -> int:
        return len(X)

    def __getitem__(self, i: int) -> tuple[Tensor, Tensor]:
        self.read.append(i)
        return X[i], torch.tensor(i)


def once() -> Iterator[Tensor]:
    yield X[:3]
    yield X[3:]


@pytest.mark.parametrize("kind", ["data set", "loader", "batches", "generator"])
def test_all_kinds_of_data_give_the_same(kind: str) -> None:
    given_as: dict[str, Any] = {
        "data set": Rows(),
        "loader": DataLoader(TensorDataset(X, torch.zeros(7)), batch_size=3),
        "batches": [X[:2], X[2:]],
        "generator": once(),
    }
    net = nets.make("module")
    how: dict[str, Any] = {"n": 2, "project": "guided", "batch_size": 3}
    expected, found = top_patches(net, X, "conv2", **how), top_patches(net, given_as[kind], "conv2", **how)
    for name in ("value", "index", "y", "x", "box", "crops", "inside", "projections"):
        torch.testing.assert_close(getattr(found, name), getattr(expected, name))
    assert bool(found.reproduced.all())


def test_of_a_data_set_only_the_best_are_read_again() -> None:
    data = Rows()
    found = top_patches(nets.make("module"), data, "conv2", n=1, channels=[0, 4])
    assert data.read == [*range(7), *sorted(set(found.index.flatten().tolist()))]


def test_patches_are_cut_where_the_unit_sees_with_the_border_masked() -> None:
    """Convolution 3, pooling 2, convolution 3, all padded: 8 pixels from 2 y - 3 on."""
    found, act = top_patches(nets.make("module"), X, "conv2", n=3), acts(nets.make("module"), "conv2")
    beyond = 0
    assert found.crops is not None
    assert found.inside is not None
    for c, i, number, y, x in entries(found):
        assert float(act[number, c, y, x]) == pytest.approx(float(found.value[c, i]))
        box = [2 * y - 3, 2 * y + 5, 2 * x - 3, 2 * x + 5]
        assert found.box[c, i].tolist() == box
        piece, inside = crop(X[number], box)
        torch.testing.assert_close(found.crops[c, i], piece)
        assert torch.equal(found.inside[c, i], inside)
        beyond += int((~inside).any())
    assert beyond > 0


def test_along_an_axis_on_which_units_see_all_the_patch_is_the_picture() -> None:
    x = X[:, :, :, :7]
    found = top_patches(nets.make("module"), x, "conv2", n=3)
    assert found.crops is not None
    assert found.inside is not None
    for c, i, number, y, z in entries(found):
        box = [2 * y - 3, 2 * y + 5, 2 * z - 3, 2 * z + 5]
        assert found.box[c, i].tolist() == box
        piece, inside = crop(x[number], [*box[:2], 0, 7])
        torch.testing.assert_close(found.crops[c, i], piece)
        seen = (torch.arange(7) >= box[2]) & (torch.arange(7) < box[3])
        assert torch.equal(found.inside[c, i], inside & seen)


@pytest.mark.parametrize(
    ("name", "method"),
    [
        ("deconvnet", partial(Deconvnet, absolute=False)),
        ("guided", partial(GuidedBackprop, absolute=False)),
        ("saliency", partial(Saliency, absolute=False)),
    ],
)
def test_projections_are_those_of_the_methods_at_the_one_unit(name: Any, method: Any) -> None:
    net = nets.make("module")
    found = top_patches(net, X, "conv2", n=2, channels=[1, 5], project=name, batch_size=3)
    assert found.projections is not None
    for c, i, number, y, x in entries(found):
        target = Neuron("conv2", (1, 5)[c], y, x)
        expected = method(net, channels="none").attribute(X[number : number + 1], target)[0]
        piece, _ = crop(expected, found.box[c, i].tolist())
        torch.testing.assert_close(found.projections[c, i], piece)
        assert float(piece.abs().sum()) == pytest.approx(float(expected.abs().sum()))  # nothing is outside of the box
        assert float(piece.abs().sum()) > 0


def test_of_a_first_layer_every_projection_is_the_filter() -> None:
    net = nets.make("module")
    for name in ("deconvnet", "guided", "saliency"):
        found = top_patches(net, X, "conv1", n=7, channels=[2], project=name)
        assert found.projections is not None
        assert found.inside is not None
        for i in range(7):
            mask = found.inside[0, i]
            torch.testing.assert_close(found.projections[0, i], net.conv1.weight[2].detach() * mask)


def test_a_projection_without_a_rule_is_refused_and_the_plain_gradient_is_not() -> None:
    net = nets.make("silu")
    with pytest.raises(RuleError, match="no activation was overridden"):
        top_patches(net, X, "conv2", project="deconvnet")
    assert top_patches(net, X, "conv2", project="saliency").projections is not None


def test_units_of_several_channels_are_projected_together() -> None:
    net = nets.make("module")
    places = (torch.tensor(one) for one in ([1, 3], [0, 2], [1, 4]))
    unit = Unit("conv2", Layout("channels_first", (6, 5)), *places)
    grads, scores = project(net, X[:2], unit, "saliency")
    act = acts(net, "conv2", X[:2])
    assert scores.tolist() == pytest.approx([float(act[0, 1, 0, 1]), float(act[1, 3, 2, 4])])
    alone, _ = project(net, X[1:2], unit.rows(torch.tensor([1])), "saliency")
    torch.testing.assert_close(grads[1:], alone)


class Noisy(Dataset[Tensor]):
    """Augmented anew each time it is read."""

    def __init__(self) -> None:
        self.generator = torch.Generator().manual_seed(0)

    def __len__(self) -> int:
        return len(X)

    def __getitem__(self, i: int) -> Tensor:
        return X[i] + torch.randn(X[i].shape, generator=self.generator)


def test_values_that_do_not_come_again_are_told() -> None:
    net = nets.make("module")
    good, bad = top_patches(net, X, "conv2", n=2), top_patches(net, Noisy(), "conv2", n=2)
    assert bool(good.reproduced.all())
    torch.testing.assert_close(good.again, good.value)
    assert not bool(bad.reproduced.any())
    assert "12 of 12 values are others when they are computed again, of channels 0, 1, 2, 3, 4, 5" in bad.to_text()


def test_fewer_pictures_than_asked_for_give_fewer_patches_and_a_note() -> None:
    found = top_patches(nets.make("module"), X[:2], "conv2", n=9)
    assert found.value.shape == (6, 2)
    assert "there are only 2 of the 9 pictures that were asked for" in found.to_text()
    assert top_patches(nets.make("module"), X[:2], "conv2", n=9, distinct=False).value.shape == (6, 9)


def test_the_text_has_a_page_of_channels_and_tells_of_the_rest() -> None:
    lines = top_patches(nn.Sequential(nn.Conv2d(3, 23, 3)), X, "0", n=2).to_text().splitlines()
    assert [line.split()[0] for line in lines[-21:-1]] == [str(i) for i in range(20)]
    assert lines[-1] == "3 more channels are in the files and attributes."


@pytest.mark.parametrize(
    ("distinct", "words"), [(True, "the 3 pictures of 7 with"), (False, "the 3 places in 7 pictures")]
)
def test_the_figure_says_what_was_counted(distinct: bool, words: str) -> None:
    figure = top_patches(nets.make("module"), X, "conv2", n=3, distinct=distinct).plot()
    assert words in " ".join(text.get_text() for text in figure.texts).replace("\n", " ")


def test_a_layer_without_places_shows_whole_pictures() -> None:
    net = nets.make("module")
    found = top_patches(net, X, "fc", n=3, channels=[4])
    with torch.no_grad():
        order = net(X)[:, 4].sort(descending=True).indices[:3]
    assert found.index[0].tolist() == order.tolist()
    assert found.box[0].tolist() == [[0, 12, 0, 10]] * 3
    torch.testing.assert_close(found.crops, X[order][None])


def test_tokens_of_a_transformer_are_places_and_see_the_picture() -> None:
    net, x = transformers.make(size=(12, 12)), nets.batch(4, 12, 12)
    layer = next(name for name, _ in net.named_modules() if name.endswith("norm1") or name.endswith("ln_1"))
    found = top_patches(net, x, layer, n=2, channels=[0], project="saliency")
    act = acts(net, layer, x)
    places = found.places[0] * found.places[1]
    grid = act[:, act.shape[1] - places :, 0].reshape(4, *found.places)
    for i in range(2):
        number, y, z = (int(one[0, i]) for one in (found.index, found.y, found.x))
        assert float(grid[number, y, z]) == pytest.approx(float(found.value[0, i]))
    assert float(found.value[0, 0]) == pytest.approx(float(grid.max()))


def test_crops_that_take_too_much_are_left_out_and_can_be_read_later() -> None:
    net = nets.make("module")
    full, few = top_patches(net, X, "conv2", n=2), top_patches(net, X, "conv2", n=2, keep=1000)
    assert few.crops is None
    assert "crops were left out" in few.to_text()
    with pytest.raises(InputError, match="there must be crops to draw"):
        few.plot()
    later = few.only([3, 1]).read(X)
    assert full.crops is not None
    assert full.inside is not None
    torch.testing.assert_close(later.crops, full.crops[[3, 1]])
    assert later.inside is not None
    assert torch.equal(later.inside, full.inside[[3, 1]])
    with pytest.raises(InputError, match=r"must fit into keep=1000 bytes"):
        top_patches(net, X, "conv2", keep=1000, project="guided")
    with pytest.raises(InputError, match=r"can be read only once must fit into keep=1000 bytes"):
        top_patches(net, once(), "conv2", keep=1000)
    with pytest.raises(InputError, match="pictures are not there any more"):
        few.read([X[:1]])


class Slice(nn.Module):
    """512 channels that cost nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.view = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.view(x.reshape(len(x), 512, 2, 2))
        return out.flatten(1)


def pictures() -> Iterator[Tensor]:
    base = torch.rand(100, 2, 32, 32, generator=torch.Generator().manual_seed(0))
    for i in range(100):
        yield base + i * 1e-3


class Alive(TorchDispatchMode):
    """The most bytes that tensors made inside the block took at any time."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = self.most = 0

    def _gone(self, size: int) -> None:
        self.now -= size

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for one in tree_leaves(out):
            if isinstance(one, Tensor) and not func._schema.is_mutable:
                size = one.numel() * one.element_size()
                self.now += size
                weakref.finalize(one, self._gone, size)
        self.most = max(self.most, self.now)
        return out


def test_ten_thousand_pictures_and_512_channels_stay_in_bounded_memory() -> None:
    with Alive() as memory:
        found = top_activations(Slice(), pictures(), "view", n=9)
    assert found.examples == 10_000
    assert found.value.shape == (512, 9)
    assert bool((found.index >= 9_000).all())  # the brightest come last
    assert 0 < memory.most < 20 * 100 * 2048 * 4  # views counted as copies; all pictures are 100 batches


def test_pictures_are_not_repeated_for_all_the_patches_that_are_cut_out_of_them() -> None:
    net, x = nn.Sequential(nn.Conv2d(3, 256, 1, stride=16)), nets.batch(20, 64, 64)
    with Alive() as memory:
        top_patches(net, x, "0", n=9)
    assert memory.most < 0.2 * 256 * 9 * x[0].numel() * 4


def test_of_files_only_the_best_are_read_again() -> None:
    read: list[int] = []

    def one(i: int) -> Sample:
        read.append(i)
        return Sample(tiny.picture(i))

    samples = Samples(tuple("abcdefghi"), one, {}, labels=(0,) * 9)
    found = top_patches(tiny.loaded().model, Stream(samples, tiny.loaded(), 4), "conv2", n=1, channels=[0, 3])
    assert read == [*range(9), *sorted(set(found.index.flatten().tolist()))]
    assert found.reproduced.all()


def test_one_pass_over_the_data_and_one_over_the_best_is_all_it_takes() -> None:
    with count() as spent:
        found = top_patches(nets.make("module"), X, "conv2", n=2, channels=[0])
    assert spent.forwards == 7 + len(set(found.index.flatten().tolist())) + 2  # two for the receptive field
    assert spent.backwards == 0


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"n": 0}, InputError, "n must be an integer >= 1"),
        ({"channels": [6]}, TargetError, r"channel must lie in \[0, 5\] for layer 'conv2'; got 6"),
        ({"channels": []}, InputError, "channels must hold at least one channel"),
        ({"project": "lrp"}, InputError, "project must be one of 'deconvnet', 'guided', 'saliency'"),
        ({"layer": "conv7"}, LayerError, "no layer 'conv7'"),
        ({"data": []}, InputError, "data must hold at least one example"),
        ({"data": DataLoader(TensorDataset(X), shuffle=True)}, InputError, "a DataLoader with a RandomSampler"),
        ({"data": [X, X[:, :, :6]]}, InputError, "all pictures must have one size"),
        ({"data": [X * float("inf")]}, ModelError, "activations of 'conv2' must be finite"),
    ],
)
def test_wrong_questions_are_refused(change: dict[str, Any], error: type[Exception], message: str) -> None:
    asked: dict[str, Any] = {"data": X, "layer": "conv2", **change}
    with pytest.raises(error, match=message):
        top_patches(nets.make("module"), asked.pop("data"), asked.pop("layer"), **asked)


def test_the_model_and_the_pictures_stay_as_they_were() -> None:
    net, x = nets.make("module in place"), X.clone()
    net.train()
    before = {name: one.clone() for name, one in net.state_dict().items()}
    top_patches(net, x, "conv2", project="guided")
    assert torch.equal(x, X)
    assert net.training
    assert all(torch.equal(before[name], one) for name, one in net.state_dict().items())
    assert all(not one._forward_hooks for one in net.modules())


def test_everything_is_saved_and_the_figure_has_a_block_for_each_channel(tmp_path: Path) -> None:
    found = top_patches(nets.make("module"), X, "conv2", n=4, channels=[5, 0], project="guided")
    found.save(tmp_path / "run", figures=True)
    told = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert (told["layer"], told["project"], told["examples"], told["asked"]) == ("conv2", "guided", 7, 4)
    for name in ("value", "index", "y", "x", "box", "again", "crops", "inside", "projections", "channels"):
        saved = np.load(tmp_path / "run" / told["arrays"][name]["file"])
        np.testing.assert_array_equal(saved, getattr(found, name).numpy())
    titles = [ax.get_title() for ax in found.plot().axes]
    assert sorted(titles)[-2:] == ["channel 0", "channel 5"]
    assert (tmp_path / "run" / "figure.png").stat().st_size > 1000


def test_drawn_patches_are_the_pictures_with_the_border_in_grey() -> None:
    x = X.sub(X.min()).div(X.max() - X.min())
    found = top_patches(nets.make("module"), x, "conv1", n=1, channels=[0])
    image = found.plot().axes[0].images[0].get_array()
    assert image is not None
    assert found.crops is not None
    assert found.inside is not None
    piece, inside = found.crops[0, 0].movedim(0, -1).numpy(), found.inside[0, 0].numpy()
    np.testing.assert_allclose(image[8::16, 8::16], np.where(inside[..., None], piece, 0.85), atol=1e-6)


class TestCommand:
    COMMAND = ("see", "patches", "-m", "tiny_models:make", "--data", "photos", "--layer", "conv2")

    def test_prints_which_pictures_and_writes_crops_and_projections(self, run: Any, desk: Path) -> None:  # noqa: F811
        what = ("--channel", "4", "--channel", "1", "-n", "2", "--project", "guided", "--out", "run1")
        code, out, _ = run(*self.COMMAND, *what)
        assert code == 0
        assert out.splitlines()[0].startswith("conv2: the 2 strongest pictures of 2 channels among 2 pictures; patches")
        told = json.loads((desk / "run1" / "manifest.json").read_text())
        assert (told["project"], told["command"][:2]) == ("guided", ["attrib", "see"])
        assert np.load(desk / "run1" / told["arrays"]["channels"]["file"]).tolist() == [4, 1]
        assert np.load(desk / "run1" / told["arrays"]["projections"]["file"]).shape[:2] == (2, 2)
        assert (desk / "run1" / "figure.png").stat().st_size > 1000

    def test_takes_several_places_of_a_picture_and_tells_wrong_channels(self, run: Any) -> None:  # noqa: F811
        code, out, _ = run(*self.COMMAND, "--all-places", "-n", "5", "--limit", "1", "--json", "--quiet")
        assert (code, json.loads(out)["distinct"], json.loads(out)["examples"]) == (0, False, 1)
        code, out, err = run(*self.COMMAND, "--channel", "99")
        assert (code, out) == (2, "")
        assert "channel must lie in [0, 5] for layer 'conv2'; got 99" in err


@needs_data
def test_of_a_trained_network_the_patches_of_a_channel_are_alike() -> None:
    """Nearer to each other, in the layer below, than to those of other channels: chance is 1 in 10."""
    net = realnets.load("resnet20_cifar10")
    x = net.loaded.inputs(net.images)
    found = top_patches(net.model, x, "layer2", n=4, channels=range(10))
    assert bool(found.reproduced.all())
    act = acts(net.model, "layer1", x)
    code = torch.stack(
        [
            torch.stack([act[i, :, min(2 * y, 31), min(2 * z, 31)] for i, y, z in zip(index, down, right, strict=True)])
            for index, down, right in zip(found.index, found.y, found.x, strict=True)
        ]
    )
    code = nn.functional.normalize(code - code.mean((0, 1)), dim=2).flatten(0, 1)
    alike = code @ code.T - 2 * torch.eye(len(code))
    nearest = alike.argmax(1) // 4
    assert float((nearest == torch.arange(len(code)) // 4).float().mean()) > 0.3
