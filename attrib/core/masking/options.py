"""How a sweep runs: batches, precision, checks."""

from __future__ import annotations

from typing import Any, Literal, TypedDict

import torch
from torch import Tensor

from attrib import checks
from attrib.errors import InputError, ModelError

# Bytes of activations, not rows, decide the best batch: on a CPU larger batches only cost page faults.
_ROWS_OF_224 = {"cpu": 8, "cuda": 128}


class SweepOptions(TypedDict, total=False):
    """How a sweep runs; but for ``autocast`` and ``tolerance`` none of these changes the result beyond rounding.

    Attributes:
        batch_size: rows per forward pass, or ``"auto"``; halved by itself when memory runs out.
        channels_last: run 4-D tensors in channels-last layout, which is faster on most CPUs and GPUs.
        autocast: dtype of the arithmetic, such as ``torch.bfloat16``; None is the model's own. The error is measured,
            see `attrib.core.Deviation`.
        tolerance: let small changes fade out on their way through the network, as long as the score stays within this
            share of the largest effect; None is exact. The error is measured, see `attrib.core.Deviation`. For masks
            that are local only, such as windows.
        exact_dense: run the model itself for every mask instead of replaying what it computes, see
            `attrib.explain_plan`.
        verify: so many masks, drawn at random, are also run through the model itself, and disagreement raises; 1 unless
            given.
        show_progress: progress bar on standard error.
    """

    batch_size: int | Literal["auto"]
    channels_last: bool
    autocast: torch.dtype | None
    tolerance: float | None
    exact_dense: bool
    verify: int
    show_progress: bool


SWEEP_OPTIONS = tuple(SweepOptions.__annotations__)


def check_options(options: SweepOptions, *, local: bool = True, of: Any = None) -> SweepOptions:
    """Refuse unknown or malformed sweep options early, and those that do nothing where masks are not ``local``.

    ``of`` is the method that they were given to: errors name it, and what else it takes.
    """
    what, known = ("sweep", SWEEP_OPTIONS) if of is None else (of.__name__, of.option_names())
    checks.unknown_options(what, options, known)
    if (size := options.get("batch_size", "auto")) != "auto":
        checks.integer("batch_size", size, 1)
    checks.integer("verify", options.get("verify", 1), 0)
    for flag in ("channels_last", "exact_dense", "show_progress"):
        checks.boolean(flag, options.get(flag, False))
    if not isinstance(kind := options.get("autocast"), (torch.dtype, type(None))):
        raise InputError(f"autocast must be a torch.dtype, such as torch.bfloat16, or None; got {kind!r}.")
    if (tolerance := options.get("tolerance")) is not None:
        checks.number("tolerance", tolerance, 0, 1)
        if not local:
            raise InputError(
                f"tolerance must be left out where masks hide something everywhere; got {tolerance!r}. Nothing stays "
                "local there that could fade out."
            )
    return options


def auto_rows(x: Tensor) -> int:
    """Rows per forward pass that keep caches and memory happy for inputs of this size."""
    budget = _ROWS_OF_224.get(x.device.type, 32) * 224 * 224
    return max(1, min(512, budget // max(1, x[0, 0].numel())))


def is_out_of_memory(exc: BaseException | None) -> bool:
    """Whether memory ran out, in torch or in a model's forward pass."""
    exc = exc.__cause__ if isinstance(exc, ModelError) else exc
    return isinstance(exc, torch.OutOfMemoryError) or "DefaultCPUAllocator" in str(exc)
