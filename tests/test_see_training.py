"""``attrib see training``: checkpoints on the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from attrib.analysis import evolution
from tests import nets, tiny
from tests.test_cli import desk, files, run  # noqa: F401  fixtures

COMMAND = ("see", "training", "-m", "tiny_models:make", "--data", "photos", "--layer", "act1", "--channels", "2")


@pytest.fixture
def checkpoints(desk: Path) -> list[str]:  # noqa: F811
    """Two states of the network of the desk."""
    for epoch in (1, 5):
        torch.save(nets.fill(nets.make("module"), seed=epoch).state_dict(), desk / f"epoch{epoch}.pt")
    return ["--checkpoint", "1=epoch1.pt", "--checkpoint", "5=epoch5.pt"]


def test_writes_what_the_function_finds_and_prints_it_in_words(
    run: Any,  # noqa: F811
    desk: Path,  # noqa: F811
    checkpoints: list[str],
) -> None:
    code, out, _ = run(*COMMAND, *checkpoints, "--out", "run")
    assert code == 0
    assert out.startswith("Strongest of 2 examples by epoch")
    told = json.loads((desk / "run" / "manifest.json").read_text())
    assert (told["epochs"], told["pictures"]) == ([1, 5], ["a.png", "b.png"])
    assert told["command"][:3] == ["attrib", "see", "training"]
    x = tiny.loaded().inputs([tiny.picture(i) for i in range(2)])
    states = {epoch: f"epoch{epoch}.pt" for epoch in (1, 5)}
    found = evolution(nets.make("module"), states, x, ["act1"], channels=2)
    np.testing.assert_array_equal(np.load(desk / "run" / "arrays" / "image.npy"), found.image.numpy())
    np.testing.assert_allclose(np.load(desk / "run" / "arrays" / "value.npy"), found.value.numpy(), rtol=1e-5)
    assert {"figure.png", "found.md"} < files(desk / "run")


def test_json_is_the_manifest_and_epochs_are_counted_where_none_is_said(run: Any, checkpoints: list[str]) -> None:  # noqa: F811
    plain = ["--checkpoint", "epoch1.pt", "--checkpoint", "epoch5.pt"]
    code, out, _ = run(*COMMAND, *plain, "--json", "--quiet")
    assert code == 0
    assert json.loads(out)["epochs"] == [1, 2]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ((*COMMAND, "--checkpoint", "epoch6.pt"), "existing file; got 'epoch6.pt'. Did you mean 'epoch5.pt'"),
        ((*COMMAND, "--checkpoint", "1=epoch1.pt", "--checkpoint", "1=epoch5.pt"), "must be of different epochs"),
        ((*COMMAND, "--checkpoint", "broken.jpg"), "weights must be an undamaged file"),
        ((*COMMAND, "--checkpoint", "epoch1.pt", "--layer", "act9"), "no layer 'act9'"),
        ((*COMMAND, "--checkpoint", "epoch1.pt", "--method", "rise"), "method must be one of"),
        (COMMAND, "Missing option '--checkpoint'"),
    ],
)
def test_wrong_arguments_are_told_as_such(run: Any, checkpoints: list[str], words: tuple[str, ...], says: str) -> None:  # noqa: F811
    code, out, err = run(*words)
    assert (code, out) == (2, "")
    assert says in err
