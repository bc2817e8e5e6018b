"""``attrib see neighbours``, ``embedding`` and ``invariance``: a folder of pictures on the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests import tiny
from tests.test_cli import desk, files, run  # noqa: F401  fixtures

MODEL = ("-m", "tiny_models:make", "--data", "sorted")


@pytest.fixture
def classes(desk: Path) -> None:  # noqa: F811
    """Five pictures of each of two classes, which are not the network's; those of one are dark."""
    for name, light in (("day", 1.0), ("night", 0.2)):
        (desk / "sorted" / name).mkdir(parents=True)
        for i in range(5):
            tiny.picture(i).point(lambda value, light=light: value * light).save(desk / "sorted" / name / f"{i}.png")


pytestmark = pytest.mark.usefixtures("classes")


def test_neighbours_are_printed_drawn_and_kept(run: Any, desk: Path) -> None:  # noqa: F811
    code, out, _ = run("see", "neighbours", *MODEL, "-k", "3", "--layer", "act2", "--pool", "mean", "--out", "run")
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()[1:3]] == ["pixel", "act2"]
    assert "10 queries, 10 pictures, l2 distance" in out
    index = np.load(desk / "run" / "arrays" / "index.act2.npy")
    assert index.shape == (10, 3)
    assert (index != np.arange(10)[:, None]).all()
    assert {"figure.png", "found.md"} < files(desk / "run")
    named = json.loads((desk / "run" / "manifest.json").read_text())[
        "pictures"
    ]  # what positions in the data are called
    assert [Path(name).name for name in named] == [f"{i}.png" for i in range(5)] * 2


def test_a_bank_on_disk_is_used_again_and_kept_from_other_questions(run: Any, desk: Path) -> None:  # noqa: F811
    command = ("see", "neighbours", *MODEL, "--query", "1", "--query", "4", "-k", "2", "--bank", "bank", "--json")
    code, first, _ = run(*command)
    assert code == 0
    before = files(desk / "bank")
    assert "bank.json" in before
    code, again, _ = run(*command)
    assert (code, again) == (0, first)
    assert json.loads(first)["metric"] == "l2"
    code, _, err = run(*command, "--pool", "max")
    assert code == 2
    assert "pool must be that of the bank in 'bank', 'flatten'; got 'max'" in err
    assert files(desk / "bank") == before


def test_an_embedding_is_printed_drawn_and_kept(run: Any, desk: Path) -> None:  # noqa: F811
    code, out, _ = run("see", "embedding", *MODEL, "--perplexity", "2", "--out", "tsne", "--quiet")
    assert code == 0
    assert out.splitlines()[1].split()[:2] == ["tsne", "fc@input"]
    assert np.load(desk / "tsne" / "arrays" / "points.npy").shape == (10, 2)
    assert "figure.png" in files(desk / "tsne")
    code, out, _ = run("see", "embedding", *MODEL, "--method", "pca", "--layer", "pixel", "--json")
    assert (code, json.loads(out)["space"]) == (0, "pixel")


def test_invariance_is_printed_drawn_and_kept(run: Any, desk: Path) -> None:  # noqa: F811
    sweeps = ("--sweep", "vertical=-2,0,2", "--sweep", "scale=1,1.5")
    code, out, _ = run("see", "invariance", *MODEL, *sweeps, "--method", "saliency", "--out", "run", "--limit", "6")
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()[1:3]] == ["vertical", "scale"]
    assert "saliency error" in out
    arrays = desk / "run" / "arrays"
    assert np.load(arrays / "distance.vertical.fc_input.npy").shape == (3, 6)
    clean, still = np.load(arrays / "clean.npy"), np.load(arrays / "probability.vertical.npy")[1]
    assert (clean == still).all()
    assert (clean >= 0.2).all()  # day and night are no classes of the network: the predicted one of five is asked for
    assert "figure.png" in files(desk / "run")
    chosen = ("--target", "2", "--layer", "act1", "--padding", "border", "--json", "--set", "saliency.channels=sum")
    code, out, _ = run("see", "invariance", *MODEL, *sweeps, *chosen, "--method", "saliency")
    assert (code, json.loads(out)["padding"]) == (0, "border")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("neighbours", "-k", "10"), "k must be at most 9, the rows of the bank other than the query; got 10"),
        (("neighbours", "--metric", "l1"), "metric must be one of 'l2', 'cosine'; got 'l1'"),
        (("neighbours", "--query", "10"), "query must lie in [0, 9]; got 10"),
        (("neighbours", "--layer", "act3"), "no layer 'act3'"),
        (("embedding",), "perplexity must be below N / 3 = 3.333; got 30. Pass perplexity=3 or less"),
        (("embedding", "--method", "umap"), "--method must be one of 'pca', 'tsne'; got 'umap'"),
        (("invariance", "--sweep", "vertical"), "--sweep must be KIND=AMOUNT,AMOUNT, such as rotation=0,90"),
        (("invariance", "--sweep", "scale=1", "--sweep", "scale=2"), "once for each kind; got 'scale' twice"),
        (("invariance", "--sweep", "shear=1"), "sweep must be one of"),
        (("invariance", "--padding", "wrap"), "padding must be one of"),
    ],
)
def test_what_cannot_be_asked_is_a_wrong_argument(run: Any, desk: Path, words: Any, says: str) -> None:  # noqa: F811
    code, out, err = run("see", words[0], *MODEL, *words[1:], "--out", "run")
    assert (code, out) == (2, "")
    assert says in err
    assert not (desk / "run").exists()
