"""Scores under masks: the one engine behind occlusion, RISE, deletion, insertion and their kin."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any, Literal, TypedDict

import torch
from torch import Tensor
from tqdm import tqdm

from attrib import checks
from attrib.core.masks import Masks
from attrib.core.query import Query
from attrib.errors import InputError, LayerError, ModelError, ShapeError

Baseline = float | Literal["zero", "mean", "blur"] | Tensor | Callable[[Tensor], Tensor]

# Bytes of activations, not rows, decide the best batch: on a CPU larger batches only cost page faults.
_ROWS_OF_224 = {"cpu": 8, "cuda": 128}


class SweepOptions(TypedDict, total=False):
    """How a sweep runs; none of these changes the result beyond rounding.

    Attributes:
        batch_size: rows per forward pass, or ``"auto"``; halved by itself when memory runs out.
        channels_last: feed 4-D inputs in channels-last layout, which is faster on most CPUs and GPUs.
        autocast: dtype for `torch.autocast`, such as ``torch.bfloat16``; off by default because it rounds.
        show_progress: progress bar on standard error.
    """

    batch_size: int | Literal["auto"]
    channels_last: bool
    autocast: torch.dtype | None
    show_progress: bool


def check_options(options: SweepOptions) -> SweepOptions:
    """Refuse unknown or malformed sweep options early."""
    checks.unknown_options("sweep", dict(options), tuple(SweepOptions.__annotations__))
    if (size := options.get("batch_size", "auto")) != "auto":
        checks.integer("batch_size", size, 1)
    return options


def gaussian_blur(x: Tensor, size: int = 11, sigma: float = 5.0) -> Tensor:
    """Blur ``(N, C, H, W)`` with a ``size x size`` Gaussian, zero-padded."""
    line = torch.arange(size, dtype=x.dtype, device=x.device) - (size - 1) / 2
    kernel = torch.exp(-(line**2) / (2 * sigma**2))
    kernel = (kernel / kernel.sum()).expand(x.shape[1], 1, -1)
    x = torch.nn.functional.conv2d(x, kernel[..., None], padding=(size // 2, 0), groups=x.shape[1])
    return torch.nn.functional.conv2d(x, kernel[:, :, None], padding=(0, size // 2), groups=x.shape[1])


def resolve_baseline(baseline: Baseline, x: Tensor) -> Tensor:
    """Return what replaces hidden parts of ``x (N, C, H, W)``, broadcastable to it.

    A number fills every channel; ``"zero"`` is 0 in the *model's* space (the mean colour of normalised inputs, black
    of unnormalised ones); ``"mean"`` is each example's own channel mean; ``"blur"`` is `gaussian_blur`; a Tensor
    broadcasts; a callable maps ``x`` to a Tensor.
    """
    if isinstance(baseline, str):
        checks.choice("baseline", baseline, ("zero", "mean", "blur"))
        if baseline == "mean":
            return x.mean((2, 3), keepdim=True)
        return gaussian_blur(x) if baseline == "blur" else x.new_zeros(())
    value = baseline(x) if callable(baseline) else baseline
    if not isinstance(value, Tensor):
        return x.new_full((), checks.number("baseline", value))
    padded = (1,) * (x.ndim - value.ndim) + tuple(value.shape)
    if any(size not in (1, full) for size, full in zip(padded, x.shape, strict=False)) or value.ndim > x.ndim:
        raise ShapeError(f"baseline must broadcast to the input {tuple(x.shape)}; got {tuple(value.shape)}.")
    if not torch.isfinite(value).all():
        raise InputError("baseline must be finite; got NaN or infinite values.")
    return value.detach().to(x)


def auto_rows(x: Tensor) -> int:
    """Rows per forward pass that keep caches and memory happy for inputs of this size."""
    budget = _ROWS_OF_224.get(x.device.type, 32) * 224 * 224
    return max(1, min(512, budget // max(1, x[0, 0].numel())))


@dataclass
class _Plan:
    """How the next forward passes run; a failure that has a remedy changes it."""

    rows: int
    channels_last: bool
    autocast: torch.dtype | None


def _is_out_of_memory(exc: RuntimeError) -> bool:
    return isinstance(exc, torch.OutOfMemoryError) or "DefaultCPUAllocator" in str(exc)


@dataclass(frozen=True)
class _Sweep:
    query: Query
    base: Tensor
    at: str | None
    index: int

    def score(self, keep: Tensor, plan: _Plan) -> Tensor:
        """Score ``(k, N)``, in as many forward passes as ``plan.rows`` asks for."""
        n = len(self.query.inputs[0])
        step = min(n, plan.rows)
        parts = [self._score(keep, slice(i, min(i + step, n)), plan) for i in range(0, n, step)]
        return torch.cat(parts, 1)

    def _score(self, keep: Tensor, part: slice, plan: _Plan) -> Tensor:
        k, n = len(keep), part.stop - part.start
        keep = keep if keep.shape[1] == 1 else keep[:, part]
        base = self.base if self.base.ndim < 4 or len(self.base) == 1 else self.base[part]

        def hide(act: Tensor) -> Tensor:
            act = act.reshape(k, n, *act.shape[1:])
            return torch.lerp(base.expand(act.shape[1:]), act, keep).flatten(0, 1)

        rows = torch.arange(part.start, part.stop).repeat(k)
        inputs = [x[rows.to(x.device)] for x in self.query.inputs]
        if self.at is None:
            inputs[self.index] = hide(inputs[self.index])
        if plan.channels_last:
            inputs = [x.contiguous(memory_format=torch.channels_last) if x.ndim == 4 else x for x in inputs]
        extra = self.query.extra_rows(rows)
        goal = self.query.clean.goal.rows(rows)
        cast = torch.autocast(inputs[0].device.type, plan.autocast) if plan.autocast else nullcontext()
        with torch.no_grad(), cast:
            edit = {self.at: hide} if self.at else None
            output, acts = self.query.run(tuple(inputs), *goal.layers, extra=extra, edit=edit)
            return goal(output, acts).reshape(k, n).to(self.query.clean.score.dtype)


def sweep(
    query: Query,
    masks: Masks,
    *,
    baseline: Baseline = "zero",
    at: str | None = None,
    index: int = 0,
    **options: Any,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Score the inputs under every keep-mask.

    Args:
        query: the question; its clean pass binds the goal once, so that masked copies keep the same class.
        masks: for the input, or for the output of layer ``at``.
        baseline: what replaces the hidden part.
        at: hide at this layer instead of at the input.
        index: which of several inputs is masked.
        options: see `SweepOptions`.

    Yields:
        ``(positions (k,), score (k, N))``: numbers of masks, each mask once and in any order, and the scores under
        them, so that callers reduce on the fly and nothing of size masks x images is held. Run it inside `frozen`.
    """
    check_options(options)  # type: ignore[arg-type]
    what = query.clean.acts[at] if at else query.inputs[index]
    checks.shape(what, "n c h w", f"layer {at!r}" if at else "inputs")
    _refuse_later(query, at)
    run = _Sweep(query, resolve_baseline(baseline, what), at, index)
    size = options.get("batch_size", "auto")
    plan = _Plan(
        auto_rows(what if at is None else query.inputs[0]) if size == "auto" else size,
        options.get("channels_last", True),
        options.get("autocast"),
    )
    n, done = len(what), 0
    with tqdm(total=len(masks), unit="mask", file=sys.stderr, disable=not options.get("show_progress", False)) as bar:
        while done < len(masks):
            keep = masks.batch(done, min(done + max(1, plan.rows // n), len(masks)), what)
            try:
                score = run.score(keep, plan)
            except RuntimeError as exc:
                plan = _remedy(plan, n * len(keep), exc)
                continue
            yield torch.arange(done, done + len(keep)), score
            done += len(keep)
            bar.update(len(keep))


def _refuse_later(query: Query, at: str | None) -> None:
    """Hiding after the target has been computed would change nothing, and look like an answer."""
    layers, acts = query.clean.goal.layers, query.clean.acts
    if at and layers and all(acts.place(layer) < acts.place(at) for layer in layers):
        raise LayerError(f"layer {at!r} must come before the target; it comes after {', '.join(layers)}.")


def _remedy(plan: _Plan, rows: int, exc: RuntimeError) -> _Plan:
    """Return a plan that avoids the failure, or raise it."""
    cause = exc.__cause__ if isinstance(exc, ModelError) and isinstance(exc.__cause__, RuntimeError) else exc
    if _is_out_of_memory(cause) and plan.rows > 1:
        torch.cuda.empty_cache()  # does nothing where CUDA is not in use
        return replace(plan, rows=max(1, min(plan.rows, rows) // 2))
    if plan.channels_last and "view size is not compatible" in str(cause):
        return replace(plan, channels_last=False)
    raise exc
