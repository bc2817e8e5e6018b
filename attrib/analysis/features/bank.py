"""A feature bank: what layers say to many pictures, one row a picture, in memory or on disk."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, chain
from typing import Any, Literal

import torch
from torch import Tensor, nn

from attrib import checks
from attrib.analysis.features.files import BankFiles, Part, Rows, read_bank
from attrib.core.network.geometry import located
from attrib.core.network.layers import modules_of, resolve, unwrap
from attrib.core.network.streaming import Data, Seen, batches, stream
from attrib.core.synth.space import PixelSpace
from attrib.errors import InputError, LayerError, ModelError
from attrib.io.preprocess import statistics
from attrib.io.weights import model_hash
from attrib.report.facts import described
from attrib.report.store import AnyPath

Pool = Literal["flatten", "mean", "max"]
POOLS: tuple[Pool, ...] = ("flatten", "mean", "max")
PIXEL = "pixel"
PART_BYTES = 64 << 20  # of a part on disk: what is lost at most when a run is killed, and held while it is written


@dataclass(frozen=True, eq=False)
class Bank:
    """Rows of features of ``N`` pictures in one or more spaces.

    Attributes:
        parts: consecutive rows; each maps the name of a space to ``(n, D)``. Those of a bank on disk are mapped from
            their files, and read only where they are used.
        labels: ``(N,)`` integers; None where the data have none.
        about: where they come from: ``model``, its ``sha256``, ``pool``, ``preprocess`` with ``mean`` and ``std``,
            ``names`` of the labels, and ``shapes``: for each space that of a picture's activation before pooling.
    """

    parts: tuple[Part, ...] = field(repr=False)
    labels: Tensor | None = field(repr=False)
    about: Mapping[str, Any]

    def __len__(self) -> int:
        return self._ends[-1]

    @property
    def spaces(self) -> tuple[str, ...]:
        """The names of the spaces: ``"pixel"`` first, where it is there, and the layers' addresses."""
        return tuple(self.parts[0])

    @property
    def _ends(self) -> list[int]:
        return list(accumulate(len(next(iter(part.values()))) for part in self.parts))

    def space(self, name: str | None = None) -> str:
        """A space of the bank; without a name the last one: the deepest layer, if they were named in order."""
        return self.spaces[-1] if name is None else checks.choice("space", name, self.spaces)

    def blocks(self, space: str, size: int = 1024) -> Iterator[tuple[int, Tensor]]:
        """All rows of a space in order: where a block begins, and at most ``size`` rows ``(n, D)``."""
        name, start = self.space(space), 0
        for part in self.parts:
            for rows in torch.split(part[name], checks.integer("size", size, 1)):
                yield start, rows
                start += len(rows)

    def rows(self, space: str, index: Tensor | Sequence[int] | None = None) -> Tensor:
        """Rows ``(k, D)`` at these positions, all of them without ``index``, in memory."""
        name, ends = self.space(space), self._ends
        if index is None:
            return torch.cat([part[name] for part in self.parts])
        found = []
        for at in checked_index(index, len(self)).tolist():
            part = bisect_right(ends, at)
            found.append(self.parts[part][name][at - (ends[part - 1] if part else 0)])
        return torch.stack(found)

    def pictures(self, index: Tensor | Sequence[int]) -> Tensor | None:
        """Pictures ``(k, C, H, W)`` in [0, 1] out of the pixels; None where they were not kept, or are no pictures.

        The normalisation is taken back if it is known; else each picture is stretched from its smallest to its largest
        value.
        """
        shape = self.about["shapes"].get(PIXEL, ())
        if len(shape) != 3 or shape[0] not in (1, 3):
            return None
        seen = self.rows(PIXEL, index).reshape(-1, *shape).float()
        return as_pictures(seen, self.about["mean"], self.about["std"])

    def name(self, label: int) -> str:
        """What a label is called."""
        names = self.about["names"]
        return names[label] if names is not None and 0 <= label < len(names) else f"class {label}"

    def check_model(self, model: Callable[..., Any]) -> None:
        """Refuse a model whose weights are not those that made the bank."""
        found = _hash(unwrap(model))
        if found != self.about["sha256"]:
            made, got = (str(one)[:12] for one in (self.about["sha256"], found))
            raise InputError(f"model must be the one that made the bank, sha256 {made}...; got {got}....")


