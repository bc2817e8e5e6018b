"""The promises about a metric's numbers, and the table of all promises of metrics."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from attrib.metrics import Protocol
from attrib.testing.bench import demand
from attrib.testing.metric_bench import MetricBench, known, same
from attrib.testing.probes import ProbeNet, probe_inputs, seeded

Check = Callable[[MetricBench], None]
Applies = Callable[[MetricBench], bool]
KNOWN_NEEDS = ("model", "masks", "method")
_ROUNDING = 1e-6


@dataclass(frozen=True)
class MetricPromise:
    """A check that raises `Broken`, and for which metrics there is something to check."""

    name: str
    check: Check
    applies: Applies


METRIC_PROMISES: list[MetricPromise] = []


def promise(name: str, applies: Applies = lambda _: True) -> Callable[[Check], Check]:
    """Add a check to the table."""

    def add(check: Check) -> Check:
        METRIC_PROMISES.append(MetricPromise(name, check, applies))
        return check

    return add


@promise("declares what it is")
def _declared(bench: MetricBench) -> None:
    metric = bench.metric()
    for name in ("higher_is_better", "descriptor"):
        demand(isinstance(getattr(metric, name, None), bool), f"{name} must be True or False")
    span = getattr(metric, "range", None)
    two = isinstance(span, tuple) and len(span) == 2
    demand(two and span[0] < span[1], f"range must be its lowest and highest value; got {span!r}")  # type: ignore[index]
    demand(isinstance(metric.needs, tuple), f"needs must be a tuple of names; got {metric.needs!r}")
    odd = sorted(set(metric.needs) - set(KNOWN_NEEDS))
    demand(not odd, f"it needs {', '.join(odd)}, which nobody hands over; known are {', '.join(KNOWN_NEEDS)}")


@promise("every option has a default and a line of documentation")
def _options(bench: MetricBench) -> None:
    kind = type(bench.metric())
    told = "\n".join(inspect.getdoc(one) or "" for one in kind.__mro__)
    for name, parameter in inspect.signature(kind).parameters.items():
        demand(parameter.kind is parameter.KEYWORD_ONLY, f"{name} of its constructor is not keyword-only")
        demand(parameter.default is not parameter.empty, f"{name} of its constructor has no default")
        demand(re.search(rf"^ +{name}: ", told, re.MULTILINE) is not None, f"{name} is not documented under Args")


def _numbers(found: object, n: int) -> None:
    demand(isinstance(found, Tensor), f"a {type(found).__name__}, not a Tensor")
    assert isinstance(found, Tensor)  # noqa: S101  for the type checker; `demand` has raised
    demand(tuple(found.shape) == (n,), f"shape {tuple(found.shape)} for {n} examples; must be ({n},)")
    demand(found.is_floating_point(), f"dtype {found.dtype}; must be floating point, so that NaN can be told")
    demand(not found.requires_grad, "the numbers are attached to the graph: call .detach()")


@promise("one number for each example")
def _shape(bench: MetricBench) -> None:
    _numbers(bench.score(), len(bench.x))
    _numbers(bench.rows(torch.tensor([1])).score(), 1)


@promise("tall and wide inputs, of one channel too")
def _sizes(bench: MetricBench) -> None:
    for channels, height, width in ((3, 16, 8), (1, 8, 16)):
        x = probe_inputs(channels, height, width).to(bench.x)
        _numbers(MetricBench.made(bench.metric, ProbeNet(channels).to(x), x, bench.method).score(), len(x))


@promise("float64")
def _float64(bench: MetricBench) -> None:
    double = MetricBench.made(bench.metric, bench.fresh().double(), bench.x.double(), bench.method)
    _numbers(double.score(), len(bench.x))


def _tried(bench: MetricBench) -> tuple[MetricBench, ...]:
    """Also a network whose right maps are known, for metrics that take maps of no method."""
    return (bench,) if "method" in bench.needs else (bench, known(bench.metric, bench.x.device))


@promise("within its range")
def _in_range(bench: MetricBench) -> None:
    low, high = bench.metric().range
    slack = _ROUNDING * max(1.0, *(abs(end) for end in (low, high) if end not in (float("inf"), -float("inf"))), 1.0)
    for one in _tried(bench):
        found = one.score()
        outside = found[(found < low - slack) | (found > high + slack)]
        demand(not len(outside), f"{outside.tolist()} outside of its range [{low}, {high}]")


@promise("defined for ordinary maps")
def _defined(bench: MetricBench) -> None:
    found = _tried(bench)[-1].score()
    demand(bool(found.isfinite().all()), f"{found.tolist()} for maps of which nothing is unusual")


@promise("the maps matter")
def _maps_matter(bench: MetricBench) -> None:
    for one in _tried(bench):
        plain = one.score()
        noise = torch.rand(one.maps.shape, generator=torch.Generator().manual_seed(3)).to(one.maps)
        if not all(same(one.score(maps=maps), plain) for maps in (noise, noise**9, one.maps.flip(2), -one.maps)):
            return
    demand(False, "four other sets of maps score the same")


def _has_an_answer(bench: MetricBench) -> bool:
    """Masks and scores tell which map is right; other metrics have no best map."""
    return bool({"model", "masks"} & set(bench.needs)) and "method" not in bench.needs and not bench.metric().descriptor


@promise("the right map is better", _has_an_answer)
def _direction(bench: MetricBench) -> None:
    """Against its negative, or, for metrics that are blind to the sign, against one that is mirrored."""
    one = known(bench.metric, bench.x.device)
    sign = 1 if bench.metric().higher_is_better else -1
    right, negative = one.score(), one.score(maps=-one.maps)
    wrong = one.score(maps=one.maps.flip(2).roll(2, 2)) if same(right, negative) else negative
    better = sign * (right - wrong) > 0
    demand(bool(better.all()), f"{right.tolist()} for the right maps, {wrong.tolist()} for wrong ones")


@promise("repeatable")
def _repeatable(bench: MetricBench) -> None:
    with seeded(1):
        first = bench.score()
    with seeded(2):
        second = bench.score()
    demand(same(first, second), "another global random state gives other numbers: take a seed, use a local generator")


@promise("each example on its own")
def _rows(bench: MetricBench) -> None:
    together = bench.score()
    for i in range(len(bench.x)):
        alone = bench.rows(torch.tensor([i])).score()
        demand(
            same(alone, together[i : i + 1]), f"example {i} has {alone.tolist()} alone, {together.tolist()} together"
        )


@promise("order of the batch")
def _order(bench: MetricBench) -> None:
    turned = bench.rows(torch.arange(len(bench.x)).flip(0)).score()
    demand(same(turned.flip(0), bench.score()), "the same examples in reverse order have other numbers")


@promise("the batch size changes nothing")
def _batch_size(bench: MetricBench) -> None:
    plain = bench.score()
    for size in (1, 2, "auto"):
        found = bench.score(batch_size=size)
        demand(same(found, plain), f"batch_size={size!r} gives {found.tolist()}, not {plain.tolist()}")


@promise("forms of the protocol")
def _protocol(bench: MetricBench) -> None:
    plain = bench.score("default")
    for form in (Protocol(), Protocol().to_dict()):
        demand(same(bench.score(form), plain), f"a protocol given as {type(form).__name__} gives other numbers")


@promise("measured in evaluation mode", lambda bench: bench.runs)
def _evaluation(bench: MetricBench) -> None:
    found = bench.score(model=bench.fresh().train())
    demand(same(found, bench.score()), "in training mode the numbers are others: Dropout or BatchNorm was active")


@promise("works under no_grad")
def _no_grad(bench: MetricBench) -> None:
    with torch.no_grad():
        found = bench.score()
    demand(same(found, bench.score()), "the numbers are others under torch.no_grad()")
