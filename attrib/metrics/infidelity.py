"""Infidelity: how far is what a map predicts from what a perturbation does to the score?"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from attrib import checks
from attrib.core import Query, Windows
from attrib.core.masking.masks import Some
from attrib.core.reduce import upsample
from attrib.errors import InputError
from attrib.metrics.asking import AskingMetric, full_size
from attrib.metrics.follow import swept
from attrib.metrics.pictures import added, unchanged
from attrib.metrics.protocol import Protocol, make_baseline
from attrib.metrics.ranking import checked_maps
from attrib.registry import METRICS


@dataclass(frozen=True, eq=False)
class Noise:
    """Gaussian perturbations ``(C, H, W)``; number ``i`` is drawn from place ``i`` of a counter-based stream."""

    shape: tuple[int, ...]
    count: int
    sigma: float
    seed: int

    def __len__(self) -> int:
        return self.count

    def draw(self, position: int) -> Tensor:
        """Perturbation ``position``, ``(C, H, W)`` float64."""
        source = np.random.Generator(np.random.Philox(key=self.seed, counter=(0, 0, 0, position)))
        return self.sigma * torch.from_numpy(source.standard_normal(self.shape))

    def batch(self, start: int, stop: int, like: Tensor) -> Tensor:
        """What turns ``x`` into ``x - I``."""
        return added(-torch.stack([self.draw(i) for i in range(start, stop)])[:, None], like)


class _Infidelity(AskingMetric):
    r"""How well does a map predict what perturbations do to the score? The mean squared error.

    Args:
        perturb: ``"square"`` hides a square, ``"noise"`` subtracts Gaussian noise.
        values: what a map's values are, see above.
        side: of the squares in pixels; None is an eighth of the image's shorter side, at least 1.
        sigma: of the noise, in units of the input.
        draws: perturbations, >= 2.
        seed: same seed, same perturbations.
    """

    higher_is_better = False

    def __init__(
        self,
        *,
        perturb: Literal["square", "noise"] = "square",
        values: Literal["contributions", "slopes"] = "contributions",
        side: int | None = None,
        sigma: float = 0.1,
        draws: int = 100,
        seed: int = 0,
    ) -> None:
        self.perturb = checks.choice("perturb", perturb, ("square", "noise"))
        self.values = checks.choice("values", values, ("contributions", "slopes"))
        if (perturb, values) == ("noise", "contributions"):
            raise InputError(
                "values must be 'slopes' with perturb='noise'; got 'contributions', which say what hiding a pixel "
                "takes away, not what noise does to it. Leave perturb='square'."
            )
        self.local = perturb == "square"
        self.side = None if side is None else checks.integer("side", side, 1)
        self.sigma = checks.number("sigma", sigma, 0)
        self.draws = checks.integer("draws", draws, 2)
        self.seed = checks.integer("seed", seed, 0)

    def measure(self, query: Query, maps: Tensor, protocol: Protocol, options: dict[str, Any]) -> Tensor:
        """Mean squared error over the perturbations."""
        x = query.image
        if self.perturb == "square":
            base = make_baseline(protocol.baseline, x)
            squares = self.squares((x.shape[2], x.shape[3]))
            predicted = _under(squares.boxes, self._contributions(maps, x, base, protocol))
            scores = swept(query, squares, base, options)
        else:
            noise = Noise(tuple(x.shape[1:]), self.draws, self.sigma, self.seed)
            slopes = _slopes(maps, x, protocol).expand(x.shape).flatten(1)
            predicted = torch.stack([slopes @ noise.draw(i).flatten() for i in range(self.draws)])
            scores = swept(query, noise, unchanged(x), options)
        lost = query.clean.score.cpu().double() - scores
        return self.error(predicted, lost, same_size=maps.shape[2:] == x.shape[2:])

    def squares(self, size: tuple[int, int]) -> Some:
        """The squares that are hidden, each as likely everywhere inside the image."""
        side = max(1, min(size) // 8) if self.side is None else self.side
        every = Windows(size, (side, side), (1, 1))
        source = np.random.Generator(np.random.Philox(key=self.seed))
        return Some(every, source.integers(0, len(every), self.draws).tolist())

    def _contributions(self, maps: Tensor, x: Tensor, base: Tensor, protocol: Protocol) -> Tensor:
        """What the map says that hiding each pixel takes away, ``(N, H, W)``."""
        if self.values == "contributions":
            return full_size(maps, x, protocol)[:, 0]
        return (_slopes(maps, x, protocol) * (x - base).cpu().double()).sum(1)

    @abstractmethod
    def error(self, predicted: Tensor, lost: Tensor, *, same_size: bool) -> Tensor:
        """Return ``(N,)`` from what the map predicts and what the score loses, ``(K, N)`` each."""


@METRICS.add("infidelity")
class Infidelity(_Infidelity):
    r"""How well does a map, at its best scale, predict what perturbations do to the score? The mean squared error.

    .. math:: s = \mathbb{E}_I \bigl[ \bigl(\beta\, I^\top M - (f(x) - f(x - I))\bigr)^2 \bigr], \qquad
        \beta = \frac{\mathbb{E}_I \bigl[ I^\top M\, (f(x) - f(x - I)) \bigr]}{\mathbb{E}_I \bigl[ (I^\top M)^2 \bigr]}

    Convention:
        - ``beta`` is the best scale of each map, which may be negative: neither scale nor overall sign counts. A zero
          map has no scale and predicts that nothing is lost; its number, the mean square of what is lost, is the worst.
        - ``perturb="square"``: a random square shows the protocol's baseline. ``values="contributions"``: the map says
          what hiding a pixel takes away, and is summed over the square; ``values="slopes"``: it says what the score
          gains per unit of input, and ``I`` is the difference to the baseline.
        - ``perturb="noise"``: ``I`` is Gaussian noise, drawn for every channel; for slopes only.
        - slopes keep their channels, and a map with one channel holds for all of them; contributions are reduced as the
          protocol says.
        - lower is better; the unit is that of the score, squared, so numbers of images that lose more are larger.

    Cost: ``draws`` forward passes, and one more; under squares only what they can change is computed.

    Args:
        perturb: ``"square"`` hides a square, ``"noise"`` subtracts Gaussian noise.
        values: ``"contributions"`` or ``"slopes"``, what a map's values are.
        side: of the squares in pixels; None is an eighth of the image's shorter side, at least 1.
        sigma: of the noise, in units of the input.
        draws: perturbations, >= 2.
        seed: same seed, same perturbations.

    Example:
        >>> Infidelity(draws=20).score(model, x, 3, torch.rand(2, 1, 12, 12)).shape
        torch.Size([2])

    References:
        Yeh, Hsieh, Suggala, Inouye, Ravikumar, "On the (In)fidelity and Sensitivity of Explanations", NeurIPS 2019,
        definition 2.1; the scale as in Captum's ``infidelity(normalize=True)``.
    """

    range = (0.0, 1.0)

    def error(self, predicted: Tensor, lost: Tensor, *, same_size: bool) -> Tensor:  # noqa: ARG002
        """The least error over all scales of the map."""
        power = predicted.square().mean(0)
        beta = (predicted * lost).mean(0) / power.where(power > 0, 1.0)
        return (beta * predicted - lost).square().mean(0)


@METRICS.add("infidelity_raw")
class RawInfidelity(_Infidelity):
    r"""How well does a map, in its own unit, predict what perturbations do to the score? The mean squared error.

    .. math:: s = \mathbb{E}_I \bigl[ \bigl(I^\top M - (f(x) - f(x - I))\bigr)^2 \bigr]

    Convention:
        - perturbations and what ``M`` means are those of `Infidelity`, with the same arguments.
        - maps are read in their own unit: one that is twice as large is another map. For methods whose maps are in the
          unit of the score only; all others are compared by `Infidelity`.
        - NaN where the map is not of the input's size, because resizing changes what it adds up to.
        - lower is better; no upper bound.

    Cost: ``draws`` forward passes, and one more; under squares only what they can change is computed.

    Example:
        >>> RawInfidelity(perturb="noise", values="slopes", draws=20).score(model, x, 3, torch.rand(2, 3, 12, 12)).shape
        torch.Size([2])

    References:
        Yeh, Hsieh, Suggala, Inouye, Ravikumar, "On the (In)fidelity and Sensitivity of Explanations", NeurIPS 2019,
        definition 2.1.
    """

    range = (0.0, float("inf"))

    def error(self, predicted: Tensor, lost: Tensor, *, same_size: bool) -> Tensor:
        """The error as it is."""
        error = (predicted - lost).square().mean(0)
        return error if same_size else torch.full_like(error, float("nan"))


def _slopes(maps: Tensor, x: Tensor, protocol: Protocol) -> Tensor:
    """Maps with the protocol's sign, ``(N, 1 or C, H, W)`` float64 on the CPU."""
    found = checked_maps(maps, x).nan_to_num(0.0, 0.0, 0.0)
    if found.shape[1] not in (1, x.shape[1]):
        raise InputError(f"slopes must have 1 channel or the input's {x.shape[1]}; got {found.shape[1]}.")
    if protocol.sign != "signed":
        found = found.abs() if protocol.sign == "absolute" else found.clamp(min=0)
    return found if found.shape[2:] == x.shape[2:] else upsample(found, (x.shape[2], x.shape[3]))


def _under(boxes: Sequence[tuple[int, ...]], values: Tensor) -> Tensor:
    """What ``values (N, H, W)`` add up to in each box, ``(K, N)``."""
    return torch.stack([values[:, top:bottom, left:right].sum((1, 2)) for top, bottom, left, right in boxes])
