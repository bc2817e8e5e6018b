"""``attrib see probes``: folders of pictures, one for each class, on the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests import tiny
from tests.test_cli import desk, files, run  # noqa: F401  fixtures

COMMAND = ("see", "probes", "-m", "tiny_models:make", "--data", "sorted", "--layer", "act1", "--layer", "act2")


@pytest.fixture
def classes(desk: Path) -> None:  # noqa: F811
    """Six pictures of each of two classes; those of one are black."""
    for name, light in (("day", 1.0), ("night", 0.0)):
        (desk / "sorted" / name).mkdir(parents=True)
        for i in range(6):
            tiny.picture(i).point(lambda value, light=light: value * light).save(desk / "sorted" / name / f"{i}.png")


@pytest.mark.usefixtures("classes")
def test_writes_the_table_and_prints_it(run: Any, desk: Path) -> None:  # noqa: F811
    code, out, _ = run(*COMMAND, "--repeats", "3", "--out", "run", "--pool", "mean", "--l2", "0.01")
    assert code == 0
    assert out.startswith("Accuracy in %, averaged over 2 classes (chance 50.0)")
    told = json.loads((desk / "run" / "manifest.json").read_text())
    assert (told["layers"], told["features"]) == (["act1", "act2"], [4, 6])
    assert told["probes"] == ["least squares", "softmax, l2 0.01"]
    accuracy = np.load(desk / "run" / "arrays" / "accuracy.npy")
    assert accuracy.shape == (2, 2, 1, 3)
    assert (accuracy[:, 1] == 1).all()  # black is told from noise
    assert {"figure.png", "found.md"} < files(desk / "run")


@pytest.mark.usefixtures("classes")
def test_shots_and_formats(run: Any) -> None:  # noqa: F811
    shots = (*COMMAND, "--shots", "3", "--shots", "1", "--quiet")
    code, out, _ = run(*shots, "--json")
    assert (code, json.loads(out)["sizes"]) == (0, ["1/class", "3/class"])
    code, out, _ = run(*shots, "--latex")
    assert code == 0
    assert out.startswith(r"\begin{tabular}{lcc}")
    assert r"softmax (act2) & $" in out


@pytest.mark.usefixtures("classes")
@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--shots", "6"), "every class must have at least 7 examples"),
        (("--train", "1.5"), "train must lie between 0 and 1"),
        (("--l2", "0"), "l2 must be above 0"),
        (("--pool", "max"), "kind must be one of 'grid', 'mean', 'flatten'"),
        (("--json", "--latex"), "got both --latex and --json"),
        (("--layer", "act9"), "no layer 'act9'"),
        (("--data", "photos"), "--data must have labels: a folder of one folder for each class, or a table with a col"),
    ],
)
def test_wrong_arguments_are_told_as_such(run: Any, words: tuple[str, ...], says: str) -> None:  # noqa: F811
    code, out, err = run(*COMMAND, *words)
    assert (code, out) == (2, "")
    assert says in err
