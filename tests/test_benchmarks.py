"""The benchmark on a tiny network: what it writes, and that what it writes is true."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
import torch

from benchmarks import contenders, measure, speed, table

METHODS = list(contenders.CONTENDERS)
PAGE = "# Speed\n\nbefore\n\n<!-- speed: begin -->\nold\n<!-- speed: end -->\n\nafter\n"
with_pgc = pytest.mark.skipif(find_spec("pytorch_grad_cam") is None, reason="needs attrib[bench]")


def refuse(constant: str) -> NoReturn:
    raise AssertionError(f"{constant} is no strict JSON")


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page with markers, and speed.json beside it, from a real run."""
    folder = tmp_path_factory.mktemp("bench")
    page = folder / "README.md"
    page.write_text(PAGE)
    arguments = ["--nets", "tiny", "--size", "28", "--repeats", "4", "--threads", "1", "--no-memory"]
    assert speed.main([*arguments, "--out", str(folder / "new" / "speed.json"), "--table", str(page)]) == 0
    return page


@pytest.fixture(scope="module")
def results(page: Path) -> dict[str, Any]:
    text = (page.parent / "new" / "speed.json").read_text()
    return json.loads(text, parse_constant=refuse)  # type: ignore[no-any-return]


def test_every_method_is_measured(results: dict[str, Any]) -> None:
    assert [cell["method"] for cell in results["results"]] == METHODS
    assert {cell["net"] for cell in results["results"]} == {"tiny"}


def test_the_contenders_give_the_same_numbers(results: dict[str, Any]) -> None:
    found = {
        (cell["method"], name): one["difference"]
        for cell in results["results"]
        for name, one in cell["contenders"].items()
        if name != contenders.OURS
    }
    assert max(found.values()) < table.AGREE
    assert {method for method, name in found if name == contenders.CAPTUM} == set(METHODS)


def test_ratios_are_paired_by_repeat(results: dict[str, Any]) -> None:
    for cell in results["results"]:
        ours, theirs = (np.array(cell["contenders"][name]["seconds"]) for name in (contenders.OURS, contenders.CAPTUM))
        assert len(ours) == len(theirs) == 4
        expected = np.quantile(theirs / ours, [0.25, 0.5, 0.75])
        ratio = cell["contenders"][contenders.CAPTUM]["ratio"]
        np.testing.assert_allclose([ratio["q25"], ratio["median"], ratio["q75"]], expected)


def test_the_results_say_where_when_and_how_they_were_measured(results: dict[str, Any]) -> None:
    about, how = results["metadata"], results["settings"]
    assert about["versions"]["torch"] == torch.__version__.split("+")[0] or torch.__version__.startswith(
        about["versions"]["torch"]
    )
    assert about["versions"]["captum"]
    assert about["machine"]["device"]
    assert about["machine"]["cores"] >= 1
    assert len(about["date"]) == len("2026-01-31")
    assert how["threads"] == 1
    assert how["size"] == 28
    assert how["occlusion_window"] == 4
    assert how["weights"] == "random"


def test_the_table_replaces_what_stands_between_the_markers(page: Path, results: dict[str, Any]) -> None:
    text = page.read_text()
    assert text.startswith("# Speed\n\nbefore\n\n<!-- speed: begin -->\n")
    assert text.endswith("<!-- speed: end -->\n\nafter\n")
    assert "old" not in text
    assert table.table(results) in text
    assert sum(line.startswith("| tiny | ") for line in text.splitlines()) == len(METHODS)


def test_writing_the_table_again_changes_nothing(page: Path, results: dict[str, Any]) -> None:
    before = page.read_text()
    table.update(page, results)
    assert page.read_text() == before


def test_the_table_of_the_repository_is_the_one_of_its_results() -> None:
    file = speed.HERE / "results" / "speed.json"
    if not file.exists():
        pytest.skip("no results yet")
    results = json.loads(file.read_text(), parse_constant=refuse)
    assert table.table(results) in (speed.HERE / "README.md").read_text()


@pytest.mark.parametrize("text", ["no markers", "<!-- speed: begin -->", PAGE + PAGE])
def test_a_page_without_its_markers_is_refused(text: str, tmp_path: Path, results: dict[str, Any]) -> None:
    page = tmp_path / "README.md"
    page.write_text(text)
    with pytest.raises(SystemExit, match="once each"):
        table.update(page, results)
    assert page.read_text() == text


def outcome(low: float, median: float, high: float, difference: float = 0.0) -> dict[str, Any]:
    """A cell in which Captum took so many times as long as attrib."""
    ours = {"seconds": [0.1], "median": 0.1, "q25": 0.1, "q75": 0.1, "peak_bytes": 25_000_000}
    ratio = {"median": median, "q25": low, "q75": high}
    theirs = ours | {"ratio": ratio, "difference": difference, "peak_bytes": None}
    return {"net": "tiny", "method": "saliency", "contenders": {"attrib": ours, "captum": theirs}}


def told(results: dict[str, Any], *cells: dict[str, Any]) -> str:
    return table.table(results | {"results": list(cells)})


