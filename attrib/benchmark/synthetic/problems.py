"""All problems, with their networks built or trained."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch.nn.functional as F
from torch import nn

from attrib import checks
from attrib.benchmark.synthetic.fillings import CLASSES as TEXTURES
from attrib.benchmark.synthetic.fillings import textures
from attrib.benchmark.synthetic.grounds import CLASSES as SHORTCUTS
from attrib.benchmark.synthetic.grounds import Truth, shortcut
from attrib.benchmark.synthetic.objects import several, with_presence
from attrib.benchmark.synthetic.patches import matched_filter, planted
from attrib.benchmark.synthetic.problem import Problem
from attrib.benchmark.synthetic.scenes import Draw, Scenes, Size, several_seeds
from attrib.benchmark.synthetic.suppressors import discriminant, suppressor
from attrib.benchmark.synthetic.training import train
from attrib.errors import InputError, did_you_mean

TRAINING = 2048  # pictures
Make = Callable[[int, int, int, Size], Problem]  # pictures; seeds of these, and of the network's training; size


def suite(seed: int = 0, *, n: int = 32, size: Size = 32, names: Sequence[str] | None = None) -> dict[str, Problem]:
    """Make the problems, and prove each by `Problem.check`.

    ===========  ================================================  ===========================================
    name         the network reads                                 what distracts
    ===========  ================================================  ===========================================
    planted      a code somewhere among random signs (built)       a decoy of higher contrast
    suppressor   a signal, and noise taken off elsewhere (built)   the place where the noise is seen alone
    shortcut     the colour of the ground (trained)                an object whose shape says the same
    object       the shape of the object (trained)                 the ground, whose colour says nothing
    several      the object that is asked for (trained)            another object of another class
    textures     how an object is filled (trained)                 a plain object
    ===========  ================================================  ===========================================

    Cost: about a few seconds of one core for each trained network; nothing is downloaded.

    Args:
        seed: of pictures and networks; the global random state is not touched.
        n: pictures to be explained in each problem, >= 1.
        size: side in pixels or (height, width), multiples of 4, >= 24.
        names: which problems; None makes all.

    Example:
        >>> for name, problem in suite(names=["planted", "suppressor"]).items():
        ...     print(name, problem.check().accuracy)
        planted 1.0
        suppressor 1.0
    """
    checks.integer("n", n, 1)
    problems = {}
    for name in PROBLEMS if names is None else names:
        if name not in PROBLEMS:
            raise InputError(f"no problem named {name!r}.{did_you_mean(name, PROBLEMS)} Known: {', '.join(PROBLEMS)}.")
        shown, taught = several_seeds(seed, 2)
        problems[name] = PROBLEMS[name](n, shown, taught, size)
        problems[name].check(seed=shown + 1)
    return problems


def _planted(n: int, seed: int, taught: int, size: Size) -> Problem:  # noqa: ARG001  nothing is taught
    draw = partial(_draw, planted, size)
    return Problem("planted", matched_filter(size), draw(n, seed), draw, chance=0)


def _suppressor(n: int, seed: int, taught: int, size: Size) -> Problem:  # noqa: ARG001
    draw = partial(_draw, suppressor, size)
    return Problem("suppressor", discriminant(size), draw(n, seed), draw, chance=1 / 2, uses=("suppressor",))


def _shortcut(truth: Truth, n: int, seed: int, taught: int, size: Size) -> Problem:
    draw = partial(_draw, partial(shortcut, truth=truth), size)
    name = "shortcut" if truth == "ground" else "object"
    steps = 60 if truth == "ground" else 180  # colours are learnt at once
    return Problem(name, _taught(draw, SHORTCUTS, taught, steps), draw(n, seed), draw, chance=1 / SHORTCUTS)


def _several(n: int, seed: int, taught: int, size: Size) -> Problem:
    net = train(*with_presence(TRAINING, seed=taught, size=size), seed=taught, steps=300)
    draw = partial(_draw, several, size)
    return Problem("several", net, draw(n, seed), draw, chance=0, many=True)


def _textures(n: int, seed: int, taught: int, size: Size) -> Problem:
    draw = partial(_draw, textures, size)
    return Problem("textures", _taught(draw, TEXTURES, taught, 100), draw(n, seed), draw, chance=1 / TEXTURES)


def _draw(make: Callable[..., Scenes], size: Size, n: int, seed: int) -> Scenes:
    return make(n, seed=seed, size=size)


def _taught(draw: Draw, classes: int, seed: int, steps: int) -> nn.Module:
    scenes = draw(TRAINING, seed)
    return train(scenes.x, F.one_hot(scenes.target, classes).float(), seed=seed, steps=steps)


PROBLEMS: dict[str, Make] = {
    "planted": _planted,
    "suppressor": _suppressor,
    "shortcut": partial(_shortcut, "ground"),
    "object": partial(_shortcut, "object"),
    "several": _several,
    "textures": _textures,
}
