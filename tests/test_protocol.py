"""Protocols: frozen, printed in full, stored and read back, each field with an effect; and how metrics use them."""

from __future__ import annotations

import json
from dataclasses import FrozenInstanceError, fields, replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from attrib.core import gaussian_blur
from attrib.core.network.cost import count
from attrib.errors import InputError, RegistryError
from attrib.metrics import Metric, Protocol, as_protocol, curves
from attrib.metrics.protocol import rise_blur
from attrib.registry import METRICS
from tests import nets
from tests.sweeps import DENSE

DOUBLE = torch.float64
OTHER: dict[str, Any] = {
    "baseline": "mean",
    "insertion_baseline": "blur",
    "score": "logit",
    "unit": 3,
    "steps": 9,
    "order": ("morf",),
    "ties": "bounds",
    "sign": "absolute",
    "channels": "max",
    "tie_orders": 4,
    "seed": 7,
    "tolerance": 0.2,
    "max_steps": 33,
}
NAMES = [field.name for field in fields(Protocol)]


def maps(channels: int = 3) -> Tensor:
    return nets.batch(channels=channels, dtype=DOUBLE).mul(2).round()


def numbers(protocol: Protocol) -> list[float]:
    model, x = nets.fill(nets.Chain()).to(DOUBLE), nets.batch(dtype=DOUBLE)
    found = curves(model, x, 1, maps(), protocol)
    return [float(v) for name in found.names for v in [*found.auc(name), *found.bounds(name).flatten()]]


@pytest.mark.parametrize("name", NAMES)
def test_every_field_is_printed_and_changes_a_number(name: str) -> None:
    common = Protocol(ties="stable" if name == "ties" else "mean")
    if name in {"tolerance", "max_steps"}:
        common = replace(common, steps="adaptive", tolerance=0.02)
    changed = replace(common, **{name: OTHER[name]})
    assert str(changed) != str(common)
    assert numbers(changed) != numbers(common)


def test_a_protocol_is_printed_on_one_line_with_what_its_names_mean() -> None:
    assert str(Protocol()) == (
        "baseline=zero (model space), insertion_baseline=zero (model space), score=probability, unit=pixel, steps=26, "
        "order=morf+lerf, ties=stable (raster order), sign=signed, channels=sum"
    )
    other = Protocol(
        baseline=(0.1, 0.2), insertion_baseline="blur", score=None, unit=8, ties="mean", order="lerf", steps=9
    )
    assert str(other) == (
        "baseline=(0.1, 0.2), insertion_baseline=blur (11 px, sigma 5 px), score=the target's own, unit=8 px, steps=9, "
        "order=lerf, ties=mean (8 orders, seed 0), sign=signed, channels=sum"
    )
    assert "steps=adaptive (tolerance 0.05 of the range, among rows points), order" in str(
        Protocol(steps="adaptive", tolerance=0.05, max_steps="rows")
    )


@pytest.mark.parametrize(
    "protocol",
    [Protocol(), Protocol.named("rise"), Protocol.named("adaptive"), Protocol(**OTHER), Protocol((0.5, 1), score=None)],
)
def test_a_protocol_survives_json(protocol: Protocol) -> None:
    stored = json.dumps(protocol.to_dict())
    again = as_protocol(json.loads(stored))
    assert again == protocol
    assert hash(again) == hash(protocol)
    assert str(again) == str(protocol)


def test_equal_protocols_are_one_key() -> None:
    alike = {Protocol(), Protocol(steps=np.int64(26)), Protocol(order=["lerf", "morf"]), as_protocol("default")}  # type: ignore[arg-type]
    assert len(alike | {Protocol(baseline=0), Protocol(baseline=0.0)}) == 2


def test_a_protocol_cannot_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        Protocol().steps = 5  # type: ignore[misc]


def test_convention_insertion_follows_the_removal_baseline_unless_it_has_its_own() -> None:
    assert replace(Protocol(), baseline="blur").insertion == "blur"
    assert replace(Protocol(insertion_baseline="mean"), baseline="blur").insertion == "mean"


def test_convention_rise_takes_one_row_of_pixels_per_step_at_any_size() -> None:
    rise = Protocol.named("rise")
    assert [rise.points(h, h * w) for h, w in ((224, 224), (7, 5), (3, 100))] == [225, 8, 4]


