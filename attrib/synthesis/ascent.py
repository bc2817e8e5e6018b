"""Gradient ascent: the image that excites a class or a unit most."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from attrib import checks
from attrib.core.network.frozen import frozen
from attrib.core.network.passes import forward
from attrib.core.objectives.each import Each
from attrib.core.objectives.objective import ClassScore, Objective
from attrib.core.objectives.targets import as_objective
from attrib.core.objectives.units import Channel, Neuron
from attrib.core.synth import PixelSpace, Synthesis, synthesize
from attrib.errors import InputError
from attrib.report.finding import Finding
from attrib.report.table import amount, text_table
from attrib.synthesis.recipes import Recipe
from attrib.synthesis.several import one_after_another, side_by_side
from attrib.synthesis.starts import first_images
from attrib.synthesis.subject import Network, Subject

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, eq=False)
class Ascent(Finding):
    """Images that excite units.

    Attributes:
        units: what each image is for, in words.
        layers: the layer of each unit that is a channel or neuron; None of the others.
        inputs: after the last step, ``(N, C, H, W)`` as the network takes them.
        pictures: the same in [0, 1], where clipped is clipped.
        score: the unit, ``(steps + 1, N)``: at the start, and after each step.
        penalties: by name, with their weights, ``(steps + 1, N)`` each.
        best_step: where score less penalties was highest, ``(N,)``.
        chance: softmax probability of the class at the end, ``(N,)``; NaN for what is no class.
        dead: the unit did not answer to the start, ``(N,)``.
        recipe: its name.
        stopped: by each batch of units: ``"done"``, ``"asked"`` or ``"interrupted"``.
        clipped: whether the search kept the picture between black and white.
        searches: of each batch of units, what `synthesize` gave: the best images, and how to go on.
    """

    units: tuple[str, ...]
    layers: tuple[str | None, ...]
    inputs: Tensor
    pictures: Tensor
    score: Tensor
    penalties: dict[str, Tensor]
    best_step: Tensor
    chance: Tensor
    dead: Tensor
    recipe: str
    stopped: tuple[str, ...]
    clipped: bool
    searches: tuple[Synthesis, ...] = field(repr=False, metadata={"saved": False})

    def to_text(self, *, markdown: bool = False) -> str:
        """A row per unit: the score before and after, the probability, whether it was dead."""
        rows = [
            {
                "unit": unit,
                "score at the start": amount(float(self.score[0, n])),
                "at the end": amount(float(self.score[-1, n])),
                "best at step": str(int(self.best_step[n])),
                "probability": amount(float(self.chance[n])),
                "dead": "yes" if self.dead[n] else "no",
            }
            for n, unit in enumerate(self.units)
        ]
        steps = len(self.score) - 1
        return f"{self.recipe}: {steps} steps\n\n{text_table(rows, markdown=markdown)}"

    def plot(self, *, columns: int = 5) -> Figure:
        """All images, `attrib.plot.synthesis.images`."""
        return self._drawn(range(len(self.units)), columns)

    def sheets(self, *, columns: int = 5) -> dict[str, Figure]:
        """A figure per layer, of the units that are channels or neurons, by the layer's address."""
        layers = dict.fromkeys(layer for layer in self.layers if layer is not None)
        rows = {layer: [n for n, other in enumerate(self.layers) if other == layer] for layer in layers}
        return {layer: self._drawn(which, columns, foot=layer) for layer, which in rows.items()}

    def _drawn(self, which: Sequence[int], columns: int, foot: str = "") -> Figure:
        from attrib.plot.synthesis import images

        chances = {n: float(self.chance[n]) for n in which if not torch.isnan(self.chance[n])}
        titles = [f"{self.units[n]}, p = {chances[n]:.2f}" if n in chances else self.units[n] for n in which]
        shown = (self.pictures if self.clipped else self.inputs)[list(which)]
        return images(shown, titles, columns=columns, stretch=not self.clipped, foot=foot)


