"""A study whose results lie where fsspec reaches: the same files, byte for byte, and the same rules."""

from __future__ import annotations

import json
import time
import uuid
from pathlib import Path
from typing import Any

import pytest

from attrib.errors import MissingDependency, OutputError
from attrib.study import lease as leases
from attrib.study import load_study, write_report
from attrib.study.lease import lease
from attrib.study.place import place_of
from tests import studies
from tests.test_study_run import run, table  # noqa: F401  a fixture

pytest.importorskip("pyarrow")
upath = pytest.importorskip("upath")


@pytest.fixture
def remote() -> str:
    return f"memory://{uuid.uuid4().hex}/out"


def contents(folder: Any) -> dict[str, bytes]:
    return {
        f"{part}/{path.name}": path.read_bytes() for part in ("shards", "curves") for path in (folder / part).iterdir()
    }


def test_the_scores_are_those_on_a_disk_byte_for_byte(tmp_path: Path, table: Path, remote: str) -> None:  # noqa: F811
    here, there = run(studies.make(table), tmp_path / "out"), run(studies.make(table), remote)
    assert contents(there.store.folder) == contents(here.store.folder)
    assert load_study(remote).scores.equals(here.scores)
    assert not list(there.store.folder.glob("**/*.partial"))


def test_what_is_there_is_not_computed_again(table: Path, remote: str) -> None:  # noqa: F811
    first = run(studies.make(table), remote, shard=(0, 3))
    assert len(first.missing) == 2
    kept = (first.store.folder / "shards" / "00000.parquet").stat().st_mtime
    whole = run(studies.make(table), remote)
    assert whole.missing == ()
    assert (first.store.folder / "shards" / "00000.parquet").stat().st_mtime == kept
    assert whole.store.manifest is not None
    assert "totals" in whole.store.manifest


def test_another_study_and_another_directory_are_refused(table: Path, remote: str) -> None:  # noqa: F811
    run(studies.make(table), remote, shard=(0, 3))
    with pytest.raises(OutputError, match="must be new where nothing shall be resumed"):
        run(studies.make(table), remote, resume=False)
    other = remote.replace("/out", "/other")
    upath.UPath(other).mkdir(parents=True)
    (upath.UPath(other) / "mine.txt").write_text("mine")
    with pytest.raises(OutputError, match=r"which holds mine\.txt"):
        run(studies.make(table), other)


def test_the_report_is_written_beside_the_scores_or_where_it_is_asked_for(
    tmp_path: Path,
    table: Path,  # noqa: F811
    remote: str,
) -> None:
    found = run(studies.make(table), remote)
    place = write_report(found)
    assert str(place) == f"{remote}/report"
    write_report(found, tmp_path / "here")
    for name in ("table.md", "summary.json"):
        assert (place / name).read_bytes() == (tmp_path / "here" / name).read_bytes()
    assert any(path.suffix == ".png" for path in (place / "figures").iterdir())
    assert write_report(found) == place  # an older one is replaced


class TestLease:
    def test_a_living_holder_keeps_others_off_and_gives_back(self, remote: str) -> None:
        path = place_of(remote) / "leases" / "1"
        with lease(path) as mine, lease(path) as theirs:
            assert (mine, theirs) == (True, False)
        assert not path.exists()

    def test_one_elsewhere_is_given_up_after_a_while_without_a_beat(
        self, remote: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = place_of(remote) / "leases" / "1"
        path.parent.mkdir(parents=True)
        told = {"host": "elsewhere", "pid": 1, "token": "x", "beat": time.time()}
        path.write_text(json.dumps(told))
        with lease(path) as mine:
            assert not mine
        monkeypatch.setattr(leases, "STALE", -1.0)
        with lease(path) as mine:
            assert mine

    def test_a_holder_gives_signs_of_life(self, remote: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(leases, "BEAT", 0.01)
        path = place_of(remote) / "leases" / "1"
        with lease(path):
            first = json.loads(path.read_text())["beat"]
            end = time.monotonic() + 5
            while json.loads(path.read_text())["beat"] == first and time.monotonic() < end:
                time.sleep(0.01)
            assert json.loads(path.read_text())["beat"] > first


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "upath", None)
    with pytest.raises(MissingDependency, match=r"attrib\[remote\]"):
        place_of("memory://here/out")