@pytest.mark.parametrize("size", [(16, 16), (5, 23)])
def test_the_blur_of_rise_is_the_folded_kernel_of_its_code(size: tuple[int, int]) -> None:
    filters = pytest.importorskip("scipy.ndimage", reason="the published kernel is made by SciPy")
    dot = np.zeros((11, 11))
    dot[5, 5] = 1.0
    x = nets.batch(2, *size, dtype=DOUBLE)
    kernel = filters.gaussian_filter(dot, 5)
    expected = np.stack([[filters.correlate(c, kernel, mode="constant") for c in image] for image in x.numpy()])
    torch.testing.assert_close(rise_blur(x), torch.from_numpy(expected))
    assert (rise_blur(x) - gaussian_blur(x)).abs().max() > 0.01  # the plain Gaussian is another baseline


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "baseline name": ({"baseline": "blurr"}, "baseline must be one of .* got 'blurr'. Did you mean 'blur'"),
    "baseline tensor": ({"baseline": torch.zeros(3)}, "baseline of a protocol must be a name, .* got Tensor"),
    "baseline callable": ({"insertion_baseline": torch.zeros_like}, "insertion_baseline of a protocol must be a name"),
    "baseline empty": ({"baseline": ()}, "baseline of a protocol must be a name"),
    "baseline NaN": ({"baseline": float("nan")}, "baseline must be a finite number"),
    "score": ({"score": "softmax"}, "score space must be one of"),
    "unit": ({"unit": 0}, "unit, unless 'pixel', must be an integer >= 1; got 0"),
    "unit name": ({"unit": "patch"}, "unit, unless 'pixel', must be an integer >= 1; got 'patch'"),
    "steps": ({"steps": 1}, "steps, unless 'rows' or 'adaptive', must be an integer >= 2; got 1"),
    "steps float": ({"steps": 5.0}, r"steps, unless 'rows' or 'adaptive', must be an integer >= 2; got 5\.0"),
    "tolerance": ({"tolerance": -0.1}, r"tolerance must be .*; got -0\.1"),
    "tolerance in words": ({"tolerance": "fine"}, "tolerance must be .*; got 'fine'"),
    "most steps": ({"max_steps": 1}, "max_steps, unless 'rows', must be an integer >= 2; got 1"),
    "order": ({"order": "mrof"}, "order must be one of 'morf', 'lerf'; got 'mrof'"),
    "order twice": ({"order": ("morf", "morf")}, "order must be 'morf', 'lerf' or both"),
    "no order": ({"order": ()}, "order must be 'morf', 'lerf' or both"),
    "ties": ({"ties": "random"}, "ties must be one of"),
    "sign": ({"sign": "negative"}, "sign must be one of"),
    "channels": ({"channels": "none"}, "channels must be one of"),
    "odd orders": ({"tie_orders": 3}, "tie_orders must be even, .* got 3"),
    "no orders": ({"tie_orders": 0}, "tie_orders must be an integer >= 2"),
    "seed": ({"seed": -1}, "seed must be an integer >= 0"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_wrong_field_is_refused_in_words(case: str) -> None:
    given, message = REFUSED[case]
    with pytest.raises(InputError, match=message):
        Protocol(**given)


def test_unknown_presets_and_fields_are_refused_with_a_suggestion() -> None:
    with pytest.raises(
        InputError, match=r"protocol must be one of 'default', 'adaptive', 'rise'; got 'rice'\. Did you mean 'rise'"
    ):
        as_protocol("rice")
    with pytest.raises(TypeError, match=r"protocol has no option 'step'\. Did you mean 'steps'"):
        as_protocol({"step": 4})


# --- metrics -----------------------------------------------------------------------------------------------------

CURVE_METRICS = ["deletion", "insertion", "lerf", "morf", "srg"]


def test_the_registry_knows_the_metrics_and_their_directions() -> None:
    better = {name: METRICS[name].higher_is_better for name in CURVE_METRICS}
    assert better == {"deletion": False, "insertion": True, "lerf": True, "morf": False, "srg": True}
    assert all(issubclass(METRICS[name], Metric) for name in CURVE_METRICS)
    with pytest.raises(RegistryError, match="Did you mean 'deletion'"):
        METRICS["deletions"]


@pytest.mark.parametrize("name", CURVE_METRICS)
@pytest.mark.parametrize("normalised", [False, True])
def test_a_metric_is_what_shared_curves_say(name: str, normalised: bool) -> None:
    model, x = nets.fill(nets.Chain()).to(DOUBLE), nets.batch(dtype=DOUBLE)
    found = curves(model, x, 1, maps(), Protocol(steps=7))
    alone = METRICS[name](normalised=normalised).score(model, x, 1, maps(), Protocol(steps=7), batch_size=3)
    shared = METRICS[name].from_curves(found, normalised=normalised)
    torch.testing.assert_close(alone, shared, equal_nan=True)
    torch.testing.assert_close(alone, found.auc(name, normalised), equal_nan=True)


@pytest.mark.parametrize(("name", "passes"), [("deletion", 7), ("insertion", 7), ("morf", 7), ("lerf", 7), ("srg", 12)])
def test_a_metric_alone_measures_only_its_own_curves(name: str, passes: int) -> None:
    model, x = nets.fill(nets.Chain()), nets.batch()
    with count() as cost:
        METRICS[name]().score(model, x, 1, maps(), Protocol(steps=7), **DENSE)
    assert cost.forwards == 2 * passes


@pytest.mark.parametrize("name", CURVE_METRICS)
def test_the_direction_of_a_metric_prefers_true_contributions_to_their_opposite(name: str) -> None:
    model, x = nets.Linear(), nets.batch()
    nets.fill(model)
    true = (model.weight(2) * x).sum(1, keepdim=True)
    good, bad = (METRICS[name]().score(model, x, 2, m, Protocol(score="logit")) for m in (true, -true))
    assert (good > bad).all() if METRICS[name].higher_is_better else (good < bad).all()
    low, high = METRICS[name].range
    scores = METRICS[name]().score(model, x, 2, true)
    assert ((low <= scores) & (scores <= high)).all()


def test_a_metric_of_ones_own_needs_one_class_and_one_method() -> None:
    @METRICS.add("mass of the upper half")
    class Upper(Metric):
        higher_is_better, range = True, (0.0, 1.0)

        def score(self, model: Any, x: Any, target: Any, maps: Tensor, protocol: Any = "default", **_: Any) -> Tensor:
            return maps[:, :, : maps.shape[2] // 2].abs().sum((1, 2, 3)) / maps.abs().sum((1, 2, 3))

    try:
        assert METRICS["mass of the upper half"]().score(None, None, None, torch.ones(2, 1, 8, 6)).tolist() == [
            0.5,
            0.5,
        ]
    finally:
        METRICS.remove("mass of the upper half")
