"""A report says what the scores say: in three kinds of tables, in sentences, in strict JSON, in figures."""

from __future__ import annotations

import json
import re
from concurrent.futures import ThreadPoolExecutor
from math import nan
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from attrib.benchmark import beats, bootstrap_interval, compare_pairs, rank_methods
from attrib.cli import main
from attrib.errors import InputError, OutputError
from attrib.report.table import escape_latex
from attrib.study import StudyResult, Summary, load_study, summarise, summarise_scores, summary_table, write_report
from attrib.study.report_words import findings, legend
from attrib.study.tables import escape_markdown
from tests import studies

pytest.importorskip("pyarrow")

ROWS = ["gradcam", "guided_gradcam", "rise", "random"]
BETTER = {"deletion": False, "srg": True, "gini": None}


def scores(means: list[float], spread: float = 0.02, images: int = 20, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(images, len(means))) * spread + np.array(means)


def summary(**changes: Any) -> Summary:
    tables = {
        "deletion": scores([0.1, 0.2, 0.3, 0.3]),
        "srg": scores([0.5, 0.5, 0.2, 0.0], seed=1),
        "gini": scores([0.9, 0.1, 0.5, 0.2], seed=2),
    }
    return summarise_scores(tables | changes.pop("tables", {}), ROWS, better=BETTER, controls=["random"], **changes)


def one(table: Any, **options: Any) -> Summary:
    """A single metric."""
    return summarise_scores({"srg": table}, ROWS, better=BETTER, controls=["random"], **options)


def cells(text: str) -> list[list[str]]:
    """The cells of a Markdown table, without the rule."""
    lines = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in text.splitlines()]
    return [lines[0], *lines[2:]]


# --- numbers


def test_a_summary_is_made_of_the_statistics_of_the_benchmark() -> None:
    table = scores([0.1, 0.2, 0.3, 0.3])
    column = summary(seed=3)["deletion"]
    assert column.intervals["rise"] == bootstrap_interval(table[:, 2], seed=3)
    assert column.verdicts["rise"]["random"] == beats(table[:, 2], table[:, 3], higher_is_better=False, seed=3)
    assert column.pairs == compare_pairs(table[:, :3], ROWS[:3], higher_is_better=False, seed=3)
    assert column.ranking == rank_methods(table[:, :3], ROWS[:3], higher_is_better=False)


def test_the_best_follows_the_direction_and_controls_cannot_be_it() -> None:
    found = summary(tables={"srg": scores([0.5, 0.4, 0.2, 0.9])})
    assert found["deletion"].best == ("gradcam",)
    assert found["srg"].best == ("gradcam",)
    assert found["srg"].flag("gradcam") == "!"


def test_equal_means_share_being_best() -> None:
    table = [[0.5, 0.5, 0.1, 0.0]] * 6
    assert one(table)["srg"].best == ("gradcam", "guided_gradcam")


def test_nothing_is_ranked_or_tested_by_a_descriptor() -> None:
    column = summary()["gini"]
    assert (column.best, column.verdicts, column.pairs, column.ranking) == ((), {}, None, None)
    assert {column.flag(row) for row in ROWS} == {""}
    assert column.intervals["gradcam"].mean > 0.8


def test_flags_tell_who_does_not_beat_the_controls_and_who_cannot_yet() -> None:
    column = summary()["deletion"]
    assert [column.flag(row) for row in ROWS] == ["", "", "!", ""]
    few = one([[0.5, 0.5, -0.1, 0.0]] * 3)["srg"]
    assert [few.flag(row) for row in ROWS] == ["?", "?", "!", ""]


def test_a_row_without_a_score_is_neither_best_nor_flagged_as_beaten() -> None:
    table = scores([nan, 0.3, 0.2, 0.0])
    column = summary(tables={"srg": table})["srg"]
    assert column.best == ("guided_gradcam",)
    assert column.flag("gradcam") == ""  # not "?", which says better than the controls
    assert column.ranking == rank_methods(table[:, 1:3], ROWS[1:3], higher_is_better=True)
    lost = one(scores([nan, nan, 0.2, 0.0]))["srg"]
    assert (lost.best, lost.ranking) == (("rise",), None)


