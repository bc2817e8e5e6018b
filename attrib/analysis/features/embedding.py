"""A feature space drawn in two dimensions: principal components, t-SNE, and pictures on a grid."""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib.util import find_spec
from math import ceil, sqrt
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from attrib import checks
from attrib.analysis.features.bank import Bank
from attrib.errors import InputError, LayerError
from attrib.report.finding import Finding
from attrib.report.table import amount, text_table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Engine = Literal["auto", "sklearn", "opentsne"]
ENGINES: tuple[Engine, ...] = ("auto", "sklearn", "opentsne")
LARGE = 10_000  # pictures, from which on openTSNE is worth its rougher start
FULL = 2000  # rows or columns up to which all singular values are computed
FIRST = 50  # principal components that t-SNE begins from, as van der Maaten and Hinton do
CELLS = 3600  # of a grid: the assignment takes memory as the square, and a figure shows no more
Doubles = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Embedding(Finding):
    """A point in the plane for each picture.

    Attributes:
        method: ``"pca"`` or ``"tsne"``.
        space: of the bank.
        points: ``(N, 2)``.
        labels: ``(N,)``; None where there are none.
        explained: share of the variance along each axis, ``(2,)``, for PCA.
        divergence: Kullback-Leibler divergence at the end, in nats, for t-SNE.
        settings: all that the points depend on besides the features.
        bank: whose rows these are.
    """

    method: str
    space: str
    points: Tensor
    labels: Tensor | None
    explained: Tensor | None
    divergence: float | None
    settings: dict[str, Any]
    bank: Bank = field(repr=False, metadata={"saved": False})

    def grid(self, shape: tuple[int, int] | None = None) -> Tensor:
        """Row and column of each picture on a grid, ``(N, 2)``, see `grid_places`."""
        return grid_places(self.points, shape)

    def to_text(self, *, markdown: bool = False) -> str:
        """What was done, and how much of the space the plane shows."""
        row = {"embedding": self.method, "space": self.space, "pictures": str(len(self.points))}
        if self.explained is not None:
            row |= {f"variance {i + 1}": amount(float(share)) for i, share in enumerate(self.explained)}
        if self.divergence is not None:
            row |= {"perplexity": amount(self.settings["perplexity"]), "KL": amount(self.divergence)}
        return text_table([row], markdown=markdown)

    def plot(self) -> Figure:
        """The pictures on a grid, or points where the bank has no pictures or too many."""
        from attrib.plot.embedding import picture_grid, scatter

        shape = self.bank.about["shapes"].get("pixel", ())
        drawn = len(shape) == 3 and shape[0] in (1, 3) and len(self.points) <= CELLS
        return picture_grid(self) if drawn else scatter(self)


def pca(bank: Bank, *, space: str | None = None, seed: int = 0) -> Embedding:
    r"""Project the rows of a bank on the two directions in which they vary most.

    .. math:: y_n = W^\top (x_n - \bar{x}), \quad W = \text{the two leading eigenvectors of } \tfrac1N \sum_n (x_n - \bar{x})(x_n - \bar{x})^\top

    Convention:
        - the sign of each direction is such that its largest weight is positive (of equals the first).
        - in float64, not whitened: both axes have the unit of the features.
        - with more than 2000 rows and columns the directions come from a randomised decomposition, with the seed.

    Cost: a singular value decomposition of ``(N, D)``, which is held in memory.

    Args:
        bank: of at least two different pictures.
        space: which; the last one if None.
        seed: of the randomised decomposition.

    Example:
        >>> from attrib.analysis import feature_bank
        >>> found = pca(feature_bank(model, torch.rand(20, 3, 12, 12), "fc@input"))
        >>> found.points.shape, bool(found.explained.sum() <= 1)
        (torch.Size([20, 2]), True)
    """  # noqa: E501  the formula
    name, rows = _features(bank, space)
    checks.integer("seed", seed, 0)
    points, explained, solver = _components(rows, 2, seed)
    settings = {"solver": solver, "seed": seed}
    return Embedding("pca", name, _tensor(points), bank.labels, _tensor(explained), None, settings, bank)


def tsne(
    bank: Bank,
    *,
    space: str | None = None,
    perplexity: float = 30.0,
    seed: int = 0,
    engine: Engine = "auto",
) -> Embedding:
    r"""Place the rows of a bank in the plane so that neighbours stay neighbours: t-SNE.

    .. math:: \min_y \sum_{i \ne j} p_{ij} \ln \frac{p_{ij}}{q_{ij}}, \quad
        q_{ij} \propto (1 + \lVert y_i - y_j \rVert^2)^{-1}, \quad
        p_{ij} = \frac{p_{j|i} + p_{i|j}}{2N}, \quad
        p_{j|i} \propto e^{-\lVert x_i - x_j \rVert^2 / 2 \sigma_i^2}

    with :math:`\sigma_i` such that the perplexity of :math:`p_{\cdot|i}` is the one that is asked for.

    Convention:
        - features are reduced to 50 principal components first, and the plane begins with the first two of them, so
          that runs with one seed agree; early exaggeration is 12.
        - distances between groups, and their sizes, say little; which pictures are neighbours does.
        - perplexity must be below ``N / 3``: with more there are no neighbours to tell from others.

    Cost: ``N log N`` for each of 1000 steps (750 with openTSNE); features are held in memory.

    Args:
        bank: of different pictures.
        space: which; the last one if None.
        perplexity: about how many neighbours a picture has.
        seed: of the optimisation; the global random state is not touched.
        engine: scikit-learn, or openTSNE, which ``"auto"`` takes for 10,000 pictures where it is installed.

    Example:
        >>> from attrib.analysis import feature_bank
        >>> found = tsne(feature_bank(model, torch.rand(20, 3, 12, 12), "fc@input"), perplexity=5)
        >>> found.points.shape, found.divergence > 0
        (torch.Size([20, 2]), True)

    References:
        van der Maaten, Hinton, "Visualizing Data using t-SNE", JMLR 2008, equations 1, 3 (with the symmetric
        :math:`p_{ij}` of section 3.1) and 4.
    """
    name, rows = _features(bank, space)
    checks.integer("seed", seed, 0)
    if checks.number("perplexity", perplexity, 1) >= len(rows) / 3:
        most = ceil(len(rows) / 3) - 1
        remedy = f"Pass perplexity={most} or less" if most >= 1 else "Take at least 4 pictures, with perplexity=1"
        raise InputError(f"perplexity must be below N / 3 = {len(rows) / 3:.4g}; got {perplexity:g}. {remedy}.")
    run, called = _engine(engine, len(rows))
    count = min(FIRST, *rows.shape)
    reduced, _, solver = _components(rows, count, seed)
    points, divergence = run(reduced, perplexity, seed)
    settings = {"perplexity": perplexity, "seed": seed, "engine": called, "components": count, "solver": solver}
    return Embedding("tsne", name, _tensor(points), bank.labels, None, divergence, settings, bank)


