"""Gradient ascent on networks: units of every kind, what is told of them, how to go on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from attrib.core import Channel, ClassScore, Neuron
from attrib.core.synth import L2, Generated, Move, PixelSpace, Step
from attrib.errors import InputError, TargetError
from attrib.io import LoadedModel
from attrib.synthesis import Ascent, ascend
from tests import nets, realnets, tiny
from tests.oracles import synth as oracle
from tests.test_cli import desk, files, run  # noqa: F401  fixtures


def quick(model: Any = None, units: object = 2, **how: Any) -> Ascent:
    if not isinstance(model, LoadedModel):
        how = {"size": 10, "pixels": PixelSpace(0.5, 0.25)} | how
    return ascend(model or nets.make("module"), units, **{"steps": 3, **how})


def convolution(net: nn.Module) -> str:
    return next(name for name, module in net.named_modules() if isinstance(module, nn.Conv2d))


def test_simonyan_is_the_formula_of_the_paper() -> None:
    net = nets.make("module")
    found = quick(net, 2, recipe="simonyan", steps=4)
    wanted = oracle.simonyan(lambda i: net(i)[0, 2], (1, 3, 10, 10), 1e-3, 1.0, 4)
    torch.testing.assert_close(found.inputs, wanted)
    torch.testing.assert_close(found.pictures, (wanted * 0.25 + 0.5).clamp(0, 1))
    other = quick(net, 2, recipe="simonyan", steps=4, penalties=(L2(0.1),), move=Move(0.5))
    torch.testing.assert_close(other.inputs, oracle.simonyan(lambda i: net(i)[0, 2], (1, 3, 10, 10), 0.1, 0.5, 4))


def test_units_of_every_kind_in_one_call_are_those_of_calls_of_their_own() -> None:
    net = nets.make("module")
    layer = convolution(net)
    units = [
        3,
        f"{layer}:1",
        Channel(layer, 0, "max"),
        Neuron(layer, 2, 1, 3),
        ClassScore(0, "log_odds"),
        lambda o: o[:, 1],
    ]
    found = quick(net, units, batch_size=4)
    assert found.units == ("class 3", f"{layer}:1", f"{layer}:0", f"{layer}:2 at (1, 3)", "class 0", "Custom")
    assert found.layers == (None, layer, layer, layer, None, None)
    for n, unit in enumerate(units):
        alone = quick(net, [unit])
        torch.testing.assert_close(found.inputs[n : n + 1], alone.inputs)
        torch.testing.assert_close(found.score[:, n : n + 1], alone.score)


def test_the_probability_is_that_of_the_class_and_nothing_for_other_units() -> None:
    net = nets.make("module")
    found = quick(net, [3, f"{convolution(net)}:1"])
    with torch.no_grad():
        assert float(found.chance[0]) == pytest.approx(float(net(found.inputs[:1]).softmax(1)[0, 3]))
    assert torch.isnan(found.chance[1])


def test_a_loaded_model_says_size_space_and_names() -> None:
    loaded = tiny.loaded()
    found = quick(loaded, [2, 4])
    assert found.units == ("cat", "dog")
    assert found.inputs.shape == (2, 3, 10, 10)
    assert loaded.mean is not None
    assert loaded.std is not None
    torch.testing.assert_close(found.pictures, PixelSpace(loaded.mean, loaded.std).to_picture(found.inputs).clamp(0, 1))
    assert quick(loaded, 2, size=(12, 14)).inputs.shape == (1, 3, 12, 14)


def test_it_goes_on_as_if_it_had_never_stopped() -> None:
    net = nets.make("module")
    first = quick(net, [1, 2, 3], batch_size=2)
    both, whole = quick(net, [1, 2, 3], batch_size=2, resume=first), quick(net, [1, 2, 3], batch_size=2, steps=6)
    assert torch.equal(both.inputs, whole.inputs)
    assert torch.equal(both.score, whole.score)
    with pytest.raises(InputError, match="same units in the same batches; got 2 batches, not 1"):
        quick(net, [1, 2, 3], resume=first)


def test_seeds_are_of_the_noise_and_the_views() -> None:
    assert torch.equal(quick(seed=1).inputs, quick(seed=1).inputs)
    assert not torch.equal(quick(seed=1).inputs, quick(seed=2).inputs)


def test_classes_go_by_name_where_names_are_known_and_come_as_arrays() -> None:
    assert quick(tiny.loaded(), ["dog", 2], steps=0).units == ("dog", "cat")
    assert quick(units=torch.tensor([1, 2]), steps=0).units == quick(units=np.array([1, 2]), steps=0).units
    twins = tiny.loaded()
    twins = LoadedModel(twins.model, twins.preprocess, ("crane", "crane"))
    with pytest.raises(InputError, match="'crane' is 0 and 1"):
        quick(twins, "crane")


def test_images_to_begin_with_have_a_size_of_their_own_and_codes_any_shape() -> None:
    net = nets.make("module")
    assert quick(net, 1, start=torch.rand(1, 3, 10, 12), size=None).inputs.shape == (1, 3, 10, 12)
    generator = nn.Sequential(nn.Linear(4, 300), nn.Tanh(), nn.Unflatten(1, (3, 10, 10)))
    found = quick(net, [1, 2], start=torch.rand(1, 4), size=None, parameters=Generated(generator))
    assert found.inputs.shape == (2, 3, 10, 10)
    for start in (None, torch.rand(3, 4)):
        with pytest.raises(InputError, match=r"start must be 1 or 2 codes"):
            quick(net, [1, 2], start=start, parameters=Generated(generator))


def test_ctrl_c_leaves_units_that_had_not_begun_at_their_start() -> None:
    def interrupt(step: Step) -> None:
        if step.number == 1:
            raise KeyboardInterrupt

    found = quick(units=[1, 2, 3], batch_size=1, on_step=interrupt, recipe="simonyan")
    assert found.stopped == ("interrupted",) * 3
    assert [len(one.score) for one in found.searches] == [2, 1, 1]
    assert float(found.inputs[1:].abs().max()) == 0 < float(found.inputs[0].abs().max())


def test_dtype_and_size_follow_the_network() -> None:
    found = quick(nets.make("module").double(), [1, 2], size=(9, 11))
    assert (found.inputs.dtype, found.inputs.shape) == (torch.float64, (2, 3, 9, 11))


def test_starts() -> None:
    assert float(quick(start="zero", steps=0).inputs.abs().max()) < 0.02  # through the frequencies of the recipe
    assert torch.equal(quick(start="zero", steps=0, recipe="simonyan").inputs, torch.zeros(1, 3, 10, 10))
    torch.testing.assert_close(
        quick(start="grey", steps=0, recipe="simonyan").pictures, torch.full((1, 3, 10, 10), 0.5)
    )
    given = torch.rand(1, 3, 10, 10)
    assert torch.equal(quick(start=given, steps=0, recipe="simonyan", units=[1, 2]).inputs, given.expand(2, -1, -1, -1))


@pytest.mark.parametrize(
    ("how", "error", "message"),
    [
        ({"units": []}, InputError, "at least one class"),
        ({"units": 99}, TargetError, "99"),
        ({"units": "nowhere:1"}, LookupError, "nowhere"),
        ({"size": None}, InputError, "size must be given for a bare model"),
        ({"pixels": None}, InputError, "pixels must be a PixelSpace"),
        ({"start": "random"}, InputError, "start must be"),
        ({"start": torch.zeros(2, 3, 10, 10)}, InputError, r"start must have 1 or 1 images"),
        ({"recipe": "magic"}, InputError, "recipe must be"),
        ({"batch_size": 0}, InputError, "batch_size must be"),
        ({"rate": 3}, TypeError, "search has no option 'rate'"),
    ],
)
def test_bad_input_is_refused(how: dict[str, Any], error: type[Exception], message: str) -> None:
    units = how.pop("units", 2)
    with pytest.raises(error, match=message):
        quick(None, units, **how)


def test_an_image_that_is_too_small_for_the_network_says_so() -> None:
    with pytest.raises(RuntimeError, match=r"the model failed on inputs \(1, 3, 1, 1\)"):
        quick(nn.Sequential(nn.Conv2d(3, 2, 3), nn.Flatten()), 0, size=1)


def test_the_figure_has_a_title_for_each_and_a_sheet_for_each_layer() -> None:
    net = nets.make("module")
    layer = convolution(net)
    found = quick(net, [3, f"{layer}:0", f"{layer}:1"])
    titles = [ax.get_title() for ax in found.plot().axes]
    assert titles == [f"class 3, p = {float(found.chance[0]):.2f}", f"{layer}:0", f"{layer}:1"]
    sheets = found.sheets()
    assert list(sheets) == [layer]
    assert len(sheets[layer].axes) == 2
    assert "own scale" in " ".join(text.get_text() for text in quick(net, 3, recipe="simonyan").plot().texts)


def test_the_command_writes_pictures_sheets_and_numbers(run: Any, desk: Path) -> None:  # noqa: F811
    how = ("-m", "tiny_models:make", "--steps", "2", "--seed", "3", "--recipe", "yosinski_c", "--out", "run")
    layers = [name for name, _ in tiny.loaded().model.named_modules() if name]
    first, second = layers[0], layers[1]
    code, out, _ = run("see", "ascent", "bee", "4", f"{first}:0-1", f"{second}:1", *how)
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()[3:8]] == [
        "bee",
        "eel",
        f"{first}:0",
        f"{first}:1",
        f"{second}:1",
    ]
    net = tiny.loaded()
    found = quick(net, [1, 4, f"{first}:0", f"{first}:1", f"{second}:1"], recipe="yosinski_c", steps=2, seed=3)
    np.testing.assert_allclose(np.load(desk / "run" / "arrays" / "inputs.npy"), found.inputs.numpy(), atol=1e-6)
    told = json.loads((desk / "run" / "manifest.json").read_text())
    assert told["units"] == ["bee", "eel", *found.units[2:]]
    assert {"figure.png", "pictures/0_bee.png", f"sheets/{first}.png", f"sheets/{second}.png"} < files(desk / "run")


def test_the_command_refuses_what_is_no_unit(run: Any, desk: Path) -> None:  # noqa: F811
    for words, message in ((("wolf",), "got 'wolf'"), (("conv:3-1",), "must go upwards")):
        code, _, err = run("see", "ascent", *words, "-m", "tiny_models:make")
        assert code == 2
        assert message in err


@pytest.mark.slow
def test_a_trained_network_is_sure_of_the_image_that_was_made_for_a_class() -> None:
    net = realnets.load("mobilenet_v1_025_128").loaded
    found = ascend(net, [130, 933], steps=64)
    assert found.inputs.shape == (2, 3, 128, 128)
    assert (found.chance > 0.9).all()
