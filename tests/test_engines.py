"""Studies on Ray: the scores of the local engine, byte for byte, also where workers are killed."""

from __future__ import annotations

import os
import sys
import textwrap
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from attrib.cli import main
from attrib.errors import InputError, MissingDependency
from attrib.study import Study, load_study, running
from attrib.study.engines import RETRIES
from tests import studies

pytest.importorskip("pyarrow")

# A model whose process is killed in the middle of a shard, as long as the file "deadly" is there.
MORTAL = """
import os, signal
from pathlib import Path
import torch
from tests import studies

TRIGGER = Path(__file__).with_name("deadly")

class Mortal(torch.nn.Module):
    def __init__(self, net):
        super().__init__()
        self.net, self.calls = net, 0

    def forward(self, x):
        self.calls += 1
        if self.calls == 9 and TRIGGER.exists():
            with Path(__file__).with_name("deaths").open("a") as file:
                print(os.getpid(), file=file)
            if not TRIGGER.read_text():
                TRIGGER.unlink()
            os.kill(os.getpid(), signal.SIGKILL)
        return self.net(x)

def make():
    with Path(__file__).with_name("loads").open("a") as file:
        print(os.getpid(), file=file)
    whole = studies.network()
    return Mortal(whole.model), whole.preprocess, whole.categories
"""


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Sums of the last bit may depend on threads; workers of Ray have one each."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The working directory: photos, and the model ``mortal:make``."""
    studies.photos(tmp_path / "photos")
    (tmp_path / "mortal.py").write_text(textwrap.dedent(MORTAL))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(studies.ROOT))  # for the workers; an installed attrib needs no such thing
    yield tmp_path
    sys.modules.pop("mortal", None)


def mortal(shard_size: int = 1, **options: Any) -> Study:
    return studies.make("photos/table.csv", model="mortal:make", shard_size=shard_size, **options)


class TestWithoutRay:
    def test_the_extra_is_named(self, desk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "ray", None)
        with pytest.raises(MissingDependency, match=r"engine='ray' needs ray: pip install 'attrib\[ray\]'"):
            mortal().run("out", engine="ray", show_progress=False)
        assert not Path("out").exists()

    def test_choices_that_make_no_sense_are_refused_before_anything_is_loaded(self, desk: Path) -> None:
        for options, words in (
            ({"engine": "rey"}, "engine must be one of 'local', 'ray'; got 'rey'"),
            ({"address": "auto"}, "address must be None unless engine='ray'; got 'auto'"),
        ):
            with pytest.raises(InputError, match=words):
                mortal().run("out", **options)  # type: ignore[arg-type]
        assert not Path("loads").exists()

    def test_a_certain_gpu_is_for_ray_to_choose(self, desk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "ray", SimpleNamespace())
        with pytest.raises(InputError, match=r"device must be 'cpu' or 'cuda' on Ray, .*; got 'cuda:1'"):
            mortal().run("out", engine="ray", device="cuda:1", show_progress=False)


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
class TestOnRay:
    def test_a_killed_worker_changes_nothing(self, desk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        ray = pytest.importorskip("ray")
        mortal().run("local", show_progress=False)
        Path("loads").unlink()
        Path("deadly").touch()
        steps: list[int] = []
        monkeypatch.setattr(running, "tqdm", lambda **given: nullcontext(SimpleNamespace(update=steps.append)))
        found = mortal().run("ray", engine="ray")
        assert steps == [1] * 6
        assert len(Path("deaths").read_text().split()) >= 1
        assert found.missing == ()
        assert studies.scores(desk / "ray") == studies.scores(desk / "local")
        assert found.manifest["totals"]["images"] == 6
        assert not any(Path("ray/leases").iterdir())
        loads = Path("loads").read_text().split()
        assert len(loads) == len(set(loads)), "a process loads the model once"
        assert str(os.getpid()) not in loads
        assert not ray.is_initialized()

    def test_in_a_cluster_that_is_there_only_our_own_errors_stop_a_study(
        self, desk: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
    ) -> None:
        ray = pytest.importorskip("ray")
        ray.init(num_cpus=1, include_dashboard=False, logging_level="ERROR", address="local")
        try:
            Path("deadly").write_text("again and again")
            found = mortal(shard_size=6).run("dead", engine="ray", show_progress=False)
            assert (found.missing, len(Path("deaths").read_text().split())) == ((0,), 1 + RETRIES)
            assert "shard 0 was given up, run the study again to compute it: " in caplog.text
            Path("deadly").unlink()
            assert mortal(shard_size=6).run("dead", engine="ray", show_progress=False).missing == ()

            with pytest.raises(InputError, match="got another seed"):
                mortal(shard_size=6, seed=1).run("dead", engine="ray", show_progress=False)

            live = studies.make(Path("photos/table.csv"), model=studies.network())  # sent to the workers
            live.run("here", show_progress=False)
            (desk / "photos" / "4.png").write_bytes(b"broken")
            with pytest.raises(InputError, match="image"):
                live.run("there", engine="ray", strict=True, show_progress=False)
            assert live.run("there", engine="ray", show_progress=False).failures["image"].to_pylist() == ["4.png"]
            same = [f"{part}/0000{shard}.parquet" for part in ("shards", "images", "curves") for shard in (0, 1)]
            assert all((desk / "here" / one).read_bytes() == (desk / "there" / one).read_bytes() for one in same)

            with pytest.raises(InputError, match="address must be None where Ray is in use already; got 'auto'"):
                live.run("there", engine="ray", address="auto")

            given = ["--model", studies.MODEL, "--data", "photos/table.csv", "--methods", "saliency"]
            given += ["--metrics", "srg", "--out", "cli", "--engine", "ray", "--shard-size", "2"]
            (desk / "photos" / "4.png").write_bytes((desk / "photos" / "3.png").read_bytes())
            assert main(["benchmark", *given]) == 0
            assert "saliency" in capsys.readouterr().out
            assert load_study("cli").missing == ()
            assert ray.is_initialized()
        finally:
            ray.shutdown()

    def test_a_cluster_that_is_not_there_is_told(self, desk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        ray = pytest.importorskip("ray")

        def refuse(**options: Any) -> None:
            raise ConnectionError(f"nobody at {options['address']}")

        monkeypatch.setattr(ray, "init", refuse)
        monkeypatch.delenv("RAY_USAGE_STATS_ENABLED", raising=False)
        with pytest.raises(InputError, match="must be of a running Ray cluster; got 'host:1': nobody at host:1"):
            mortal().run("out", engine="ray", address="host:1", show_progress=False)
        assert "RAY_USAGE_STATS_ENABLED" not in os.environ
