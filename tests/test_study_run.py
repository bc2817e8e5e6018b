"""Running a study: killed, resumed, shared out or failing in parts, the scores are the same, byte for byte."""

from __future__ import annotations

import errno
import json
import os
import random
import signal
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from attrib import METHODS, METRICS, Attribution, compare
from attrib.core import Query
from attrib.core.masking.pace import _found as paces
from attrib.errors import InputError, OutputError
from attrib.metrics import Protocol
from attrib.study import Study, StudyResult, lease, load_study, place, run_shard, running, store
from tests import nets, studies
from tests.tiny import picture

pytest.importorskip("pyarrow")


@pytest.fixture
def table(tmp_path: Path) -> Path:
    return studies.photos(tmp_path / "photos")


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, StudyResult]:
    """A study of six pictures, one a shard, run in one go."""
    home = tmp_path_factory.mktemp("reference")
    found = studies.make(studies.photos(home / "photos"), shard_size=1).run(home / "out", show_progress=False)
    return home, found


def run(study: Study, out: Path, **options: Any) -> StudyResult:
    return study.run(out, show_progress=False, **options)


def done(out: Path) -> int:
    """How many shards are finished."""
    return len(list((out / "shards").glob("[0-9]*.parquet")))


@pytest.fixture
def misbehaving() -> Any:
    """A method that fails on some images, as it is told to."""
    asked: dict[str, Any] = {"fails": lambda n: False, "error": ValueError("not this one"), "calls": 0}

    @METHODS.add("misbehaving")
    class Misbehaving(Attribution):
        """Fails now and then."""

        def _attribute(self, query: Query) -> Tensor:
            asked["calls"] += 1
            if asked["fails"](asked["calls"]):
                raise asked["error"]
            return query.x[:, :1].clone()

    return asked


class TestNumbers:
    def test_are_those_of_compare(self, tmp_path: Path) -> None:
        model, x = nets.make("module"), nets.batch(5)
        methods, metrics = ["saliency", "gradcam"], ["deletion", "insertion", "srg"]
        study = Study(model, [(one, i % 5) for i, one in enumerate(x)], methods, metrics, studies.FEW, shard_size=2)
        found, other = run(study, tmp_path / "out"), compare(model, x, methods, metrics, Protocol(steps=5))
        for metric in metrics:
            matrix = found.matrix(metric)
            assert matrix.methods == other.rows
            expected = torch.stack([other.scores[row][metric] for row in other.rows], 1)
            torch.testing.assert_close(torch.from_numpy(matrix.values), expected)
        for mine, theirs in zip(
            found.curves("random", "deletion"), other.curves["random"].curve("deletion"), strict=True
        ):
            torch.testing.assert_close(torch.from_numpy(mine), theirs)
        means = {row["method"]: row["srg"] for row in found.table()}
        assert means["gradcam"] == pytest.approx(float(other.scores["gradcam"]["srg"].mean()))

    def test_explain_the_label_of_each_picture(self, tmp_path: Path, table: Path) -> None:
        found = run(studies.make(table, target="label"), tmp_path / "out")
        assert found.scores["target"].to_pylist()[:: len(found.rows) * 2] == [0, 1, 2, 3, 4, 0]
        assert found.images_table["name"].to_pylist()[:3] == ["ant", "bee", "cat"]

    def test_do_not_depend_on_what_was_timed_before(self, tmp_path: Path, table: Path) -> None:
        study = studies.make(table, methods=["occlusion", "rise"], method_options={"rise": {"n": 30}})
        run(study, tmp_path / "one")
        for key in list(paces):
            paces[key] = 3
        try:
            run(study, tmp_path / "two")
        finally:
            paces.clear()
        assert studies.scores(tmp_path / "one") == studies.scores(tmp_path / "two")

    def test_clean_passes_are_shared_and_costs_told(self, reference: tuple[Path, StudyResult]) -> None:
        costs = reference[1].costs.to_pylist()
        assert {(one["forwards"], one["shared_forwards"]) for one in costs if one["kind"] == "method"} == {(1, 1)}
        inner = 2 * (5 - 2) * (2 + 2 + 3)  # two orders; two methods, two controls and one with three seeds
        every = [one["forwards"] for one in costs if one["kind"] == "image"]
        assert len(every) == 6
        assert all(3 + inner <= one <= 6 + inner for one in every)  # recording and checking a model take a few more
        totals = reference[1].manifest["totals"]
        assert totals["forwards"] == sum(every)
        assert (totals["images"], totals["failures"], totals["unreadable"]) == (6, 0, 0)
        assert totals["seconds"] > 0


