"""Data in batches, and what a network's layers say to them, with nothing held but the batch at hand."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sized
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from attrib import checks
from attrib.core.network.capture import Activations, capture
from attrib.core.network.frozen import frozen
from attrib.core.network.layers import resolve, unwrap
from attrib.core.network.passes import forward
from attrib.errors import InputError

Data: TypeAlias = "Tensor | Dataset[Any] | Iterable[Any]"


@dataclass(frozen=True, eq=False)
class Batch:
    """Some examples.

    Attributes:
        index: their positions in the data, ``(n,)``.
        inputs: ``(n, C, H, W)``.
        labels: ``(n,)`` integers; None where the data have none.
    """

    index: Tensor
    inputs: Tensor
    labels: Tensor | None = None

    def __len__(self) -> int:
        return len(self.inputs)


@dataclass(frozen=True, eq=False)
class Seen:
    """A batch and what the network said to it.

    Attributes:
        batch: the examples, on the network's device.
        output: of the model.
        acts: the activation of each layer that was asked for, by its address.
    """

    batch: Batch
    output: Any
    acts: Activations


def batches(
    data: Data, *, batch_size: int = 32, device: torch.device | None = None, show_progress: bool = False
) -> Iterator[Batch]:
    """Read ``data`` batch by batch.

    Args:
        data: a Tensor ``(N, C, H, W)``; a map-style data set of tensors or ``(tensor, label, ...)``; or batches as a
            DataLoader yields them: tensors, or ``(tensor, labels, ...)``.
        batch_size: for a Tensor or a data set; batches keep theirs.
        device: where the batches go; None leaves them.
        show_progress: progress bar on standard error, in examples.

    Raises:
        InputError: there is nothing in ``data``, or something that is no example.

    Example:
        >>> [(one.index.tolist(), one.inputs.shape[0]) for one in batches(torch.rand(5, 1, 2, 2), batch_size=3)]
        [([0, 1, 2], 3), ([3, 4], 2)]
    """
    checks.integer("batch_size", batch_size, 1)
    source, total = _source(data, batch_size)
    start = 0
    with tqdm(total=total, unit="image", disable=None if show_progress else True) as bar:
        for item in source:
            inputs, labels = _parts(item)
            index = torch.arange(start, start + len(inputs))
            yield Batch(index, inputs.to(device), None if labels is None else labels.to(device))
            start += len(inputs)
            bar.update(len(inputs))
    if start == 0:
        raise InputError("data must hold at least one example; got none. A generator can be read only once.")


def _source(data: Data, batch_size: int) -> tuple[Iterable[Any], int | None]:
    """The batches, and how many examples are in them where that is known."""
    if isinstance(data, Tensor):
        checks.batch(data)
        return torch.split(data, batch_size), len(data)
    if isinstance(data, DataLoader):
        return data, len(data.dataset) if isinstance(data.dataset, Sized) else None
    if isinstance(data, Dataset):
        # without a generator of its own each pass over it would take a number from torch's random state
        loader: DataLoader[Any] = DataLoader(data, batch_size=batch_size, generator=torch.Generator())
        return loader, len(data) if isinstance(data, Sized) else None
    if not isinstance(data, Iterable):
        raise InputError(f"data must be a Tensor (N, C, H, W), a data set or a DataLoader; got {type(data).__name__}.")
    return data, None


def _parts(item: object) -> tuple[Tensor, Tensor | None]:
    inputs, labels = (item[0], item[1] if len(item) > 1 else None) if isinstance(item, (tuple, list)) else (item, None)
    if not isinstance(inputs, Tensor) or inputs.ndim < 2:
        got = tuple(inputs.shape) if isinstance(inputs, Tensor) else type(inputs).__name__
        raise InputError(f"each batch must be a Tensor (n, C, H, W), or a tuple that starts with one; got {got}.")
    if labels is not None and (not isinstance(labels, Tensor) or labels.shape != inputs.shape[:1]):
        got = tuple(labels.shape) if isinstance(labels, Tensor) else type(labels).__name__
        raise InputError(f"labels must be a Tensor ({len(inputs)},), one for each example; got {got}.")
    return inputs, labels


def stream(
    model: Callable[..., Any],
    data: Data,
    *layers: str | nn.Module,
    batch_size: int = 32,
    show_progress: bool = False,
) -> Iterator[Seen]:
    """Run the model on all data and yield what ``layers`` gave, batch by batch, without gradients.

    The model is frozen while a batch is computed and as it was found whenever the caller has a batch in hand.
    Activations are read by address: ``seen.acts["layer4"]``.

    Example:
        >>> [seen.acts["conv"].shape[0] for seen in stream(model, torch.rand(3, 3, 12, 12), "conv", batch_size=2)]
        [2, 1]
    """
    network = unwrap(model)
    addresses = [resolve(network, layer) for layer in layers]
    weight = next(network.parameters(), None) if isinstance(network, nn.Module) else None
    device = None if weight is None else weight.device
    for batch in batches(data, batch_size=batch_size, device=device, show_progress=show_progress):
        with frozen(network), torch.no_grad(), capture(network, *dict.fromkeys(addresses)) as acts:
            output = forward(network, (batch.inputs,), ())
        yield Seen(batch, output, acts)
