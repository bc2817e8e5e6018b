"""Deletion, insertion, MoRF and LeRF curves from one set of forward passes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal, overload

import torch
from torch import Tensor

from attrib import checks
from attrib.core import Query, as_objective, frozen, unwrap
from attrib.core.masking.options import check_options
from attrib.errors import InputError
from attrib.metrics.asking import only_image
from attrib.metrics.follow import Follower, Trace, run
from attrib.metrics.protocol import Protocol, as_protocol, make_baseline
from attrib.metrics.ranking import Ranking, tie_orders
from attrib.metrics.readings import Curve, Curves

CurveName = Literal["deletion", "insertion", "morf", "lerf"]
NAMES: tuple[CurveName, ...] = ("deletion", "insertion", "morf", "lerf")
_Removed = tuple[str, bool]  # which baseline ("removal" or "insertion"), and whether the top of the order is kept


@dataclass
class _Measurement:
    """One image batch under one protocol, and the maps that are measured on it."""

    query: Query
    protocol: Protocol
    which: tuple[CurveName, ...]
    rankings: Mapping[str, Ranking]
    options: dict[str, Any]

    def _plan(self, name: CurveName) -> _Removed:
        """Inserting with the removal baseline is LeRF backwards: the same masked images."""
        if name == "insertion" and self.protocol.insertion != self.protocol.baseline:
            return "insertion", True
        return "removal", name in {"insertion", "lerf"}

    @cached_property
    def gradient(self) -> Tensor:
        """Of the clean score to the image, with the class that the clean pass settled on."""
        return replace(self.query, objective=self.query.clean.goal).gradient().grad[0]

    def orders(self, ranking: Ranking, baseline: Tensor) -> tuple[list[Tensor], int]:
        """The orders to try, most relevant unit first, and how many of them are averaged."""
        units = ranking.values.shape[1]
        raster = torch.arange(units)[None]
        if self.protocol.ties == "stable" or not ranking.has_ties:
            return [ranking.order(raster)], 1
        drawn = tie_orders(units, self.protocol.tie_orders, self.protocol.seed)
        among = [*drawn[:, None], raster] if self.protocol.ties == "bounds" else [*drawn[:, None]]
        if self.protocol.ties == "bounds":
            change = self.query.image - baseline
            effect = (self.gradient * change).sum(1, keepdim=True).cpu().double()
            by_effect = ranking.grid.mean(effect).argsort(1)  # per pixel: the x-axis counts pixels, not units
            among += [by_effect, by_effect.flip(1)]
        return [ranking.order(one) for one in among], len(drawn)

    def measure(self) -> dict[str, Curves]:
        """Run what the wanted curves need, each masked image once."""
        if not self.rankings:
            return {}
        plans = {name: self._plan(name) for name in self.which}
        done: dict[tuple[str, _Removed], Curve] = {}
        for role in dict.fromkeys(role for role, _ in plans.values()):
            kept = dict.fromkeys(keep for one, keep in plans.values() if one == role)
            done |= {(name, (role, keep)): curve for (name, keep), curve in self._follow(role, list(kept)).items()}
        return {name: self._curves(ranking, name, plans, done) for name, ranking in self.rankings.items()}

    def _curves(
        self, ranking: Ranking, name: str, plans: dict[CurveName, _Removed], done: dict[tuple[str, _Removed], Curve]
    ) -> Curves:
        found: dict[str, Curve] = {
            one: _backwards(done[name, plan]) if one == "lerf" else done[name, plan] for one, plan in plans.items()
        }
        epsilon = torch.finfo(self.query.image.dtype).eps
        return Curves(self.protocol, found, ranking.status, ranking.tied, epsilon)

    def _follow(self, role: str, kept: list[bool]) -> dict[tuple[str, bool], Curve]:
        """The curves of all maps that share a baseline, in as few sweeps as there are rounds."""
        baseline = self.protocol.baseline if role == "removal" else self.protocol.insertion
        base = make_baseline(baseline, self.query.image)
        traces: dict[tuple[str, bool], Trace] = {}
        lines: list[Tensor] = []
        for name, ranking in self.rankings.items():
            orders, averaged = self.orders(ranking, base)
            fraction = torch.stack([ranking.fractions(order) for order in orders])
            for keep in kept:
                traces[name, keep] = Trace(ranking, fraction, len(lines), averaged, keep, self.protocol.bend)
            lines += [ranking.rank(order) for order in orders]
        follower = Follower(self.query, base, torch.stack(lines).to(self.query.image.device), self.options)
        run(follower, list(traces.values()))
        return {key: trace.curve() for key, trace in traces.items()}


def _backwards(curve: Curve) -> Curve:
    """Keeping the top of the order, read from the clean image on: removing the least relevant first."""
    return Curve(1 - curve.fraction.flip(-1), curve.score.flip(-1), curve.averaged, unseen=curve.unseen)


def _wanted(which: Sequence[str] | None, protocol: Protocol) -> tuple[CurveName, ...]:
    offered = tuple(name for name in NAMES if ("lerf" if name == "lerf" else "morf") in protocol.order)
    chosen = offered if which is None else which
    for name in chosen:
        checks.choice(f"which curve, for a protocol of order {'+'.join(protocol.order)},", name, offered)
    if not chosen:
        raise InputError("which must name at least one curve; got none.")
    return tuple(name for name in offered if name in chosen)


@overload
def curves(
    model: Callable[..., Any],
    x: Tensor,
    target: object,
    maps: Tensor,
    protocol: Protocol | str | Mapping[str, Any] = ...,
    *,
    which: Sequence[str] | None = ...,
    additional_forward_args: object = ...,
    **options: Any,
) -> Curves: ...


@overload
def curves(
    model: Callable[..., Any],
    x: Tensor,
    target: object,
    maps: Mapping[str, Tensor],
    protocol: Protocol | str | Mapping[str, Any] = ...,
    *,
    which: Sequence[str] | None = ...,
    additional_forward_args: object = ...,
    **options: Any,
) -> dict[str, Curves]: ...


def curves(
    model: Callable[..., Any],
    x: Tensor,
    target: object,
    maps: Tensor | Mapping[str, Tensor],
    protocol: Protocol | str | Mapping[str, Any] = "default",
    *,
    which: Sequence[str] | None = None,
    additional_forward_args: object = None,
    **options: Any,
) -> Curves | dict[str, Curves]:
    """Hide (or show) the pixels of ``x`` in the order of ``maps`` and follow the score.

    Cost: for each example one forward pass for the clean image and one for each baseline, shared by all maps; for each
    map ``K - 2`` passes for deletion and MoRF together, as many for LeRF, and as many for insertion where its baseline
    differs; all of it once per tie order, for examples in which ties matter. One gradient for ``ties="bounds"``. All
    maps that share a baseline fill batches together: measure methods in one call. Memory: 4 bytes per pixel for each
    map and tie order.

    Args:
        model: the explained model.
        x: the explained inputs ``(N, C, H, W)``.
        target: what was explained, see `attrib.core.as_objective`; ``"predicted"`` is decided once, on ``x``.
        maps: explanations ``(N, C, h, w)``, signed and raw as methods give them; or several methods' by name.
        protocol: a `Protocol`, the name of a preset, or its dict.
        which: the curves to measure; None measures all that the protocol's order offers.
        additional_forward_args: one further argument of the model, or a tuple of them.
        options: how the model is run, see `attrib.core.SweepOptions`; none of them changes a number beyond rounding.

    Returns:
        `Curves` for a Tensor; one `Curves` per name for a mapping.

    Example:
        >>> found = curves(model, x, "predicted", torch.rand(2, 1, 12, 12), Protocol(steps=7))
        >>> found.auc("deletion").shape, found.curve("insertion")[0][0]
        (torch.Size([2]), tensor([0.0000, 0.1667, 0.3333, 0.5000, 0.6667, 0.8333, 1.0000], dtype=torch.float64))

    References:
        Petsiuk, Das, Saenko, "RISE: Randomized Input Sampling for Explanation of Black-box Models", BMVC 2018, sec. 4.
        Samek et al., "Evaluating the Visualization of What a Deep Neural Network Has Learned", TNNLS 2017.
        Bluecher, Vielhaben, Strodthoff, "Decoupling Pixel Flipping and Occlusion Strategy for Consistent XAI
        Benchmarks", TMLR 2024.
    """
    protocol = as_protocol(protocol)
    wanted = _wanted(which, protocol)
    check_options(options)  # type: ignore[arg-type]
    x = only_image(x)
    named = maps if isinstance(maps, Mapping) else {"": maps}
    rankings = {name: Ranking.of(one, x, protocol, name) for name, one in named.items()}
    extra = checks.arguments(additional_forward_args)
    objective = as_objective(target)
    bare = unwrap(model)
    with frozen(bare):
        query = Query(bare, (x,), objective, None, extra).in_space(protocol.score)
        found = _Measurement(query, protocol, wanted, rankings, options).measure()
    return found if isinstance(maps, Mapping) else found[""]