def ascend(
    model: Network,
    units: object,
    *,
    recipe: str | Recipe = "natural",
    start: str | Tensor | None = None,
    size: int | tuple[int, int] | None = None,
    pixels: PixelSpace | None = None,
    batch_size: int = 8,
    resume: Ascent | None = None,
    **changes: Any,
) -> Ascent:
    r"""Search for the image that excites each of ``units`` most.

    .. math:: I^* = \arg\max_I S_c(I) - \lambda \lVert I \rVert_2^2, \qquad I_0 = 0

    with the recipe ``"simonyan"``; the recipes ``"yosinski_a"`` to ``"yosinski_d"`` are the four settings of decay,
    blur and clipping of that paper, ``"natural"`` searches over the frequencies of natural images, seen shifted, turned
    and resized.

    Convention:
        - a class is its score before the softmax: a probability also rises when other classes fall.
        - every unit has an image of its own, whatever else is asked in the same call.
        - the image is the one after the last step; the best one is in ``searches``.
        - Ctrl-C keeps what is there; batches of units that had not begun stay at their start.

    Cost: one forward and one backward pass per unit and step; units of early layers end the forward pass there.

    Args:
        model: a `attrib.io.LoadedModel`, or a module with ``pixels`` and ``size``.
        units: a class (its name, where a LoadedModel knows it), ``"layer4:7"``, an objective, or a list of them.
        recipe: a name of `attrib.synthesis.RECIPES`, or one of your own.
        start: ``"zero"``, ``"grey"``, ``"noise"``, or images as the network takes them; the recipe's if None. With
            ``parameters=Generated(...)`` the first codes, ``(N, ...)``.
        size: of the image; as the network's preprocessing gives it if None. Images as ``start`` have their own.
        pixels: how pixels become inputs; as the LoadedModel says if None.
        batch_size: units searched at a time; changes nothing but the memory.
        resume: what an earlier call with the same arguments found: ``steps`` more steps are made.
        changes: settings of `attrib.core.synth.Search`: ``steps``, ``move``, ``penalties``, ``seed``, ``on_step``, ...

    Raises:
        NotFiniteError: the search left the numbers; it holds the last good image.

    Example:
        >>> from attrib.core.synth import PixelSpace
        >>> found = ascend(model, [3, "conv:1"], size=12, pixels=PixelSpace(), steps=4)
        >>> found.units, bool((found.score[-1] > found.score[0]).all())
        (('class 3', 'conv:1'), True)

    References:
        Simonyan, Vedaldi and Zisserman, "Deep Inside Convolutional Networks", 2013, section 2.
        Yosinski et al., "Understanding Neural Networks Through Deep Visualization", 2015, section 3 and table 1.
        Olah, Mordvintsev and Schubert, "Feature Visualization", 2017.
    """
    subject, chosen = Subject.of(model, pixels), Recipe.named(recipe)
    goals = objectives(units, subject.names)
    search = chosen.searching(subject.space, changes)
    first = first_images(model, subject, chosen.start if start is None else start, len(goals), size, search)
    parts = range(0, len(goals), checks.integer("batch_size", batch_size, 1))
    calls = []
    for at, old in zip(parts, _earlier(resume, len(parts)), strict=True):
        part = slice(at, at + batch_size)
        calls.append(partial(synthesize, subject.model, Each(tuple(goals[part])), first[part], resume=old))
    found = one_after_another(calls, search)
    return _ascent(subject, goals, found, chosen.name, clipped=not search.parameters.pixels)


def objectives(units: object, names: Sequence[str] | None = None) -> list[Objective]:
    """One objective per unit; a list holds several, and so does an array of class numbers."""
    if isinstance(units, (Tensor, np.ndarray)) and units.ndim:
        units = units.tolist()
    many = list(units) if isinstance(units, (list, tuple, range)) else [units]
    if not many:
        raise InputError("units must name at least one class, unit or objective; got none.")
    return [as_objective(_number(one, names) if isinstance(one, str) else one) for one in many]


def _number(text: str, names: Sequence[str] | None) -> str | int:
    """The class of that name, where there is one."""
    found = [i for i, name in enumerate(names or ()) if name == text]
    if len(found) > 1:  # ImageNet has two cranes
        raise InputError(f"a unit must name one class; {text!r} is {' and '.join(map(str, found))}. Pass a number.")
    return found[0] if found else text


def _earlier(resume: Ascent | None, parts: int) -> Sequence[Synthesis | None]:
    if resume is None:
        return [None] * parts
    if len(resume.searches) != parts:
        raise InputError(
            f"resume must be of the same units in the same batches; got {len(resume.searches)} batches, not {parts}."
        )
    return resume.searches


def _ascent(
    subject: Subject, goals: Sequence[Objective], found: Sequence[Synthesis], recipe: str, *, clipped: bool
) -> Ascent:
    inputs = torch.cat([one.image for one in found])
    return Ascent(
        tuple(_named(goal, subject) for goal in goals),
        tuple(goal.layer if isinstance(goal, (Channel, Neuron)) else None for goal in goals),
        inputs,
        subject.space.to_picture(inputs).clamp(0, 1),
        side_by_side([one.score for one in found]),
        {name: side_by_side([one.penalties[name] for one in found]) for name in found[0].penalties},
        torch.cat([one.best_step for one in found]),
        _chance(subject, goals, inputs),
        torch.cat([one.dead for one in found]),
        recipe,
        tuple(one.stopped for one in found),
        clipped,
        tuple(found),
    )


def _named(goal: Objective, subject: Subject) -> str:
    if isinstance(goal, ClassScore):
        index = _class(goal)
        return str(goal.index) if index is None else f"{subject.label(index)}"
    if isinstance(goal, Channel):
        return f"{goal.layer}:{goal.channel}"
    if isinstance(goal, Neuron):
        places = [] if goal.place is None else torch.as_tensor(goal.place).tolist()
        return f"{goal.layer}:{goal.channel}" + "".join(f" at {tuple(place)}" for place in places)
    return type(goal).__name__


def _class(goal: Objective) -> int | None:
    """The class that is asked for, where it is one."""
    if not isinstance(goal, ClassScore):
        return None
    index: object = goal.index
    if isinstance(index, Tensor):
        return int(index) if index.numel() == 1 else None
    return index if isinstance(index, int) else None


def _chance(subject: Subject, goals: Sequence[Objective], inputs: Tensor) -> Tensor:
    wanted = [_class(goal) for goal in goals]
    chance = torch.full((len(goals),), torch.nan)
    for n, index in enumerate(wanted):
        if index is not None:
            with frozen(subject.model), torch.no_grad():
                output: object = forward(subject.model, (inputs[n : n + 1],))
            if isinstance(output, Tensor) and output.ndim == 2:
                chance[n] = output.softmax(1)[0, index]
    return chance
