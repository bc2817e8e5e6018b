"""Sweeps of local masks: only what they change is computed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from attrib.core.incremental.check import drawn, most, most_changed
from attrib.core.incremental.engine import Replay
from attrib.core.incremental.partial import Partial
from attrib.core.incremental.plan import OVERHEAD, Plan, make_plan
from attrib.core.masking.masks import LocalMasks, Masks, Some
from attrib.core.masking.options import auto_rows

if TYPE_CHECKING:
    from attrib.core.sweeps.perturb import Job, Scores

# Bytes that the widest step of a batch of windows may take. More costs page faults, less starts more kernels.
_BUDGET = {"cpu": 32 << 20, "cuda": 1 << 30}
# With less to save than this, windows cost more than they spare; and a step on windows starts about twice as many
# kernels as one on whole maps.
_WORTH = 0.9
_STEP = OVERHEAD
_REACHES = (0.1, 0.2, 0.35, 0.5, 0.7)
_CALIBRATION = 16  # masks; half of them are those with the largest effect


def local_scores(job: Job, masks: Masks, replay: Replay) -> Scores | None:
    """Scores from windows; None where the masks are not local, or too large for windows to pay."""
    if job.what.ndim != 4 or not isinstance(masks, LocalMasks) or not _in_place(masks, job.what):
        return None
    plan = make_plan(replay.program, masks.boxes)
    if not _pays(job, replay, plan, len(masks)):
        return None
    if tolerance := job.options.get("tolerance"):
        plan = make_plan(replay.program, masks.boxes, _calibrated(job, masks, replay, tolerance))
    return _run(job, masks, replay, plan)


def _in_place(masks: LocalMasks, what: Tensor) -> bool:
    """Whether the boxes lie in the map: masks that broadcast along height or width have none of their own."""
    return bool(masks.boxes) and masks.batch(0, 1, what).shape[-2:] == what.shape[-2:]


def _pays(job: Job, replay: Replay, plan: Plan, masks: int) -> bool:
    """Whether windows take less time than whole maps, counted in multiply-adds; small networks are all overhead."""
    n, steps = len(job.what), len(replay.program.steps) * _STEP
    local = n * plan.macs + -(-n // _block_size(job)) * len(plan.groups) * steps
    dense = n * plan.dense_macs + -(-n * masks // auto_rows(job.what)) * steps / 2
    return plan.share <= _WORTH and local < dense


def _block_size(job: Job) -> int:
    return max(1, min(len(job.what), auto_rows(job.what) // 8))


def _run(job: Job, masks: LocalMasks, replay: Replay, plan: Plan) -> Scores:
    n, step = len(job.what), _block_size(job)
    blocks = [slice(i, min(i + step, n)) for i in range(0, n, step)]
    streams = (_block(job, masks, replay, plan, block) for block in blocks)
    if len(blocks) == 1:
        yield from next(streams)
        return
    scores = [_in_order(stream) for stream in streams]
    yield torch.arange(len(masks)), torch.cat(scores, -1)


def _in_order(stream: Scores) -> Tensor:
    found = [(positions, score) for positions, score in stream]
    order = torch.cat([positions for positions, _ in found]).argsort()
    score = torch.cat([score for _, score in found], -2)
    return score[..., order.to(score.device), :]


def _block(job: Job, masks: LocalMasks, replay: Replay, plan: Plan, block: slice) -> Scores:
    """Scores of some of the examples."""
    with torch.no_grad():
        some = _Block(masks, block)
        base = job.base if job.base.ndim < 4 or len(job.base) == 1 else job.base[block]
        inputs = [x[block] for x in job.query.inputs]
        local = Partial.of(replay, some, inputs, job.what[block], base, _budget(job, replay))
    found = local.run(plan)
    while True:
        with torch.no_grad():  # never around a yield: whoever reads the scores keeps their own mode
            if (part := next(found, None)) is None:
                return
            positions, output, acts = part
            score = job.read(output, acts, block, len(positions))
        yield positions, score


@dataclass(frozen=True)
class _Block:
    """Masks of some of the examples."""

    masks: LocalMasks
    block: slice

    def crop(self, positions: Tensor, y: tuple[Tensor, int], x: tuple[Tensor, int], like: Tensor) -> Tensor | None:
        """Windows of some masks."""
        keep = self.masks.crop(positions, y, x, like)
        return keep if keep is None or keep.shape[1] == 1 else keep[:, self.block]


def _budget(job: Job, replay: Replay) -> int:
    size = job.options.get("batch_size", "auto")
    most = _BUDGET.get(job.what.device.type, 256 << 20)
    return most if size == "auto" else min(most, size * replay.dense_bytes)


def _calibrated(job: Job, masks: LocalMasks, replay: Replay, tolerance: float) -> float:
    """The smallest growth of the windows that keeps sampled masks within half the tolerance.

    Errors are largest where effects are, so a first sweep with the smallest growth says where to look.
    """
    plan = make_plan(replay.program, masks.boxes, _REACHES[0])
    clean = job.compared(job.clean)
    rough = job.compared(_in_order(_run(job, masks, replay, plan))) - clean
    strong = most_changed(rough, _CALIBRATION // 2)
    sample = Some(masks, sorted({*strong, *drawn(len(masks), _CALIBRATION - len(strong), seed=1)}))
    exact = _sampled(job, sample, replay, 1.0)
    allowed = tolerance / 2 * most(exact - clean)
    for reach in _REACHES if allowed.any() else ():
        if bool((most(_sampled(job, sample, replay, reach) - exact) <= allowed).all()):
            return reach
    return 1.0


def _sampled(job: Job, sample: Some, replay: Replay, reach: float) -> Tensor:
    plan = make_plan(replay.program, sample.boxes, reach)
    return job.compared(_in_order(_run(job, sample, replay, plan)))
