"""`explain`: maps of several methods for several images and targets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, NoReturn, TypedDict

import torch
from PIL import Image
from torch import Tensor, nn
from tqdm import tqdm

from attrib import checks
from attrib.errors import ShapeError
from attrib.report.explanation import Explanation
from attrib.report.records import Asked
from attrib.tasks.further import Further
from attrib.tasks.questions import questions
from attrib.tasks.run import Failures, Methods, Runner, runners
from attrib.tasks.sharing import Answers, Sharing
from attrib.tasks.subject import Example, Images, Model, Network, examples, facts

if TYPE_CHECKING:
    from typing_extensions import Unpack

METHODS_SHOWN = ("occlusion", "saliency", "guided", "gradcam", "guided_gradcam")


class ExplainOptions(TypedDict, total=False):
    """How `explain` runs.

    Attributes:
        additional_forward_args: one further argument of the model, or a tuple of them, such as the words of captions; a
            Tensor with one entry per image follows the images.
        batch_size: images that go through the model together; 8 unless given.
        show_progress: progress bar on standard error.
    """

    additional_forward_args: object
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
        - methods share passes, see `attrib.attribute_all`; their maps are, bit for bit, those of each method alone.
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
    further, failures = Further.of(options.get("additional_forward_args"), len(found), network), Failures()
    positions, x, views = _opened(found, network, failures)
    work = _Work(Sharing(network, asking, run, failures, further=further))
    work.run([(positions[i : i + size], x[i : i + size]) for i in range(0, len(x), size)], options)
    return Explanation(
        images=tuple(found[i].name for i in positions),
        inputs=x.cpu(),
        views=views,
        asked=work.asked,
        maps=work.maps,
        layers={runner.label: runner.layer for runner in run},
        costs={label: work.sharing.ledger.of(label) for label in work.maps},
        total=work.sharing.ledger.total(),
        failures=tuple(failures.found),
        about=facts("explanation", network, x)
        | {"batch_size": size, "methods": {one.label: one.facts for one in run}, **further.facts},
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


@dataclass
class _Work:
    """Maps of several images: batch after batch those that share passes, then method after method the others."""

    sharing: Sharing
    batches: list[tuple[Tensor, Answers]] = field(default_factory=list)
    maps: dict[str, dict[str, Tensor]] = field(default_factory=dict)

    def run(self, batches: Sequence[tuple[Sequence[int], Tensor]], options: ExplainOptions) -> None:
        """Make all maps; raise the first error where there is none."""
        steps = len(batches) * len(self.sharing.runners) * len(self.sharing.questions)
        shown = options.get("show_progress", False)
        with tqdm(total=steps, unit="map", disable=None if shown else True) as bar:
            for positions, x in batches:
                self.batches.append((x, self.sharing.run(x, positions)))
                bar.update(len(self.batches[-1][1].maps))
            for runner in self.sharing.runners:
                for words in self.asked:
                    self._finish(runner, words, bar)
        failures = self.sharing.failures
        if not self.maps and failures.first is not None:
            raise failures.first

    @property
    def asked(self) -> dict[str, tuple[Asked, ...]]:
        """For each target what it meant for each image."""
        found = enumerate(question.words for question in self.sharing.questions)
        return {words: tuple(row for _, one in self.batches for row in one.asked[i]) for i, words in found}

    def _finish(self, runner: Runner, words: str, bar: tqdm[NoReturn]) -> None:
        if (runner.label, words) in self.sharing.lost:
            return
        done = self.sharing.failures.attempt(partial(self._all, runner, words, bar), method=runner.label, target=words)
        if done is not None:
            self.maps.setdefault(runner.label, {})[words] = done

    def _all(self, runner: Runner, words: str, bar: tqdm[NoReturn]) -> Tensor:
        """Maps of all images; those of batches that were not shared are made now."""
        found = []
        for x, answers in self.batches:
            if (runner.label, words) not in answers.maps:
                maps, spent = runner.run(x, answers.goals[words], answers.extra)
                self.sharing.ledger.note(runner.label, spent)
                answers.maps[runner.label, words] = maps
                bar.update()
            found.append(answers.maps[runner.label, words])
        return torch.cat(found)
