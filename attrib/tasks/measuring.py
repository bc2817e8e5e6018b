"""One image, measured: the maps of every row, their curves from shared passes, a number for each metric."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from typing import Any, Literal

import torch
from PIL import Image
from torch import Tensor

from attrib.core.objectives.objective import Objective
from attrib.errors import InputError
from attrib.metrics import CurveMetric, Curves, Metric, Protocol, curves
from attrib.report.records import Asked, Spent
from attrib.tasks.further import Further
from attrib.tasks.questions import Question
from attrib.tasks.run import Failures, Runner
from attrib.tasks.sharing import Answers, Sharing
from attrib.tasks.subject import Network

GIVEN = ("model", "masks", "method")  # what a metric may need; what else is needed nobody here can give


@dataclass(frozen=True, eq=False)
class Subject:
    """One image that could be read, and what is asked of it.

    Attributes:
        name: of the image.
        x: the model's input ``(1, C, H, W)``.
        view: the same as a picture, where there is one.
        mask: ``(1, H, W)``, True inside the object; None if it is not known.
        question: what is asked.
        answers: what the shared pass gave.
        sharing: and what it took.
    """

    name: str
    x: Tensor
    view: Image.Image | None
    mask: Tensor | None
    question: Question
    answers: Answers
    sharing: Sharing

    @property
    def goal(self) -> Objective:
        """The question, settled."""
        return self.answers.goals[self.question.words]

    @property
    def asked(self) -> Asked:
        """What it means for this image."""
        ((asked,),) = self.answers.asked
        return asked


@dataclass(frozen=True, eq=False)
class Measured:
    """What was found on one image, for each row; what failed is missing.

    Attributes:
        maps: one for each seed.
        curves: one for each seed.
        scores: the mean over seeds of each metric.
        spent: what each map took.
    """

    maps: Mapping[str, list[Tensor]]
    curves: Mapping[str, list[Curves]]
    scores: Mapping[str, dict[str, float]]
    spent: Mapping[str, list[Spent]]


@dataclass(frozen=True, eq=False)
class Measuring:
    """Makes and measures the maps of one image after the other.

    Attributes:
        network: the model.
        rows: methods and controls by label, each with a runner for every seed.
        controls: which rows are controls.
        metrics: by label.
        protocol: how curves are measured.
        batch_size: rows per forward pass while maps are measured.
        failures: where what fails is noted.
        further: what the model takes besides the images.
    """

    network: Network
    rows: Mapping[str, Sequence[Runner]]
    controls: tuple[str, ...]
    metrics: Mapping[str, Metric]
    protocol: Protocol
    batch_size: int | Literal["auto"] = "auto"
    failures: Failures = field(default_factory=Failures)
    further: Further = field(default_factory=Further)

    @property
    def methods(self) -> dict[str, Runner]:
        """The rows that are no controls."""
        return {label: runners[0] for label, runners in self.rows.items() if label not in self.controls}

    def ask(
        self,
        name: str,
        x: Tensor,
        question: Question,
        *,
        position: int = 0,
        view: Image.Image | None = None,
        mask: Tensor | None = None,
    ) -> Subject:
        """Settle what is asked of an image, which stands at ``position`` of those that the question speaks of."""
        sharing = Sharing(self.network, [question], [*self.methods.values()], self.failures, further=self.further)
        answers = sharing.run(x, [position], name)
        return Subject(name, x, view, mask, question, answers, sharing)

    def measure(self, subject: Subject) -> Measured:
        """Make and measure the maps of every row; what fails is noted."""
        made = {label: self._maps(label, runners, subject) for label, runners in self.rows.items()}
        maps = {label: found for label, (found, _) in made.items()}
        drawn = self._measured(subject, maps)
        scores = {label: self._scores(label, subject, maps[label], drawn[label]) for label in self.rows}
        return Measured(maps, drawn, scores, {label: spent for label, (_, spent) in made.items()})

    def _maps(self, label: str, runners: Sequence[Runner], subject: Subject) -> tuple[list[Tensor], list[Spent]]:
        """Make the maps of one row, or take those that were shared; all or none of its seeds count."""
        key = (label, subject.question.words)
        if key in subject.sharing.lost:
            return [], []
        if key in subject.answers.maps:
            return [subject.answers.maps[key]], [subject.sharing.ledger.of(label)]
        noted = partial(self.failures.attempt, image=subject.name, method=label)
        made = [noted(partial(runner.run, subject.x, subject.goal, subject.answers.extra)) for runner in runners]
        maps, spent = [one[0] for one in made if one is not None], [one[1] for one in made if one is not None]
        return maps if len(maps) == len(runners) else [], spent

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
        which = {name for metric in self.metrics.values() if isinstance(metric, CurveMetric) for name in metric.reads}
        if not which or not maps:
            return []
        named = {str(i): one for i, one in enumerate(maps)}
        options: dict[str, Any] = {"which": tuple(which), "batch_size": self.batch_size}
        options["additional_forward_args"] = subject.answers.extra
        found = curves(self.network.model, subject.x, subject.goal, named, self.protocol, **options)
        return list(found.values())

    def _scores(
        self, label: str, subject: Subject, maps: Sequence[Tensor], drawn: Sequence[Curves]
    ) -> dict[str, float]:
        """The mean over seeds of each metric; none where there is no map, or the metric fails."""
        found = {}
        for name, metric in self.metrics.items():
            work = partial(self._values, label, metric, subject, maps, drawn)
            values = self.failures.attempt(work, image=subject.name, method=label, metric=name)
            if values:
                found[name] = float(torch.cat(values).double().mean())
        return found

    def _values(
        self, label: str, metric: Metric, subject: Subject, maps: Sequence[Tensor], drawn: Sequence[Curves]
    ) -> list[Tensor]:
        """The number ``(1,)`` of each seed."""
        if isinstance(metric, CurveMetric):
            return [metric.from_curves(one, normalised=metric.normalised) for one in drawn]
        if "masks" in metric.needs and subject.mask is None:
            return [torch.full((1,), torch.nan) for _ in maps]
        score = partial(metric.score, self.network.model, subject.x, subject.goal)
        pairs = zip(maps, self.rows[label], strict=False)  # no maps if one seed failed
        values = [score(one, self.protocol, **self._extra(metric, subject, runner)) for one, runner in pairs]
        return [value.detach().cpu() for value in values]

    def _extra(self, metric: Metric, subject: Subject, runner: Runner) -> dict[str, Any]:
        """What a metric needs beside the maps, and how the model is run."""
        extra: dict[str, Any] = {"batch_size": self.batch_size, "additional_forward_args": subject.answers.extra}
        if "masks" in metric.needs:
            extra["masks"] = subject.mask
        if "method" in metric.needs:
            extra["method"] = settled(runner)
        return extra


def settled(runner: Runner) -> Any:
    """The method of a row, bound to the layer that it explains."""
    if runner.layer is None or runner.method.layer == runner.layer:
        return runner.method
    bound = copy(runner.method)
    bound.layer = runner.layer
    return bound


def check_needs(metrics: Mapping[str, Metric | type[Metric]], given: Sequence[str], remedy: str = "") -> None:
    """Refuse metrics that need what is not there."""
    for name, metric in metrics.items():
        if more := sorted(set(metric.needs) - set(given)):
            had = " and ".join(given) if len(given) < 3 else f"{', '.join(given[:-1])} and {given[-1]}"
            raise InputError(f"metrics must need nothing but the {had}; {name!r} needs {', '.join(more)}.{remedy}")


def check_orders(metrics: Mapping[str, Metric], protocol: Protocol) -> None:
    """Refuse metrics that read curves which ``protocol`` does not measure."""
    for name, metric in metrics.items():
        reads = metric.reads if isinstance(metric, CurveMetric) else ()
        if lost := [one for one in reads if ("lerf" if one == "lerf" else "morf") not in protocol.order]:
            raise InputError(
                f"the protocol must measure {', '.join(lost)} for {name!r}; its order is {'+'.join(protocol.order)}."
            )