def test_losses_are_shown_and_counted_as_wins_are(results: dict[str, Any]) -> None:
    text = told(results, outcome(1.1, 1.2, 1.3), outcome(0.9, 1.1, 1.2), outcome(0.7, 0.8, 0.9), outcome(0.5, 0.6, 0.7))
    assert "Against Captum attrib is faster in 1, even in 1, slower in 2 of 4." in text
    assert "| 1.20 [1.10, 1.30] faster |" in text
    assert "| 1.10 [0.90, 1.20] even |" in text
    assert "| 0.80 [0.70, 0.90] **slower** |" in text


def test_times_are_in_milliseconds_with_quartiles(results: dict[str, Any]) -> None:
    cell = outcome(1.1, 1.2, 1.3)
    cell["contenders"]["attrib"] |= {"median": 12.3456, "q25": 0.0123456, "q75": 20.0}
    assert "| tiny | saliency | 12346 [12.3, 20000] |" in told(results, cell)


def test_numbers_that_differ_are_marked_and_named(results: dict[str, Any]) -> None:
    text = told(results, outcome(1.1, 1.2, 1.3, difference=0.25))
    assert "1.20 [1.10, 1.30] faster † |" in text
    assert "- † Captum, tiny, saliency: the numbers differ by 0.25 of the largest." in text
    assert "†" not in told(results, outcome(1.1, 1.2, 1.3))


def test_memory_that_was_not_measured_is_not_made_up(results: dict[str, Any]) -> None:
    assert "| 25 / ? |" in told(results, outcome(1.1, 1.2, 1.3))


def test_a_contender_that_fails_is_a_result(monkeypatch: pytest.MonkeyPatch, results: dict[str, Any]) -> None:
    def broken(task: contenders.Task) -> contenders.Call:
        def call() -> NoReturn:
            raise RuntimeError("in-place")

        return call

    monkeypatch.setitem(contenders.CONTENDERS["saliency"], contenders.CAPTUM, broken)
    cell = measure.cell(contenders.task("tiny", 28, "cpu"), "saliency", 3, 1.0)
    assert cell["contenders"]["captum"] == {"error": "RuntimeError: in-place"}
    assert len(cell["contenders"]["attrib"]["seconds"]) == 3
    assert "- Captum, tiny, saliency fails: RuntimeError: in-place" in told(results, cell)


def test_contenders_take_turns_in_alternating_order() -> None:
    order: list[str] = []
    times = measure.interleaved({name: lambda name=name: order.append(name) for name in "abc"}, "cpu", 3, 60.0)
    assert "".join(order) == "abc" + "cba" + "abc"
    assert {name: len(taken) for name, taken in times.items()} == {"a": 3, "b": 3, "c": 3}


def test_a_slow_row_ends_early_but_not_before_three_repeats() -> None:
    calls: list[int] = []
    measure.interleaved({"a": lambda: calls.append(1)}, "cpu", 9, limit=0.0)
    assert len(calls) == 3


def test_the_target_has_evidence_to_compare() -> None:
    task = contenders.task("tiny", 28, "cpu")
    maps = contenders.CONTENDERS["gradcam"][contenders.OURS](task)()
    assert maps.any()
    assert torch.equal(contenders.task("tiny", 28, "cpu").x, task.x)


def test_a_difference_is_noticed() -> None:
    ours = torch.tensor([[[[1.0, 2.0]]]])
    assert contenders.difference("saliency", contenders.CAPTUM, ours, ours + 1) == pytest.approx(1 / 3)
    assert contenders.difference("saliency", contenders.CAPTUM, torch.zeros(1, 1, 2, 2), torch.zeros(1, 1, 2, 2)) == 0


@with_pgc
def test_a_difference_from_pytorch_grad_cam_is_noticed() -> None:
    task = contenders.task("tiny", 28, "cpu")
    for method in ("guided", "gradcam"):
        made = contenders.contenders(method)
        ours, theirs = (contenders.quietly(lambda make=made[name]: make(task)()) for name in ("attrib", "grad-cam"))
        assert contenders.difference(method, "grad-cam", ours, theirs) < table.AGREE
        assert contenders.difference(method, "grad-cam", ours.flip(-1), theirs) > 0.1


def test_without_pytorch_grad_cam_the_others_compete(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contenders, "find_spec", lambda name: None)
    assert list(contenders.contenders("gradcam")) == ["attrib", "captum"]


@pytest.mark.slow
@pytest.mark.skipif(not measure.STATUS.exists(), reason="memory is measured on Linux")
def test_memory_is_measured_in_a_process_of_its_own() -> None:
    task = {"net": "tiny", "size": 448, "device": "cpu", "target": 1}
    found = measure.apart(measure.peak, task, "saliency", contenders.OURS, 1)
    first = 8 * 448 * 448 * 4  # bytes of the first convolution's output
    assert found is not None
    assert first < found < 30 * first


@pytest.mark.parametrize(
    "arguments", [["--nets", "vgg"], ["--methods", "grad-cam"], ["--repeats", "many"], ["--repeats", "0"]]
)
def test_wrong_arguments_are_refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        speed.main(arguments)
    assert stop.value.code == 2
    assert "usage" in capsys.readouterr().err
