"""Do maps show what the network reads? Every method and control map on networks whose reasons are known.

``python -m benchmarks.synthetic --threads 1 --table``
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from attrib import METHODS
from attrib.benchmark.stats import bootstrap_interval
from attrib.benchmark.synthetic import Problem, score, suite
from attrib.core import count
from attrib.errors import AttribError
from attrib.registry import CONTROLS
from attrib.report.table import text_table
from benchmarks import speed
from benchmarks.quality import OPTIONS
from benchmarks.table import replace_between

BEGIN, END = "<!-- synthetic: begin -->", "<!-- synthetic: end -->"
RESULTS = speed.HERE / "results" / "synthetic.json"
# Distractors whose energy has a column of its own: what a method is exposed by.
EXPOSING = (("suppressor", "suppressor"), ("shortcut", "object"), ("object", "ground"), ("several", "other"))


def played(problem: Problem, name: str) -> dict[str, Any]:
    """Scores of one method on one problem, and what its maps took."""
    kind = CONTROLS[name] if name in CONTROLS else METHODS[name]
    made = partial(kind, **OPTIONS.get(name, {}))
    try:
        with warnings.catch_warnings(), count() as cost:
            warnings.simplefilter("ignore")
            found = score(problem, made)
    except AttribError as exc:
        return {"refused": f"{type(exc).__name__}: {exc}"}
    n = len(problem.scenes)
    return {
        "scores": {metric: summary(values) for metric, values in found.items()},
        "forwards": cost.forwards / n,
        "backwards": cost.backwards / n,
    }


def summary(values: Tensor) -> dict[str, float | int | None]:
    """Mean and 95 % bootstrap interval of what is defined; None where nothing is."""
    interval = bootstrap_interval(values)
    ends = {"mean": interval.mean, "low": interval.low, "high": interval.high}
    return {name: None if value != value else round(value, 4) for name, value in ends.items()} | {  # noqa: PLR0124
        "undefined": interval.undefined
    }


def truth(problem: Problem) -> dict[str, Any]:
    """The row of the true map, and what shows that it is true."""
    found = score(problem, problem.relevant[:, None].float())
    evidence = problem.check()
    proof = {"accuracy": evidence.accuracy, "removed": evidence.removed, "redrawn": dict(evidence.redrawn)}
    return {"scores": {metric: summary(values) for metric, values in found.items()}, "evidence": proof}


def chance(problem: Problem) -> dict[str, Any]:
    """The row of a map that is the same everywhere: AUC 0.5, and energy by area."""
    found = score(problem, torch.ones(len(problem.scenes), 1, *problem.relevant.shape[1:]))
    return {"scores": {metric: summary(values) for metric, values in found.items()}}


def measured(problems: Mapping[str, Problem], methods: Sequence[str]) -> list[dict[str, Any]]:
    """One row per problem and method, control or reference."""
    rows = []
    for problem in problems.values():
        found = {"the truth": truth(problem), "a constant": chance(problem)}
        found |= {f"control: {name}": played(problem, name) for name in CONTROLS}
        found |= {name: played(problem, name) for name in methods}
        rows += [{"problem": problem.name, "method": name} | row for name, row in found.items()]
        print(f"{problem.name}: {len(found)} rows", file=sys.stderr)
    return rows


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """One line per method, the best on average first."""
    problems = list(dict.fromkeys(row["problem"] for row in rows))
    found = {(row["problem"], row["method"]): row for row in rows}
    methods = sorted(dict.fromkeys(row["method"] for row in rows), key=lambda m: -_rank(found, problems, m))
    lines = []
    for method in methods:
        line = {"method": method}
        for problem in problems:
            row = found[problem, method]
            line[problem] = "refuses" if "refused" in row else f"{_mean(row, 'auc')} / {_mean(row, 'energy')}"
            for where, distractor in EXPOSING:
                if where == problem:
                    line[f"{where}: on the {distractor}"] = _mean(row, f"energy: {distractor}")
        lines.append(line)
    return text_table(lines, markdown=True)


def _mean(row: Mapping[str, Any], metric: str) -> str:
    if "refused" in row:
        return "-"
    found = row["scores"][metric]
    lost = f" ({found['undefined']} empty)" if found["undefined"] and metric == "energy" else ""
    return ("-" if found["mean"] is None else f"{found['mean']:.2f}") + lost


def _rank(found: Mapping[tuple[str, str], Mapping[str, Any]], problems: Sequence[str], method: str) -> float:
    """Mean AUC; what is refused counts as chance."""
    rows = [found[problem, method].get("scores", {}).get("auc", {}).get("mean") for problem in problems]
    return sum(0.5 if auc is None else auc for auc in rows) / len(rows)


def page(results: Mapping[str, Any]) -> str:
    """What the page of results shows."""
    about, how = results["metadata"], results["settings"]
    return (
        f"Measured {about['date']}, torch {about['versions']['torch']}: {how['n']} pictures of {how['size']} pixels in "
        f"each problem, seed {how['seed']}. Pixel AUC / energy inside what the network reads; the other columns are "
        f"energy inside what it does not read, or, for the suppressor, reads in vain. Intervals are in the JSON.\n\n"
        f"{table(results['rows'])}"
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Play, print the table and write the numbers."""
    made = argparse.ArgumentParser(prog="synthetic", description=__doc__)
    made.add_argument("--problems", nargs="+", default=None, metavar="PROBLEM")
    made.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS), metavar="METHOD")
    made.add_argument("--n", type=int, default=32)
    made.add_argument("--size", type=int, default=32)
    made.add_argument("--seed", type=int, default=0)
    made.add_argument("--threads", type=int, default=1)
    made.add_argument("--out", type=Path, default=RESULTS)
    made.add_argument("--table", type=Path, nargs="?", const=speed.HERE / "README.md", help="update this page's table")
    args = made.parse_args(argv)
    before = torch.get_num_threads()
    torch.set_num_threads(args.threads)
    try:
        rows = measured(suite(args.seed, n=args.n, size=args.size, names=args.problems), args.methods)
    finally:
        torch.set_num_threads(before)
    settings: dict[str, Any] = {name: getattr(args, name) for name in ("n", "size", "seed", "threads")}
    settings["options"] = {m: {k: repr(v) for k, v in o.items()} for m, o in OPTIONS.items()}
    results = {"metadata": speed.metadata("cpu"), "settings": settings, "rows": rows}
    speed.write(args.out, results)
    print(table(rows))
    if args.table:
        replace_between(args.table, BEGIN, END, page(results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
