"""Move a square over one picture and keep everything that it changes."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike, fspath
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from attrib.analysis.occlusion.context import object_context
from attrib.analysis.occlusion.maps import occlusion_maps
from attrib.core import Query, frozen
from attrib.errors import InputError, TargetError, did_you_mean
from attrib.io import LoadedModel, load_image
from attrib.io.masks import load_mask
from attrib.report.occluded import Occluded
from attrib.tasks.measure import measured
from attrib.tasks.questions import questions
from attrib.tasks.subject import Example, Model, Network, Picture, examples, facts

_OF_THE_WINDOW = ("window", "stride", "edge", "channel")  # options that `object_context` does not have


def occlude(
    model: Model,
    image: Picture,
    target: object = "predicted",
    *,
    layer: str | nn.Module | None = None,
    classes: Sequence[int | str] = (),
    mask: object = None,
    regions: int = 10,
    seed: int = 0,
    **options: Any,
) -> Occluded:
    """Run `occlusion_maps` on one picture, and with a mask `object_context`, with class names, figure and files.

    Args:
        model: a name for `load_model`, or a LoadedModel.
        image: a file or a PIL image.
        target: a class number or name, or ``"predicted"``.
        layer: whose strongest channel is watched; the last spatial one if None.
        classes: further classes, by number or name.
        mask: where the object is: a file or PIL image of the picture's size, white inside, or an array of bools.
        regions: see `object_context`.
        seed: likewise.
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
    seen = None if mask is None else _seen(mask, one, network.loaded)
    with measured(x.device) as meter:
        maps = occlusion_maps(network.model, x, question.objective, layer=layer, classes=further, **options)
        how = {name: value for name, value in options.items() if name not in _OF_THE_WINDOW}
        hidden = (
            seen
            if seen is None
            else object_context(network.model, x, seen, question.objective, regions=regions, seed=seed, **how)
        )
    with frozen(network.model):
        (asked,) = question.told(network, Query(network.model, (x,), question.objective).clean)
    known = {*maps.label.flatten().tolist(), *further, int(maps.clean.label[0])}
    names = {index: network.label(index) for index in sorted(known)}
    told = dict(options) if mask is None else {**options, "mask": _told(mask), "regions": regions, "seed": seed}
    about = facts("occlusion maps", network, x) | {"options": told}
    return Occluded(one.name, view, maps, asked, names, meter.spent, about, hidden)


def _seen(mask: object, one: Example, loaded: LoadedModel) -> Tensor:
    """What the network sees of the mask."""
    picture = load_image(one.source) if isinstance(one.source, Path) else one.source
    return loaded.mask(load_mask(mask, picture.size))  # type: ignore[arg-type]  # it has a view: it is a picture


def _told(mask: object) -> str:
    return fspath(mask) if isinstance(mask, (str, PathLike)) else type(mask).__name__


def _class(network: Network, name: int | str) -> int:
    index = network.class_index(name) if isinstance(name, str) else name
    if index is None:
        close = did_you_mean(str(name), network.names)
        raise TargetError(f"classes must be numbers or names of classes; got {name!r}.{close}")
    return index
