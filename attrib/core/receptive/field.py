"""Which part of the input a unit can see: by the arithmetic of what ran, or by where gradients arrive."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from attrib import checks
from attrib.core.incremental.record import NotReplayableError
from attrib.core.network import cost
from attrib.core.network.frozen import frozen
from attrib.core.network.geometry import Layout, layout_of
from attrib.core.network.layers import resolve, unwrap
from attrib.core.objectives.objective import Output
from attrib.core.query import Query
from attrib.core.receptive.reading import Track, tracks, until
from attrib.errors import ShapeError

Method = Literal["arithmetic", "gradient"]


@dataclass(frozen=True, eq=False)
class ReceptiveField:
    """The input pixels that each place of a layer sees: a box, by its rows and its columns.

    Attributes:
        layer: whose places.
        size: height and width of the input.
        places: height and width of the layer; ``(1, 1)`` for a layer without places, which sees everything.
        rows: first row and one past the last for each row of the layer, ``(h, 2)``; padding counts as if the picture
            went on, so that these may lie beyond it.
        columns: likewise, ``(w, 2)``.
        seen_rows: the same without padding, from the first to the last row that is really read; ``(0, 0)`` for none.
        seen_columns: likewise.
        method: how they were found.
        reason: why not by arithmetic, where that was asked for and cannot tell; else empty.
    """

    layer: str
    size: tuple[int, int]
    places: tuple[int, int]
    rows: Tensor = field(repr=False)
    columns: Tensor = field(repr=False)
    seen_rows: Tensor = field(repr=False)
    seen_columns: Tensor = field(repr=False)
    method: Method
    reason: str = ""

    def boxes(self, y: Tensor | int, x: Tensor | int) -> Tensor:
        """Boxes (top, bottom, left, right) ``(..., 4)`` of places; they may go beyond the picture."""
        return self._boxes(self.rows, self.columns, y, x)

    def seen(self, y: Tensor | int, x: Tensor | int) -> Tensor:
        """The same without padding: what is really read reaches all four sides of the box; zeros where nothing is."""
        found = self._boxes(self.seen_rows, self.seen_columns, y, x)
        return found * ((found[..., 1::2] > found[..., ::2]).all(-1, keepdim=True))

    def _boxes(self, rows: Tensor, columns: Tensor, y: Tensor | int, x: Tensor | int) -> Tensor:
        places = [torch.as_tensor(one, dtype=torch.long) for one in (y, x)]
        for name, one, cells in zip("yx", places, self.places, strict=True):
            if one.numel() and not 0 <= int(one.min()) <= int(one.max()) < cells:
                raise ShapeError(f"{name} must lie in [0, {cells - 1}] for layer {self.layer!r}; got {one.tolist()}.")
        return torch.cat([rows[places[0]], columns[places[1]]], -1)


def receptive_field(
    model: Callable[..., Any],
    inputs: Tensor,
    layer: str | nn.Module,
    *,
    method: Method = "arithmetic",
    gates: bool = True,
    draws: int = 4,
    seed: int = 0,
    additional_forward_args: object = None,
) -> ReceptiveField:
    r"""Find which input pixels every place of a layer can see.

    A window of kernel :math:`k`, stride :math:`s`, padding :math:`p` and dilation :math:`d` reads the cells

    .. math:: o s - p + d i, \quad i = 0, \ldots, k - 1

    which is followed down to the input through all that ran: branches that are added or concatenated see the union,
    adaptive pooling and resizing their own windows, and linear layers, attention and means over all places everything.

    Convention:
        - the arithmetic is that of one forward pass as it ran, at the size of ``inputs``, functional calls included.
        - ``boxes`` goes on beyond the picture by the padding; ``seen`` holds only what exists, and is what gradients
          can reach: the bounding box of it, because dilation and stride leave holes.
        - a gate that averages over all places (squeeze-and-excitation) lets every place behind it see everything;
          ``gates=False`` passes over what only multiplies whole channels.
        - where an operation has no rule, or the model cannot be recorded, gradients answer, and ``reason`` says why.
        - ``"gradient"`` is a lower bound: dead units and pooling hide pixels from some of the ``draws``.

    Cost: two forward passes; ``"gradient"`` takes ``draws`` forward and ``draws * (h + w)`` backward passes, all up to
    the layer only.

    Args:
        model: see `attrib.Attribution`.
        inputs: ``(N, C, H, W)``; only the size of the first example matters.
        layer: whose places, a name, an address or a module.
        method: ``"arithmetic"``, or ``"gradient"``: where the gradient of random sums over a row (a column) of the
            layer is not zero, for inputs of noise.
        gates: whether factors of whole channels count, of the arithmetic.
        draws: noise inputs of the gradient method.
        seed: of the noise.
        additional_forward_args: as in `attrib.Attribution.attribute`.

    Raises:
        ShapeError: the inputs are not pictures, or the layer has places that are not rows and columns.

    Example:
        >>> found = receptive_field(model, x, "conv3")
        >>> found.places, found.boxes(0, 2).tolist(), found.seen(0, 2).tolist()
        ((6, 6), [-4, 6, 0, 10], [0, 6, 0, 10])

    References:
        Zeiler, Fergus, "Visualizing and Understanding Convolutional Networks", ECCV 2014, figure 2, shows patches of
        this size; Araujo, Norris, Sim, "Computing Receptive Fields of Convolutional Neural Networks", Distill 2019.
    """
    checks.choice("method", method, ("arithmetic", "gradient"))
    checks.integer("draws", draws, 1)
    checks.integer("seed", seed, 0)
    (x,) = checks.batch(inputs)
    checks.shape(x, "n c h w", "inputs")
    bare, extra = unwrap(model), checks.arguments(additional_forward_args)
    at = resolve(bare, layer)
    with frozen(bare):
        query = Query(bare, (x[:1].detach(),), Output(), at, extra)
        with torch.no_grad():
            act = query.run((query.x.clone(),), at)[1][at]
        layout = places_of(bare, at, act, x[:1])
        reason = ""
        if method == "arithmetic":
            try:
                return _result(query, layout, tracks(query, at, _cells(layout), gates), "arithmetic")
            except NotReplayableError as exc:
                reason = str(exc)
        found = _by_gradient(query, layout, draws, seed)
        return replace(_result(query, layout, found, "gradient"), reason=reason)


def places_of(model: Callable[..., Any], layer: str, act: Tensor, inputs: Tensor) -> Layout | None:
    """Where the places of a layer are; None for ``(N, K)``, which has none.

    Raises:
        ShapeError: the layer has places that are not rows and columns.
    """
    if act.ndim == 2:
        return None
    layout = layout_of(model, layer, act.shape, inputs.shape)
    if layout is None or len(layout.size) != 2:
        raise ShapeError(
            f"layer {layer!r} must give (N, K, h, w), (N, h, w, K), tokens of a grid of patches, or (N, K); got "
            f"{tuple(act.shape)}."
        )
    return layout


def _cells(layout: Layout | None) -> tuple[int, int]:
    return (1, 1) if layout is None else (layout.size[0], layout.size[1])


def _result(query: Query, layout: Layout | None, found: tuple[Track, Track], method: Method) -> ReceptiveField:
    rows, columns = found
    high, wide = query.image.shape[2:]
    return ReceptiveField(
        *(str(query.layer), (high, wide), _cells(layout)),
        *(rows.full, columns.full, rows.seen, columns.seen),
        method,
    )


def _by_gradient(query: Query, layout: Layout | None, draws: int, seed: int) -> tuple[Track, Track]:
    """Track where gradients arrive: of each row in rows of the input, of each column in columns."""
    generator = torch.Generator().manual_seed(seed)
    found = [torch.zeros(_cells(layout)[axis], query.image.shape[2 + axis], dtype=torch.bool) for axis in (0, 1)]
    for _ in range(draws):
        leaf = torch.randn(query.x.shape, generator=generator).to(query.x).requires_grad_()
        act = until(query, leaf, str(query.layer))
        maps = act[:, :, None, None] if layout is None else layout.maps(act)
        weighted = maps * torch.randn(maps.shape, generator=generator).to(maps)
        for axis in (0, 1):
            for cell, line in enumerate(weighted.unbind(2 + axis)):
                found[axis][cell] |= _reached(line.sum(), leaf).movedim(1 + axis, 0).flatten(1).any(1).cpu()
    return _hull(found[0]), _hull(found[1])


def _reached(score: Tensor, leaf: Tensor) -> Tensor:
    """Where in ``(C, H, W)`` the score has a gradient."""
    cost.add(backwards=1)
    grads: tuple[Tensor | None, ...] = torch.autograd.grad(score, leaf, retain_graph=True, allow_unused=True)
    return torch.zeros_like(leaf[0], dtype=torch.bool) if grads[0] is None else grads[0][0] != 0


def _hull(reached: Tensor) -> Track:
    cells = torch.arange(reached.shape[1])
    low = torch.where(reached, cells, reached.shape[1]).amin(1)
    high = torch.where(reached, cells + 1, 0).amax(1)
    seen = torch.stack([low, high], 1) * reached.any(1, keepdim=True)
    return Track(seen, seen)
