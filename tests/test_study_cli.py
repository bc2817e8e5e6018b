"""attrib benchmark: the table on standard output, results in the directory, exit codes as the other commands have."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from attrib.cli import main
from attrib.study import Study, load_study
from tests import studies
from tests.tiny import refuse_constants

pytest.importorskip("pyarrow")

Run = Callable[..., tuple[int, str, str]]
FAST = ("--model", studies.MODEL, "--methods", "saliency,gradcam", "--metrics", "srg", "--out", "runs/x")


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run attrib benchmark in a directory with six labelled photos; exit code, standard output, standard error."""
    studies.photos(tmp_path / "photos")
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> tuple[int, str, str]:
        code = main(["benchmark", *arguments])
        return code, *capsys.readouterr()

    return run


def test_prints_the_table_and_keeps_the_results(run: Run) -> None:
    code, out, err = run(*FAST, "--data", "photos/table.csv", "--target", "label", "--shard-size", "4")
    assert (code, "error" in err) == (0, False)
    assert [line.split()[0] for line in out.splitlines() if "[" in line][:5] == [
        "saliency", "gradcam", "centre", "edges", "random",
    ]  # fmt: skip
    found = load_study("runs/x")
    assert (found.missing, len(found.images), found.manifest["shards"]) == ((), 6, 2)
    assert found.spec["target"] == "label"


def test_goes_on_refuses_and_reports(run: Run) -> None:
    table = ("--data", "photos/table.csv", "--shard-size", "2")
    assert run(*FAST, *table, "--shard", "0/3")[0] == 0
    code, out, _ = run("--report", "--out", "runs/x")
    assert (code, "2 of 3 shards are missing" in out) == (1, True)
    code, _, err = run(*FAST, *table, "--new")
    assert (code, "must be new where nothing shall be resumed" in err) == (1, True)
    code, _, err = run(*FAST, *table, "--seed", "1")
    assert "got another seed. Choose another directory." in err
    assert run(*FAST, *table)[0] == 0
    code, out, _ = run("--report", "--out", "runs/x", "--json")
    told = json.loads(out, parse_constant=refuse_constants)
    assert (code, told["missing"], told["totals"]["images"]) == (0, [], 6)
    assert [row["method"] for row in told["table"]][:2] == ["saliency", "gradcam"]


def test_options_reach_methods_metrics_and_tables(run: Run, tmp_path: Path) -> None:
    (tmp_path / "photos" / "t.json").write_text(json.dumps([{"file": "0.png", "kind": "bee"}]))
    columns = ("--data", "photos/t.json", "--columns", "image=file,label=kind", "--target", "label", "--no-controls")
    given = ("--set", "saliency.channels=l2", "--set", "srg.normalised=True", "--layer", "act1", "--limit", "1")
    assert run(*FAST, *columns, *given)[0] == 0
    expected = Study(
        studies.MODEL, load_study("runs/x").spec["data"]["path"], ["saliency", "gradcam"], ["srg"], controls=False
    )
    found = load_study("runs/x").spec
    assert found["methods"][0]["options"] == {"channels": "l2"}
    assert found["metrics"][0]["options"] == {"normalised": True}
    assert found["layer"] == "act1"
    assert found["data"] == {"path": "photos/t.json", "columns": {"image": "file", "label": "kind"}, "limit": 1}
    assert found["protocol"] == expected.protocol.to_dict()  # type: ignore[union-attr]
    assert load_study("runs/x").images_table["name"].to_pylist() == ["bee"]


def test_a_failure_is_noted_with_exit_code_1_and_strict_stops(run: Run, tmp_path: Path) -> None:
    (tmp_path / "photos" / "2.png").write_bytes(b"broken")
    code, out, _ = run(*FAST, "--data", "photos/table.csv")
    assert (code, "failed: 2.png: InputError" in out) == (1, True)
    code, out, err = run(*FAST[:-1], "runs/y", "--data", "photos/table.csv", "--strict", "--shard-size", "1")
    assert (code, out) == (1, "")
    assert "attrib: error: image must be a picture that Pillow can read" in err
    assert len(load_study("runs/y").images) == 2


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (FAST, "--data must be given, unless --report"),
        ((*FAST[2:], "--data", "photos"), "--model must be given"),
        ((*FAST, "--data", "photos", "--shard", "3"), "--shard must be I/N, such as 0/8; got '3'"),
        ((*FAST, "--data", "photos", "--set", "rise.n=3"), "--set must be for a method"),
        ((*FAST, "--data", "nowhere.csv"), "must be an existing table"),
        ((*FAST, "--data", "photos", "--methods", "salience"), "Did you mean 'saliency'"),
    ],
)
def test_a_wrong_argument_is_named_with_exit_code_2(run: Run, arguments: tuple[str, ...], words: str) -> None:
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert words in err


def test_a_report_of_nothing_says_so(run: Run) -> None:
    code, _, err = run("--report", "--out", "photos")
    assert (code, "must be the directory of a study" in err) == (1, True)
