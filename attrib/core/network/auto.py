"""Pick the layer that a map is made at, where none is named."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from attrib.core.network.frozen import frozen
from attrib.core.network.geometry import main_input
from attrib.core.network.layers import LayerInfo, describe, recorded, unwrap
from attrib.core.network.passes import forward
from attrib.errors import LayerError

log = logging.getLogger("attrib")
_ATTENTION = ("Attention", "Attn", "MHSA")  # what classes of attention modules are called
# Autograd's names of what lies between a map of scores and the output: resizing, reordering, adding, squashing.
_PASSING = {
    *("Slice", "View", "UnsafeView", "ReshapeAlias", "Squeeze", "Unsqueeze", "Permute", "Transpose"),
    *("Add", "Alias", "Clone", "ToCopy", "Softmax", "LogSoftmax", "Sigmoid"),
}
_SCORING = {"Convolution", "Addmm", "Mm"}


def auto_layer(model: Callable[..., Any], inputs: tuple[Tensor, ...], extra: Sequence[object] = ()) -> str:
    """Pick the last spatial layer: the last module whose output still has locations and is not a pooling.

    Deeper maps are the most class-specific ones that still say where (Selvaraju et al. 2017, section 3). Of modules
    that return the same tensor the outermost is named. Of transformers whose score is read from a class token it is
    the last layer before the last attention, after which the other tokens have no way to the score. Passed over are
    layers that are not on the way from the main input to the first output, and maps of scores, which are the output
    but for its size. The choice is logged at level INFO.

    Cost: one forward pass.

    Raises:
        LayerError: no layer is spatial; or behind the last one that is known to be, others have axes that are not
            understood; or the model finds objects, with several heads next to each other.
    """
    model = unwrap(model)
    rows, scores = _read(model, inputs, extra)
    attention = [i for i, row in enumerate(rows) if any(kind in row.kind for kind in _ATTENTION)]
    inside = tuple(f"{rows[i].address.partition('#')[0]}." for i in attention)  # queries, keys and weights are no maps
    rows = [row for row in rows if not (row.pooled or row.address in scores)]
    named = [row for row in rows if not row.address.startswith(inside)]
    spatial = [row for row in named if row.spatial]
    _refuse_unread(model, named, spatial)
    if attention and spatial and spatial[-1].layout and spatial[-1].layout.prefix:
        last = max(i for i, row in enumerate(rows) if any(kind in row.kind for kind in _ATTENTION))
        spatial = [row for row in rows[:last] if row.spatial and not row.address.startswith(inside)]
    if not spatial:
        raise LayerError(
            f"{type(model).__name__} has no module with a spatial output (N, K, h, w), so no layer can be picked. "
            "Name one with layer=..., or use a method at the input such as Saliency."
        )
    log.info("layer='auto': picked %r, the last spatial layer of %s", spatial[-1].address, type(model).__name__)
    return spatial[-1].address


def _read(
    model: Callable[..., Any], inputs: tuple[Tensor, ...], extra: Sequence[object]
) -> tuple[list[LayerInfo], set[str]]:
    """Calls of modules between main input and first output, and the addresses of those that are its scores.

    The graph is built without the tensors that a backward pass would need: it is looked at, not run.
    """
    given = [x.detach().clone() for x in inputs]
    image = main_input(given)
    if image.is_floating_point() or image.is_complex():
        image.requires_grad_()
    empty = torch.autograd.graph.saved_tensors_hooks(lambda x: x.new_empty(0), lambda x: x)
    with frozen(model), empty, recorded(model) as calls:
        output = forward(model, [x.clone() for x in given], extra)
    if isinstance(output, (list, tuple)) and output and all(isinstance(one, Mapping) for one in output):
        raise LayerError(
            f"{type(model).__name__} finds objects, with several heads next to each other, so no layer can be picked. "
            "Name one of its backbone with layer=...; attrib.layer_table(model, x) lists them."
        )
    rows = list(zip(calls, describe(model, calls, image.shape), strict=True))
    end = next((leaf.grad_fn for leaf in tree_leaves(output) if isinstance(leaf, Tensor)), None)
    if end is None:  # something runs without a gradient, which hides the way
        return [row for _, row in rows], set()
    before, scores = set(_before(end)), set(_scores(end))
    rows = [(call, row) for call, row in rows if call.node in before]
    return [row for _, row in rows], {row.address for call, row in rows if call.node in scores}


def _before(end: Any) -> list[Any]:
    """All nodes of the graph that lead to ``end``, and itself; alive, for others compare equal only while they are."""
    found = {end: None}
    waiting = [end]
    while waiting:
        new = [node for node, _ in waiting.pop().next_functions if node is not None and node not in found]
        found |= dict.fromkeys(new)
        waiting += new
    return list(found)


def _scores(end: Any) -> list[Any]:
    """Nodes of the graph that give the output ``end`` but for its size, where it comes straight from convolutions."""
    passed = [end]
    for node in passed:  # which grows
        name = type(node).__name__.partition("Backward")[0]
        if name in _PASSING or name.startswith("Upsample"):
            passed += [before for before, _ in node.next_functions if before and before not in passed]
        elif name not in _SCORING:
            return []
    return passed


def _refuse_unread(model: Callable[..., Any], rows: Sequence[LayerInfo], spatial: Sequence[LayerInfo]) -> None:
    """Refuse to fall back to a layer behind which there are others with several axes that are not understood."""
    last = rows.index(spatial[-1]) if spatial else -1
    unread = [row for row in rows[last + 1 :] if row.layout is None and sum(size > 1 for size in row.shape or ()) > 1]
    if unread:
        known = f"The last layer that is known to be spatial is {rows[last].address!r}. " if spatial else ""
        raise LayerError(
            f"no layer of {type(model).__name__} can be picked: it is not known where the places are in the output of "
            f"{unread[-1].address!r}, {unread[-1].shape} for each example. {known}Name a layer with layer=..., and "
            "with reshape= a function that makes (N, K, h, w) of it."
        )
