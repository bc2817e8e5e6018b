"""``attrib see adversarial``: what is printed and written, and what wrong arguments are told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.test_cli import desk, files, run  # noqa: F401  fixtures

STEEP = """

def steep():
    model, preprocess, names = make()
    return model, Preprocess(12, 10, mean=(0.4,) * 3, std=(0.01,) * 3), names
"""
COMMAND = ("see", "adversarial", "photos/a.png", "-m", "tiny_models:steep", "--eps", "20/255")


@pytest.fixture(autouse=True)
def steep(desk: Path) -> None:  # noqa: F811
    """A network to which small changes matter."""
    with (desk / "tiny_models.py").open("a") as file:
        file.write(STEEP)


def test_pictures_maps_and_figures_are_written_and_told(run: Any, desk: Path) -> None:  # noqa: F811
    code, out, _ = run(*COMMAND, "--method", "saliency", "--method", "gradcam", "--layer", "conv2", "--out", "run")
    assert code == 0
    assert "1 of 1 taken for another class (10 steps, linf ball)." in out
    assert "Means over the 1 pictures whose class changed" in out
    written = files(desk / "run")
    assert {"manifest.json", "figure.png", "found.md", "attribution/figure.png", "attribution/manifest.json"} <= written
    told = json.loads((desk / "run" / "manifest.json").read_text())
    assert told["command"][:4] == ["attrib", "see", "adversarial", "photos/a.png"]
    assert told["examples"][0]["outcome"] == "success"
    change = np.load(desk / "run" / "arrays" / "adversarial.npy") - np.load(desk / "run" / "arrays" / "clean.npy")
    assert np.abs(change * 0.01).max() == pytest.approx(20 / 255, abs=1e-6)


def test_json_holds_every_picture_and_the_measures(run: Any) -> None:  # noqa: F811
    code, out, _ = run("see", "adversarial", "photos", *COMMAND[3:], "--norm", "l2", "--json", "--method", "saliency")
    assert code == 0
    told = json.loads(out)
    assert [row["example"] for row in told["examples"]] == [0, 1]
    assert told["pictures"] == ["photos/a.png", "photos/b.png"]
    assert [row["perturbation"] for row in told["attribution"]] == ["attack", "shuffled"]
    assert all(row["l2"] <= 20 / 255 + 1e-6 for row in told["examples"])


def test_the_smallest_radius_may_be_asked_for_and_a_class_by_name(run: Any) -> None:  # noqa: F811
    least = json.loads(run(*COMMAND, "--smallest", "--json")[1])["examples"][0]
    assert 0 < least["eps"] < 20 / 255
    said = least["before"]
    name = "bee" if said != "bee" else "cat"
    code, out, _ = run(*COMMAND, "--target", name, "--json", "--steps", "40", "--eps", "0.5")
    row = json.loads(out)["examples"][0]
    assert code == 0
    assert (row["outcome"] == "success") == (row["after"] == name)
    code, _, err = run(*COMMAND, "--target", said)
    assert code == 2
    assert "target must differ from the class that is predicted" in err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--eps", "0"), "eps must be above 0"),
        (("--eps", "two"), "--eps must be a number or a fraction, such as 2/255; got 'two'."),
        (("--eps", "1/0"), "--eps must be a number or a fraction"),
        (("--norm", "l1"), "norm must be one of 'linf', 'l2'; got 'l1'."),
        (("--target", "unicorn"), "--target must be the number or the name of a class; got 'unicorn'."),
        (("--target", "9"), "target must lie in [0, 4]"),
        (("--method", "grad-cam"), "no method named 'grad-cam'"),
    ],
)
def test_wrong_arguments_are_told_as_such(run: Any, words: tuple[str, ...], says: str) -> None:  # noqa: F811
    code, out, err = run(*COMMAND, *words)
    assert (code, out) == (2, "")
    assert says in err
