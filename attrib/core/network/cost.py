"""What an explanation costs: forward and backward passes, counted in examples."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

log = logging.getLogger("attrib")


@dataclass(frozen=True)
class Deviation:
    """How far an approximation was measured to be from exact.

    Attributes:
        what: the approximation, such as ``"bfloat16"``.
        allowed: the tolerance that was asked for, if any.
        error: the largest difference among the sampled masks, as a share of the largest effect of any mask.
        masks: how many were sampled.
    """

    what: str
    allowed: float | None
    error: float
    masks: int


@dataclass
class Cost:
    """Passes in examples: a forward of a batch of 8 counts 8, and so does one that computes only what changed.

    Attributes:
        forwards: examples that went forward.
        backwards: examples that went backward.
        deviations: measured errors of approximations that were asked for.
    """

    forwards: int = 0
    backwards: int = 0
    deviations: list[Deviation] = field(default_factory=list, repr=False, compare=False)


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


def deviates(found: Deviation) -> None:
    """Note and log the measured error of an approximation."""
    over = found.allowed is not None and not found.error <= found.allowed
    text = "%s: largest error %.3g of the largest effect, measured on %d masks%s"
    log.log(logging.WARNING if over else logging.INFO, text, found.what, found.error, found.masks, " (over)" * over)
    for cost in _current.get():
        cost.deviations.append(found)
