"""What an explanation costs: forward and backward passes, counted in examples."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass


@dataclass
class Cost:
    """Passes in examples: a forward of a batch of 8 counts 8."""

    forwards: int = 0
    backwards: int = 0


_current: ContextVar[tuple[Cost, ...]] = ContextVar("attrib_cost", default=())


@contextmanager
def count() -> Iterator[Cost]:
    """Count the passes that attrib makes inside the block; blocks nest.

    Example:
        >>> from attrib.methods import Saliency
        >>> with count() as cost:
        ...     _ = Saliency(model).attribute(x, target=1)
        >>> cost
        Cost(forwards=2, backwards=2)
    """
    cost = Cost()
    token = _current.set((*_current.get(), cost))
    try:
        yield cost
    finally:
        _current.reset(token)


def add(forwards: int = 0, backwards: int = 0) -> None:
    """Note that so many examples went through the model."""
    for cost in _current.get():
        cost.forwards += forwards
        cost.backwards += backwards
