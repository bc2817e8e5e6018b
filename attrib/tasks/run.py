"""Run methods on inputs: what is asked is settled once, what fails is noted, what it takes is measured."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeAlias, TypeVar

from torch import Tensor

from attrib.core.attribution import Attribution
from attrib.core.network.layers import resolve, unwrap
from attrib.core.objectives.objective import Objective
from attrib.errors import InputError
from attrib.registry import METHODS
from attrib.report.facts import method_facts
from attrib.report.records import Failure, Spent
from attrib.tasks.measure import measured
from attrib.tasks.subject import Network

Method: TypeAlias = "str | Attribution | Callable[..., Attribution]"
Methods: TypeAlias = "Method | Sequence[Method] | Mapping[str, Method]"
T = TypeVar("T")

log = logging.getLogger("attrib")


@dataclass
class Failures:
    """What went wrong so far; the first exception is kept for the case that nothing went right."""

    found: list[Failure] = field(default_factory=list)
    first: Exception | None = None

    def attempt(
        self,
        work: Callable[[], T],
        *,
        image: str | None = None,
        method: str | None = None,
        target: str | None = None,
        metric: str | None = None,
    ) -> T | None:
        """Return what ``work`` gives, or note its exception and return None. Ctrl-C is not caught."""
        try:
            return work()
        except Exception as exc:  # a plug-in may raise anything; the other maps are still worth having
            failure = Failure(image, method, target, type(exc).__name__, str(exc), metric)
            log.warning("%s", failure)
            log.debug("details", exc_info=exc)
            self.found.append(failure)
            self.first = self.first or exc
            return None


@dataclass
class Runner:
    """One method, ready to run.

    Attributes:
        label: its name in tables.
        method: the instance.
        layer: where it looks: None is the inputs; ``"auto"`` until the first batch.
    """

    label: str
    method: Attribution
    layer: str | None

    def run(self, x: Tensor, goal: Objective, extra: tuple[Any, ...] = ()) -> tuple[Tensor, Spent]:
        """Maps ``(N, 1, h, w)`` on the CPU, and what they took."""
        with measured(x.device) as meter:
            maps = self.method.attribute(x, goal, self.layer, additional_forward_args=extra)
        return maps.cpu(), meter.spent

    @property
    def facts(self) -> dict[str, Any]:
        """What the manifest says about the method."""
        return method_facts(self.method) | {"layer": self.layer}


def runners(methods: Methods, network: Network, layer: object = None) -> list[Runner]:
    """Make every method of ``methods``.

    Args:
        methods: registry names, classes, instances or functions of the model, one or several, or labels to these.
        network: the model.
        layer: where the methods that need a layer look, unless they were made with one; None is ``"auto"``.
    """
    address = "auto" if layer is None or layer == "auto" else resolve(network.model, layer)  # type: ignore[arg-type]
    made = [(label, _made(label, method, network)) for label, method in _labelled(methods).items()]
    if layer is not None and not any(method.needs_layer and method.layer is None for _, method in made):
        raise InputError(
            f"layer must be for a method that needs one; got {layer!r}, and {', '.join(label for label, _ in made)} "
            "explain the inputs or have a layer of their own. Make the method with it: Saliency(model, layer)."
        )
    return [Runner(label, method, method.layer or (address if method.needs_layer else None)) for label, method in made]


def _labelled(methods: Methods) -> dict[str, Method]:
    if isinstance(methods, Mapping):
        found = {str(label): method for label, method in methods.items()}
    else:
        items = [methods] if isinstance(methods, (str, Attribution)) or callable(methods) else list(methods)
        labels = [_label(item) for item in items]
        if twice := sorted({label for label in labels if labels.count(label) > 1}):
            raise InputError(
                f"methods must have different names; got {', '.join(map(repr, twice))} twice. "
                "Pass a mapping of labels to methods."
            )
        found = dict(zip(labels, items, strict=True))
    if not found:
        raise InputError(f"methods must hold at least one of {', '.join(METHODS)}; got none.")
    return found


def _label(method: Method) -> str:
    if isinstance(method, str):
        return method
    maker = method.func if isinstance(method, partial) else method
    return str(getattr(maker, "name", None) or getattr(maker, "__name__", None) or type(maker).__name__)


def _made(label: str, method: Method, network: Network) -> Attribution:
    maker: Any = METHODS[method] if isinstance(method, str) else method
    made: object = maker if isinstance(maker, Attribution) or not callable(maker) else maker(network.model)
    if not isinstance(made, Attribution):
        raise InputError(
            f"method {label!r} must be a registry name, an Attribution or a function of the model that makes one; "
            f"got {type(made).__name__}."
        )
    if unwrap(made.model) is not network.model:
        raise InputError(
            f"method {label!r} must be made with the model that is explained; it holds another "
            f"{type(made.model).__name__}. Pass its class, or a function of the model."
        )
    return made
