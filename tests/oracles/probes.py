"""Linear probes, slowly: one class at a time, by the formula and by NumPy's own least squares; loss by loops."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from torch import Tensor

Floats = npt.NDArray[np.float64]


def design(features: Tensor, *, bias: bool = True) -> Floats:
    """Rows of features, each with a 1 at its end."""
    rows = [[float(value) for value in row] + [1.0] * bias for row in features]
    return np.array(rows, dtype=np.float64)


def one_hot(labels: Tensor, one: int) -> Floats:
    return np.array([1.0 if int(label) == one else 0.0 for label in labels])


def formula(features: Tensor, labels: Tensor, *, bias: bool = True, ridge: float = 0.0) -> Floats:
    """w_c = (X^T X + ridge)^-1 X^T y_c, one column for each class; no ridge on the bias."""
    x = design(features, bias=bias)
    gram = x.T @ x
    for i in range(features.shape[1]):
        gram[i, i] += ridge
    inverse = np.linalg.inv(gram)
    classes = sorted({int(label) for label in labels})
    return np.stack([inverse @ x.T @ one_hot(labels, one) for one in classes], 1)


def numpys(features: Tensor, labels: Tensor, *, bias: bool = True) -> Floats:
    """The same by np.linalg.lstsq, class by class: the solution of smallest norm where there are many."""
    x = design(features, bias=bias)
    classes = sorted({int(label) for label in labels})
    return np.stack([np.linalg.lstsq(x, one_hot(labels, one), rcond=None)[0] for one in classes], 1)


def softmax_loss(standardised: Floats, labels: list[int], weight: Floats, bias: Floats, l2: float) -> float:
    """Minus the log likelihood of labels 0 ... C-1, plus half of l2 times the squares of the weights."""
    total = 0.5 * l2 * float((weight**2).sum())
    for row, label in zip(standardised, labels, strict=True):
        logits = [float(row @ weight[:, c] + bias[c]) for c in range(weight.shape[1])]
        most = max(logits)
        total -= logits[label] - most - math.log(sum(math.exp(z - most) for z in logits))
    return total


def class_accuracy(predicted: list[int], labels: list[int]) -> float:
    shares = []
    for one in set(labels):
        mine = [p for p, label in zip(predicted, labels, strict=True) if label == one]
        shares.append(sum(p == one for p in mine) / len(mine))
    return sum(shares) / len(shares)
