"""What examples may use without defining it: ``torch``, a small ``model`` and ``transformer``, a batch ``x`` of two."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import nn

from tests import transformers

os.environ.setdefault("MPLBACKEND", "Agg")  # no test opens a window


@pytest.fixture(autouse=True)
def _examples(doctest_namespace: dict[str, Any]) -> None:
    """Make them anew for every test; ``model`` has 10 classes, ``transformer`` 5, ``x`` has shape (2, 3, 12, 12)."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layers = OrderedDict(
            stem=nn.Conv2d(3, 4, 3, padding=1),
            relu=nn.ReLU(),
            conv=nn.Conv2d(4, 4, 3, padding=1),
            relu2=nn.ReLU(),
            pool=nn.MaxPool2d(2),
            conv3=nn.Conv2d(4, 16, 3, padding=1),
            relu3=nn.ReLU(),
            gap=nn.AdaptiveAvgPool2d(1),
            flatten=nn.Flatten(),
            fc=nn.Linear(16, 10),
        )
        doctest_namespace.update(torch=torch, model=nn.Sequential(layers).eval(), x=torch.randn(2, 3, 12, 12))
    doctest_namespace.update(transformer=transformers.make(size=(12, 12)))


@pytest.fixture(autouse=True)
def _same_draws() -> Iterator[None]:
    """Let a test draw the same numbers from torch whichever tests ran before it."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


@pytest.fixture(autouse=True)
def _methods_as_found() -> Iterator[None]:
    """Forget what a test or an example registers."""
    from attrib.registry import METHODS, METRICS

    before = {registry: set(registry) for registry in (METHODS, METRICS)}
    yield
    for registry, names in before.items():
        for name in set(registry) - names:
            registry.remove(name)
