"""What holds for every target: score spaces, the algebra of objectives, the forms in which a target is written."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from attrib import Channel, ClassScore, Custom, Neuron, Objective
from attrib.core import as_objective
from attrib.core.objectives.objective import SPACES
from tests.test_properties import DOUBLE, classes, few, noise, seeds

# --- score spaces


@st.composite
def outputs(draw: st.DrawFn) -> Tensor:
    n, c = draw(st.integers(1, 4)), draw(st.integers(2, 6))
    return noise(n, c, seed=draw(seeds), scale=draw(st.sampled_from([0.1, 1.0, 10.0, 100.0])))


def score(out: Tensor, target: Any, space: Any) -> Tensor:
    return ClassScore(target, space)(out, {})


@few
@given(outputs())
def test_probabilities_of_all_classes_sum_to_one(out: Tensor) -> None:
    total = sum(score(out, c, "probability") for c in range(out.shape[1]))
    assert isinstance(total, Tensor)
    assert_close(total, torch.ones(len(out), dtype=DOUBLE))


@few
@given(outputs())
def test_score_spaces_agree_with_the_softmax(out: Tensor) -> None:
    for c in range(out.shape[1]):
        log_p = out.log_softmax(1)[:, c]
        rest = out[:, [k for k in range(out.shape[1]) if k != c]].logsumexp(1) - out.logsumexp(1)  # log(1 - p)
        assert_close(score(out, c, "log_probability"), log_p, rtol=1e-10, atol=1e-12)
        assert_close(score(out, c, "probability"), log_p.exp(), rtol=1e-10, atol=1e-12)
        assert_close(score(out, c, "log_odds"), log_p - rest, rtol=1e-10, atol=1e-10)


@few
@given(outputs(), st.floats(-50, 50))
def test_softmax_spaces_ignore_a_common_shift(out: Tensor, shift: float) -> None:
    for space in SPACES[1:]:
        assert_close(score(out + shift, 1, space), score(out, 1, space), rtol=1e-9, atol=1e-9)


@few
@given(st.floats(-30, 30))
def test_one_output_is_the_log_odds_of_a_sigmoid(logit: float) -> None:
    out = torch.tensor([[logit]], dtype=DOUBLE)
    assert float(score(out, 0, "log_odds")) == logit
    assert math.isclose(float(score(out, 0, "probability")), 1 / (1 + math.exp(-logit)), rel_tol=1e-9)
    assert math.isclose(float(score(out, 0, "log_probability")), -math.log1p(math.exp(-logit)), rel_tol=1e-9)


# --- objectives

ACTS = {"conv": noise(3, 4, 5, 6, seed=1), "fc": noise(3, 7, seed=2)}
OUT = noise(3, 5, seed=3)

atoms = st.one_of(
    st.builds(ClassScore, classes, st.sampled_from(SPACES)),
    st.builds(lambda row, space: ClassScore(torch.tensor(row), space), st.lists(classes, min_size=3, max_size=3),
              st.sampled_from(SPACES)),
    st.builds(Channel, st.just("conv"), st.integers(0, 3), st.sampled_from(["mean", "sum", "max"])),
    st.builds(Neuron, st.just("conv"), st.integers(0, 3)),
    st.builds(lambda k, y, x: Neuron("conv", k, y, x), st.integers(0, 3), st.integers(0, 4), st.integers(0, 5)),
    st.builds(Neuron, st.just("fc"), st.integers(0, 6)),
    st.just(Custom(lambda out: out.square().sum(1))),
)  # fmt: skip
objectives = st.recursive(
    atoms, lambda o: st.one_of(st.builds(Objective.__add__, o, o), st.builds(Objective.__mul__, o, st.floats(-3, 3))),
    max_leaves=4,
)  # fmt: skip


def value(objective: Objective) -> Tensor:
    return objective.bind(OUT, ACTS)(OUT, ACTS)


@few
@given(objectives, objectives, st.floats(-5, 5))
def test_objectives_add_and_scale_as_their_values_do(a: Objective, b: Objective, c: float) -> None:
    assert_close(value(a - b), value(a + -1 * b))
    assert_close(value(a + b), value(a) + value(b))
    assert_close(value(c * (a + b)), c * value(a) + c * value(b))
    negative = -a
    assert_close(value(-negative), value(a))
    assert set((a - b).layers) == {*a.layers, *b.layers}


@few
@given(objectives, objectives)
def test_objectives_are_never_changed(a: Objective, b: Objective) -> None:
    before = repr(a), repr(b)  # shows the values of tensors too
    for used in (a + b, a - b, 2 * a, -b):
        value(used)
        used.bind(OUT, ACTS).rows(torch.tensor([2, 0]))
    assert (repr(a), repr(b)) == before


@few
@given(objectives, st.lists(st.integers(0, 2), min_size=1, max_size=6))
def test_rows_of_a_bound_objective_ask_the_same_of_the_same_examples(objective: Objective, index: list[int]) -> None:
    rows = torch.tensor(index)
    bound = objective.bind(OUT, ACTS)
    assert_close(bound.rows(rows)(OUT[rows], {k: a[rows] for k, a in ACTS.items()}), value(objective)[rows])


@few
@given(st.integers(0, 3))
def test_a_bound_neuron_does_not_look_for_its_place_again(channel: int) -> None:
    bound = Neuron("conv", channel).bind(OUT, ACTS)
    mirrored = {k: -a for k, a in ACTS.items()}  # the strongest place of the clean run is the weakest here
    assert_close(bound(-OUT, mirrored), -bound(OUT, ACTS))


@few
@given(st.lists(classes, min_size=3, max_size=3), classes)
def test_the_forms_of_a_target_mean_the_same(each: list[int], one: int) -> None:
    column = torch.tensor(each)[:, None]
    plain = OUT[range(3), each]
    forms: list[object] = [each, [(c,) for c in each], column, column[:, 0], column.int()]
    forms += [np.array(each), np.array(each, np.uint8)[:, None], lambda out: out[range(3), each]]
    for form in forms:
        assert_close(value(as_objective(form)), plain)
    for form in (one, np.int64(one), np.array(one), torch.tensor(one), torch.tensor([one]), (one,), [one] * 3):
        assert_close(value(as_objective(form)), OUT[:, one])


@few
@given(outputs())
def test_the_predicted_class_is_the_first_best_one(out: Tensor) -> None:
    bound = as_objective("predicted").bind(out, {})
    assert_close(bound(out, {}), out.amax(1))
    assert_close(bound(-out, {}), -out.amax(1))  # decided once