# --- tables


def test_tables_mark_the_best_the_flags_the_directions_and_the_missing() -> None:
    holes = scores([0.5, 0.4, 0.2, 0.0])
    holes[:3, 1] = nan
    text = cells(summary_table(summary(tables={"srg": holes}), "markdown"))
    assert text[0] == ["method", "deletion ↓", "srg ↑", "gini"]
    assert [row[0] for row in text[1:]] == ["gradcam", r"guided\_gradcam", "rise", "random (control)"]
    assert [row[1].startswith("**") for row in text[1:]] == [True, False, False, False]
    assert text[2][2].endswith("(n=17)")
    assert text[3][1].endswith("!")
    assert not any("**" in row[3] or "!" in row[3] for row in text[1:])


def test_the_three_forms_show_the_same_numbers() -> None:
    found = summary()
    number = re.compile(r"-?\d+\.\d+")
    text, markdown, latex = (number.findall(summary_table(found, form)) for form in ("text", "markdown", "latex"))
    assert text == markdown == latex
    assert len(text) == 3 * len(ROWS) * 3


def test_plain_columns_stay_below_each_other() -> None:
    lines = summary_table(summary()).splitlines()
    ends = {[match.end() for match in re.finditer(r"\]", line)][0] for line in lines[1:]}  # noqa: RUF015
    assert len(ends) == 1
    assert " *" in lines[1]
    assert " !" in lines[3]


@pytest.mark.parametrize(("scale", "shown"), [(1e-7, "5.00e-08"), (1e-2, "0.00500"), (1.0, "0.500"), (1e3, "500"),
                                              (1e7, "5.00e+06")])  # fmt: skip
def test_decimals_follow_the_size_of_the_numbers(scale: float, shown: str) -> None:
    table = np.array([[0.5, 0.25, 0.1, 0.0]] * 6) * scale
    first = cells(summary_table(one(table), "markdown"))[1][1]
    assert first == f"**{shown}** [{shown}, {shown}]"


def test_negative_zero_is_zero() -> None:
    table = np.array([[0.5, -1e-9, 0.1, 0.0]] * 6)
    assert cells(summary_table(one(table), "markdown"))[2][1].startswith("0.000 ")


def test_no_value_is_a_dash_and_one_value_has_no_interval() -> None:
    table = [[0.5, nan, 0.1, 0.0]]
    text = cells(summary_table(summarise_scores({"srg": table}, ROWS, better=BETTER), "markdown"))
    assert text[1][1] == "**0.500**"
    assert text[2][1] == "-"


def test_latex_is_a_booktabs_table_with_a_rule_before_the_controls() -> None:
    lines = summary_table(summary(), "latex").splitlines()
    assert lines[0] == r"\begin{tabular}{lrrr}"
    rules = [line for line in lines if line.startswith("\\") and not line.endswith(r"\\")]
    assert rules == [
        r"\begin{tabular}{lrrr}", r"\toprule", r"\midrule", r"\midrule", r"\bottomrule", r"\end{tabular}",
    ]  # fmt: skip
    body = [line for line in lines if line.endswith(r"\\")]
    assert all(line.count(" & ") == 3 for line in body)
    assert lines.index(body[-1]) == lines.index(r"\bottomrule") - 1
    assert body[1].startswith(r"gradcam & \textbf{\boldmath $0.0")
    assert body[2].startswith(r"guided\_gradcam & ")
    assert r"deletion $\downarrow$ & srg $\uparrow$ & gini" in body[0]


def test_latex_writes_exponents_as_powers() -> None:
    table = np.array([[5e-7, 1e-7, 1e-7, 0.0]] * 6)
    assert r"$5.00 \times 10^{-7}$" in summary_table(one(table), "latex")


def test_labels_are_escaped() -> None:
    assert escape_latex(r"a_b & 5% #1 $x$ {y} ~^\ <>|[1]") == (
        r"a\_b \& 5\% \#1 \$x\$ \{y\} \textasciitilde{}\textasciicircum{}\textbackslash{} "
        r"\textless{}\textgreater{}\textbar{}{[}1{]}"
    )
    assert escape_markdown("a|b_c*`") == r"a\|b\_c\*\`"


