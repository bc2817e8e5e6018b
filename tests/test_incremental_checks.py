"""Sweeps look over their own shoulder, count what they do, and say how far approximations are off."""

from __future__ import annotations

import logging
from typing import Any
from unittest import mock

import pytest
import torch
from torch import Tensor

from attrib.core import Query, Windows, as_objective, frozen, sweep
from attrib.core.incremental import check, local, program
from attrib.core.incremental.compiler import Compiler
from attrib.core.incremental.record import Call
from attrib.core.incremental.steps import Kind
from attrib.core.network import cost
from attrib.errors import ModelError
from tests import nets
from tests.architectures import build
from tests.incremental import agrees, ask, squares, watched
from tests.sweeps import in_order

SIZE = (26, 24)
MASKS = Windows(SIZE, (4, 4), (4, 4))


def image(n: int = 2, dtype: Any = torch.float64) -> Tensor:
    return nets.batch(n, *SIZE, dtype=dtype)


def _wrong(compiler: Compiler, call: Call) -> None:
    """ReLU, a little off."""
    number = compiler.only(call)
    compiler.emit(call, Kind.POINT, lambda xs, _, __: xs[0].relu() * 1.01, compiler.forms[number])


@pytest.fixture
def wrong_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(program._RULES, "relu", _wrong)


@pytest.mark.usefixtures("wrong_rule")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("how", [{}, {"verify": 5}])
@pytest.mark.parametrize("masks", [MASKS, squares(SIZE, 12, 24)], ids=["local", "replayed"])
def test_a_wrong_rule_is_found_out(masks: Any, how: dict[str, Any], dtype: Any) -> None:
    model, x = build("ReLU", dtype=dtype), image(dtype=dtype)
    with watched() as ways, pytest.raises(ModelError, match=r"must give what the model gives.*exact_dense=True"):
        ask(model, x, masks, **how)
    assert ways == ["local" if masks is MASKS else "replayed"]


@pytest.mark.usefixtures("wrong_rule")
def test_nobody_looks_if_nobody_is_asked_to() -> None:
    model = build("ReLU")
    right = ask(model, image(), MASKS, exact_dense=True)
    assert (ask(model, image(), MASKS, verify=0) - right).abs().max() > 1e-3


def test_values_that_are_not_finite_in_one_checked_mask_are_seen() -> None:
    model = build("residual")

    def spoil(job: Any, *args: Any) -> Any:
        positions = torch.arange(len(MASKS))
        score = ask(model, image(), MASKS, exact_dense=True)
        score[check.drawn(len(MASKS), 4)[0]] = float("nan")
        yield positions, score

    with mock.patch.object(local, "local_scores", spoil), pytest.raises(ModelError, match="differs by inf"):
        ask(model, image(), MASKS, verify=4)


def test_models_that_give_infinity_themselves_are_not_accused() -> None:
    model = build("residual")
    target = lambda out: torch.where(out[:, 1] > out[:, 1].max() - 1e-9, float("nan"), out[:, 1]) * 0 + float("nan")  # noqa: E731
    with frozen(model), torch.no_grad():
        query = Query(model, (image(),), as_objective(1))
        goal = as_objective(target)
        found = in_order((p, s[1]) for p, s in sweep(query, MASKS, goals=[goal], verify=3))
    assert found.isnan().all()


@pytest.mark.parametrize("verify", [0, 1, 3])
@pytest.mark.parametrize("n", [1, 2])
def test_every_pass_is_counted(verify: int, n: int) -> None:
    model = build("residual")
    with cost.count() as counted, watched():
        ask(model, image(n), MASKS, verify=verify)
    clean, recording, windows = n, n, n  # the question, what it computes, and the maps that windows are cut from
    assert counted.forwards == clean + recording + windows + n * len(MASKS) + n * verify
    assert counted.backwards == 0


def test_a_sweep_is_verified_once_for_each_question() -> None:
    model, masks = build("residual"), squares(SIZE, 12, 24)
    with frozen(model), cost.count() as counted:
        query = Query(model, (image(1),), as_objective(1))
        in_order(sweep(query, masks))
        once = counted.forwards
        in_order(sweep(query, masks))
    assert once == 1 + 1 + 12 + 1
    assert counted.forwards == once + 12


@pytest.mark.parametrize("how", [{"tolerance": 0.3}, {"autocast": torch.bfloat16}], ids=["tolerance", "bfloat16"])
def test_the_reported_error_is_the_error_of_the_sampled_masks(
    how: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    model = build("dilated", "max-pooling", "dilated", "residual", dtype=torch.float32)
    x = image(dtype=torch.float32)
    with caplog.at_level(logging.INFO, "attrib"), cost.count() as counted, watched() as ways:
        fast = ask(model, x, MASKS, **how)
    dense = ask(model, x, MASKS, exact_dense=True)
    with frozen(model):
        clean = Query(model, (x,), as_objective(1)).clean.score
    largest = (fast - clean).abs().max()
    off = (fast - dense).abs().amax(1)
    (found,) = counted.deviations
    assert ways == ["local"] * len(ways)
    strong = check.most_changed(fast - clean, 8)
    sample = {*strong, *check.drawn(len(MASKS), 8)}
    assert found.error == pytest.approx(float(off[sorted(sample)].max() / largest), rel=1e-4, abs=1e-7)
    assert 0 < found.error <= float(off.max() / largest) * 1.0001
    assert found.masks == len(sample)
    assert found.allowed == how.get("tolerance")
    assert f"largest error {found.error:.3g}" in caplog.text


def test_a_tolerance_saves_work_and_a_tighter_one_is_closer() -> None:
    model, x = build("dilated", "convolution", "dilated", "same, dilated", "convolution", head="mean"), image(1)
    dense = ask(model, x, MASKS, exact_dense=True)
    off = [float((ask(model, x, MASKS, tolerance=t) - dense).abs().max()) for t in (0.9, 0.01)]
    assert off[1] <= off[0]
    assert agrees(model, x, MASKS, tolerance=0.0) == "local"


def test_deviations_over_the_tolerance_are_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "attrib"):
        cost.deviates(cost.Deviation("tolerance", 0.01, 0.02, 8))
    assert "(over)" in caplog.text
