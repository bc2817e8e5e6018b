"""The sizing of a large study: arithmetic that can be checked by hand, a small run, and a page that shows it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import sizing
from tests import studies

pytest.importorskip("pyarrow")


def test_only_what_grows_with_steps_is_continued() -> None:
    pictures = [{"maps": 3.0, "curves": curves, "forwards": 100} for curves in (1.0, 2.0, 90.0)]
    assert sizing.at(224, 11, pictures) == (pytest.approx(3 + 2 * 223 / 10), 100 + 8 * 2 * 213)


def test_days_are_those_of_all_pictures_shared_out() -> None:
    row = {"seconds_per_image": 86.4}
    assert (sizing.days(row, 1), sizing.days(row, 8)) == pytest.approx((50.0, 6.25))


def test_the_table_of_the_page_is_the_one_of_its_results() -> None:
    results, page = json.loads(sizing.RESULTS.read_text()), sizing.PAGE.read_text()
    assert f"{sizing.about(results)}\n\n{sizing.table(results['rows'])}" in page


@pytest.mark.slow
def test_a_small_run_counts_the_passes_of_224_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("skimage")
    monkeypatch.setitem(sizing.OPTIONS, "occlusion", {"window": 10, "stride": 10})  # pictures of that side
    out, page = tmp_path / "sizing.json", tmp_path / "page.md"
    page.write_text(f"before\n{sizing.BEGIN}\nold\n{sizing.END}\nafter")
    given = ["--model", studies.MODEL, "--images", "2", "--steps", "5", "--threads", "1", "--repeats", "3"]
    assert sizing.main([*given, "--out", str(out), "--table", str(page)]) == 0
    (row,) = json.loads(out.read_text())["rows"]
    curves = len(sizing.METHODS) * len(sizing.METRICS)
    assert curves * (sizing.STEPS - 2) < row["forwards_per_image"]
    assert row["forwards_per_image"] - row["pictures"][1]["forwards"] == curves * (sizing.STEPS - 5)
    assert all(min(one["maps"], one["curves"]) > 0 for one in row["pictures"])
    text = page.read_text()
    assert text.startswith("before\n")
    assert "1 core" in text
    assert "old" not in text
