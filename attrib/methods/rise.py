"""RISE: the mean score of random masks that keep a pixel."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor, nn

from attrib import checks
from attrib.core import Attribution, Baseline, Query, sweep
from attrib.core.masking.options import SWEEP_OPTIONS, check_options
from attrib.core.masking.placed import Place, placed, places
from attrib.core.masking.random_masks import RandomGrid
from attrib.core.objectives.objective import SPACES, Space
from attrib.core.reduce import widened
from attrib.errors import InputError
from attrib.registry import METHODS


@METHODS.add("rise")
class RISE(Attribution):
    r"""Importance of a pixel = mean score of random masks that keep it.

    .. math:: M_{hw} = \frac{1}{n\, E[m]} \sum_{i=1}^{n} s(x \odot m_i)\, m_i(h, w)

    Convention:
        - map: ``(N, 1, H, W)``, or the layer's ``(N, 1, h, w)``; unit: the score's; all channels are hidden together.
        - larger supports the goal; a pixel that does not matter has the mean score under masks, not zero.
        - ``score=None`` is the target's own space; the paper's score is ``"probability"``.
        - masks are soft: bilinear between cells, the baseline shows through where they are between 0 and 1; every
          example sees the same masks, in batches of any size.
        - ``divide="p"``: :math:`E[m]` is ``p``, as in the paper, and the map is unbiased; ``"coverage"``: the mean of
          the masks that were drawn at each pixel, a weighted mean of scores, with less noise where scores have an
          offset.
        - signals and volumes have maps of their own axes; tokens without a location are never hidden.

    Cost: ``n`` forward passes per example, plus one; no gradient; memory does not grow with ``n``. A model that can be
    replayed runs three times itself (clean, recorded, verified under one mask), all other passes are replayed whole.

    Args:
        model: see `Attribution`.
        layer: hide parts of this layer's activations instead of the inputs.
        n: number of masks. The noise falls with its square root; the paper takes 4000 for VGG16, 8000 for ResNet-50.
        cells: side of the coarse grid, in cells, or one number per axis.
        p: probability of keeping a cell, between 0 and 1.
        divide: ``"p"`` or ``"coverage"``.
        baseline: what hidden parts show, see `resolve_baseline`.
        score: score space (``"logit"``, ``"probability"``, ``"log_probability"``, ``"log_odds"``); None: the target's.
        seed: the same seed gives the same masks; torch's own random state is not touched.
        options: how the sweep runs, see `SweepOptions`: ``batch_size``, ``show_progress``, ...

    Example:
        >>> RISE(model, n=64, cells=4).attribute(x, target=3).shape
        torch.Size([2, 1, 12, 12])

    References:
        Petsiuk, Das, Saenko, "RISE: Randomized Input Sampling for Explanation of Black-box Models", BMVC 2018,
        equation 6, section 3.2.
    """

    further_options = SWEEP_OPTIONS

    def __init__(  # noqa: PLR0913  the paper's settings, and how they run
        self,
        model: Callable[..., Any],
        layer: str | nn.Module | None = None,
        *,
        n: int = 1000,
        cells: int | tuple[int, ...] = 7,
        p: float = 0.5,
        divide: Literal["p", "coverage"] = "p",
        baseline: Baseline = "zero",
        score: Space | None = None,
        seed: int = 0,
        **options: Any,
    ) -> None:
        super().__init__(model, layer)
        self.n = checks.integer("n", n, 1)
        self.cells = checks.sides("cells", cells)
        self.p = checks.number("p", p, 0, 1)
        if self.p in (0.0, 1.0):
            raise InputError(f"p must lie between 0 and 1; got {p!r}. Masks that are all alike show nothing.")
        self.divide = checks.choice("divide", divide, ("p", "coverage"))
        self.baseline = baseline
        self.score: Space | None = None if score is None else checks.choice("score", score, SPACES)
        self.seed = checks.integer("seed", seed, 0)
        self.options = check_options(options, local=False, of=type(self))  # type: ignore[arg-type]

    @property
    def multiplies_by_inputs(self) -> bool:
        """Whether the map is in units of the score; Captum's NoiseTunnel asks."""
        return True

    def _attribute(self, query: Query) -> tuple[Tensor, ...]:
        query = query.in_space(self.score)
        return tuple(self._map(query, place) for place in places(query))

    def _map(self, query: Query, place: Place) -> Tensor:
        cells = checks.sides("cells", self.cells, len(place.size))
        masks = RandomGrid(place.size, self.n, cells, self.p, self.seed)
        clean = widened(query.clean.score)
        total, cover = clean.new_zeros(len(clean), *place.size), clean.new_zeros(place.size)
        how: dict[str, Any] = {"baseline": self.baseline, "at": query.layer, "index": place.index, **self.options}
        for positions, score in sweep(query, placed(masks, place.layout), **how):
            keep = masks.at(positions, clean)[:, 0, 0]
            total += torch.tensordot(score.to(keep), keep, ([0], [0]))
            cover += keep.sum(0)
        return (total / (self.n * self.p if self.divide == "p" else cover))[:, None]
