"""Pictures from features by a dictionary of pairs: the same sparse code writes the features and the pixels."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from attrib import checks
from attrib.analysis.hog.grid import Pair
from attrib.analysis.hog.inverter import Inverter, Source, read_pairs
from attrib.core.network.streaming import Data
from attrib.errors import InputError

CODE_STEPS = 200  # of FISTA: codes of 256 atoms then change by less than a thousandth per step


@dataclass(frozen=True, eq=False)
class DictionaryInverter(Inverter):
    """What `fit_dictionary` found; see `Inverter` for what it can do.

    Attributes:
        mean_window: of the features, ``(D,)``.
        mean_patch: of the pixels, ``(P,)``.
        feature_atoms: ``(atoms, D)``, in units of the features.
        picture_atoms: ``(atoms, P)``, in units of the pixels.
        scale: the root mean square length of features about their mean, which the sparsity is relative to.
        code_sparsity: price of a code.
    """

    mean_window: Tensor = field(repr=False)
    mean_patch: Tensor = field(repr=False)
    feature_atoms: Tensor = field(repr=False)
    picture_atoms: Tensor = field(repr=False)
    scale: float
    code_sparsity: float

    def patches(self, windows: Tensor) -> Tensor:
        """Write the features as a sparse sum of atoms, and sum the atoms' other halves."""
        mean, added, picture = (one.to(windows) for one in (self.mean_window, self.mean_patch, self.picture_atoms))
        atoms = self.feature_atoms.to(windows) / self.scale
        return sparse_codes((windows - mean) / self.scale, atoms, self.code_sparsity) @ picture + added


def fit_dictionary(  # noqa: PLR0913  what is inverted, how, and how the data are read
    images: Data,
    model: nn.Module | None = None,
    layer: str | nn.Module | None = None,
    *,
    window: int | Pair | None = None,
    atoms: int = 256,
    sparsity: float = 0.15,
    code_sparsity: float = 0.03,
    per_image: int = 1000,
    colour: bool = False,
    shrink: int = 1,
    seed: int = 0,
    batch_size: int = 8,
    show_progress: bool = False,
) -> DictionaryInverter:
    r"""Learn from your pictures a dictionary whose atoms are pairs, of features and of pixels.

    .. math::
        \min_{U, V, \alpha} \sum_i \lVert x_i - U \alpha_i \rVert^2 + \lVert y_i - V \alpha_i \rVert^2
        + \lambda \lVert \alpha_i \rVert_1, \qquad
        \hat x(y) = U \alpha^*, \; \alpha^* = \arg\min_\alpha \tfrac12 \lVert y - V \alpha \rVert^2
        + \lambda' \lVert \alpha \rVert_1

    where *y* are the features of a window of locations and *x* the pixels behind it.

    Convention:
        - the paper bounds the sum of magnitudes in a code; here it has a price, which comes to the same.
        - each half is about its mean, and scaled to a root mean square length of 1, so that features and pixels count
          alike whatever their units; ``sparsity`` and ``code_sparsity`` are relative to that.
        - codes find less than there is (the price makes them small): contrast is too low, edges are in their places.
        - same arguments, same dictionary; the global random state is not touched.

    Cost: one forward pass per picture, then scikit-learn's mini-batches, once over all windows: about ten seconds for
    4000 windows of 1500 numbers on one core. Memory holds all windows that are learned from.

    Args:
        images: a Tensor ``(N, C, H, W)``, a data set, or batches; batches may differ in size.
        model: the network; `attrib.models.HOG()` if None.
        layer: of it; may be left out for HOG.
        window: locations in a window, or (height, width); 4 for HOG, 1 otherwise.
        atoms: size of the dictionary.
        sparsity: the price of a code while learning, above 0.
        code_sparsity: its price while inverting, where only half of the pair is to be written; at least 0.
        per_image: windows of each picture that are learned from, chosen by chance; all if there are fewer.
        colour: give the channels of the inputs, otherwise their luma.
        shrink: average squares of so many pixels into one.
        seed: of the windows and of scikit-learn.
        batch_size: for a Tensor or a data set.
        show_progress: progress bar on standard error, while pictures are read.

    Raises:
        MissingDependency: scikit-learn is not installed.

    Example:
        >>> from attrib.models import HOG
        >>> hog = HOG(signed=True, pixels_per_cell=4, cells_per_block=1)
        >>> inverter = fit_dictionary(torch.rand(8, 3, 20, 20), hog, atoms=16)
        >>> inverter.of(torch.rand(2, 3, 16, 20)).shape
        torch.Size([2, 1, 16, 20])

    References:
        Vondrick, Khosla, Malisiewicz, Torralba, "HOGgles: Visualizing Object Detection Features", ICCV 2013:
        paired dictionary learning.
    """
    checks.integer("atoms", atoms, 1)
    checks.number("sparsity", sparsity, 1e-6)
    checks.number("code_sparsity", code_sparsity, 0)
    checks.integer("per_image", per_image, 1)
    source = Source.of(model, layer, colour=colour, shrink=shrink)
    chance = torch.Generator().manual_seed(checks.integer("seed", seed, 0))
    windows: list[Tensor] = []
    patches: list[Tensor] = []
    about: dict[str, Any] = {}
    for one in read_pairs(source, images, window, batch_size=batch_size, show_progress=show_progress):
        for y, x in zip(one.windows, one.patches, strict=True):
            some = torch.randperm(len(y), generator=chance)[:per_image].to(y.device)
            windows.append(y[some])
            patches.append(x[some])
        about = one.about
    return DictionaryInverter(
        source,
        **about,
        **_dictionary(torch.cat(windows), torch.cat(patches), atoms, sparsity, seed),
        code_sparsity=code_sparsity,
    )


