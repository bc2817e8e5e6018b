"""What a study says in numbers: means, intervals, flags, all pairs and ranks, from plain tables of scores."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from attrib import checks
from attrib.benchmark.pairs import Correction, Pairs, compare_pairs
from attrib.benchmark.ranking import Ranking, rank_methods
from attrib.benchmark.scores import Numbers, Table, as_table
from attrib.benchmark.stats import Interval, Verdict, beats, bootstrap_interval, worst_sign
from attrib.errors import InputError

if TYPE_CHECKING:
    from attrib.study.result import StudyResult


@dataclass(frozen=True, eq=False)
class Column:
    """One metric: its scores, and what they say.

    Convention:
        - pairs and ranks are of the methods alone; controls are opponents, not competitors.
        - a descriptor (``higher_is_better=None``) has means and intervals, and nothing is better by it.

    Attributes:
        metric: label.
        higher_is_better: the direction; None for a descriptor.
        rows: labels, controls among them.
        controls: rows that a method must beat.
        scores: ``(images, rows)``, NaN where there is none.
        seed: of intervals and tests.
        correction: see `attrib.benchmark.adjust`.
        alpha: level of tests.
    """

    metric: str
    higher_is_better: bool | None
    rows: tuple[str, ...]
    controls: tuple[str, ...]
    scores: Numbers = field(repr=False)
    seed: int = 0
    correction: Correction = "holm"
    alpha: float = 0.05

    @property
    def methods(self) -> tuple[str, ...]:
        """The rows that are no controls."""
        return tuple(row for row in self.rows if row not in self.controls)

    def of(self, row: str) -> Numbers:
        """The scores of a row ``(images,)``."""
        checks.choice("row", row, self.rows)
        found: Numbers = self.scores[:, self.rows.index(row)]
        return found

    @cached_property
    def intervals(self) -> dict[str, Interval]:
        """Mean, bootstrap interval and counts of each row."""
        return {row: bootstrap_interval(self.of(row).tolist(), 1 - self.alpha, seed=self.seed) for row in self.rows}

    @cached_property
    def verdicts(self) -> dict[str, dict[str, Verdict]]:
        """For each method and control: does the method beat it? Empty for a descriptor."""
        higher = self.higher_is_better
        if higher is None:
            return {}
        how: dict[str, Any] = {"higher_is_better": higher, "alpha": self.alpha, "seed": self.seed}
        return {
            method: {
                control: beats(self.of(method).tolist(), self.of(control).tolist(), **how) for control in self.controls
            }
            for method in self.methods
        }

    def flag(self, row: str) -> str:
        """``"!"``: not better than a control; ``"?"``: better, but on too few images to be sure; else nothing."""
        return worst_sign(self.verdicts.get(row, {}))

    def unbeaten(self, method: str) -> list[str]:
        """The controls that a method does not beat; on too few images, is not better than."""
        return [name for name, verdict in self.verdicts.get(method, {}).items() if verdict.sign == "!"]

    @cached_property
    def best(self) -> tuple[str, ...]:
        """The methods with the best mean: one, unless several are equal."""
        means = {method: self.intervals[method].mean for method in self.methods}
        told = {method: mean for method, mean in means.items() if not math.isnan(mean)}
        if self.higher_is_better is None or not told:
            return ()
        top = max(told.values()) if self.higher_is_better else min(told.values())
        return tuple(method for method, mean in told.items() if mean == top)

    @cached_property
    def pairs(self) -> Pairs | None:
        """All pairs of methods; None for a descriptor or a single method."""
        if self.higher_is_better is None or len(self.methods) < 2:
            return None
        how: dict[str, Any] = {"correction": self.correction, "alpha": self.alpha, "seed": self.seed}
        return compare_pairs(self._own(self.methods), self.methods, higher_is_better=self.higher_is_better, **how)

    @cached_property
    def ranking(self) -> Ranking | None:
        """Average ranks of the methods that have a score at all; None for a descriptor or fewer than two of these."""
        told = [method for method in self.methods if self.intervals[method].count]
        if self.higher_is_better is None or len(told) < 2:
            return None
        return rank_methods(self._own(told), told, higher_is_better=self.higher_is_better, alpha=self.alpha)

    def _own(self, methods: Sequence[str]) -> Numbers:
        found: Numbers = self.scores[:, [self.rows.index(method) for method in methods]]
        return found

    def to_dict(self) -> dict[str, Any]:
        """In plain values, for JSON."""
        pairs, ranking = self.pairs, self.ranking
        return {
            "higher_is_better": self.higher_is_better,
            "descriptor": self.higher_is_better is None,
            "rows": {row: {**asdict(one), "flag": self.flag(row)} for row, one in self.intervals.items()},
            "best": list(self.best),
            "controls": {
                method: {control: _plain(verdict) for control, verdict in found.items()}
                for method, found in self.verdicts.items()
            },
            "pairs": None if pairs is None else [asdict(pair) for pair in pairs.every],
            "ranking": None if ranking is None else asdict(ranking),
        }


def _plain(verdict: Verdict) -> dict[str, Any]:
    return {"beats": verdict.beats, **asdict(verdict.test)}


@dataclass(frozen=True, eq=False)
class Summary:
    """All metrics of a study.

    Attributes:
        columns: one for each metric.
        rows: labels, methods first, then controls.
        controls: rows that a method must beat.
        images: how many there are, undefined or not.
        correction: for the number of pairs, see `attrib.benchmark.adjust`.
        alpha: level of tests; intervals are of ``1 - alpha``.
    """

    columns: tuple[Column, ...]
    rows: tuple[str, ...]
    controls: tuple[str, ...]
    images: int
    correction: Correction
    alpha: float

    def __getitem__(self, metric: str) -> Column:
        checks.choice("metric", metric, [column.metric for column in self.columns])
        return next(column for column in self.columns if column.metric == metric)

    def to_dict(self) -> dict[str, Any]:
        """In plain values, for JSON."""
        told = {"images": self.images, "methods": [row for row in self.rows if row not in self.controls]}
        how = {"controls": list(self.controls), "correction": self.correction, "alpha": self.alpha}
        return told | how | {"metrics": {column.metric: column.to_dict() for column in self.columns}}


def summarise_scores(
    scores: Mapping[str, Table],
    rows: Sequence[str],
    *,
    better: Mapping[str, bool | None],
    controls: Sequence[str] = (),
    seed: int = 0,
    correction: Correction = "holm",
    alpha: float = 0.05,
) -> Summary:
    """Summarise plain tables of scores.

    Args:
        scores: for each metric ``(images, rows)``, NaN where there is none.
        rows: labels of the columns of these tables.
        better: whether higher is better, by metric; None for descriptors, by which nothing is ranked.
        controls: those of ``rows`` that a method must beat.
        seed: of intervals and tests.
        correction: for the number of pairs, see `attrib.benchmark.adjust`.
        alpha: level of tests; intervals are of ``1 - alpha``.

    Example:
        >>> table = [[0.9, 0.4, 0.2], [0.8, 0.5, 0.3], [0.7, 0.6, 0.1], [0.9, 0.5, 0.2], [0.8, 0.4, 0.3]]
        >>> labels = ["gradcam", "saliency", "random"]
        >>> found = summarise_scores({"srg": table}, labels, better={"srg": True}, controls=["random"])
        >>> found["srg"].best, found["srg"].flag("saliency"), found["srg"].ranking.ranks
        (('gradcam',), '', (1.0, 2.0))
    """
    labels = tuple(rows)
    for control in controls:
        checks.choice("control", control, labels)
    for metric in scores:
        checks.choice("metric", metric, tuple(better))
    columns = tuple(
        Column(metric, better[metric], labels, tuple(controls), as_table(table, labels), seed, correction, alpha)
        for metric, table in scores.items()
    )
    sizes = {column.metric: len(column.scores) for column in columns}
    if len(set(sizes.values())) > 1:
        raise InputError(f"every metric must be of the same images; got {sizes}.")
    return Summary(columns, labels, tuple(controls), max(sizes.values(), default=0), correction, alpha)


def summarise(found: StudyResult, *, correction: Correction = "holm", alpha: float = 0.05) -> Summary:
    """Summarise a study, as far as it got.

    Args:
        found: the study.
        correction: for the number of pairs, see `attrib.benchmark.adjust`.
        alpha: level of tests; intervals are of ``1 - alpha``.
    """
    return summarise_scores(
        {metric: found.matrix(metric).values for metric in found.metrics},
        found.rows,
        better={m: None if found.descriptor(m) else found.higher_is_better(m) for m in found.metrics},
        controls=found.controls,
        seed=found.seed,
        correction=correction,
        alpha=alpha,
    )
