"""explain: the maps of the methods themselves, for every form of image and target."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import attrib
from attrib import METHODS, ClassScore, GradCAM, GuidedBackprop, Occlusion, Saliency, explain
from attrib.core import auto_layer, count, frozen
from attrib.errors import TargetError
from tests import nets
from tests.made_for import ANY
from tests.tiny import loaded, picture, pictures

pytestmark = pytest.mark.usefixtures("few_steps")


class TestExplain:
    def test_gives_what_the_methods_themselves_give(self) -> None:
        model, x = nets.make("module"), nets.batch(3)
        found = explain(model, x, ANY, targets=[2, "predicted"])
        for name in ANY:
            for target in (2, "predicted"):
                expected = METHODS[name](model).attribute(x, target)
                torch.testing.assert_close(found.maps[name][str(target)], expected)
        assert found.failures == ()

    def test_does_not_depend_on_the_size_of_batches(self) -> None:
        model, x = nets.make("module"), nets.batch(5)
        one, many = (explain(model, x, ["occlusion", "gradcam"], batch_size=size) for size in (2, 8))
        for name in one.methods:
            torch.testing.assert_close(one.maps[name]["predicted"], many.maps[name]["predicted"])
        assert [row.index for row in one.asked["predicted"]] == [row.index for row in many.asked["predicted"]]

    def test_takes_a_target_for_each_image_across_batches(self) -> None:
        model, x = nets.make("module"), nets.batch(5)
        found = explain(model, x, "saliency", target=[0, 1, 2, 3, 4], batch_size=2)
        torch.testing.assert_close(found.maps["saliency"]["given"], Saliency(model).attribute(x, [0, 1, 2, 3, 4]))
        assert [row.index for row in found.asked["given"]] == [0, 1, 2, 3, 4]

    def test_keeps_targets_with_their_images_when_one_cannot_be_read(self, tmp_path: Path) -> None:
        folder = pictures(tmp_path)
        found = explain(loaded(), folder, "saliency", target=[0, 1, 2, 4])  # a, b (broken), c, d
        assert found.images == ("a.png", "c.png", "d.png")
        assert [row.index for row in found.asked["given"]] == [0, 2, 4]
        assert [(failure.image, failure.error) for failure in found.failures] == [("b.png", "InputError")]

    def test_takes_a_contrast_for_each_image_across_batches(self) -> None:
        model, x = nets.make("module"), nets.batch(3)
        contrast = ClassScore(torch.tensor([0, 1, 2])) - ClassScore(torch.tensor([4, 4, 3]))
        found = explain(model, x, "saliency", targets={"contrast": contrast}, batch_size=1)
        torch.testing.assert_close(found.maps["saliency"]["contrast"], Saliency(model).attribute(x, contrast))
        with pytest.raises(TargetError, match="one entry, or one for each of 2 images; got 3"):
            explain(model, x[:2], "saliency", targets={"contrast": contrast})

    def test_names_the_class_with_its_score_and_probability(self) -> None:
        net = loaded()
        image = picture()
        found = explain(net, image, "saliency", targets=["bee", "predicted"])
        logits = net.model(net.inputs(image))[0].detach()
        bee = found.asked["bee"][0]
        assert (bee.index, bee.name) == (1, "bee")
        assert bee.score == pytest.approx(float(logits[1]))
        assert bee.probability == pytest.approx(float(logits.softmax(0)[1]))
        assert found.asked["predicted"][0].index == int(logits.argmax())

    def test_tells_what_is_not_a_class_by_its_score_alone(self) -> None:
        model, x = nets.make("module"), nets.batch(2)
        targets = {"unit": "conv2:1", "own": lambda out: out[:, 0] - out[:, 1]}
        found = explain(model, x, "saliency", targets=targets)
        own = model(x).detach()[1]
        assert [(row.index, row.probability) for row in found.asked["unit"]] == [(None, None)] * 2
        torch.testing.assert_close(found.asked["own"][1].score, float(own[0] - own[1]))

    def test_resolves_the_layer_and_writes_it_down(self) -> None:
        model, x = nets.make("module"), nets.batch(2)
        with frozen(model):
            last = auto_layer(model, (x,))
        methods = {"auto": GradCAM, "own": partial(GradCAM, layer="conv1"), "at a layer": Saliency(model, "conv2")}
        found = explain(model, x, {**methods, "input": "saliency"})
        assert found.layers == {"auto": last, "own": "conv1", "at a layer": "conv2", "input": None}
        assert explain(model, x, ["gradcam", "saliency"], layer="conv1").layers == {
            "gradcam": "conv1",
            "saliency": None,
        }

    def test_counts_what_methods_share_for_each_and_once_in_the_total(self) -> None:
        methods = {"saliency": Saliency, "gradcam": GradCAM, "guided": GuidedBackprop, "occlusion": partial(Occlusion, window=4)}  # fmt: skip  # noqa: E501
        model, x = nets.make("module"), nets.batch(3)
        with count() as cost:
            found = explain(model, x, methods, targets=[0, 1])
        occlusion = found.costs["occlusion"].forwards
        assert {name: (spent.forwards, spent.backwards) for name, spent in found.costs.items()} == {
            "saliency": (3, 6),  # one forward pass for both targets
            "gradcam": (3, 6),
            "guided": (3, 6),
            "occlusion": (occlusion, 0),
        }
        shared = {name: (spent.shared_forwards, spent.shared_backwards) for name, spent in found.costs.items()}
        assert shared == {"saliency": (3, 6), "gradcam": (3, 6), "guided": (3, 0), "occlusion": (0, 0)}
        assert (found.total.forwards, found.total.backwards) == (3 + occlusion, 12)
        assert cost.forwards == found.total.forwards + 3  # to find a layer
        assert cost.backwards == found.total.backwards

    def test_seconds_are_of_whole_passes_and_the_total_is_less_than_their_sum(self) -> None:
        found = explain(nets.make("module"), nets.batch(3), ["saliency", "input_x_gradient"])
        spent = list(found.costs.values())
        assert all(one.seconds > one.shared_seconds > 0 for one in spent)
        assert spent[0].shared_seconds == spent[1].shared_seconds
        assert found.total.seconds == pytest.approx(sum(one.seconds for one in spent) - spent[0].shared_seconds)

    def test_a_method_alone_shares_nothing(self) -> None:
        found = explain(nets.make("module"), nets.batch(3), ["saliency"])
        (spent,) = found.costs.values()
        assert (spent.forwards, spent.shared_forwards, spent.shared_seconds) == (3, 0, 0)
        assert found.total == spent
        assert "share" not in found.to_text()

    def test_leaves_the_model_and_its_inputs_as_they_were(self) -> None:
        model, x = nets.make("regularised").train(), nets.batch(2)
        before = {name: value.clone() for name, value in model.state_dict().items()}
        kept, state = x.clone(), torch.get_rng_state()
        explain(model, x, ["saliency", "gradcam"])
        assert model.training
        assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
        assert torch.equal(x, kept)
        assert torch.equal(torch.get_rng_state(), state)

    def test_accepts_files_folders_pictures_and_names(self, tmp_path: Path) -> None:
        net, folder = loaded(), pictures(tmp_path)
        (folder / "b.png").unlink()
        by_folder = explain(net, folder, "saliency")
        by_file = explain(net, [folder / "a.png", str(folder / "c.png"), folder / "d.png"], "saliency")
        by_name = explain(net, {"one": picture(0), "two": folder / "c.png", "three": picture(2)}, "saliency")
        assert by_folder.images == by_file.images == ("a.png", "c.png", "d.png")
        assert by_name.images == ("one", "two", "three")
        for other in (by_file, by_name):
            assert torch.equal(by_folder.maps["saliency"]["predicted"], other.maps["saliency"]["predicted"])

    def test_gives_pictures_of_one_name_different_names(self, tmp_path: Path) -> None:
        for place in ("x", "y"):
            (tmp_path / place).mkdir()
            picture().save(tmp_path / place / "a.png")
        found = explain(loaded(), [tmp_path / "x", tmp_path / "y", picture(), picture()], "saliency")
        assert found.images == (str(tmp_path / "x" / "a.png"), str(tmp_path / "y" / "a.png"), "image 2", "image 3")

    def test_draws_maps_over_what_the_network_sees(self) -> None:
        net, image = loaded(), picture()
        found = explain(net, image, "saliency")
        assert found.views is not None
        assert found.views[0].tobytes() == net.view(image).tobytes()
        assert found.plot().axes[0].images[0].get_array().shape == (10, 10, 3)  # type: ignore[union-attr]

    def test_feeds_the_model_in_its_own_precision(self) -> None:
        net = loaded()
        net.model.double()
        assert explain(net, picture(), "saliency").maps["saliency"]["predicted"].dtype == torch.float64

    def test_is_the_function_however_the_package_was_imported(self) -> None:
        assert callable(attrib.explain)
        assert attrib.explain is explain


def test_compiled_models_are_explained_as_the_plain_one() -> None:
    model, x = nets.make("module"), nets.batch(2)
    wrapped = nn.DataParallel(model)
    found = explain(wrapped, x, ["gradcam"])
    torch.testing.assert_close(found.maps["gradcam"]["predicted"], GradCAM(model).attribute(x, "predicted"))


def test_options_reach_the_methods() -> None:
    model, x = nets.make("module"), nets.batch(2)
    windows: dict[str, Any] = {f"window {w}": partial(Occlusion, window=w) for w in (2, 4)}
    found = explain(model, x, windows)
    for size in (2, 4):
        expected = Occlusion(model, window=size).attribute(x, "predicted")
        torch.testing.assert_close(found.maps[f"window {size}"]["predicted"], expected)
    assert found.manifest["methods"]["window 4"]["options"]["window"] == [4]
