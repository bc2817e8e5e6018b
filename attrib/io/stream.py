"""Pictures of users as batches for a network: read one at a time, preprocessed, labelled with numbers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch
from PIL import Image
from torch import Tensor

from attrib import checks
from attrib.errors import InputError
from attrib.io.loaded import LoadedModel
from attrib.io.samples import Samples


@dataclass(frozen=True, eq=False)
class Stream:
    """Batches ``(inputs, labels)`` of `Samples`, read anew each time it is iterated; of unlabelled ones, ``inputs``.

    Convention:
        - labels that are numbers stay as they are; names are numbered by ``classes``: in the model's order where all of
          them are classes of the model, else in alphabetical order.

    Args:
        samples: what `attrib.io.open_samples` opened.
        network: whose preprocessing is used.
        batch_size: pictures in a batch.

    Example:
        >>> from attrib.io import LoadedModel, Preprocess, open_samples
        >>> net = LoadedModel(model, Preprocess(resize=12, crop=12))
        >>> pictures = [(Image.new("RGB", (16, 12)), "cat"), (Image.new("RGB", (12, 16)), "ant")]
        >>> found = Stream(open_samples(pictures), net)
        >>> [(tuple(x.shape), labels.tolist()) for x, labels in found], found.classes
        ([((2, 3, 12, 12), [1, 0])], ('ant', 'cat'))
    """

    samples: Samples
    network: LoadedModel = field(repr=False)
    batch_size: int = 32

    def __post_init__(self) -> None:
        checks.integer("batch_size", self.batch_size, 1)

    def __len__(self) -> int:
        return (len(self.samples) - 1) // self.batch_size + 1

    def __iter__(self) -> Iterator[Tensor | tuple[Tensor, Tensor]]:
        for start in range(0, len(self.samples), self.batch_size):
            read = self.samples[start : start + self.batch_size]
            rows = [self._row(one.image) for one in read]
            if self.labels is None:
                yield torch.stack(rows)
            else:
                yield torch.stack(rows), torch.tensor(self.labels[start : start + len(rows)])

    def only(self, index: Sequence[int]) -> Iterator[Tensor]:
        """The pictures at these positions, in batches; no others are read."""
        for start in range(0, len(index), self.batch_size):
            yield torch.stack([self._row(self.samples[i].image) for i in index[start : start + self.batch_size]])

    def _row(self, picture: Image.Image | Tensor) -> Tensor:
        return picture if isinstance(picture, Tensor) else self.network.inputs(picture)[0]

    @cached_property
    def classes(self) -> tuple[str, ...] | None:
        """The name of each label; None where labels are numbers, or absent."""
        names = {label for label in self._given if isinstance(label, str)}
        if not names:
            return None
        known = self.network.categories or ()
        return known if names <= set(known) else tuple(sorted(names))

    @cached_property
    def labels(self) -> tuple[int, ...] | None:
        """The label of each picture as a number; None where any has none."""
        given = self._given
        if not given or any(label is None for label in given):
            return None
        if len({type(label) for label in given}) > 1:
            raise InputError("labels must be all numbers or all names; got both.")
        if self.classes is None:
            return tuple(int(label) for label in given if label is not None)
        place = {name: i for i, name in reversed(list(enumerate(self.classes)))}
        return tuple(place[str(label)] for label in given)

    @cached_property
    def _given(self) -> tuple[int | str | None, ...]:
        if self.samples.labels is not None:
            return self.samples.labels
        return tuple(one.label for one in self.samples)  # known by reading all of them once
