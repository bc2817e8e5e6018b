"""Targets in every form that users have them, and what they mean for each image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from attrib.core import ClassScore, Clean, Objective, as_objective
from attrib.core.objectives.objective import Sum
from attrib.errors import InputError, TargetError, did_you_mean
from attrib.report.records import Asked
from attrib.tasks.subject import Network


@dataclass(frozen=True, eq=False)
class Question:
    """A target in words, and as an objective that is not bound yet."""

    words: str
    objective: Objective

    def told(self, network: Network, clean: Clean) -> tuple[Asked, ...]:
        """What the settled goal means for each of the images that went through the model."""
        return tuple(_asked(self.words, network, clean))


def questions(
    network: Network, n: int, target: object, targets: Sequence[object] | Mapping[str, object] | None = None
) -> list[Question]:
    """Read ``targets``, or ``target`` alone, for ``n`` images; class names are looked up in the network's."""
    if isinstance(targets, Mapping):
        named = {str(words): one for words, one in targets.items()}
    else:
        several = [target] if targets is None else list(targets)
        words = [_words(one) for one in several]
        if twice := sorted({word for word in words if words.count(word) > 1}):
            raise InputError(f"targets must be different; got {', '.join(twice)} twice. Label them with a mapping.")
        named = dict(zip(words, several, strict=True))
    if not named:
        raise InputError("targets must hold at least one target; got none.")
    return [Question(word, _objective(network, one, n)) for word, one in named.items()]


def _words(target: object) -> str:
    if isinstance(target, (str, int, tuple)):
        return str(target)
    if isinstance(target, (list, Tensor)) or hasattr(target, "__array__"):
        return "given"
    return str(getattr(target, "__name__", None) or type(target).__name__)


def _objective(network: Network, target: object, n: int) -> Objective:
    objective = _from_text(network, target) if isinstance(target, str) else as_objective(target)
    if bad := _entries(objective) - {1, n}:
        raise TargetError(f"target must have one entry, or one for each of {n} images; got {bad.pop()}.")
    return objective


def _from_text(network: Network, text: str) -> Objective:
    """The class of that name, or what else the text means."""
    if (index := network.class_index(text)) is not None:
        return as_objective(index)
    if network.names and text != "predicted" and ":" not in text:
        raise TargetError(
            f"target as text must be 'predicted', 'layer:channel' or one of {len(network.names)} names of classes; got "
            f"{text!r}.{did_you_mean(text, network.names)}"
        )
    return as_objective(text)


def _entries(objective: Objective) -> set[int]:
    """How many examples the objective itself speaks of."""
    if isinstance(objective, Sum):
        return set().union(*map(_entries, objective.parts))
    return {objective.entries}


def _asked(words: str, network: Network, clean: Clean) -> list[Asked]:
    goal, chances = clean.goal, _probabilities(clean)
    rows = goal.index.tolist() if isinstance(goal, ClassScore) and isinstance(goal.index, Tensor) else None
    found = []
    for n, score in enumerate(clean.score.tolist()):
        index = None if rows is None else tuple(rows[n]) if len(rows[n]) > 1 else int(rows[n][0])
        name = network.label(index) if isinstance(index, int) else words
        found.append(Asked(words, index, name, score, None if chances is None else chances[n]))
    return found


def _probabilities(clean: Clean) -> list[float] | None:
    if not isinstance(clean.goal, ClassScore):
        return None
    with torch.no_grad():
        chance: list[float] = clean.goal.in_space("probability")(clean.output, clean.acts).double().tolist()
    return chance