def as_pictures(seen: Tensor, mean: Sequence[float] | None, std: Sequence[float] | None) -> Tensor:
    """Inputs ``(N, C, H, W)`` as pictures in [0, 1]: normalisation undone where known, else each one stretched."""
    if mean is not None and std is not None:
        return PixelSpace(mean, std).to_picture(seen).clamp(0, 1)
    low, high = seen.amin((1, 2, 3), True), seen.amax((1, 2, 3), True)
    return (seen - low) / torch.where(high > low, high - low, torch.ones_like(high))


def checked_index(index: Tensor | Sequence[int], total: int, name: str = "index") -> Tensor:
    """Positions in ``[0, total)`` as a LongTensor ``(k,)``."""
    given = torch.as_tensor(index)
    if given.ndim != 1 or not len(given) or given.is_floating_point() or given.dtype is torch.bool:
        raise InputError(f"{name} must hold positions, integers (k,); got {given.dtype} {tuple(given.shape)}.")
    if int(given.min()) < 0 or int(given.max()) >= total:
        wrong = int(given.min()) if int(given.min()) < 0 else int(given.max())
        raise InputError(f"{name} must lie in [0, {total - 1}]; got {wrong}.")
    return given.long().cpu()


def feature_bank(  # noqa: PLR0913  what is read, how, and where it goes
    model: Callable[..., Any],
    data: Data,
    *layers: str | nn.Module,
    directory: AnyPath | None = None,
    pool: Pool = "flatten",
    pixels: bool = True,
    preprocess: object = None,
    names: Sequence[str] | None = None,
    part_size: int | None = None,
    batch_size: int = 32,
    show_progress: bool = False,
) -> Bank:
    """Run the model on all data and keep what ``layers`` say, one row of features a picture.

    Convention:
        - the space ``"pixel"`` is the model's input, flattened: normalised as the network sees it, not bytes.
        - ``pool="flatten"`` keeps every value; ``"mean"`` and ``"max"`` reduce the locations of each channel, also of
          tokens and with channels last, and leave activations without locations as they are.
        - on disk, a part counts once it is whole: ``part-00000.safetensors`` holds the rows, and
          ``index/part-00000.parquet``, written after it, says which pictures they are (index, label, part, row).
        - a call with the directory of a bank that is not finished goes on after its last whole part. Model, layers,
          pooling and preprocessing must be the same, and the pictures that it holds are compared by their hash.

    Cost: one forward pass per picture. Memory: all rows without ``directory``, a few parts with it. What a bank on
    disk already holds is read again, to compare it, but not run.

    Args:
        model: an ``nn.Module``, or any callable where only pixels are kept.
        data: see `attrib.core.network.streaming.batches`.
        layers: where to read; without any, what enters the last linear layer (FC7 of AlexNet, the pooled features of a
            ResNet).
        directory: where the bank is written; in memory if None.
        pool: what becomes of locations.
        pixels: keep the inputs too, for neighbours in pixel space and to draw the pictures.
        preprocess: how pictures became data, such as ``LoadedModel.preprocess``: recorded and compared; its mean and
            standard deviation, if it tells, are taken back when pictures are drawn.
        names: what the labels are called, by number.
        part_size: rows in a part, rounded up to whole batches; as many as fill 64 MiB if None.
        batch_size: as in `attrib.core.network.streaming.batches`.
        show_progress: progress bar on standard error.

    Raises:
        InputError: the directory holds a bank of another model, or of other data.
        OutputError: the directory cannot be written. Whole parts stay; the same call goes on after them.

    Example:
        >>> bank = feature_bank(model, x, "relu2", pool="mean")
        >>> len(bank), bank.spaces, bank.rows("relu2").shape
        (2, ('pixel', 'relu2'), torch.Size([2, 4]))

    References:
        Krizhevsky, Sutskever, Hinton, "ImageNet Classification with Deep Convolutional Neural Networks", NeurIPS 2012,
        section 6.1.
    """
    network = unwrap(model)
    addresses = tuple(resolve(network, layer) for layer in layers) or (penultimate(network),)
    plan = _plan(network, addresses, checks.choice("pool", pool, POOLS), pixels, preprocess)
    plan["names"] = None if names is None else list(names)
    size = None if part_size is None else checks.integer("part_size", part_size, 1)
    writer = BankFiles(directory, plan, PART_BYTES, size)
    read = batches(data, batch_size=batch_size, show_progress=show_progress)
    rest = writer.unseen(read)
    first = next(rest, None)
    if first is not None:
        for seen in stream(network, chain([first], rest), *addresses):
            writer.add(_rows(seen, network, plan))
    return Bank(*writer.finish())


