"""The command line: what goes to which stream, what an exit code means, and that no run leaves half a result."""

from __future__ import annotations

import json
import logging
import re
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import attrib
from attrib import METHODS, METRICS, Attribution
from attrib.cli import main
from attrib.core import Query
from attrib.registry import CONTROLS
from attrib.report import load_explanation
from tests import nets

ROOT = Path(__file__).parent.parent
MODELS = """
import torch
from attrib.io import Preprocess
from tests import nets

TINY = Preprocess(resize=12, crop=10)
NAMES = ("ant", "bee", "cat", "dog", "eel")


def make():
    return nets.make("module"), TINY, NAMES


def smooth():
    return nets.make("silu"), TINY, NAMES


def packed():
    return nets.make("dict"), TINY, NAMES


def flat():
    return nets.fill(nets.Linear(10, 10)), TINY, NAMES


def loud():
    print("hello from the model")
    return make()


def guessed():
    return nets.make("module")


def broken():
    raise ZeroDivisionError("no model today")
"""
FAST = ["--method", "saliency", "--method", "gradcam"]


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with two pictures, a broken one and some models; attrib runs in it."""
    (tmp_path / "photos").mkdir()
    for i, name in enumerate(("a", "b")):
        noise = np.random.default_rng(i).integers(0, 256, (12, 16, 3), dtype=np.uint8)
        Image.fromarray(noise).save(tmp_path / "photos" / f"{name}.png")
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 broken")
    (tmp_path / "tiny_models.py").write_text(MODELS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(ROOT)
    monkeypatch.delitem(sys.modules, "tiny_models", raising=False)
    return tmp_path


@pytest.fixture
def run(desk: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Run attrib with these arguments; exit code, standard output, standard error."""

    def run(*arguments: str) -> tuple[int, str, str]:
        code = main(arguments)
        return code, *capsys.readouterr()

    return run


@pytest.fixture
def stopped() -> Any:
    """A registered method that is interrupted."""

    @METHODS.add("stopped")
    class Stopped(Attribution):
        """Never ends."""

        def _attribute(self, query: Query) -> Tensor:
            raise KeyboardInterrupt

    yield
    METHODS.remove("stopped")


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def refuse_constants(name: str) -> None:
    raise AssertionError(f"{name} is not JSON")


