"""Look over the shoulder of a sweep: run some of its masks through the model itself and compare."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from attrib.core.masking.pace import Pace
from attrib.core.network import cost
from attrib.core.network.cost import Deviation
from attrib.errors import ModelError

if TYPE_CHECKING:
    from attrib.core.incremental.engine import Replay
    from attrib.core.masking.masks import Masks
    from attrib.core.sweeps.perturb import Job, Scores

# Share of the largest output by which a replay may differ: rounding, no more. CUDA's TF32 has 10 bits.
_ROUNDING = {("cpu", torch.float32): 1e-4, ("cpu", torch.float64): 1e-9, ("cuda", torch.float64): 1e-9}
_SAMPLES = 16  # masks from which the error of an approximation is measured; half of them have the largest effect


def drawn(masks: int, count: int, seed: int = 0) -> list[int]:
    """Numbers of masks, drawn without replacement; torch's own random state is left alone."""
    order = torch.randperm(masks, generator=torch.Generator().manual_seed(seed))
    return sorted(order[:count].tolist())


def checked(job: Job, masks: Masks, replay: Replay | None, found: Scores, *, local: bool) -> Scores:
    """Pass the scores on; compare some of them with the model's own in the end.

    Raises:
        ModelError: a replay that should be exact is not.
    """
    if all(goal.discrete for goal in job.goals):
        yield from found
        return
    what = _approximation(job, local)
    new = replay is not None and (local or not replay.verified or "verify" in job.options)
    sample = drawn(len(masks), job.options.get("verify", 1)) if new and not what else []
    seen: dict[int, Tensor] = {}
    for positions, score in found:
        kept = job.compared(score).clone() if sample or what else score
        seen |= {n: kept[..., i, :] for i, n in enumerate(positions.tolist()) if what or n in sample}
        yield positions, score
    if what:
        _measure(job, masks, seen, what)
    elif sample:
        _compare(job, masks, seen)
    if replay is not None and sample:
        replay.verified = True


def most(change: Tensor) -> Tensor:
    """The largest absolute value of each goal, ``(goals,)``, of ``(k, N)`` or ``(goals, k, N)``."""
    return change.abs().reshape(-1 if change.ndim > 2 else 1, *change.shape[-2:]).amax((1, 2))


def most_changed(change: Tensor, count: int) -> list[int]:
    """Numbers of the masks with the largest effects, of ``(k, N)`` or ``(goals, k, N)``."""
    effect = change.abs().movedim(-2, 0).flatten(1).amax(1)
    return effect.topk(min(count, len(effect))).indices.tolist()


def _approximation(job: Job, local: bool) -> str:
    kind = job.options.get("autocast")
    parts = [str(kind).removeprefix("torch.")] if kind else []
    parts += ["tolerance"] if local and job.options.get("tolerance") else []
    return " and ".join(parts)


def _measure(job: Job, masks: Masks, seen: dict[int, Tensor], what: str) -> None:
    """Note how far an approximation is off: under masks with the largest effects, and under some at random."""
    numbers = sorted(seen)
    change = torch.stack([seen[n] for n in numbers], -2) - job.compared(job.clean)
    strong = [numbers[i] for i in most_changed(change, _SAMPLES // 2)]
    count = max(_SAMPLES, job.options.get("verify", 1)) - len(strong)
    sample = sorted({*strong, *(numbers[i] for i in drawn(len(numbers), count))})
    off = torch.stack([seen[n] - exact_score(job, masks, n) for n in sample], -2)
    share = (most(off) / most(change)).nan_to_num(0.0, posinf=float("inf"))  # 0 / 0: nothing changes, and rightly so
    cost.deviates(Deviation(what, job.options.get("tolerance"), float(share.max()), len(sample)))


def _compare(job: Job, masks: Masks, seen: dict[int, Tensor]) -> None:
    worst, where, top = 0.0, 0, 0.0
    for number, score in seen.items():
        exact = exact_score(job, masks, number)
        same = (score == exact) | (score.isnan() & exact.isnan())
        off = float((score - exact).abs().nan_to_num(float("inf")).masked_fill(same, 0).max())
        if off > worst:
            worst, where = off, number
        top = max(top, float(exact.abs().max()))
    outputs = [leaf for leaf in tree_leaves(job.query.clean.output) if isinstance(leaf, Tensor) and leaf.numel()]
    scale = max([top, *(float(leaf.abs().max()) for leaf in outputs)])
    limit = _ROUNDING.get((job.what.device.type, job.what.dtype), 1e-2) * scale
    if not worst <= limit and scale < float("inf"):
        raise ModelError(
            f"the replayed model must give what the model gives; under mask {where} the score differs by {worst:.3g}, "
            f"where rounding allows {limit:.3g}. Pass exact_dense=True, and please report this model."
        )


def exact_score(job: Job, masks: Masks, number: int) -> Tensor:
    """The score under one mask from the model itself, in full precision; see `Job.compared`."""
    keep = masks.batch(number, number + 1, job.what)
    score = job.exactly.score(keep, Pace(len(job.what), channels_last=False), None)
    return job.compared(score)[..., 0, :]
