"""What a grey square changes wherever it stands: the score, the most probable class, the strongest feature map."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from attrib import checks
from attrib.core.masking.baseline import Baseline
from attrib.core.masking.masks import Windows
from attrib.core.masking.options import check_options
from attrib.core.masking.placed import overlap_mean, places
from attrib.core.network.frozen import frozen
from attrib.core.network.layers import auto_layer, resolve, unwrap
from attrib.core.objectives.objective import ClassScore, Objective, Space
from attrib.core.objectives.targets import as_objective
from attrib.core.objectives.watched import MostProbable, Total, strongest
from attrib.core.query import Query
from attrib.core.reduce import widened
from attrib.core.sweeps.perturb import sweep


@dataclass(frozen=True, eq=False)
class CleanValues:
    """The same numbers of the inputs as they are, ``(N,)`` each.

    Attributes:
        score: of the target.
        label: the most probable class.
        feature: total activation of the channel.
        classes: score of each further class.
    """

    score: Tensor
    label: Tensor
    feature: Tensor
    classes: Mapping[int, Tensor]


@dataclass(frozen=True, eq=False)
class PixelMaps:
    """Maps at the resolution of the input, ``(N, 1, H, W)`` each.

    Attributes:
        score: mean score under the windows that cover the pixel.
        label: the class that most of these windows leave most probable; the lower one of two with as many.
        feature: mean total activation.
        classes: mean score of each further class.
    """

    score: Tensor
    label: Tensor
    feature: Tensor
    classes: Mapping[int, Tensor]


@dataclass(frozen=True, eq=False)
class OcclusionMaps:
    """What the network says with a window at each position of a grid, ``(N, rows, columns)`` each.

    Attributes:
        score: of the target.
        label: number of the most probable class.
        feature: total activation, over all places, of ``channel`` of ``layer``.
        classes: score of each further class.
        clean: the same without a window.
        channel: which channel is watched in each example, ``(N,)``.
        layer: whose.
        windows: where the positions are.
    """

    score: Tensor
    label: Tensor
    feature: Tensor
    classes: Mapping[int, Tensor]
    clean: CleanValues
    channel: Tensor
    layer: str
    windows: Windows = field(repr=False)

    @property
    def drop(self) -> Tensor:
        """What is lost of the target's score, ``(N, rows, columns)``."""
        return self.clean.score.reshape(-1, *(1 for _ in self.windows.size)) - self.score

    def upsampled(self) -> PixelMaps:
        """The maps at the resolution of the input, as `attrib.Occlusion` averages them."""
        return PixelMaps(
            self._mean(self.score),
            self._majority(),
            self._mean(self.feature),
            {index: self._mean(score) for index, score in self.classes.items()},
        )

    def _mean(self, values: Tensor) -> Tensor:
        return overlap_mean(self.windows, values.flatten(1).T)

    def _majority(self) -> Tensor:
        labels = self.label.flatten(1).T
        found = torch.tensor(sorted(set(labels.flatten().tolist())), device=labels.device)
        votes = torch.stack([overlap_mean(self.windows, (labels == one).to(self.score)) for one in found])
        winner: Tensor = found[votes.argmax(0)]
        return winner


