"""A study at equal effort: every method that can be scaled spends the same number of forward passes."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from torch import Tensor

from attrib.benchmark.budget import options_for
from attrib.errors import InputError
from attrib.tasks.subject import Network

if TYPE_CHECKING:
    from attrib.io import Sample
    from attrib.study.spec import Study

log = logging.getLogger("attrib")


def at_budget(study: Study, forwards: int) -> Study:
    """The same study, with methods that spend at most ``forwards`` passes per map, see `attrib.benchmark.options_for`.

    Convention:
        - a method to which the study gives such an option itself keeps its options as they are.
        - methods without a sample count are as they were; what everything cost is in the table of results.
        - options follow from the first picture that can be read, and are part of the study's hash.

    Args:
        study: the plan.
        forwards: passes per image.

    Example:
        >>> from attrib.io import LoadedModel, Preprocess
        >>> from attrib.study import Study
        >>> from PIL import Image
        >>> net = LoadedModel(model, Preprocess(resize=12, crop=12))
        >>> study = Study(net, {"one": Image.new("RGB", (16, 12), "red")}, ["rise", "gradcam"], ["deletion"])
        >>> [dict(one.options) for one in at_budget(study, 100).chosen_methods]
        [{'n': 97}, {}]
    """
    x = _first(study)
    methods: dict[str, dict[str, Any]] = {}
    for one in study.chosen_methods:
        budget = options_for(one.name, forwards, x)
        given = [name for name in budget.options if name in one.options]
        methods[one.label] = {"name": one.name, **({} if given else budget.options), **one.options}
        log.info("%s: %s", one.label, f"{', '.join(given)} as given" if given else budget)
    return replace(study, methods=methods, method_options={})


def _first(study: Study) -> Tensor:
    """The model's input for the first picture that can be read."""
    network, problem = Network.of(study.loaded()), None
    for index in range(len(study.samples)):
        try:
            sample: Sample = study.samples.read(index)
        except Exception as exc:  # readers of users raise what they like; running the study tells of each
            problem = exc
            continue
        image = sample.image
        return network.place(image[None]) if isinstance(image, Tensor) else network.input(image)
    raise InputError(f"data must hold a picture that can be read; got {problem}.") from problem