def _dictionary(y: Tensor, x: Tensor, atoms: int, sparsity: float, seed: int) -> dict[str, Any]:
    """The means and atoms of a `DictionaryInverter`."""
    if len(y) < atoms:
        raise InputError(
            f"images must hold at least as many windows as there are atoms, {atoms}; got {len(y)}. "
            "Give more or larger ones, or choose fewer atoms."
        )
    (mean_y, scale_y), (mean_x, scale_x) = _centre(y), _centre(x)
    pairs = torch.cat([(x - mean_x) / scale_x, (y - mean_y) / scale_y], 1)
    learned = _learned(pairs, atoms, sparsity, seed)
    picture, feature = learned[:, : x.shape[1]], learned[:, x.shape[1] :]
    means = {"mean_window": mean_y, "mean_patch": mean_x, "scale": scale_y}
    return means | {"feature_atoms": feature * scale_y, "picture_atoms": picture * scale_x}


def sparse_codes(y: Tensor, atoms: Tensor, price: float, steps: int = CODE_STEPS) -> Tensor:
    r"""Write rows as sparse sums of atoms: FISTA on :math:`\frac12 \lVert y - \alpha V \rVert^2 + \lambda |\alpha|_1`.

    Args:
        y: ``(..., D)``.
        atoms: *V*, ``(atoms, D)``.
        price: :math:`\lambda`.
        steps: how many.

    Returns:
        :math:`\alpha`, ``(..., atoms)``.

    Example:
        >>> sparse_codes(torch.tensor([[3.0, 0.5]]), torch.eye(2), 1.0)
        tensor([[2., 0.]])

    References:
        Beck, Teboulle, "A Fast Iterative Shrinkage-Thresholding Algorithm for Linear Inverse Problems", SIAM Journal on
        Imaging Sciences 2009, section 4.
    """
    gram, target = atoms @ atoms.T, y @ atoms.T
    length = torch.linalg.matrix_norm(gram, 2).clamp(min=torch.finfo(y.dtype).tiny)
    code = ahead = torch.zeros_like(target)
    pace = 1.0
    for _ in range(steps):
        before, code = code, ahead - (ahead @ gram - target) / length
        code = code.sign() * (code.abs() - price / length).clamp(min=0)
        faster = (1 + (1 + 4 * pace**2) ** 0.5) / 2
        ahead = code + (pace - 1) / faster * (code - before)
        pace = faster
    return code


def _centre(rows: Tensor) -> tuple[Tensor, float]:
    """The mean row, and the root mean square length about it."""
    mean = rows.mean(0)
    scale = float((rows - mean).norm()) / len(rows) ** 0.5
    return mean, scale or 1.0


def _learned(pairs: Tensor, atoms: int, sparsity: float, seed: int) -> Tensor:
    """scikit-learn's dictionary of these rows, ``(atoms, D)``."""
    decomposition = checks.require("sklearn.decomposition", "a paired dictionary", "analysis")
    learner = decomposition.MiniBatchDictionaryLearning(
        atoms, alpha=sparsity, batch_size=256, max_iter=1, tol=0.0, max_no_improvement=None, random_state=seed
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of codes that could be a little better; the next batch has others
        learner.fit(pairs.detach().cpu().numpy())
    return torch.from_numpy(learner.components_).to(pairs)
