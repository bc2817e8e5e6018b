"""``attrib see hog``: what is printed and written, and what wrong arguments are told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from attrib.analysis import see_hog
from attrib.models import HOG
from tests.test_cli import desk, files, run  # noqa: F401  fixtures

pytest.importorskip("sklearn")
pytest.importorskip("skimage")
COMMAND = ("see", "hog", "seen.png", "--data", "lessons", "--cell", "2", "--atoms", "12")


@pytest.fixture(autouse=True)
def lessons(desk: Path) -> None:  # noqa: F811
    (desk / "lessons").mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (4, 20, 24, 3), dtype=np.uint8)
    for name, one in zip(("seen", "lessons/a", "lessons/b", "lessons/c"), noise, strict=True):
        Image.fromarray(one).save(desk / f"{name}.png")


def test_views_figure_and_manifest_are_those_of_the_function(run: Any, desk: Path) -> None:  # noqa: F811
    code, out, _ = run(*COMMAND, "--out", "run")
    assert code == 0
    assert "learned from 3 photos" in out
    assert {"manifest.json", "figure.png", "found.md"} <= files(desk / "run")
    told = json.loads((desk / "run" / "manifest.json").read_text())
    assert told["command"][:4] == ["attrib", "see", "hog", "seen.png"]
    assert told["settings"]["pixels_per_cell"] == "2x2"
    hog = HOG(signed=True, orientations=18, pixels_per_cell=2, cells_per_block=2)
    expected = see_hog([desk / "seen.png"], desk / "lessons", hog=hog, atoms=12)
    assert told["correlation"]["ridge"]["seen.png"] == pytest.approx(expected.correlation["ridge"]["seen.png"])
    for view, pictures in expected.views.items():
        file = told["arrays"][f"views.{view}.seen.png"]["file"]
        torch.testing.assert_close(torch.from_numpy(np.load(desk / "run" / file)), pictures["seen.png"])


def test_a_search_is_a_view_of_its_own_and_the_dictionary_may_be_left_out(run: Any) -> None:  # noqa: F811
    code, out, _ = run(*COMMAND, "--no-dictionary", "--steps", "20", "--json", "--quiet")
    assert code == 0
    assert list(json.loads(out)["correlation"]) == ["ridge", "search"]
    assert (
        json.loads(run(*COMMAND, "--no-dictionary", "--steps", "20", "--json", "--quiet")[1])["psnr"]
        == (json.loads(out)["psnr"])
    )


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ((*COMMAND, "--cell", "16"), "inputs must be at least 32 x 32 pixels, one block; got 20 x 24"),
        ((*COMMAND, "--cell", "5"), "features must have at least 4 x 4 locations, one window"),
        ((*COMMAND[:-1], "1000"), "images must hold at least as many windows as there are atoms, 1000; got"),
        (("see", "hog", "none.png"), "image must be an existing file; got 'none.png'"),
    ],
)
def test_wrong_arguments_are_told_as_such(run: Any, words: tuple[str, ...], says: str) -> None:  # noqa: F811
    code, out, err = run(*words, "--quiet")
    assert (code, out) == (2, "")
    assert says in " ".join(err.split())
