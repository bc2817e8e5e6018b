"""Meaningful perturbation: the smallest part of the input whose loss takes the score away."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn
from tqdm import tqdm

from attrib import checks
from attrib.core import Attribution, Query
from attrib.core.masking.fade import Hidden, shifts
from attrib.core.masking.smooth_mask import Enlarge, variation
from attrib.core.objectives.objective import SPACES, Space
from attrib.core.sweeps.mask_search import Masked, grid_of, masked, start
from attrib.registry import METHODS

_DECAY, _DECAY_OF_SQUARES, _TINY = 0.9, 0.999, 1e-8  # Adam's own
_BETA = 3.0  # the paper's power of the variation


@METHODS.add("meaningful_perturbation")
class MeaningfulPerturbation(Attribution):
    r"""The smallest part of the input, in few pieces, that has to be hidden to take the score away.

    .. math:: M = \operatorname*{argmin}_{h \in [0, 1]^{\Omega}}
              \lambda_1 \overline{h} + \lambda_2 \overline{|\nabla h|^3} + \max(0, r(x \otimes (1 - h)))

    where :math:`x \otimes (1 - h)` hides the input where :math:`h` is 1, and :math:`r` is the share of the score that
    is left: 1 for the clean input, 0 where everything is hidden. Bars are means over the cells of the mask.

    Convention:
        - map: ``(N, 1, H, W)`` in [0, 1], no unit: how strongly each place is hidden; larger matters more.
        - ``game="delete"``: as above. ``"preserve"``: the smallest part that, shown alone, keeps the score.
        - lowering the score below that of a wholly hidden input (raising it above the clean one) earns nothing.
        - where hiding everything raises the score, losing as much again counts as a whole loss.
        - zeros say that no part is worth its price: ask with a smaller ``sparsity``.
        - hidden places are blurred by default, more and more as the mask falls.
        - each example is searched alone, with ``batch_size=1`` to the bit as in any batch; more may end elsewhere.
        - the map does not change when the score is multiplied by a power of two.
        - the class is decided once, on the clean input.

    Cost: ``steps`` forward and backward passes per example, plus three forward passes: clean, in the batch
    and alone, and everything hidden.

    Args:
        model: see `Attribution`.
        layer: must be None; inputs are explained.
        game: ``"delete"`` or ``"preserve"``.
        steps: steps of the search.
        cells: cells of the mask along the shorter side; it is enlarged bilinearly.
        sparsity: weight of the mean of the map: what the whole picture costs, a clean score being worth 1.
        smoothness: weight of the variation between neighbouring cells.
        length: length of a step; a cell goes from 0 to 1.
        baseline: what hidden places show: ``"pyramid"`` blurs them more and more, see `Fade`, or see
            `resolve_baseline`.
        score: score space (``"logit"``, ``"probability"``, ``"log_probability"``, ``"log_odds"``); None: the target's.
        jitter: move the picture by up to so many pixels in every step; None is 4/224 of the shorter side.
        seed: of the jitter; the global RNG is not touched.
        batch_size: examples that are searched together.
        show_progress: progress bar on standard error.

    Example:
        >>> maps = MeaningfulPerturbation(model, steps=20).attribute(x, target=3)
        >>> maps.shape, bool(maps.min() >= 0), bool(maps.max() <= 1)
        (torch.Size([2, 1, 12, 12]), True, True)

    References:
        Fong, Vedaldi, "Interpretable Explanations of Black Boxes by Meaningful Perturbation", ICCV 2017, section 4.
    """

    takes_layer = False

    def __init__(  # noqa: PLR0913  the paper's settings, and how they run
        self,
        model: Callable[..., object],
        layer: str | nn.Module | None = None,
        *,
        game: Literal["delete", "preserve"] = "delete",
        steps: int = 100,
        cells: int = 28,
        sparsity: float = 2.0,
        smoothness: float = 20.0,
        length: float = 0.1,
        baseline: Hidden = "pyramid",
        score: Space | None = None,
        jitter: int | None = None,
        seed: int = 0,
        batch_size: int = 1,
        show_progress: bool = False,
    ) -> None:
        super().__init__(model, layer)
        self.game = checks.choice("game", game, ("delete", "preserve"))
        self.steps = checks.integer("steps", steps, 1)
        self.cells = checks.integer("cells", cells, 1)
        self.sparsity = checks.number("sparsity", sparsity, 0)
        self.smoothness = checks.number("smoothness", smoothness, 0)
        self.length = checks.number("length", length, 0, 1)
        self.baseline = baseline
        self.score: Space | None = None if score is None else checks.choice("score", score, SPACES)
        self.jitter = None if jitter is None else checks.integer("jitter", jitter, 0)
        self.seed = checks.integer("seed", seed, 0)
        self.batch_size = checks.integer("batch_size", batch_size, 1)
        self.show_progress = show_progress

    def _attribute(self, query: Query) -> tuple[Tensor, ...]:
        query = query.in_space(self.score)
        return tuple(self._maps(query, which) for which in range(len(query.inputs)))

    def _maps(self, query: Query, which: int) -> Tensor:
        parts = list(masked(query, which, self.baseline, self.batch_size))
        with tqdm(total=len(parts) * self.steps, unit="step", file=sys.stderr, disable=not self.show_progress) as bar:
            return torch.cat([self._map(one, bar.update) for one in parts])

    def _map(self, one: Masked, tick: Callable[[], object]) -> Tensor:
        """Adam's steps on the cells, which stay in [0, 1]."""
        picture = one.fade.levels[0]
        size = (picture.shape[2], picture.shape[3])
        cells = start(grid_of(size, self.cells), 0.5, picture)
        mean, square, enlarge = torch.zeros_like(cells), torch.zeros_like(cells), Enlarge(size, cells)
        shift = shifts(min(size) * 4 // 224 if self.jitter is None else self.jitter, self.seed)
        for step in range(1, self.steps + 1):
            slope = self._slope(one, cells.requires_grad_(True), enlarge, shift())
            mean = _DECAY * mean + (1 - _DECAY) * slope
            square = _DECAY_OF_SQUARES * square + (1 - _DECAY_OF_SQUARES) * slope.square()
            scale = (square / (1 - _DECAY_OF_SQUARES**step)).sqrt() + _TINY
            cells = (cells.detach() - self.length * mean / (1 - _DECAY**step) / scale).clamp(0, 1)
            tick()
        return enlarge(cells)

    def _slope(self, one: Masked, cells: Tensor, enlarge: Enlarge, shift: tuple[int, int]) -> Tensor:
        keep = enlarge(cells) if self.game == "preserve" else 1 - enlarge(cells)
        left = one.left(one.score(keep, shift))
        worth = -left.clamp(max=1) if self.game == "preserve" else left.clamp(min=0)
        price = self.sparsity * cells.mean((1, 2, 3)) + self.smoothness * variation(cells, _BETA)
        return one.slope(worth + price, cells, keep)
