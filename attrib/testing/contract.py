"""Run a method through every promise that `Attribution` makes."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, nn

from attrib.core import frozen
from attrib.errors import InputError
from attrib.testing import manners  # noqa: F401  adds its promises to the table
from attrib.testing.bench import Bench, Broken, Factory
from attrib.testing.probes import ProbeNet, probe_inputs
from attrib.testing.promises import PROMISES

T = TypeVar("T")


@dataclass(frozen=True)
class Check:
    """Outcome of one check; unpacks as ``name, ok``.

    Attributes:
        name: what was promised.
        ok: whether it holds.
        message: if not, how that showed.
    """

    name: str
    ok: bool
    message: str = ""

    def __iter__(self) -> Iterator[str | bool]:
        return iter((self.name, self.ok))


def check_attribution(
    method: Factory,
    layer: str | None = None,
    *,
    model: nn.Module | None = None,
    inputs: Tensor | None = None,
    device: str | torch.device = "cpu",
) -> Iterator[Check]:
    """Try whether ``method`` keeps the promises of `Attribution`, one after the other.

    Args:
        method: an `Attribution` class, or a function that makes one from a model.
        layer: passed to each call of ``attribute``; the probe network has ``"stem"`` and ``"conv"``.
        model: a classifier to use instead of the probe network, for methods made for other architectures. Then the
            checks that need other sizes and channels are left out.
        inputs: at least two examples that ``model`` classifies, needed together with it. Each is explained for its
            likeliest class that no other has.
        device: where to run.

    Yields:
        One `Check` per promise.

    Example:
        >>> from attrib import Saliency
        >>> [name for name, ok in check_attribution(Saliency) if not ok]
        []
    """
    bench = _bench(method, layer, model, inputs, device)
    for promise in PROMISES:
        if promise.any_model or model is None:
            yield outcome(promise.name, promise.check, bench)


def assert_attribution(
    method: Factory,
    layer: str | None = None,
    *,
    model: nn.Module | None = None,
    inputs: Tensor | None = None,
    device: str | torch.device = "cpu",
) -> None:
    """Raise `AssertionError` with every promise that ``method`` breaks; the arguments are `check_attribution`'s.

    Example:
        >>> from attrib import GradCAM
        >>> assert_attribution(GradCAM, "conv")
    """
    checks = list(check_attribution(method, layer, model=model, inputs=inputs, device=device))
    raise_for(getattr(method, "__name__", repr(method)), checks)


def raise_for(name: str, checks: Sequence[Check]) -> None:
    """Raise `AssertionError` if any of ``checks``, of what is called ``name``, failed."""
    failed = [check for check in checks if not check.ok]
    if failed:
        lines = "".join(f"\n- {check.name}: {check.message}" for check in failed)
        raise AssertionError(f"{name} breaks {len(failed)} of {len(checks)} promises:{lines}")


def _bench(
    method: Factory, layer: str | None, model: nn.Module | None, inputs: Tensor | None, device: str | torch.device
) -> Bench:
    if (model is None) != (inputs is None):
        raise InputError("model and inputs must be given both or neither; got one of them.")
    x = (probe_inputs() if inputs is None else inputs).to(device)
    net = (ProbeNet() if model is None else copy.deepcopy(model)).to(device)
    with torch.no_grad(), frozen(net):
        scores = net(x)
    return Bench(method, layer, net, x, tuple(_classes(scores)))


def _classes(scores: Tensor) -> list[int]:
    """The likeliest class of each example that no other has: rectified evidence for an unlikely one may be nothing."""
    taken: list[int] = []
    for ranked in scores.argsort(dim=1, descending=True).tolist():
        taken.append(next((c for c in ranked if c not in taken), ranked[0]))
    return taken


def outcome(name: str, check: Callable[[T], None], bench: T) -> Check:
    """Run one check, and say what came out."""
    try:
        check(bench)
    except Broken as broken:
        return Check(name, False, str(broken))
    except Exception as exc:  # whatever a plug-in raises is a finding about it
        return Check(name, False, f"it raised {type(exc).__name__}: {exc}")
    return Check(name, True)
