"""How likely each unit of a layer is to win, when a target at the top hands its signal down: see `excitation`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map_only

from attrib.core.backward.graph import between, gradients, unreached
from attrib.core.network import cost
from attrib.core.network.capture import Activations, capture
from attrib.core.network.passes import forward
from attrib.core.query import Query
from attrib.core.relevance.drives import Sum, Summed, Weighted, note, refusal, sum_behind
from attrib.core.relevance.excitation import excitation
from attrib.core.shared import checked_score
from attrib.errors import LayerError, ModelError, RuleError, TargetError


def winning(query: Query, *, contrastive: bool = False) -> Tensor:
    """Share the target's signal out, down to ``query.layer``; one share per unit, in the shape of its activation.

    The signal of each example is 1. It starts where the target reads the model, in proportion to the positive part of
    its gradient there: all of it at the class for a class score.

    Args:
        query: the question; its layer is where the signal is read.
        contrastive: take off what the dual gets, for which the weights next below the target are the model's negative.
    """
    layer = str(query.layer)
    keep = dict.fromkeys((layer, *query.objective.layers))
    # From the inputs on: what passes the layer by, such as a shortcut, has its share, too.
    leaves = [x.detach().requires_grad_(True) for x in query.inputs]
    with capture(query.model, *keep, edit={layer: _unfolded}) as acts, excitation():
        output = forward(query.model, tuple(x.clone() for x in leaves), query.extra)
    ends, act = _start(query, output, acts), acts[layer]
    _check([end for end, _ in ends], act)
    won = _down(ends, act, layer, keep=contrastive)
    if not contrastive:
        return won
    if not _turn([end for end, _ in ends], act):
        raise LayerError(
            f"a contrast needs a convolution or linear layer between {layer!r} and the target; there is none. "
            "Choose an earlier layer."
        )
    return won - _down(ends, act, layer, keep=False)


def _unfolded(act: Tensor) -> Tensor:
    """The layer's activation; what is behind must not be folded into what is before, and pass it by."""
    drive = sum_behind(act)
    return note(act, replace(drive, folds=False)) if isinstance(drive, Weighted) else act


def _start(query: Query, output: Any, acts: Activations) -> list[tuple[Tensor, Tensor]]:
    """Where the signal starts, and with what: the positive part of the target's gradient, 1 in sum per example."""
    goal = query.objective.bind(output, acts)
    found: list[object] = [*tree_leaves(output), *(acts[layer] for layer in goal.layers)]
    places = {id(t): t for t in found if isinstance(t, Tensor) and t.is_floating_point()}
    if not places:
        raise ModelError(
            "the model's output must hold Tensors in tuples, lists or dicts, where signals start; it is a "
            f"{type(output).__name__}. Wrap the model in a function that returns one of these."
        )
    copies = {key: t.detach().clone().requires_grad_(True) for key, t in places.items()}
    seen = {layer: copies[id(acts[layer])] for layer in goal.layers}
    asked = goal(tree_map_only(Tensor, lambda t: copies.get(id(t), t), output), seen)
    score = checked_score(asked, len(query.inputs[0]))
    if not score.requires_grad:
        raise unreached("the model's output")
    grads = gradients(score.sum(), [*copies.values()])
    slopes = {
        key: torch.zeros_like(copy) if grad is None else grad.clamp(min=0)
        for (key, copy), grad in zip(copies.items(), grads, strict=True)
    }
    total = torch.stack([slope.reshape(len(slope), -1).sum(1) for slope in slopes.values()]).sum(0)
    if not bool((total > 0).all()):
        raise TargetError(
            "the target must rise with some output of the model, where its signal starts; it does not for examples "
            f"{(total <= 0).nonzero()[:, 0].tolist()}. For what speaks against a class use contrastive=True."
        )
    return [
        (places[key], slope / total.reshape(-1, *(1,) * (slope.ndim - 1)))
        for key, slope in slopes.items()
        if bool(slope.any())
    ]


def _down(ends: list[tuple[Tensor, Tensor]], act: Tensor, layer: str, *, keep: bool) -> Tensor:
    """Hand the signal down to ``act``."""
    reached = [(end, signal) for end, signal in ends if end.requires_grad]
    found: tuple[Tensor | None, ...] = (None,)
    if reached:
        cost.add(backwards=len(act))
        tops, signals = zip(*reached, strict=True)
        found = gradients(tops, [act], signals, keep=keep)
    if found[0] is None:
        raise LayerError(f"the target must depend on layer {layer!r}; it does not. Choose a layer before the target.")
    return found[0]


def _check(ends: Sequence[Tensor], act: Tensor) -> None:
    """Refuse what a signal cannot pass on its way to ``act``."""
    for end in ends:
        if end.grad_fn is not None and (reason := refusal(between(end, [act]))):
            raise RuleError(reason)


def _turn(ends: Sequence[Tensor], act: Tensor) -> int:
    """Turn the weights of the first layers below the target around; return how many there are."""
    todo: list[Any] = [end.grad_fn for end in ends]
    seen: set[Any] = {act.grad_fn}
    turned = 0
    while todo:
        node = todo.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        drive, below = getattr(node, "drive", None), [parent for parent, _ in node.next_functions]
        if isinstance(drive, Sum) and drive.weighted:
            node.dual = True
        if isinstance(drive, Weighted):
            turned += 1
            continue
        if isinstance(drive, Summed) and drive.weighted:
            below = [parent for parent, one in zip(below, drive.below, strict=True) if one and one.weighted]
        todo.extend(below)
    return turned
