"""Say what a sweep of local masks will do, layer by layer, before it does it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from attrib import checks
from attrib.core.incremental.engine import record_query
from attrib.core.incremental.plan import Plan, dense_macs, make_plan
from attrib.core.incremental.program import Program
from attrib.core.incremental.record import NotReplayableError
from attrib.core.incremental.steps import Kind
from attrib.core.incremental.windows import spans
from attrib.core.masking.masks import Box, LocalMasks, Windows
from attrib.core.network.frozen import frozen
from attrib.core.network.layers import resolve, unwrap
from attrib.core.objectives.objective import Output
from attrib.core.query import Query
from attrib.errors import InputError


@dataclass(frozen=True)
class LayerPlan:
    """What local masks change in the map of one layer.

    Attributes:
        layer: its name; that of the operation where it has no weights.
        size: height and width of the map.
        window: mean height and width of what a mask changes.
        share: part of the layer's multiply-adds that is left, 1 where everything changes; None where it has none.
        whole: every mask changes the whole map: from here on, nothing is saved.
        boxes: (top, bottom, left, right) of what each mask changes, ``(K, 4)``.
    """

    layer: str
    size: tuple[int, int]
    window: tuple[float, float]
    share: float | None
    whole: bool
    boxes: Tensor = field(repr=False, compare=False)

    def box(self, mask: int) -> Box:
        """What one mask changes."""
        return tuple(self.boxes[mask].tolist())


@dataclass(frozen=True)
class PlanReport:
    """What a sweep of local masks computes.

    Attributes:
        masks: how many there are.
        layers: those with maps, in order; empty where the model cannot be replayed.
        macs: multiply-adds for all masks of one example, as they will run.
        dense_macs: multiply-adds of as many whole passes.
        reason: why every mask runs through the model itself; None where the model is replayed.
    """

    masks: int
    layers: tuple[LayerPlan, ...]
    macs: int
    dense_macs: int
    reason: str | None = None

    @property
    def share(self) -> float:
        """Arithmetic that is left."""
        return self.macs / self.dense_macs if self.dense_macs else 1.0

    @property
    def dense_from(self) -> str | None:
        """The first layer from which on every map changes as a whole; None if there is none."""
        found = None
        for layer in reversed(self.layers):
            if not layer.whole:
                break
            found = layer.layer
        return found

    def __str__(self) -> str:
        if self.reason is not None:
            return f"{self.masks} masks, each through the model itself: {self.reason}"
        lines = [f"{'layer':32} {'map':>9} {'window':>11} {'share':>6}"]
        for row in self.layers:
            size, window = f"{row.size[0]}x{row.size[1]}", f"{row.window[0]:.1f}x{row.window[1]:.1f}"
            share = "" if row.share is None else f"{row.share:.0%}"
            lines.append(f"{row.layer:32} {size:>9} {window:>11} {share:>6}")
        end = f"; dense from {self.dense_from}" if self.dense_from else ""
        lines.append(f"{self.masks} masks: {self.share:.1%} of {self.dense_macs:.3g} multiply-adds{end}")
        return "\n".join(lines)


def explain_plan(
    model: Callable[..., Any],
    inputs: Tensor,
    *,
    window: int | tuple[int, int] | None = None,
    stride: int | tuple[int, int] | None = None,
    masks: LocalMasks | None = None,
    layer: str | nn.Module | None = None,
    additional_forward_args: object = None,
) -> PlanReport:
    """Tell what occlusion of ``inputs`` will compute: windows, shares of the arithmetic, from where on it is dense.

    A window hides a few pixels; behind every convolution what can change grows by the kernel, until it is the
    whole map. Only what can change is computed. Global operations, such as the mean in squeeze-excitation, make every
    map behind them change as a whole.

    Cost: one forward pass, which records the model.

    Args:
        model: see `attrib.Attribution`.
        inputs: ``(N, C, H, W)``.
        window: as in `attrib.Occlusion`.
        stride: as in `attrib.Occlusion`.
        masks: other local masks instead of windows.
        layer: hide parts of this layer's activations instead of the inputs.
        additional_forward_args: as in `attrib.Attribution.attribute`.

    Returns:
        A `PlanReport`; ``print`` it.

    Example:
        >>> report = explain_plan(model, x, window=2)
        >>> print(report)
        layer                                  map      window  share
        stem                                 12x12 ...
        >>> 0 < report.share < 1
        True
    """
    (x,) = checks.batch(inputs)
    checks.shape(x, "n c h w", "inputs")
    if masks is not None and (window is not None or stride is not None):
        raise InputError("masks must come without window and stride; got both.")
    bare = unwrap(model)
    at = None if layer is None else resolve(bare, layer)
    extra = checks.arguments(additional_forward_args)
    with frozen(bare), torch.no_grad():
        query = Query(bare, (x.detach(),), Output(), None, extra)
        try:
            program = record_query(query, at, 0, ())
        except NotReplayableError as exc:
            count = masks or (None if at else Windows.usual((x.shape[2], x.shape[3]), window, stride))
            return PlanReport(0 if count is None else len(count), (), 0, 0, str(exc))
    form = program.form(program.source)
    masks = masks or Windows.usual((form.h, form.w), window, stride)
    return report(program, masks, make_plan(program, masks.boxes))


def report(program: Program, masks: LocalMasks, plan: Plan) -> PlanReport:
    """What a plan does."""
    boxes = list(masks.boxes)
    axes = [spans(program, axis, [(b[2 * axis], b[2 * axis + 1]) for b in boxes]) for axis in (0, 1)]
    rows = []
    for step in program.steps:
        if step.form is None or step.out not in program.changed or step.kind is Kind.POINT:
            continue
        y, x = axes[0][step.out], axes[1][step.out]
        sides = (float(y.size.mean()), float(x.size.mean()))
        ran = sum(len(g.positions) * g.y[step.out].size * g.x[step.out].size for g in plan.groups)
        share = ran / (len(boxes) * step.form.h * step.form.w) if step.macs else None
        whole = sides == (step.form.h, step.form.w)
        found = torch.from_numpy(np.stack([y.low, y.high + 1, x.low, x.high + 1], 1))
        name = step.name.removesuffix("_with_indices")
        rows.append(LayerPlan(name, (step.form.h, step.form.w), sides, share, whole, found))
    return PlanReport(len(boxes), tuple(rows), plan.macs, len(boxes) * dense_macs(program))
