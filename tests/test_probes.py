"""Linear probes fit what the formulas say: equal to a literal oracle, exact on linear data, honest about the rest."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from attrib.analysis import LeastSquares, Softmax
from attrib.analysis.probes.probes import class_accuracy
from attrib.errors import InputError, MissingDependency, ShapeError
from tests.oracles import probes as oracle

DOUBLE = torch.float64


def noise(n: int, d: int, seed: int = 0) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=DOUBLE)


def labels_of(n: int, classes: int = 3) -> Tensor:
    return 10 * (torch.arange(n) % classes)


@pytest.mark.parametrize("bias", [True, False])
def test_least_squares_is_the_formula_and_numpys_solution_class_by_class(bias: bool) -> None:
    x, y = noise(30, 4), labels_of(30)
    fitted = LeastSquares(bias=bias).fit(x, y)
    found = torch.cat([fitted.weight, fitted.bias[None]]).numpy()
    for expected in (oracle.formula(x, y, bias=bias), oracle.numpys(x, y, bias=bias)):
        np.testing.assert_allclose(found[: len(expected)], expected, rtol=1e-9, atol=1e-12)
    assert fitted.rank == 4 + bias
    assert fitted.note == ""
    assert bias or not fitted.bias.any()
    assert fitted.classes.tolist() == [0, 10, 20]


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 20), st.integers(1, 24), st.booleans(), st.integers(0, 99))
def test_least_squares_has_the_smallest_norm_at_any_shape_and_rank(n: int, d: int, bias: bool, seed: int) -> None:
    x, y = noise(n, d, seed), labels_of(n, 2)
    x = torch.cat([x, x[:, :1]], 1)  # one column twice
    fitted = LeastSquares(bias=bias).fit(x, y)
    expected = oracle.numpys(x, y, bias=bias)
    np.testing.assert_allclose(fitted.weight.numpy(), expected[: d + 1], rtol=1e-6, atol=1e-8)
    assert fitted.rank == np.linalg.matrix_rank(oracle.design(x, bias=bias))
    assert "smallest norm" in fitted.note
    torch.testing.assert_close(fitted.weight[0], fitted.weight[-1], rtol=1e-6, atol=1e-8)


def test_weights_that_made_one_hot_labels_are_recovered_exactly() -> None:
    """Corners of a simplex: the label of class c is the c-th feature."""
    y = torch.arange(12) % 3
    weight = noise(3, 3, seed=4)
    x = torch.nn.functional.one_hot(y, 3).double() @ torch.linalg.inv(weight)
    fitted = LeastSquares(bias=False).fit(x, y)
    torch.testing.assert_close(fitted.weight, weight, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(fitted.scores(x), torch.nn.functional.one_hot(y, 3).double(), rtol=1e-10, atol=1e-10)
    assert torch.equal(fitted.predict(x), y)


def test_classes_decouple() -> None:
    x = noise(30, 4)
    three = LeastSquares().fit(x, labels_of(30, 3))
    merged = torch.where(labels_of(30, 3) == 20, 10, labels_of(30, 3))
    two = LeastSquares().fit(x, merged)
    torch.testing.assert_close(two.weight[:, 0], three.weight[:, 0])
    torch.testing.assert_close(two.weight[:, 1], three.weight[:, 1] + three.weight[:, 2])


def test_scores_of_all_classes_add_up_to_one_with_a_bias() -> None:
    x, y = noise(30, 4), labels_of(30)
    torch.testing.assert_close(LeastSquares().fit(x, y).scores(x).sum(1), torch.ones(30, dtype=DOUBLE))


@pytest.mark.parametrize("d", [4, 50])
@pytest.mark.parametrize("bias", [True, False])
def test_ridge_is_the_formula_with_lambda_on_all_but_the_bias(d: int, bias: bool) -> None:
    x, y = noise(30, d) + 2, labels_of(30)
    fitted = LeastSquares(ridge=0.7, bias=bias).fit(x, y)
    expected = oracle.formula(x, y, bias=bias, ridge=0.7)
    np.testing.assert_allclose(fitted.weight.numpy(), expected[:d], rtol=1e-7, atol=1e-9)
    if bias:
        np.testing.assert_allclose(fitted.bias.numpy(), expected[d], rtol=1e-7, atol=1e-9)
    assert LeastSquares(ridge=0.7).name == "least squares, ridge 0.7"


def test_a_little_ridge_is_next_to_none() -> None:
    x, y = noise(30, 4), labels_of(30)
    torch.testing.assert_close(
        LeastSquares(ridge=1e-9).fit(x, y).weight, LeastSquares().fit(x, y).weight, rtol=1e-6, atol=1e-8
    )


@pytest.mark.parametrize("classes", [2, 3])
def test_no_other_softmax_near_by_has_a_smaller_loss(classes: int) -> None:
    x, y = noise(40, 3) * torch.tensor([1.0, 100.0, 0.01]) + 5, labels_of(40, classes)
    fitted = Softmax(l2=0.5).fit(x, y)
    mean, spread = x.mean(0), x.std(0, correction=0)
    rows, numbers = ((x - mean) / spread).numpy(), (y // 10).tolist()
    weight = (fitted.weight * spread[:, None]).numpy()  # of standardised features
    bias = (fitted.bias + mean @ fitted.weight).numpy()

    def loss(step: np.ndarray, lift: np.ndarray) -> float:
        return oracle.softmax_loss(rows, numbers, weight + step, bias + lift, 0.5)

    least, source = loss(np.zeros_like(weight), np.zeros_like(bias)), np.random.default_rng(0)
    for _ in range(20):
        step, lift = source.normal(size=weight.shape), source.normal(size=bias.shape)
        if classes == 2:
            step[:, 0] = lift[0] = 0  # one logistic function
        assert loss(1e-2 * step, 1e-2 * lift) > least
    assert classes == 3 or not fitted.weight[:, 0].any()


def test_softmax_does_not_depend_on_units_and_ignores_what_does_not_vary() -> None:
    x, y = noise(40, 3), labels_of(40)
    one = Softmax().fit(x, y)
    other = Softmax().fit(torch.cat([7 + 1000 * x, torch.full((40, 1), 0.1)], 1), y)
    torch.testing.assert_close(other.weight[:3] * 1000, one.weight, rtol=1e-4, atol=1e-4)
    assert not other.weight[3].any()
    assert torch.equal(other.predict(torch.cat([7 + 1000 * x, torch.ones(40, 1)], 1)), one.predict(x))


def test_both_probes_separate_what_is_separable() -> None:
    y = labels_of(60)
    x = noise(60, 5) * 0.1
    x[torch.arange(60), y // 10] += 1
    for probe in (LeastSquares(), Softmax()):
        assert torch.equal(probe.fit(x, y).predict(x), y)


def test_a_softmax_that_has_not_converged_says_so() -> None:
    fitted = Softmax(max_iter=1).fit(noise(40, 3), labels_of(40))
    assert fitted.note == "not converged in 1 steps"
    assert Softmax().fit(noise(40, 3), labels_of(40)).note == ""
    assert (Softmax().name, Softmax(l2=0.1).name) == ("softmax", "softmax, l2 0.1")


def test_fits_are_repeatable_and_leave_random_states_and_features() -> None:
    x, y = noise(40, 3).float(), labels_of(40)
    before, torchs, numpys = x.clone(), torch.random.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    for probe in (LeastSquares(), LeastSquares(ridge=1), Softmax()):
        assert torch.equal(probe.fit(x, y).weight, probe.fit(x, y).weight)
    assert torch.equal(x, before)
    assert torch.equal(torch.random.get_rng_state(), torchs)
    assert (np.random.get_state()[1] == numpys).all()  # noqa: NPY002


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=20))
def test_accuracy_counts_every_class_the_same(pairs: list[tuple[int, int]]) -> None:
    predicted, labels = map(list, zip(*pairs, strict=True))
    found = class_accuracy(torch.tensor(predicted), torch.tensor(labels))
    assert found == pytest.approx(oracle.class_accuracy(predicted, labels))


@pytest.mark.parametrize(
    ("features", "labels", "error", "says"),
    [
        (torch.rand(4, 2, 2), torch.zeros(4, dtype=torch.long), ShapeError, r"features must have shape \(n, d\)"),
        (torch.rand(4, 0), torch.zeros(4, dtype=torch.long), ShapeError, "no empty axis"),
        (torch.full((4, 1), torch.nan), torch.arange(4), InputError, "features must be finite"),
        (torch.rand(4, 2), torch.arange(3), InputError, r"labels must be integers \(4,\)"),
        (torch.rand(4, 2), torch.rand(4), InputError, "labels must be integers"),
        (torch.rand(4, 2), torch.full((4,), 7), InputError, r"at least two classes; got only \[7\]"),
    ],
)
def test_what_cannot_be_fitted_is_refused(features: Tensor, labels: Tensor, error: type, says: str) -> None:
    for probe in (LeastSquares(), Softmax()):
        with pytest.raises(error, match=says):
            probe.fit(features, labels)


def test_settings_that_make_no_sense_are_refused() -> None:
    with pytest.raises(InputError, match="ridge must be a finite number"):
        LeastSquares(ridge=-1)
    with pytest.raises(InputError, match="l2 must be above 0"):
        Softmax(l2=0)
    with pytest.raises(InputError, match="max_iter must be an integer >= 1"):
        Softmax(max_iter=0)


def test_softmax_says_which_extra_brings_what_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.linear_model", None)
    with pytest.raises(MissingDependency, match=r"attrib\[analysis\]"):
        Softmax().fit(noise(4, 1), labels_of(4, 2))
