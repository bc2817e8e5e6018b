"""Occlusion: how much the score falls when a window is hidden."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Literal

import torch
from torch import Tensor, nn

from attrib import checks
from attrib.core import Attribution, Baseline, Query, Windows, sweep
from attrib.core.masking.options import SWEEP_OPTIONS, check_options
from attrib.core.masking.placed import Overlap, Place, placed, places
from attrib.core.objectives.objective import SPACES, Space
from attrib.core.reduce import widened
from attrib.core.sweeps.refine import sweep_refined
from attrib.errors import InputError
from attrib.registry import METHODS


@METHODS.add("occlusion")
class Occlusion(Attribution):
    r"""How much of the score is lost when a window around each pixel is hidden.

    .. math:: M_{hw} = \frac{1}{|W_{hw}|} \sum_{w \in W_{hw}} \big( s(x) - s(x \text{ without } w) \big)

    where :math:`W_{hw}` are the windows that cover the pixel.

    Convention:
        - map: ``(N, 1, H, W)``, or the layer's ``(N, 1, h, w)``; unit: the score's; all channels are hidden together.
        - signals ``(N, C, L)`` have maps ``(N, 1, L)``, volumes ``(N, 1, D, H, W)``; a layer of tokens has the map of
          its patch grid, and tokens without a location (the class token) are never hidden.
        - ``sign="drop"``: larger supports the goal. ``sign="score"``: the mean score *under* occlusion (Zeiler and
          Fergus show this), small where the goal depends on the pixel.
        - ``edge="full"``: the last window is moved back to keep its size; ``"cut"`` lets it hang over (Captum).
        - the class is decided once, on the clean input.

    Cost: one forward pass per window position and example, plus one; no gradient. A model that can be replayed runs
    three times itself (clean, recorded, verified under one window); of all other passes only what a window can change
    is computed, see `attrib.explain_plan`.

    Args:
        model: see `Attribution`.
        layer: hide parts of this layer's activations instead of the inputs.
        window: side of the window, or one per axis, (height, width); None: an eighth of the shorter side, and of each
            side of a volume. One that is larger than the map along every axis is refused, as nothing would be left.
        stride: step of the window, at most its size; half the window if None.
        baseline: what the window shows, see `resolve_baseline`.
        score: score space (``"logit"``, ``"probability"``, ``"log_probability"``, ``"log_odds"``); None: the target's.
        sign: ``"drop"`` or ``"score"``.
        edge: ``"full"`` or ``"cut"``.
        refine: 1 computes every window. With more, every so many windows along each axis are computed first; where
            they show less than a fifth of the largest effect the others are interpolated, and the error is measured,
            see `attrib.core.Deviation`.
        options: how the sweep runs, see `SweepOptions`: ``batch_size``, ``show_progress``, ...

    Example:
        >>> Occlusion(model, window=4, stride=2).attribute(x, target=3).shape
        torch.Size([2, 1, 12, 12])

    References:
        Zeiler, Fergus, "Visualizing and Understanding Convolutional Networks", ECCV 2014, section 4.2.
    """

    further_options = SWEEP_OPTIONS

    def __init__(  # noqa: PLR0913  the paper's settings, and how they run
        self,
        model: Callable[..., Any],
        layer: str | nn.Module | None = None,
        *,
        window: int | tuple[int, ...] | None = None,
        stride: int | tuple[int, ...] | None = None,
        baseline: Baseline = "zero",
        score: Space | None = None,
        sign: Literal["drop", "score"] = "drop",
        edge: Literal["full", "cut"] = "full",
        refine: int = 1,
        **options: Any,
    ) -> None:
        super().__init__(model, layer)
        self.window = None if window is None else checks.sides("window", window)
        self.stride = None if stride is None else checks.sides("stride", stride)
        self.baseline = baseline
        self.score: Space | None = None if score is None else checks.choice("score", score, SPACES)
        self.sign = checks.choice("sign", sign, ("drop", "score"))
        self.edge: Literal["full", "cut"] = checks.choice("edge", edge, ("full", "cut"))
        self.refine = checks.integer("refine", refine, 1)
        self.options = check_options(options, of=type(self))  # type: ignore[arg-type]

    @property
    def multiplies_by_inputs(self) -> bool:
        """Whether the map is in units of the score; Captum's NoiseTunnel asks."""
        return True

    def _attribute(self, query: Query) -> tuple[Tensor, ...]:
        query = query.in_space(self.score)
        return tuple(self._map(query, place) for place in places(query))

    def _windows(self, size: tuple[int, ...]) -> Windows:
        windows = Windows.usual(size, self.window, self.stride, self.edge)
        if all(window > length for window, length in zip(windows.window, size, strict=True)):
            raise InputError(f"window must fit into the map, {size}, along some axis; got {windows.window}.")
        return windows

    def _map(self, query: Query, place: Place) -> Tensor:
        windows = self._windows(place.size)
        clean = widened(query.clean.score if self.sign == "drop" else torch.zeros_like(query.clean.score))
        found = Overlap(windows, clean)
        for positions, score in self._scores(query, windows, place):
            found.add(positions, clean - score if self.sign == "drop" else score)
        return found.mean

    def _scores(self, query: Query, windows: Windows, place: Place) -> Iterator[tuple[Tensor, Tensor]]:
        how: dict[str, Any] = {"baseline": self.baseline, "at": query.layer, "index": place.index, **self.options}
        if self.refine == 1:
            return sweep(query, placed(windows, place.layout), **how)
        return iter([(torch.arange(len(windows)), sweep_refined(query, windows, self.refine, place.layout, **how))])
