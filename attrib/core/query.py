"""One question to one model: what is asked, of which inputs, at which layer; and the passes that answer it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from attrib import checks
from attrib.core import cost
from attrib.core.capture import Activations, Edit, capture
from attrib.core.objective import Objective, Space
from attrib.core.passes import forward
from attrib.core.rules import Coverage, Rule, rules
from attrib.errors import LayerError, ModelError, ShapeError, TargetError


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


@dataclass(frozen=True)
class Clean:
    """The unperturbed forward pass: bound goal, score ``(N,)``, raw output and the activations that were asked for."""

    goal: Objective
    score: Tensor
    output: Any
    acts: Activations


@dataclass(frozen=True)
class Query:
    """What one call of ``attribute`` asks.

    Attributes:
        model: the unwrapped model.
        inputs: detached tensors that share the batch axis.
        objective: what to explain, not yet bound to the clean output.
        layer: resolved address, or None for the inputs.
        extra: further arguments of the model, passed on as they are.
    """

    model: Callable[..., Any]
    inputs: tuple[Tensor, ...]
    objective: Objective
    layer: str | None = None
    extra: tuple[Any, ...] = ()

    @property
    def x(self) -> Tensor:
        """The only input; methods that need image geometry ask for it."""
        if len(self.inputs) != 1:
            raise ShapeError(
                f"this method explains one input; got {len(self.inputs)}. Pass the rest as additional_forward_args."
            )
        return self.inputs[0]

    @property
    def image(self) -> Tensor:
        """The only input, which must be ``(N, C, H, W)``."""
        return checks.shape(self.x, "n c h w", "inputs")

    def in_space(self, space: Space | None) -> Query:
        """Return the same question in another score space; None keeps the target's own."""
        return self if space is None else replace(self, objective=self.objective.in_space(space))

    def extra_rows(self, rows: Tensor) -> tuple[Any, ...]:
        """Further arguments for the examples ``rows``; a Tensor with one entry per example follows them."""
        n = len(self.inputs[0])
        return tuple(
            value[rows.to(value.device)] if isinstance(value, Tensor) and value.ndim > 0 and len(value) == n else value
            for value in self.extra
        )

    @cached_property
    def clean(self) -> Clean:
        """The clean forward pass, run once."""
        layers = (self.layer,) if self.layer else ()
        with torch.no_grad():
            output, acts = self.run(tuple(x.clone() for x in self.inputs), *layers, *self.objective.layers)
            goal = self.objective.bind(output, acts)
            return Clean(goal, self._score(goal, output, acts), output, acts)

    def run(
        self,
        inputs: tuple[Tensor, ...],
        *layers: str,
        extra: tuple[Any, ...] | None = None,
        edit: Mapping[str, Edit] | None = None,
        leaf: bool = False,
    ) -> tuple[Any, Activations]:
        """Run the model once; return its raw output and the activations of ``layers``."""
        with capture(self.model, *dict.fromkeys(layers), edit=edit, leaf=leaf) as acts:
            output = forward(self.model, inputs, self.extra if extra is None else extra)
        return output, acts

    def gradient(
        self, at: str | None = None, override: Mapping[str, Rule] | None = None, *, check: bool = True
    ) -> Gradient:
        """Differentiate the score to the inputs, or to layer ``at``; the graph then starts at that layer.

        One forward and one backward pass; no weight gradient is computed and no ``.grad`` is touched. ``override``
        gives activation families another backward pass, see `rules`; with ``check`` none of them may escape.
        """
        leaves = tuple(x.detach().requires_grad_(at is None) for x in self.inputs)
        # The model gets clones, always: it may change its input in place, which must not reach the user's tensor.
        seen = tuple(x.clone() for x in leaves)
        mode = rules(**override) if override else None
        with torch.enable_grad():
            with mode or nullcontext():
                output, acts = self.run(seen, *((at,) if at else ()), *self.objective.layers, leaf=at is not None)
            goal = self.objective.bind(output, acts)
            score = self._score(goal, output, acts)
            act = (acts[at],) if at else leaves
            coverage = mode.coverage(score) if mode else None
            if coverage and check:
                coverage.check()
            grad = self._differentiate(score, act, at)
        return Gradient(goal, score.detach(), tuple(a.detach() for a in act), grad, coverage)

    def _score(self, goal: Objective, output: Any, acts: Activations) -> Tensor:
        score = goal(output, acts)
        if score.shape != (len(self.inputs[0]),):
            raise TargetError(
                f"the score must have one number per example, shape ({len(self.inputs[0])},); got "
                f"{tuple(score.shape)}. Does the model keep the batch axis? One image needs x[None]."
            )
        return score

    def _differentiate(self, score: Tensor, act: tuple[Tensor, ...], at: str | None) -> tuple[Tensor, ...]:
        if not score.requires_grad:
            where = f"layer {at!r}" if at else "the inputs"
            raise ModelError(
                f"the score must depend differentiably on {where}; no graph leads there. "
                "Is there a no_grad, detach or argmax in the model or target, or is the layer after the target?"
            )
        cost.add(backwards=len(score))
        grads: tuple[Tensor | None, ...] = torch.autograd.grad(score.sum(), act, allow_unused=True)
        if all(g is None for g in grads):
            raise LayerError(
                f"the score must depend on layer {at!r}; it does not. Choose a layer before the target."
                if at
                else "the score must depend on the inputs; it does not."
            )
        return tuple(torch.zeros_like(a) if g is None else g for g, a in zip(grads, act, strict=True))
