"""The graph that autograd keeps: which of its nodes lie between two places."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor
from torch.autograd.graph import get_gradient_edge


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
