"""A network, pictures, and the truth about what it reads in them, which an intervention proves."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, cast

import torch
from torch import Tensor, nn

from attrib import checks
from attrib.benchmark.synthetic.scenes import Draw, Scenes
from attrib.core import Attribution
from attrib.core.network.layers import unwrap
from attrib.errors import InputError, ModelError
from attrib.metrics import Energy, PixelAUC, Protocol
from attrib.registry import CONTROLS, METHODS

Truth = Literal["informative", "used"]
SLACK = 0.2  # how far above chance answers may stay without what is relevant, and must fall without what is used


@dataclass(frozen=True)
class Evidence:
    """How often the network gives the target, as shares of pictures.

    Attributes:
        accuracy: on the pictures as they are.
        removed: with the relevant pixels removed.
        redrawn: with each distractor drawn anew, the rest as it is.
    """

    accuracy: float
    removed: float
    redrawn: Mapping[str, float]


@dataclass(frozen=True, eq=False)
class Problem:
    """A network whose reasons are known.

    Attributes:
        name: its name in `suite`.
        model: in evaluation mode.
        scenes: the pictures to be explained.
        draw: ``draw(n, seed)`` makes more of the kind.
        chance: how often the target would be given without the relevant pixels.
        uses: names of distractors that the network reads although they say nothing about the class.
        many: whether several classes may be given for one picture; they are those with a score above 0. Else it is the
            one with the highest.

    Example:
        >>> from attrib.benchmark.synthetic import suite
        >>> problem = suite(names=["planted"])["planted"]
        >>> problem.check()
        Evidence(accuracy=1.0, removed=0.0, redrawn={'decoy': 1.0, 'background': 1.0})
    """

    name: str
    model: nn.Module
    scenes: Scenes
    draw: Draw
    chance: float
    uses: tuple[str, ...] = ()
    many: bool = False

    @property
    def relevant(self) -> Tensor:
        """Pixels that inform about the class, ``(N, H, W)``."""
        return self.scenes.relevant

    @property
    def distractors(self) -> Mapping[str, Tensor]:
        """Everything else, by name, ``(N, H, W)`` each."""
        return self.scenes.distractors

    @property
    def used(self) -> Tensor:
        """Pixels that the network reads: the relevant ones, and distractors that it needs."""
        found = self.relevant
        for name in self.uses:
            found = found | self.distractors[name]
        return found

    def given(self, x: Tensor, target: Tensor) -> Tensor:
        """Whether the network gives the target, ``(N,)``; equal scores give none."""
        with torch.no_grad():
            scores: Tensor = self.model(x)
        own = scores.gather(1, target[:, None])[:, 0]
        if self.many:
            return own > 0
        best: Tensor = scores.scatter(1, target[:, None], -torch.inf).amax(1)
        return own > best

    def check(self, n: int = 256, *, seed: int = 0) -> Evidence:
        """Try on ``n`` new pictures whether the truth is true.

        The network must be right, stop to be right (but for chance) where the relevant pixels are removed, stay right
        where a distractor is drawn anew, and not stay so where it is one that the network uses.

        Raises:
            ModelError: if one of this is not so.
        """
        found = self.draw(n, seed)

        def share(x: Tensor) -> float:
            return float(self.given(x, found.target).float().mean())

        evidence = Evidence(share(found.x), share(found.removed), {k: share(x) for k, x in found.redrawn.items()})
        wrong = self._wrong(evidence)
        if wrong:
            raise ModelError(f"the network of {self.name!r} must do what is said of it; got {'; '.join(wrong)}.")
        return evidence

    def _wrong(self, found: Evidence) -> list[str]:
        wrong = [f"accuracy {found.accuracy:.2f}"] if found.accuracy < 0.95 else []
        if found.removed > self.chance + SLACK:
            wrong.append(f"{found.removed:.2f} right without the relevant pixels")
        for name, share in found.redrawn.items():
            fell = share < found.accuracy - SLACK / (1 if name in self.uses else 4)
            if fell != (name in self.uses):
                wrong.append(f"{share:.2f} right with another {name}")
        return wrong


Made = Tensor | str | Attribution | Callable[[nn.Module], Attribution]


def score(
    problem: Problem, what: Made, *, truth: Truth = "informative", protocol: Protocol | str = "default"
) -> dict[str, Tensor]:
    """Measure maps against the truth.

    Convention:
        - ``auc`` (`PixelAUC`) and ``energy`` (`Energy`): of the relevant pixels, and for ``truth="used"`` also of the
          distractors that the network needs. The true map has 1 for both, a random one 0.5 and the area.
        - ``energy: NAME``: of each distractor; lower is better unless the network uses it. With ``energy`` they add up
          to 1, but for those that ``truth="used"`` counts twice.
        - signs are the protocol's, see `Protocol`; by default what speaks against the class is no energy.

    Args:
        problem: of `suite`.
        what: maps ``(N, C, h, w)`` of ``problem.scenes``; a name in `METHODS` or `CONTROLS`; a method; or what makes
            one from the model.
        truth: which of the two truths counts.
        protocol: how maps are read.

    Returns:
        ``(N,)`` float64 each, NaN where a map is empty.

    Example:
        >>> from attrib.benchmark.synthetic import suite
        >>> problem = suite(names=["planted"])["planted"]
        >>> {name: round(float(values.mean()), 2) for name, values in score(problem, "saliency").items()}
        {'auc': 1.0, 'energy': 1.0, 'energy: decoy': 0.0, 'energy: background': 0.0}
    """
    checks.choice("truth", truth, ("informative", "used"))
    scenes, maps = problem.scenes, _maps(problem, what)

    def measured(metric: Energy | PixelAUC, masks: Tensor) -> Tensor:
        return metric.score(problem.model, scenes.x, scenes.target, maps, protocol, masks=masks)

    relevant = problem.used if truth == "used" else problem.relevant
    found = {"auc": measured(PixelAUC(), relevant), "energy": measured(Energy(), relevant)}
    return found | {f"energy: {name}": measured(Energy(), mask) for name, mask in problem.distractors.items()}


def _maps(problem: Problem, what: Made) -> Tensor:
    if isinstance(what, Tensor):
        return what
    if isinstance(what, str):
        what = cast("Callable[[nn.Module], Attribution]", CONTROLS[what] if what in CONTROLS else METHODS[what])
    made = what if isinstance(what, Attribution) else what(problem.model)
    if unwrap(made.model) is not problem.model:
        raise InputError(f"the method must explain the model of {problem.name!r}; got another model. Pass its class.")
    maps: Tensor = made.attribute(problem.scenes.x, problem.scenes.target)
    return maps
