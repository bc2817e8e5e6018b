"""`explain`: maps of several methods for several images and targets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, TypedDict

import torch
from PIL import Image
from torch import Tensor, nn
from tqdm import tqdm

from attrib import checks
from attrib.core.objective import Objective
from attrib.errors import ShapeError
from attrib.report.explanation import Explanation
from attrib.report.records import Asked, Spent
from attrib.tasks.questions import Question, questions
from attrib.tasks.run import Failures, Methods, Runner, runners
from attrib.tasks.subject import Example, Images, Model, Network, examples, facts

if TYPE_CHECKING:
    from typing_extensions import Unpack

METHODS_SHOWN = ("occlusion", "saliency", "guided", "gradcam", "guided_gradcam")


class ExplainOptions(TypedDict, total=False):
    """How `explain` runs.

    Attributes:
        batch_size: images that go through the model together; 8 unless given.
        show_progress: progress bar on standard error.
    """

    batch_size: int
    show_progress: bool


def explain(
    model: Model,
    images: Images,
    methods: Methods = METHODS_SHOWN,
    target: object = "predicted",
    *,
    targets: Sequence[object] | Mapping[str, object] | None = None,
    layer: str | nn.Module | None = None,
    **options: Unpack[ExplainOptions],
) -> Explanation:
    """Explain pictures with several methods, for one target or several.

    Convention:
        - every method answers the same question: the class is decided once, on the untouched image.
        - an image that cannot be read and a method that fails are noted in ``failures`` and the others go on; if all
          fail, the first error is raised.
        - the model and its weights are left as they were; pictures are preprocessed as the model wants.

    Args:
        model: a name for `attrib.load_model`, a `LoadedModel`, or an ``nn.Module`` where ``images`` is a Tensor.
        images: files, folders or PIL images, one or several; a mapping of names to them; or a Tensor ``(N, C, H, W)``.
        methods: registry names, classes, instances or functions of the model; or a mapping of labels to these.
        target: one question for all images, see `attrib.core.as_objective`; or the name of a class.
        targets: several questions, one column each; or a mapping of labels to them. Replaces ``target``.
        layer: where the methods that need a layer look; the last spatial one if None.
        options: see `ExplainOptions`.

    Returns:
        An `Explanation`.

    Example:
        >>> found = explain(model, x, ["saliency", "gradcam"], targets=[3, "predicted"])
        >>> found.maps["gradcam"]["3"].shape, found.layers["gradcam"]
        (torch.Size([2, 1, 6, 6]), 'relu3')
        >>> found.asked["3"][0].index
        3
    """
    checks.unknown_options("explain", dict(options), tuple(ExplainOptions.__annotations__))
    network = Network.of(model)
    run = runners(methods, network, layer)
    found = examples(images)
    asking = questions(network, len(found), target, targets)
    size = checks.integer("batch_size", options.get("batch_size", 8), 1)
    failures = Failures()
    positions, x, views = _opened(found, network, failures)
    columns = [_Column.of(question, network, x, positions, size) for question in asking]
    maps, costs = _maps(run, columns, failures, options.get("show_progress", False))
    return Explanation(
        images=tuple(found[i].name for i in positions),
        inputs=x.cpu(),
        views=views,
        asked={column.words: column.asked for column in columns},
        maps=maps,
        layers={runner.label: runner.layer for runner in run},
        costs=costs,
        failures=tuple(failures.found),
        about=facts("explanation", network, x) | {"batch_size": size, "methods": {one.label: one.facts for one in run}},
    )


def _opened(
    found: Sequence[Example], network: Network, failures: Failures
) -> tuple[list[int], Tensor, tuple[Image.Image, ...] | None]:
    """Positions of the images that can be read, their batch, and their pictures if they are pictures."""
    opened = [failures.attempt(partial(example.open, network), image=example.name) for example in found]
    good = {i: one for i, one in enumerate(opened) if one is not None}
    if not good and failures.first is not None:
        raise failures.first
    if len({x.shape for x, _ in good.values()}) > 1:
        sizes = ", ".join(sorted({str(tuple(x.shape[1:])) for x, _ in good.values()}))
        raise ShapeError(f"images must have one size after preprocessing; got {sizes}. Explain them one by one.")
    views = tuple(view for _, view in good.values() if view is not None)
    return list(good), torch.cat([x for x, _ in good.values()]), views or None


@dataclass(frozen=True, eq=False)
class _Column:
    """One target for all images: batches with their settled goals, and what the target meant."""

    words: str
    batches: list[tuple[Tensor, Objective]]
    asked: tuple[Asked, ...]

    @classmethod
    def of(cls, question: Question, network: Network, x: Tensor, positions: Sequence[int], size: int) -> _Column:
        starts = range(0, len(x), size)
        answers = [question.ask(network, x[i : i + size], positions[i : i + size]) for i in starts]
        batches = [(x[i : i + size], goal) for i, (goal, _) in zip(starts, answers, strict=True)]
        return cls(question.words, batches, tuple(row for _, rows in answers for row in rows))

    def run(self, runner: Runner) -> tuple[Tensor, Spent]:
        done = [runner.run(x, goal) for x, goal in self.batches]
        return torch.cat([maps for maps, _ in done]), Spent.total([spent for _, spent in done])


def _maps(
    run: Sequence[Runner], columns: Sequence[_Column], failures: Failures, show_progress: bool
) -> tuple[dict[str, dict[str, Tensor]], dict[str, Spent]]:
    maps: dict[str, dict[str, Tensor]] = {}
    spent: dict[str, list[Spent]] = {}
    steps = [(runner, column) for runner in run for column in columns]
    for runner, column in tqdm(steps, unit="map", disable=None if show_progress else True):
        done = failures.attempt(partial(column.run, runner), method=runner.label, target=column.words)
        if done is not None:
            maps.setdefault(runner.label, {})[column.words] = done[0]
            spent.setdefault(runner.label, []).append(done[1])
    if not maps and failures.first is not None:
        raise failures.first
    return maps, {label: Spent.total(parts) for label, parts in spent.items()}
