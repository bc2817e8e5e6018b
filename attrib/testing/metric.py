"""Run a metric through every promise that `Metric` makes."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from attrib.methods import InputXGradient
from attrib.testing import metric_manners  # noqa: F401  adds its promises to the table
from attrib.testing.contract import Check, outcome, raise_for
from attrib.testing.metric_bench import MethodFactory, MetricBench, MetricFactory
from attrib.testing.metric_promises import METRIC_PROMISES, MetricPromise


def check_metric(
    metric: MetricFactory, *, method: MethodFactory = InputXGradient, device: str | torch.device = "cpu"
) -> Iterator[Check]:
    """Try whether ``metric`` keeps the promises of `Metric`, one after the other.

    It gets what its ``needs`` name: a small model, object masks, the method that made the maps. Promises for which it
    has no use are left out, such as those about masks for a metric without any.

    Args:
        metric: a `Metric` class, or a function without arguments that makes one.
        method: an `Attribution` class, or a function that makes one from a model: the method that made the maps.
        device: where to run.

    Yields:
        One `Check` per promise.

    Example:
        >>> from attrib import METRICS
        >>> [name for name, ok in check_metric(METRICS["energy"]) if not ok]
        []
    """
    bench = MetricBench.usual(metric, method, device)
    for promise in METRIC_PROMISES:
        if _is_asked(promise, bench):
            yield outcome(promise.name, promise.check, bench)


def _is_asked(promise: MetricPromise, bench: MetricBench) -> bool:
    try:
        return promise.applies(bench)
    except Exception:  # a metric that cannot even be made fails every check, with its own words
        return True


def assert_metric(
    metric: MetricFactory, *, method: MethodFactory = InputXGradient, device: str | torch.device = "cpu"
) -> None:
    """Raise `AssertionError` with every promise that ``metric`` breaks; the arguments are `check_metric`'s.

    Example:
        >>> from attrib.metrics import Deletion
        >>> assert_metric(Deletion)
    """
    raise_for(getattr(metric, "__name__", repr(metric)), list(check_metric(metric, method=method, device=device)))
