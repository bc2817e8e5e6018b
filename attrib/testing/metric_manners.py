"""The promises of metrics about what is undefined, what is left behind, and what is refused in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from attrib.testing.bench import causes, demand, listed, refused
from attrib.testing.manners import UNUSUAL, bad_targets
from attrib.testing.metric_bench import MetricBench, same
from attrib.testing.metric_promises import promise
from attrib.testing.probes import Fuse, in_use, seeded
from attrib.testing.traces import ModelTrace, ProcessTrace, TensorTrace


def _masks(bench: MetricBench) -> bool:
    return "masks" in bench.needs


def _runs(bench: MetricBench) -> bool:
    return bench.runs


def _reads_maps_only(bench: MetricBench) -> bool:
    return "method" not in bench.needs


def _alone_undefined(found: Tensor, plain: Tensor, row: int, what: str) -> None:
    found = found.detach()
    demand(bool(found[row].isnan()), f"{what} has {float(found[row])}; must be NaN, it says nothing")
    others = [i for i in range(len(plain)) if i != row]
    demand(same(found[others], plain[others]), f"{what} of example {row} changes the numbers of others")


@promise("a map that is not finite is undefined, and it alone")
def _broken_map(bench: MetricBench) -> None:
    plain = bench.score()
    for value in (float("nan"), float("inf"), -float("inf")):
        maps = bench.maps.clone()
        maps[1, 0, 2, 3] = value
        _alone_undefined(bench.score(maps=maps), plain, 1, f"a map with {value}")


@promise("an empty mask is undefined, and it alone", _masks)
def _empty_mask(bench: MetricBench) -> None:
    masks = bench.masks.clone()
    masks[1] = False
    _alone_undefined(bench.score(masks=masks), bench.score(), 1, "an empty mask")


@promise("constant and zero maps are measured or undefined")
def _flat(bench: MetricBench) -> None:
    for value in (0.0, 1.0, -0.3):
        found = bench.score(maps=torch.full_like(bench.maps, value))
        demand(found.shape == (len(bench.x),), f"shape {tuple(found.shape)} for maps of {value} everywhere")
        demand(not bool(found.isinf().any()), f"{found.tolist()} for maps of {value} everywhere; NaN says undefined")


@promise("maps of a layer and of several channels", _reads_maps_only)
def _layers(bench: MetricBench) -> None:
    source = torch.Generator().manual_seed(4)
    for shape in ((1, 3, 2), (3, *bench.x.shape[2:]), (2, 6, 5)):
        maps = torch.rand(len(bench.x), *shape, generator=source).to(bench.maps)
        found = bench.score(maps=maps)
        demand(found.shape == (len(bench.x),), f"shape {tuple(found.shape)} for maps of shape {tuple(maps.shape)}")


@promise("data untouched")
def _data_untouched(bench: MetricBench) -> None:
    data: dict[str, Any] = {"x": bench.x.clone(), "maps": bench.maps.clone(), "masks": bench.masks.clone()}
    traces = {name: TensorTrace(one) for name, one in data.items()}
    bench.score(**data)
    for name, trace in traces.items():
        demand(not trace.changes(), f"of the caller's {name}: {listed(trace.changes())}")


@promise("model untouched")
def _model_untouched(bench: MetricBench) -> None:
    model = in_use(bench.fresh())
    trace = ModelTrace(model)
    bench.score(model=model)
    demand(not trace.changes(), listed(trace.changes()))


@promise("global state untouched")
def _process_untouched(bench: MetricBench) -> None:
    with seeded(UNUSUAL):
        trace = ProcessTrace()
        bench.score()
        demand(not trace.changes(), listed(trace.changes()))


@promise("nothing left after errors", _runs)
def _errors(bench: MetricBench) -> None:
    with Fuse().inside(model := bench.fresh()) as whole:
        bench.score(model=model, batch_size=2)
    total = whole.calls
    demand(total > 0, "it needs the model or the method and never ran the model")
    for blow_at in sorted({1, total // 2, total} & set(range(1, total + 1))):
        for error in (RuntimeError, KeyboardInterrupt):
            _survive(bench, Fuse(blow_at, error))


def _survive(bench: MetricBench, fuse: Fuse) -> None:
    model = in_use(bench.fresh())
    place = f"a {fuse.error.__name__} at module call {fuse.blow_at}"
    with fuse.inside(model), seeded(UNUSUAL):
        traces = (ModelTrace(model), ProcessTrace())
        try:
            bench.score(model=model, batch_size=2)
        except BaseException as exc:  # a Ctrl-C is one of the errors that are injected
            demand(fuse.blown in list(causes(exc)), f"after {place} it raised {exc!r} without naming the cause")
        else:
            demand(fuse.blown is None, f"{place} was swallowed")
        changes = [change for trace in traces for change in trace.changes()]
    demand(not changes, f"after {place}: {listed(changes)}")


@promise("bad maps refused")
def _maps_refused(bench: MetricBench) -> None:
    bad: Mapping[str, Any] = {
        "too few maps": bench.maps[:-1],
        "maps without a channel axis": bench.maps[:, 0],
        "a list of maps": bench.maps.tolist(),
        "complex maps": bench.maps.to(torch.complex64),
    }
    for what, maps in bad.items():
        refused(lambda maps=maps: bench.score(maps=maps), what, "maps")  # type: ignore[misc]


@promise("bad masks refused", _masks)
def _masks_refused(bench: MetricBench) -> None:
    bad: Mapping[str, Any] = {
        "too few masks": bench.masks[:-1],
        "masks of another size": bench.masks[:, :-1],
        "masks of floats": bench.masks.float(),
        "a list of masks": bench.masks.tolist(),
    }
    for what, masks in bad.items():
        refused(lambda masks=masks: bench.score(masks=masks), what, "masks")  # type: ignore[misc]


@promise("bad inputs refused", _runs)
def _inputs_refused(bench: MetricBench) -> None:
    hole = bench.x.clone()
    hole.view(-1)[0] = float("nan")
    for what, x in {"a NaN": hole, "whole numbers": bench.x.int(), "a list": [1.0]}.items():
        refused(lambda x=x: bench.score(x=x), what, "inputs")  # type: ignore[misc]


@promise("bad targets refused", _runs)
def _targets_refused(bench: MetricBench) -> None:
    for bad in bad_targets(len(bench.x)):
        if bad is not None:
            refused(lambda bad=bad: bench.score(target=bad), f"target {bad!r}", "target")  # type: ignore[misc]


@promise("unknown protocols and options refused")
def _options_refused(bench: MetricBench) -> None:
    refused(lambda: bench.score("no such protocol"), "an unknown protocol", "protocol")
    refused(lambda: bench.score(no_such_option=1), "an unknown option", "no_such_option", TypeError)
