"""How many rows go through a model at once: found by timing the first batches of a sweep, remembered for the next."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from time import perf_counter

import torch

from attrib.core.masking.options import is_out_of_memory
from attrib.errors import ModelError

_MORE = 1.05  # a batch twice as large must be faster per row by this factor, or noise would decide
_LARGEST = 16  # times the size that the search starts from
_MOST_REMEMBERED = 64
_found: dict[Hashable, int] = {}
_steady: ContextVar[bool] = ContextVar("attrib_steady", default=False)


@contextmanager
def steady() -> Iterator[None]:
    """Keep ``"auto"`` batches at their first size inside the block.

    Batches that were found by timing differ from run to run, and with them the last bits of scores.
    """
    token = _steady.set(True)
    try:
        yield
    finally:
        _steady.reset(token)


@dataclass
class Pace:
    """Rows of the next forward pass, and the memory layout; a failure that has a remedy changes them.

    Attributes:
        rows: of the next pass.
        channels_last: memory layout of 4-D inputs.
        key: what the best batch depends on; None keeps ``rows`` as it is.
    """

    rows: int
    channels_last: bool = True
    key: Hashable = None
    _times: list[float] = field(default_factory=list, repr=False)
    _before: float = field(default=float("inf"), repr=False)

    def __post_init__(self) -> None:
        self._most = self.rows * _LARGEST
        if _steady.get():
            self.key = None
        elif self.key in _found:
            self.rows, self.key = _found[self.key], None

    @contextmanager
    def timed(self, rows: int, device: torch.device) -> Iterator[None]:
        """Time one pass over ``rows`` rows, as long as the best batch is not known."""
        begin = perf_counter()
        yield
        if self.key is None or rows < self.rows:  # what is left at the end tells nothing
            return
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        self._learn((perf_counter() - begin) / rows)

    def _learn(self, seconds: float) -> None:
        """Double the batch as long as that pays; each size runs twice, because the first time also warms up."""
        self._times.append(seconds)
        if len(self._times) < 2:
            return
        now, self._times = min(self._times), []
        if now * _MORE > self._before:
            self._settle(self.rows // 2)
        elif self.rows * 2 > self._most:
            self._settle(self.rows)
        else:
            self._before, self.rows = now, self.rows * 2

    def _settle(self, rows: int) -> None:
        if len(_found) >= _MOST_REMEMBERED:
            _found.clear()
        _found[self.key] = self.rows = rows
        self.key = None

    def remedy(self, rows: int, exc: RuntimeError) -> None:
        """Change what a failure of ``rows`` rows calls for, or raise it."""
        if is_out_of_memory(exc) and self.rows > 1:
            torch.cuda.empty_cache()  # does nothing where CUDA is not in use
            self.rows, self.key = max(1, min(self.rows, rows) // 2), None
            return
        cause = exc.__cause__ if isinstance(exc, ModelError) else exc
        if self.channels_last and "view size is not compatible" in str(cause):
            self.channels_last = False
            return
        raise exc
