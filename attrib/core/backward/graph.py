"""The graph that autograd keeps: which of its nodes lie between two places, and what comes down through it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge, get_gradient_edge

from attrib.errors import AttribError, ModelError


def between(score: Tensor, since: Sequence[Tensor]) -> list[Any]:
    """Autograd nodes behind ``score``; with ``since`` only those on a way to one of these tensors."""
    above: dict[Any, list[Any]] = {score.grad_fn: []}
    edges = {(edge.node, edge.output_nr) for edge in map(get_gradient_edge, since)}
    todo, ends = [score.grad_fn], []
    while todo:
        node: Any = todo.pop()
        for parent, number in node.next_functions if node else ():
            if (parent, number) in edges:
                ends.append(node)
            if parent not in above:
                todo.append(parent)
            above.setdefault(parent, []).append(node)
    if not since:
        return [node for node in above if node]
    found: dict[Any, None] = {}  # in order, so that what is said of them is always the same
    while ends:
        if (node := ends.pop()) not in found:
            found[node] = None
            ends.extend(above[node])
    return [*found]


def gradients(
    tops: Tensor | Sequence[Tensor],
    ends: Sequence[Tensor] | Sequence[GradientEdge],
    signals: Sequence[Tensor] | None = None,
    *,
    keep: bool = False,
) -> tuple[Tensor | None, ...]:
    """Hand ``signals``, or ones, down from ``tops`` to ``ends``; what no graph leads to gets None.

    A RuntimeError on the way is told as one of the model. ``keep`` keeps the graph for another pass.
    """
    try:
        return torch.autograd.grad(tops, ends, signals, retain_graph=keep, allow_unused=True)
    except (AttribError, torch.OutOfMemoryError):
        raise
    except RuntimeError as exc:
        told = str(exc).partition("\n")[0].rstrip(". ")
        raise ModelError(f"the model's backward pass failed: {told}.{_remedy(exc)}") from exc


def _remedy(exc: RuntimeError) -> str:
    if "checkpoint" not in str(exc):
        return ""
    return (
        " What is checkpointed runs again on the way back, where it cannot be followed: turn that off, as with "
        "model.set_grad_checkpointing(False) (timm) or model.gradient_checkpointing_disable() (transformers)."
    )


def unreached(where: str, otherwise: str = "") -> ModelError:
    """What to say where no graph leads from the score to ``where``."""
    return ModelError(
        f"the score must depend differentiably on {where}; no graph leads there. "
        f"Is there a no_grad, detach, argmax or reentrant checkpoint in the model or target{otherwise}?"
    )
