"""Steps per second of the loop that makes images, beside lucent's and beside bare passes."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, cast

import torch
from torch import nn

from attrib.core import frozen
from attrib.core.synth import synthesize
from attrib.io import LoadedModel
from attrib.synthesis import RECIPES
from attrib.synthesis.subject import Subject
from benchmarks import measure

STEPS = 16  # of one timed call
SIDE = 224
# An output and an early channel, as attrib and lucent name them.
TASKS: dict[str, Sequence[tuple[str, int | str, str]]] = {
    "resnet18": (("class", 130, "fc:130"), ("early", "layer1:5", "layer1:5")),
    "squeezenet1_0": (("class", 130, "classifier:130"), ("early", "features.4:5", "features_4:5")),
    "mobilenet_v2": (("class", 130, "classifier_1:130"), ("early", "features.4:5", "features_4:5")),
}
OURS, PLAIN, LUCENT, SAME, BARE = "attrib natural", "attrib pixels", "lucent", "lucent at 224", "bare passes"


def bare(model: nn.Module, unit: int | str) -> None:
    """A whole forward pass and the gradient of the unit, without anything else."""
    seen: list[torch.Tensor] = []
    layer = model if isinstance(unit, int) else model.get_submodule(unit.split(":")[0])
    channel = unit if isinstance(unit, int) else int(unit.split(":")[1])
    handle = layer.register_forward_hook(lambda *args: seen.append(args[2]))
    try:
        for _ in range(STEPS):
            x = torch.zeros(1, 3, SIDE, SIDE, requires_grad=True)
            seen.clear()
            model(x)
            torch.autograd.grad(seen[-1][:, channel].mean(), x)
    finally:
        handle.remove()


def ours(net: LoadedModel, unit: int | str, recipe: str) -> None:
    """Our loop, with the setting that the recipe names."""
    subject = Subject.of(net, None)
    search = RECIPES[recipe].searching(subject.space, {"steps": STEPS})
    synthesize(subject.model, unit, torch.zeros(1, 3, SIDE, SIDE), search)


def lucents(model: nn.Module, unit: str, side: int) -> None:
    """What lucent does as its examples call it: Fourier parameters, its standard transforms, Adam."""
    from lucent.optvis import param, render

    how = {"thresholds": (STEPS,), "progress": False, "show_image": False}
    render.render_vis(model, unit, lambda: param.image(side), **how)


def calls(net: LoadedModel, unit: int | str, named: str) -> dict[str, Callable[[], None]]:
    """All contenders; lucent where it is installed."""
    model = cast("nn.Module", net.model)
    found: dict[str, Callable[[], None]] = {
        OURS: partial(ours, net, unit, "natural"),
        PLAIN: partial(ours, net, unit, "simonyan"),
        BARE: partial(bare, model, unit),
    }
    if importlib.util.find_spec("lucent") is not None:
        # It pads by 12 pixels on each side, and enlarges what is smaller than 224 after its transforms.
        found |= {LUCENT: partial(lucents, model, named, SIDE), SAME: partial(lucents, model, named, SIDE - 24)}
    return found


def rows(nets: Sequence[str], load: Callable[[str], LoadedModel], repeats: int) -> list[dict[str, Any]]:
    """Steps per second of each contender, and time over ours as paired ratios."""
    found = []
    for name in (one for one in TASKS if one in nets):
        net = load(name)
        for label, unit, theirs in TASKS[name]:
            made = calls(net, unit, theirs)
            with frozen(net.model):  # lucent would add up gradients of the weights, which nobody wants
                for call in made.values():
                    call()
                times = measure.interleaved(made, "cpu", repeats, 90.0)
            row: dict[str, Any] = {"net": name, "unit": label, "contenders": {}}
            for contender, taken in times.items():
                ratio = measure.spread([other / mine for other, mine in zip(taken, times[OURS], strict=True)])
                rate = STEPS / measure.spread(taken)["median"]
                row["contenders"][contender] = {"steps_per_second": rate, "ratio": ratio}
            found.append(row)
            print(name, label, file=sys.stderr)
    return found
