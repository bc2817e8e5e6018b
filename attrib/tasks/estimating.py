"""`estimate`: how long occlusion will take, before it runs."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from time import perf_counter
from typing import Any

import torch
from torch import Tensor, nn

from attrib import checks
from attrib.core import Custom, PlanReport, Query, SweepOptions, Windows, explain_plan, frozen, sweep
from attrib.core.incremental.check import drawn
from attrib.core.masking.masks import Some
from attrib.tasks.subject import Model, Network

_SAMPLE = 48  # masks that are timed
_DENSE_SAMPLE = 16


@dataclass(frozen=True)
class Estimate:
    """What occlusion of some images will take on this machine.

    Attributes:
        positions: windows per image.
        images: how many images.
        macs: multiply-adds for all of them, as they will run; None where the model cannot be replayed.
        dense_macs: the same with a whole forward pass for every position.
        seconds: as it will run, from a short measurement.
        dense_seconds: with a whole forward pass of the model for every position, from a short measurement.
        plan: what is computed, layer by layer.
    """

    positions: int
    images: int
    macs: int | None
    dense_macs: int | None
    seconds: float
    dense_seconds: float
    plan: PlanReport

    @property
    def facts(self) -> dict[str, Any]:
        """Everything but the plan, for JSON."""
        told = {key: value for key, value in asdict(self).items() if key != "plan"}
        return told | {"reason": self.plan.reason, "dense_from": self.plan.dense_from}

    def __str__(self) -> str:
        lines = [f"positions      {self.positions} per image, {self.positions * self.images} in all"]
        if self.macs is None or self.dense_macs is None:
            lines.append(f"no shortcut    {self.plan.reason}")
        else:
            lines.append(f"multiply-adds  {self.macs:.3g} ({self.plan.share:.0%} of {self.dense_macs:.3g})")
        lines.append(f"seconds        {self.seconds:.3g} ({self.dense_seconds:.3g} with a whole pass per position)")
        return "\n".join(lines)


def estimate(
    model: Model,
    inputs: Tensor,
    *,
    window: int | tuple[int, int] | None = None,
    stride: int | tuple[int, int] | None = None,
    images: int = 1,
    layer: str | nn.Module | None = None,
    additional_forward_args: object = None,
    **options: Any,
) -> Estimate:
    """Size a job of occlusion: positions, arithmetic, seconds.

    Convention:
        - seconds come from timing some of the windows, so they hold for this machine, its threads and what else runs.

    Cost: a few dozen windows, and 16 whole forward passes.

    Args:
        model: see `attrib.explain`.
        inputs: one image as the model takes it, ``(1, C, H, W)``.
        window: as in `attrib.Occlusion`.
        stride: as in `attrib.Occlusion`.
        images: how many images of this size there are.
        layer: hide parts of this layer's activations instead of the inputs.
        additional_forward_args: one further argument of the model, or a tuple of them, for the one image.
        options: see `attrib.core.SweepOptions`.

    Returns:
        An `Estimate`; ``print`` it.

    Example:
        >>> found = estimate(model, x[:1], window=2, stride=1, images=10)
        >>> found.positions, found.seconds > 0
        (121, True)
    """
    network = Network.of(model)
    count = checks.integer("images", images, 1)
    x = network.place(checks.shape(checks.batch(inputs)[0], "n c h w", "inputs")[:1].detach())
    extra = checks.arguments(additional_forward_args)
    plan = explain_plan(network.model, x, window=window, stride=stride, layer=layer, additional_forward_args=extra)
    with frozen(network.model):
        at = layer if isinstance(layer, str) or layer is None else None
        query = Query(network.model, (x,), Custom(_first), at, extra)
        what = query.clean.acts[at] if at else x
        windows = Windows.usual((what.shape[2], what.shape[3]), window, stride)
        some = Some(windows, drawn(len(windows), min(_SAMPLE, len(windows))))
        few = Some(windows, some.chosen[:_DENSE_SAMPLE])
        dense = _timed(query, few, at, {**options, "exact_dense": True}) * len(windows) / len(few)
        if plan.reason is None:
            part = explain_plan(network.model, x, masks=some, layer=layer, additional_forward_args=extra)
            seconds = _timed(query, some, at, options) * plan.macs / max(1, part.macs)
        else:
            seconds = dense
    known = plan.reason is None
    return Estimate(
        len(windows),
        count,
        plan.macs * count if known else None,
        plan.dense_macs * count if known else None,
        seconds * count,
        dense * count,
        plan,
    )


def _first(output: Any) -> Tensor:
    """Any score will do."""
    leaves = output if isinstance(output, (tuple, list)) else output.values() if isinstance(output, dict) else [output]
    value: Tensor = next(iter(leaves))
    return value.flatten(1)[:, 0]


def _timed(query: Query, masks: Some, at: str | None, options: SweepOptions | dict[str, Any]) -> float:
    """Seconds of a sweep, the second time it runs."""
    for _ in range(2):
        begin = perf_counter()
        for _ in sweep(query, masks, at=at, **options):
            pass
        if query.x.is_cuda:
            torch.cuda.synchronize(query.x.device)
        seconds = perf_counter() - begin
    return seconds
