"""One comparison while it runs: image after image, nothing kept that does not go into the result."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor

from attrib.metrics import Curves
from attrib.report.comparison import Comparison
from attrib.report.curves import RowCurves
from attrib.report.explanation import Explanation
from attrib.report.facts import tensor_hash
from attrib.report.records import Asked, Spent
from attrib.tasks.masks import Mask, as_seen
from attrib.tasks.measuring import Measured, Measuring, Subject
from attrib.tasks.questions import Question
from attrib.tasks.run import log
from attrib.tasks.subject import Example, facts


@dataclass
class Row:
    """One method or control: what it gave so far, an entry per image, or per map for ``spent``."""

    curves: list[list[Curves]] = field(default_factory=list)
    scores: list[dict[str, float]] = field(default_factory=list)
    spent: list[Spent] = field(default_factory=list)


@dataclass
class Gathering:
    """What `compare` was asked, and what it has found so far."""

    measuring: Measuring
    question: Question
    masks: Sequence[Mask]
    keep_maps: bool
    about: dict[str, Any] = field(default_factory=dict)
    subjects: list[tuple[str, Asked]] = field(default_factory=list)
    explanations: list[Explanation] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.rows = {label: Row() for label in self.measuring.rows}
        self.failures = self.measuring.failures

    def attempt(self, example: Example, position: int) -> None:
        """Measure every row on one image, or note why that cannot be."""
        before = len(self.failures.found)
        subject = self.failures.attempt(partial(self._read, example, position), image=example.name)
        if subject is None:
            return
        log.info("%s: %s", subject.name, subject.asked)
        found = self.measuring.measure(subject)
        for label, row in self.rows.items():
            row.curves.append(found.curves[label])
            row.scores.append(found.scores[label])
            row.spent += found.spent[label]
        self.about = self.about or facts("comparison", self.measuring.network, subject.x) | {
            "inputs": {},
            **self.measuring.further.facts,
        }
        self.about["inputs"][subject.name] = tensor_hash(subject.x)
        if subject.mask is not None:
            self.about.setdefault("masks", {})[subject.name] = tensor_hash(subject.mask)
        self.subjects.append((subject.name, subject.asked))
        if self.keep_maps:
            self.explanations.append(self._explanation(subject, found, before))

    def _read(self, example: Example, position: int) -> Subject:
        x, view = example.open(self.measuring.network)
        mask = self._mask(example, self.masks[position])
        return self.measuring.ask(example.name, x, self.question, position=position, view=view, mask=mask)

    def _mask(self, example: Example, mask: Mask) -> Tensor | None:
        """The mask as the network sees it; one that cannot be read is noted, and the image measured without."""
        work = partial(as_seen, mask, example, self.measuring.network)
        return None if mask is None else self.failures.attempt(work, image=example.name)

    def _explanation(self, subject: Subject, found: Measured, before: int) -> Explanation:
        """The methods' maps of one image."""
        kept = {label: found.maps[label][0] for label in self.measuring.methods if found.maps[label]}
        words, costs = self.question.words, {label: found.spent[label][-1] for label in kept}
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
        return {label: runner.layer for label, runner in self.measuring.methods.items()}

    def comparison(self, seed: int) -> Comparison:
        """The result; raises the first error where no method gave a score for any image."""
        measuring = self.measuring
        methods = [self.rows[label] for label in measuring.methods]
        if self.failures.first is not None and not any(scores for row in methods for scores in row.scores):
            raise self.failures.first
        about = {**self.about, "methods": {label: many[0].facts for label, many in measuring.rows.items()}}
        return Comparison(
            protocol=measuring.protocol,
            seed=seed,
            images=tuple(name for name, _ in self.subjects),
            asked=tuple(asked for _, asked in self.subjects),
            metrics=tuple(measuring.metrics),
            controls=measuring.controls,
            scores={label: self._columns(row) for label, row in self.rows.items()},
            curves={label: RowCurves(measuring.protocol, row.curves) for label, row in self.rows.items()},
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
            for name in self.measuring.metrics
        }
