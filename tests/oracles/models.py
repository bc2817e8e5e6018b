"""A torch model as the oracles see it: a function from an array to a number, and a table of weights."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests import nets
from tests.oracles import occlusion
from tests.oracles.differences import Array

EXACT = {"rtol": 1e-10, "atol": 1e-12}  # the same sums in another order
DIFFERENCES = {"rtol": 1e-6, "atol": 1e-8}  # central differences, step 1e-5
TARGETS = [3, 1]
DOUBLE = torch.float64


def logits(model: nn.Module) -> Callable[[Array], list[float]]:
    """The class scores of one example, with nothing but a call of the model."""

    def run(x: Array) -> list[float]:
        with torch.no_grad():
            return list(map(float, model(torch.from_numpy(x.copy())[None])[0]))

    return run


def class_score(model: nn.Module, target: int, space: str = "logit") -> Callable[[Array], float]:
    run = logits(model)
    return lambda x: occlusion.in_space(run(x), target, space)


def weights(model: nn.Module) -> dict[str, Array]:
    return {name: value.numpy() for name, value in model.state_dict().items()}


def assert_rows(maps: Tensor, expected: list[Array], tolerance: dict[str, float]) -> None:
    torch.testing.assert_close(maps, torch.from_numpy(np.stack(expected))[:, None], **tolerance)


def head(model: nets.Chain, target: int) -> Callable[[Array], float]:
    """The part of ``Chain`` behind its pooling, for one example."""

    def run(act: Array) -> float:
        with torch.no_grad():
            out = model.fc(F.relu(model.conv2(torch.from_numpy(act.copy())[None])).mean((2, 3)))
        return float(out[0, target])

    return run