class TestExplain:
    def test_prints_what_was_explained_and_what_it_took(self, run: Any) -> None:
        code, out, err = run("explain", "photos", "--model", "tiny_models:make", *FAST)
        assert code == 0
        assert out.startswith("a.png: ")
        assert [line.split()[0] for line in out.splitlines()[4:6]] == ["saliency", "gradcam"]
        assert "attrib: layer='auto': picked 'act2', the last spatial layer of Chain" in err

    def test_sets_options_of_methods_and_keeps_them_in_the_manifest(self, run: Any, desk: Path) -> None:
        shown = ["--method", "occlusion", "--method", "saliency"]
        settings = [
            "occlusion.window=(4, 5)",
            "occlusion.baseline=mean",
            "saliency.channels=l2",
            "saliency.absolute=false",
        ]
        given = [word for setting in settings for word in ("--set", setting)]
        assert run("explain", "photos/a.png", "-m", "tiny_models:make", *shown, *given, "-t", "3", "-o", "run")[0] == 0
        loaded = attrib.load_model("tiny_models:make")
        x = loaded.inputs([attrib.load_image("photos/a.png")])
        expected = attrib.Occlusion(loaded.model, window=(4, 5), baseline="mean").attribute(x, 3)
        np.testing.assert_array_equal(np.load(desk / "run" / "maps" / "occlusion" / "3.npy"), expected)
        expected = attrib.Saliency(loaded.model, channels="l2", absolute=False).attribute(x, 3)
        np.testing.assert_array_equal(np.load(desk / "run" / "maps" / "saliency" / "3.npy"), expected)
        assert '"mean"' in (desk / "run" / "manifest.json").read_text()
        assert run("compare", "photos", "-m", "tiny_models:make", *shown, *given)[0] == 0

    @pytest.mark.parametrize(
        ("words", "says"),
        [
            ("window=4", "--set must be METHOD.OPTION=VALUE"),
            ("rise.n=4", "--set must be for a method that is run, saliency, gradcam; got 'rise.n=4'"),
            ("saliency.windw=4", "--set must name options of saliency: .*windw"),
            ("saliency.absolute=no", "absolute must be True or False; got 'no'"),
            ("saliency.channels=maxx", "channels must be one of .*Did you mean 'max'"),
        ],
    )
    def test_a_wrong_option_is_a_usage_error_before_anything_is_loaded(self, run: Any, words: str, says: str) -> None:
        code, out, err = run("explain", "photos", "-m", "no_such:model", *FAST, "--set", words)
        assert (code, out) == (2, "")
        assert re.search(says, err), err

    def test_writes_a_new_directory_with_maps_figures_and_manifest(self, run: Any, desk: Path) -> None:
        arguments = ["explain", "photos/a.png", "-m", "tiny_models:make", *FAST, "-t", "bee", "-t", "3", "--out", "run"]
        assert run(*arguments)[0] == 0
        assert files(desk / "run") == {
            "manifest.json",
            "inputs.npy",
            "maps/saliency/bee.npy",
            "maps/saliency/3.npy",
            "maps/gradcam/bee.npy",
            "maps/gradcam/3.npy",
            "figures/a.png",
        }
        told = json.loads((desk / "run" / "manifest.json").read_text(), parse_constant=refuse_constants)
        assert told["command"] == ["attrib", *arguments]
        assert (told["seed"], told["model"]["class"]) == (0, "Chain")
        assert [row["name"] for rows in told["targets"].values() for row in rows] == ["bee", "dog"]

    def test_the_same_command_twice_writes_the_same_maps(self, run: Any, desk: Path) -> None:
        for name in ("one", "two"):
            run("explain", "photos", "-m", "tiny_models:make", *FAST, "--out", name, "--no-figures")
        assert files(desk / "one") == files(desk / "two")
        for name in files(desk / "one") - {"manifest.json"}:
            assert (desk / "one" / name).read_bytes() == (desk / "two" / name).read_bytes()

    def test_result_is_that_of_the_function(self, run: Any, desk: Path) -> None:
        run(
            "explain",
            "photos",
            "-m",
            "tiny_models:make",
            "--method",
            "saliency",
            "-t",
            "1",
            "--out",
            "run",
            "--no-figures",
        )
        expected = attrib.explain("tiny_models:make", desk / "photos", "saliency", 1)
        stored = load_explanation(desk / "run")
        assert torch.equal(stored.maps["saliency"]["1"], expected.maps["saliency"]["1"])

    def test_layer_and_units_reach_the_method(self, run: Any) -> None:
        code, out, _ = run("explain", "photos/a.png", "-m", "tiny_models:make", "--method", "gradcam", "--layer", "conv1", "-t", "conv2:1", "--json")  # fmt: skip  # noqa: E501
        told = json.loads(out)
        assert code == 0
        assert told["methods"]["gradcam"]["layer"] == "conv1"
        assert told["targets"]["conv2:1"][0]["index"] is None

    def test_weights_come_from_a_file(self, run: Any, desk: Path) -> None:
        torch.save(nets.fill(nets.Chain(), seed=5).state_dict(), desk / "other.pt")
        hashes = [
            json.loads(
                run("explain", "photos/a.png", "-m", "tiny_models:make", *more, "--method", "saliency", "--json")[1]
            )
            for more in ([], ["--weights", "other.pt"])
        ]
        assert hashes[0]["model"]["sha256"] != hashes[1]["model"]["sha256"]
        assert hashes[1]["model"]["weights"] == "file other.pt"

    def test_a_method_that_cannot_work_is_reported_and_the_rest_written(self, run: Any, desk: Path) -> None:
        code, out, err = run("explain", "photos", "-m", "tiny_models:smooth", "--method", "guided", "--method", "saliency", "--out", "run", "--no-figures")  # fmt: skip  # noqa: E501
        assert code == 1
        assert "attrib: warning: guided, target predicted: RuleError: no activation was overridden" in err
        assert "failed: guided" in out
        assert files(desk / "run") == {"manifest.json", "inputs.npy", "maps/saliency/predicted.npy"}

    def test_a_broken_image_is_reported_and_the_rest_explained(self, run: Any) -> None:
        code, out, err = run("explain", "broken.jpg", "photos", "-m", "tiny_models:make", "--method", "saliency")
        assert code == 1
        assert "a.png: " in out
        assert "broken.jpg: InputError: image must be a" in err


