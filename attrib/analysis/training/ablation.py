"""Train the networks of a table of changed architectures on the same small data, several times, and tabulate errors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from attrib import checks
from attrib.core.network.streaming import Data, batches
from attrib.errors import InputError
from attrib.models.ablation import ABLATIONS, Variant
from attrib.report.finding import Finding
from attrib.report.table import text_table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WARM_UP = 0.2  # of the steps: rates rise, and fall after


@dataclass(frozen=True, eq=False)
class AblationTable(Finding):
    """Errors in per cent, of each row with each seed, ``(rows, seeds)``.

    Attributes:
        rows: what they are called.
        train: most probable class, on the training data.
        test: most probable class, on the test data.
        test_top: the true class is not among the ``top`` most probable, on the test data.
        top: how many.
        parameters: weights and biases of each row.
        paper: what the paper reports for the row on ImageNet (training, validation, validation top-5); None for rows
            that are not in it.
        seeds: of first weights, order and dropout.
        setting: of data and training.
    """

    rows: tuple[str, ...]
    train: Tensor
    test: Tensor
    test_top: Tensor
    top: int
    parameters: tuple[int, ...]
    paper: tuple[tuple[float, float, float] | None, ...]
    seeds: tuple[int, ...]
    setting: Mapping[str, Any]

    def to_text(self, *, markdown: bool = False) -> str:
        """Tabulate mean and standard deviation over the seeds, beside the paper's numbers."""
        here = {"train": self.train, "test": self.test, f"test top-{self.top}": self.test_top}
        rows = [
            {"network": name, "parameters": f"{self.parameters[i]}"}
            | {column: _mean_and_deviation(errors[i]) for column, errors in here.items()}
            | {"paper train / val / top-5": " / ".join(f"{error:.1f}" for error in self.paper[i] or ()) or "-"}
            for i, name in enumerate(self.rows)
        ]
        return f"{self.said()}\n\n{text_table(rows, markdown=markdown)}"

    def said(self) -> str:
        """Whose numbers these are, in words."""
        told, count = self.setting, len(self.seeds)
        data = f"{told['train']} training and {told['test']} test examples of {told['classes']} classes"
        seeds = f"mean and standard deviation of {count} seeds" if count > 1 else f"with seed {self.seeds[0]}"
        here = f"Error, per cent: {seeds} on {data}, {told['epochs']} epoch{'s' * (told['epochs'] != 1)}."
        if not any(self.paper):
            return here
        return (
            f"{here} The paper's are those that it reports on ImageNet 2012: other data and larger networks, to be "
            "compared by order only. Numbers in names are layers, and after a colon their channels or units."
        )

    def plot(self) -> Figure:
        """Test errors here, and validation errors of the paper, row by row."""
        from attrib.plot.ablation import ablation_panels

        return ablation_panels(self)


def _mean_and_deviation(errors: Tensor) -> str:
    return f"{float(errors.mean()):.1f} ± {float(errors.std()):.1f}" if len(errors) > 1 else f"{float(errors[0]):.1f}"


