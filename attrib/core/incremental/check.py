"""Look over the shoulder of a sweep: run some of its masks through the model itself and compare."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from attrib.core import cost
from attrib.core.cost import Deviation
from attrib.core.pace import Pace
from attrib.errors import ModelError

if TYPE_CHECKING:
    from attrib.core.incremental.engine import Replay
    from attrib.core.masks import Masks
    from attrib.core.perturb import Job, Scores

# Share of the largest output by which a replay may differ: rounding, no more. CUDA's TF32 has 10 bits.
_ROUNDING = {("cpu", torch.float32): 1e-4, ("cpu", torch.float64): 1e-9, ("cuda", torch.float64): 1e-9}
_SAMPLES = 8  # masks from which the error of an approximation is measured


def drawn(masks: int, count: int, seed: int = 0) -> list[int]:
    """Numbers of masks, drawn without replacement; torch's own random state is left alone."""
    order = torch.randperm(masks, generator=torch.Generator().manual_seed(seed))
    return sorted(order[:count].tolist())


def checked(job: Job, masks: Masks, replay: Replay | None, found: Scores, *, local: bool) -> Scores:
    """Pass the scores on; compare some of them with the model's own in the end.

    Raises:
        ModelError: a replay that should be exact is not.
    """
    what = _approximation(job, local)
    count = max(job.options.get("verify", 1), _SAMPLES if what else 0)
    new = replay is not None and (local or not replay.verified or "verify" in job.options)
    sample = dict.fromkeys(drawn(len(masks), count)) if what or new else {}
    seen: dict[int, Tensor] = {}
    largest = torch.zeros(len(job.goals), device=job.clean.device, dtype=job.clean.dtype)
    for positions, score in found:
        if sample:
            at = {number: i for i, number in enumerate(positions.tolist())}
            seen |= {number: score[..., at[number], :].clone() for number in sample if number in at}
            largest = torch.maximum(largest, most(score - job.clean))
        yield positions, score
    if sample:
        _compare(job, masks, seen, what, largest)
        if replay is not None:
            replay.verified = True


def most(change: Tensor) -> Tensor:
    """The largest absolute value of each goal, ``(goals,)``, of ``(k, N)`` or ``(goals, k, N)``."""
    return change.abs().reshape(-1 if change.ndim > 2 else 1, *change.shape[-2:]).amax((1, 2))


def _approximation(job: Job, local: bool) -> str:
    kind = job.options.get("autocast")
    parts = [str(kind).removeprefix("torch.")] if kind else []
    parts += ["tolerance"] if local and job.options.get("tolerance") else []
    return " and ".join(parts)


def _compare(job: Job, masks: Masks, seen: dict[int, Tensor], what: str, largest: Tensor) -> None:
    worst, where, top = 0.0, 0, 0.0
    share = 0.0
    for number, score in seen.items():
        exact = exact_score(job, masks, number)
        off_by_goal = most((score - exact)[..., None, :])
        share = max(share, float((off_by_goal / largest).nan_to_num(0.0, posinf=float("inf")).max()))
        same = (score == exact) | (score.isnan() & exact.isnan())
        off = float((score - exact).abs().nan_to_num(float("inf")).masked_fill(same, 0).max())
        if off > worst:
            worst, where = off, number
        top = max(top, float(exact.abs().max()))
    if what:
        cost.deviates(Deviation(what, job.options.get("tolerance"), share, len(seen)))
        return
    scale = max(
        [
            top,
            *(float(t.abs().max()) for t in tree_leaves(job.query.clean.output) if isinstance(t, Tensor) and t.numel()),
        ]
    )
    limit = _ROUNDING.get((job.what.device.type, job.what.dtype), 1e-2) * scale
    if not worst <= limit and scale < float("inf"):
        raise ModelError(
            f"the replayed model must give what the model gives; under mask {where} the score differs by {worst:.3g}, "
            f"where rounding allows {limit:.3g}. Pass exact_dense=True, and please report this model."
        )


def exact_score(job: Job, masks: Masks, number: int) -> Tensor:
    """The score under one mask from the model itself, in full precision."""
    keep = masks.batch(number, number + 1, job.what)
    score = job.exactly.score(keep, Pace(len(job.what), channels_last=False), None)
    return score[..., 0, :]