class TestCompare:
    def test_prints_every_method_and_control_under_its_protocol(self, run: Any) -> None:
        code, out, _ = run("compare", "photos", "-m", "tiny_models:make", *FAST, "--metric", "srg")
        assert code == 0
        assert out.startswith("protocol: baseline=zero")
        for row in ("saliency", "gradcam", "random (control)", "centre (control)", "edges (control)"):
            assert any(line.startswith(row) for line in out.splitlines())

    def test_writes_scores_curves_maps_and_figures(self, run: Any, desk: Path) -> None:
        assert run("compare", "photos", "-m", "tiny_models:make", *FAST, "--out", "run")[0] == 0
        written = files(desk / "run")
        assert {"manifest.json", "scores.json", "table.md", "figures/curves.png", "figures/a.png"} <= written
        assert {"maps/a/gradcam.npy", "curves/saliency.npy", "curves/random.npy"} <= written

    def test_maps_and_controls_can_be_left_out(self, run: Any, desk: Path) -> None:
        assert run("compare", "photos", "-m", "tiny_models:make", *FAST, "--no-maps", "--no-controls", "--no-figures", "--out", "run")[0] == 0  # fmt: skip  # noqa: E501
        written = files(desk / "run")
        assert written == {"manifest.json", "scores.json", "table.md", "curves/saliency.npy", "curves/gradcam.npy"}

    def test_seed_changes_the_random_control_and_nothing_else(self, run: Any) -> None:
        def scores(seed: str) -> dict[str, float]:
            told = json.loads(run("compare", "photos", "-m", "tiny_models:make", *FAST, "--metric", "srg", "--seed", seed, "--json")[1])  # fmt: skip  # noqa: E501
            return {row["method"]: row["srg"] for row in told["table"]}

        one, same, other = scores("0"), scores("0"), scores("9")
        assert one == same
        assert {name for name in one if one[name] != other[name]} == {"random"}

    def test_protocol_reaches_the_measurement(self, run: Any) -> None:
        told = json.loads(run("compare", "photos", "-m", "tiny_models:make", *FAST, "--protocol", "rise", "--json")[1])
        assert (told["protocol"]["steps"], told["protocol"]["insertion_baseline"]) == ("rows", "rise_blur")
        out = run("compare", "photos", "-m", "tiny_models:make", *FAST, "--protocol", "adaptive")[1]
        assert "steps=adaptive (tolerance 0.01 of the range, among 225 points)" in out.partition("\n")[0]

    def test_a_broken_image_is_reported_and_the_rest_compared(self, run: Any, desk: Path) -> None:
        code, out, err = run("compare", "photos", "broken.jpg", "-m", "tiny_models:make", *FAST, "--json", "--out", "run", "--no-figures")  # fmt: skip  # noqa: E501
        told = json.loads(out)
        assert code == 1
        assert [row["image"] for row in told["images"]] == ["a.png", "b.png"]
        assert [failure["image"] for failure in told["failures"]] == ["broken.jpg"]
        assert "broken.jpg" in err
        assert (desk / "run" / "manifest.json").exists()

    @pytest.mark.usefixtures("stopped")
    def test_ctrl_c_leaves_nothing_behind(self, run: Any, desk: Path) -> None:
        before = files(desk)
        for command in ("compare", "explain"):
            code, out, err = run(command, "photos", "-m", "tiny_models:make", "--method", "saliency", "--method", "stopped", "--out", "deep/run")  # fmt: skip  # noqa: E501
            assert (code, out) == (130, "")
            assert err.splitlines()[-1] == "attrib: error: interrupted; nothing was written."
            assert "Traceback" not in err
            assert not (desk / "deep").exists()
            assert {name for name in files(desk) - before if "__pycache__" not in name} == set()

    def test_ctrl_c_before_the_work_ends_it_too(self, run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        def stop(*args: Any, **kwargs: Any) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr("attrib.cli.commands.typer.echo", stop)
        assert run("--version")[0] == 130


class TestLookingUp:
    def test_everything_registered_is_listed(self, run: Any) -> None:
        told = json.loads(run("list", "--json")[1])
        assert {kind: [entry["name"] for entry in entries] for kind, entries in told.items()} == {
            "methods": list(METHODS),
            "metrics": list(METRICS),
            "controls": list(CONTROLS),
        }
        assert all(entry["summary"] for entries in told.values() for entry in entries)

    def test_a_plug_in_is_listed_at_once(self, run: Any, stopped: None) -> None:
        assert re.search(r"^  stopped +Never ends\.$", run("list", "methods")[1], re.MULTILINE)

    def test_layers_are_listed_in_the_order_in_which_they_run(self, run: Any) -> None:
        code, out, _ = run("layers", "tiny_models:make")
        assert code == 0
        assert [line.strip("* ").split()[0] for line in out.splitlines()[1:]] == ["conv1", "act1", "pool", "conv2", "act2", "fc"]  # fmt: skip  # noqa: E501
        assert next(line for line in out.splitlines() if line.startswith("* ")).split()[1] == "act2"

    def test_layers_of_a_model_without_a_spatial_one_are_listed_too(self, run: Any) -> None:
        told = json.loads(run("layers", "tiny_models:flat", "--json")[1])
        assert [(row["layer"], row["auto"], row["shape"]) for row in told] == [("fc", False, [5])]

    def test_help_names_the_commands_and_loads_nothing_heavy(self) -> None:
        code = "import sys\nfrom attrib.cli import main\nmain(['--help'])\nprint(sorted({'torch', 'captum', 'matplotlib', 'numpy'} & set(sys.modules)))"  # fmt: skip  # noqa: E501
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
        assert all(f"\n  {name}" in done.stdout for name in ("list", "layers", "explain", "compare", "demo"))
        assert done.stdout.splitlines()[-1] == "[]"

    def test_version_is_told(self, run: Any) -> None:
        assert run("--version") == (0, f"attrib {attrib.__version__}\n", "")

    def test_no_command_shows_the_help_as_a_wrong_use(self, run: Any) -> None:
        code, out, err = run()
        assert (code, out) == (2, "")
        assert "Commands:" in err

    def test_is_the_module_too(self) -> None:
        done = subprocess.run([sys.executable, "-m", "attrib", "--version"], capture_output=True, text=True, cwd=ROOT, check=True)  # fmt: skip  # noqa: E501
        assert done.stdout == f"attrib {attrib.__version__}\n"


class TestStreams:
    @pytest.mark.parametrize("command", ["explain", "compare"])
    def test_json_is_all_that_standard_output_gets(self, run: Any, command: str) -> None:
        code, out, err = run(command, "photos", "-m", "tiny_models:loud", *FAST, "--json")
        assert code == 0
        json.loads(out, parse_constant=refuse_constants)
        assert "hello from the model" in err

    def test_quiet_says_nothing_but_the_result(self, run: Any) -> None:
        code, out, err = run("compare", "photos", "-m", "tiny_models:make", *FAST, "--quiet")
        assert (code, err) == (0, "")
        assert out

    def test_notes_of_the_run_go_to_standard_error(self, run: Any) -> None:
        _, out, err = run("compare", "photos", "-m", "tiny_models:make", *FAST)
        assert "attrib: a.png: " in err
        assert "attrib:" not in out

    def test_a_note_is_not_said_again_for_every_image(self, run: Any) -> None:
        _, _, err = run(
            "compare", "photos", "-m", "tiny_models:make", "--method", "gradcam", "--method", "guided_gradcam"
        )
        assert len(err.splitlines()) == len(set(err.splitlines()))
        assert "layer='auto'" in err

    def test_a_reader_that_has_seen_enough_is_no_error(self) -> None:
        code = f"{sys.executable} -m attrib list | head -n 1"
        done = subprocess.run(["bash", "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)  # noqa: S607
        assert (done.stdout, done.stderr) == ("methods\n", "")

    def test_warnings_are_told_in_one_line(self, run: Any) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("default")
            _, _, err = run("layers", "tiny_models:guessed")
        (line,) = [line for line in err.splitlines() if "warning" in line]
        assert line.startswith("attrib: warning: 'tiny_models:guessed' gave no preprocessing")

    def test_logging_is_left_as_it_was(self, run: Any) -> None:
        log = logging.getLogger("attrib")
        before = (log.level, log.propagate, list(log.handlers))
        run("layers", "tiny_models:make", "--debug")
        run("explain", "nowhere.png", "-m", "tiny_models:make")
        assert (log.level, log.propagate, list(log.handlers)) == before


class TestErrors:
    @pytest.mark.parametrize(
        ("arguments", "code", "words"),
        [
            (
                ["explain", "nowhere.png", "-m", "tiny_models:make"],
                2,
                "image must be an existing file; got 'nowhere.png'.",
            ),
            (["explain", "broken.jpg", "-m", "tiny_models:make"], 1, "image must be a"),
            (["explain", "photos", "-m", "resnet81"], 2, "Did you mean 'resnet18'"),
            (["explain", "photos", "-m", "tiny_models:mkae"], 2, "'tiny_models' has no 'mkae'. Did you mean 'make'?"),
            (["explain", "photos", "-m", "tiny_models:broken"], 1, "it raised ZeroDivisionError: no model today"),
            (
                ["explain", "photos", "-m", "tiny_models:packed"],
                1,
                "must return one Tensor for a class target; it returned",
            ),
            (["explain", "photos", "-m", "tiny_models:make", "-w", "no.pt"], 2, "weights must be an existing file or"),
            (["explain", "photos", "-m", "tiny_models:make", "-w", "wrong.pt"], 2, "must fit Chain; got 6 missing"),
            (
                ["explain", "photos", "-m", "tiny_models:make", "-w", "broken.jpg"],
                2,
                "weights must be an undamaged file of tensors",
            ),
            (["explain", "photos", "-m", "tiny_models:make", "--method", "grad-cam"], 2, "Did you mean 'gradcam'"),
            (["explain", "photos", "-m", "tiny_models:make", "-t", "99"], 2, "target must lie in [0, 4]"),
            (["explain", "photos", "-m", "tiny_models:make", "-t", "-1"], 2, "target must lie in [0, 4]"),
            (["explain", "photos", "-m", "tiny_models:make", "-t", "tabby"], 2, "got 'tabby'"),
            (
                ["explain", "photos", "-m", "tiny_models:make", "--layer", "conv9"],
                2,
                "no layer 'conv9'. Did you mean 'conv2' or 'conv1'?",
            ),
            (
                ["explain", "photos", "-m", "tiny_models:make", "--method", "gradcam", "--layer", "fc"],
                2,
                "must be spatial",
            ),
            (["explain", "photos", "-m", "tiny_models:make", "--device", "gpu"], 2, "got 'gpu'"),
            (
                ["explain", "photos", "-m", "tiny_models:make", "--device", "cuda:99"],
                2,
                "device must be present; got 'cuda:99'",
            ),
            (["explain", "photos", "-m", "tiny_models:make", "--out", "photos"], 1, "must be a new or empty directory"),
            (
                ["explain", "photos", "-m", "tiny_models:make", "--out", "broken.jpg/run"],
                1,
                "a directory that can be made",
            ),
            (["compare", "photos", "-m", "tiny_models:make", "--metric", "deletoin"], 2, "Did you mean 'deletion'"),
            (
                ["compare", "photos", "-m", "tiny_models:make", "--protocol", "rice"],
                2,
                "got 'rice'. Did you mean 'rise'?",
            ),
            (["compare", "photos", "-m", "tiny_models:make", "--batch-size", "0"], 2, "Try 'attrib compare --help'."),
            (["compare", "photos"], 2, "Try 'attrib compare --help'."),
            (["list", "method"], 2, "got 'method'. Did you mean 'methods'"),
            (["explian"], 2, "Try 'attrib --help'."),
        ],
        ids=lambda value: " ".join(value[:6]) if isinstance(value, list) else None,
    )
    def test_are_one_line_and_an_exit_code(
        self, run: Any, desk: Path, arguments: list[str], code: int, words: str
    ) -> None:
        torch.save(nn.Linear(2, 2).state_dict(), desk / "wrong.pt")
        before = files(desk)
        found, out, err = run(*arguments)
        (line,) = [line for line in err.splitlines() if line.startswith("attrib: error: ")]
        assert words in line
        assert (found, out) == (code, "")
        assert "Traceback" not in err
        assert {name for name in files(desk) - before if "__pycache__" not in name} == set()

    def test_show_the_traceback_only_with_debug(self, run: Any) -> None:
        arguments = ["explain", "photos", "-m", "tiny_models:broken"]
        assert "Traceback" not in run(*arguments)[2]
        code, _, err = run(*arguments, "--debug")
        assert code == 1
        assert "Traceback (most recent call last)" in err
        assert "ZeroDivisionError" in err

    def test_nobody_expected_are_told_too(self, run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(*args: Any, **kwargs: Any) -> None:
            raise KeyError("surprise")

        monkeypatch.setattr("attrib.tasks.explain", fail)
        code, _, err = run("explain", "photos", "-m", "tiny_models:make")
        assert code == 1
        assert err == "attrib: error: unexpected KeyError: 'surprise'. Add --debug for the traceback.\n"

    def test_of_writing_come_before_the_work(self, run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        def never(*args: Any, **kwargs: Any) -> None:
            raise AssertionError("work was done")

        monkeypatch.setattr("attrib.tasks.compare", never)
        assert (
            "must be a new or empty directory"
            in run("compare", "photos", "-m", "tiny_models:make", "--out", "photos")[2]
        )

    def test_a_huge_picture_is_refused_before_it_is_unpacked(self, run: Any, desk: Path) -> None:
        bomb = (
            b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\xff\xff\x00\x00\xff\xff\x08\x02\x00\x00\x00"
            b"\xaa\xa3\x10\xb1"  # 65535 x 65535 RGB
        )
        import zlib

        head = bomb[:29] + zlib.crc32(bomb[12:29]).to_bytes(4, "big")
        data = zlib.compress(b"\x00" * 1000)
        body = len(data).to_bytes(4, "big") + b"IDAT" + data + zlib.crc32(b"IDAT" + data).to_bytes(4, "big")
        (desk / "bomb.png").write_bytes(head + body + b"\x00\x00\x00\x00IEND\xaeB`\x82")
        code, _, err = run("explain", "bomb.png", "-m", "tiny_models:make")
        assert code == 1
        assert "image must have at most 89,478,485 pixels; got 4,294,836,225" in err


class TestDemo:
    @pytest.fixture
    def small(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The demo with a tiny network instead of the real one."""

        def model() -> Any:
            return attrib.load_model("tiny_models:make")

        def images() -> dict[str, Image.Image]:
            return {"chelsea": Image.open("photos/a.png"), "coffee": Image.open("photos/b.png")}

        monkeypatch.setattr("attrib.io.demo_model", model)
        monkeypatch.setattr("attrib.io.demo_images", images)

    @pytest.mark.usefixtures("small")
    def test_names_the_classes_draws_each_photo_and_the_curves_and_prints_the_table(self, run: Any, desk: Path) -> None:
        code, out, err = run("demo", "--out", "demo")
        assert code == 0
        assert {"figures/chelsea.png", "figures/coffee.png", "figures/curves.png", "table.md"} <= files(desk / "demo")
        assert "chelsea: " in out
        assert "random (control)" in out
        assert err.splitlines()[-1] == "attrib: figures, raw maps and numbers are in demo"

    @pytest.mark.usefixtures("small")
    def test_is_not_written_over_an_earlier_one(self, run: Any) -> None:
        run("demo", "--out", "demo", "--method", "saliency")
        code, _, err = run("demo", "--out", "demo", "--method", "saliency")
        assert code == 1
        assert "must be a new or empty directory" in err

    def test_says_what_to_install_where_its_packages_are_missing(self, run: Any, desk: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip  # noqa: E501
        monkeypatch.setitem(sys.modules, "efficientnet_lite_pytorch", None)
        code, out, err = run("demo", "--out", "demo")
        assert (code, out) == (1, "")
        assert "pip install 'attrib[demo]'" in err
        assert not (desk / "demo").exists()
