"""`compare`: which method explains best, measured on many images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, TypedDict

from torch import nn
from tqdm import tqdm

from attrib import checks
from attrib.benchmark.controls import make_controls
from attrib.errors import InputError, TargetError
from attrib.metrics import Metric, Protocol, as_protocol
from attrib.registry import METRICS
from attrib.report.comparison import Comparison
from attrib.tasks.explaining import METHODS_SHOWN
from attrib.tasks.further import Further
from attrib.tasks.gathering import Gathering
from attrib.tasks.masks import Masks, masks_of
from attrib.tasks.measuring import Measuring, check_needs, check_orders
from attrib.tasks.questions import Question, questions
from attrib.tasks.run import Methods, Runner, runners
from attrib.tasks.subject import Images, Model, Network, examples

if TYPE_CHECKING:
    from typing_extensions import Unpack

METRICS_SHOWN = ("deletion", "insertion", "srg")
SEEDS = 3  # of random controls: one draw can be lucky


class CompareOptions(TypedDict, total=False):
    """How `compare` runs.

    Attributes:
        additional_forward_args: see `ExplainOptions`.
        layer: where the methods that need a layer look; the last spatial one if None.
        controls: True for all control rows, False for none, or their names.
        batch_size: rows per forward pass while curves are measured, or ``"auto"``.
        masks: where the objects are, for metrics that ask whether maps lie on them: one for each image (None where
            there is none, which leaves these metrics undefined), or by the images' names. A file or picture, white
            inside, or an array of bools, as large as its image; with it, it is resized and cropped.
        keep_maps: keep every map, picture and input in the result; True unless given. False for thousands of images.
        show_progress: progress bar on standard error.
    """

    additional_forward_args: object
    layer: str | nn.Module | None
    controls: bool | Sequence[str]
    batch_size: int | Literal["auto"]
    masks: Masks | None
    keep_maps: bool
    show_progress: bool


def compare(
    model: Model,
    images: Images,
    methods: Methods = METHODS_SHOWN,
    metrics: Sequence[str] = METRICS_SHOWN,
    protocol: Protocol | str = "default",
    *,
    target: object = "predicted",
    seed: int = 0,
    **options: Unpack[CompareOptions],
) -> Comparison:
    """Measure how well methods explain a model, image by image, against rows that ignore the model.

    Convention:
        - images are read, explained and measured one at a time; one that cannot be read is noted and the rest go on.
        - passes, seconds and memory are those of the map alone, not of measuring it; a pass that several methods read
          counts for each of them.
        - a method that does not beat every control is marked in the table.

    Args:
        model: see `explain`.
        images: see `explain`.
        methods: see `explain`.
        metrics: registry names.
        protocol: how to measure, see `attrib.Protocol`.
        target: see `explain`.
        seed: of random controls and of bootstrap intervals.
        options: see `CompareOptions`.

    Returns:
        A `Comparison`.

    Raises:
        AttribError: an argument is wrong, or no image could be compared; then the first image's error is raised.

    Example:
        >>> found = compare(model, x, ["saliency", "gradcam"], ["srg"], Protocol(steps=5), target=3)
        >>> [(row["method"], row["kind"]) for row in found.table()][1:3]
        [('gradcam', 'method'), ('centre', 'control')]
        >>> found.scores["saliency"]["srg"].shape
        torch.Size([2])
    """
    checks.unknown_options("compare", dict(options), tuple(CompareOptions.__annotations__))
    network, found = Network.of(model), examples(images)
    protocol = as_protocol(protocol)
    explained = {runner.label: [runner] for runner in runners(methods, network, options.get("layer"))}
    controls = control_rows(network, options.get("controls", True), checks.integer("seed", seed, 0), set(explained))
    chosen = made_metrics(metrics)
    masks = options.get("masks")
    given = ("model", "method") if masks is None else ("model", "method", "masks")
    check_needs(chosen, given, " Pass masks=, one for each image.")
    check_orders(chosen, protocol)
    size = options.get("batch_size", "auto")
    rows, further = explained | controls, Further.of(options.get("additional_forward_args"), len(found), network)
    measuring = Measuring(network, rows, tuple(controls), chosen, protocol, size, further=further)
    question, known = _question(network, len(found), target, protocol), masks_of(found, masks)
    gathering = Gathering(measuring, question, known, options.get("keep_maps", True))
    for i, example in enumerate(tqdm(found, unit="image", disable=None if options.get("show_progress") else True)):
        gathering.attempt(example, i)
    return gathering.comparison(seed)


def control_rows(network: Network, wanted: bool | Sequence[str], seed: int, taken: set[str]) -> dict[str, list[Runner]]:
    """The rows that ignore the model, for labels that are not ``taken``; random ones with several seeds."""
    if wanted is False:
        return {}
    made = make_controls(network.model, range(seed, seed + SEEDS), None if wanted is True else list(wanted))
    if both := sorted(taken & set(made)):
        raise InputError(f"methods must not be named like a control; got {', '.join(map(repr, both))}. Relabel them.")
    return {name: [Runner(name, control, None) for control in many] for name, many in made.items()}


def made_metrics(names: Sequence[str]) -> dict[str, Metric]:
    """Metrics by registry name, with their defaults."""
    given = [names] if isinstance(names, str) else list(names)
    if not given:
        raise InputError(f"metrics must name at least one of {', '.join(METRICS)}; got none.")
    return {name: METRICS[name]() for name in given}


def _question(network: Network, n: int, target: object, protocol: Protocol) -> Question:
    (question,) = questions(network, n, target)
    check_space(question, protocol)
    return question


def check_space(question: Question, protocol: Protocol) -> None:
    """Refuse a score space that the question does not have."""
    if protocol.score is not None:
        try:
            question.objective.in_space(protocol.score)
        except TargetError as exc:
            raise TargetError(f"{exc} In a comparison: protocol=Protocol(score=None).") from exc
