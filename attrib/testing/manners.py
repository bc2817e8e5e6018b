"""The promises about everything else: nothing is left behind, and misuse is refused in words."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from attrib.testing.bench import Bench, agree, causes, demand, listed, refused
from attrib.testing.probes import Fuse, in_use, seeded
from attrib.testing.promises import promise
from attrib.testing.traces import ModelTrace, ProcessTrace, TensorTrace

UNUSUAL = 1_618_033  # a method that sets a seed of its own must not hit the state that it finds


@promise("input untouched")
def _input_untouched(bench: Bench) -> None:
    learnt = bench.x.clone().requires_grad_(True)
    learnt.grad = torch.ones_like(learnt)
    for x in (bench.x.clone(), learnt):
        trace = TensorTrace(x)
        bench.explain(x)
        demand(not trace.changes(), f"of the caller's input: {listed(trace.changes())}")


@promise("a model that writes into its input")
def _scribbling(bench: Bench) -> None:
    x, model = bench.x.clone(), bench.fresh()
    handle = model.register_forward_pre_hook(_double)
    trace = TensorTrace(x)
    maps = bench.explain(x, model=model)
    demand(not trace.changes(), f"it got the caller's input, not a copy: {listed(trace.changes())}")
    handle.remove()
    model.register_forward_pre_hook(lambda _, args: (2 * args[0], *args[1:]))
    demand(agree(maps, bench.explain(model=model)), "the map is another than of a model that copies its input first")


def _double(_module: nn.Module, args: tuple[Tensor, ...]) -> None:
    args[0].mul_(2)


@promise("model untouched")
def _model_untouched(bench: Bench) -> None:
    model = in_use(bench.fresh())
    trace = ModelTrace(model)
    bench.explain(model=model)
    demand(not trace.changes(), listed(trace.changes()))


@promise("global state untouched")
def _process_untouched(bench: Bench) -> None:
    with seeded(UNUSUAL):
        trace = ProcessTrace()
        bench.explain()
        demand(not trace.changes(), listed(trace.changes()))


@promise("nothing left after errors")
def _errors(bench: Bench) -> None:
    with Fuse().inside(model := bench.fresh()) as whole:
        bench.explain(model=model)
    total = whole.calls
    demand(total > 0, "the model was never run")
    for blow_at in sorted({1, 2, 3, total // 2, total - 1, total} & set(range(1, total + 1))):
        for error in (RuntimeError, KeyError, KeyboardInterrupt):
            _survive(bench, Fuse(blow_at, error))


def _survive(bench: Bench, fuse: Fuse) -> None:
    model, x = in_use(bench.fresh()), bench.x.clone()
    place = f"a {fuse.error.__name__} at module call {fuse.blow_at}"
    with fuse.inside(model), seeded(UNUSUAL):
        traces = (ModelTrace(model), TensorTrace(x), ProcessTrace())
        try:
            bench.explain(x, model=model)
        except BaseException as exc:  # a Ctrl-C is one of the errors that are injected
            demand(fuse.blown in list(causes(exc)), f"after {place} it raised {exc!r} without naming the cause")
        else:
            demand(False, f"{place} was swallowed")
        changes = [change for trace in traces for change in trace.changes()]
    demand(not changes, f"after {place}: {listed(changes)}")


def bad_targets(n: int) -> Iterator[object]:
    """Targets that no classifier has for ``n`` examples."""
    yield from (10**9, -1, None, "nonsense", True, 1.5, [], [0] * (n + 1), [True] * n, [0.5] * n)
    yield from (torch.full((n,), 0.5), np.full(n, 0.5), torch.zeros(n + 1, dtype=torch.long), np.zeros(n, dtype=bool))


@promise("bad targets refused")
def _targetsrefused(bench: Bench) -> None:
    method = bench.method(bench.fresh())
    for bad in bad_targets(len(bench.x)):
        if bad is None and not bench.uses_target:
            continue  # none is needed
        refused(lambda bad=bad: method.attribute(bench.x, target=bad, **bench.call), f"target {bad!r}", "target")  # type: ignore[misc]


@promise("bad inputs refused")
def _inputsrefused(bench: Bench) -> None:
    hole = bench.x.clone()
    hole.view(-1)[0] = float("nan")
    bad: dict[str, Any] = {
        "a NaN": hole,
        "whole numbers": bench.x.int(),
        "an empty batch": bench.x[:0],
        "a list": [1.0],
    }
    for what, x in bad.items():
        refused(lambda x=x: bench.explain(x), what, "inputs")  # type: ignore[misc]


@promise("unknown layer refused")
def _layerrefused(bench: Bench) -> None:
    method, target = bench.method(bench.fresh()), list(bench.targets)
    run = lambda: method.attribute(bench.x, target=target, layer="nowhere")  # noqa: E731
    refused(run, "layer 'nowhere'", "nowhere", LookupError)


@promise("inference_mode refused in words")
def _inference_mode(bench: Bench) -> None:
    model, x = bench.fresh(), bench.x.clone()  # made before, as users do
    with torch.inference_mode():
        refused(lambda: bench.explain(x, model=model), "torch.inference_mode()", "inference_mode", RuntimeError)
