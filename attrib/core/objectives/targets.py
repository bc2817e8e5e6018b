"""What users pass as ``target``, and the objective that it means."""

from __future__ import annotations

import re
from typing import Any

from torch import Tensor
from torch.utils._pytree import tree_leaves

from attrib.core.objectives.each import Each
from attrib.core.objectives.indices import as_index, by_name
from attrib.core.objectives.objective import ClassScore, Custom, Objective, Output, Predicted
from attrib.core.objectives.units import Channel, Neuron
from attrib.errors import TargetError

_UNIT = re.compile(
    r"(?P<layer>.+):\s*(?P<channel>\d+)\s*(?P<place>(,\s*\d+\s*)*)(:(?P<how>mean|sum|max|strongest))?", re.DOTALL
)


def as_objective(target: object, *, needed: bool = True) -> Objective:
    """Read what users pass as ``target``.

    ``None`` (the output is one number per example), whole numbers and their lists, tuples, tensors and arrays as in
    Captum and NumPy, ``"predicted"``, ``"layer4:7"`` (mean of channel 7), ``"layer4:7,3,5"`` (unit at row 3, column 5;
    as many numbers as the layer has axes), ``"layer4:7:sum"`` and ``":max"`` (a `Channel` reduced so),
    ``"layer4:7:strongest"`` (a `Neuron` without a place), callables ``output -> (N,)`` and `Objective`; and a list of
    objectives or callables, one per example, each called with the output of its example, as pytorch-grad-cam does.

    Where no target is ``needed``, because nothing is made of it, None is taken for outputs of any shape.
    """
    if target is None:
        return Output() if needed else Custom(_everything)
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


def _everything(output: Any) -> Tensor:
    """The sum of the first Tensor of an output of any form, for each example: all that is asked leads there."""
    first = next((leaf for leaf in tree_leaves(output) if isinstance(leaf, Tensor)), None)
    if first is None:
        raise TargetError(f"the output must hold a tensor; got {type(output).__name__}.")
    return first.reshape(len(first), -1).sum(1)


def _from_text(text: str) -> Objective:
    if text == "predicted":
        return Predicted()
    unit = _UNIT.fullmatch(text)
    if unit is not None and not (unit["place"] and unit["how"]):
        channel, place = int(unit["channel"]), [int(n) for n in re.findall(r"\d+", unit["place"])]
        if place or unit["how"] == "strongest":
            return Neuron(unit["layer"], channel, place=place or None)
        return Channel(unit["layer"], channel, unit["how"] or "mean")  # type: ignore[arg-type]  # one of the words
    hint = f" For class {text} pass the number {text}, not a string." if text.strip().isdigit() else by_name(text)
    raise TargetError(
        "target as text must be 'predicted', 'layer:channel', 'layer:channel,y,x' or 'layer:channel:how' with mean, "
        f"sum, max or strongest; got {text!r}.{hint}"
    )
