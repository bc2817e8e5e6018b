"""What users see: the public names, the signatures, the docstrings; and that every argument does something.

After a deliberate change: ``python -m tests.test_api_surface`` writes the golden file anew; review its diff.
"""

from __future__ import annotations

import inspect
import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import attrib
from attrib import METHODS, Attribution
from attrib.core import SweepOptions
from tests import nets, transformers
from tests.conventions import lines, section
from tests.made_for import MADE_FOR

GOLDEN = Path(__file__).parent / "golden" / "api.json"
SECTIONS = ("Convention", "Cost", "Args", "Example", "References")
OURS = [name for name in METHODS if METHODS[name].__module__.startswith("attrib.methods.")]


def surface() -> dict[str, Any]:
    """Public names, and how each method is constructed."""

    def plain(function: Any) -> str:
        signature = inspect.signature(function)
        bare = [p.replace(annotation=inspect.Parameter.empty) for p in signature.parameters.values()]
        return str(signature.replace(parameters=bare, return_annotation=inspect.Signature.empty))

    return {
        "names": sorted(attrib.__all__),
        "methods": {name: plain(METHODS[name]) for name in OURS},
        "attribute": plain(Attribution.attribute),
    }


def test_the_public_surface_changes_only_on_purpose() -> None:
    assert surface() == json.loads(GOLDEN.read_text()), "if this is meant: python -m tests.test_api_surface"


@pytest.mark.parametrize("name", attrib.__all__)
def test_a_public_name_can_be_used_and_says_what_it_is(name: str) -> None:
    assert name in dir(attrib)
    public = getattr(attrib, name)
    assert not inspect.ismodule(public)
    assert inspect.getdoc(public)


def test_every_registered_method_of_ours_is_a_public_name() -> None:
    assert {METHODS[name].__name__ for name in OURS} <= set(attrib.__all__)


@pytest.mark.parametrize("name", OURS)
def test_a_method_says_what_it_computes_its_conventions_cost_arguments_example_and_source(name: str) -> None:
    text = inspect.getdoc(METHODS[name]) or ""
    parts = [text.index(".. math::"), *(text.index(f"\n{title}:") for title in SECTIONS)]
    assert parts == sorted(parts)  # in this order
    assert text.partition("\n")[0].endswith(".")  # the answer in one line
    assert all(line.endswith(".") for line in lines(name))
    assert ".. doctest" in section(name, "Example") or ">>> " in section(name, "Example")
    assert re.search(r"\b(19|20)\d\d\b", section(name, "References"))


def parameters(name: str) -> dict[str, inspect.Parameter]:
    return dict(inspect.signature(METHODS[name]).parameters)


@pytest.mark.parametrize("name", OURS)
def test_a_method_documents_each_argument_once_and_no_other(name: str) -> None:
    documented = re.findall(r"^ {4}(\w+):", f"    {section(name, 'Args')}", re.MULTILINE)
    assert documented == list(parameters(name))


@pytest.mark.parametrize("name", OURS)
def test_only_model_and_layer_may_be_given_by_position(name: str) -> None:
    kinds = {p.name: p.kind for p in parameters(name).values()}
    assert [p for p, kind in kinds.items() if kind is inspect.Parameter.POSITIONAL_OR_KEYWORD] == ["model", "layer"]


# --- every argument changes something

