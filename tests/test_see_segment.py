"""``attrib see segment``: pictures, or a table with masks, on the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from attrib import METHODS
from attrib.analysis import segment
from attrib.io import load_image
from tests import tiny
from tests.test_cli import desk, files, run  # noqa: F401  fixtures

pytest.importorskip("cv2")

COMMAND = ("see", "segment", "photos", "-m", "tiny_models:make", "--iterations", "1", "--background", "0.4")
HOW = ("--foreground", "0.8", "--seed", "3")


def test_writes_the_masks_of_the_function(run: Any, desk: Path) -> None:  # noqa: F811
    code, out, _ = run(*COMMAND, *HOW, "--target", "cat", "--out", "run")
    assert code == 0
    assert out.splitlines()[0].split()[:2] == ["picture", "box"]
    net = tiny.loaded()
    pictures = [load_image(desk / "photos" / f"{name}.png") for name in ("a", "b")]
    maps = METHODS["saliency"](net.model).attribute(net.inputs(pictures), 2)
    found = segment(maps, [net.view(one) for one in pictures], quantiles=(0.4, 0.8), iterations=1, seed=3)
    np.testing.assert_array_equal(np.load(desk / "run" / "arrays" / "masks.npy"), found.masks.numpy())
    told = json.loads((desk / "run" / "manifest.json").read_text())
    assert told["names"] == ["a.png", "b.png"]
    assert told["settings"]["quantiles"] == [0.4, 0.8]
    assert {"figure.png", "found.md", "arrays/boxes.npy"} < files(desk / "run")


def test_another_method_at_a_layer_with_options(run: Any, desk: Path) -> None:  # noqa: F811
    how = ("--method", "gradcam", "--set", "gradcam.relu=False", "--layer", "act1", "--no-figures", "--out", "run")
    assert run(*COMMAND, *HOW, *how)[0] == 0
    net = tiny.loaded()
    pictures = [load_image(desk / "photos" / f"{name}.png") for name in ("a", "b")]
    maps = METHODS["gradcam"](net.model, relu=False).attribute(net.inputs(pictures), "predicted", "act1")
    found = segment(maps, [net.view(one) for one in pictures], quantiles=(0.4, 0.8), iterations=1, seed=3)
    assert torch.equal(torch.from_numpy(np.load(desk / "run" / "arrays" / "seeds.npy")), found.seeds)
    assert "figure.png" not in files(desk / "run")


def test_a_table_with_masks_is_compared_beside_the_box_in_the_middle(run: Any, desk: Path) -> None:  # noqa: F811
    mask = np.zeros((12, 16), np.uint8)
    mask[3:9, 5:11] = 255
    Image.fromarray(mask).save(desk / "mask.png")
    (desk / "photos.csv").write_text("image,mask\nphotos/a.png,mask.png\nphotos/b.png,mask.png\n")
    words = ("see", "segment", "photos.csv", *COMMAND[3:], *HOW)
    code, out, _ = run(*words, "--out", "run")
    assert code == 0
    assert "centre box, 70% of each side" in out
    iou = np.load(desk / "run" / "agreement" / "arrays" / "iou.npy")
    masks = np.load(desk / "run" / "arrays" / "masks.npy")
    true = mask[1:11, 3:13] > 0
    np.testing.assert_allclose(iou, [(one & true).sum() / (one | true).sum() for one in masks])
    told = json.loads(run(*words, "--json", "--quiet")[1])
    assert told["agreement"]["centre"] == 0.7


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--foreground", "0.2"), "quantiles must be (background, foreground)"),
        (("--foreground", "0.99"), "must have at least 5 foreground pixels"),
        (("--method", "salience"), "no method named 'salience'"),
        (("--connectivity", "6"), "connectivity must be one of 4, 8"),
        (("--target", "unicorn"), "unicorn"),
    ],
)
def test_wrong_arguments_are_told_as_such(run: Any, words: tuple[str, ...], says: str) -> None:  # noqa: F811
    code, out, err = run(*COMMAND, *words)
    assert (code, out) == (2, "")
    assert says in err
