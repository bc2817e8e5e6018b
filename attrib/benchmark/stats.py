"""How sure a mean is, and whether one method beats another on the same images. No value is dropped unsaid."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from attrib import checks
from attrib.errors import InputError, ShapeError

Alternative = Literal["greater", "less", "two-sided"]
Values = Tensor | Sequence[float]

_EXACT_UP_TO = 16  # pairs: 65 536 sign patterns
_CHUNK = 2**21  # numbers drawn at a time


@dataclass(frozen=True)
class Interval:
    """A mean with its bootstrap interval.

    Attributes:
        mean: of the defined values; NaN if there is none.
        low: lower end; NaN with fewer than two defined values, as is ``high``.
        high: upper end.
        level: probability that the interval stands for.
        count: defined values.
        undefined: NaN values, which the mean leaves out.
    """

    mean: float
    low: float
    high: float
    level: float
    count: int
    undefined: int

    def __str__(self) -> str:
        lost = f", {self.undefined} undefined" if self.undefined else ""
        return f"{self.mean:.3f} [{self.low:.3f}, {self.high:.3f}] ({self.level:.0%}, n={self.count}{lost})"


@dataclass(frozen=True)
class Paired:
    """Outcome of a paired test.

    Attributes:
        difference: mean of ``a - b`` over the pairs; NaN if there is none.
        p: probability of a mean at least so extreme if signs were random; 1 without pairs.
        smallest: the smallest p that so many pairs can give.
        pairs: pairs in which both values are defined.
        undefined: pairs left out because a value is NaN.
        exact: whether all sign patterns were tried, or a random sample of them.
    """

    difference: float
    p: float
    smallest: float
    pairs: int
    undefined: int
    exact: bool


@dataclass(frozen=True)
class Verdict:
    """Whether a method beats a control.

    Attributes:
        beats: True, False, or None where there are too few pairs (or random sign patterns) for any answer.
        test: the paired test behind it, with differences turned so that positive is better.
        alpha: the level asked for.
    """

    beats: bool | None
    test: Paired
    alpha: float

    @property
    def sign(self) -> str:
        """``"!"``: not better; ``"?"``: better, on too few images to be sure; nothing: it beats, or no image counts."""
        if self.beats is False or self.test.difference <= 0:
            return "!"
        return "?" if self.beats is None and self.test.pairs else ""

    def __str__(self) -> str:
        if self.beats is None:
            few = "images" if self.test.exact else "sign patterns"
            return f"too few {few} to tell (n={self.test.pairs}: p cannot be below {self.test.smallest:.2g})"
        word = "beats the control" if self.beats else "does not beat the control"
        return f"{word} (by {self.test.difference:+.3f}, p={self.test.p:.2g}, n={self.test.pairs})"


def worst_sign(verdicts: Mapping[str, Verdict]) -> str:
    """The `Verdict.sign` against the control that is hardest to beat."""
    signs = {verdict.sign for verdict in verdicts.values()}
    return next((sign for sign in "!?" if sign in signs), "")


def bootstrap_interval(values: Values, level: float = 0.95, *, seed: int = 0, n: int = 10_000) -> Interval:
    """Percentile bootstrap interval of the mean.

    Convention:
        - the ends are the ``(1 - level) / 2`` and ``(1 + level) / 2`` quantiles of ``n`` means of resampled values.
        - NaN values are left out and counted. It treats values as independent; with few of them it is too narrow.

    Args:
        values: one number per example.
        level: in (0, 1).
        seed: same seed, same interval; the global RNG is not touched.
        n: resamples, >= 1.

    Example:
        >>> print(bootstrap_interval([0.2, 0.4, 0.6, float("nan")], seed=1))
        0.400 [0.200, 0.600] (95%, n=3, 1 undefined)
    """
    level = open_unit("level", level)
    every = vector("values", values)
    defined = every[~every.isnan()]
    count, lost = len(defined), len(every) - len(defined)
    if count < 2:
        mean = float(defined.mean()) if count else math.nan
        return Interval(mean, math.nan, math.nan, level, count, lost)
    generator = torch.Generator().manual_seed(checks.integer("seed", seed, 0))
    means = torch.cat(
        [
            defined[torch.randint(count, (size, count), generator=generator)].mean(1)
            for size in _portions(checks.integer("n", n, 1), count)
        ]
    )
    ends = torch.tensor([(1 - level) / 2, (1 + level) / 2], dtype=torch.float64)
    low, high = means.quantile(ends).tolist()
    return Interval(float(defined.mean()), low, high, level, count, lost)


def paired_permutation_test(
    a: Values, b: Values, *, alternative: Alternative = "two-sided", seed: int = 0, n: int = 10_000
) -> Paired:
    """Sign-flip test of the mean difference ``a - b`` between paired values.

    Convention:
        - exact up to 16 pairs: all sign patterns; beyond, ``n`` random ones, and p = (hits + 1) / (n + 1), never 0.
        - ``"greater"``: is the mean of ``a - b`` above 0? ``"less"``: below? ``"two-sided"``: either.
        - pairs with a NaN are left out and counted; equal pairs stay in.

    Args:
        a: one number per example.
        b: of the same examples in the same order.
        alternative: see above.
        seed: of the random sign patterns.
        n: random sign patterns, >= 1.

    Example:
        >>> paired_permutation_test([3, 4, 5], [1, 1, 1], alternative="greater")
        Paired(difference=3.0, p=0.125, smallest=0.125, pairs=3, undefined=0, exact=True)
    """
    checks.choice("alternative", alternative, ("two-sided", "greater", "less"))
    one, other = vector("a", a), vector("b", b)
    if len(one) != len(other):
        raise ShapeError(f"a and b must be paired, one value per example each; got {len(one)} and {len(other)}.")
    return sign_flip_tests((one - other)[:, None], alternative, seed=seed, n=n)[0]


def sign_flip_tests(gaps: Tensor, alternative: Alternative = "two-sided", *, seed: int, n: int) -> list[Paired]:
    """`paired_permutation_test` of each column of ``(N, P)`` differences; those of the same images share signs."""
    seed, n = checks.integer("seed", seed, 0), checks.integer("n", n, 1)
    groups: dict[bytes, list[int]] = {}
    for column, undefined in enumerate(gaps.isnan().T):
        groups.setdefault(undefined.numpy().tobytes(), []).append(column)
    found: dict[int, Paired] = {}
    for columns in groups.values():
        defined = ~gaps[:, columns[0]].isnan()
        gap = gaps[defined][:, columns]
        exact = len(gap) <= _EXACT_UP_TO
        sums = _all_sums(gap) if exact else _random_sums(gap, n, torch.Generator().manual_seed(seed))
        for i, column in enumerate(columns):
            found[column] = _paired(gap[:, i], sums[:, i], alternative, len(gaps) - len(gap), exact)
    return [found[column] for column in range(gaps.shape[1])]


def _paired(gap: Tensor, sums: Tensor, alternative: Alternative, lost: int, exact: bool) -> Paired:
    pairs, hits, sides = len(gap), _as_extreme(sums, gap, alternative), 2 if alternative == "two-sided" else 1
    p = hits / len(sums) if exact else (hits + 1) / (len(sums) + 1)
    smallest = min(1.0, sides / 2.0**pairs) if exact else 1 / (len(sums) + 1)
    return Paired(float(gap.mean()) if pairs else math.nan, p, smallest, pairs, lost, exact)


def beats(
    method: Values,
    control: Values,
    *,
    higher_is_better: bool,
    alpha: float = 0.05,
    seed: int = 0,
    n: int = 10_000,
) -> Verdict:
    """Decide whether a method beats a control on the same images.

    It does if its mean paired difference points in the right direction *and* the one-sided permutation p is below
    ``alpha``. With so few pairs that no p could be below ``alpha`` (fewer than 5 at 0.05) the answer is None, not
    False.

    Convention:
        - a method that must beat every control at ``alpha`` needs no correction for their number; a statement that it
          beats *some* control does.
        - ``control`` may be ``(S, N)``, one row per seed: the rows are averaged image by image.

    Args:
        method: the method's scores ``(N,)``.
        control: the control's, ``(N,)`` or ``(S, N)``.
        higher_is_better: the metric's direction.
        alpha: in (0, 1).
        seed: see `paired_permutation_test`.
        n: see `paired_permutation_test`.

    Example:
        >>> print(beats([0.1, 0.2, 0.1, 0.3, 0.2], [0.4, 0.5, 0.3, 0.4, 0.6], higher_is_better=False))
        beats the control (by +0.260, p=0.031, n=5)
        >>> print(beats([0.1, 0.2], [0.4, 0.5], higher_is_better=False))
        too few images to tell (n=2: p cannot be below 0.25)
    """
    alpha = open_unit("alpha", alpha)
    rows = torch.as_tensor(control, dtype=torch.float64)
    rows = rows.mean(0) if rows.ndim == 2 else rows
    sign = 1.0 if higher_is_better else -1.0
    test = paired_permutation_test(
        sign * vector("method", method), sign * vector("control", rows), alternative="greater", seed=seed, n=n
    )
    if test.smallest >= alpha:
        return Verdict(None, test, alpha)
    return Verdict(test.difference > 0 and test.p < alpha, test, alpha)


def vector(what: str, values: Values) -> Tensor:
    """Check one finite number or NaN per example, and give them as float64."""
    vector = torch.as_tensor(values, dtype=torch.float64).detach().cpu()
    checks.shape(vector, "n", what)
    if vector.isinf().any():
        raise InputError(f"{what} must be finite or NaN (undefined); got {int(vector.isinf().sum())} infinite values.")
    return vector


def open_unit(what: str, value: float) -> float:
    """Check a number between 0 and 1, neither of them."""
    value = checks.number(what, value)
    if not 0 < value < 1:
        raise InputError(f"{what} must lie between 0 and 1; got {value!r}.")
    return value


def _portions(total: int, width: int) -> list[int]:
    """Split ``total`` rows of ``width`` numbers so that none takes much memory."""
    rows = max(1, _CHUNK // max(1, width))
    return [min(rows, total - start) for start in range(0, total, rows)]


def _all_sums(gap: Tensor) -> Tensor:
    """Sums of the columns of ``gap`` under every pattern of signs, ``(2 ** N, P)``."""
    sums = torch.zeros(1, gap.shape[1], dtype=gap.dtype)
    for value in gap:
        sums = torch.cat([sums + value, sums - value])
    return sums


def _random_sums(gap: Tensor, n: int, generator: torch.Generator) -> Tensor:
    return torch.cat(
        [
            (torch.randint(2, (rows, len(gap)), generator=generator) * 2 - 1).to(gap) @ gap
            for rows in _portions(n, len(gap))
        ]
    )


def _as_extreme(sums: Tensor, gap: Tensor, alternative: Alternative) -> int:
    # Sums that differ only by rounding are the same sum: a pattern must not miss its own.
    slack = 1e-12 * float(gap.abs().sum())
    if alternative == "two-sided":
        return int((sums.abs() >= gap.sum().abs() - slack).sum())
    sign = 1.0 if alternative == "greater" else -1.0
    return int((sign * sums >= sign * gap.sum() - slack).sum())