class TestResuming:
    @settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(order=st.permutations(range(6)), split=st.integers(0, 6))
    def test_at_any_shard_equals_one_go(
        self,
        order: list[int],
        split: int,
        reference: tuple[Path, StudyResult],
        tmp_path_factory: pytest.TempPathFactory,
    ) -> None:
        home, _ = reference
        out = tmp_path_factory.mktemp("again") / "out"
        study = studies.make(home / "photos" / "table.csv", shard_size=1)
        for shard in order[:split]:
            assert run_shard(study.spec, out, shard).state == "done"
        if split:
            assert load_study(out).missing == tuple(sorted(order[split:]))
        found = run(study, out)
        assert found.missing == ()
        assert studies.scores(out) == studies.scores(home / "out")

    def test_does_nothing_twice(self, tmp_path: Path, table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        study = studies.make(table)
        run(study, tmp_path / "out", shard=(0, 3))
        before = (tmp_path / "out" / "costs" / "00000.parquet").read_bytes()
        computed: list[int] = []
        work = running.Worker.run
        monkeypatch.setattr(
            running.Worker, "run", lambda self, shard, **options: computed.append(shard) or work(self, shard, **options)
        )
        run(study, tmp_path / "out")
        assert computed == [1, 2]
        assert (tmp_path / "out" / "costs" / "00000.parquet").read_bytes() == before

    def test_parts_of_a_job_array_make_the_whole(self, reference: tuple[Path, StudyResult], tmp_path: Path) -> None:
        home, _ = reference
        study = studies.make(home / "photos" / "table.csv", shard_size=1)
        for i in (2, 0, 1):
            found = run(study, tmp_path / "out", shard=(i, 3))
        assert found.missing == ()
        assert "totals" in load_study(tmp_path / "out").manifest
        assert studies.scores(tmp_path / "out") == studies.scores(home / "out")

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            ({"seed": 1}, "got another seed"),
            ({"methods": ["saliency"], "protocol": {"steps": 6}}, "got another methods and protocol"),
        ],
    )
    def test_another_study_is_refused(self, tmp_path: Path, table: Path, change: dict[str, Any], words: str) -> None:
        run(studies.make(table), tmp_path / "out", shard=(0, 3))
        with pytest.raises(InputError, match=f"must be the one that .* was begun with; {words}"):
            run(studies.make(table, **change), tmp_path / "out")

    def test_other_pictures_or_weights_under_the_same_names_are_refused(
        self, tmp_path: Path, table: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        run(studies.make(table), tmp_path / "out", shard=(0, 3))
        monkeypatch.setattr(studies, "network", studies.reds)
        with pytest.raises(InputError, match="got another model"):
            run(studies.make(table), tmp_path / "out")
        monkeypatch.undo()
        studies.photos(table.parent, 7)
        with pytest.raises(InputError, match="got another data"):
            run(studies.make(table), tmp_path / "out")

    def test_other_versions_are_refused_unless_forced(self, tmp_path: Path, table: Path) -> None:
        run(studies.make(table), tmp_path / "out", shard=(0, 3))
        path = tmp_path / "out" / "manifest.json"
        told = json.loads(path.read_text())
        told["versions"]["torch"] = "1.0"
        path.write_text(json.dumps(told))
        with pytest.raises(InputError, match=r"got torch .* instead of 1\.0\. Pass force=True"):
            run(studies.make(table), tmp_path / "out")
        assert run(studies.make(table), tmp_path / "out", force=True).missing == ()

    def test_a_directory_with_something_else_is_refused(self, tmp_path: Path, table: Path) -> None:
        with pytest.raises(OutputError, match="must be a new directory, or one where a study was begun"):
            run(studies.make(table), table.parent)
        run(studies.make(table), tmp_path / "out", shard=(0, 3))
        with pytest.raises(OutputError, match="must be new where nothing shall be resumed"):
            run(studies.make(table), tmp_path / "out", resume=False)
        with pytest.raises(OutputError, match="got one without a manifest"):
            load_study(table.parent)

    @pytest.mark.parametrize("shard", [(3, 3), (-1, 3), (0, 0), 3])
    def test_a_part_that_is_none_is_refused(self, tmp_path: Path, table: Path, shard: Any) -> None:
        with pytest.raises(InputError, match="part"):
            run(studies.make(table), tmp_path / "out", shard=shard)


@pytest.mark.slow
class TestKilling:
    def test_at_random_times_loses_at_most_the_running_shard(
        self, reference: tuple[Path, StudyResult], tmp_path: Path
    ) -> None:
        home, _ = reference
        table, out, source = home / "photos" / "table.csv", tmp_path / "out", random.Random()  # noqa: S311
        for _ in range(3):
            process = studies.started(table, out)
            assert process.stdout is not None
            process.stdout.readline()
            there, more = done(out), source.randint(0, 2)
            while process.poll() is None and done(out) < there + more:
                time.sleep(0.001)
            time.sleep(source.uniform(0, 0.05))
            before = studies.scores(out) if (out / "curves").is_dir() and (out / "shards").is_dir() else {}
            process.send_signal(signal.SIGKILL)
            process.wait()
            process.stdout.close()
            if (out / "manifest.json").exists():
                found = load_study(out)
                assert len(found.scores) == len(found.images) * 2 * len(found.rows)  # what is there is whole
                now = studies.scores(out) if before else {}
                assert all(now[name] == content for name, content in before.items())
        found = run(studies.make(table, shard_size=1), out)
        assert found.missing == ()
        assert studies.scores(out) == studies.scores(home / "out")
        assert [path for path in out.rglob("*.partial")] == []

    def test_before_the_manifest_is_closed_is_made_good(self, tmp_path: Path, table: Path) -> None:
        study, out = studies.make(table), tmp_path / "out"
        manifest = run(study, out).store.manifest
        assert manifest is not None
        (out / "manifest.json").write_text(json.dumps({k: v for k, v in manifest.items() if k != "totals"}))
        (out / ".manifest.dead.partial").write_bytes(b"half")
        again = run(study, out).store.manifest
        assert again is not None
        assert again["totals"] == manifest["totals"]
        assert [path for path in out.rglob("*.partial")] == []

    @pytest.mark.parametrize("step", ["curves", "shards"])
    def test_between_two_files_leaves_a_shard_undone(
        self, reference: tuple[Path, StudyResult], tmp_path: Path, step: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        home, _ = reference
        study, out = studies.make(home / "photos" / "table.csv", shard_size=1), tmp_path / "out"
        run(study, out, shard=(0, 6))
        code = (
            "import os, sys\nfrom pathlib import Path\nfrom attrib.study import store\nfrom tests import studies\n"
            "keep = store.replace\n"
            f"def stop(path, write, **options):\n    if path.parent.name == {step!r}:\n"
            "        path.with_name('.00001.dead.partial').write_bytes(b'half')\n        os.kill(os.getpid(), 9)\n"
            "    keep(path, write, **options)\nstore.replace = stop\n"
            "study = studies.make(Path(sys.argv[1]), shard_size=1)\nstudy.run(sys.argv[2], show_progress=False)\n"
        )
        process = studies.started(home / "photos" / "table.csv", out, code)
        assert process.wait() == -signal.SIGKILL
        process.stdout.close()  # type: ignore[union-attr]
        assert load_study(out).missing == (1, 2, 3, 4, 5)
        assert (out / "leases" / "00001").exists()
        assert run(study, out).missing == ()
        assert studies.scores(out) == studies.scores(home / "out")
        assert not list(out.rglob("*.partial"))
        assert not any((out / "leases").iterdir())


class TestSharingOut:
    @pytest.mark.slow
    def test_two_processes_compute_each_shard_once(self, reference: tuple[Path, StudyResult], tmp_path: Path) -> None:
        home, _ = reference
        out = tmp_path / "out"
        other = studies.started(home / "photos" / "table.csv", out)
        assert other.stdout is not None
        other.stdout.readline()
        run(studies.make(home / "photos" / "table.csv", shard_size=1), out)
        assert other.wait() == 0
        other.stdout.close()
        found = load_study(out)
        assert found.missing == ()
        assert studies.scores(out) == studies.scores(home / "out")

    def test_a_shard_that_a_living_process_holds_is_left_to_it(self, tmp_path: Path, table: Path) -> None:
        study, out = studies.make(table), tmp_path / "out"
        with store.Store.at(out).lease(1) as mine:
            assert mine
            (out / "leases").rename(tmp_path / "kept")  # as if it had been taken in a directory that was begun
            run(study, out, shard=(0, 3))
            for path in (tmp_path / "kept").iterdir():
                path.rename(out / "leases" / path.name)
            assert run_shard(study.spec, out, 1).state == "taken"
            assert run(study, out).missing == (1,)
        assert run_shard(study.spec, out, 1).state == "done"

    def test_a_holder_elsewhere_is_given_up_after_a_while_without_a_sign_of_life(self, tmp_path: Path) -> None:
        path = tmp_path / "leases" / "00000"
        path.parent.mkdir()
        path.write_text(json.dumps({"host": "elsewhere", "pid": 1, "born": None, "token": "x"}))
        with lease.lease(path) as mine:
            assert not mine
        old = time.time() - lease.STALE - 1
        os.utime(path, (old, old))
        with lease.lease(path) as mine:
            assert mine
            with lease.lease(path) as other:
                assert not other
        assert not any(path.parent.iterdir())

    def test_a_holder_gives_signs_of_life(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(lease, "BEAT", 0.01)
        path = tmp_path / "00000"
        with lease.lease(path):
            os.utime(path, (0, 0))
            deadline = time.monotonic() + 5
            while path.stat().st_mtime == 0 and time.monotonic() < deadline:
                time.sleep(0.01)
            assert path.stat().st_mtime > 0

    def test_a_number_of_a_process_that_was_given_again_is_not_the_holder(self, tmp_path: Path) -> None:
        path = tmp_path / "00000"
        told = {"host": lease.socket.gethostname(), "pid": os.getpid(), "born": "1", "token": "x"}
        path.write_text(json.dumps(told))
        with lease.lease(path) as mine:
            assert mine


class TestFailing:
    def test_a_full_disk_stops_cleanly_with_what_is_finished(
        self, tmp_path: Path, table: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        study, out = studies.make(table), tmp_path / "out"
        whole = studies.scores(run(study, tmp_path / "whole").store.folder)
        real, written = os.fsync, []

        def fsync(handle: int) -> None:
            written.append(handle)
            if len(written) > 14:  # the manifest, the first shard, part of the second
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            real(handle)

        with monkeypatch.context() as full:
            full.setattr(place.os, "fsync", fsync)
            with pytest.raises(
                OutputError, match=r"no space left on device\. All finished shards are kept\. Free some"
            ):
                run(study, out)
        found = load_study(out)
        assert found.missing == (1, 2)
        assert len(found.images) == 2
        assert not list(out.rglob("*.partial"))
        run(study, out)
        assert studies.scores(out) == whole

    def test_a_corrupt_picture_is_a_row_without_scores(self, tmp_path: Path, table: Path) -> None:
        (table.parent / "2.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
        found = run(studies.make(table, target="label"), tmp_path / "out")
        values = found.matrix("srg").values
        assert np.isnan(values).all(1).tolist() == [i == 2 for i in range(6)]
        assert found.counts("srg")["gradcam"] == {"ok": 5, "unreadable": 1}
        assert found.failures["image"].to_pylist() == ["2.png"]
        assert found.scores["label"].to_pylist()[::10][2] == "2"
        assert found.intervals["saliency"]["srg"].undefined == 1
        assert found.manifest["totals"]["unreadable"] == 1
        assert "failed: 2.png: InputError" in found.to_text()
        assert "1 unreadable of 6" in found.to_text()

    def test_a_method_that_raises_is_noted_and_the_rest_goes_on(
        self, tmp_path: Path, table: Path, misbehaving: dict[str, Any]
    ) -> None:
        misbehaving["fails"] = lambda n: n == 3
        found = run(studies.make(table, methods=["misbehaving", "saliency"]), tmp_path / "out")
        assert found.counts("srg")["misbehaving"] == {"ok": 5, "failed": 1}
        assert found.counts("srg")["saliency"] == {"ok": 6}
        (one,) = found.failures.to_pylist()
        assert (one["image"], one["method"], one["error"], one["message"]) == (
            "2.png",
            "misbehaving",
            "ValueError",
            "not this one",
        )

    def test_strict_stops_at_the_first_failure_with_what_is_finished(
        self, tmp_path: Path, table: Path, misbehaving: dict[str, Any]
    ) -> None:
        misbehaving["fails"] = lambda n: n == 4
        study = studies.make(table, methods=["misbehaving"])
        with pytest.raises(ValueError, match="not this one"):
            run(study, tmp_path / "out", strict=True)
        assert load_study(tmp_path / "out").missing == (1, 2)
        assert not any((tmp_path / "out" / "leases").iterdir())
        assert run(study, tmp_path / "out", strict=True).missing == ()

    def test_ctrl_c_keeps_what_is_finished(self, tmp_path: Path, table: Path, misbehaving: dict[str, Any]) -> None:
        misbehaving |= {"fails": lambda n: n == 5, "error": KeyboardInterrupt()}
        with pytest.raises(KeyboardInterrupt):
            run(studies.make(table, methods=["misbehaving"]), tmp_path / "out")
        assert load_study(tmp_path / "out").missing == (2,)
        assert not any((tmp_path / "out" / "leases").iterdir())

    def test_pictures_without_a_usable_label_fail_alone(self, tmp_path: Path, table: Path) -> None:
        rows = table.read_text().splitlines()
        rows[1], rows[2] = rows[1].replace(",0,", ",,"), rows[2].replace(",1,", ",unicorn,")
        rows[3] = rows[3].replace(",2,", ",99,")
        table.write_text("\n".join(rows) + "\n")
        found = run(studies.make(table, target="label"), tmp_path / "out")
        told = dict(zip(found.failures["image"].to_pylist(), found.failures["message"].to_pylist(), strict=True))
        assert "must have a label" in told["0.png"]
        assert "a class of the model; got 'unicorn'" in told["1.png"]
        assert set(told) == {"0.png", "1.png", "2.png"}

    def test_damaged_files_are_told(self, tmp_path: Path, table: Path) -> None:
        run(studies.make(table), tmp_path / "out")
        (tmp_path / "out" / "shards" / "00001.parquet").write_bytes(b"PAR1")
        with pytest.raises(OutputError, match="must be whole"):
            load_study(tmp_path / "out").scores  # noqa: B018


def test_the_progress_bar_counts_all_images_and_begins_where_it_was(
    tmp_path: Path, table: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run(studies.make(table), tmp_path / "out", shard=(0, 3))
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    studies.make(table).run(tmp_path / "out")
    err = capsys.readouterr().err
    assert "2/6" in err
    assert "6/6" in err
    assert "image/s" in err or "s/image" in err


def test_a_result_of_nothing_yet_can_be_looked_at(tmp_path: Path, table: Path) -> None:
    study = studies.make(table)
    running.begin(store.Store.at(tmp_path / "out"), running.Worker(study), force=False)
    found = load_study(tmp_path / "out")
    assert found.images == ()
    assert found.matrix("srg").values.shape == (0, 5)
    assert "3 of 3 shards are missing" in found.to_text()
    assert replace(found, manifest=found.manifest).methods == ("saliency", "gradcam")


def test_pictures_may_come_as_they_are(tmp_path: Path) -> None:
    photos = {"one": picture(1), "two": picture(2)}
    found = run(Study(studies.network(), photos, "saliency", "srg", studies.FEW, controls=False), tmp_path / "out")
    assert found.images == ("one", "two")
    assert METRICS["srg"].higher_is_better is found.higher_is_better("srg")
