"""``attrib see fooling``: images made of nothing, on the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.test_cli import desk, files, run  # noqa: F401  fixtures
from tests.test_see_adversarial import steep  # noqa: F401  a network to which small changes matter

COMMAND = ("see", "fooling", "1", "bee", "-m", "tiny_models:steep", "--confidence", "0.21")


def test_an_image_for_each_class_is_written_as_a_picture_of_the_networks_size(run: Any, desk: Path) -> None:  # noqa: F811
    code, out, _ = run(*COMMAND, "--start", "grey", "--steps", "60", "--step", "2/255", "--out", "run", "--json")
    told = json.loads(out)
    assert code == 0
    assert [(row["class"], row["outcome"]) for row in told["rows"]] == [("bee", "reached")] * 2
    assert {"figure.png", "found.md"} < files(desk / "run")
    for name in ("0_bee.png", "1_bee.png"):
        with Image.open(desk / "run" / "pictures" / name) as picture:
            assert picture.size == (10, 10)
    assert np.load(desk / "run" / "arrays" / "start.npy").std() < 1e-6


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--start", "white"), "must be one of 'noise', 'grey', 'black'; got 'white'."),
        (("--step", "small"), "--step must be a number or a fraction"),
        (("--confidence", "1"), "confidence must lie between 0 and 1"),
        (("9",), "target must lie in [0, 4]"),
        (("bea",), "CLASS must be the number or the name of a class; got 'bea'. Did you mean 'bee'"),
    ],
)
def test_wrong_arguments_are_told_as_such(run: Any, words: tuple[str, ...], says: str) -> None:  # noqa: F811
    code, out, err = run(*COMMAND, *words)
    assert (code, out) == (2, "")
    assert says in err