def occlusion_maps(  # noqa: PLR0913  the paper's settings, and how they run
    model: Callable[..., Any],
    inputs: Tensor,
    target: object = "predicted",
    *,
    layer: str | nn.Module | None = None,
    channel: int | Sequence[int] | Tensor | None = None,
    classes: Sequence[int] = (),
    window: int | tuple[int, ...] | None = None,
    stride: int | tuple[int, ...] | None = None,
    edge: Literal["full", "cut"] = "full",
    baseline: Baseline = "mean",
    score: Space = "probability",
    additional_forward_args: object = None,
    **options: Any,
) -> OcclusionMaps:
    """Move a grey square over the inputs and record everything that Zeiler and Fergus show, in one sweep.

    Convention:
        - the maps hold values *under* occlusion, small where the picture is needed; ``drop`` turns the score round.
        - the channel is the one with the largest total activation over all places of ``layer`` in the clean input, and
          the same for all positions; the paper says "strongest response".
        - the most probable class is decided anew at every position, the target once, on the clean input.
        - ``baseline="mean"``: the square has the mean colour of each picture.

    Cost: one forward pass per window position and example, plus one; no gradient. ``layer=None`` takes one more. A
    model that can be replayed runs three times itself, and of all other passes only what a window can change is
    computed, see `attrib.explain_plan`.

    Args:
        model: an ``nn.Module`` with outputs ``(N, C)``.
        inputs: ``(N, C, H, W)``, or with one or three axes of locations.
        target: the true class, or any other class target, see `attrib.Attribution.attribute`.
        layer: whose channel is watched; the last spatial one if None.
        channel: one for all examples, or one for each, instead of the strongest.
        classes: further classes whose scores are recorded.
        window: as in `attrib.Occlusion`.
        stride: as in `attrib.Occlusion`.
        edge: as in `attrib.Occlusion`.
        baseline: what the window shows, see `attrib.core.resolve_baseline`.
        score: score space of target and classes.
        additional_forward_args: as in `attrib.Attribution.attribute`.
        options: how the sweep runs, see `attrib.core.SweepOptions`.

    Example:
        >>> found = occlusion_maps(model, x, 3, layer="conv", classes=[5], window=4, stride=4)
        >>> found.score.shape, found.label.dtype, found.upsampled().feature.shape
        (torch.Size([2, 3, 3]), torch.int64, torch.Size([2, 1, 12, 12]))

    References:
        Zeiler, Fergus, "Visualizing and Understanding Convolutional Networks", ECCV 2014, section 4.2 and figure 7,
        columns b, d and e.
    """
    (x,) = checks.batch(inputs)
    bare, extra = unwrap(model), checks.arguments(additional_forward_args)
    options = dict(check_options(options))  # type: ignore[arg-type]
    goals: list[Objective] = [ClassScore(checks.integer("class index", index, 0), score) for index in classes]
    with frozen(bare):
        asked = Query(bare, (x.detach(),), as_objective(target).in_space(score), None, extra)
        windows = Windows.usual(places(asked)[0].size, window, stride, edge)
        at = auto_layer(bare, asked.inputs, extra) if layer is None else resolve(bare, layer)
        query = replace(asked, layer=at)
        total = _total(query, at, None if channel is None else torch.as_tensor(channel))
        goals = [MostProbable(), total, *goals]
        values = _swept(query, windows, goals, {"baseline": baseline, **options})
        clean = [query.clean.score, *_clean(query, goals)]
    grids = [one.T.reshape(len(x), *windows.grid).contiguous() for one in values]
    return OcclusionMaps(
        *(grids[0], grids[1].long(), grids[2], dict(zip(classes, grids[3:], strict=True))),
        CleanValues(clean[0], clean[1].long(), clean[2], dict(zip(classes, clean[3:], strict=True))),
        *(total.channel, at, windows),
    )


def _total(query: Query, at: str, channel: Tensor | None) -> Total:
    act = query.clean.acts[at]
    layout = query.layout(act)
    return Total(at, layout, strongest(at, layout.maps(act), channel))


def _swept(query: Query, windows: Windows, goals: Sequence[Objective], how: dict[str, Any]) -> Tensor:
    """Scores ``(1 + goals, K, N)`` in the order of the windows."""
    values = widened(query.clean.score).new_empty(1 + len(goals), len(windows), len(query.x))
    for positions, score in sweep(query, windows, goals=goals, **how):
        values[:, positions] = score
    return values


def _clean(query: Query, goals: Sequence[Objective]) -> list[Tensor]:
    output, acts = query.clean.output, query.clean.acts
    with torch.no_grad():
        return [goal.bind(output, acts)(output, acts) for goal in goals]