def load_bank(directory: AnyPath, model: Callable[..., Any] | None = None, *, verify: bool = False) -> Bank:
    """Open a bank on disk; its rows are mapped from the files, and read only where they are used.

    Args:
        directory: what `feature_bank` wrote.
        model: refuse a bank that another model made.
        verify: read everything once, and compare the hashes of all files.

    Raises:
        InputError: there is no finished bank, or another model made it.
        OutputError: a file is missing or damaged.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as home:
        ...     _ = feature_bank(model, x, "conv", directory=f"{home}/bank")
        ...     bank = load_bank(f"{home}/bank", model, verify=True)
        >>> bank.about["shapes"]["conv"]
        [4, 12, 12]
    """
    bank = Bank(*read_bank(directory, verify=verify))
    if model is not None:
        bank.check_model(model)
    return bank


def penultimate(model: Callable[..., Any]) -> str:
    """Address of what enters the last linear layer of a model.

    Example:
        >>> penultimate(model)
        'fc@input'
    """
    linear = [name for name, module in modules_of(model).items() if isinstance(module, nn.Linear)]
    if not linear:
        raise LayerError("there is no linear layer whose input could be the features. Name a layer; see attrib layers.")
    return f"{linear[-1]}@input"


def _hash(network: Callable[..., Any]) -> str | None:
    return model_hash(network) if isinstance(network, nn.Module) else None


def _plan(
    network: Callable[..., Any], names: Sequence[str], pool: Pool, pixels: bool, preprocess: object
) -> dict[str, Any]:
    """What must be the same for two runs to give the same rows."""
    mean, std = statistics(preprocess)
    return {
        "model": type(network).__name__ if isinstance(network, nn.Module) else described(network),
        "sha256": _hash(network),
        "spaces": list(dict.fromkeys([PIXEL] * bool(pixels) + [*names])),
        "pool": pool,
        "preprocess": described(preprocess),
        "mean": None if mean is None else list(mean),
        "std": None if std is None else list(std),
    }


def _rows(seen: Seen, network: Callable[..., Any], plan: Mapping[str, Any]) -> Rows:
    batch = seen.batch
    acts = {name: batch.inputs if name == PIXEL else seen.acts[name] for name in plan["spaces"]}
    features = {
        name: (act if name == PIXEL else pooled(act, plan["pool"], name, network, batch.inputs)).flatten(1)
        for name, act in acts.items()
    }
    for name, rows in features.items():
        if len(rows) != len(batch):
            raise LayerError(f"layer {name!r} must give one row for each of {len(batch)} pictures; got {len(rows)}.")
        if not checks.finite(rows):
            raise ModelError(f"layer {name!r} must give finite values; got NaN or infinity.")
    shapes = {name: list(act.shape[1:]) for name, act in acts.items()}
    labels = None if batch.labels is None else batch.labels.cpu().long()
    return Rows({name: rows.detach().cpu() for name, rows in features.items()}, shapes, batch.inputs.cpu(), labels)


def pooled(act: Tensor, pool: Pool, layer: str, network: Callable[..., Any], inputs: Tensor) -> Tensor:
    """The activation with its locations reduced as ``pool`` says."""
    if pool == "flatten" or act.ndim == 2:
        return act
    places = located(act, inputs, network, layer, " Pass pool='flatten'.").flatten(2)
    return places.mean(2) if pool == "mean" else places.amax(2)
