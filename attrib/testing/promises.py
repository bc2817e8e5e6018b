"""The promises about the result, and the table of all promises."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from captum.attr import Attribution as CaptumAttribution
from captum.attr import NoiseTunnel
from captum.metrics import sensitivity_max
from torch import Tensor

from attrib.testing.bench import Bench, agree, demand
from attrib.testing.probes import ProbeNet, probe_inputs, seeded

Check = Callable[[Bench], None]


@dataclass(frozen=True)
class Promise:
    """A check that raises `Broken`; ``any_model`` is False where it needs the probe network, which takes all sizes."""

    name: str
    check: Check
    any_model: bool = True


PROMISES: list[Promise] = []


def promise(name: str, any_model: bool = True) -> Callable[[Check], Check]:
    """Add a check to the table."""

    def add(check: Check) -> Check:
        PROMISES.append(Promise(name, check, any_model))
        return check

    return add


def _right_shape(bench: Bench, x: Tensor) -> None:
    maps, allowed = bench.explain(x), bench.shapes(x)
    demand(
        maps.ndim == 4 and len(maps) == len(x) and tuple(maps.shape[1:]) in allowed,
        f"maps of shape {tuple(maps.shape)} for inputs {tuple(x.shape)}; one example's may be {sorted(allowed)}",
    )


@promise("shape")
def _shape(bench: Bench) -> None:
    _right_shape(bench, bench.x)


@promise("tall and wide inputs", any_model=False)
def _tall_and_wide(bench: Bench) -> None:
    for height, width in ((16, 8), (8, 16)):
        _right_shape(bench, probe_inputs(3, height, width).to(bench.x))


@promise("inputs of one channel", any_model=False)
def _one_channel(bench: Bench) -> None:
    x = probe_inputs(1).to(bench.x)
    _right_shape(replace(bench, model=ProbeNet(1).to(x)), x)


@promise("dtype and detached")
def _dtype(bench: Bench) -> None:
    maps = bench.explain()
    demand(maps.dtype == bench.x.dtype, f"dtype {maps.dtype} for inputs of {bench.x.dtype}")
    demand(maps.device == bench.x.device, f"maps on {maps.device} for inputs on {bench.x.device}")
    demand(not maps.requires_grad, "the maps are attached to the graph: call .detach()")


@promise("float64")
def _float64(bench: Bench) -> None:
    maps = bench.explain(bench.x.double(), model=bench.fresh().double())
    demand(maps.dtype == torch.float64, f"dtype {maps.dtype} for inputs and a model of float64")


@promise("finite")
def _finite(bench: Bench) -> None:
    wrong = int((~torch.isfinite(bench.explain())).sum())
    demand(wrong == 0, f"{wrong} values are NaN or infinite")


@promise("not constant")
def _not_constant(bench: Bench) -> None:
    flat = [row for row, m in enumerate(bench.explain().detach()) if float(m.amax()) == float(m.amin())]
    demand(not flat, f"the maps of examples {flat} have one value everywhere")


@promise("repeatable")
def _repeatable(bench: Bench) -> None:
    with seeded(1):
        first = bench.explain()
    with seeded(2):
        second = bench.explain()
    demand(agree(first, second), "another global random state gives another map: take a seed, use a local generator")


@promise("explained in evaluation mode")
def _evaluation(bench: Bench) -> None:
    maps = bench.explain(model=bench.fresh().train())
    demand(agree(maps, bench.explain()), "in training mode the map is another: Dropout or BatchNorm was active")


@promise("each example on its own")
def _rows(bench: Bench) -> None:
    together = bench.explain()
    alone = [bench.explain(bench.x[i : i + 1].clone(), target) for i, target in enumerate(bench.targets)]
    wrong = [i for i, maps in enumerate(alone) if not agree(maps, together[i : i + 1])]
    demand(not wrong, f"examples {wrong} get another map in a batch than alone with the same target")


@promise("order of the batch")
def _order(bench: Bench) -> None:
    flipped = bench.explain(bench.x.flip(0), list(bench.targets[::-1]))
    demand(agree(flipped.flip(0), bench.explain()), "the same examples in reverse order get other maps")


@promise("target matters")
def _target(bench: Bench) -> None:
    one, other = (bench.explain(target=target) for target in bench.targets[:2])
    same = [row for row in range(len(one)) if agree(one[row], other[row])]
    classes = f"classes {bench.targets[0]} and {bench.targets[1]}"
    if bench.uses_target:
        demand(not same, f"examples {same} get the same map for {classes}")
    else:
        demand(len(same) == len(one), f"it says uses_target = False, but gives other maps for {classes}")


@promise("forms of the target")
def _forms(bench: Bench) -> None:
    one, each = bench.targets[0], list(bench.targets)
    forms: tuple[tuple[object, tuple[object, ...]], ...] = (
        (one, (np.int64(one), torch.tensor(one), [one] * len(each))),
        (each, (torch.tensor(each), torch.tensor(each)[:, None], np.array(each), np.array(each, np.int32))),
    )
    for plain, others in forms:
        maps = bench.explain(target=plain)
        for other in others:
            demand(agree(bench.explain(target=other), maps), f"target {other!r} gives another map than {plain!r}")


@promise("works under no_grad")
def _no_grad(bench: Bench) -> None:
    with torch.no_grad():
        maps = bench.explain()
    demand(agree(maps, bench.explain()), "the map is another under torch.no_grad()")


@promise("tuple in, tuple out")
def _tuples(bench: Bench) -> None:
    maps: Any = bench.explain((bench.x,))  # type: ignore[arg-type]
    demand(isinstance(maps, tuple) and len(maps) == 1, f"a {type(maps).__name__} for a tuple of one Tensor")
    demand(agree(maps[0], bench.explain()), "the map is another for a tuple of one Tensor")


@promise("captum can wrap it")
def _captum(bench: Bench) -> None:
    method = bench.method(bench.fresh())
    demand(isinstance(method, CaptumAttribution), "it is no captum.attr.Attribution")
    call = {"target": torch.tensor(bench.targets, device=bench.x.device), **bench.call}
    tunnel, plain = NoiseTunnel(method), bench.explain()
    with seeded(3):
        silent = tunnel.attribute(bench.x, nt_type="smoothgrad", nt_samples=2, stdevs=0.0, **call)
        demand(agree(silent, plain), "NoiseTunnel without noise gives another map")
        for kind in ("smoothgrad", "vargrad"):
            noisy = tunnel.attribute(bench.x, nt_type=kind, nt_samples=2, stdevs=0.1, **call)
            demand(bool(torch.isfinite(noisy).all()), f"NoiseTunnel's {kind} is not finite")
        # sensitivity_max copies its keyword arguments deeply and always asks with a tuple
        moved = sensitivity_max(method.attribute, bench.x, n_perturb_samples=2, perturb_radius=0.0, **call)
    demand(float(moved.abs().max()) < 1e-3, f"sensitivity_max is {moved.tolist()} without any perturbation")