def grid_places(points: Tensor, shape: tuple[int, int] | None = None) -> Tensor:
    r"""Give each point a cell of a grid of its own, so that the points move as little as possible.

    .. math:: \min_\pi \sum_n \lVert u_n - g_{\pi(n)} \rVert^2, \quad \pi \text{ injective}

    Convention:
        - points :math:`u` are stretched to the unit square, each axis by itself, and so are the cells :math:`g`.
        - the first coordinate runs to the right, the second upwards: row 0 is the top one.
        - it is the best assignment there is, found exactly.

    Cost: memory ``N * cells``, time at most the cube; 3600 cells at most.

    Args:
        points: ``(N, 2)``.
        shape: rows and columns, at least ``N`` cells; the smallest square if None.

    Returns:
        Row and column of each point, ``(N, 2)`` integers, all different.

    Example:
        >>> grid_places(torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])).tolist()
        [[1, 0], [1, 1], [0, 0], [0, 1]]
    """
    assignment = checks.require("scipy.optimize", "a grid of pictures", "analysis").linear_sum_assignment
    side = ceil(sqrt(len(checks.shape(points, "n 2", "points"))))
    rows, columns = checks.sides("shape", side if shape is None else shape, 2)
    if not len(points) <= rows * columns <= CELLS:
        raise InputError(
            f"shape must have {len(points)} to {CELLS} cells, one for each point; got {rows} x {columns}. "
            "Embed fewer pictures, or scatter them."
        )
    at = points.detach().cpu().double()
    low, high = at.amin(0), at.amax(0)
    unit = (at - low) / torch.where(high > low, high - low, torch.ones_like(high))
    row, column = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    cells = torch.stack([column.flatten() / max(1, columns - 1), 1 - row.flatten() / max(1, rows - 1)], 1).double()
    _, chosen = assignment(torch.cdist(unit, cells).square().numpy())
    cell = torch.from_numpy(chosen)
    return torch.stack([cell // columns, cell % columns], 1)


def _features(bank: Bank, space: str | None) -> tuple[str, Doubles]:
    """The rows, which must be able to fill a plane."""
    name = bank.space(space)
    rows: Doubles = bank.rows(name).double().numpy()
    if rows.shape[1] < 2:
        raise LayerError(f"space {name!r} must have at least 2 values a picture for a plane; it has {rows.shape[1]}.")
    if len(rows) < 2 or (rows == rows[0]).all():
        raise InputError(f"pictures must differ in {name!r} for an embedding; got {len(rows)} equal rows.")
    return name, rows


def _components(rows: Doubles, count: int, seed: int) -> tuple[Doubles, Doubles, str]:
    """Projections on the first principal components, their shares of the variance, and how they were found."""
    decomposition = checks.require("sklearn.decomposition", "an embedding", "analysis")
    solver = "full" if min(rows.shape) <= FULL else "randomized"
    fitted = decomposition.PCA(count, svd_solver=solver, random_state=seed).fit(rows)
    weights = fitted.components_
    sign = np.sign(weights[np.arange(count), np.abs(weights).argmax(1)])
    points: Doubles = (rows - fitted.mean_) @ (weights * sign[:, None]).T
    return points, fitted.explained_variance_ratio_, solver


def _engine(engine: Engine, count: int) -> tuple[Any, str]:
    checks.choice("engine", engine, ENGINES)
    if engine == "opentsne" or (engine == "auto" and count >= LARGE and find_spec("openTSNE") is not None):
        return _by_opentsne, "opentsne"
    return _by_sklearn, "sklearn"


def _by_sklearn(rows: Doubles, perplexity: float, seed: int) -> tuple[Doubles, float]:
    start = rows[:, :2] / max(rows[:, 0].std(), np.finfo(float).tiny) * 1e-4
    manifold = checks.require("sklearn.manifold", "t-SNE", "analysis")
    model = manifold.TSNE(2, perplexity=perplexity, init=start, learning_rate="auto", random_state=seed)
    return model.fit_transform(rows).astype(np.float64), float(model.kl_divergence_)


def _by_opentsne(rows: Doubles, perplexity: float, seed: int) -> tuple[Doubles, float]:
    start = rows[:, :2] / max(rows[:, 0].std(), np.finfo(float).tiny) * 1e-4
    opentsne = checks.require("openTSNE", "engine='opentsne'", "large")
    found = opentsne.TSNE(2, perplexity=perplexity, initialization=start, random_state=seed).fit(rows)
    return np.asarray(found, dtype=np.float64), float(found.kl_divergence)


def _tensor(values: Doubles) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values))
