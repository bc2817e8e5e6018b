"""One batch, asked everything at once: what methods and targets have in common is computed once, and counted so."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor

from attrib.core import Objective, Query, frozen
from attrib.core.together import Together
from attrib.report.records import Asked, Spent
from attrib.tasks.further import Further
from attrib.tasks.measure import Meter, measured
from attrib.tasks.questions import Question
from attrib.tasks.run import Failures, Runner
from attrib.tasks.subject import Network


@dataclass
class Ledger:
    """What each method took for itself, and the passes that it read."""

    own: dict[str, list[Spent]] = field(default_factory=dict)
    passes: list[tuple[Spent, frozenset[str]]] = field(default_factory=list)

    def note(self, label: str, spent: Spent) -> None:
        """Add what a method took for itself."""
        self.own.setdefault(label, []).append(spent)

    def of(self, label: str) -> Spent:
        """What a method took: its own work and every pass that it read, whole."""
        read = [spent.for_several() if len(users) > 1 else spent for spent, users in self.passes if label in users]
        return Spent.total([*self.own.get(label, ()), *read])

    def total(self) -> Spent:
        """What all methods took together, every pass once."""
        own = [spent for many in self.own.values() for spent in many]
        return Spent.total([*own, *(spent for spent, users in self.passes if users)])


@dataclass(frozen=True, eq=False)
class Answers:
    """One batch: for each question the settled goal and what it means, and by method and target the maps made.

    ``extra`` are further arguments of the model for these images.
    """

    goals: dict[str, Objective]
    asked: tuple[tuple[Asked, ...], ...]
    maps: dict[tuple[str, str], Tensor]
    extra: tuple[Any, ...] = ()


@dataclass(frozen=True, eq=False)
class Sharing:
    """Runs the methods that say which gradients they read; the others are left to run on their own.

    Attributes:
        network: the model.
        questions: the targets.
        runners: the methods.
        failures: where what fails is noted.
        ledger: where what it takes is noted.
        lost: methods and targets that failed.
        further: what the model takes besides the images.
    """

    network: Network
    questions: Sequence[Question]
    runners: Sequence[Runner]
    failures: Failures
    ledger: Ledger = field(default_factory=Ledger)
    lost: set[tuple[str, str]] = field(default_factory=set)
    further: Further = field(default_factory=Further)

    def run(self, x: Tensor, positions: Sequence[int], image: str | None = None) -> Answers:
        """Run images, which stand at ``positions`` of all, through the model once, and read from that what is wanted.

        A method that fails with a target is noted, and not tried with it again. If the shared pass itself fails, there
        are no maps: each method is then asked alone, and says what is wrong.
        """
        objectives = [question.objective.rows(torch.tensor(positions)) for question in self.questions]
        extra = self.further.rows(positions)
        self._settle(x, extra)
        with frozen(self.network.model):
            together, meter = self._together(Query(self.network.model, (x,), objectives[0], None, extra), objectives)
            cleans = [together.clean(objective) for objective in objectives]
            asked = tuple(one.told(self.network, clean) for one, clean in zip(self.questions, cleans, strict=True))
            maps: dict[tuple[str, str], Tensor] = {}
            for question, objective in zip(self.questions, objectives, strict=True):
                maps |= self._maps(together, objective, question.words, meter, image)
        self.ledger.passes.append((meter.spent, frozenset(label for label, _ in maps)))
        goals = {question.words: clean.goal for question, clean in zip(self.questions, cleans, strict=True)}
        return Answers(goals, asked, maps, extra)

    def _settle(self, x: Tensor, extra: tuple[Any, ...]) -> None:
        """Find the layer of methods with "auto" once; where there is none, each of them says so when it runs."""
        found: dict[object, str] = {}
        for runner in (runner for runner in self.runners if runner.layer == "auto"):
            kind = type(runner.method).find_layer  # methods may mean different layers by it
            with suppress(Exception), frozen(self.network.model):
                found[kind] = runner.layer = found.get(kind) or runner.method.find_layer((x,), extra)

    def _together(self, query: Query, objectives: Sequence[Objective]) -> tuple[Together[str], Meter]:
        known = {one.label: (one.method, one.layer) for one in self.runners if one.layer != "auto"}
        sharing = {label: (method, layer) for label, (method, layer) in known.items() if method.passes(layer)}
        device = query.x.device
        with suppress(
            Exception
        ):  # too little memory for the graph, or a model that fails: alone it may be another story
            with measured(device) as meter:
                together = Together(sharing, query, objectives)
            return together, meter
        with measured(device) as meter:
            together = Together({}, query, objectives)
        return together, meter

    def _maps(
        self, together: Together[str], objective: Objective, words: str, meter: Meter, image: str | None
    ) -> dict[tuple[str, str], Tensor]:
        """What one target gives."""
        maps: dict[tuple[str, str], Tensor] = {}
        passes = []
        for rules in together.shared.rules:
            with measured(meter.device, since=meter) as taken, suppress(Exception):  # who reads it will say it again
                together.shared.prepare(objective, rules)
            passes.append((taken.spent, together.users(rules)))
        for label in [label for label in together.methods if (label, words) not in self.lost]:
            work = partial(self._answer, together, label, objective, meter)
            done = self.failures.attempt(work, image=image, method=label, target=None if image else words)
            if done is None:
                self.lost.add((label, words))
            else:
                maps[label, words] = done
        together.shared.forget(objective)
        self.ledger.passes += [(spent, frozenset(users) & {label for label, _ in maps}) for spent, users in passes]
        return maps

    def _answer(self, together: Together[str], label: str, objective: Objective, meter: Meter) -> Tensor:
        with measured(meter.device, since=meter) as taken:
            answer = together.answer(label, objective)
            maps = (answer if isinstance(answer, Tensor) else answer[0]).cpu()
        self.ledger.note(label, taken.spent)
        return maps
