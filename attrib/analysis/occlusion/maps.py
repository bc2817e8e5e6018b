"""What a grey square changes wherever it stands: the score, the most probable class, the strongest feature map."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from attrib import checks
from attrib.analysis.occlusion.asking import ask, warn_of_shares
from attrib.core.masking.baseline import Baseline
from attrib.core.masking.masks import Windows
from attrib.core.masking.options import check_options
from attrib.core.masking.placed import overlap_mean, places
from attrib.core.network.auto import auto_layer
from attrib.core.network.frozen import frozen
from attrib.core.network.layers import resolve, unwrap
from attrib.core.objectives.objective import ClassScore, Objective, Space
from attrib.core.objectives.outputs import whole
from attrib.core.objectives.watched import MostProbable, Total, strongest
from attrib.core.query import Query
from attrib.core.reduce import widened
from attrib.core.sweeps.perturb import sweep
from attrib.errors import InputError


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
    classes: Iterable[int] = (),
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
        - the most probable class is decided anew at every position, the target once, on the clean input. A model with
          one output has no label map and is refused.
        - ``baseline="mean"``: the square has the mean colour of each picture.
        - of a model in half precision all maps are float32: the numbers of classes, totals and means are exact.

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
    bare, numbers = unwrap(model), _numbers(classes)
    options = dict(check_options(options))  # type: ignore[arg-type]
    with frozen(bare):
        asked = ask(bare, inputs, target, score, additional_forward_args)
        windows = Windows.usual(places(asked)[0].size, window, stride, edge)
        at = auto_layer(bare, asked.inputs, asked.extra) if layer is None else resolve(bare, layer)
        query = replace(asked, layer=at)
        warn_of_shares(query, score)
        total = _total(query, at, None if channel is None else whole("channel", channel, 0, 1))
        goals: _Goals = {"label": MostProbable(), "feature": total}
        goals |= {number: ClassScore(number, score) for number in numbers}
        found = _named(_swept(query, windows, goals, {"baseline": baseline, **options}))
        clean = CleanValues(**_named(_clean(query, goals)))
    return OcclusionMaps(**found, clean=clean, channel=total.channel, layer=at, windows=windows)


_Goals = dict[str | int, Objective]  # a number stands for a further class


def _numbers(classes: Iterable[int]) -> list[int]:
    try:
        given = list(classes)
    except TypeError:
        raise InputError(
            f"classes must be a sequence of class numbers; got {classes!r}. One goes into a list."
        ) from None
    return [checks.integer("class index", index, 0) for index in given]


def _total(query: Query, at: str, channel: Tensor | None) -> Total:
    act = query.clean.acts[at]
    layout = query.layout(act)
    return Total(at, layout, strongest(at, layout.maps(act), channel))


def _swept(query: Query, windows: Windows, goals: _Goals, how: dict[str, Any]) -> dict[str | int, Tensor]:
    """The score and each goal under all windows, ``(N, *grid)`` each."""
    names: list[str | int] = ["score", *goals]
    values = widened(query.clean.score).new_empty(len(names), len(windows), len(query.x))
    for positions, scores in sweep(query, windows, goals=tuple(goals.values()), **how):
        values[:, positions] = scores
    grids = values.transpose(1, 2).reshape(len(names), len(query.x), *windows.grid)
    return dict(zip(names, grids.unbind(), strict=True))


def _clean(query: Query, goals: _Goals) -> dict[str | int, Tensor]:
    """The same of the inputs as they are, ``(N,)`` each."""
    output, acts = query.clean.output, query.clean.acts
    with torch.no_grad():
        found = {name: goal.bind(output, acts)(output, acts) for name, goal in goals.items()}
    return {"score": query.clean.score, **found}


def _named(found: dict[str | int, Tensor]) -> dict[str, Any]:
    """The arguments that `CleanValues` and `OcclusionMaps` share."""
    classes = {name: values for name, values in found.items() if isinstance(name, int)}
    return {"score": found["score"], "label": found["label"].long(), "feature": found["feature"], "classes": classes}
