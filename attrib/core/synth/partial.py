"""A forward pass that ends where everything that is asked for is there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from torch import nn

from attrib.core.network.capture import Activations, capture
from attrib.core.network.layers import Address, modules_of
from attrib.core.objectives.objective import Objective


class _Enough(BaseException):  # not an Exception: models catch those
    """The rest of the network need not run."""


@contextmanager
def as_far_as_needed(model: Callable[..., Any], goal: Objective) -> Iterator[Activations]:
    """Capture the layers of ``goal``; unless it reads the output, end the block once they are there.

    A block that ends early has no output; the score is computed from the activations after it.
    """
    with capture(model, *dict.fromkeys(goal.layers)) as acts:
        waiting = [Address.parse(layer) for layer in goal.layers]
        if goal.reads_output or not waiting or any(at.side == "input" for at in waiting):
            yield acts
            return
        modules = modules_of(model)

        def look(*_: object) -> None:
            if all(acts.calls(at.name) > (at.call or 0) for at in waiting):
                raise _Enough

        handles = [_watch(modules[at.name], look) for at in waiting]
        try:
            with suppress(_Enough):
                yield acts
        finally:
            for handle in handles:
                handle.remove()


def _watch(module: nn.Module, look: Callable[..., None]) -> Any:
    return module.register_forward_hook(look)
