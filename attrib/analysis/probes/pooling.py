"""Activations to rows of features: pooled to a bounded number, over any amount of data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attrib import checks
from attrib.analysis.probes.fits import checked_labels
from attrib.core.network.geometry import located
from attrib.core.network.layers import resolve, unwrap
from attrib.core.network.streaming import Data, stream
from attrib.errors import InputError, ShapeError


@dataclass(frozen=True)
class Pooling:
    """How the activation of a layer becomes features of an example.

    Convention:
        - ``"grid"`` averages each channel over the cells of a grid of ``side`` x ``side``; of fewer where the layer has
          fewer locations, or where the features would be more than ``cap``. ``"mean"`` is a grid of one cell,
          ``"flatten"`` takes every number.
        - channels that come last, and tokens, are recognised; tokens without a location (the class token) are left out.
        - a layer without locations, ``(N, K)``, is taken as it is.

    Args:
        kind: see above.
        side: of the grid, in cells, >= 1.
        cap: features of one layer at most; more, and `InputError` says what to do.
        gigabytes: all features of all examples at most, in 2^30 bytes of float32.

    Example:
        >>> Pooling(side=2)(torch.arange(16.0).reshape(1, 1, 4, 4))
        tensor([[ 2.5000,  4.5000, 10.5000, 12.5000]])
    """

    kind: Literal["grid", "mean", "flatten"] = "grid"
    side: int = 2
    cap: int = 4096
    gigabytes: float = 2.0

    def __post_init__(self) -> None:
        checks.choice("kind", self.kind, ("grid", "mean", "flatten"))
        checks.integer("side", self.side, 1)
        checks.integer("cap", self.cap, 1)
        checks.number("gigabytes", self.gigabytes, 0)

    def __call__(self, act: Tensor, layer: str = "act") -> Tensor:
        """Pool ``(N, K, *locations)`` to ``(N, d)``; ``layer`` names it in messages."""
        if not 2 <= act.ndim <= 5:
            raise ShapeError(f"{layer} must have shape (N, K) or (N, K, h, w); got {tuple(act.shape)}.")
        axes, channels = act.ndim - 2, act.shape[1]
        if self.kind == "flatten" or axes == 0:
            found = act.flatten(1)
        else:
            cells = self._cells(tuple(act.shape[2:]), channels)
            pool = (F.adaptive_avg_pool1d, F.adaptive_avg_pool2d, F.adaptive_avg_pool3d)[axes - 1]
            found = pool(act, cells if axes > 1 else cells[0]).flatten(1)  # type: ignore[arg-type]
        if found.shape[1] > self.cap:
            raise InputError(
                f"features of {layer} must be at most cap={self.cap}; got {found.shape[1]}. "
                "Raise cap, or pool: kind='grid', kind='mean'."
            )
        return found

    def _cells(self, size: tuple[int, ...], channels: int) -> tuple[int, ...]:
        side = 1 if self.kind == "mean" else self.side
        while side > 1 and channels * prod(min(side, length) for length in size) > self.cap:
            side -= 1
        return tuple(min(side, length) for length in size)


@dataclass(frozen=True, eq=False)
class LayerFeatures:
    """Features of every example at some layers.

    Attributes:
        features: by layer, ``(N, d)`` float32 on the CPU.
        labels: ``(N,)``.
    """

    features: dict[str, Tensor]
    labels: Tensor


def layer_features(
    model: Callable[..., Any],
    data: Data,
    layers: Sequence[str | nn.Module],
    *,
    pooling: Pooling | None = None,
    batch_size: int = 32,
    show_progress: bool = False,
) -> LayerFeatures:
    """Read pooled features of all layers from one pass over labelled data.

    Cost: one forward pass per example. The activations of one batch are held at a time, and the features of all:
    four bytes times examples times features, refused above ``pooling.gigabytes``.

    Args:
        model: left as it was found.
        data: see `attrib.core.network.streaming.batches`; with labels.
        layers: addresses or modules.
        pooling: how; a grid of 2 x 2 if None.
        batch_size: of a Tensor or data set.
        show_progress: progress bar on standard error.

    Raises:
        InputError: no labels, or too many features.
        LayerError: no such layer, or one whose locations are unknown.

    Example:
        >>> found = layer_features(model, [(x, torch.tensor([0, 1]))], ["relu", "gap"])
        >>> {layer: tuple(features.shape) for layer, features in found.features.items()}
        {'relu': (2, 16), 'gap': (2, 16)}
    """
    network, pool = unwrap(model), pooling or Pooling()
    if isinstance(layers, (str, nn.Module)) or not layers:
        raise InputError(f"layers must be a list of at least one layer; got {layers!r}.")
    names = list(dict.fromkeys(resolve(network, layer) for layer in layers))
    parts: dict[str, list[Tensor]] = {name: [] for name in names}
    labels: list[Tensor] = []
    held = 0
    for seen in stream(network, data, *names, batch_size=batch_size, show_progress=show_progress):
        if seen.batch.labels is None:
            raise InputError("data must have labels, (inputs, labels) in each batch; got inputs only.")
        labels.append(checked_labels(seen.batch.labels, len(seen.batch)))
        for name in names:
            parts[name].append(pool(located(seen.acts[name], seen.batch.inputs, network, name), name).float().cpu())
        held += sum(4 * part[-1].numel() for part in parts.values())
        _fits(held, pool)
    return LayerFeatures({name: torch.cat(parts.pop(name)) for name in names}, torch.cat(labels))


def _fits(held: int, pool: Pooling) -> None:
    if held > pool.gigabytes * 2**30:
        raise InputError(
            f"features must fit into gigabytes={pool.gigabytes:g}; got more. Take fewer layers or examples, a smaller "
            "side, or raise the limit."
        )