def test_wrong_words_are_refused() -> None:
    with pytest.raises(InputError, match="form must be one of"):
        summary_table(summary(), "html")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="control must be one of"):
        summarise_scores({"srg": [[1.0]]}, ["a"], better=BETTER, controls=["b"])
    with pytest.raises(InputError, match="metric must be one of"):
        summarise_scores({"sgr": [[1.0]]}, ["a"], better=BETTER)
    with pytest.raises(InputError, match="metric must be one of"):
        summary()["sgr"]
    with pytest.raises(InputError, match="same images"):
        summary(tables={"srg": [[0.5, 0.5, -0.1, 0.0]] * 3})


# --- words


def test_the_legend_explains_what_occurs_and_counts_what_is_missing() -> None:
    holes = scores([0.5, 0.4, 0.2, 0.0])
    holes[:3, 1] = nan
    lines = "\n".join(legend(summary(tables={"srg": holes}, alpha=0.1)))
    assert "n=20 images; mean [90 % bootstrap interval]" in lines
    assert "! not better than a control" in lines
    assert "? better" not in lines
    assert "Descriptors, by which nothing is ranked: gini." in lines
    assert "guided_gradcam: undefined on 3 of srg." in lines


def test_findings_say_who_is_best_who_is_close_and_who_is_worse() -> None:
    lines = findings(summary())
    assert lines[0].startswith("Paired permutation tests of all pairs of methods, Holm's correction, level 0.05")
    told = "\n".join(lines)
    assert "  gradcam has the best mean.\n  gradcam is better than guided_gradcam (+0.1" in told
    srg = told.partition("srg:")[2]
    assert re.search(r"not told apart from \w+: \w+gradcam\.|not told apart from guided_gradcam: gradcam\.", srg)
    assert "is better than rise" in srg
    assert "gini" not in told


def test_findings_on_too_few_images_say_so() -> None:
    told = "\n".join(findings(one([[0.5, 0.4, 0.2, 0.0]] * 3)))
    assert "not told apart from gradcam: guided_gradcam, rise; there are too few images to tell." in told


# --- a study


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> StudyResult:
    home = tmp_path_factory.mktemp("study")
    methods = ["saliency", "gradcam", "guided"]
    made = studies.make(studies.photos(home / "photos"), methods=methods, metrics=["deletion", "srg", "sparseness"])
    return made.run(home / "out", show_progress=False)


def files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_report_has_tables_numbers_and_figures_and_is_the_same_each_time(study: StudyResult, tmp_path: Path) -> None:
    first = files(write_report(study, tmp_path / "one"))
    assert set(first) == {
        "table.txt", "table.md", "table.tex", "summary.json", "figures/curves.png", "figures/metrics.png",
        "figures/ranks_deletion.png", "figures/ranks_srg.png", "figures/cost_deletion.png", "figures/cost_srg.png",
    }  # fmt: skip
    assert files(write_report(load_study(study.store.folder), tmp_path / "two")) == first
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_a_report_agrees_with_the_study(study: StudyResult, tmp_path: Path) -> None:
    found = write_report(study, tmp_path / "report", figures=False)
    told = json.loads((found / "summary.json").read_text(encoding="utf-8"), parse_constant=pytest.fail)
    for metric in ("deletion", "srg", "sparseness"):
        for row, one in told["metrics"][metric]["rows"].items():
            assert one["mean"] == pytest.approx(study.intervals[row][metric].mean)
            assert one["count"] == 6
    assert told["metrics"]["sparseness"]["descriptor"]
    assert told["metrics"]["sparseness"]["pairs"] is None
    assert len(told["metrics"]["srg"]["pairs"]) == 3
    assert told["study"] == study.manifest["hash"]
    assert told["costs"]["saliency"]["forwards"] == 1
    text = (found / "table.txt").read_text(encoding="utf-8")
    assert str(study.protocol) in text
    assert summary_table(summarise(study)) in text
    assert (found / "table.tex").read_text(encoding="utf-8").startswith("% protocol: ")
    assert not (found / "figures").exists()


