"""Which nodes of a graph calls in sight have left: constants that other code adds cannot be read."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

from torch import Tensor
from torch.autograd.function import BackwardCFunction
from torch.utils._pytree import tree_leaves

from attrib.errors import RuleError

# A custom autograd.Function goes by a name of its own: it counts as linear through the origin, like a rectifier.
_REGIONS = re.compile(r"Checkpoint|Compiled|DifferentiableGraph")
_BIASED = re.compile(
    r"Convolution|Addmm|Addbmm|Baddbmm|Addmv|^(Mkldnn)?Linear|BatchNorm|LayerNorm|GroupNorm|"
    r"Hard|Clamp|Elu|Celu|Silu|Gelu|Mish|Sigmoid|Tanh|Softplus|Softshrink"
)
_SUMS = re.compile(r"(Add|Sub|Rsub)Backward")


def behind(values: object) -> set[Any]:
    """The nodes that tensors among ``values``, also in lists, come from."""
    tensors = [value for value in tree_leaves(values) if isinstance(value, Tensor)]
    bases = [value._base for value in tensors if value._is_view() and value._base is not None]
    return {value.grad_fn for value in (*tensors, *bases)}


def made(out: object, before: set[Any]) -> Iterator[Any]:
    """The nodes that a call left, from what it gave down to those that were there ``before``."""
    todo, seen = [*behind(out)], {None, *before}
    while todo:
        if (node := todo.pop()) not in seen:
            seen.add(node)
            yield node
            todo.extend(parent for parent, _ in node.next_functions)


def check_in_sight(nodes: Iterable[Any], in_sight: set[Any]) -> None:
    """Refuse ``nodes`` that may add a constant and that no call in sight has left."""
    for node in nodes:
        if node not in in_sight and _may_add(node):
            raise RuleError(
                f"every operation that may add a bias must be seen; {node.name().rpartition(':')[2]!r} was not. It "
                "runs in scripted, traced, compiled or checkpointed code: pass the plain eager module."
            )


def _may_add(node: Any) -> bool:
    name = node.name()
    if isinstance(node, BackwardCFunction) or _REGIONS.search(name):
        return bool(_REGIONS.search(name))
    if _SUMS.match(name):  # with a constant
        return sum(parent is not None for parent, _ in node.next_functions) == 1
    without = getattr(node, "_saved_bias_sym_sizes_opt", ()) in (None, (0,))  # a convolution may have none
    return bool(_BIASED.search(name)) and not without
