"""How images are searched for: everything about a search but the network and the question."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from attrib import checks
from attrib.core.synth.moves import Move
from attrib.core.synth.parameters import Parameters, Pixels
from attrib.core.synth.penalties import Penalty
from attrib.core.synth.projections import Projection
from attrib.core.synth.record import Step
from attrib.core.synth.views import View
from attrib.errors import InputError

OnStep = Callable[[Step], object]


@dataclass(frozen=True, eq=False)
class Search:
    """How images are searched for.

    Args:
        steps: how many.
        move: how far each goes.
        parameters: what is searched over; the pixels unless given.
        views: what the network sees of the image, anew at each step.
        penalties: subtracted from the objective.
        projections: done to the image after each step; with `Pixels` only.
        seed: of the views.
        tile: compute scores and gradients in tiles of at most this side, and add the scores up: the memory of one tile.
            A jitter hides the seams. What the objective leaves open is settled in every tile, at every step.
        on_step: told of every step; the search ends when it returns True.
        show_progress: progress bar on standard error.
    """

    steps: int = 200
    move: Move = field(default_factory=Move)
    parameters: Parameters = field(default_factory=Pixels)
    views: Sequence[View] = ()
    penalties: Sequence[Penalty] = ()
    projections: Sequence[Projection] = ()
    seed: int = 0
    tile: int | None = None
    on_step: OnStep | None = None
    show_progress: bool = False

    def __post_init__(self) -> None:
        checks.integer("steps", self.steps, 0)
        checks.integer("seed", self.seed, 0)
        for name, kind in (("move", Move), ("parameters", Parameters)):
            _of_kind(name, [getattr(self, name)], kind)
        for name, several in (("views", View), ("penalties", Penalty), ("projections", Projection)):
            _of_kind(name, getattr(self, name), several)
        if self.tile is not None:
            checks.integer("tile", self.tile, 1)
        if self.projections and not self.parameters.pixels:
            raise InputError(
                f"projections must be left out where {type(self.parameters).__name__} is searched over; "
                f"got {len(self.projections)}. They act on pixels."
            )
        names = [type(one).__name__ for one in self.penalties]
        if len(set(names)) < len(names):
            raise InputError(f"penalties must be of different kinds; got {', '.join(names)}.")


def _of_kind(name: str, values: object, kind: type) -> None:
    if not isinstance(values, Sequence):
        raise InputError(f"{name} must be a sequence of {kind.__name__}; got {values!r}. Write [...] around it.")
    for one in values:
        if not isinstance(one, kind):
            raise InputError(f"{name} must be of attrib.core.synth.{kind.__name__}; got {one!r}.")
