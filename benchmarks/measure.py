"""How it is measured: interleaved repeats, ratios paired by repeat, memory in processes of their own."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Mapping
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch

from benchmarks import contenders as c

STATUS = Path("/proc/self/status")
T = TypeVar("T")


def spread(values: list[float]) -> dict[str, float]:
    """Median and quartiles."""
    low, median, high = np.quantile(values, [0.25, 0.5, 0.75]).tolist()
    return {"median": median, "q25": low, "q75": high}


def seconds(call: Callable[[], Any], device: str) -> float:
    """Wall time of one call, with the device's work done before and after."""
    _wait(device)
    begin = time.perf_counter()
    c.quietly(call)
    _wait(device)
    return time.perf_counter() - begin


def _wait(device: str) -> None:
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)


def interleaved(
    calls: Mapping[str, Callable[[], Any]], device: str, repeats: int, limit: float, least: int = 3
) -> dict[str, list[float]]:
    """Time the calls in turn, so that a disturbance hits all of them; the order is reversed each time.

    After ``limit`` seconds no further repeat begins, but there are at least ``least``.
    """
    times: dict[str, list[float]] = {name: [] for name in calls}
    begin = time.perf_counter()
    for repeat in range(repeats):
        if repeat >= least and time.perf_counter() - begin > limit:
            break
        for name in list(calls) if repeat % 2 == 0 else reversed(list(calls)):
            times[name].append(seconds(calls[name], device))
    return times


def cell(task: c.Task, method: str, repeats: int, limit: float) -> dict[str, Any]:
    """Time and compare all contenders on one network and method."""
    device = str(task.x.device)
    made = {name: c.quietly(partial(make, task)) for name, make in c.contenders(method).items()}
    first = {name: _first(call) for name, call in made.items()}
    found: dict[str, dict[str, Any]] = {name: {"error": error} for name, (_, error) in first.items() if error}
    numbers = {name: result for name, (result, error) in first.items() if not error}
    times = interleaved({name: made[name] for name in numbers}, device, repeats, limit)
    for name, taken in times.items():
        found[name] = {"seconds": taken, **spread(taken)}
        if name != c.OURS and c.OURS in times:
            ratios = [theirs / ours for theirs, ours in zip(taken, times[c.OURS], strict=True)]
            found[name]["ratio"] = spread(ratios)
            found[name]["difference"] = c.difference(method, name, numbers[c.OURS], numbers[name])
    return {"net": task.net, "method": method, "contenders": {name: found[name] for name in made}}


def _first(call: c.Call) -> tuple[Any, str]:
    """The numbers, which also warms up; or the error: that a peer fails is a result too."""
    try:
        return c.quietly(call), ""
    except Exception as exc:
        return None, f"{type(exc).__name__}: {exc}"[:300]


def peak(task: Mapping[str, Any], method: str, contender: str, threads: int) -> int | None:
    """Bytes that one call needs beyond what the process held before; run in a process of its own.

    On CUDA what torch allocated, on Linux the resident memory, elsewhere None. A small pass forward and backward comes
    first, so that loading code is not counted.
    """
    torch.set_num_threads(threads)
    made = c.task(**task)
    call: c.Call = c.quietly(partial(c.CONTENDERS[method][contender], made))
    return peak_of(made, call)


def peak_of(made: c.Task, call: c.Call) -> int | None:
    """See `peak`."""
    small = made.x[..., :64, :64].clone().requires_grad_() if "vit" not in made.net else made.x.clone().requires_grad_()
    torch.autograd.grad(made.model(small).sum(), small)
    if made.x.is_cuda:
        torch.cuda.synchronize(made.x.device)
        torch.cuda.reset_peak_memory_stats(made.x.device)
        before = torch.cuda.memory_allocated(made.x.device)
        c.quietly(call)
        return int(torch.cuda.max_memory_allocated(made.x.device)) - before
    if not _forget_peak():
        return None
    before = _resident("VmRSS")
    c.quietly(call)
    return _resident("VmHWM") - before


def apart(function: Callable[..., T], *args: Any) -> T | None:
    """Call in a fresh process; None if it dies."""
    methods = multiprocessing.get_all_start_methods()
    context = multiprocessing.get_context("forkserver" if "forkserver" in methods else "spawn")
    if context.get_start_method() == "forkserver":
        context.set_forkserver_preload(["benchmarks.measure", "captum.attr", "torchvision"])
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_answer, args=(theirs, function, args))
    process.start()
    theirs.close()
    try:
        return ours.recv()  # type: ignore[no-any-return]
    except EOFError:
        return None
    finally:
        process.join()


def _answer(pipe: Connection, function: Callable[..., Any], args: tuple[Any, ...]) -> None:
    pipe.send(function(*args))


def _forget_peak() -> bool:
    """Set the kernel's record of this process's peak to what it holds now."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


def _resident(key: str) -> int:
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(f"{key}:"))
    return int(line.split()[1]) * 1024
