"""Rankings of the same methods under several protocols, read from finished studies."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from attrib.benchmark import rank_stability
from attrib.cli import main
from attrib.errors import InputError
from attrib.study import Study, StudyResult, across
from tests import studies

pytest.importorskip("pyarrow")


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return studies.photos(tmp_path_factory.mktemp("photos"))


def run(study: Study, out: Path) -> StudyResult:
    return study.run(out, show_progress=False)


@pytest.fixture(scope="module")
def pair(table: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[StudyResult]]:
    home = tmp_path_factory.mktemp("runs")
    protocols = {"zero": {"steps": 5}, "blur": {"steps": 5, "baseline": "blur"}}
    return home, [run(studies.make(table, protocol=one), home / name) for name, one in protocols.items()]


def test_is_the_stability_of_the_stored_scores(pair: tuple[Path, list[StudyResult]]) -> None:
    found = across(pair[1])
    assert set(found) == {"deletion", "srg"}
    for metric, one in found.items():
        values = {
            f"baseline={name}": study.matrix(metric).values[:, :2]
            for name, study in zip(("zero", "blur"), pair[1], strict=True)
        }
        wanted = rank_stability(values, ["saliency", "gradcam"], higher_is_better=metric == "srg")
        assert one.settings == ("baseline=zero", "baseline=blur")
        np.testing.assert_array_equal(one.tau, wanted.tau)
        np.testing.assert_array_equal(one.means, wanted.means)


def test_what_cannot_be_compared_is_refused(pair: tuple[Path, list[StudyResult]], table: Path, tmp_path: Path) -> None:
    zero, _ = pair[1]
    with pytest.raises(InputError, match="two or more; got 1"):
        across([zero])
    with pytest.raises(InputError, match="must have different protocols; got the same one"):
        across([zero, zero])
    other = run(studies.make(table, methods=["saliency", "guided"], protocol={"steps": 9}), tmp_path / "methods")
    with pytest.raises(InputError, match=r"same methods; got .*guided"):
        across([zero, other])
    labelled = run(studies.make(table, target="label", protocol={"steps": 9}), tmp_path / "target")
    with pytest.raises(InputError, match="same target; got label and predicted"):
        across([zero, labelled])
    part = studies.make(table, protocol={"steps": 9}).run(tmp_path / "part", shard=(0, 3), show_progress=False)
    with pytest.raises(InputError, match=r"must be finished; got shards missing in .*part"):
        across([zero, part])


def test_the_command_prints_tau_and_swaps(
    pair: tuple[Path, list[StudyResult]], capsys: pytest.CaptureFixture[str]
) -> None:
    runs = [str(pair[0] / name) for name in ("zero", "blur")]
    assert main(["stability", *runs]) == 0
    out = capsys.readouterr().out
    assert out.splitlines()[0].split() == ["deletion", "baseline=zero", "baseline=blur"]
    assert "Kendall's tau" in out
    assert main(["stability", *runs, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["srg"]["tau"][0][0] == 1.0
    assert main(["stability", runs[0]]) == 2
    assert "two or more" in capsys.readouterr().err
