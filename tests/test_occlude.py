"""One picture under a moving square, from Python and the command line, in files that say how to get them again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import attrib
from attrib.errors import InputError, TargetError
from attrib.tasks import occlude
from tests import nets, tiny
from tests.test_cli import desk, files, run  # noqa: F401  fixtures

HOW: dict[str, Any] = {"window": 4, "stride": 3, "layer": "conv2"}
COMMAND = ("occlude", "photos/a.png", "-m", "tiny_models:make", "--window", "4", "--stride", "3", "--layer", "conv2")


def test_the_maps_are_those_of_the_function_for_what_the_network_sees() -> None:
    net, photo = tiny.loaded(), tiny.picture()
    found = occlude(net, photo, "bee", classes=["dog", 0], **HOW)
    maps = attrib.occlusion_maps(net.model, net.inputs(photo), 1, classes=[4, 0], **HOW)
    for got, expected in ((found.maps.score, maps.score), (found.maps.feature, maps.feature)):
        torch.testing.assert_close(got, expected)
    assert torch.equal(found.maps.label, maps.label)
    torch.testing.assert_close(found.maps.classes[4], maps.classes[4])
    assert found.view.size == (10, 10)
    assert (found.asked.name, found.asked.index) == ("bee", 1)
    assert found.asked.probability == pytest.approx(float(maps.clean.score[0]))
    assert found.names[0] == "ant"


def test_the_text_says_what_was_asked_and_what_comes_up_instead() -> None:
    found = occlude(tiny.loaded(), {"one": tiny.picture()}, 1, **HOW)  # type: ignore[arg-type]
    lines = found.to_text().splitlines()
    assert lines[0] == f"one: {found.asked}"
    assert lines[1] == "3 x 3 positions of a window of 4x4 pixels"
    channel, total = int(found.maps.channel[0]), float(found.maps.clean.feature[0])
    assert lines[3].startswith(f"total activation of conv2 channel {channel}: {total:.3g}; under the window from")
    rows = found.table()
    assert sum(row["share"] for row in rows) == pytest.approx(1)
    assert [row["share"] for row in rows] == sorted((row["share"] for row in rows), reverse=True)


def test_everything_is_saved_and_told_in_the_manifest(tmp_path: Path) -> None:
    found = occlude(tiny.loaded(), tiny.picture(), 1, classes=[2], baseline=0.5, **HOW)
    found.save(tmp_path / "run", figures=True)
    assert files(tmp_path / "run") == {
        *(f"arrays/{at}.{name}.npy" for at in ("grid", "pixels") for name in ("score", "label", "feature", "class_2")),
        *("manifest.json", "found.md", "figure.png"),
    }
    told = json.loads((tmp_path / "run" / "manifest.json").read_text())
    for at, maps in (("grid", found.maps), ("pixels", found.maps.upsampled())):
        for name in ("score", "label", "feature"):
            saved = np.load(tmp_path / "run" / "arrays" / f"{at}.{name}.npy")
            np.testing.assert_array_equal(saved, getattr(maps, name)[0].numpy())
    assert told["kind"] == "occlusion maps"
    assert told["options"] == {"baseline": 0.5, "window": 4, "stride": 3}
    assert (told["layer"], told["grid"]) == ("conv2", [3, 3])
    assert told["channel"] == int(found.maps.channel[0])
    assert told["clean"]["score"] == pytest.approx(float(found.maps.clean.score[0]))
    assert told["windows"] == {"window": [4, 4], "stride": [3, 3], "edge": "full"}
    assert told["arrays"]["grid.score"]["shape"] == [3, 3]
    assert told["arrays"]["pixels.class_2"]["shape"] == [1, 10, 10]
    assert told["object"] is None
    with Image.open(tmp_path / "run" / "figure.png") as figure:
        assert figure.width > 1000


def test_a_bare_model_several_pictures_and_unknown_classes_are_refused() -> None:
    with pytest.raises(InputError, match="model must be a name or a LoadedModel"):
        occlude(nets.make("module"), tiny.picture())
    with pytest.raises(InputError, match="image must be one picture"):
        occlude(tiny.loaded(), [tiny.picture(), tiny.picture(1)])  # type: ignore[arg-type]
    with pytest.raises(TargetError, match="classes must be numbers or names of classes; got 'unicorn'"):
        occlude(tiny.loaded(), tiny.picture(), classes=["unicorn"])


def object_mask(width: int, height: int) -> Image.Image:
    """White in the top left quarter."""
    mask = Image.new("L", (width, height))
    mask.paste(255, (0, 0, width // 2, height // 2))
    return mask


def test_with_a_mask_the_object_and_its_context_are_hidden_too(tmp_path: Path) -> None:
    net, photo = tiny.loaded(), tiny.picture()
    found = occlude(net, photo, 1, mask=object_mask(*photo.size), regions=4, seed=3, baseline=0.5, **HOW)
    seen = torch.zeros(10, 10, dtype=torch.bool)
    seen[:5, :5] = True
    own = attrib.object_context(net.model, net.inputs(photo), seen, 1, regions=4, seed=3, baseline=0.5)
    assert str(found.hidden) == str(own)
    assert found.to_text().splitlines()[-2].split()[:2] == ["area", "clean"]
    found.save(tmp_path / "run")
    told = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert told["object"]["area"] == 0.25
    assert {"mask": "Image", "regions": 4, "seed": 3}.items() <= told["options"].items()
    with pytest.raises(InputError, match="mask must have the size of its picture"):
        occlude(net, photo, 1, mask=object_mask(3, 3), **HOW)


class TestCommand:
    def test_writes_maps_figure_and_manifest_and_prints_what_was_found(self, run: Any, desk: Path) -> None:  # noqa: F811
        code, out, _ = run(*COMMAND, "--class", "dog", "--class", "0", "--out", "run")
        assert code == 0
        assert "3 x 3 positions of a window of 4x4 pixels" in out
        assert files(desk / "run") == {
            *(f"arrays/{at}.{name}.npy" for at in ("grid", "pixels") for name in ("score", "label", "feature")),
            *(f"arrays/{at}.class_{index}.npy" for at in ("grid", "pixels") for index in (0, 3)),
            *("manifest.json", "found.md", "figure.png"),
        }
        told = json.loads((desk / "run" / "manifest.json").read_text())
        assert told["command"][:3] == ["attrib", "occlude", "photos/a.png"]
        assert told["model"]["name"] == "tiny_models:make"

    def test_the_same_command_twice_writes_the_same_maps(self, run: Any, desk: Path) -> None:  # noqa: F811
        for folder in ("one", "other"):
            assert run(*COMMAND, "--out", folder, "--no-figures")[0] == 0
        assert "figure.png" not in files(desk / "one")
        for name in ("score", "label", "feature"):
            one, other = ((desk / folder / "arrays" / f"grid.{name}.npy").read_bytes() for folder in ("one", "other"))
            assert one == other

    def test_json_is_the_manifest(self, run: Any) -> None:  # noqa: F811
        code, out, _ = run(*COMMAND, "--json", "--quiet", "--baseline", "zero", "--target", "cat")
        assert code == 0
        told = json.loads(out)
        assert told["options"]["baseline"] == "zero"
        assert told["target"]["name"] == "cat"
        number = json.loads(run(*COMMAND, "--json", "--quiet", "--baseline", "0.0", "--target", "cat")[1])
        assert number["options"]["baseline"] == 0.0
        assert number["clean"] == told["clean"]

    def test_everything_that_the_function_takes_can_be_said(self, run: Any, desk: Path) -> None:  # noqa: F811
        with Image.open(desk / "photos" / "a.png") as photo:
            object_mask(*photo.size).save(desk / "mask.png")
        words = ("--score", "logit", "--channel", "2", "--edge", "cut", "--mask", "mask.png", "--regions", "3")
        code, out, _ = run(*COMMAND, *words, "--seed", "5", "--json", "--quiet")
        assert code == 0
        told = json.loads(out)
        assert (told["channel"], told["windows"]["edge"], told["options"]["score"]) == (2, "cut", "logit")
        assert (told["options"]["mask"], told["options"]["regions"], told["options"]["seed"]) == ("mask.png", 3, 5)
        assert told["object"]["area"] == 0.25
        assert (
            told["object"]["clean"] == pytest.approx(told["clean"]["score"]) == pytest.approx(told["target"]["score"])
        )

    @pytest.mark.parametrize(
        ("words", "says"),
        [
            (("occlude", "photos", "-m", "tiny_models:make"), "IMAGE must be one picture; got a folder of 2, 'photos'"),
            ((*COMMAND, "--baseline", "grey"), "baseline, unless a number, must be one of 'mean', 'zero', 'blur'"),
            ((*COMMAND, "--target", "unicorn"), "unicorn"),
            ((*COMMAND[:-1], "conv9"), "no layer 'conv9'"),
            ((*COMMAND, "--score", "odds"), "--score must be one of 'probability', 'logit'"),
            ((*COMMAND, "--edge", "wrap"), "--edge must be one of 'full', 'cut'"),
            ((*COMMAND, "--channel", "99"), "channel must lie in [0, 5] for layer 'conv2'"),
            ((*COMMAND, "--mask", "none.png"), "none.png"),
        ],
    )
    def test_wrong_arguments_are_told_as_such(self, run: Any, words: tuple[str, ...], says: str) -> None:  # noqa: F811
        code, out, err = run(*words)
        assert (code, out) == (2, "")
        assert says in err
