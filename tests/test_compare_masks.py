"""compare with object masks: in every form, through the same resize and crop, and nothing lost where one is missing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.testing import assert_close

from attrib import METHODS, METRICS, compare
from attrib.errors import InputError
from attrib.io import LoadedModel, Preprocess
from attrib.report.facts import tensor_hash
from tests import data, nets, realnets
from tests.tiny import FEW, loaded, picture, whole

PLACED = ["pointing", "energy", "rank_accuracy", "pixel_auc", "iou", "iou_area"]


def boxes(n: int, height: int, width: int) -> Tensor:
    masks = torch.zeros(n, height, width, dtype=torch.bool)
    for i, mask in enumerate(masks):
        mask[i : i + height // 2, 1 : width // 2 + i] = True
    return masks


def test_the_scores_are_those_of_the_metrics_themselves() -> None:
    model, x = nets.make("module"), nets.batch(3)
    masks = boxes(3, *x.shape[2:])
    found = compare(model, x, ["saliency", "gradcam"], PLACED, FEW, target=2, masks=masks)
    for method in found.methods:
        maps = METHODS[method](model).attribute(x, 2)
        for metric in PLACED:
            expected = METRICS[metric]().score(model, x, 2, maps, FEW, masks=masks)
            assert_close(found.scores[method][metric], expected)
    assert found.about["masks"] == {f"example {i}": tensor_hash(masks[i : i + 1]) for i in range(3)}
    assert "!" in found.to_text()  # controls are tested by these metrics too


@pytest.mark.parametrize("form", ["files", "pictures", "arrays", "tensors", "by name"])
def test_masks_may_be_given_in_any_form(form: str, tmp_path: Path) -> None:
    images, masks = [picture(i) for i in range(2)], boxes(2, 12, 16).numpy()
    for i in range(2):
        images[i].save(tmp_path / f"{i}.png")
        Image.fromarray(masks[i]).save(tmp_path / f"mask{i}.png")
    forms: dict[str, Any] = {
        "files": [tmp_path / f"mask{i}.png" for i in range(2)],
        "pictures": [Image.fromarray(mask) for mask in masks],
        "arrays": masks,
        "tensors": list(torch.from_numpy(masks)),
        "by name": {"1.png": masks[1], "0.png": masks[0]},
    }
    net = LoadedModel(nets.make("module"), whole)
    given = [tmp_path / f"{i}.png" for i in range(2)]
    found = compare(net, given, ["saliency"], ["energy"], FEW, target=1, masks=forms[form], controls=False)
    x = net.inputs(images)
    maps = METHODS["saliency"](net.model).attribute(x, 1)
    expected = METRICS["energy"]().score(None, x, 1, maps, masks=torch.from_numpy(masks))
    assert_close(found.scores["saliency"]["energy"], expected)


def test_a_mask_is_resized_and_cropped_with_its_picture() -> None:
    """A picture that shows its own mask: what the network sees as bright is what the mask says."""
    masks = boxes(2, 40, 60).numpy()
    images = [Image.fromarray(mask.astype(np.uint8) * 255).convert("RGB") for mask in masks]
    net = LoadedModel(nets.make("module"), Preprocess(resize=20, crop=12, mean=(0.5,) * 3, std=(0.5,) * 3))
    found = compare(net, images, {"brightness": Brightness}, ["pixel_auc", "iou"], FEW, masks=masks, controls=False)
    assert_close(found.scores["brightness"]["pixel_auc"], torch.ones(2, dtype=torch.float64))
    assert_close(found.scores["brightness"]["iou"], torch.ones(2, dtype=torch.float64))


class Brightness(METHODS["saliency"]):  # type: ignore[misc]
    """The picture itself as a map."""

    def _attribute(self, query: Any) -> Tensor:
        bright: Tensor = query.image.mean(1, keepdim=True)
        return bright


def test_an_image_without_a_mask_is_undefined_for_metrics_that_need_one_and_for_no_other() -> None:
    model, x = nets.make("module"), nets.batch(3)
    masks = [None, *boxes(2, *x.shape[2:])]
    found = compare(model, x, ["saliency"], ["energy", "srg"], FEW, masks=masks, controls=False)
    assert found.scores["saliency"]["energy"].isnan().tolist() == [True, False, False]
    assert not found.scores["saliency"]["srg"].isnan().any()
    assert found.failures == ()


def test_a_mask_that_cannot_be_read_is_noted_and_its_image_measured_without(tmp_path: Path) -> None:
    masks = ["no such file.png", boxes(1, 9, 9)[0], boxes(1, 12, 16)[0]]
    found = compare(
        loaded(), [picture(i) for i in range(3)], ["saliency"], ["energy", "srg"], FEW, masks=masks, controls=False
    )
    assert found.scores["saliency"]["energy"].isnan().tolist() == [True, True, False]
    assert not found.scores["saliency"]["srg"].isnan().any()
    assert [failure.image for failure in found.failures] == ["image 0", "image 1"]
    assert "mask must have the size of its picture, (H, W) = (12, 16); got (9, 9)" in found.failures[1].message


@pytest.mark.parametrize(
    ("masks", "words"),
    [
        (boxes(2, 8, 6), "masks must be a sequence of 3, one for each image .*; got 2"),
        ("masks/", "masks must be a sequence of 3, .*; got str"),
        ({"example 7": None}, "masks must be for images that are compared; got 'example 7'. Did you mean 'example 2'"),
    ],
)
def test_masks_that_do_not_fit_the_images_are_refused(masks: Any, words: str) -> None:
    with pytest.raises(InputError, match=words):
        compare(nets.make("module"), nets.batch(3), ["saliency"], ["energy"], FEW, masks=masks)


@data.needs_data
def test_grad_cam_finds_the_objects_of_masked_photos_better_than_controls_do() -> None:
    net, photos = realnets.load("resnet18"), data.photos(8)
    found = compare(
        net.loaded,
        {photo.name: photo.image for photo in photos},
        ["gradcam"],
        ["energy", "pixel_auc", "iou"],
        target=[photo.target for photo in photos],
        masks={photo.name: photo.mask for photo in photos},
        keep_maps=False,
    )
    assert found.unbeaten("gradcam")["pixel_auc"] in ([], ["centre"])  # photographers put their object in the centre
    assert found.scores["gradcam"]["pixel_auc"].mean() > 0.75
    assert abs(found.scores["random"]["pixel_auc"].mean() - 0.5) < 0.01
    masks = [net.loaded.mask(Image.fromarray(photo.mask)) for photo in photos]
    area = torch.stack([mask.double().mean() for mask in masks])
    assert_close(found.scores["random"]["energy"], area, atol=0.01, rtol=0)
