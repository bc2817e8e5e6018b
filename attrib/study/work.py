"""A worker: holds the model and its methods, and computes one shard after the other."""

from __future__ import annotations

import platform
import socket
from collections.abc import Callable
from dataclasses import replace
from functools import cached_property, partial
from time import perf_counter
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from attrib.core.masking.pace import steady
from attrib.core.network.cost import count
from attrib.errors import InputError
from attrib.io import LoadedModel, Sample
from attrib.metrics import Metric, as_protocol
from attrib.registry import METHODS, METRICS
from attrib.report.facts import device_facts, versions
from attrib.report.records import Spent
from attrib.study.plain import Choice, as_arguments
from attrib.study.records import Rows
from attrib.study.spec import SCHEMA, Study
from attrib.tasks.comparing import check_space, control_rows
from attrib.tasks.measuring import GIVEN, Measuring, Subject, check_needs, check_orders
from attrib.tasks.questions import Question, questions
from attrib.tasks.run import Failures, runners
from attrib.tasks.subject import Network


class Worker:
    """Computes shards of a study; what is wrong with the study is said when it is made.

    Args:
        study: the plan.
        device: where to run; a model by name goes to the first GPU if there is one, another stays where it is.
    """

    def __init__(self, study: Study, device: str | None = None) -> None:
        self.study = study
        self.metrics = {one.label: _metric(one) for one in study.chosen_metrics}
        self.protocol = as_protocol(study.protocol)
        check_needs(self.metrics, GIVEN)
        check_orders(self.metrics, self.protocol)
        self._check_samples()
        self.network = Network.of(_placed(study, device))
        makers = {one.label: partial(_method, one) for one in study.chosen_methods}
        found = {one.label: [one] for one in runners(makers, self.network, study.layer)}
        controls = control_rows(self.network, study.chosen_controls or False, study.seed, set(found))
        self.measuring = Measuring(
            self.network, found | controls, tuple(controls), self.metrics, self.protocol, study.batch_size
        )
        if study.target != "label":
            check_space(self._question(None), self.protocol)

    def _check_samples(self) -> None:
        """Refuse what no picture can give."""
        samples, blind = self.study.samples, [name for name, one in self.metrics.items() if "masks" in one.needs]
        if samples.masked is False and blind:
            raise InputError(
                f"data must have masks or boxes for {', '.join(blind)}; got none. Give a table with a column 'mask' or "
                "'boxes', or leave these metrics out."
            )
        if self.study.target == "label" and samples.labels is not None and set(samples.labels) <= {None}:
            raise InputError(
                "data must have labels to be explained; got none. Give a folder for each class, a table with a column "
                "'label', or target='predicted'."
            )

    @cached_property
    def about(self) -> dict[str, Any]:
        """What the manifest says: everything that scores depend on, and who began."""
        study, weight = self.study, next(iter(self._weights()), torch.empty(0))
        return {
            "schema": SCHEMA,
            "kind": "study",
            "hash": study.hash,
            "spec": study.spec,
            "shards": study.shards(),
            "data": {"images": len(study.samples), "sha256": study.samples.digest},
            "model": self.network.facts(),
            "methods": {label: one.facts for label, one in self.measuring.methods.items()},
            "controls": list(self.measuring.controls),
            "metrics": {label: _facts(one) for label, one in self.metrics.items()},
            "protocol": {**self.protocol.to_dict(), "words": str(self.protocol)},
            "versions": versions(),
            "dtype": str(weight.dtype).removeprefix("torch."),
            **device_facts(weight.device),
            "host": socket.gethostname(),
            "platform": platform.platform(),
        }

    def _weights(self) -> list[Tensor]:
        model = self.network.model
        every = model.parameters() if isinstance(model, nn.Module) else ()
        return [weight for weight in every if weight.is_floating_point()]

    def run(self, shard: int, *, strict: bool = False, step: Callable[[], object] = lambda: None) -> Rows:
        """Compute a shard; ``step`` is called after each image.

        Args:
            shard: which.
            strict: raise the first error instead of noting it.
            step: for a progress bar.
        """
        rows = Rows()
        with steady():
            for index in self.study.images(shard):
                self._image(index, rows, strict)
                step()
        return rows

    def _image(self, index: int, rows: Rows, strict: bool) -> None:
        name = self.study.samples.names[index]
        failures = Failures()
        measuring = replace(self.measuring, failures=failures)
        begin = perf_counter()
        with count() as passes:
            sample = failures.attempt(partial(self.study.samples.read, index), image=name)
            subject = found = None
            if sample is not None:
                subject = failures.attempt(partial(self._subject, name, sample, measuring), image=name)
            if subject is not None:
                found = measuring.measure(subject)
        spent = Spent(passes.forwards, passes.backwards, perf_counter() - begin, None)
        if strict and failures.first is not None:
            raise failures.first
        rows.add_image((name, index), self._label(index, sample), measuring, subject, found)
        rows.add_failures((name, index), failures.found)
        rows.add_total((name, index), spent)

    def _label(self, index: int, sample: Sample | None) -> str | None:
        labels = self.study.samples.labels
        label = sample.label if sample is not None else None if labels is None else labels[index]
        return None if label is None else str(label)

    def _subject(self, name: str, sample: Sample, measuring: Measuring) -> Subject:
        x, mask = self._seen(sample)
        return measuring.ask(name, x, self._question(sample), mask=mask)

    def _seen(self, sample: Sample) -> tuple[Tensor, Tensor | None]:
        """The model's input ``(1, C, H, W)``, and the mask through the same geometry, ``(1, H, W)``."""
        image, mask = sample.image, sample.mask
        x = self.network.place(image[None]) if isinstance(image, Tensor) else self.network.input(image)
        if mask is None:
            return x, None
        loaded = self.network.loaded
        inside = loaded.mask(mask) if isinstance(mask, Image.Image) and loaded is not None else mask
        if not isinstance(inside, Tensor) or inside.shape != x.shape[2:]:
            raise InputError(f"mask must have the size of the input, {tuple(x.shape[2:])}; got {inside}.")
        return x, inside[None].cpu()  # where maps are

    def _question(self, sample: Sample | None) -> Question:
        target: Any = self.study.target
        if target == "label" and sample is not None:
            if sample.label is None:
                raise InputError("image must have a label to be explained; got none. Or use target='predicted'.")
            if isinstance(sample.label, str) and self.network.class_index(sample.label) is None:
                raise InputError(f"label must be a number or a class of the model; got {sample.label!r}.")
            (question,) = questions(self.network, 1, None, {"label": sample.label})
        else:
            (question,) = questions(self.network, 1, target)
        return question


def _placed(study: Study, device: str | None) -> LoadedModel | nn.Module:
    """The model where it shall run."""
    model = study.loaded()
    module = model.model if isinstance(model, LoadedModel) else model
    if device is not None or isinstance(study.model, str):
        module.to(torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu")))
    return model


def _method(choice: Choice, model: Any) -> Any:
    try:
        return METHODS[choice.name](model, **as_arguments(choice.options))
    except TypeError as exc:
        raise InputError(f"options of method {choice.label!r} must be its own: {exc}") from exc


def _metric(choice: Choice) -> Metric:
    try:
        metric: Metric = METRICS[choice.name](**as_arguments(choice.options))
    except TypeError as exc:
        raise InputError(f"options of metric {choice.label!r} must be its own: {exc}") from exc
    return metric


def _facts(metric: Metric) -> dict[str, bool]:
    return {"higher_is_better": metric.higher_is_better, "descriptor": metric.descriptor}
