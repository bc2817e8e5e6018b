"""One comparison while it runs: image after image, nothing kept that does not go into the result."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from typing import Any, Literal

import torch
from PIL import Image
from torch import Tensor

from attrib.core.objective import Objective
from attrib.metrics import CurveMetric, Curves, Metric, Protocol, curves
from attrib.report.comparison import Comparison
from attrib.report.curves import RowCurves
from attrib.report.explanation import Explanation
from attrib.report.facts import tensor_hash
from attrib.report.records import Asked, Spent
from attrib.tasks.questions import Question
from attrib.tasks.run import Failures, Runner, log
from attrib.tasks.sharing import Answers, Sharing
from attrib.tasks.subject import Example, Network, facts


@dataclass(frozen=True, eq=False)
class Subject:
    """One image that could be read, and what is asked of it."""

    name: str
    x: Tensor
    view: Image.Image | None
    answers: Answers
    sharing: Sharing

    @property
    def goal(self) -> Objective:
        """The question, settled."""
        (goal,) = self.answers.goals.values()
        return goal

    @property
    def asked(self) -> Asked:
        """What it means for this image."""
        ((asked,),) = self.answers.asked
        return asked


@dataclass
class Row:
    """One method or control: what it gave so far, an entry per image, or per map for ``spent``."""

    runners: Sequence[Runner]
    curves: list[list[Curves]] = field(default_factory=list)
    scores: list[dict[str, float]] = field(default_factory=list)
    spent: list[Spent] = field(default_factory=list)


@dataclass
class Study:
    """What `compare` was asked, and what it has found so far."""

    network: Network
    rows: dict[str, Row]
    controls: tuple[str, ...]
    metrics: dict[str, type[Metric]]
    protocol: Protocol
    question: Question
    batch_size: int | Literal["auto"]
    keep_maps: bool
    failures: Failures = field(default_factory=Failures)
    about: dict[str, Any] = field(default_factory=dict)
    subjects: list[tuple[str, Asked]] = field(default_factory=list)
    explanations: list[Explanation] = field(default_factory=list)

    def attempt(self, example: Example, position: int) -> None:
        """Measure every row on one image, or note why that cannot be."""
        before = len(self.failures.found)
        subject = self.failures.attempt(partial(self._read, example, position), image=example.name)
        if subject is None:
            return
        log.info("%s: %s", subject.name, subject.asked)
        maps = {label: self._maps(label, row, subject) for label, row in self.rows.items()}
        measured = self._measured(subject, maps)
        for label, row in self.rows.items():
            row.curves.append(measured[label])
            scores = partial(self._scores, subject, maps[label], measured[label])
            row.scores.append(self.failures.attempt(scores, image=subject.name, method=label) or {})
        self.about = self.about or facts("comparison", self.network, subject.x) | {"inputs": {}}
        self.about["inputs"][subject.name] = tensor_hash(subject.x)
        self.subjects.append((subject.name, subject.asked))
        if self.keep_maps:
            self.explanations.append(self._explanation(subject, maps, before))

    def _read(self, example: Example, position: int) -> Subject:
        x, view = example.open(self.network)
        methods = [row.runners[0] for label, row in self.rows.items() if label not in self.controls]
        sharing = Sharing(self.network, [self.question], methods, self.failures)
        return Subject(example.name, x, view, sharing.run(x, [position], example.name), sharing)

    def _maps(self, label: str, row: Row, subject: Subject) -> list[Tensor]:
        """Make the maps of one row, or take those that were shared; all or none of its seeds count."""
        key = (label, self.question.words)
        if key in subject.sharing.lost:
            return []
        if key in subject.answers.maps:
            row.spent.append(subject.sharing.ledger.of(label))
            return [subject.answers.maps[key]]
        noted = partial(self.failures.attempt, image=subject.name, method=label)
        made = [noted(partial(runner.run, subject.x, subject.goal)) for runner in row.runners]
        maps = [one[0] for one in made if one is not None]
        row.spent += [one[1] for one in made if one is not None]
        return maps if len(maps) == len(row.runners) else []

    def _measured(self, subject: Subject, maps: dict[str, list[Tensor]]) -> dict[str, list[Curves]]:
        """Curves of all rows together, so that batches are full; row by row if that fails: one may be wrong."""
        every = [one for many in maps.values() for one in many]
        try:
            found = iter(self._curves(subject, every))
        except Exception:  # of one row, or of all: each is tried alone and noted with its name
            noted = partial(self.failures.attempt, image=subject.name)
            alone = {label: partial(self._curves, subject, many) for label, many in maps.items()}
            return {label: noted(work, method=label) or [] for label, work in alone.items()}
        return {label: list(islice(found, len(many))) for label, many in maps.items()}

    def _curves(self, subject: Subject, maps: Sequence[Tensor]) -> list[Curves]:
        which = {name for metric in self.metrics.values() if issubclass(metric, CurveMetric) for name in metric.reads}
        if not which or not maps:
            return []
        named = {str(i): one for i, one in enumerate(maps)}
        model, size = self.network.model, self.batch_size
        found = curves(model, subject.x, subject.goal, named, self.protocol, which=tuple(which), batch_size=size)
        return list(found.values())

    def _scores(self, subject: Subject, maps: Sequence[Tensor], measured: Sequence[Curves]) -> dict[str, float]:
        """The mean over seeds of each metric; none where there is no map."""
        found = {}
        for name, metric in self.metrics.items():
            if issubclass(metric, CurveMetric):
                values = [metric.from_curves(one) for one in measured]
            else:
                score = partial(metric().score, self.network.model, subject.x, subject.goal)
                values = [score(one, self.protocol, batch_size=self.batch_size) for one in maps]
            if values:
                found[name] = float(torch.cat(values).double().mean())
        return found

    def _explanation(self, subject: Subject, maps: dict[str, list[Tensor]], before: int) -> Explanation:
        """The methods' maps of one image."""
        kept = {label: found[0] for label, found in maps.items() if found and label not in self.controls}
        words, costs = self.question.words, {label: self.rows[label].spent[-1] for label in kept}
        alone = [spent for label, spent in costs.items() if (label, words) not in subject.answers.maps]
        return Explanation(
            images=(subject.name,),
            inputs=subject.x.cpu(),
            views=None if subject.view is None else (subject.view,),
            asked={words: (subject.asked,)},
            maps={label: {words: one} for label, one in kept.items()},
            layers=self._layers(),
            costs=costs,
            total=Spent.total([subject.sharing.ledger.total(), *alone]),
            failures=tuple(self.failures.found[before:]),
            about=self.about,
        )

    def _layers(self) -> dict[str, str | None]:
        return {label: row.runners[0].layer for label, row in self.rows.items() if label not in self.controls}

    def comparison(self, seed: int) -> Comparison:
        """The result; raises the first error where no method gave a score for any image."""
        methods = [row for label, row in self.rows.items() if label not in self.controls]
        if self.failures.first is not None and not any(scores for row in methods for scores in row.scores):
            raise self.failures.first
        about = {**self.about, "methods": {label: row.runners[0].facts for label, row in self.rows.items()}}
        return Comparison(
            protocol=self.protocol,
            seed=seed,
            images=tuple(name for name, _ in self.subjects),
            asked=tuple(asked for _, asked in self.subjects),
            metrics=tuple(self.metrics),
            controls=self.controls,
            scores={label: self._columns(row) for label, row in self.rows.items()},
            curves={label: RowCurves(self.protocol, row.curves) for label, row in self.rows.items()},
            costs={label: tuple(row.spent) for label, row in self.rows.items()},
            layers=self._layers(),
            explanations=tuple(self.explanations),
            failures=tuple(self.failures.found),
            about=about,
        )

    def _columns(self, row: Row) -> dict[str, Tensor]:
        """Scores ``(N,)`` of each metric, NaN where there is none."""
        return {
            name: torch.tensor([scores.get(name, float("nan")) for scores in row.scores], dtype=torch.float64)
            for name in self.metrics
        }
