"""A model with its target built in, which Captum's methods can expand, hook and differentiate as they like."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from attrib.core import Query, cost

# What DeepLift and LRP hang on modules; LRP leaves some of it there, and takes the user's own ``rule`` away.
_LEFT_BEHIND = ("rule", "activations", "input", "input_ref", "output")


class Scored(nn.Module):
    """``(*inputs, rows) -> (N,)``: the score of each row, for which ``rows`` tells the example that it comes from.

    Captum repeats the batch for its steps, samples and perturbations, each method in its own order. It repeats further
    arguments in the same order, so the numbers of the examples travel as one, and each row finds its own goal.
    """

    def __init__(self, query: Query) -> None:
        super().__init__()
        self.query = query
        if isinstance(query.model, nn.Module):
            self.model = query.model  # a child, where methods that hook modules look for them

    def forward(self, *args: Any) -> Tensor:
        """Run the model and score it."""
        *inputs, rows = args
        goal = self.query.clean.goal.rows(rows)
        # Clones: the model may change its input in place, which autograd forbids on a leaf.
        output, acts = self.query.run(tuple(x.clone() for x in inputs), *goal.layers, extra=self.query.extra_rows(rows))
        score = goal(output, acts)
        if score.requires_grad:
            count = len(score)
            score.register_hook(lambda _: cost.add(backwards=count))  # type: ignore[no-untyped-call]
        return score


@contextmanager
def untouched(model: Callable[..., Any]) -> Iterator[None]:
    """Put back what Captum's LRP and DeepLift leave in modules: attributes, and weights moved to other storage."""
    modules = list(model.modules()) if isinstance(model, nn.Module) else []
    before = [{key: part.__dict__[key] for key in _LEFT_BEHIND if key in part.__dict__} for part in modules]
    weights = [(weight, weight.data) for part in modules for weight in part._parameters.values() if weight is not None]
    try:
        yield
    finally:
        for part, had in zip(modules, before, strict=True):
            for key in _LEFT_BEHIND:
                part.__dict__.pop(key, None)
            part.__dict__.update(had)
        for weight, data in weights:
            if weight.data_ptr() != data.data_ptr():
                weight.data = data


def numbers(inputs: tuple[Tensor, ...]) -> Tensor:
    """The number of each example."""
    return torch.arange(len(inputs[0]), device=inputs[0].device)
