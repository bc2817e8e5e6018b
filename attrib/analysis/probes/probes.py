"""Which classes can be read off each layer by a linear probe: least squares and softmax, with controls."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from attrib.analysis.probes.fits import LeastSquares, Probe, Softmax, checked_labels
from attrib.analysis.probes.pooling import Pooling, layer_features
from attrib.analysis.probes.splits import Fold, Split, Stratified
from attrib.analysis.probes.table import LayerProbes
from attrib.core.network.streaming import Data
from attrib.errors import InputError

_PROBES: tuple[Probe, ...] = (LeastSquares(), Softmax())


def probe_layers(  # noqa: PLR0913  what is probed, with what, on which examples, and how it runs
    model: Callable[..., Any],
    data: Data,
    layers: Sequence[str | nn.Module],
    *,
    probes: Sequence[Probe] = _PROBES,
    split: Split | None = None,
    pooling: Pooling | None = None,
    seed: int = 0,
    batch_size: int = 32,
    show_progress: bool = False,
) -> LayerProbes:
    r"""Say, layer by layer, how well the classes of labelled data can be read off a frozen network.

    Every layer's features are pooled, and linear probes are fitted to some examples and measured on others, again for
    each split. With `Shots` this is how Zeiler and Fergus measure transfer to other data sets.

    Convention:
        - accuracy is the mean of the accuracies of the classes, as in the paper: each counts the same, however many
          examples it has.
        - all layers and probes see the same splits, so that they can be compared split by split.
        - the control fits the same probe to training labels in random order, with the same counts, and measures it on
          the true ones: what it has above ``1 / classes`` is chance, and what a probe has above it is in the features.
        - a probe tells what *can* be read off, not what the network uses.
        - the network must not have learned from the examples that are measured on, else it is the network's memory that
          is read.

    Cost: one forward pass per example, then two fits for each layer, probe, size and repeat.

    Args:
        model: left as it was found.
        data: labelled, see `attrib.core.network.streaming.batches`.
        layers: addresses or modules.
        probes: what to fit.
        split: `Stratified` (80 % to learn from, ten times) if None, or `Shots`.
        pooling: activations to features; a grid of 2 x 2 if None.
        seed: of splits and shuffled labels; the global random state is not touched.
        batch_size: of a Tensor or data set.
        show_progress: progress bars on standard error.

    Raises:
        InputError: no labels, a class with too few examples, or too many features.
        LayerError: no such layer.
        MissingDependency: scikit-learn or SciPy is not installed.

    Example:
        >>> pictures, labels = torch.randn(40, 3, 12, 12), torch.arange(40) % 2
        >>> pictures[labels == 1, 0] += 3  # redder
        >>> data = torch.utils.data.TensorDataset(pictures, labels)
        >>> found = probe_layers(model, data, ["relu", "relu3"], split=Stratified(repeats=3))
        >>> found.accuracy.shape, bool(found.accuracy[0].mean() > 0.9)
        (torch.Size([2, 2, 1, 3]), True)

    References:
        Zeiler, Fergus, "Visualizing and Understanding Convolutional Networks", ECCV 2014, section 5 and table 7.

        Alain, Bengio, "Understanding intermediate layers using linear classifier probes", ICLR workshop 2017.
    """
    read = layer_features(model, data, layers, pooling=pooling, batch_size=batch_size, show_progress=show_progress)
    return probe_features(
        read.features, read.labels, probes=probes, split=split, seed=seed, show_progress=show_progress
    )


def probe_features(
    features: Mapping[str, Tensor],
    labels: Tensor,
    *,
    probes: Sequence[Probe] = _PROBES,
    split: Split | None = None,
    seed: int = 0,
    show_progress: bool = False,
) -> LayerProbes:
    """Fit and measure the probes of `probe_layers` on features that are there already.

    Args:
        features: by layer, ``(N, d)``.
        labels: ``(N,)`` integers.
        probes: see `probe_layers`.
        split: see `probe_layers`.
        seed: see `probe_layers`.
        show_progress: see `probe_layers`.

    Example:
        >>> x, y = torch.randn(40, 3), torch.arange(40) % 4
        >>> probe_features({"noise": x}, y).accuracy.mean().item() < 0.5
        True
    """
    if not features or not probes:
        raise InputError(f"there must be features and probes; got {len(features)} layers and {len(probes)} probes.")
    how, y = split or Stratified(), checked_labels(labels, len(labels))
    for name, one in features.items():
        if one.ndim != 2 or len(one) != len(y):
            raise InputError(f"features of {name!r} must have shape ({len(y)}, d); got {tuple(one.shape)}.")
    folds = how.folds(y, seed=seed)
    shuffled = _shuffled(folds, y, seed)
    notes: Counter[str] = Counter()
    work = [(one, probe, which) for one in features.values() for probe in probes for which in range(len(folds))]
    rows: list[list[float]] = []
    for one, probe, which in tqdm(work, unit="fit", disable=None if show_progress else True):
        rows += [_accuracies(one, y, probe, folds[which], mixed, notes) for mixed in (None, shuffled[which])]
    shape = (len(features), len(probes), len(folds), 2, len(folds[0]))
    found = torch.tensor(rows, dtype=torch.float64).reshape(shape)
    return LayerProbes(
        layers=tuple(features),
        features=tuple(one.shape[1] for one in features.values()),
        probes=tuple(probe.name for probe in probes),
        sizes=how.sizes,
        accuracy=found[:, :, :, 0].contiguous(),
        shuffled=found[:, :, :, 1].contiguous(),
        train=tuple(len(of_size[0].train) for of_size in folds),
        test=tuple(len(of_size[0].test) for of_size in folds),
        classes=len(torch.unique(y)),
        notes=tuple(f"{count} of {len(work) * len(folds[0])} fits: {note}." for note, count in sorted(notes.items())),
    )


def _shuffled(folds: list[list[Fold]], labels: Tensor, seed: int) -> list[list[Tensor]]:
    """The training labels of every fold in random order."""
    source = torch.Generator().manual_seed(seed + 1)  # not the numbers that drew the folds
    return [
        [labels[one.train][torch.randperm(len(one.train), generator=source)] for one in of_size] for of_size in folds
    ]


def _accuracies(
    features: Tensor, labels: Tensor, probe: Probe, folds: list[Fold], mixed: list[Tensor] | None, notes: Counter[str]
) -> list[float]:
    """The accuracy on each fold; ``mixed`` are labels to learn from in place of the true ones."""
    found = []
    for i, fold in enumerate(folds):
        fitted = probe.fit(features[fold.train], labels[fold.train] if mixed is None else mixed[i])
        if fitted.note and mixed is None:
            notes[f"{probe.name}, {fitted.note}"] += 1
        found.append(class_accuracy(fitted.predict(features[fold.test]), labels[fold.test]))
    return found


def class_accuracy(predicted: Tensor, labels: Tensor) -> float:
    """The mean over classes of the share of their examples that is predicted right.

    Example:
        >>> class_accuracy(torch.tensor([0, 0, 0, 0]), torch.tensor([0, 0, 0, 1]))
        0.5
    """
    right = (predicted == labels).double()
    return float(torch.stack([right[labels == one].mean() for one in torch.unique(labels)]).mean())