X = nets.batch(2, 8, 6)
NET = nets.make("module")
MIXED = nets.fill(nets.Chain(torch.nn.functional.relu6, torch.relu))
NORMED = nets.fill(nets.Chain(torch.nn.functional.relu6, lambda x: nn.functional.local_response_norm(x.relu(), 3)))
POINT = nets.fill(nets.PointHead())
Values = tuple[Any, Any]
MODEL: dict[str, Values] = {"model": (NET, nets.fill(nets.Chain(nn.ReLU(), nn.ReLU()), seed=5))}
REDUCTIONS: dict[str, Values] = {"channels": ("l2", "none"), "absolute": (False, True)}
LAYER: dict[str, Values] = {"layer": (None, "pool")}
OVERRIDE: dict[str, Values] = {"activations": (("relu",), ("relu", "relu6"))}
RESHAPE: dict[str, Values] = {"reshape": (None, lambda act: act.flip(3))}
TRANSFORMER: dict[str, Values] = {
    "model": (transformers.make(), transformers.make(depth=2)),
    "upsample": (False, True),
    "reshape": (None, lambda tokens: tokens[:, :6].mT.reshape(len(tokens), -1, 3, 2)),
}
# At a layer without a ReLU, or their weights would leave nothing to rectify.
UNRECTIFIED: dict[str, Values] = {
    "model": (POINT, nets.fill(nets.PointHead(), 5)), "layer": ("head", "act1"), "relu": (True, False),
    "upsample": (False, True), **RESHAPE,
}  # fmt: skip
SWEEP: dict[str, Values] = {
    "batch_size": (1, 6),
    "channels_last": (False, True),
    "autocast": (None, torch.bfloat16),
    "show_progress": (False, True),
    "exact_dense": (False, True),
    "verify": (0, 4),
    "tolerance": (None, 0.5),
}
# Not a layer, which is refused.
SEARCH: dict[str, Values] = {
    "steps": (5, 6), "cells": (4, 6), "baseline": ("zero", "pyramid"), "score": (None, "log_odds"), "seed": (0, 1),
    "batch_size": (1, 2), "show_progress": (False, True),
}  # fmt: skip
WHOLE = {option: values for option, values in SWEEP.items() if option != "tolerance"}  # masks are not local
# The model itself runs in batches; what is replayed is not seen by it.
DENSE = {"batch_size", "channels_last", "autocast", "refine"}
EFFECTS: dict[str, dict[str, Values]] = {
    "attention_rollout": {**TRANSFORMER, "heads": ("mean", "max"), "start": (0, 1)},
    "ablationcam": {
        **MODEL, **LAYER, **WHOLE, **RESHAPE,
        "normalise": (False, True), "baseline": ("zero", "mean"), "score": (None, "log_odds"), "relu": (True, False),
        "channels": (None, 2), "upsample": (False, True),
    },
    "eigencam": {**MODEL, **LAYER, **RESHAPE, "gradient": (False, True), "relu": (True, False),
                 "upsample": (False, True)},
    "scorecam": {
        **MODEL, **LAYER, **WHOLE, **RESHAPE,
        "weights": ("softmax", "increase"), "baseline": ("zero", "mean"), "score": (None, "log_odds"),
        "channels": (None, 2), "relu": (True, False), "upsample": (False, True),
    },
    "cam": {"model": (POINT, nets.fill(nets.PointHead(), 5)), "layer": ("head", "act1"), "relu": (True, False),
            "upsample": (False, True)},
    **dict.fromkeys(("gradcam_plusplus", "hirescam", "layercam", "xgradcam"), UNRECTIFIED),
    "saliency": {**MODEL, **LAYER, **REDUCTIONS},
    "input_x_gradient": {**MODEL, **LAYER, **REDUCTIONS},
    "guided": {**MODEL, **LAYER, **REDUCTIONS, **OVERRIDE},
    "deconvnet": {
        **MODEL, **LAYER, **REDUCTIONS, **OVERRIDE, "start": ("one", "activation"), "norm_layers": ("grad", "skip"),
    },
    "excitation_backprop": {**MODEL, **LAYER, **RESHAPE, "contrastive": (False, True), "upsample": (False, True)},
    "extremal_perturbation": {
        **MODEL, **SEARCH, "areas": (0.2, (0.2, 0.5)), "places": (1, 3), "smoothness": (None, 2.0),
        "variant": ("preserve", "delete"), "reach": (None, 0.99), "jitter": (0, 2),
    },
    "fullgrad": {**MODEL, "normalise": ("channel", "layer")},
    "gradcam": {**MODEL, **LAYER, "relu": (True, False), "negative": (False, True), "upsample": (False, True),
                **RESHAPE},
    "gradient_attention": TRANSFORMER,
    "guided_gradcam": {**MODEL, **LAYER, **REDUCTIONS, **OVERRIDE, **RESHAPE},
    "meaningful_perturbation": {
        **MODEL, **SEARCH, "game": ("delete", "preserve"), "sparsity": (1.0, 2.0), "smoothness": (1.0, 20.0),
        "length": (0.05, 0.1), "jitter": (None, 2),
    },
    "occlusion": {
        **MODEL, **LAYER, **SWEEP,
        "window": (2, (2, 3)), "stride": (1, (2, 1)), "baseline": ("zero", "mean"), "score": (None, "log_odds"),
        "sign": ("drop", "score"), "edge": ("full", "cut"), "refine": (1, 3),
    },
    "rise": {
        **MODEL, **LAYER, **{name: values for name, values in SWEEP.items() if name != "tolerance"},
        "n": (8, 9), "cells": (2, (2, 3)), "p": (0.4, 0.5), "divide": ("p", "coverage"), "baseline": ("zero", "mean"),
        "score": (None, "log_odds"), "seed": (0, 1),
    },
}  # fmt: skip
# Refused, because the masks are not local.
TOO_WIDE = {"ablationcam": {"tolerance"}, "rise": {"tolerance"}, "scorecam": {"tolerance"}}
# What an argument needs in order to show.
BESIDES: dict[str, dict[str, Any]] = {
    **{name: {"model": POINT, "layer": "head"} for name in ("gradcam_plusplus", "hirescam", "layercam", "xgradcam")},
    "ablationcam": {"layer": "conv2"}, "eigencam": {"layer": "conv2"}, "scorecam": {"layer": "conv2"},
    "deconvnet": {"model": NORMED}, "excitation_backprop": {"layer": "pool"}, "gradcam": {"layer": "pool"},
    "extremal_perturbation": {"steps": 2, "areas": (0.1, 0.4), "jitter": 1},
    "meaningful_perturbation": {"steps": 3, "jitter": 1},
    "guided_gradcam": {"layer": "pool"}, "occlusion": {"window": 3, "stride": 2}, "rise": {"n": 12},
}  # fmt: skip


