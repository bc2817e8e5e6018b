"""Extremal perturbation: the region of a given area that is best kept, or best hidden."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from tqdm import tqdm

from attrib import checks
from attrib.core import Attribution, Query
from attrib.core.masking.fade import Hidden
from attrib.core.objectives.objective import SPACES, Space
from attrib.core.sweeps.area_search import RegionSearch, Variant
from attrib.core.sweeps.mask_search import Masked, masked
from attrib.errors import InputError
from attrib.registry import METHODS

if TYPE_CHECKING:
    from typing_extensions import Self


@METHODS.add("extremal_perturbation")
class ExtremalPerturbation(Attribution):
    r"""The region of a given area, with smooth edges, that alone keeps most of the score; or that is missed most.

    .. math:: m_a = \operatorname*{argmax}_{m \in \mathcal{M},\; |m| = a |\Omega|} s(m \otimes x)

    where :math:`m \otimes x` shows the input where the mask is 1, and :math:`\mathcal{M}` are masks without fine
    detail, see `MaxConvolution`. The area is a penalty, see `area_gap`.

    Convention:
        - map: ``(N, 1, H, W)`` in [0, 1], no unit: 1 in the region, 0 outside; its mean is the area, roughly.
        - ``areas``: of several, the map is the mean of their masks; larger was chosen at smaller areas too.
        - ``reach``: the mask of the smallest area that keeps this share of the score, else that of the largest area.
        - ``variant="preserve"`` shows the region alone; ``"delete"`` hides it alone; ``"dual"`` does both in turn.
        - hidden places are blurred by default, more and more as the mask falls.
        - each example is searched alone, with ``batch_size=1`` to the bit as in any batch; more may end elsewhere.
        - the map does not change when the score is multiplied by a power of two: gradients are brought to one length.
        - an example that no mask changes the score of gets zeros.
        - the class is decided once, on the clean input.

    Cost: ``steps`` forward and backward passes and 1 + ``places`` squared forward passes per area and example,
    ``"dual"`` twice as many; plus one forward pass. With ``reach``, two more for the scores of everything shown and
    hidden, and one per area but the last.

    Args:
        model: see `Attribution`.
        layer: must be None; inputs are explained.
        areas: share of the picture in (0, 1), or several.
        steps: steps of the search per area.
        places: compare what was found half-way with places x places discs, and go on from the best.
        cells: cells of the mask along the shorter side.
        smoothness: width of the edges in pixels; None is 21/224 of the shorter side.
        variant: ``"preserve"``, ``"delete"`` or ``"dual"``.
        reach: share of the score to be kept (or lost, for ``"delete"``), in (0, 1]; 0 is everything hidden.
        baseline: what hidden places show: ``"pyramid"`` blurs them more and more, see `Fade`, or see
            `resolve_baseline`.
        score: score space (``"logit"``, ``"probability"``, ``"log_probability"``, ``"log_odds"``); None: the target's.
        jitter: move the picture by up to so many pixels in every step.
        seed: of the jitter; the global RNG is not touched.
        batch_size: examples that are searched together.
        show_progress: progress bar on standard error.

    Example:
        >>> maps = ExtremalPerturbation(model, areas=0.25, steps=20).attribute(x, target=3)
        >>> maps.shape, bool(maps.min() >= 0), bool(maps.max() <= 1)
        (torch.Size([2, 1, 12, 12]), True, True)

    References:
        Fong, Patrick, Vedaldi, "Understanding Deep Networks via Extremal Perturbations and Smooth Masks", ICCV 2019,
        section 3.
    """

    takes_layer = False

    def __init__(  # noqa: PLR0913  the paper's settings, and how they run
        self,
        model: Callable[..., object],
        layer: str | nn.Module | None = None,
        *,
        areas: float | Sequence[float] = 0.1,
        steps: int = 100,
        places: int = 5,
        cells: int = 32,
        smoothness: float | None = None,
        variant: Variant = "preserve",
        reach: float | None = None,
        baseline: Hidden = "pyramid",
        score: Space | None = None,
        jitter: int = 0,
        seed: int = 0,
        batch_size: int = 1,
        show_progress: bool = False,
    ) -> None:
        super().__init__(model, layer)
        self.areas = _areas(areas)
        self.search = RegionSearch(
            checks.integer("steps", steps, 1),
            checks.integer("places", places, 1),
            checks.integer("cells", cells, 1),
            None if smoothness is None else checks.number("smoothness", smoothness, 0.1),
            checks.choice("variant", variant, ("preserve", "delete", "dual")),
            checks.integer("jitter", jitter, 0),
            checks.integer("seed", seed, 0),
        )
        self.reach = None if reach is None else checks.number("reach", reach, 1e-6, 1)
        self.baseline = baseline
        self.score: Space | None = None if score is None else checks.choice("score", score, SPACES)
        self.batch_size = checks.integer("batch_size", batch_size, 1)
        self.show_progress = show_progress

    def reseeded(self, seed: int) -> Self | None:
        """See `Attribution.reseeded`: without jitter nothing is random."""
        if not self.search.jitter:
            return None
        twin = copy(self)
        twin.search = replace(self.search, seed=checks.integer("seed", seed, 0))
        return twin

    def _attribute(self, query: Query) -> tuple[Tensor, ...]:
        query = query.in_space(self.score)
        return tuple(self._maps(query, which) for which in range(len(query.inputs)))

    def _maps(self, query: Query, which: int) -> Tensor:
        parts = list(masked(query, which, self.baseline, self.batch_size))
        total = len(parts) * len(self.areas) * self.search.steps
        with tqdm(total=total, unit="step", file=sys.stderr, disable=not self.show_progress) as bar:
            return torch.cat([self._map(one, bar.update) for one in parts])

    def _map(self, one: Masked, tick: Callable[[], object]) -> Tensor:
        if self.reach is None:
            return torch.stack([self.search.find(one, area, tick) for area in self.areas]).mean(0)
        found = self.search.find(one, self.areas[0], tick)
        for area in self.areas[1:]:  # from small to large
            short = self.search.effect(one, found) < self.reach
            if not short.any():
                break
            found = self.search.find(one, area, tick).where(short[:, None, None, None], found)
        return found


def _areas(areas: float | Sequence[float]) -> tuple[float, ...]:
    """The areas, from small to large; each is a share of the picture."""
    several = areas if isinstance(areas, Sequence) else (areas,)
    found = sorted(checks.number("areas", area, 0, 1) for area in several)
    if not found or not 0 < found[0] <= found[-1] < 1:
        raise InputError(f"areas must be one number in (0, 1), or several; got {areas!r}.")
    return tuple(found)
