"""Settings of the loop that papers made known, by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

from attrib import checks
from attrib.core.synth import (
    L2,
    Blur,
    ClipSmallContributions,
    ClipSmallPixels,
    Decay,
    Fourier,
    Jitter,
    Move,
    PixelSpace,
    Projection,
    Rotate,
    Scale,
    Search,
)

StartName = Literal["zero", "grey", "noise"]


@dataclass(frozen=True)
class Recipe:
    """How images are searched for, whatever network they are for.

    Args:
        name: for tables and manifests.
        start: ``"zero"``, the network's zero, the mean colour of normalised inputs; ``"grey"``, the middle of [0, 1];
            ``"noise"``, the network's zero with noise of standard deviation 0.1.
        search: settings of the loop for a network that takes pictures in this space.
    """

    name: str
    start: StartName
    search: Callable[[PixelSpace], Search]

    @classmethod
    def named(cls, name: str | Recipe) -> Recipe:
        """The recipe of a name; a recipe as it is."""
        return name if isinstance(name, Recipe) else RECIPES[checks.choice("recipe", name, tuple(RECIPES))]

    def searching(self, space: PixelSpace, changes: dict[str, Any]) -> Search:
        """The settings, with some of them changed."""
        checks.unknown_options("search", changes, tuple(Search.__dataclass_fields__))
        search = self.search(space)
        if not getattr(changes.get("parameters"), "pixels", True) and "projections" not in changes:
            changes = {**changes, "projections": ()}  # the recipe's act on pixels
        return replace(search, **changes)


def _yosinski(
    rate: float, decay: float, width: float, every: int, small: float, contribution: float
) -> Callable[[PixelSpace], Search]:
    """The four regularisers, in the order in which the authors' code applies them; 0 leaves one out.

    The paper gives no rate: ours moves as far as its regularisers take back.
    """
    chosen: list[tuple[float, Callable[[], Projection]]] = [
        (decay, lambda: Decay(decay)),
        (width * every, lambda: Blur(width, every)),
        (small, lambda: ClipSmallPixels(small)),
        (contribution, lambda: ClipSmallContributions(contribution)),
    ]
    projections = tuple(make() for on, make in chosen if on)
    return lambda _: Search(steps=200, move=Move(rate, "unit"), projections=projections)


def _simonyan(_: PixelSpace) -> Search:
    return Search(steps=200, move=Move(1.0), penalties=(L2(1e-3),))


def _natural(space: PixelSpace) -> Search:
    views = (Jitter(32), Scale(0.7, 1.3), Rotate(10.0), Jitter(8))
    move = Move(0.008, optimiser="adam")
    return Search(steps=256, move=move, parameters=Fourier(space, decay=1.3), views=views)


RECIPES = {
    one.name: one
    for one in (
        Recipe("natural", "noise", _natural),
        Recipe("simonyan", "zero", _simonyan),
        Recipe("yosinski_a", "noise", _yosinski(5.0, 0.0, 0.5, 4, 50, 0)),
        Recipe("yosinski_b", "noise", _yosinski(60.0, 0.3, 0.0, 0, 20, 0)),
        Recipe("yosinski_c", "noise", _yosinski(5.0, 1e-4, 1.0, 4, 0, 0)),
        Recipe("yosinski_d", "noise", _yosinski(2.0, 0.0, 0.5, 4, 0, 90)),
    )
}
