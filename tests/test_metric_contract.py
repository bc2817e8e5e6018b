"""Every registered metric keeps the public contract, and the contract notices a metric that does not."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from attrib import METHODS, METRICS
from attrib.metrics import Energy, Entropy, Metric
from attrib.testing import assert_metric, check_metric
from attrib.testing.metric_promises import METRIC_PROMISES
from tests.metric_mutants import MUTANTS

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


MADE_BY = {"completeness": METHODS["integrated_gradients"]}  # what a metric says about other methods is NaN


def failures(metric: Callable[[], Metric], device: str = "cpu", **options: Any) -> dict[str, str]:
    return {check.name: check.message for check in check_metric(metric, device=device, **options) if not check.ok}


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", METRICS)
def test_every_metric_keeps_the_contract(name: str, device: str) -> None:
    made_by = {"method": MADE_BY[name]} if name in MADE_BY else {}
    assert failures(METRICS[name], device, **made_by) == {}


@pytest.mark.parametrize(
    "metric",
    [
        partial(METRICS["iou_area"], normalised=True),
        partial(METRICS["entropy"], normalised=True),
        partial(METRICS["pointing"], tolerance=0.2),
    ],
    ids=lambda metric: f"{metric.func.__name__}-{'-'.join(metric.keywords)}",
)
def test_options_keep_the_contract(metric: Callable[[], Metric]) -> None:
    assert failures(metric) == {}


def test_a_metric_is_asked_only_what_it_is_about() -> None:
    asked = {metric: {check.name for check in check_metric(metric)} for metric in (Energy, Entropy)}
    assert "bad masks refused" in asked[Energy] - asked[Entropy]
    assert "the right map is better" in asked[Energy] - asked[Entropy]
    assert "bad targets refused" not in asked[Energy]
    assert "order of the batch" in asked[Energy] & asked[Entropy]


@pytest.mark.parametrize("name", MUTANTS)
def test_a_mutant_fails_exactly_the_checks_that_speak_of_its_fault(name: str) -> None:
    mutant, expected = MUTANTS[name]
    found = failures(mutant)
    assert set(found) == expected, found
    assert all(found.values())  # every failure says how it showed


def test_every_check_is_failed_by_some_mutant() -> None:
    assert set().union(*(expected for _, expected in MUTANTS.values())) == {one.name for one in METRIC_PROMISES}


def test_a_metric_that_cannot_be_made_fails_with_its_own_words() -> None:
    def factory() -> Metric:
        raise ValueError("window must be given")

    found = failures(factory)
    assert set(found) == {one.name for one in METRIC_PROMISES}
    assert all("window must be given" in message for message in found.values())


def test_the_assertion_lists_every_broken_promise_with_what_happened() -> None:
    with pytest.raises(AssertionError, match=r"Mutant breaks 1 of \d+ promises:\n- the right map is better: \["):
        assert_metric(MUTANTS["one minus"][0])
    assert_metric(Energy)


def test_a_metric_that_gives_a_list_is_told_so() -> None:
    class Listed(Energy):
        def score(self, *args: object, **options: object) -> Tensor:  # type: ignore[override]
            return [0.5] * 3  # type: ignore[return-value]

    assert failures(Listed)["one number for each example"] == "a list, not a Tensor"
