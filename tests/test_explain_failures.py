"""What goes wrong in explain is said in words, and takes nothing else with it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from attrib import Saliency, compare, explain
from attrib.errors import InputError, LayerError, ModelError, RegistryError, RuleError, ShapeError, TargetError
from attrib.io import LoadedModel
from tests import nets
from tests.tiny import Raises, loaded, picture, whole


def test_a_method_that_cannot_work_is_noted_and_the_others_go_on(caplog: pytest.LogCaptureFixture) -> None:
    found = explain(nets.make("silu"), nets.batch(2), ["guided", "saliency"])
    assert found.methods == ("saliency",)
    (failure,) = found.failures
    assert (failure.method, failure.error) == ("guided", "RuleError")
    assert "no activation was overridden (the model uses 2 SiLU)" in failure.message
    assert failure.message in caplog.text


def test_one_target_of_a_method_may_fail_alone() -> None:
    found = explain(nets.make("module"), nets.batch(2), ["gradcam"], targets=["conv1:0", 1], layer="conv2")
    assert list(found.maps["gradcam"]) == ["1"]
    assert [(failure.target, failure.error) for failure in found.failures] == [("conv1:0", "LayerError")]


def test_the_first_error_is_raised_when_nothing_works() -> None:
    with pytest.raises(RuleError):
        explain(nets.make("silu"), nets.batch(2), ["guided", "deconvnet"])


def test_a_broken_plug_in_does_not_stop_the_others() -> None:
    broken = partial(Raises, error=ZeroDivisionError("oops"))
    found = explain(nets.make("module"), nets.batch(2), {"mine": broken, "saliency": Saliency})
    assert str(found.failures[0]) == "mine, target predicted: ZeroDivisionError: oops"


def test_ctrl_c_is_not_a_failure() -> None:
    stop = partial(Raises, error=KeyboardInterrupt())
    for task in (explain, compare):
        with pytest.raises(KeyboardInterrupt):
            task(nets.make("module"), nets.batch(2), {"saliency": Saliency, "stop": stop})  # type: ignore[operator]


@pytest.mark.parametrize("task", [explain, compare])
@pytest.mark.parametrize(("pack", "kind"), [("dict", "dict"), ("tuple", "tuple"), ("list", "list")])
def test_a_model_that_returns_more_than_scores_is_refused_in_words(
    task: Callable[..., Any], pack: str, kind: str
) -> None:
    with pytest.raises(ModelError, match=f"must return one Tensor for a class target; it returned a {kind}"):
        task(nets.make(pack), nets.batch(2), ["saliency"])


def test_a_model_that_returns_more_than_scores_is_explained_through_a_callable() -> None:
    found = explain(nets.make("dict"), nets.batch(2), "saliency", target=lambda out: out["out"][:, 3])
    plain = explain(nets.make("module"), nets.batch(2), "saliency", target=3)
    assert found.maps["saliency"]["<lambda>"].shape == plain.maps["saliency"]["3"].shape
    assert found.maps["saliency"]["<lambda>"].any()


def test_a_layer_without_locations_is_refused_in_words() -> None:
    with pytest.raises(LayerError, match="layer 'fc' must be spatial"):
        explain(nets.make("module"), nets.batch(2), ["gradcam"], layer="fc")


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"methods": ["grad-cam"]}, RegistryError, "no method named 'grad-cam'. Did you mean 'gradcam'"),
        ({"methods": []}, InputError, "methods must hold at least one of ablationcam"),
        ({"methods": ["saliency", Saliency]}, InputError, "must have different names; got 'saliency' twice"),
        (
            {"methods": {"mine": 3}},
            InputError,
            "method 'mine' must be a registry name, an Attribution or a function",
        ),
        ({"methods": {"mine": lambda model: model}}, InputError, "that makes one; got Chain"),
        ({"layer": "cnov1", "methods": ["gradcam"]}, LayerError, "no layer 'cnov1'. Did you mean 'conv1'"),
        ({"layer": "conv1", "methods": ["saliency"]}, InputError, "layer must be for a method that needs one"),
        ({"target": 5}, TargetError, r"target must lie in \[0, 4\]"),
        ({"target": True}, TargetError, "boolean"),
        ({"target": [0, 1, 2]}, TargetError, "one entry, or one for each of 2 images; got 3"),
        ({"target": "tabby"}, TargetError, "target as text must be 'predicted'"),
        ({"images": torch.zeros(2, 3, 8, 6, dtype=torch.long)}, InputError, "must be floating point"),
        ({"images": torch.full((2, 3, 8, 6), float("nan"))}, InputError, "must be finite"),
        ({"images": torch.zeros(0, 3, 8, 6)}, ShapeError, "with no empty axis"),
        ({"images": torch.zeros(3, 8, 6)}, ShapeError, r"images must have shape \(N, C, H, W\)"),
        ({"images": []}, InputError, "images must hold at least one picture"),
        ({"images": 3}, InputError, "images must be files, folders, pictures"),
        ({"images": [torch.zeros(3, 8, 6)]}, InputError, "Pass a batch as one Tensor"),
        ({"images": "nowhere.png"}, InputError, "image must be an existing file; got 'nowhere.png'"),
        ({"images": Image.new("RGB", (9, 9))}, InputError, "whose preprocessing is not known; got a picture"),
        ({"batch_size": 0}, InputError, "batch_size must be an integer >= 1"),
        ({"batchsize": 2}, TypeError, "no option 'batchsize'. Did you mean 'batch_size'"),
        ({"model": 3}, InputError, "model must be a name, a LoadedModel, an nn.Module or a callable; got int"),
    ],
)
def test_wrong_arguments_are_named(arguments: dict[str, Any], error: type[Exception], words: str) -> None:
    given: dict[str, Any] = {"model": nets.make("module"), "images": nets.batch(2), "methods": ["saliency"]}
    with pytest.raises(error, match=words):
        explain(**given | arguments)


@pytest.mark.parametrize(
    ("targets", "words"),
    [([], "at least one target"), ([1, 1], "targets must be different; got 1 twice")],
)
def test_wrong_lists_of_targets_are_named(targets: list[object], words: str) -> None:
    with pytest.raises(InputError, match=words):
        explain(nets.make("module"), nets.batch(2), "saliency", targets=targets)


def test_a_class_name_that_two_classes_have_is_refused() -> None:
    with pytest.raises(InputError, match="'cat' is 2 and 3"):
        explain(loaded(), picture(), "saliency", target="cat")


def test_a_method_of_another_model_is_refused() -> None:
    with pytest.raises(InputError, match="must be made with the model that is explained"):
        explain(nets.make("module"), nets.batch(2), Saliency(nets.make("module")))


def test_pictures_of_different_sizes_are_refused_without_a_crop() -> None:
    net = LoadedModel(nets.make("module"), whole)
    with pytest.raises(ShapeError, match=r"one size after preprocessing; got \(3, 12, 16\), \(3, 9, 9\)"):
        explain(net, [picture(), picture(size=(9, 9))], "saliency")


def test_a_huge_picture_is_refused_before_it_is_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    picture().save(tmp_path / "bomb.png")
    monkeypatch.setattr("attrib.io.images.load_image.__kwdefaults__", {"max_pixels": 100})
    with pytest.raises(InputError, match="must have at most 100 pixels; got 192"):
        explain(loaded(), tmp_path / "bomb.png", "saliency")