@pytest.mark.parametrize("name", OURS)
def test_the_table_of_effects_knows_every_argument(name: str) -> None:
    expected = set(parameters(name)) - (set() if METHODS[name].takes_layer else {"layer"})  # refused, see test_geometry
    if "options" in expected:
        expected = expected - {"options"} | set(SweepOptions.__annotations__) - TOO_WIDE.get(name, set())
    assert set(EFFECTS[name]) == expected


def net_of(name: str) -> Any:
    return MADE_FOR[name].model() if name in MADE_FOR else NET


def x_of(name: str) -> Tensor:
    return MADE_FOR[name].inputs()[:2] if name in MADE_FOR else X


def two_layers_of(name: str) -> tuple[str, ...]:
    """Two layers that a method can explain; none if it explains inputs only, or one layer."""
    named = MADE_FOR[name].named if name in MADE_FOR else ("conv1", "pool")
    return named[-2:] if METHODS[name].takes_layer and len(named) > 1 else ()


def watched(name: str, options: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> list[Any]:
    """Everything that an argument may change: the maps, what the model is fed with and computes in, what is printed."""
    seen: list[Any] = []

    def watch(_module: nn.Module, args: Any, out: Tensor) -> None:
        seen.append((len(args[0]), args[0].is_contiguous(), out.dtype))

    model = options.pop("model", MIXED if "activations" in options else net_of(name))
    handle = next(m for m in model.modules() if isinstance(m, nn.Conv2d)).register_forward_hook(watch)
    maps = METHODS[name](model, **options).attribute(x_of(name), [2, 3])
    handle.remove()
    return [maps.shape, maps.flatten().tolist(), seen, bool(capsys.readouterr().err)]


@pytest.mark.parametrize(("name", "argument"), [(name, argument) for name in EFFECTS for argument in EFFECTS[name]])
def test_every_argument_changes_something(
    name: str, argument: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("attrib.core.incremental.local._STEP", 0)  # windows, though whole maps are quicker here
    beside = {
        **BESIDES.get(name, {}),
        **dict.fromkeys({"exact_dense"} & {*EFFECTS[name]} if argument in DENSE else (), True),
    }
    one, other = (watched(name, {**beside, argument: value}, capsys) for value in EFFECTS[name][argument])
    assert one != other
    how = dict.fromkeys([*DENSE, "exact_dense", "verify", "tolerance"], 2) | {"show_progress": 3}
    if argument in how:  # these change how it runs, and only that
        assert one[how[argument]] != other[how[argument]]
        if argument not in ("autocast", "tolerance", "refine"):
            torch.testing.assert_close(*(torch.tensor(maps[1]) for maps in (one, other)), rtol=1e-4, atol=1e-6)


def test_each_reduction_of_channels_is_another_one() -> None:
    maps = [attrib.Saliency(NET, channels=c).attribute(X, 2).flatten() for c in ("max", "mean", "sum", "l2", "none")]
    same = [(i, j) for i, a in enumerate(maps) for j, b in enumerate(maps) if a.shape == b.shape and torch.equal(a, b)]
    assert same == [(i, i) for i in range(5)]


@pytest.mark.parametrize("name", OURS)
def test_the_inputs_of_a_call_change_the_maps(name: str) -> None:
    method, x = METHODS[name](net_of(name)), x_of(name)
    assert not torch.allclose(method.attribute(x, 2), method.attribute(x.flip(3), 2))


@pytest.mark.parametrize("name", [name for name in OURS if METHODS[name].uses_target])
def test_the_target_of_a_call_changes_the_maps(name: str) -> None:
    method, x = METHODS[name](net_of(name)), x_of(name)
    assert not torch.allclose(method.attribute(x, 2), method.attribute(x, 3))


@pytest.mark.parametrize("name", [name for name in OURS if two_layers_of(name)])
def test_the_layer_of_a_call_changes_the_maps_and_goes_before_that_of_the_constructor(name: str) -> None:
    model, x, (first, second) = net_of(name), x_of(name), two_layers_of(name)
    one, other = (METHODS[name](model).attribute(x, 2, layer) for layer in (first, second))
    assert one.shape != other.shape or not torch.allclose(one, other)
    assert torch.equal(METHODS[name](model, first).attribute(x, 2, second), other)


if __name__ == "__main__":
    GOLDEN.write_text(json.dumps(surface(), indent=2) + "\n")
