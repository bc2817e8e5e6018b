"""How features change while a network learns: from checkpoints, or live in the training loop."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from attrib import checks
from attrib.analysis.training.lightning import callback
from attrib.analysis.training.look import Features, Glance, Projection, look, random_states_kept
from attrib.analysis.training.result import Evolution, rank_correlation
from attrib.core.network.layers import resolve, unwrap
from attrib.core.network.streaming import Data, stream
from attrib.core.objectives.places import layout_in
from attrib.errors import InputError, ModelError, did_you_mean
from attrib.io.images import AnyPath
from attrib.io.weights import load_state, load_weights

EPOCHS = (1, 2, 5, 10, 20, 30, 40, 64)  # of the paper's figure 4
Channels: TypeAlias = "int | Mapping[str, Sequence[int]]"
State: TypeAlias = "AnyPath | Mapping[str, Tensor]"


class TrainingWatch:
    """Watch some features while a network is trained: ``watch(model, epoch)`` after every epoch of the loop.

    At the epochs that were asked for, the network runs over the same probe set. For each feature (a channel of a layer)
    it is kept which example excites it most, how much, where, and what leads there: the projection of that activation
    to the input, by deconvnet as in the paper.

    Convention:
        - the loop goes on as if nothing had happened: weights, buffers, gradients, modes and all random states (torch,
          NumPy, Python, a DataLoader's generator) are put back. The network is watched in evaluation mode, so BatchNorm
          uses its running statistics.
        - the probe set must be the same every time, in the same order: its hash is compared.
        - projections are signed, ``(C, H, W)``, started with 1 at the unit; a feature that responds to all examples
          alike (a dead one), or with NaN, has no strongest example, and a projection of zeros.
        - which channels are watched is drawn once from ``seed``; the epoch is a number that ascends, 1 after the first.

    Cost: at each watched epoch one forward pass per example, and one forward and backward pass per feature. Memory: one
    number per feature, example and watched epoch, one input per feature and watched epoch.

    Args:
        data: the probe set, see `attrib.core.network.streaming.batches`; something that can be read again and again.
        layers: addresses.
        channels: how many of each layer, drawn at random (all, if it has fewer); or which, by layer.
        epochs: at which to look; None for every call.
        method: ``"deconvnet"``, ``"guided"`` or ``"saliency"``.
        batch_size: of a Tensor or data set, and of the projections.
        seed: of the channels.
        show_progress: progress bar on standard error.

    Example:
        >>> watch = TrainingWatch(torch.randn(6, 3, 12, 12), ["relu"], channels=2, epochs=(1, 3))
        >>> for epoch in range(1, 4):  # after each epoch of training
        ...     _ = watch(model, epoch)
        >>> found = watch.found()
        >>> found.epochs, found.image.shape, found.projection.shape
        ((1, 3), torch.Size([2, 2]), torch.Size([2, 2, 3, 12, 12]))

    References:
        Zeiler, Fergus, "Visualizing and Understanding Convolutional Networks", ECCV 2014, section 4.1 and figure 4.
    """

    def __init__(
        self,
        data: Data,
        layers: Sequence[str],
        channels: Channels = 6,
        *,
        epochs: Sequence[int] | None = EPOCHS,
        method: Projection = "deconvnet",
        batch_size: int = 32,
        seed: int = 0,
        show_progress: bool = False,
    ) -> None:
        if not all(isinstance(layer, str) for layer in _several(layers)):
            raise InputError(f"layers must be addresses, which stay the same while a network learns; got {layers!r}.")
        self.data, self.layers, self.channels = data, tuple(dict.fromkeys(layers)), _channels(channels, layers)
        self.epochs = None if epochs is None else frozenset(checks.integer("epoch", one) for one in epochs)
        self.method: Projection = checks.choice("method", method, ("deconvnet", "guided", "saliency"))
        self.batch_size, self.seed = checks.integer("batch_size", batch_size, 1), checks.integer("seed", seed, 0)
        self.show_progress = show_progress
        self._features: Features = {}
        self._looks: dict[int, Glance] = {}

    def __call__(self, model: Callable[..., Any], epoch: int) -> bool:
        """Look at the model if this epoch is one to look at; tell whether it was.

        Raises:
            InputError: the epoch does not ascend, or the probe set is another one than before.
            LayerError: no such layer.
        """
        checks.integer("epoch", epoch)
        if self.epochs is not None and epoch not in self.epochs:
            return False
        if self._looks and epoch <= (last := max(self._looks)):
            raise InputError(f"epoch must ascend; got {epoch} after {last}.")
        with random_states_kept(self.data):
            network = unwrap(model)
            self._features = self._features or self._drawn(network)
            found = look(network, self.data, self._features, self.method, self.batch_size, progress=self.show_progress)
        first = next(iter(self._looks.values()), found)
        if found.digest != first.digest:
            raise InputError(
                f"the probe set must be the same at every epoch; got another one at epoch {epoch}. Use data that are "
                "neither shuffled nor augmented."
            )
        self._looks[epoch] = found
        return True

    def found(self) -> Evolution:
        """What was seen so far.

        Raises:
            InputError: nothing was.
        """
        if not self._looks:
            raise InputError(f"at least one epoch must have been watched; got none of {sorted(self.epochs or ())}.")
        looks = list(self._looks.values())
        image, response = torch.stack([one.image for one in looks], 1), torch.stack([one.response for one in looks], 1)
        return Evolution(
            epochs=tuple(self._looks),
            features=tuple((layer, channel) for layer, channels in self._features.items() for channel in channels),
            image=image,
            value=response.amax(2),
            place=torch.stack([one.place for one in looks], 1),
            projection=torch.stack([one.projection for one in looks], 1),
            response=response,
            correlation=rank_correlation(response),
            method=self.method,
            probe_set=looks[0].digest,
        )

    def lightning(self, network: str | None = None) -> Any:
        """A callback for Lightning's Trainer that watches at the end of every training epoch; the first is 1.

        Args:
            network: name of the submodule of the LightningModule that is watched, such as ``"net"``; the module itself
                if None.

        Raises:
            MissingDependency: neither ``lightning`` nor ``pytorch_lightning`` is installed.
        """
        return callback(self, network)

    def _drawn(self, network: Callable[..., Any]) -> Features:
        for layer in self.layers:
            resolve(network, layer)
        if not isinstance(self.channels, int):
            return {layer: tuple(chosen) for layer, chosen in self.channels.items()}
        source, drawn = torch.Generator().manual_seed(self.seed), {}
        seen = next(iter(stream(network, self.data, *self.layers, batch_size=self.batch_size)))
        for layer in self.layers:
            maps = layout_in(seen.acts, layer).maps(seen.acts[layer])
            drawn[layer] = torch.randperm(maps.shape[1], generator=source)[: self.channels].sort()[0]
        return {layer: tuple(chosen.tolist()) for layer, chosen in drawn.items()}


def _several(layers: Sequence[str | nn.Module]) -> Sequence[str | nn.Module]:
    if isinstance(layers, (str, nn.Module)) or not layers:
        raise InputError(f"layers must be a list of at least one layer; got {layers!r}.")
    return layers


def _channels(channels: Channels, layers: Sequence[str]) -> Channels:
    if not isinstance(channels, Mapping):
        return checks.integer("channels", channels, 1)
    if set(channels) != set(layers):
        raise InputError(f"channels must be given for each layer, {list(layers)}; got {list(channels)}.")
    for layer, chosen in channels.items():
        for one in chosen:
            checks.integer(f"channel of {layer!r}", one, 0)
        if not chosen or len(set(chosen)) < len(chosen):
            raise InputError(f"channels of {layer!r} must be different numbers, at least one; got {list(chosen)}.")
    return {layer: channels[layer] for layer in layers}


def evolution(  # noqa: PLR0913  what is watched, in what, and how it runs
    model: Callable[..., Any],
    checkpoints: Mapping[int, State] | Sequence[State],
    data: Data,
    layers: Sequence[str | nn.Module],
    *,
    channels: Channels = 6,
    method: Projection = "deconvnet",
    batch_size: int = 32,
    seed: int = 0,
    show_progress: bool = False,
) -> Evolution:
    """Watch features over checkpoints of a training that has ended.

    Convention:
        - checkpoints are loaded strictly, into a copy: the model is left as it was found. The prefixes ``module.``,
          ``model.`` and ``_orig_mod.`` of DataParallel, Lightning and `torch.compile` are removed.
        - the rest is as `TrainingWatch` says.

    Args:
        model: the architecture; its own weights do not matter.
        checkpoints: files or state dicts, by epoch; a list counts from 1.
        data: the probe set.
        layers: addresses or modules.
        channels: see `TrainingWatch`.
        method: see `TrainingWatch`.
        batch_size: see `TrainingWatch`.
        seed: see `TrainingWatch`.
        show_progress: see `TrainingWatch`.

    Raises:
        InputError: no checkpoint, one that cannot be read, or whose names or shapes differ: they are named.

    Example:
        >>> states = {1: model.state_dict(), 5: {f"module.{k}": v.flip(0) for k, v in model.state_dict().items()}}
        >>> evolution(model, states, torch.randn(6, 3, 12, 12), ["relu", "relu2"], channels=1).epochs
        (1, 5)
    """
    network = unwrap(model)
    if not isinstance(network, nn.Module):
        raise ModelError(f"model must be an nn.Module to load checkpoints into; got a {type(network).__name__}.")
    states = dict(checkpoints if isinstance(checkpoints, Mapping) else enumerate(checkpoints, 1))
    if not states or isinstance(checkpoints, str):
        raise InputError(f"checkpoints must be files or state dicts, by epoch or in a list; got {checkpoints!r}.")
    for epoch, state in states.items():  # told before the first is looked at
        if not isinstance(state, Mapping) and not (file := Path(state).expanduser()).is_file():
            others = [one.name for one in file.parent.glob("*") if one.is_file()]
            hint = did_you_mean(file.name, others)
            raise InputError(f"the checkpoint of epoch {epoch} must be an existing file; got {str(state)!r}.{hint}")
    names = [resolve(network, layer) for layer in _several(layers)]
    watch = TrainingWatch(
        data, names, channels, epochs=None, method=method, batch_size=batch_size, seed=seed, show_progress=show_progress
    )
    trial = deepcopy(network)
    for epoch in sorted(states):
        state = states[epoch]
        if isinstance(state, Mapping):
            load_state(trial, state, f"the checkpoint of epoch {epoch}")
        else:
            load_weights(trial, state)
        watch(trial, epoch)
    return watch.found()
