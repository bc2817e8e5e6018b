"""Linear probes: least squares on one-hot labels, and the softmax."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from attrib import checks
from attrib.errors import InputError, ShapeError


@dataclass(frozen=True, eq=False)
class LinearProbe:
    """Scores that are linear in the features, one for each class.

    Attributes:
        classes: the labels that the columns stand for, ``(C,)``, ascending.
        weight: ``(d, C)``, float64, of the features as they were given.
        bias: ``(C,)``; zeros without one.
        rank: of the design matrix, where the fit tells; else None.
        note: what a reader of its numbers should know; usually nothing.
    """

    classes: Tensor
    weight: Tensor
    bias: Tensor
    rank: int | None = None
    note: str = ""

    def scores(self, features: Tensor) -> Tensor:
        """``(n, C)``: for a softmax probe the logits of the classes."""
        return features.to(self.weight) @ self.weight + self.bias

    def predict(self, features: Tensor) -> Tensor:
        """The label with the highest score, ``(n,)``; the lower one of two with the same."""
        return self.classes[self.scores(features).argmax(1)]


class Probe(Protocol):
    """What `probe_layers` fits: a name for tables, and a fit."""

    @property
    def name(self) -> str:
        """What tables call it."""

    def fit(self, features: Tensor, labels: Tensor) -> LinearProbe:
        """Fit to features ``(n, d)`` and integer labels ``(n,)``."""


@dataclass(frozen=True)
class LeastSquares:
    r"""A linear fit to one-hot labels, one class at a time.

    .. math:: w_c = (X^T X)^{-1} X^T y_c

    with one example in each row of :math:`X`, and :math:`y_c` 1 where the label is :math:`c`, else 0. The classes
    decouple: the fit of one does not depend on how many others there are.

    Convention:
        - with ``bias`` the design matrix :math:`X` has a last column of ones.
        - columns that depend on each other (always with more features than examples) leave no inverse: the solution is
          then the one with the smallest norm, and ``rank`` and ``note`` of the probe say so. Singular values below
          ``eps * max(n, d)`` of the largest count as zero.
        - ``ridge`` puts :math:`X^T X + \lambda I` in place of :math:`X^T X`, with 0 for the bias: it is not held small.
        - features are neither centred nor scaled; arithmetic is float64.

    With about as many features as examples the fit without ridge is at its worst: it can just pass through every label,
    and does so at any price. That is a property of the formula and not of the features.

    Cost: :math:`O(n d \min(n, d))`.

    Args:
        ridge: :math:`\lambda \geq 0`.
        bias: whether there is a column of ones.

    Example:
        >>> features = torch.tensor([[0.0], [1.0], [2.0], [3.0]])
        >>> LeastSquares().fit(features, torch.tensor([0, 0, 1, 1])).weight
        tensor([[-0.4000,  0.4000]], dtype=torch.float64)

    References:
        Hastie, Tibshirani, Friedman, "The Elements of Statistical Learning", 2nd ed. 2009, sections 3.4.1 and 4.2.
    """

    ridge: float = 0.0
    bias: bool = True

    def __post_init__(self) -> None:
        checks.number("ridge", self.ridge, 0)

    @property
    def name(self) -> str:
        """With its ridge, if any."""
        return f"least squares, ridge {self.ridge:g}" if self.ridge else "least squares"

    def fit(self, features: Tensor, labels: Tensor) -> LinearProbe:
        """See `Probe`."""
        x, index, classes = _checked(features, labels)
        y = torch.nn.functional.one_hot(index, len(classes)).to(x)
        if self.ridge:
            weight, bias = _ridge(x, y, self.ridge, bias=self.bias)
            return LinearProbe(classes, weight, bias)
        design = torch.cat([x, torch.ones_like(x[:, :1])], 1) if self.bias else x
        found = torch.linalg.lstsq(design, y, driver="gelsd")  # QR, then singular values: right at any rank
        rank, columns = int(found.rank), design.shape[1]
        note = "columns depend on each other: solution of smallest norm" if rank < columns else ""
        weight, bias = (found.solution[:-1], found.solution[-1]) if self.bias else (found.solution, 0 * y[0])
        return LinearProbe(classes, weight, bias, rank, note)


def _ridge(x: Tensor, y: Tensor, ridge: float, *, bias: bool) -> tuple[Tensor, Tensor]:
    """Solve the smaller of the two normal equations; centring is what a bias that is not penalised comes to."""
    middle, mean = (x.mean(0), y.mean(0)) if bias else (x.new_zeros(x.shape[1]), y.new_zeros(y.shape[1]))
    x, y = x - middle, y - mean
    wide = x.shape[1] > len(x)
    gram = x @ x.T if wide else x.T @ x
    gram.diagonal().add_(ridge)
    solved = torch.linalg.solve(gram, y if wide else x.T @ y)
    weight = x.T @ solved if wide else solved
    return weight, mean - middle @ weight


@dataclass(frozen=True)
class Softmax:
    r"""Logistic regression of all classes at once.

    .. math:: P(y = c \mid x) = \frac{\exp(w_c^T x + b_c)}{\sum_{c'} \exp(w_{c'}^T x + b_{c'})}

    The weights minimise :math:`-\sum_i \log P(y_i \mid x_i) + \frac{\lambda}{2} \sum_c \lVert w_c \rVert^2` by L-BFGS.

    Convention:
        - features are standardised with mean and standard deviation of the training examples, and :math:`\lambda` holds
          for the standardised ones; ``weight`` and ``bias`` of the probe are for features as they were given.
        - a feature that does not vary among the training examples gets the weight 0.
        - with two classes it is one logistic function: the weights of the first class are 0.
        - a fit that ends before it has converged says so in ``note``.

    Cost: a few dozen passes over the features; needs scikit-learn.

    Args:
        l2: :math:`\lambda > 0`; the bias is not held small.
        max_iter: steps of L-BFGS at most, >= 1.

    Example:
        >>> features = torch.tensor([[0.0], [1.0], [2.0], [3.0]])
        >>> Softmax().fit(features, torch.tensor([4, 4, 7, 7])).predict(torch.tensor([[0.5], [2.5]]))
        tensor([4, 7])
    """

    l2: float = 1.0
    max_iter: int = 1000

    def __post_init__(self) -> None:
        if checks.number("l2", self.l2, 0) == 0:
            raise InputError(
                "l2 must be above 0; got 0. Without it the weights of classes that can be told apart diverge."
            )
        checks.integer("max_iter", self.max_iter, 1)

    @property
    def name(self) -> str:
        """With its penalty, unless it is the usual one."""
        return "softmax" if self.l2 == 1 else f"softmax, l2 {self.l2:g}"

    def fit(self, features: Tensor, labels: Tensor) -> LinearProbe:
        """See `Probe`."""
        linear = checks.require("sklearn.linear_model", "the softmax probe", "analysis")
        x, index, classes = _checked(features, labels)
        mean, spread = x.mean(0), x.std(0, correction=0)
        spread = torch.where(spread > 1e-12 * mean.abs(), spread, torch.inf)  # rounding is no variation
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="lbfgs failed to converge")  # told in the note
            fitted = linear.LogisticRegression(C=1 / self.l2, max_iter=self.max_iter).fit(
                ((x - mean) / spread).numpy(), index.numpy()
            )
        weight, bias = torch.from_numpy(fitted.coef_.T.copy()), torch.from_numpy(fitted.intercept_.copy())
        if len(classes) == 2:
            weight, bias = torch.cat([0 * weight, weight], 1), torch.cat([0 * bias, bias])
        weight = weight / spread[:, None]
        stopped = int(fitted.n_iter_.max()) >= self.max_iter
        note = f"not converged in {self.max_iter} steps" if stopped else ""
        return LinearProbe(classes, weight, bias - mean @ weight, note=note)


def _checked(features: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Features in float64, labels as numbers of classes, and the classes."""
    if features.ndim != 2 or 0 in features.shape:
        raise ShapeError(f"features must have shape (n, d) with no empty axis; got {tuple(features.shape)}.")
    if not checks.finite(features):
        raise InputError("features must be finite; got NaN or infinite values.")
    classes, index = torch.unique(checked_labels(labels, len(features)), return_inverse=True)
    if len(classes) < 2:
        raise InputError(f"labels must be of at least two classes; got only {classes.tolist()}.")
    return features.detach().cpu().double(), index, classes


def checked_labels(labels: Tensor, n: int) -> Tensor:
    """Integers ``(n,)`` on the CPU."""
    if labels.shape != (n,) or labels.is_floating_point() or labels.is_complex():
        got = f"{labels.dtype} {tuple(labels.shape)}"
        raise InputError(f"labels must be integers ({n},), one for each example; got {got}.")
    return labels.detach().cpu().long()
