"""Scores under masks: the one engine behind occlusion, RISE, deletion, insertion and their kin."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map_only
from tqdm import tqdm

from attrib.core.incremental import check, local
from attrib.core.incremental.engine import Replay, kept_replay
from attrib.core.incremental.record import NotReplayableError
from attrib.core.masking.baseline import Baseline, resolve_baseline
from attrib.core.masking.masks import Masks
from attrib.core.masking.options import SweepOptions, auto_rows, check_options
from attrib.core.masking.pace import Pace
from attrib.core.objectives.objective import Acts, Objective
from attrib.core.query import Query
from attrib.core.reduce import widened
from attrib.core.shared import checked_score
from attrib.errors import LayerError, ShapeError

log = logging.getLogger("attrib")

# Fewer rows than this are not worth recording the model for.
_WORTH_RECORDING = 8

Scores = Iterator[tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Job:
    """What a sweep asks: whose parts are hidden, what they show instead, and which scores are read.

    Attributes:
        query: the question.
        base: the resolved baseline.
        at: the layer that is hidden, or None for input ``index``.
        index: which of several inputs is hidden.
        goals: bound to the clean run.
        clean: their scores on the clean inputs, ``(N,)`` or ``(goals, 1, N)``.
        single: scores are ``(k, N)``, not ``(goals, k, N)``.
        options: see `SweepOptions`.
    """

    query: Query
    base: Tensor
    at: str | None
    index: int
    goals: tuple[Objective, ...]
    clean: Tensor
    single: bool
    options: SweepOptions

    @property
    def what(self) -> Tensor:
        """What is hidden."""
        return self.query.clean.acts[self.at] if self.at else self.query.inputs[self.index]

    def hide(self, act: Tensor, keep: Tensor, part: slice) -> Tensor:
        """``act (N, ...)`` under ``keep (k, 1 or N, ...)``, as ``(k * N, ...)``."""
        keep = keep if keep.shape[1] == 1 else keep[:, part]
        base = self.base if self.base.ndim < self.what.ndim or len(self.base) == 1 else self.base[part]
        # under autocast a layer gives another dtype than its clean run
        return torch.lerp(base.to(act).expand(act.shape), act, keep.to(act)).flatten(0, 1)

    def read(self, output: Any, acts: Acts, part: slice, k: int) -> Tensor:
        """Scores ``(k, N)`` or ``(goals, k, N)`` of rows ordered by mask, then example."""
        kind = self.query.clean.score.dtype
        if kind.is_floating_point:  # under autocast an output is coarser than the clean one
            output = tree_map_only(Tensor, lambda t: t.to(kind) if t.is_floating_point() else t, output)
        rows = torch.arange(part.start, part.stop).repeat(k)
        scores = [checked_score(goal.rows(rows)(output, acts), len(rows)) for goal in self.goals]
        found = [score.reshape(k, -1).to(self.clean.dtype) for score in scores]
        return found[0] if self.single else torch.stack(found)

    def score(self, keep: Tensor, pace: Pace, replay: Replay | None) -> Tensor:
        """Scores under some masks, in as many passes over the examples as ``pace.rows`` asks for."""
        n = len(self.query.inputs[0])
        step = min(n, pace.rows)
        parts = [slice(i, min(i + step, n)) for i in range(0, n, step)]
        with torch.no_grad():
            if replay is not None:
                return torch.cat([self._replayed(keep, part, replay) for part in parts], -1)
            return torch.cat([self._model(keep, part, pace.channels_last) for part in parts], -1)

    def _replayed(self, keep: Tensor, part: slice, replay: Replay) -> Tensor:
        rows = torch.arange(part.start, part.stop).repeat(len(keep))
        inputs = [x if i == self.index and not self.at else x[rows] for i, x in enumerate(self.query.inputs)]
        source = self.hide(self.what[part], keep, part)
        if not self.at:
            inputs[self.index] = source
        output, acts = replay.dense(inputs, source if self.at else None)
        return self.read(output, acts, part, len(keep))

    def _model(self, keep: Tensor, part: slice, channels_last: bool) -> Tensor:
        k, n = len(keep), part.stop - part.start
        rows = torch.arange(part.start, part.stop).repeat(k)
        inputs = [x[rows.to(x.device)] for x in self.query.inputs]

        def hide(act: Tensor) -> Tensor:
            return self.hide(act.reshape(k, n, *act.shape[1:]), keep, part)

        if self.at is None:
            inputs[self.index] = hide(inputs[self.index])
        if channels_last:
            inputs = [x.contiguous(memory_format=torch.channels_last) if x.ndim == 4 else x for x in inputs]
        kind = self.options.get("autocast")
        edit = {self.at: hide} if self.at else None
        layers = [layer for goal in self.goals for layer in goal.layers]
        with torch.autocast(inputs[0].device.type, kind) if kind else nullcontext():
            output, acts = self.query.run(tuple(inputs), *layers, extra=self.query.extra_rows(rows), edit=edit)
        return self.read(output, acts, part, k)

    def compared(self, score: Tensor) -> Tensor:
        """The scores ``(k, N)`` or ``(goals, k, N)`` that do not jump, which is all but labels."""
        chosen = [i for i, goal in enumerate(self.goals) if not goal.discrete]
        return score if self.single or len(chosen) == len(self.goals) else score[chosen]

    @property
    def exactly(self) -> Job:
        """The same without anything that rounds or cuts."""
        return replace(self, options={**self.options, "autocast": None, "tolerance": None})


def sweep(
    query: Query,
    masks: Masks,
    *,
    baseline: Baseline = "zero",
    at: str | None = None,
    index: int = 0,
    goals: Sequence[Objective] = (),
    **options: Any,
) -> Scores:
    """Score the inputs under every keep-mask.

    What the model computes is recorded once and replayed, with BatchNorm folded into the convolutions; where masks are
    local (`LocalMasks`), only what they can change is computed. A model that cannot be replayed is run itself, and
    `attrib.explain_plan` says why.

    Args:
        query: the question; its clean pass binds the goal once, so that masked copies keep the same class.
        masks: for the input, or for the output of layer ``at``: ``(k, 1 or N, ...)``, where ``...`` broadcasts to one
            example of what is hidden, so that ``(k, 1, C, 1, 1)`` hides channels and ``(k, 1, T, 1)`` tokens.
        baseline: what replaces the hidden part.
        at: hide at this layer instead of at the input.
        index: which of several inputs is masked.
        goals: further questions, answered from the same passes.
        options: see `SweepOptions`.

    Yields:
        ``(positions (k,), score (k, N))``: numbers of masks, each mask once and in any order, and the scores under
        them, so that callers reduce on the fly and nothing of size masks x images is held. With ``goals`` the scores
        are ``(1 + goals, k, N)``, in float32 or better. Run it inside `frozen`.
    """
    job = _job(query, baseline, at, index, goals, check_options(options))  # type: ignore[arg-type]
    with tqdm(total=len(masks), unit="mask", file=sys.stderr, disable=not options.get("show_progress", False)) as bar:
        replay = _replay(job, masks)
        windows = None if replay is None else local.local_scores(job, masks, replay)
        found = windows or _dense_scores(job, masks, replay)
        for positions, score in check.checked(job, masks, replay, found, local=windows is not None):
            yield positions, score
            bar.update(len(positions))


def _job(
    query: Query, baseline: Baseline, at: str | None, index: int, goals: Sequence[Objective], options: SweepOptions
) -> Job:
    what = _hidden(query, at, index)
    _refuse_later(query, at)
    bound, clean = [query.clean.goal], query.clean.score
    if goals:
        with torch.no_grad():
            output, acts = _clean_run(query, [layer for goal in goals for layer in goal.layers])
            more = [goal.bind(output, acts) for goal in goals]
            clean = widened(clean)  # half precision has not enough numbers for all classes
            clean = torch.stack([clean, *(goal(output, acts).to(clean) for goal in more)])[:, None]
        bound += more
    base = resolve_baseline(baseline, what, _channels(query, what, at))
    return Job(query, base, at, index, tuple(bound), clean, not goals, options)


def _clean_run(query: Query, layers: Sequence[str]) -> tuple[Any, Acts]:
    """The clean output and activations of ``layers``: those that are there, or from one more pass."""
    clean = query.clean
    if all(clean.acts.calls(layer) for layer in layers):
        return clean.output, clean.acts
    return query.run(tuple(x.clone() for x in query.inputs), *layers)


def _hidden(query: Query, at: str | None, index: int) -> Tensor:
    """What is hidden, which must hold the examples apart along its first axis."""
    what = query.clean.acts[at] if at else query.inputs[index]
    if what.ndim < 2 or len(what) != len(query.inputs[0]):
        raise LayerError(
            f"layer {at!r} must give one activation per example to hide parts of it, ({len(query.inputs[0])}, ...); it "
            f"gives {tuple(what.shape)}. Choose a layer before the examples are cut up, or after they are put together."
        )
    return what


def _channels(query: Query, what: Tensor, at: str | None) -> int:
    """The axis of the channels: the first one, where no layout says otherwise."""
    layout = replace(query, layer=at).layout_of(what) if at else None
    return 1 if layout is None else layout.channels


def _replay(job: Job, masks: Masks) -> Replay | None:
    """The recorded model, or None where the model itself must run."""
    if job.options.get("exact_dense") or len(masks) * len(job.what) < _WORTH_RECORDING:
        return None
    kind, channels_last = job.options.get("autocast"), job.options.get("channels_last", True)
    try:
        layers = tuple(layer for goal in job.goals for layer in goal.layers)
        return kept_replay(job.query, job.at, job.index, layers, kind, channels_last)
    except NotReplayableError as exc:
        log.info("every mask runs through the model itself: %s", exc)
        return None


def _dense_scores(job: Job, masks: Masks, replay: Replay | None) -> Scores:
    """Whole rows, one batch after the other."""
    pace, n, done = _pace(job, replay), len(job.what), 0
    while done < len(masks):
        keep = masks.batch(done, min(done + max(1, pace.rows // n), len(masks)), job.what)
        _check_masks(keep, job.what)
        try:
            with pace.timed(n * len(keep), job.what.device):
                score = job.score(keep, pace, replay)
        except RuntimeError as exc:
            pace.remedy(n * len(keep), exc)
            continue
        yield torch.arange(done, done + len(keep)), score
        done += len(keep)


def _check_masks(keep: Tensor, what: Tensor) -> None:
    sizes = zip(keep.shape[1:], what.shape, strict=False)
    if keep.ndim != what.ndim + 1 or any(size not in (1, full) for size, full in sizes):
        shape = ", ".join(f"1 or {size}" for size in what.shape)
        raise ShapeError(f"masks must have shape (k, {shape}) here; got {tuple(keep.shape)}.")


def _pace(job: Job, replay: Replay | None) -> Pace:
    """How many rows to begin with; ``"auto"`` looks for more by timing the first batches."""
    size, channels_last = job.options.get("batch_size", "auto"), job.options.get("channels_last", True)
    if size != "auto":
        return Pace(size, channels_last)
    x = job.query.inputs[0] if job.at else job.what
    threads = torch.get_num_threads()
    key = replay and (replay.program.geometry, tuple(x.shape[1:]), x.dtype, replay.dtype, x.device, threads)
    return Pace(auto_rows(x), channels_last, key)


def _refuse_later(query: Query, at: str | None) -> None:
    """Hiding after the target has been computed would change nothing, and look like an answer."""
    layers, acts = query.clean.goal.layers, query.clean.acts
    if at and layers and all(acts.place(layer) < acts.place(at) for layer in layers):
        raise LayerError(f"layer {at!r} must come before the target; it comes after {', '.join(layers)}.")
