"""Feature inversion: what a layer remembers of a picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from attrib import checks
from attrib.core.network.capture import capture
from attrib.core.network.frozen import frozen
from attrib.core.network.layers import resolve
from attrib.core.network.passes import forward
from attrib.core.objectives.features import Match
from attrib.core.objectives.objective import Objective
from attrib.core.synth import (
    AlphaNorm,
    Bounds,
    Move,
    Penalty,
    PixelSpace,
    Search,
    Synthesis,
    TotalVariation,
    synthesize,
)
from attrib.errors import InputError
from attrib.report.finding import Finding
from attrib.report.table import amount, text_table
from attrib.synthesis.several import one_after_another, side_by_side
from attrib.synthesis.starts import start_images
from attrib.synthesis.subject import Network, Subject

if TYPE_CHECKING:
    from matplotlib.figure import Figure


RANGE = 2.5  # B: how far inputs reach from the mean, in the network's own units
STEP = RANGE / 6.5  # V: a usual difference of neighbours


@dataclass(frozen=True)
class Prior:
    r"""How natural the picture is to be.

    .. math:: \lambda_{V^\beta} R_{V^\beta}(x) + \lambda_\alpha \lVert x \rVert_\alpha^\alpha

    Weights do not depend on the size of the picture: :math:`\lambda_{V^\beta} = v / (H W C V^\beta)` and
    :math:`\lambda_\alpha = b / (H W C B^\alpha)`, with B = 2.5 the range of an input in the network's own units and
    V = B / 6.5 a usual step between neighbours.

    Args:
        variation: v, the weight of the total variation; 0 leaves it out.
        beta: its power, at least 1.
        bound: b, the weight of the norm; 0 leaves it out.
        alpha: its power, at least 1.
    """

    variation: float = 0.3
    beta: float = 2.0
    bound: float = 0.01
    alpha: float = 6.0

    def penalties(self, x: Tensor) -> tuple[Penalty, ...]:
        """The two penalties for images like ``x``."""
        entries = x[0].numel()
        norm = AlphaNorm(self.bound / (entries * RANGE**self.alpha), self.alpha)
        smooth = TotalVariation(self.variation / (entries * STEP**self.beta), self.beta)
        return tuple(one for one in (smooth, norm) if one.weight > 0)


@dataclass(frozen=True, eq=False)
class Inversion(Finding):
    r"""Pictures whose features are those of another.

    Attributes:
        layers: whose features each picture was searched for; several joined by " + ".
        original: the picture, ``(C, H, W)`` in [0, 1].
        pictures: ``(L, C, H, W)`` in [0, 1]: of all restarts the one with the smallest error.
        error: :math:`\lVert \Phi(x) - \Phi_0 \rVert^2 / \lVert \Phi_0 \rVert^2` of it, ``(steps + 1, L)``; of several
            layers the mean.
        restarts: the last error of every restart, ``(R, L)``.
        psnr: peak signal-to-noise ratio to the original, dB, ``(L,)``; infinite where they are equal.
        ssim: structural similarity to the original, ``(L,)``; NaN where scikit-image is not installed.
        stopped: ``"done"``, ``"asked"`` or ``"interrupted"``.
        searches: what `synthesize` gave, by restart and by layer.
    """

    layers: tuple[str, ...]
    original: Tensor
    pictures: Tensor
    error: Tensor
    restarts: Tensor
    psnr: Tensor
    ssim: Tensor
    stopped: str
    searches: tuple[tuple[Synthesis, ...], ...] = field(repr=False, metadata={"saved": False})

    def to_text(self, *, markdown: bool = False) -> str:
        """A row per layer: error, PSNR and SSIM."""
        rows = [
            {
                "layer": layer,
                "error at the start": amount(float(self.error[0, i])),
                "at the end": amount(float(self.error[-1, i])),
                "PSNR dB": amount(float(self.psnr[i])),
                "SSIM": amount(float(self.ssim[i])),
            }
            for i, layer in enumerate(self.layers)
        ]
        return text_table(rows, markdown=markdown)

    def plot(self, *, columns: int = 6) -> Figure:
        """The original, and what each layer remembers."""
        from attrib.plot.synthesis import images

        titles = [f"{layer}, error {float(e):.2g}" for layer, e in zip(self.layers, self.error[-1], strict=True)]
        return images([self.original, *self.pictures], ["original", *titles], columns=columns)


def invert(
    model: Network,
    inputs: Tensor,
    layers: str | Sequence[str | Sequence[str]],
    *,
    prior: Prior | None = None,
    mask: Tensor | None = None,
    normalised: bool = True,
    restarts: int = 1,
    pixels: PixelSpace | None = None,
    **changes: Any,
) -> Inversion:
    r"""Search for pictures with the same features at a layer, for each layer of a series.

    .. math:: x^* = \arg\min_x \frac{\lVert \Phi(x) - \Phi_0 \rVert^2}{\lVert \Phi_0 \rVert^2}
        + \lambda_{V^\beta} R_{V^\beta}(x) + \lambda_\alpha \lVert x \rVert_\alpha^\alpha

    Convention:
        - several layers of one picture count with equal weight, each normalised by itself.
        - a search starts from noise; the picture stays between black and white.
        - Ctrl-C keeps what is there; layers whose search had not begun stay at the noise.

    Cost: one forward pass up to the layer and one backward pass per layer, restart and step.

    Args:
        model: a `attrib.io.LoadedModel`, or a module with ``pixels``.
        inputs: one picture, ``(1, C, H, W)`` as the network takes it.
        layers: a layer, or several: one picture for each; an item that is itself a sequence asks for all of its layers
            at once.
        prior: how natural the picture is to be; ``Prior()`` if None.
        mask: weights that broadcast to the features of every layer: 0 forgets a channel or a place.
        normalised: divide by the size of the features; without, features of zero can be sought.
        restarts: searches from other noise, each with the next seed; the best one is kept.
        pixels: how pixels become inputs; as the LoadedModel says if None.
        changes: settings of `attrib.core.synth.Search`: 300 steps of Adam unless given.

    Raises:
        TargetError: all features of a layer are 0.

    Example:
        >>> from attrib.core.synth import PixelSpace
        >>> found = invert(model, x.sigmoid()[:1], ["stem", "conv"], pixels=PixelSpace(), steps=20)
        >>> bool((found.error[-1] < found.error[0]).all()), found.layers
        (True, ('stem', 'conv'))

    References:
        Mahendran and Vedaldi, "Understanding Deep Image Representations by Inverting Them", 2015, section 2 and 3;
        "Visualizing Deep Convolutional Neural Networks Using Natural Pre-Images", 2016, section 4.
    """
    subject = Subject.of(model, pixels)
    checks.batch(inputs)
    x = subject.placed(checks.shape(inputs, "1 c h w", "inputs"))
    subject.picture(x)
    series = _series(subject, layers)
    goals = _goals(subject, x, series, mask, normalised=normalised)
    search = _search(subject.space, (prior or Prior()).penalties(x), changes)
    calls = []
    for seed in range(search.seed, search.seed + checks.integer("restarts", restarts, 1)):
        first = start_images("noise", 1, x.shape[1:], subject.space, x, seed)
        calls += [partial(_searched, subject, goal, first, seed) for goal in goals]
    found = one_after_another(calls, search)
    by_restart = [tuple(found[at : at + len(goals)]) for at in range(0, len(found), len(goals))]
    return _inversion(subject.space, x, series, by_restart)


def _searched(subject: Subject, goal: Objective, first: Tensor, seed: int, search: Search) -> Synthesis:
    return synthesize(subject.model, goal, first, replace(search, seed=seed))


def _search(space: PixelSpace, penalties: Sequence[Penalty], changes: dict[str, Any]) -> Search:
    checks.unknown_options("search", changes, tuple(Search.__dataclass_fields__))
    usual: dict[str, Any] = {
        "steps": 300,
        "move": Move(0.05, optimiser="adam"),
        "penalties": penalties,
        "projections": () if "parameters" in changes else (Bounds(space),),
    }
    return Search(**{**usual, **changes})


def _series(subject: Subject, layers: str | Sequence[str | Sequence[str]]) -> list[tuple[str, ...]]:
    many = [layers] if isinstance(layers, str) else list(layers)
    if not many:
        raise InputError("layers must name at least one layer; got none.")
    parts = [[item] if isinstance(item, str) else list(item) for item in many]
    if not all(parts):
        raise InputError(f"layers must name at least one layer for each picture; got {layers!r}.")
    return [tuple(resolve(subject.model, one) for one in item) for item in parts]


def _goals(
    subject: Subject, x: Tensor, series: Sequence[tuple[str, ...]], mask: Tensor | None, *, normalised: bool
) -> list[Objective]:
    names = list(dict.fromkeys(name for item in series for name in item))
    with frozen(subject.model), torch.no_grad(), capture(subject.model, *names) as acts:
        forward(subject.model, (x,))
    one = {name: Match(name, acts[name].detach(), mask, normalised) for name in names}
    return [_joined([one[name] for name in item]) for item in series]


def _joined(parts: Sequence[Objective]) -> Objective:
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total * (1 / len(parts)) if len(parts) > 1 else total


def _inversion(
    space: PixelSpace, x: Tensor, series: Sequence[tuple[str, ...]], found: Sequence[tuple[Synthesis, ...]]
) -> Inversion:
    last = torch.stack([torch.cat([-one.score[-1] for one in restart]) for restart in found])
    best = [found[r][i] for i, r in enumerate(last.argmin(0).tolist())]
    inputs, error = torch.cat([one.image for one in best]), -side_by_side([one.score for one in best])
    original, pictures = space.to_picture(x)[0].clamp(0, 1).cpu(), space.to_picture(inputs).clamp(0, 1).cpu()
    mean = (pictures - original).square().flatten(1).mean(1)
    return Inversion(
        tuple(" + ".join(item) for item in series),
        original,
        pictures,
        error,
        last,
        -10 * mean.log10(),
        _ssim(original, pictures),
        next((one.stopped for restart in found for one in restart if one.stopped != "done"), "done"),
        tuple(found),
    )


def _ssim(original: Tensor, pictures: Tensor) -> Tensor:
    try:
        from skimage.metrics import structural_similarity
    except ImportError:
        return torch.full((len(pictures),), torch.nan)
    if min(original.shape[-2:]) < 7:  # the window of the usual definition
        return torch.full((len(pictures),), torch.nan)
    one = original.double().numpy()
    values = [structural_similarity(one, p.double().numpy(), channel_axis=0, data_range=1.0) for p in pictures]
    return torch.tensor(values)
