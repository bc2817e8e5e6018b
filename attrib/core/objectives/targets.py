"""What users pass as ``target``, and the objective that it means."""

from __future__ import annotations

from attrib.core.objectives.each import Each
from attrib.core.objectives.indices import as_index
from attrib.core.objectives.objective import ClassScore, Custom, Objective, Output, Predicted
from attrib.core.objectives.units import Channel, Neuron
from attrib.errors import TargetError


def as_objective(target: object) -> Objective:
    """Read what users pass as ``target``.

    ``None`` (the output is one number per example), whole numbers and their lists, tuples, tensors and arrays as in
    Captum and NumPy, ``"predicted"``, ``"layer4:7"`` (mean of channel 7), ``"layer4:7,3,5"`` (unit at row 3, column 5;
    as many numbers as the layer has axes), callables ``output -> (N,)`` and `Objective`; and a list of objectives or
    callables, one per example, each called with the output of its example, as pytorch-grad-cam does.
    """
    if target is None:
        return Output()
    if isinstance(target, Objective):
        return target
    if isinstance(target, str):
        return _from_text(target)
    if isinstance(target, list) and any(callable(one) for one in target):
        return Each(tuple(target))
    if isinstance(target, tuple) and any(callable(one) for one in target):
        raise TargetError(
            f"objectives or callables for each example must be a list; got a tuple of {len(target)}, which is one "
            "position for all examples. Pass list(target)."
        )
    if callable(target):
        return Custom(target)
    return ClassScore(as_index(target))


def _from_text(text: str) -> Objective:
    layer, colon, unit = text.rpartition(":")
    numbers = unit.split(",")
    if text == "predicted":
        return Predicted()
    if colon and layer and all(n.strip().isdigit() for n in numbers):
        channel, *place = (int(n) for n in numbers)
        return Neuron(layer, channel, place=place) if place else Channel(layer, channel)
    hint = f" For class {text} pass the number {text}, not a string." if text.strip().isdigit() else ""
    raise TargetError(
        f"target as text must be 'predicted', 'layer:channel' or 'layer:channel,y,x'; got {text!r}.{hint}"
    )
