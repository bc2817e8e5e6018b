"""What a piece of work takes: passes, seconds, memory at its peak."""

from __future__ import annotations

import ctypes
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter

import torch

from attrib.core.network.cost import count
from attrib.report.records import Spent

_STATM = Path("/proc/self/statm")
_INTERVAL = 0.002  # seconds between two looks at the resident memory; reading it takes about 10 microseconds


class Meter:
    """Filled when the block of `measured` ends; ``start`` is the memory above which its peak is measured."""

    spent: Spent

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.start: int | None = None


@contextmanager
def measured(device: torch.device, since: Meter | None = None) -> Iterator[Meter]:
    """Measure the block; with ``since`` its memory above where that earlier block began, which may still hold some.

    On CUDA the peak is what torch allocated, exactly. On Linux it is how much the resident memory of the whole process
    grew, sampled every 2 ms after the C library has handed back what it had kept: shorter peaks are missed, and other
    threads count too. Elsewhere it is None.
    """
    meter = Meter(device)
    _synchronise(device)
    start = None if since is None else since.start
    watch = _CudaPeak(device, start) if device.type == "cuda" else _ResidentPeak(start)
    with count() as passes, watch:
        meter.start = watch.start
        begin = perf_counter()
        yield meter
        _synchronise(device)
        seconds = perf_counter() - begin
    errors = [found.error for found in passes.deviations]
    meter.spent = Spent(passes.forwards, passes.backwards, seconds, watch.peak, error=max(errors) if errors else None)


def _synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


class _CudaPeak:
    def __init__(self, device: torch.device, start: int | None) -> None:
        self.device = device
        self.start = start
        self.peak: int | None = None

    def __enter__(self) -> None:
        torch.cuda.reset_peak_memory_stats(self.device)
        self.start = torch.cuda.memory_allocated(self.device) if self.start is None else self.start

    def __exit__(self, *exc: object) -> None:
        self.peak = torch.cuda.max_memory_allocated(self.device) - (self.start or 0)


class _ResidentPeak:
    def __init__(self, start: int | None) -> None:
        self.start = start
        self.peak: int | None = None
        self._highest = 0
        self._stop = threading.Event()

    def __enter__(self) -> None:
        if self.start is None:
            _return_free_memory()
            self.start = _resident()
        self._thread = threading.Thread(target=self._watch, name="attrib-memory", daemon=True)
        if self.start is not None:
            self._thread.start()

    def __exit__(self, *exc: object) -> None:
        if self.start is None:
            return
        self._stop.set()
        self._thread.join()
        self._look()
        self.peak = self._highest - self.start

    def _watch(self) -> None:
        while not self._stop.wait(_INTERVAL):
            self._look()

    def _look(self) -> None:
        self._highest = max(self._highest, _resident() or 0)


def _resident() -> int | None:
    """Resident memory of this process in bytes, where the system tells."""
    try:
        pages = int(_STATM.read_text(encoding="ascii").split()[1])
    except (OSError, IndexError, ValueError):
        return None
    return pages * os.sysconf("SC_PAGE_SIZE")


def _return_free_memory() -> None:
    """Let glibc give unused pages back, so that work which uses them again is seen to need them."""
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)
