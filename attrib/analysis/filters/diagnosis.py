"""What is wrong with the filters of a convolution, as numbers: dead, alike, out of scale, too fine, aliased."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from attrib import checks
from attrib.analysis.filters.answers import Answers, listen, shift_error
from attrib.analysis.filters.grid import FilterGrid, one_each
from attrib.analysis.filters.kernels import Kernels, Spectrum, read_kernels
from attrib.analysis.filters.verdict import said, sentences
from attrib.core.network.streaming import Data
from attrib.report.finding import Finding

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BANDS = (1 / 6, 1 / 3)  # cycles per pixel: thirds of what pixels can hold along an axis
ORIENTATIONS = 6
STEPS = 12  # of the profile, from 0 to 0.5 cycles per pixel
ZERO = 1e-6  # of the longest filter: numerically nothing
CONSTANT = 1e-3  # of the usual spread of answers: says the same to everything


@dataclass(frozen=True)
class Thresholds:
    """Where a filter is told to have something.

    Attributes:
        rate: dead: answers on a smaller part of the examples,
        floor: ... where an answer is an activation above this.
        cosine: duplicate: another filter of its group has an absolute cosine above this.
        spread: out of scale: the root mean square of its weights is more than so many times the median of those that
            are not dead, or less than one part in so many.
        fine: high frequencies: a larger part of its energy is above 1/3 cycle per pixel.
        aliased: a larger part of its energy is at frequencies that the stride cannot carry.
        shift: flickers: its answer to a moved picture is further from the moved answer, see `shift_error`.
        middle: little coverage: a smaller part of the filters has its peak at middle frequencies.
    """

    rate: float = 0.01
    floor: float = 0.0
    cosine: float = 0.95
    spread: float = 5.0
    fine: float = 0.5
    aliased: float = 0.5
    shift: float = 0.5
    middle: float = 0.1

    def __post_init__(self) -> None:
        for name in ("rate", "cosine", "fine", "aliased", "shift", "middle"):
            checks.number(name, getattr(self, name), 0, 1)
        checks.number("floor", self.floor)
        checks.number("spread", self.spread, 1)


@dataclass(frozen=True, eq=False)
class FilterDiagnosis(Finding):
    """Numbers of each filter, ``(K,)`` unless said otherwise; NaN where there is no answer to the question.

    Attributes:
        layer: the convolution.
        about: what it is, in words.
        path: what the answers were read behind; empty without data.
        examples: of the data.
        rms: root mean square of the weights, times what BatchNorm multiplies them by where data show that.
        highest: activation over all data.
        lowest: activation over all data.
        rate: part of the examples with an activation above the floor.
        twin: the filter most like it; -1 for none.
        cosine: to its twin, with its sign.
        bands: parts of the energy at low, middle and high frequencies, ``(K, 3)``, cut at 1/6 and 1/3 cycle per pixel.
        frequency: mean of the energy, cycles per pixel.
        peaks: how many filters have their peak in a band and orientation, ``(3, 6)``: orientation i is waves that run
            within 15 degrees of 30 i degrees from the horizontal (0: vertical stripes). ``(3, 1)`` for other than
            two axes; empty where there is no spectrum.
        blobs: filters whose peak is less than half a wave across the kernel: without orientation.
        profile: of the energy over frequency, mean of the filters, ``(12,)`` from 0 to 0.5; the last step has the rest.
        aliased: part of the energy above what the stride can carry.
        shift_error: of the response to moved pictures, see `shift_error`.
        dead: answers too rarely, or the same to everything; without data, whether it is zero.
        limit: frequency above which the stride folds, along its coarsest axis.
        thresholds: of `flags`.
        grid: one tile for each filter, for the figure.
    """

    layer: str
    about: str
    path: tuple[str, ...]
    examples: int
    rms: Tensor
    highest: Tensor
    lowest: Tensor
    rate: Tensor
    twin: Tensor
    cosine: Tensor
    bands: Tensor
    frequency: Tensor
    peaks: Tensor
    blobs: int
    profile: Tensor
    aliased: Tensor
    shift_error: Tensor
    dead: Tensor
    limit: float
    thresholds: Thresholds
    grid: FilterGrid = field(repr=False, metadata={"saved": False})

    def __len__(self) -> int:
        return len(self.rms)

    @property
    def flags(self) -> dict[str, Tensor]:
        """Which filters have what, booleans ``(K,)``; a dead filter has nothing else, and NaN is nothing."""
        at, median, alive = self.thresholds, self.median, ~self.dead
        return {
            "dead": self.dead,
            "duplicate": alive & (self.cosine.abs() > at.cosine),
            "out of scale": alive & ((self.rms > at.spread * median) | (self.rms * at.spread < median)),
            "high frequency": alive & (self.bands[:, 2] > at.fine),
            "aliased": alive & (self.aliased > at.aliased),
            "flickers": alive & (self.shift_error > at.shift),
        }

    @property
    def median(self) -> float:
        """Of the root mean squares of the filters that are not dead; NaN if all are."""
        return float(self.rms[~self.dead].median()) if not self.dead.all() else float("nan")

    @property
    def coverage(self) -> float:
        """Part of the bins of middle and high frequencies in which a filter has its peak; NaN without a spectrum."""
        return float((self.peaks[1:] > 0).float().mean()) if self.peaks.numel() else float("nan")

    @property
    def sentences(self) -> list[str]:
        """What one would say on seeing the filters."""
        return sentences(self)

    def to_text(self, *, markdown: bool = False) -> str:
        """Say what Zeiler and Fergus saw by eye, then which filters it is, with their numbers."""
        return said(self, markdown=markdown)

    def plot(self) -> Figure:
        """The filters with frames around those that have something, and where their energy is."""
        from attrib.plot.diagnosis import diagnosis_panels

        return diagnosis_panels(self)


def diagnose_filters(
    model: Callable[..., Any],
    data: Data | None = None,
    *,
    layer: str | nn.Module | None = None,
    thresholds: Thresholds | None = None,
    shifted: int = 4,
    batch_size: int = 32,
    show_progress: bool = False,
) -> FilterDiagnosis:
    r"""Measure what Zeiler and Fergus found by looking at first-layer filters: dead ones, gaps, aliasing.

    With the energy spectrum :math:`P_k(f) = \sum_c |\hat w_{kc}(f)|^2` of filter k and stride s,

    .. math:: \text{aliased}_k = 1 - \frac{\int_{|f_a| < 1 / (2 s_a)} P_k(f)\, df}{\int P_k(f)\, df}, \qquad
        \text{band}_k = \frac{\int_{l \le |f| < u} P_k(f)\, df}{\int P_k(f)\, df}

    Convention:
        - dead needs ``data``: the answer is read behind the normalisation and the activation that follow the
          convolution, as modules or plain calls. It is dead if it is above ``floor`` at no place of all but a part
          ``rate`` of the examples, or if it is the same everywhere. Where no activation follows that is silent below
          zero, only the latter counts.
        - duplicates are filters of the same group, of either sign, at the same position in the kernel.
        - frequencies are those of the convolution's input, in cycles per pixel (0.5 is a checkerboard's), with all
          input channels added up. Kernels with one point have no spectrum: everything about frequency is NaN.
        - "aliased" is a property of the kernel; "flickers" of the kernel and ``data``: natural pictures have little
          energy at high frequencies. Both are 0 for a stride of 1, and NaN for transposed convolutions.
        - with BatchNorm behind, the scale of weights says nothing: ``rms`` is then that of the weights times its gain.

    Cost: without data, no forward pass; else one per example, and the convolution at every pixel of ``shifted`` ones.

    Args:
        model: an ``nn.Module``.
        data: what the network is used on, at its input, see `attrib.core.batches`.
        layer: a convolution; the first in the order of the modules if None.
        thresholds: what is told; `Thresholds` if None.
        shifted: examples that are moved pixel by pixel, the first ones.
        batch_size: for a Tensor or a data set.
        show_progress: progress bar on standard error, in examples.

    Raises:
        LayerError: the layer is not a convolution, or does not run.
        ModelError: its weights are not there, or not finite.

    Example:
        >>> found = diagnose_filters(model, x)
        >>> found.path, {name: int(flags.sum()) for name, flags in found.flags.items() if flags.any()}
        (('convolution', 'relu'), {'high frequency': 4})

    References:
        Zeiler, Fergus, "Visualizing and Understanding Convolutional Networks", ECCV 2014, section 4.1 and figure 6.
        Zhang, "Making Convolutional Networks Shift-Invariant Again", ICML 2019.
    """
    at = thresholds or Thresholds()
    kernels = read_kernels(model, layer)
    checks.integer("shifted", shifted, 0)
    heard = None
    if data is not None:
        how: dict[str, Any] = {"batch_size": batch_size, "show_progress": show_progress}
        heard = listen(model, data, kernels, floor=at.floor, keep=shifted, **how)
    dead = _dead(kernels, heard, at)
    twin, cosine = _twins(kernels)
    rms = kernels.weight.flatten(1).square().mean(1).sqrt() * (1 if heard is None else heard.gain)
    unknown = torch.full((len(kernels),), float("nan"))
    spectrum = kernels.spectrum
    return FilterDiagnosis(
        layer=kernels.layer,
        about=kernels.said(),
        rms=rms,
        twin=twin,
        cosine=cosine,
        dead=dead,
        **_heard(heard, unknown),
        **_frequencies(kernels, spectrum, ~dead & (kernels.norm > 0)),
        aliased=unknown if spectrum is None or kernels.transposed else spectrum.above(kernels.stride),
        shift_error=unknown if heard is None or kernels.transposed else shift_error(kernels, heard.inputs),
        limit=0.5 / max(kernels.stride),
        thresholds=at,
        grid=one_each(kernels),
    )


def _heard(heard: Answers | None, unknown: Tensor) -> dict[str, Any]:
    if heard is None:
        return {"path": (), "examples": 0} | dict.fromkeys(("highest", "lowest", "rate"), unknown)
    return {name: getattr(heard, name) for name in ("path", "examples", "highest", "lowest", "rate")}


def _dead(kernels: Kernels, heard: Answers | None, at: Thresholds) -> Tensor:
    zero = kernels.norm <= ZERO * kernels.norm.max()
    if heard is None:
        return zero
    spread = heard.highest - heard.lowest
    usual = spread[spread > 0].median() if (spread > 0).any() else spread.max()
    return (heard.rate < at.rate) | (spread <= CONSTANT * usual)


def _twins(kernels: Kernels) -> tuple[Tensor, Tensor]:
    """The filter with the largest absolute cosine in the same group, and that cosine."""
    flat = kernels.weight.flatten(1)
    zero = kernels.norm <= ZERO * kernels.norm.max()
    unit = torch.where(zero[:, None], 0, flat / kernels.norm.clamp(min=torch.finfo(flat.dtype).tiny)[:, None])
    cosine = unit @ unit.T
    other = (kernels.group[:, None] != kernels.group) | torch.eye(len(flat), dtype=torch.bool) | zero | zero[:, None]
    size, twin = cosine.abs().masked_fill(other, -1).max(1)
    alone = size < 0
    nearest = cosine.gather(1, twin[:, None])[:, 0].clamp(-1, 1)
    return twin.masked_fill(alone, -1), nearest.masked_fill(alone, float("nan"))


def _frequencies(kernels: Kernels, spectrum: Spectrum | None, alive: Tensor) -> dict[str, Any]:
    if spectrum is None:
        nan = torch.full((len(kernels), 3), float("nan"))
        nothing = {"peaks": nan.new_empty(0, dtype=torch.long), "blobs": 0, "profile": nan.new_empty(0)}
        return {"bands": nan, "frequency": nan[:, 0], **nothing}
    band = torch.bucketize(spectrum.radius, spectrum.radius.new_tensor(BANDS), right=True)
    step = (spectrum.radius * 2 * STEPS).long().clamp(max=STEPS - 1)
    profile = spectrum.share.new_zeros(STEPS).index_add_(0, step, spectrum.share[alive].sum(0))
    peaks, blobs = _peaks(kernels, spectrum, alive)
    return {
        "bands": torch.stack([spectrum.share[:, band == i].sum(1) for i in range(3)], 1),
        "frequency": spectrum.centroid,
        "peaks": peaks,
        "blobs": blobs,
        "profile": profile / max(1, int(alive.sum())),
    }


def _peaks(kernels: Kernels, spectrum: Spectrum, alive: Tensor) -> tuple[Tensor, int]:
    """How many filters have their peak in each band and orientation, and how many at no frequency to speak of."""
    peak = spectrum.peak[alive]
    radius = peak.norm(dim=1)
    reach = max(kernels.dilation[i] * (kernels.size[i] - 1) + 1 for i in spectrum.axes)
    blob = radius < 0.5 / reach
    where, many = torch.bucketize(radius, radius.new_tensor(BANDS), right=True), 1
    angle = torch.zeros_like(where)
    if len(spectrum.axes) == 2:
        many = ORIENTATIONS
        degrees = torch.atan2(peak[:, 0], peak[:, 1]).rad2deg() % 180
        angle = (degrees / (180 / many)).round().long() % many
    peaks = torch.zeros(3, many, dtype=torch.long)
    peaks.index_put_((where[~blob], angle[~blob]), torch.tensor(1), accumulate=True)
    return peaks, int(blob.sum())
