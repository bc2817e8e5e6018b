"""One forward pass, kept with its graph: the gradients that methods and targets have in common are read from it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field
from itertools import repeat
from typing import Any, TypeAlias

import torch
from torch import Tensor

from attrib.core.backward.graph import gradients, unreached
from attrib.core.backward.rules import Coverage, Rule, Switch
from attrib.core.network import cost
from attrib.core.network.capture import Activations, capture
from attrib.core.network.passes import forward
from attrib.core.objectives.objective import Objective
from attrib.errors import LayerError, TargetError

Rules: TypeAlias = frozenset[tuple[str, Rule]]
_Key: TypeAlias = "tuple[str | None, Rules]"  # where, and under which rules


@dataclass(frozen=True, eq=False)
class Backward:
    """One gradient that a method reads.

    Attributes:
        at: address of the layer that is differentiated to; None is the inputs.
        override: rules by activation family, see `rules`; None is the true gradient.
    """

    at: str | None = None
    override: Mapping[str, Rule] | None = None

    @property
    def rules(self) -> Rules:
        """What holds for the whole backward pass: gradients with the same rules come from one."""
        return frozenset((self.override or {}).items())


@dataclass(frozen=True)
class Recorded:
    """A layer whose activations a method reads from the clean run, without a gradient.

    Attributes:
        at: address of the layer.
    """

    at: str


@dataclass(frozen=True)
class Gradient:
    """A score ``(N,)``, what it was differentiated to (``act``) and the gradient ``d score_n / d act_n``.

    ``act`` and ``grad`` hold one Tensor per input, or one Tensor for a layer. ``coverage`` tells which activations
    had their backward pass overridden.
    """

    goal: Objective
    score: Tensor
    act: tuple[Tensor, ...]
    grad: tuple[Tensor, ...]
    coverage: Coverage | None = None


@dataclass(frozen=True, eq=False)
class Scored:
    """An objective, bound on the clean output, and its score ``(N,)`` with the graph behind it."""

    objective: Objective
    goal: Objective
    score: Tensor
    coverage: dict[_Key, Coverage | None] = field(default_factory=dict)
    grads: dict[_Key, tuple[Tensor | None, ...]] = field(default_factory=dict)


class SharedPass:
    """One forward pass, from which the ``wanted`` gradients of all ``objectives`` are read.

    Convention:
        - there is one backward pass per objective and set of rules; it ends at the inputs and at all layers at once.
        - the graph starts at the inputs only if a gradient there is wanted, else at the first wanted layer.
        - every gradient is, bit for bit, the one that a pass of its own gives: autograd visits the nodes of a graph in
          one order, whatever else is asked. (A model that runs other kernels where gradients are recorded, such as
          `torch.nn.MultiheadAttention`, may round differently before the layer where a pass of its own starts.)
        - objectives are differentiated one after another: batched gradients (``is_grads_batched``) round differently,
          and were no faster on a CPU.
        - no weight gradient is computed and no ``.grad`` is touched.

    Memory: one graph, freed after the last wanted backward pass; the gradients of an objective until `forget`.

    Args:
        model: the unwrapped model, `frozen`.
        inputs: detached tensors that share the batch axis.
        wanted: what will be read.
        objectives: of which scores.
        extra: further arguments of the model.
    """

    def __init__(
        self,
        model: Any,
        inputs: tuple[Tensor, ...],
        wanted: Sequence[Backward | Recorded],
        objectives: Sequence[Objective],
        extra: tuple[Any, ...] = (),
    ) -> None:
        self.wanted = tuple(one for one in wanted if isinstance(one, Backward))
        ends = [one.at for one in self.wanted]
        self.leaves = tuple(x.detach().requires_grad_(None in ends) for x in inputs)
        # The model gets clones, always: it may change its input in place, which must not reach the user's tensor.
        seen = tuple(x.clone() for x in self.leaves)
        overrides = [one.override for one in self.wanted if one.override]
        self.switch = Switch(*overrides)
        self._kept = {one.at for one in wanted if one.at} | {layer for one in objectives for layer in one.layers}
        recording = capture(model, *self._kept, leaf=any(ends))
        with torch.enable_grad(), recording as acts, self.switch if overrides else nullcontext():
            self.output: Any = forward(model, seen, extra)
        self.acts: Activations = acts
        self._objectives = tuple(objectives)  # alive, so that their ids stay theirs
        self._due = {(id(objective), one.rules) for objective in objectives for one in self.wanted}
        self._scored: list[Scored] = []

    @property
    def rules(self) -> tuple[Rules, ...]:
        """The sets of rules that are wanted: one backward pass each."""
        return tuple(dict.fromkeys(one.rules for one in self.wanted))

    def kept(self, *layers: str) -> bool:
        """Whether the activations of these layers were recorded."""
        return self._kept.issuperset(layers)

    def holds(self, objective: Objective, want: Backward) -> bool:
        """Whether this gradient was wanted, and is there or can still be read."""
        found = self._find(objective)
        if found is not None and (want.at, want.rules) in found.grads:
            return True
        due = (id(found.objective if found else objective), want.rules) in self._due
        return due and want.at in self._ends(want.rules)

    def _find(self, objective: Objective) -> Scored | None:
        return next((one for one in self._scored if objective is one.objective or objective is one.goal), None)

    def bind(self, objective: Objective) -> Scored:
        """Bind ``objective`` on the output and score it, once."""
        if (found := self._find(objective)) is not None:
            return found
        with torch.enable_grad():
            goal = objective.bind(self.output, self.acts)
            score = checked_score(goal(self.output, self.acts), len(self.leaves[0]))
        self._scored.append(Scored(objective, goal, score))
        return self._scored[-1]

    def gradient(self, objective: Objective, want: Backward, *, check: bool = True) -> Gradient:
        """Read a wanted gradient; with ``check`` no activation may escape its rule."""
        scored = self.bind(objective)
        act = self._act(want.at)
        coverage = self._coverage(scored, want)
        if coverage and check:
            coverage.check()
        if (want.at, want.rules) not in scored.grads:
            self._differentiate(scored, want.rules)
        found = scored.grads[want.at, want.rules]
        if all(grad is None for grad in found):
            raise self._unreached(scored, want.at)
        grads = tuple(torch.zeros_like(a) if g is None else g for g, a in zip(found, act, strict=True))
        return Gradient(scored.goal, scored.score.detach(), tuple(a.detach() for a in act), grads, coverage)

    def prepare(self, objective: Objective, rules: Rules) -> None:
        """Run the backward pass with these rules now, if a gradient of it can be read."""
        scored = self.bind(objective)
        wants = [one for one in self.wanted if one.rules == rules and self._reached(one.at)]
        if (id(scored.objective), rules) in self._due and any(
            coverage is None or coverage.holds for coverage in (self._coverage(scored, want) for want in wants)
        ):
            self._differentiate(scored, rules)

    def _differentiate(self, scored: Scored, rules: Rules) -> None:
        """Run one backward pass to everything that is wanted with these rules."""
        self._due.discard((id(scored.objective), rules))
        acts = {at: self._reached(at) for at in self._ends(rules)}
        ends = [a for act in acts.values() for a in act if a.requires_grad]
        grads: Iterator[Tensor | None] = repeat(None)
        if ends and scored.score.requires_grad:
            cost.add(backwards=len(scored.score))
            total, more = scored.score.sum(), bool(self._due)
            with self.switch.using(dict(rules)):
                grads = iter(gradients(total, ends, keep=more))
        for at, act in acts.items():
            scored.grads[at, rules] = tuple(next(grads) if a.requires_grad else None for a in act)

    def forget(self, objective: Objective) -> None:
        """Let the gradients of ``objective`` go; those that were not read yet are not wanted any more."""
        scored = self.bind(objective)
        self._due = {one for one in self._due if one[0] != id(scored.objective)}
        scored.grads.clear()

    def _ends(self, rules: Rules) -> list[str | None]:
        return list(dict.fromkeys(one.at for one in self.wanted if one.rules == rules))

    def _act(self, at: str | None) -> tuple[Tensor, ...]:
        return self.leaves if at is None else (self.acts[at],)

    def _reached(self, at: str | None) -> tuple[Tensor, ...]:
        """What is differentiated to; nothing for a layer that did not run, which its own method will be told."""
        with suppress(LayerError):
            return self._act(at)
        return ()

    def _coverage(self, scored: Scored, want: Backward) -> Coverage | None:
        """What is overridden between there and the score, searched for once; None without rules."""
        key = (want.at, want.rules)
        if key not in scored.coverage:
            scored.coverage[key] = self._searched(scored.score, want) if want.override else None
        return scored.coverage[key]

    def _searched(self, score: Tensor, want: Backward) -> Coverage:
        since = [act for act in self._act(want.at) if act.requires_grad]
        with self.switch.using(want.override):
            return self.switch.coverage(score, since) if since else Coverage({}, {}, {})

    def _unreached(self, scored: Scored, at: str | None) -> Exception:
        if at is not None and scored.goal.layers:
            return LayerError(f"the score must depend on layer {at!r}; it does not. Choose a layer before the target.")
        where = f"layer {at!r}" if at else "the inputs"
        return unreached(where, ", or is the layer after the target" if at else "")


def checked_score(score: Tensor, n: int) -> Tensor:
    """``score`` must have one number per example."""
    if score.shape != (n,):
        raise TargetError(
            f"the score must have one number per example, shape ({n},); got {tuple(score.shape)}. "
            "Does the model keep the batch axis? One image needs x[None]."
        )
    return score