def train_and_tabulate(  # noqa: PLR0913  rows, and how they are trained
    train: Data,
    test: Data,
    rows: Sequence[str] | Mapping[str, Variant | Mapping[str, Any]] = tuple(ABLATIONS),
    *,
    seeds: Sequence[int] = (0, 1, 2),
    epochs: int = 10,
    scale: float = 1 / 8,
    top: int = 5,
    batch_size: int = 64,
    rate: float = 1e-3,
    show_progress: bool = False,
    **options: Any,
) -> AblationTable:
    """Train each row with each seed, on small data that fit into memory, and measure its errors.

    Convention:
        - errors are measured in evaluation mode after the last epoch, on all examples of either set.
        - training: AdamW with one cycle of rates, cross entropy, batches in random order, the last one may be smaller;
          pictures are not changed. The paper's (SGD by hand for 70 epochs, crops and flips of ImageNet) is another one.
        - deviations are those of a sample, divided by the number of seeds less one.
        - same arguments, same errors (on one machine, with one number of threads); the global random state is not
          touched.

    Cost: ``rows * seeds * epochs`` passes over the training data, forward and backward.

    Args:
        train: labelled examples, see `attrib.core.batches`; where they are, networks are trained.
        test: labelled examples, others.
        rows: names of `attrib.models.ABLATIONS`; or names of your own with options of `attrib.models.zfnet`.
        seeds: of first weights, order and dropout.
        epochs: over the training data.
        scale: of all widths, see `attrib.models.zfnet`; 1 is the paper's.
        top: classes that may hold the true one in the last error.
        batch_size: examples per step.
        rate: the highest learning rate.
        show_progress: progress bar on standard error, in trainings.
        options: of `attrib.models.zfnet` for all rows; they go before those of a row.

    Raises:
        InputError: no rows or seeds; data without labels, or of another size than the training data; a row that does
            not exist.

    Example:
        >>> x, labels = torch.rand(12, 3, 48, 48), torch.arange(12) % 3
        >>> how = {"seeds": (0, 1), "epochs": 1, "scale": 1 / 32, "top": 2}
        >>> found = train_and_tabulate([(x, labels)], [(x, labels)], ["zfnet", "krizhevsky without 3, 4"], **how)
        >>> found.test.shape
        torch.Size([2, 2])

    References:
        Zeiler, Fergus, "Visualizing and Understanding Convolutional Networks", ECCV 2014, table 3.
    """
    if not rows or not seeds:
        raise InputError(f"rows and seeds must hold at least one each; got {len(rows)} and {len(seeds)}.")
    for seed in seeds:
        checks.integer("seeds", seed, 0)
    checks.number("rate", rate, 0)
    x, labels = _examples("train", train)
    other, truth = _examples("test", test)
    if x.shape[1:] != other.shape[1:]:
        raise InputError(
            f"test must have pictures of shape {tuple(x.shape[1:])} as train has; got {tuple(other.shape[1:])}."
        )
    classes = int(torch.cat([labels, truth.to(labels)]).max()) + 1
    if not 1 <= checks.integer("top", top, 1) < classes:
        raise InputError(f"top must be less than the number of classes, {classes}; got {top}.")
    variants, how = _variants(rows), {"epochs": epochs, "batch_size": batch_size, "rate": rate}
    options = {"scale": scale, "image_size": tuple(x.shape[2:]), "channels": x.shape[1], **options}
    errors, parameters = torch.zeros(3, len(variants), len(seeds)), []
    with tqdm(total=len(variants) * len(seeds), unit="training", disable=None if show_progress else True) as bar:
        for i, variant in enumerate(variants.values()):
            for j, seed in enumerate(seeds):
                net = variant.build(classes, **options, seed=seed).to(x)
                fit(net, x, labels, **how, seed=seed)  # type: ignore[arg-type]  # by their names
                errors[:, i, j] = torch.tensor(
                    [*_errors(net, x, labels, top)[:1], *_errors(net, other.to(x), truth.to(labels), top)]
                )
                bar.update()
            parameters.append(sum(one.numel() for one in net.parameters()))
    setting = {"train": len(x), "test": len(other), "classes": classes, **how}
    return AblationTable(
        rows=tuple(variants),
        train=100 * errors[0],
        test=100 * errors[1],
        test_top=100 * errors[2],
        top=top,
        parameters=tuple(parameters),
        paper=tuple(one.paper for one in variants.values()),
        seeds=tuple(seeds),
        setting={**setting, **options},
    )


def _examples(what: str, data: Data) -> tuple[Tensor, Tensor]:
    read = list(batches(data))
    labels = [one.labels for one in read if one.labels is not None]
    if len(labels) < len(read):
        raise InputError(f"{what} must have labels; got examples without.")
    found = torch.cat(labels).long()
    if int(found.min()) < 0:
        raise InputError(f"{what} labels must be classes, counted from 0; got {int(found.min())}.")
    return torch.cat([one.inputs for one in read]), found


def _variants(rows: Sequence[str] | Mapping[str, Variant | Mapping[str, Any]]) -> dict[str, Variant]:
    if isinstance(rows, Mapping):
        return {name: one if isinstance(one, Variant) else Variant(one) for name, one in rows.items()}
    return {checks.choice("rows", name, tuple(ABLATIONS)): ABLATIONS[name] for name in rows}


def fit(
    net: nn.Module,
    x: Tensor,
    labels: Tensor,
    *,
    epochs: int = 10,
    batch_size: int = 64,
    rate: float = 1e-3,
    seed: int = 0,
) -> nn.Module:
    """Train a network in place, as `train_and_tabulate` does; it is in evaluation mode afterwards.

    Args:
        net: with outputs ``(N, classes)``.
        x: examples.
        labels: ``(N,)`` classes, on the device of ``x``.
        epochs: over all examples.
        batch_size: examples per step.
        rate: the highest learning rate.
        seed: of order and dropout; the global random state is not touched.

    Returns:
        The network.

    Example:
        >>> fit(model, x, torch.tensor([3, 5]), epochs=1).training
        False
    """
    steps = checks.integer("epochs", epochs, 1) * -(-len(x) // checks.integer("batch_size", batch_size, 1))
    optimiser = torch.optim.AdamW(net.parameters(), rate, weight_decay=1e-4)
    cycle = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, total_steps=steps, pct_start=WARM_UP)
    net.train()
    with torch.random.fork_rng(devices=[x.device] if x.is_cuda else []), torch.enable_grad():
        torch.manual_seed(seed)  # dropout knows no generator of its own
        for _ in range(epochs):
            for some in torch.split(torch.randperm(len(x)).to(x.device), batch_size):
                optimiser.zero_grad()
                F.cross_entropy(net(x[some]), labels[some]).backward()  # type: ignore[no-untyped-call]
                optimiser.step()
                cycle.step()
    return net.eval()


@torch.no_grad()
def _errors(net: nn.Module, x: Tensor, labels: Tensor, top: int) -> tuple[float, float]:
    """Parts of the examples whose class is not the most probable one, and not among the ``top``."""
    order = torch.cat([net(some).topk(top).indices for some in torch.split(x, 256)]) == labels[:, None]
    return float((~order[:, 0]).float().mean()), float((~order.any(1)).float().mean())
