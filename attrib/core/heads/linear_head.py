"""A linear layer behind a mean over places: which layer it is the mean of, and what is there where there is none."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import product
from typing import Any

import torch
from torch import Tensor, nn

from attrib.core.heads.averages import Averaged, Averages, Pointwise, averages, pointwise, rounding, within
from attrib.core.reduce import widened
from attrib.errors import LayerError

log = logging.getLogger("attrib")


def linear_head(model: Callable[..., Any], act: Tensor, output: object) -> tuple[Tensor, Tensor] | None:
    """Find how the scores are made of a layer, where they are linear in its mean.

    Args:
        model: has the linear layer, or none where the layer has one channel per class.
        act: of the layer, ``(N, K, *locations)``.
        output: of the model.

    Returns:
        The activation, rectified if that is what the mean is of, and the weight ``(C, K)`` with which, for every
        example and class, ``mean(weight @ act) + bias = score``; where the model sums instead, the number of places is
        in the weight. None if there is no such weight.
    """
    if not isinstance(output, Tensor) or output.ndim != 2:
        return None
    for seen in (act, act.relu()):
        flat = widened(seen.flatten(2))
        mean, size = flat.mean(2), flat.abs().mean(2)
        for (given, offset), factor in product(_heads(model, flat.shape[1], output.shape[1]), (1, flat.shape[2])):
            weight, bias = given.to(mean) * factor, offset.to(mean)
            limit = rounding(size @ weight.abs().T, output.dtype, act.dtype) + _last_digits(output) * bias.abs()
            if within(output, mean @ weight.T + bias, limit):
                return seen, weight.to(seen)
    return None


def _heads(model: Callable[..., Any], channels: int, classes: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Weight and bias of every layer that could turn means into scores, and of none at all."""
    for part in model.modules() if isinstance(model, nn.Module) else ():
        if pointwise(part) and part.weight.shape[:2] == (classes, channels):
            weight, bias = part.weight.detach(), part.bias
            yield weight.flatten(1), weight.new_zeros(classes) if bias is None else bias.detach()
    if channels == classes:
        yield torch.eye(classes), torch.zeros(classes)


def _last_digits(output: Tensor) -> float:
    """What adding a bias may cost, as a share of it."""
    return 4 * torch.finfo(output.dtype).eps


def averaged_layer(model: Callable[..., Any], inputs: tuple[Tensor, ...], extra: Sequence[object] = ()) -> str:
    """Address of the last place in the network whose mean the scores are linear in.

    What modules give is preferred to what they are given, and what poolings give does not count: the map before one is
    finer. Of modules that give the same tensor the outermost is named. The choice is logged at level INFO.

    Cost: one forward pass.

    Raises:
        LayerError: there is none; it says what the scores are made of.
    """
    seen = averages(model, inputs, extra)
    found = _found(seen)
    if found is None:
        raise LayerError(f"{_refusal(model)} {_reason(seen, seen.places)} Use GradCAM, which needs no such head.")
    log.info("layer='auto': picked %r, whose mean the scores of %s are made of", found, type(model).__name__)
    return found


def why_not(
    model: Callable[..., Any], inputs: tuple[Tensor, ...], extra: Sequence[object], layer: str, act: Tensor
) -> str:
    """Say why the scores are not linear in the mean of a layer; takes a forward pass."""
    seen = averages(model, inputs, extra)
    found = _found(seen)
    remedy = f"Choose layer {found!r}" if found else "Name the layer that the mean is taken of"
    reason = _reason(seen, [Averaged.of(layer, act)])
    return f"{_refusal(model)} {reason} {remedy}, or use GradCAM, which needs no such head."


def _refusal(model: Callable[..., Any]) -> str:
    needs = "CAM needs scores (N, C) that are one linear layer on the mean of a layer over its places"
    return f"{needs}; in this {type(model).__name__}"


def _found(seen: Averages) -> str | None:
    """Address of the last place whose mean is what makes the scores."""
    if not isinstance(seen.output, Tensor) or seen.output.ndim != 2:
        return None
    wanted = [seen.output, *(one.read for one in _scoring(seen, seen.output))]
    return next((place.address for read in wanted for place in seen.places if place.gives(read)), None)


def _scoring(seen: Averages, output: Tensor) -> list[Pointwise]:
    """The linear layers that give the scores."""
    return [one for one in seen.pointwise if within(output, one.gave, _last_digits(output) * one.gave.abs())]


def _reason(seen: Averages, places: Sequence[Averaged]) -> str:
    """What the scores are made of instead of the mean of one of these places."""
    output = seen.output
    if not isinstance(output, Tensor):
        keys = f" with keys {sorted(map(str, output))}" if isinstance(output, Mapping) else ""
        return f"the output is a {type(output).__name__}{keys}. Wrap it in a module that returns the scores alone."
    if output.ndim != 2:
        return f"the output has shape {tuple(output.shape)}."
    if heads := _scoring(seen, output):
        return _read_instead(heads[0], places)
    likely = [one for one in seen.pointwise if one.gave.shape == output.shape]
    if not likely:
        return f"no linear layer or 1x1 convolution gives {output.shape[1]} scores."
    far = float((widened(output) - likely[0].gave).abs().max())
    return f"the scores are not what {likely[0].address!r} gives: something behind it changes them by up to {far:.2g}."


def _read_instead(head: Pointwise, places: Sequence[Averaged]) -> str:
    """What the linear layer reads that is not the mean of one of these places."""
    width, source = head.read.shape[1], f", which {head.source} gives" if head.source else ""
    fitting = [place for place in places if place.mean.shape[1] == width]
    if not fitting:
        known = sorted({place.mean.shape[1] for place in places})
        return f"{head.address!r} reads {width} numbers{source}, and layers with places have {known} channels."
    place = min(fitting, key=lambda one: one.apart(head.read))
    times = float((head.read * place.mean).sum() / place.mean.square().sum().clamp(min=1e-30))
    if within(head.read, times * place.mean, rounding(times * place.mean, place.dtype)):
        return f"{head.address!r} reads {times:.3g} times the mean of layer {place.address!r}."
    return (
        f"{head.address!r} reads something else than the mean of layer {place.address!r}{source}: it is up to "
        f"{place.apart(head.read):.2g} off, where the mean is up to {float(place.mean.abs().max()):.2g}."
    )
