"""One look at a network in training: what some of its features respond to most, and what they make of it."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from attrib.core import Neuron
from attrib.core.network.frozen import random_state_kept
from attrib.core.network.streaming import Batch, Data, stream
from attrib.core.objectives.places import layout_in
from attrib.errors import LayerError, TargetError
from attrib.registry import METHODS

Projection: TypeAlias = Literal["deconvnet", "guided", "saliency"]
Features: TypeAlias = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True, eq=False)
class Glance:
    """What one epoch shows of ``F`` features over ``N`` examples.

    Attributes:
        response: largest activation over the locations, by feature and example, ``(F, N)``.
        image: the example with the largest one, ``(F,)``; -1 for a feature that responds to all alike.
        place: row and column of the maximum, ``(F, 2)``; -1 where a layer has no locations.
        projection: what leads there, ``(F, C, H, W)``; zeros for a feature that responds to all alike.
        digest: SHA-256 of the examples.
    """

    response: Tensor
    image: Tensor
    place: Tensor
    projection: Tensor
    digest: str


@contextmanager
def random_states_kept(data: Data) -> Iterator[None]:
    """Put back every random state that reading ``data`` may use: torch's, NumPy's, Python's, a DataLoader's own."""
    own = [data.generator] if isinstance(data, DataLoader) and data.generator is not None else []
    with ExitStack() as undo:
        undo.enter_context(random_state_kept())
        undo.callback(np.random.set_state, np.random.get_state())  # noqa: NPY002  it is the user's
        undo.callback(random.setstate, random.getstate())
        for generator in own:
            undo.callback(generator.set_state, generator.get_state())
        yield


def look(
    model: Callable[..., Any], data: Data, features: Features, method: Projection, batch_size: int, *, progress: bool
) -> Glance:
    """Run the model over ``data`` and project the strongest activation of each feature."""
    digest, best = hashlib.sha256(), {layer: _Best(layer, channels) for layer, channels in features.items()}
    for seen in stream(model, data, *features, batch_size=batch_size, show_progress=progress):
        _add(digest, seen.batch.inputs)
        for layer, one in best.items():
            one.take(layout_in(seen.acts, layer).maps(seen.acts[layer]), seen.batch)
    every = list(best.values())
    return Glance(
        torch.cat([one.response for one in every]),
        torch.cat([torch.where(one.alive, one.image, -1) for one in every]),
        torch.cat([one.place for one in every]),
        torch.cat([_projected(model, one, method, batch_size) for one in every]),
        digest.hexdigest(),
    )


def _add(digest: Any, x: Tensor) -> None:
    for row in x.detach().cpu():  # row by row, so that the size of batches does not matter
        digest.update(f"{row.dtype} {tuple(row.shape)}".encode())
        digest.update(row.contiguous().reshape(-1).view(torch.uint8).numpy().data)


class _Best:
    """The strongest activations of some channels of a layer so far, with the examples that they come from."""

    def __init__(self, layer: str, channels: tuple[int, ...]) -> None:
        self.layer, self.channels = layer, channels
        self._responses: list[Tensor] = []

    @property
    def response(self) -> Tensor:
        """``(features, N)``."""
        return torch.cat(self._responses, 1)

    @property
    def alive(self) -> Tensor:
        """Which features do not respond to all examples alike; after a training that diverged none does."""
        return self.response.isfinite().all(1) & (self.response.amax(1) > self.response.amin(1))

    def unit(self, i: int) -> Neuron:
        """The unit with the strongest activation of feature ``i``."""
        y, x = self.place[i].tolist()
        return Neuron(self.layer, self.channels[i]) if y < 0 else Neuron(self.layer, self.channels[i], y, x)

    def take(self, act: Tensor, batch: Batch) -> None:
        """Compare a batch with the best so far; the first of two with the same activation stays."""
        if act.ndim not in {2, 4}:
            raise LayerError(
                f"layer {self.layer!r} must give (N, K, h, w) or (N, K) for features; got {tuple(act.shape)}."
            )
        if max(self.channels) >= act.shape[1]:
            raise TargetError(
                f"channels of layer {self.layer!r} must lie in [0, {act.shape[1] - 1}]; got {max(self.channels)}."
            )
        chosen = act[:, list(self.channels)].flatten(2) if act.ndim == 4 else act[:, list(self.channels), None]
        values, where = chosen.max(2)
        top, row = values.max(0)
        wide = act.shape[3] if act.ndim == 4 else 0
        at = where.gather(0, row[None])[0]
        place = torch.stack([at // wide, at % wide], 1) if wide else torch.full((len(at), 2), -1)
        if not self._responses:
            self.value, self.image, self.place = top.cpu(), batch.index[row.cpu()], place.cpu()
            self.x = batch.inputs[row].clone()
        else:
            better = (top.cpu() > self.value).nonzero()[:, 0]
            self.value[better], self.place[better] = top.cpu()[better], place.cpu()[better]
            self.image[better], self.x[better] = (
                batch.index[row.cpu()[better]],
                batch.inputs[row[better.to(row.device)]],
            )
        self._responses.append(values.T.detach().float().cpu())


def _projected(model: Callable[..., Any], best: _Best, method: Projection, batch_size: int) -> Tensor:
    explain: Any = METHODS[method](model, channels="none", absolute=False)
    found, alive = torch.zeros_like(best.x, device="cpu"), best.alive.nonzero()[:, 0].tolist()
    for start in range(0, len(alive), batch_size):
        rows = alive[start : start + batch_size]
        goals = [best.unit(i) for i in rows]
        found[rows] = explain.attribute(best.x[rows], goals).detach().to(found)
    return found
