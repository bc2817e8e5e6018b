"""`Study`: which methods explain which model on which pictures, measured how: a frozen plan with a hash."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, TypedDict

from torch import nn

from attrib import checks
from attrib.errors import InputError
from attrib.io import LoadedModel, Samples, load_model, model_hash, open_samples, samples_again
from attrib.metrics import Protocol, as_protocol
from attrib.registry import CONTROLS, METHODS, METRICS
from attrib.report.facts import described
from attrib.study.plain import Choice, Choices, choices, hashed, plain
from attrib.tasks.comparing import METRICS_SHOWN

if TYPE_CHECKING:
    from os import PathLike

    from typing_extensions import Unpack

    from attrib.study.result import StudyResult

SCHEMA = 1  # of spec and files; raised when one cannot be read as the other


class RunOptions(TypedDict, total=False):
    """How `Study.run` runs; nothing here changes a number beyond what ``force`` and ``device`` say.

    Attributes:
        resume: go on where an earlier run stopped; True unless given. False refuses a directory with results.
        shard: ``(i, n)``: only the ``i``-th of ``n`` parts, counted from 0, for arrays of jobs.
        strict: stop at the first image or method that fails, instead of noting it and going on.
        show_progress: progress bar on standard error; True unless given.
        device: where to run, such as ``"cuda:1"``; a model by name goes to the first GPU if there is one.
        force: go on although versions or the device are others than those that the results were begun with.
        engine: ``"local"``, this process, or ``"ray"``, workers of Ray, one for each core or GPU; see the guide on
            scale. Then ``device`` is ``"cpu"`` or ``"cuda"``, and GPUs are used if there are some.
        address: of a Ray cluster; if None, the one that Ray finds, or one of this machine's cores for this run.
    """

    resume: bool
    shard: tuple[int, int] | None
    strict: bool
    show_progress: bool
    device: str | None
    force: bool
    engine: Literal["local", "ray"]
    address: str | None


@dataclass(frozen=True, eq=False)
class Study:
    """Methods x images x metrics, with control rows: the plan, in plain values, and how to run it.

    Convention:
        - equal specs have equal hashes, whatever the order of their keys; only equal studies go on in one directory.
        - the hash says what was asked: versions, weights and the list of pictures are in the manifest, and checked.
        - every image is measured alone, with batches of fixed size: whatever was killed, resumed or done by several
          processes, the same machine writes the same scores, byte for byte.

    Args:
        model: a name for `attrib.load_model`; or a `LoadedModel` or module, which stays in this process.
        data: see `attrib.io.open_samples`.
        methods: registry names; or labels to names, or to mappings of ``name`` and options.
        metrics: likewise.
        protocol: how curves are measured.
        target: ``"label"`` of each picture, ``"predicted"``, or one for all, such as a class.
        seed: of random weights, random controls and intervals.
        controls: all rows that ignore the model, none, or their names.
        shard_size: images that are computed and stored together: what is lost when a run is killed.
        layer: where the methods that need a layer look; the last spatial one if None.
        method_options: options of methods, by label.
        metric_options: options of metrics, by label.
        weights: of a model by name, see `attrib.load_model`.
        batch_size: rows per forward pass while maps are measured; ``"auto"`` depends on device and image size only.

    Example:
        >>> from attrib.io import LoadedModel, Preprocess
        >>> from PIL import Image
        >>> net = LoadedModel(model, Preprocess(resize=12, crop=12))
        >>> photos = {"one": Image.new("RGB", (16, 12), "red"), "two": Image.new("RGB", (16, 12), "blue")}
        >>> study = Study(net, photos, ["saliency", "gradcam"], ["deletion"], Protocol(steps=5), shard_size=1)
        >>> study.shards(), len(study.hash), study.spec["target"]
        (2, 64, 'predicted')
    """

    model: LoadedModel | nn.Module | str = field(repr=False)
    data: object = field(repr=False)
    methods: Choices
    metrics: Choices = METRICS_SHOWN
    protocol: Protocol | str | Mapping[str, Any] = "default"
    target: str | int = "predicted"
    seed: int = 0
    controls: bool | Sequence[str] = True
    shard_size: int = 32
    layer: str | None = None
    method_options: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    metric_options: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    weights: str | None = None
    batch_size: int | Literal["auto"] = "auto"

    def __post_init__(self) -> None:
        live: object = self.model
        if not isinstance(live, (str, LoadedModel, nn.Module)):
            raise InputError(f"model must be a name, a LoadedModel or an nn.Module; got {type(live).__name__}.")
        if self.weights is not None and not isinstance(live, str):
            raise InputError(f"weights must be for a model by name; got {self.weights!r} for a {type(live).__name__}.")
        checks.integer("seed", self.seed, 0)
        checks.integer("shard_size", self.shard_size, 1)
        if self.batch_size != "auto":
            checks.integer("batch_size", self.batch_size, 1)
        plain("target", self.target)
        object.__setattr__(self, "protocol", as_protocol(self.protocol))
        self.chosen_methods, self.chosen_metrics, self.chosen_controls  # noqa: B018  wrong names are told at once

    @cached_property
    def chosen_methods(self) -> list[Choice]:
        """The methods, each with its options."""
        return choices("method", self.methods, self.method_options, METHODS)

    @cached_property
    def chosen_metrics(self) -> list[Choice]:
        """The metrics, each with its options."""
        return choices("metric", self.metrics, self.metric_options, METRICS)

    @cached_property
    def chosen_controls(self) -> list[str]:
        """Names of the control rows."""
        if isinstance(self.controls, bool):
            return list(CONTROLS) if self.controls else []
        given = [self.controls] if isinstance(self.controls, str) else list(self.controls)
        for name in given:
            CONTROLS[name]
        return given

    @cached_property
    def samples(self) -> Samples:
        """The pictures."""
        return open_samples(self.data)

    @property
    def portable(self) -> bool:
        """Whether another process can run it from its `spec`."""
        return isinstance(self.model, str) and self.samples.portable

    @cached_property
    def spec(self) -> dict[str, Any]:
        """Everything that was asked, as strict JSON holds it."""
        protocol = as_protocol(self.protocol)
        return {
            "schema": SCHEMA,
            "model": self._model_spec(),
            "data": plain("data", self.samples.spec),
            "methods": [one.to_dict() for one in self.chosen_methods],
            "metrics": [one.to_dict() for one in self.chosen_metrics],
            "protocol": protocol.to_dict(),
            "target": self.target,
            "seed": self.seed,
            "controls": self.chosen_controls,
            "shard_size": self.shard_size,
            "layer": self.layer,
            "batch_size": self.batch_size,
        }

    def _model_spec(self) -> dict[str, Any]:
        if isinstance(self.model, str):
            return {"name": self.model, "weights": self.weights}
        loaded = self.model if isinstance(self.model, LoadedModel) else None
        module = self.model if isinstance(self.model, nn.Module) else self.model.model
        told = {"class": type(module).__qualname__, "sha256": model_hash(module)}
        return told | ({} if loaded is None else {"preprocess": plain("preprocess", described(loaded.preprocess))})

    @cached_property
    def hash(self) -> str:
        """SHA-256 of the spec."""
        return hashed(self.spec)

    def __getstate__(self) -> dict[str, Any]:
        """What was asked, without what was read for it."""
        return {one.name: getattr(self, one.name) for one in fields(self)}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Study) and self.hash == other.hash

    def __hash__(self) -> int:
        return hash(self.hash)

    @classmethod
    def from_spec(cls, spec: Mapping[str, Any]) -> Study:
        """Make the study again that `spec` was read from, in another process say.

        Raises:
            InputError: its model or its pictures live in one process only, or the spec is of another version.
        """
        if spec.get("schema") != SCHEMA:
            raise InputError(f"spec must be of schema {SCHEMA}; got {spec.get('schema')}.")
        if "name" not in spec["model"]:
            raise InputError(f"model must be a name to be loaded elsewhere; got {dict(spec['model'])}.")
        given = {name: spec[name] for name in ("protocol", "target", "seed", "controls", "shard_size", "layer")}
        return cls(
            spec["model"]["name"],
            samples_again(spec["data"]),
            {one["label"]: {"name": one["name"], **one["options"]} for one in spec["methods"]},
            {one["label"]: {"name": one["name"], **one["options"]} for one in spec["metrics"]},
            weights=spec["model"]["weights"],
            batch_size=spec["batch_size"],
            **given,
        )

    def loaded(self) -> LoadedModel | nn.Module:
        """The model; one by name is loaded."""
        return load_model(self.model, self.weights, seed=self.seed) if isinstance(self.model, str) else self.model

    def shards(self) -> int:
        """How many shards there are."""
        return -(-len(self.samples) // self.shard_size)

    def images(self, shard: int) -> range:
        """Positions of the images of a shard."""
        start = checks.integer("shard", shard, 0) * self.shard_size
        if start >= len(self.samples):
            raise InputError(f"shard must lie in [0, {self.shards() - 1}]; got {shard}.")
        return range(start, min(start + self.shard_size, len(self.samples)))

    def run(self, out: str | PathLike[str], **options: Unpack[RunOptions]) -> StudyResult:
        """Compute what is not yet there, shard after shard, and read the results.

        ``out`` holds ``manifest.json`` and, for each shard, Parquet files: ``shards/00012.parquet`` (scores),
        ``images``, ``curves``, ``costs`` and ``failures``. A shard is there, whole, once its scores are. Several
        processes may run the same study in one directory; each shard is computed by one of them.

        Args:
            out: a new directory, or one where this study was begun; also a URL such as ``s3://bucket/run``, extra
                ``remote``.
            options: see `RunOptions`.

        Returns:
            A `StudyResult` of all that is there now.

        Raises:
            OutputError: the directory holds something else, or cannot be written; what was finished is kept.
        """
        from attrib.study.running import run_study

        checks.unknown_options("run", dict(options), tuple(RunOptions.__annotations__))
        return run_study(self, out, options)