def test_the_screen_and_the_report_show_the_same_numbers(study: StudyResult) -> None:
    number = re.compile(r"-?\d+\.\d+ \[[^]]+\]")
    screen, report = (number.findall(text) for text in (study.to_text(), summary_table(summarise(study))))
    assert screen == report
    assert len(screen) == len(study.rows) * len(study.metrics)


def test_the_study_itself_ranks_nothing_by_a_descriptor_either(study: StudyResult) -> None:
    assert study.descriptor("sparseness")
    assert not study.descriptor("srg")
    assert study.verdicts["saliency"]["sparseness"] == {}
    assert study.unbeaten("saliency")["sparseness"] == []
    assert "sparseness (descriptor)" in study.to_text()


def test_options_of_a_report_reach_its_numbers(study: StudyResult, tmp_path: Path) -> None:
    found = write_report(study, tmp_path / "report", correction="bh", alpha=0.2, figures=False)
    told = json.loads((found / "summary.json").read_text(encoding="utf-8"))
    assert (told["correction"], told["alpha"]) == ("bh", 0.2)
    assert told["metrics"]["srg"]["rows"]["saliency"]["level"] == 0.8
    assert "80 % bootstrap" in (found / "table.md").read_text(encoding="utf-8")
    assert "Benjamini" in (found / "table.txt").read_text(encoding="utf-8")


def test_a_report_lies_beside_the_results_and_replaces_an_older_one_only(study: StudyResult, tmp_path: Path) -> None:
    place = write_report(study, figures=True)
    assert place == study.store.folder / "report"
    assert write_report(study, figures=False) == place
    assert not (place / "figures").exists()
    taken = tmp_path / "mine"
    taken.mkdir()
    (taken / "summary.json").write_text("{}", encoding="utf-8")
    with pytest.raises(OutputError, match="must be new, empty or a report"):
        write_report(study, taken)
    assert files(taken) == {"summary.json": b"{}"}
    assert {path.name for path in place.parent.iterdir() if "report" in path.name} == {"report"}


def test_of_several_processes_that_report_at_once_any_may_win(study: StudyResult, tmp_path: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: write_report(study, tmp_path / "report", figures=False), range(8)))
    assert [path.name for path in tmp_path.iterdir()] == ["report"]
    assert set(files(tmp_path / "report")) == {"table.txt", "table.md", "table.tex", "summary.json"}


def test_a_study_goes_on_after_a_report(tmp_path: Path) -> None:
    made = studies.make(studies.photos(tmp_path / "photos", 4), shard_size=2)
    part = made.run(tmp_path / "out", shard=(0, 2), show_progress=False)
    text = (write_report(part, figures=False) / "table.txt").read_text(encoding="utf-8")
    assert "not finished: 1 of 2 shards are missing." in text
    assert "n=2 images" in text
    whole = made.run(tmp_path / "out", show_progress=False)
    assert "n=4 images" in (write_report(whole, figures=False) / "table.txt").read_text(encoding="utf-8")


def test_figures_are_pictures_that_show_something(study: StudyResult, tmp_path: Path) -> None:
    for path in sorted((write_report(study, tmp_path / "report") / "figures").iterdir()):
        with Image.open(path) as picture:
            assert picture.width >= 800
            assert len(np.unique(np.asarray(picture.convert("L")))) > 10


def test_the_command_writes_the_report_and_writes_it_anew(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, table = tmp_path / "out", studies.photos(tmp_path / "photos", 4)
    given = ["--model", studies.MODEL, "--data", str(table), "--methods", "saliency,gradcam", "--metrics", "srg"]
    assert main(["benchmark", *given, "--out", str(out), "--shard-size", "2", "--shard", "0/2"]) == 0
    assert not (out / "report").exists()
    assert main(["benchmark", *given, "--out", str(out), "--shard-size", "2", "--shard", "1/2"]) == 0
    assert f"report: {out / 'report'}" in capsys.readouterr().err
    first = files(out / "report")
    (out / "report" / "table.tex").unlink()
    assert main(["benchmark", "--report", "--out", str(out), "--quiet"]) == 0
    assert files(out / "report") == first
    assert "report:" not in capsys.readouterr().err
