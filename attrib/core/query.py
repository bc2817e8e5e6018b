"""One question to one model: what is asked, of which inputs, at which layer; and the passes that answer it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_leaves, tree_unflatten

from attrib import checks
from attrib.core.backward.rules import Rule
from attrib.core.network.capture import Activations, Edit, capture, detached
from attrib.core.network.geometry import Layout, layout_of, main_input
from attrib.core.network.passes import forward
from attrib.core.objectives.objective import Objective, Space
from attrib.core.shared import Backward, Gradient, SharedPass, checked_score
from attrib.errors import InputError, LayerError, ShapeError


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

    @property
    def size(self) -> tuple[int, ...]:
        """The locations of the only input: ``(H, W)`` for images, ``(L,)`` for signals, ``(D, H, W)`` for volumes."""
        if not 3 <= self.x.ndim <= 5:
            raise ShapeError(f"inputs must have locations, (N, C, H, W); got {tuple(self.x.shape)}.")
        return tuple(self.x.shape[2:])

    def layout_of(self, act: Tensor) -> Layout | None:
        """Where the channels and locations of an activation at the layer are; None where that is not known."""
        return layout_of(self.model, str(self.layer), act.shape, main_input(self.inputs).shape)

    def layout(self, act: Tensor) -> Layout:
        """Where the channels and locations of an activation at the layer are, which must be known."""
        found = self.layout_of(act)
        if found is not None:
            return found
        n = len(self.inputs[0])
        if act.ndim > 2 and len(act) != n:
            raise LayerError(
                f"layer {self.layer!r} must have one row per example, {n}; it gives {tuple(act.shape)}: its first axis "
                "are boxes, windows or tokens. Choose another layer, or let reshape= make (N, K, h, w) of it."
            )
        raise LayerError(
            f"layer {self.layer!r} must be spatial, (N, K, h, w); it gives {tuple(act.shape)}. Choose an earlier "
            "layer, or layer='auto' for the last spatial one; reshape= maps other layouts to (N, K, h, w)."
        )

    def in_space(self, space: Space | None) -> Query:
        """Return the same question in another score space; None keeps the target's own."""
        return self if space is None else replace(self, objective=self.objective.in_space(space))

    def sharing(self, shared: SharedPass) -> SharedQuery:
        """Return the same question, answered from ``shared`` where it holds the answer."""
        return SharedQuery(self.model, self.inputs, self.objective, self.layer, self.extra, shared=shared)

    def extra_rows(self, rows: Tensor) -> tuple[Any, ...]:
        """Further arguments for the examples ``rows``; a Tensor with one entry per example follows them, see `rows_of`.

        Raises:
            InputError: such a Tensor does not belong to the examples one by one: the output's shape depends on its
                length. One more forward pass tells, where an axis of the output is as long as there are examples.
        """
        n = len(self.inputs[0])
        found = rows_of(self.extra, rows, n)
        if found is not self.extra and (apart := self._alone):
            raise InputError(
                f"additional_forward_args with {n} entries must have one for each example; with {n} of them the "
                f"output is {_shapes(self.clean.output)}, with fewer or more {apart}, so that each example meets "
                "the entries of all. Keep what all examples share, such as the texts of classes, inside the model."
            )
        return found

    @cached_property
    def _alone(self) -> list[tuple[int, ...]]:
        """Shapes of the output for one example (of one: for two), if they show that it meets all further arguments."""
        n, whole = len(self.inputs[0]), [shape[1:] for shape in _shapes(self.clean.output)]
        if not any(n in shape for shape in whole):
            return []
        rows = torch.zeros(2 if n == 1 else 1, dtype=torch.long)
        with torch.no_grad():
            output, _ = self.run(tuple(x[rows.to(x.device)] for x in self.inputs), extra=rows_of(self.extra, rows, n))
        return [] if [shape[1:] for shape in _shapes(output)] == whole else _shapes(output)

    @cached_property
    def clean(self) -> Clean:
        """The clean forward pass, run once."""
        layers = (self.layer,) if self.layer else ()
        with torch.no_grad():
            output, acts = self.run(tuple(x.clone() for x in self.inputs), *layers, *self.objective.layers)
            goal = self.objective.bind(output, acts)
            return Clean(goal, checked_score(goal(output, acts), len(self.inputs[0])), output, acts)

    def run(
        self,
        inputs: tuple[Tensor, ...],
        *layers: str,
        extra: tuple[Any, ...] | None = None,
        edit: Mapping[str, Edit] | None = None,
    ) -> tuple[Any, Activations]:
        """Run the model once; return its raw output and the activations of ``layers``."""
        with capture(self.model, *dict.fromkeys(layers), edit=edit) as acts:
            output = forward(self.model, inputs, self.extra if extra is None else extra)
        return output, acts

    def gradient(
        self, at: str | None = None, override: Mapping[str, Rule] | None = None, *, check: bool = True
    ) -> Gradient:
        """Differentiate the score to the inputs, or to layer ``at``; the graph then starts at that layer.

        One forward and one backward pass; no weight gradient is computed and no ``.grad`` is touched. ``override``
        gives activation families another backward pass, see `rules`; with ``check`` none of them may escape.
        """
        want = Backward(at, override)
        alone = SharedPass(self.model, self.inputs, (want,), (self.objective,), self.extra)
        return alone.gradient(self.objective, want, check=check)


@dataclass(frozen=True)
class SharedQuery(Query):
    """A question whose gradients are read from a `SharedPass` where it holds them."""

    shared: SharedPass = field(kw_only=True, repr=False)

    @cached_property
    def clean(self) -> Clean:
        """The clean forward pass: the shared one, if it kept what is asked for."""
        if not self.shared.kept(*((self.layer,) if self.layer else ()), *self.objective.layers):
            return Query(self.model, self.inputs, self.objective, self.layer, self.extra).clean
        scored = self.shared.bind(self.objective)
        return Clean(scored.goal, scored.score.detach(), detached(self.shared.output), self.shared.acts.detached())

    def gradient(
        self, at: str | None = None, override: Mapping[str, Rule] | None = None, *, check: bool = True
    ) -> Gradient:
        """Read the gradient from the shared pass, or make it with passes of its own."""
        want = Backward(at, override)
        if self.shared.holds(self.objective, want):
            return self.shared.gradient(self.objective, want, check=check)
        return super().gradient(at, override, check=check)


def rows_of(extra: tuple[Any, ...], rows: Tensor, n: int) -> tuple[Any, ...]:
    """Further arguments for ``rows`` of ``n`` examples: Tensors with one entry per example follow, the rest stays.

    Tensors in tuples, lists and dicts follow, too, wherever they are in them.
    """
    values, places = tree_flatten(extra)
    follows = [isinstance(value, Tensor) and value.ndim > 0 and len(value) == n for value in values]
    if not any(follows):
        return extra
    moved = [value[rows.to(value.device)] if one else value for value, one in zip(values, follows, strict=True)]
    found: tuple[Any, ...] = tree_unflatten(moved, places)
    return found


def _shapes(output: Any) -> list[tuple[int, ...]]:
    """Shapes of all tensors of an output."""
    return [tuple(leaf.shape) for leaf in tree_leaves(output) if isinstance(leaf, Tensor)]
