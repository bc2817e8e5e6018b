"""Move a square over one picture and keep everything that it changes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from attrib.analysis.occlusion.maps import occlusion_maps
from attrib.core import Query, frozen
from attrib.errors import InputError, TargetError
from attrib.report.occluded import Occluded
from attrib.tasks.measure import measured
from attrib.tasks.questions import questions
from attrib.tasks.subject import Model, Network, Picture, examples, facts


def occlude(
    model: Model,
    image: Picture,
    target: object = "predicted",
    *,
    layer: str | nn.Module | None = None,
    classes: Sequence[int | str] = (),
    **options: Any,
) -> Occluded:
    """Run `occlusion_maps` on one picture, with class names, figure and files.

    Args:
        model: a name for `load_model`, or a LoadedModel.
        image: a file or a PIL image.
        target: a class number or name, or ``"predicted"``.
        layer: whose strongest channel is watched; the last spatial one if None.
        classes: further classes, by number or name.
        options: further arguments of `occlusion_maps`: ``window``, ``stride``, ``baseline``, ``score``, ...

    Returns:
        An `Occluded`: ``print(found.to_text())``, ``found.plot()``, ``found.save(folder)``.
    """
    network = Network.of(model)
    if network.loaded is None:
        raise InputError("model must be a name or a LoadedModel, whose preprocessing is known; got a bare model.")
    one, *more = examples(image)
    x, view = one.open(network)
    if more or view is None:
        raise InputError(f"image must be one picture, a file or a PIL image; got {type(image).__name__}.")
    (question,) = questions(network, 1, target)
    further = [_class(network, name) for name in classes]
    with measured(x.device) as meter:
        maps = occlusion_maps(network.model, x, question.objective, layer=layer, classes=further, **options)
    with frozen(network.model):
        (asked,) = question.told(network, Query(network.model, (x,), question.objective).clean)
    known = {*maps.label.flatten().tolist(), *further, int(maps.clean.label[0])}
    names = {index: network.label(index) for index in sorted(known)}
    about = facts("occlusion maps", network, x) | {"options": dict(options)}
    return Occluded(one.name, view, maps, asked, names, meter.spent, about)


def _class(network: Network, name: int | str) -> int:
    index = network.class_index(name) if isinstance(name, str) else name
    if index is None:
        raise TargetError(f"classes must be numbers or names of classes; got {name!r}.")
    return index
